"""The source behind a concentrator: learns its meters, reads them in fair turns, passes commands and events."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
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
from flexmap.model.plc import Coordinator
from flexmap.sources.concentrator.health import Health
from flexmap.sources.concentrator.link import Link, LinkLost, Reply, ShellError
from flexmap.sources.concentrator.poll import Planner, Read, Turn, holes
from flexmap.sources.concentrator.port import Port, connect
from flexmap.sources.concentrator.samples import to_sample
from flexmap.sources.interface import Clock, DelayedCall, Sink
from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.mnsh import ErrorCode, Line
from flexmap.stcomet.record import Layout, Record, Status

_log = Logger(namespace="flexmap.concentrator")

ABREAST = 2
"""Reads under way at a time: the concentrator itself does not ask more meters at once."""
LEARN_SECONDS = 60.0
BACK_OFF = (1.0, 30.0)
"""Seconds until the line is tried again, doubled by each failure."""
WARN_AFTER = 2
"""Failed attempts that are nothing yet: both processes may just be starting."""
COMMAND_SECONDS = 10
"""How long a command is valid: nobody waits for it longer."""
CLOCK_SECONDS = 600.0
"""Seconds between two settings of a meter's clock, while it says that its clock was never set."""

CLOCK_LEAD = 1
"""Seconds that a setting is ahead: it is cut to whole seconds, and half a second or so on its way."""


class History(Protocol):
    """What the store knows, so that only what is missing is fetched."""

    def seconds(self, meter: str, start: int, stop: int) -> Iterable[int]:
        """Return the stored seconds from ``start`` to before ``stop``."""

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
        self._names: dict[str, str] = {}
        """The concentrator's name of each meter that is in the PAN."""
        self._running = 0
        self._pump_call: DelayedCall | None = None
        self._learn_call: DelayedCall | None = None
        self._connect_call: DelayedCall | None = None
        self._next_event: dict[str, int] = {}
        self._asking_events: set[str] = set()
        self._clock_set: dict[str, float] = {}
        self._silent: set[str] = set()
        self._commands: dict[int, Deferred[CommandResult]] = {}

    # Begin and end

    def start(self, sink: Sink) -> None:
        """Connect, and go on connecting."""
        self._sink = sink
        self._connect()

    def stop(self) -> Deferred[None]:
        """Let go; commands on their way are refused."""
        self._sink = None
        self._health.stop()
        for call in (self._pump_call, self._learn_call, self._connect_call):
            _cancel(call)
        commands, self._commands = self._commands, {}
        for number, answer in commands.items():
            answer.callback(CommandResult(number, False, "the source stops"))
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
        self._failures = 0
        if self._link is not None:
            self._health.began(self._link)
        self._learn()
        self._pump()

    def _broken(self, failure: Failure | None) -> None:
        if failure is not None and not failure.check(LinkLost):
            _log.warn("{name}: {error}", name=self.name, error=failure.getErrorMessage())
        if self._link is not None:
            self._link.close()

    def _lost(self) -> None:
        self._link = None
        _cancel(self._pump_call)
        _cancel(self._learn_call)
        self._pump_call = self._learn_call = None
        if self._sink is not None:
            self._health.ended()
        self._planner.lost(self._clock.seconds())
        self._retry("the line is gone")

    # Meters

    def _learn(self) -> None:
        """Ask which meters there are, now and every minute."""
        if self._link is None:
            return
        self._link.ask("APP METERS").addCallbacks(self._learned, self._broken)
        _cancel(self._learn_call)
        self._learn_call = self._clock.callLater(LEARN_SECONDS, self._learn)

    def _learned(self, reply: Reply) -> None:
        there = {self._ids.get(line.words[0], ""): line.words[0] for line in reply.data if line.words}
        there.pop("", None)
        gone, self._names = self._names.keys() - there.keys(), there
        self._health.present(there)
        for meter in gone:
            self._planner.remove(meter)
            self._is_silent(meter, "not in the PAN any more")
        for meter in self._types:
            if meter in there and meter not in self._planner.meters():
                self._enter(meter)
        self._pump()

    def _enter(self, meter: str) -> None:
        """Give a meter turns, from what the store has of the last hour on."""
        now = int(self._clock.seconds())
        oldest = now - self._settings.depth
        stored = sorted(self._history.seconds(meter, oldest, now + 1))
        newest = stored[-1] if stored else None
        missing = holes(stored, oldest, newest) if newest is not None else []
        self._planner.add(meter, newest, missing)

    # Turns

    def _pump(self) -> None:
        """Begin turns while there is room and something due."""
        _cancel(self._pump_call)
        self._pump_call = None
        if self._link is None or self._sink is None:
            return
        now = self._clock.seconds()
        while self._running < ABREAST:
            read = self._planner.next(now)
            if read is None:
                wait = min(max(self._planner.wait(now), 0.05), 1.0)
                self._pump_call = self._clock.callLater(wait, self._pump)
                return
            self._read(read)

    def _read(self, read: Read) -> None:
        link, name = self._link, self._names.get(read.meter)
        if link is None or name is None:
            self._planner.failed(read, self._clock.seconds())
            return
        origin = payload.Origin.LATEST if read.turn is Turn.LATEST else payload.Origin.TIME
        self._running += 1
        answer = link.ask("APP READ", name, int(origin), max(read.start, 0), read.count)
        answer.addCallback(self._answered, read)
        answer.addErrback(self._unanswered, read)
        answer.addBoth(self._ended)

    def _ended(self, _result: object) -> None:
        self._running -= 1
        self._pump()

    def _answered(self, reply: Reply, read: Read) -> None:
        message = payload.decode(mnsh.octets_of(reply.data[0])) if reply.data else None
        if not isinstance(message, payload.Records):
            raise RemoteError(f"{read.meter} answers a read with something else")
        by_time = {record.time: record for record in message.records}
        news = self._planner.answered(read, list(by_time), self._clock.seconds())
        self._deliver(read.meter, message.layout, [by_time[time] for time in news])
        self._is_back(read.meter)
        if not self._planner.catching_up(self._clock.seconds()):
            self._watch_events(read.meter, message.next_event)
        if message.records:
            self._watch_clock(read.meter, message.records[-1])

    def _deliver(self, meter: str, layout: Layout, records: Sequence[Record]) -> None:
        meter_type = self._types[meter]
        samples = [to_sample(meter, meter_type, layout, record) for record in records]
        self._give([*samples, *self._health.heard(meter)])

    def figures(self) -> dict[str, float]:
        """Return figures for the gateway's metrics."""
        return {**self._health.figures(), "behind_seconds": self._planner.behind()}

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
        if not failure.check(RemoteError):
            _log.failure("{name}: reading {meter}", failure, name=self.name, meter=read.meter)
        self._planner.failed(read, self._clock.seconds())
        if self._planner.silent(read.meter):
            self._is_silent(read.meter, failure.getErrorMessage())

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
            self._sink.event(Event(meter, int(self._clock.seconds() * 1000), EventLog.STANDARD, code, text))

    def _watch_clock(self, meter: str, latest: Record) -> None:
        """Set the clock of a meter that says that nobody has since its start."""
        now = self._clock.seconds()
        name = self._names.get(meter)
        if not latest.state.status & Status.CLOCK_DOUBTFUL or self._link is None or name is None:
            return
        if now - self._clock_set.get(meter, -CLOCK_SECONDS) >= CLOCK_SECONDS:
            self._clock_set[meter] = now
            self._link.ask("APP CLOCK", name, int(now) + CLOCK_LEAD).addErrback(_ignore)

    # Events

    def _unasked(self, line: Line) -> None:
        what = line.words[:1]
        if what in {("JOINED",), ("LEFT",)}:
            self._learn()
            return
        meter = self._ids.get(line.fields.get("meter", ""))
        if what != ("EVENT",) or meter is None or self._sink is None:
            return
        number = _number(line.fields.get("number"))
        if number is not None and number == self._next_event.get(meter):
            self._next_event[meter] = number + 1
            self._event(meter, line)
        else:
            self._ask_events(meter)
        self._planner.hurry(meter, self._clock.seconds() + 1)
        self._pump()

    def _watch_events(self, meter: str, low: int) -> None:
        """Compare the meter's next event number, as each reply tells its low 16 bits, with what has come."""
        known = self._next_event.get(meter)
        if known is None or known & 0xFFFF != low:
            self._ask_events(meter)

    def _ask_events(self, meter: str) -> None:
        name = self._names.get(meter)
        if self._link is None or name is None or meter in self._asking_events:
            return
        self._asking_events.add(meter)
        answer = self._link.ask("APP EVENTS", name, self._next_event.get(meter, 0))
        answer.addCallback(self._take_events, meter)
        answer.addErrback(_ignore)
        answer.addBoth(lambda _: self._asking_events.discard(meter))

    def _take_events(self, reply: Reply, meter: str) -> None:
        for line in reply.data:
            self._event(meter, line)
        first = _number(reply.end.fields.get("first")) or 0
        known = self._next_event.get(meter, 0)
        if reply.data or not known:
            self._next_event[meter] = first + len(reply.data)
        else:
            self._next_event.pop(meter, None)  # set up anew, it counts from 0 again
        if reply.end.fields.get("more") == "1":
            self._clock.callLater(0, self._ask_events, meter)

    def _event(self, meter: str, line: Line) -> None:
        try:
            log = EventLog(int(line.fields["log"]))
            event = Event(meter, int(line.fields["time_ms"]), log, EventCode(int(line.fields["code"])))
        except (KeyError, ValueError):
            _log.warn("{name}: event that is not known: {line}", name=self.name, line=line)
            return
        if self._sink is not None and not self._history.has(event):
            self._sink.event(event)

    # Commands

    def command(self, command: Command) -> Deferred[CommandResult]:
        """Pass a breaker command to its meter; fires when the meter has answered."""
        name = self._names.get(command.meter)
        cause = ""
        if self._sink is None:
            cause = "the source is stopped"
        elif self._link is None:
            cause = "there is no line to the concentrator"
        elif name is None:
            cause = f"meter '{command.meter}' is not in the PAN"
        elif command.point != "breaker":
            cause = f"meter '{command.meter}' takes no commands for '{command.point}'"
        if cause or self._link is None or name is None:
            return succeed(CommandResult(command.id, False, cause))
        answer: Deferred[CommandResult] = Deferred()
        self._commands[command.id] = answer
        until = int(self._clock.seconds()) + COMMAND_SECONDS
        asked = self._link.ask("APP BREAKER", name, int(command.value), until)
        asked.addCallbacks(_no_cause, _cause).addCallback(self._commanded, command)
        return answer

    def _commanded(self, cause: str, command: Command) -> None:
        answer = self._commands.pop(command.id, None)
        if answer is not None:
            answer.callback(CommandResult(command.id, not cause, cause))
        self._planner.hurry(command.meter, self._clock.seconds() + 1)


def _no_cause(_reply: Reply) -> str:
    return ""


def _cause(failure: Failure) -> str:
    failure.trap(RemoteError)
    error = failure.value
    if isinstance(error, ShellError) and error.code == ErrorCode.SILENT:
        return "the meter has not answered"
    return str(error)


def _ignore(failure: Failure) -> None:
    failure.trap(RemoteError)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 12 else None


def _cancel(call: Any) -> None:
    if call is not None and call.active():
        call.cancel()
