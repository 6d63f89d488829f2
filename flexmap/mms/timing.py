"""What reports, logs and controls ask of the time: it is passed in, as are timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Call it off; only as long as it has not been made."""


class Clock(Protocol):
    """The wall clock, and calls at a later time."""

    def now(self) -> int:
        """Return milliseconds since 1970-01-01T00:00:00 UTC."""

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Make a call after so many seconds, never at once."""
