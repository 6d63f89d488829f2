"""What the gateway asks of a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from flexmap.model import Command, CommandResult, Event, Sample
from flexmap.model.firmware import FirmwareOrder, FirmwareReport
from flexmap.model.plc import Coordinator

OnCommand = Callable[[Command], Deferred[CommandResult]]
"""Takes a command from a face's client; fires when the meter has answered."""


class FirmwareWay(Protocol):
    """What brings firmware to meters."""

    def order(self, order: FirmwareOrder) -> None:
        """Bring an image to a meter, or go on; whatever comes of it is reported (``Face.firmware``)."""

    def stop(self, meter: str) -> None:
        """Bring a meter nothing any more; nothing more is reported."""

    def event(self, event: Event) -> None:
        """Write an event into the meter's log: of an image that was refused before it went there."""


class ClockWay(Protocol):
    """What sets meters' clocks. Times are ms since 1970 UTC."""

    def settable(self, meter: str) -> bool:
        """Return whether head-ends may set a meter's clock."""

    def shown(self, meter: str) -> int | None:
        """Return what a meter's clock shows; that of its last sample if it is silent, None if there was none."""

    def set(self, meter: str, time: int, origin: str) -> Deferred[str]:
        """Set a meter's clock; fires with why it could not be, empty if it was and will stay so."""

    def distance(self, time: int) -> int:
        """Return how many ms a time is ahead of flexmap's own clock."""


class Face(Protocol):
    """Serves every meter's last sample to clients of one protocol."""

    def start(self) -> Deferred[None]:
        """Serve from now on; fires when clients can connect."""

    def update(self, samples: Sequence[Sample]) -> None:
        """Serve these samples from now on, at most one for each part of each meter."""

    def event(self, event: Event) -> None:
        """Take note of an event of a meter."""

    def coordinator(self, told: Coordinator) -> None:
        """Take note of what a PAN coordinator says of itself."""

    def firmware(self, report: FirmwareReport) -> None:
        """Take note of how far a meter's firmware has come."""

    def identity(self, meter: str, name: str, text: str) -> None:
        """Show a new value of an identity point of a meter, by the point's name."""

    def stop(self) -> Deferred[None]:
        """Close every association and serve no more."""

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether clients are served, and figures to show."""
