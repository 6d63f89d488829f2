"""What a source of samples is, and what it delivers into: the seam between sources and the gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from twisted.internet.defer import Deferred

from flexmap.model import Command, CommandResult, Event, Sample
from flexmap.model.firmware import FirmwareOrder, FirmwareReport
from flexmap.model.plc import Coordinator


class DelayedCall(Protocol):
    """A call that the reactor will make."""

    def cancel(self) -> None:
        """Do not make it."""

    def active(self) -> bool:
        """Return whether it is still to come."""


class Clock(Protocol):
    """What sources need of a reactor, or of ``twisted.internet.task.Clock``, in types that mypy can check."""

    def seconds(self) -> float:
        """Return seconds since 1970-01-01T00:00:00 UTC."""

    def callLater(  # noqa: N802 - Twisted's name
        self, delay: float, call: Callable[..., Any], /, *args: Any
    ) -> DelayedCall:
        """Call after a delay in seconds."""


class Sink(Protocol):
    """Takes what a source delivers. Both methods are called in the reactor thread and must not block."""

    def accept(self, samples: Sequence[Sample]) -> None:
        """Take samples of one or several meters.

        A batch holds any number of samples in any order: the latest second of many meters, or one meter's
        back-fill of hours after a gap. A sample older than the newest one of its meter fills the history; it
        never replaces a newer present value. Delivering a second twice is allowed and changes nothing.

        Samples of channels (``Sample.channel``) are of the present and not kept. One that says that its meter is
        silent makes the meter's values invalid with oldData until the meter's next sample.
        """

    def event(self, event: Event) -> None:
        """Take an event of a meter, also one of the past."""

    def coordinator(self, told: Coordinator) -> None:
        """Take what a PAN coordinator says of itself; without attributes once nothing is known any more."""

    def firmware(self, report: FirmwareReport) -> None:
        """Take how far a meter's firmware has come; only of meters that were ordered any."""


class Source(Protocol):
    """Reads one or more meters: a model of them, a concentrator behind a power line, a DLMS client."""

    @property
    def name(self) -> str:
        """Name of the source, as ``Meter.source`` refers to it."""

    def start(self, sink: Sink) -> None:
        """Begin to deliver; called once."""

    def stop(self) -> Deferred[None]:
        """Stop delivering; fires when nothing more will reach the sink. Commands not yet answered are refused."""

    def command(self, command: Command) -> Deferred[CommandResult]:
        """Act on a meter; fires when the meter has answered.

        A refusal, a lost link or a time-out is a CommandResult with ``done`` False and a cause; the Deferred
        fails only on a fault of the program.
        """


@runtime_checkable
class UpdatingSource(Protocol):
    """A source that can replace its meters' firmware."""

    def update(self, order: FirmwareOrder) -> None:
        """Bring an image to a meter, in place of what was ordered before; may be called before ``start``."""

    def stop_update(self, meter: str) -> None:
        """Bring a meter nothing any more, and report nothing more of it."""


@runtime_checkable
class ClockSource(Protocol):
    """A source that sets its meters' clocks."""

    def keep_clock(self, meter: str, ahead: int) -> None:
        """Keep a meter's clock so many ms ahead of this one; called before ``start``."""

    def set_clock(self, meter: str, ahead: int) -> Deferred[str]:
        """Set a meter's clock so many ms ahead of this one, and keep it there.

        Fires with why it could not be set, empty if it was: what the meter then shows is events 4 and 5 of its
        log. May be cancelled: then it is not kept, whatever has become of it.
        """
