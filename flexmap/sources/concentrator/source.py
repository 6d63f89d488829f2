"""The source behind a concentrator: learns its meters, reads them in fair turns, passes commands and events."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.model import (
    Command,
    CommandResult,
    Event,
    EventCode,
    EventLog,
    Meter,
    MeterType,
    RemoteError,
    Sample,
)
from flexmap.model.firmware import FirmwareOrder, FirmwareReport
from flexmap.model.plc import Coordinator
from flexmap.sources.concentrator.clock_turns import ClockTurns
from flexmap.sources.concentrator.commands import Commands
from flexmap.sources.concentrator.events import EventLogs
from flexmap.sources.concentrator.health import Health
from flexmap.sources.concentrator.link import LineDamaged, Link, LinkLost, Reply
from flexmap.sources.concentrator.poll import Planner, Read, Turn, holes
from flexmap.sources.concentrator.port import Port, connect
from flexmap.sources.concentrator.samples import to_sample
from flexmap.sources.concentrator.updates import Updates
from flexmap.sources.interface import Clock, DelayedCall, Sink
from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.mnsh import Line, MnshError
from flexmap.stcomet.record import Layout, Record, Status

_log = Logger(namespace="flexmap.concentrator")

ABREAST = 2
"""Reads under way at a time: the concentrator itself does not ask more meters at once."""
PATIENCE = 5.0
"""Seconds after which a short read keeps no other from beginning: its meter may be silent."""
MOST_ABREAST = 8
"""Reads under way at a time, those that have lasted for so long counted."""
LEARN_SECONDS = 60.0
BACK_OFF = (1.0, 30.0)
"""Seconds until the line is tried again, doubled by each failure."""
WARN_AFTER = 2
"""Failed attempts that are nothing yet: both processes may just be starting."""
AHEAD = 30
"""Seconds by which a record may be ahead of this clock; one that is more so has no time that could be believed."""
BEHIND = 60
"""Seconds by which a meter's latest record may be behind; one that is more so was written by a wrong clock."""


class History(Protocol):
    """What the store knows, so that only what is missing is fetched."""

    def seconds(self, meter: str, start: int, stop: int) -> Iterable[int]:
        """Return the stored seconds from ``start`` to before ``stop``."""

    def span(self, meter: str) -> tuple[int, int] | None:
        """Return the first and the last stored second, None if there is none."""

    def has(self, event: Event) -> bool:
        """Return whether an event is stored."""


class Settings(msgspec.Struct, frozen=True):
    """How a concentrator is read."""

    port: Port
    interval: float = 10.0
    """Seconds between two turns of a meter, if the power line has the time."""
    depth: int = 3600
    """Records in the meters' ring buffers."""
    password: str = ""
    """For shells that want a login."""

    def __repr__(self) -> str:
        """Keep the password out of logs."""
        return f"Settings(port={self.port}, interval={self.interval}, depth={self.depth})"


class ConcentratorSource:
    """Meters behind a concentrator (implements flexmap.sources.interface.Source).

    A meter is known by its id: the concentrator's name for it is the id or the serial number of its identity.
    """

    def __init__(
        self,
        name: str,
        meters: Sequence[tuple[Meter, MeterType]],
        settings: Settings,
        reactor: Any,
        history: History,
        *,
        connector: Callable[[Any, Port, Link], Deferred[Any]] = connect,
    ) -> None:
        self.name = name
        self._types = {meter.id: meter_type for meter, meter_type in meters}
        self._ids = {
            name: meter.id for meter, _ in meters for name in (meter.identity.get("serial-number"), meter.id)
        }
        self._settings = settings
        self._reactor = reactor
        self._clock: Clock = reactor
        self._history = history
        self._connector = connector
        self._sink: Sink | None = None
        self._link: Link | None = None
        self._failures = 0
        self._planner = Planner(settings.interval, settings.depth)
        self._health = Health(name, self._types, reactor, self._give, self._tell)
        self._updates = Updates(name, reactor, self._tell_firmware)
        self._names: dict[str, str] = {}
        """The concentrator's name of each meter that is in the PAN."""
        self._running: dict[Read, float] = {}
        """Reads under way, and until when each keeps others from beginning."""
        self._pump_call: DelayedCall | None = None
        self._learn_call: DelayedCall | None = None
        self._learning = self._learn_again = False
        self._connect_call: DelayedCall | None = None
        self._events = EventLogs(self._event, self._strange_event)
        self._clocks = ClockTurns(name, reactor, self._event, self._clock_is_set)
        self._silent: set[str] = set()
        self._commands = Commands(self._clock, self._look)

    # Begin and end

    def start(self, sink: Sink) -> None:
        """Connect, and go on connecting."""
        self._sink = sink
        self._connect()

    def stop(self) -> Deferred[None]:
        """Let go; commands on their way are refused."""
        self._sink = None
        self._health.stop()
        self._updates.ended()
        self._clocks.ended()
        for call in (self._pump_call, self._learn_call, self._connect_call):
            _cancel(call)
        self._commands.stop()
        if self._link is not None:
            self._link.close()
        return succeed(None)

    def _connect(self) -> None:
        self._connect_call = None
        link = Link(self._clock, random.randrange(0x10000), self._made, self._lost, self._unasked)  # noqa: S311 (no secret)
        try:
            self._connector(self._reactor, self._settings.port, link).addErrback(self._not_there)
        except RemoteError as error:
            self._retry(str(error))

    def _not_there(self, failure: Failure) -> None:
        self._retry(failure.getErrorMessage())

    def _retry(self, cause: str) -> None:
        if self._sink is None:
            return
        wait = min(BACK_OFF[0] * 2 ** min(self._failures, 16), BACK_OFF[1])
        level = _log.warn if self._failures == WARN_AFTER else _log.info
        level("{name}: {cause}; next attempt in {wait} s", name=self.name, cause=cause, wait=wait)
        self._failures += 1
        self._connect_call = self._clock.callLater(wait, self._connect)

    def _made(self, link: Link) -> None:
        if self._sink is None:
            link.close()
            return
        self._link = link
        answer = link.hello(self._settings.password)
        answer.addCallbacks(self._hello, self._broken)

    def _hello(self, reply: Reply) -> None:
        spoken = reply.end.fields.get("payload")
        if spoken != str(payload.VERSION):
            _log.error("{name}: speaks payload version {spoken}", name=self.name, spoken=spoken)
            self._broken(None)
            return
        _log.info("{name}: connected to {port}", name=self.name, port=self._settings.port)
        if self._link is not None:
            self._health.began(self._link)
            self._clocks.began(self._link)
            self._updates.began(self._link)
        self._learn()
        self._pump()

    def _broken(self, failure: Failure | None) -> None:
        if failure is not None and not failure.check(LinkLost):
            _log.warn("{name}: {error}", name=self.name, error=failure.getErrorMessage())
        if self._link is not None:
            self._link.close()

    def _lost(self, cause: str) -> None:
        self._link = None
        self._updates.ended()
        self._clocks.ended()
        _cancel(self._pump_call)
        _cancel(self._learn_call)
        self._pump_call = self._learn_call = None
        if self._sink is not None:
            self._health.ended()
        self._planner.lost(self._clock.seconds())
        self._retry(cause)

    # Meters

    def _learn(self) -> None:
        """Ask which meters there are, now and every minute."""
        if self._link is None:
            return
        _cancel(self._learn_call)
        if self._learning:
            self._learn_again = True
        else:
            self._learning = True
            self._link.ask("APP METERS").addBoth(self._learn_ended).addCallbacks(self._learned, self._broken)
        self._learn_call = self._clock.callLater(LEARN_SECONDS, self._learn)

    def _learn_ended(self, result: Reply | Failure) -> Reply | Failure:
        """However many have joined meanwhile: once more is enough."""
        self._learning = False
        again, self._learn_again = self._learn_again, False
        if again:
            self._learn()
        return result

    def _learned(self, reply: Reply) -> None:
        self._failures = 0
        there = {self._ids.get(line.words[0], ""): line.words[0] for line in reply.data if line.words}
        there.pop("", None)
        gone, self._names = self._names.keys() - there.keys(), there
        self._health.present(there)
        self._updates.present(there)
        self._clocks.present(there)
        for meter in gone:
            self._planner.remove(meter)
            self._clocks.remove(meter)
            self._is_silent(meter, "not in the PAN any more")
        for meter in self._types:
            if meter in there and meter not in self._planner.meters():
                self._enter(meter)
        self._pump()

    def _enter(self, meter: str) -> None:
        """Give a meter turns, from what the store has of the last hour on."""
        now, ahead = self._clock.seconds(), self._clocks.ahead(meter)
        shown = int(now + ahead)
        oldest = shown - self._settings.depth
        span = self._history.span(meter)
        if span is None:
            self._planner.add(meter, None, ahead=ahead)
        else:
            first, newest = span
            newest = min(newest, shown)  # its clock may have been put back
            stored = self._history.seconds(meter, oldest, newest + 1)
            self._planner.add(meter, newest, holes(stored, max(oldest, first), newest), ahead)
            self._planner.before(meter, oldest, first)
        self._clocks.add(meter, now)

    # Turns

    def _pump(self) -> None:
        """Begin turns while there is room and something due: events, clocks, latest records, then bulk.

        Until each meter has given its latest record, logs of the past and clocks wait. Commands wait for nothing.
        """
        _cancel(self._pump_call)
        self._pump_call = None
        if self._link is None or self._sink is None:
            return
        now = self._clock.seconds()
        catching_up = self._planner.catching_up(now)
        self._events_turn(all_logs=not catching_up)
        ordered = catching_up or self._events.reading
        self._clocks.turn(now, sparing=self.behind() > 0, ordered=ordered)
        while self._has_room(now):
            read = self._planner.next(now)
            if read is None:
                wait = min(max(self._planner.wait(now), 0.05), 1.0)
                self._pump_call = self._clock.callLater(wait, self._pump)
                return
            self._read(read)
        _cancel(self._pump_call)
        self._pump_call = self._clock.callLater(1.0, self._pump)

    def _has_room(self, now: float) -> bool:
        holding = sum(until > now for until in self._running.values())
        return holding < ABREAST and len(self._running) < MOST_ABREAST

    def _read(self, read: Read) -> None:
        link, name = self._link, self._names.get(read.meter)
        if link is None or name is None:
            self._planner.failed(read, self._clock.seconds())
            return
        origin = payload.Origin.LATEST if read.turn is Turn.LATEST else payload.Origin.TIME
        short = read.turn is not Turn.HOLE
        self._running[read] = self._clock.seconds() + PATIENCE if short else math.inf
        answer = link.ask("APP READ", name, int(origin), max(read.start, 0), read.count)
        answer.addCallback(self._answered, read)
        answer.addErrback(self._unanswered, read)
        answer.addBoth(self._ended, read)

    def _ended(self, _result: object, read: Read) -> None:
        self._running.pop(read, None)
        self._pump()

    def _answered(self, reply: Reply, read: Read) -> None:
        message = payload.decode(mnsh.octets_of(reply.data[0])) if reply.data else None
        if not isinstance(message, payload.Records):
            raise RemoteError(f"{read.meter} answers a read with something else")
        now = self._clock.seconds()
        shown = now + self._clocks.ahead(read.meter)
        # A hole lies where the meter was once: its clock may have been put back since.
        latest = math.inf if read.turn is Turn.HOLE else shown + AHEAD
        by_time = {record.time: record for record in message.records if record.time <= latest}
        news = self._planner.answered(read, list(by_time), now)
        self._deliver(read.meter, message.layout, [by_time[time] for time in news])
        self._tell_gaps()
        self._is_back(read.meter)
        self._events.seen(read.meter, message.next_event)
        if read.turn is not Turn.HOLE and (len(by_time) < len(message.records) or _never_set(message.records)):
            self._clocks.urgent(read.meter, message.records[-1].time, now)
        elif read.turn is Turn.LATEST and message.records and message.records[-1].time < shown - BEHIND:
            self._clocks.urgent(read.meter, shown, now)

    def _deliver(self, meter: str, layout: Layout, records: Sequence[Record]) -> None:
        meter_type = self._types[meter]
        samples = [to_sample(meter, meter_type, layout, record) for record in records]
        self._give([*samples, *self._health.heard(meter)])

    def behind(self) -> int:
        """Return how many seconds of all meters are known to be missing."""
        return self._planner.behind()

    def figures(self) -> dict[str, float]:
        """Return figures for the gateway's metrics."""
        return {
            **self._health.figures(),
            "behind_seconds": self.behind(),
            "clock_offset_seconds": max(map(abs, self._clocks.offsets.values()), default=0) / 1000,
        }

    def _tell(self, told: Coordinator) -> None:
        if self._sink is not None:
            self._sink.coordinator(told)

    def _give(self, samples: Sequence[Sample]) -> None:
        if self._sink is None or not samples:
            return
        try:
            self._sink.accept(samples)
        except Exception:  # noqa: BLE001 - a sink's fault must not stop the meters
            _log.failure("{name}: the sink failed", name=self.name)

    def _unanswered(self, failure: Failure, read: Read) -> None:
        if failure.check(LinkLost):
            return
        if failure.check(LineDamaged, MnshError):
            self._planner.damaged(read, self._clock.seconds())
            return
        if not failure.check(RemoteError):
            _log.failure("{name}: reading {meter}", failure, name=self.name, meter=read.meter)
        self._planner.failed(read, self._clock.seconds())
        if self._planner.silent(read.meter):
            self._is_silent(read.meter, failure.getErrorMessage())

    def _tell_gaps(self) -> None:
        """Note what no meter can give any more: overwritten in its ring buffer, or never recorded.

        A clock that was put back comes to seconds that are stored already.
        """
        for gap in self._planner.take_gaps():
            stored = self._history.seconds(gap.meter, gap.start, gap.stop)
            for span in holes(stored, gap.start, gap.stop):
                first, last = span.start * 1000, (span.stop - 1) * 1000
                text = f"from {first} to {last} ms: {span.stop - span.start} s missing (not in the meter)"
                self._event(Event(gap.meter, first, EventLog.STANDARD, EventCode.DATA_GAP, text))

    def _is_silent(self, meter: str, why: str) -> None:
        self._health.silent(meter)
        if meter not in self._silent:
            self._silent.add(meter)
            self._note(meter, EventCode.COMMUNICATION_LOST, why)

    def _is_back(self, meter: str) -> None:
        if meter in self._silent:
            self._silent.discard(meter)
            self._note(meter, EventCode.COMMUNICATION_RESTORED, "")

    def _note(self, meter: str, code: EventCode, text: str) -> None:
        if self._sink is not None:
            self._sink.event(Event(meter, int(self._clock.seconds() * 1000), EventLog.COMMUNICATION, code, text))

    # Events

    def _unasked(self, line: Line) -> None:
        what = line.words[:1]
        if what in {("JOINED",), ("LEFT",)}:
            self._learn()
            return
        meter = self._ids.get(line.fields.get("meter", ""))
        if meter is not None and what == ("FIRMWARE",):
            self._updates.told(meter)
        if what != ("EVENT",) or meter is None or self._sink is None:
            return
        self._events.told(meter, line)
        self._planner.hurry(meter, self._clock.seconds() + 1)
        self._pump()

    def _events_turn(self, *, all_logs: bool) -> None:
        """Read the log of a meter that is behind."""
        turn = None if self._link is None else self._events.next(all_logs=all_logs)
        if turn is None or self._link is None:
            return
        meter, start = turn
        name = self._names.get(meter)
        if name is None:
            self._events.ended(meter)
            return
        answer = self._link.ask("APP EVENTS", name, start)
        answer.addCallback(lambda reply: self._events.answered(meter, reply))
        answer.addErrback(lambda failure: self._events_not_read(failure, meter))
        answer.addBoth(lambda _: self._pump())

    def _events_not_read(self, failure: Failure, meter: str) -> None:
        self._events.ended(meter)
        if not failure.check(RemoteError):
            _log.failure("{name}: events of {meter}", failure, name=self.name, meter=meter)

    def _event(self, event: Event) -> None:
        if self._sink is not None and not self._history.has(event):
            self._sink.event(event)

    def _strange_event(self, line: Line) -> None:
        _log.warn("{name}: event that is not known: {line}", name=self.name, line=line)

    # Clocks

    def keep_clock(self, meter: str, ahead: int) -> None:
        """Keep a meter's clock so many ms ahead of this one."""
        self._clocks.keep(meter, ahead)

    def set_clock(self, meter: str, ahead: int) -> Deferred[str]:
        """Set a meter's clock so many ms ahead of this one, and keep it there; fires with why it could not be."""
        return self._clocks.order(meter, ahead)

    def clock_offsets(self) -> Mapping[str, int]:
        """Return how far meters' clocks were found to be off last, in ms, by meter; ahead is positive."""
        return self._clocks.offsets

    def _clock_is_set(self, meter: str) -> None:
        self._planner.set_clock(meter, self._clocks.ahead(meter), self._clock.seconds())
        self._clock.callLater(1.0, self._look, meter)

    # Firmware

    def update(self, order: FirmwareOrder) -> None:
        """Bring an image to a meter."""
        self._updates.order(order)

    def stop_update(self, meter: str) -> None:
        """Bring a meter nothing any more."""
        self._updates.stop(meter)

    def _tell_firmware(self, report: FirmwareReport) -> None:
        if self._sink is not None:
            self._sink.firmware(report)

    # Commands

    def command(self, command: Command) -> Deferred[CommandResult]:
        """Pass a breaker command to its meter; fires when the meter has answered."""
        if self._sink is None:
            return succeed(CommandResult(command.id, False, "the source is stopped"))
        name, ahead = self._names.get(command.meter), self._clocks.ahead(command.meter)
        return self._commands.give(command, self._link, name, ahead)

    def _look(self, meter: str) -> None:
        """Read the latest record beside all turns: somebody waits to see what a command has done."""
        if self._sink is not None and self._link is not None and meter in self._planner.meters():
            self._read(Read(meter, Turn.LATEST))


def _never_set(records: Sequence[Record]) -> bool:
    return bool(records) and bool(records[-1].state.status & Status.CLOCK_DOUBTFUL)


def _cancel(call: Any) -> None:
    if call is not None and call.active():
        call.cancel()
