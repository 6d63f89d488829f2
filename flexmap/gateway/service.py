"""The gateway: samples come in from the sources and stand on every face; commands go the other way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.faces.interface import Face
from flexmap.gateway.metrics import Metrics
from flexmap.gateway.origins import Origins
from flexmap.gateway.present import Present
from flexmap.gateway.rates import ServedRates
from flexmap.mapping import quality as rules
from flexmap.model import Command, CommandResult, Event, EventCode, EventLog, Sample, Site
from flexmap.model.firmware import FirmwareReport
from flexmap.model.plc import Coordinator
from flexmap.model.sample import BREAKER
from flexmap.sources.interface import Source
from flexmap.store import Store

TIME_LIMIT_OVER = "time-limit-over"
"""Cause of a command that the meter did not answer in time; the AddCause of that name on MMS."""
AGE_CHECK_SECONDS = 1.0
NAMED = 5
"""Meters that one line of the log names."""
CHANNEL_AGE = 60.0
"""Seconds for which what is known of a channel is good, however short-lived values are: it is asked for seldom."""
COMMAND_TIMEOUT = 8.0
"""Seconds that a meter has to answer a command; less than the faces wait, so that they can say why."""


class Clock(Protocol):
    """The part of a reactor that tells the time: seconds since 1970 UTC."""

    def seconds(self) -> float:
        """Return the time."""


class Gateway:
    """Holds the last sample of every meter and passes each new one to the store and the faces.

    ``sources`` maps a source's name to the source and the age in seconds at which its values are old.
    """

    def __init__(self, reactor: Clock, site: Site, store: Store, metrics: Metrics) -> None:
        self._reactor = reactor
        self._site = site
        self._store = store
        self._metrics = metrics
        self._origins = Origins(reactor.seconds, COMMAND_TIMEOUT)
        self._log = Logger(namespace="flexmap.gateway")
        self._faces: list[Face] = []
        self._sources: dict[str, Source] = {}
        self._max_age: dict[str, float] = {}
        self._meters = {meter.id: meter for meter in site.meters}
        self._live = {meter.id: site.type_of(meter).live for meter in site.meters}
        """Place of the point that says whether a meter can be reached, in a sample of its channel."""
        widths = [(meter.id, site.type_of(meter)) for meter in site.meters]
        self._present = Present(rules.never_read(meter, len(its.points)) for meter, its in widths)
        self._channels = Present(
            rules.never_read(meter, len(its.channel), channel=True) for meter, its in widths if its.channel
        )
        self._rates = ServedRates(site, store)
        self.ahead: Mapping[str, int] = {}
        """Milliseconds that meters' clocks are kept ahead of this one, where head-ends have set them."""
        self.on_firmware: Callable[[FirmwareReport], object] = lambda _report: None
        """Called after the faces with how far a meter's firmware has come."""
        self.on_samples: Callable[[Sequence[Sample]], object] = lambda _samples: None
        """Called with all samples of meters, those of the past too, before the newest are served."""
        self._age_check = LoopingCall(self._check_age)
        self._age_check.clock = cast("IReactorTime", reactor)

    @property
    def last(self) -> Mapping[str, Sample]:
        """The sample served of each meter."""
        return self._present.last

    def add_face(self, face: Face) -> None:
        """Serve every further sample on the face, and the last one of each meter and channel at once."""
        self._faces.append(face)
        face.update([*self._present.last.values(), *self._rates.last.values(), *self._channels.last.values()])

    def add_source(self, name: str, source: Source, max_age: float) -> None:
        """Take samples from a source; its values are old after ``max_age`` seconds."""
        self._sources[name] = source
        self._max_age[name] = max_age

    @property
    def sources(self) -> list[Source]:
        """The sources, in the order they were added."""
        return list(self._sources.values())

    def resume(self, samples: Sequence[Sample]) -> None:
        """Begin with the samples that the store kept from before: served as old until a source renews them."""
        for sample in samples:
            if sample.meter in self._meters:
                self._present.resume(sample)
                self._rates.of([self._present.last[sample.meter]])

    def start(self) -> None:
        """Watch the age of values from now on."""
        self._age_check.start(AGE_CHECK_SECONDS, now=False)

    def stop(self) -> None:
        """Watch it no more."""
        if self._age_check.running:
            self._age_check.stop()

    def accept(self, samples: Sequence[Sample]) -> None:
        """Take samples from a source: those of meters are stored; those newer than the last are served."""
        now = self._reactor.seconds()
        known = self._of_this_site(samples)
        of_meters = [sample for sample in known if not sample.channel]
        newest = {sample.meter: sample for sample in of_meters if self._present.take(sample, now)}
        channels = {
            sample.meter: sample for sample in known if sample.channel and self._channels.take(sample, now)
        }
        for sample in channels.values():
            lost = self._present.lose(sample.meter) if self._is_silent(sample) else None
            if lost is not None:
                newest[lost.meter] = lost
        self._store.append(of_meters)
        self.on_samples(of_meters)
        self._serve([*newest.values(), *self._rates.of(newest.values()), *channels.values()])
        self._metrics.accepted.inc(len(of_meters))
        fresh = [
            sample.time - self.ahead.get(name, 0)
            for name, sample in newest.items()
            if name not in self._present.old
        ]
        if fresh:
            self._metrics.latency.observe(max(0.0, self._reactor.seconds() - min(fresh) / 1000))

    def _is_silent(self, channel: Sample) -> bool:
        place = self._live[channel.meter]
        return place is not None and channel.values[place] is False

    def event(self, event: Event) -> None:
        """Take an event from a source."""
        event = self._origins.named(event)
        self._log.info("{event.meter}: {event.code.name} {event.text}", event=event)
        self._metrics.events.labels(event.log.name.lower()).inc()
        self._store.event(event)
        for face in self._faces:
            face.event(event)

    def coordinator(self, told: Coordinator) -> None:
        """Take what a PAN coordinator says of itself."""
        for face in self._faces:
            face.coordinator(told)

    def source_of(self, meter: str) -> Source | None:
        """Return the source that reads a meter."""
        found = self._meters.get(meter)
        return self._sources.get(found.source) if found else None

    def firmware(self, report: FirmwareReport) -> None:
        """Take how far a meter's firmware has come."""
        self._log.info("{report.meter}: firmware {report.stage.value} {report.cause}", report=report)
        for face in self._faces:
            face.firmware(report)
        self.on_firmware(report)

    def identity(self, meter: str, name: str, text: str) -> None:
        """Show a new value of an identity point of a meter on every face."""
        for face in self._faces:
            face.identity(meter, name, text)

    def command(self, command: Command) -> Deferred[CommandResult]:
        """Pass a command to the meter's source; fires when the meter has answered."""
        source = self.source_of(command.meter)
        if source is None:
            return succeed(CommandResult(command.id, False, f"no source reads meter {command.meter}"))
        self._log.info(
            "command {command.point}={command.value} for {command.meter} from {command.origin}", command=command
        )
        self._origins.give(command)
        answer = source.command(command)
        answer.addTimeout(COMMAND_TIMEOUT, cast("IReactorTime", self._reactor))
        answer.addErrback(self._unanswered, command)
        answer.addCallback(self._answered, command)
        return answer

    def shown_time(self, meter: str) -> tuple[int, bool]:
        """Return the time (ms) of a meter's last sample, 0 or less if there is none, and whether it is old."""
        return self._present.last[meter].time, self._present.is_old(meter)

    def clock_set(self, meter: str) -> None:
        """Serve the next sample of a meter even if its time is before that of the last one."""
        self._present.clock_set(meter)

    def _of_this_site(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that fit a meter of the site; the others are counted and dropped."""
        known = [sample for sample in samples if self._fits(sample)]
        if len(known) < len(samples):
            self._metrics.rejected.inc(len(samples) - len(known))
            strange = next(sample for sample in samples if not self._fits(sample))
            self._log.warn(
                "{count} samples dropped: the site has no meter {meter} with {width} points",
                count=len(samples) - len(known),
                meter=strange.meter,
                width=len(strange.values),
            )
        return known

    def _fits(self, sample: Sample) -> bool:
        return (self._channels if sample.channel else self._present).fits(sample)

    def _unanswered(self, failure: Failure, command: Command) -> CommandResult:
        if failure.check(defer.TimeoutError):
            return CommandResult(command.id, False, TIME_LIMIT_OVER)
        self._log.failure("command for {meter}", failure, meter=command.meter)
        return CommandResult(command.id, False, failure.getErrorMessage())

    def _answered(self, result: CommandResult, command: Command) -> CommandResult:
        self._metrics.commands.labels("done" if result.done else "refused").inc()
        self._log.info("command for {meter}: {result}", meter=command.meter, result=result)
        if not result.done and command.point == BREAKER:
            now, text = int(self._reactor.seconds() * 1000), f"by {command.origin}: {result.cause}"
            self.event(Event(command.meter, now, EventLog.DISCONNECT, EventCode.DISCONNECT_FAILURE, text))
        return result

    def _serve(self, samples: Sequence[Sample]) -> None:
        if samples:
            for face in self._faces:
                face.update(samples)

    def _check_age(self) -> None:
        now = self._reactor.seconds()
        old = self._present.age(now, self._limit)
        if old:
            names = [sample.meter for sample in old]
            more = f" and {len(names) - NAMED} others" if len(names) > NAMED else ""
            self._log.warn("values of {meters} are old", meters=", ".join(names[:NAMED]) + more)
        self._metrics.old.set(len(self._present.old))
        channels = self._channels.age(now, lambda meter: max(self._limit(meter), CHANNEL_AGE))
        self._serve([*old, *self._rates.of(old), *channels])

    def _limit(self, meter: str) -> float:
        return self._max_age[self._meters[meter].source]
