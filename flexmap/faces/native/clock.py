"""The wall clock and timers of the reactor, as the protocol core asks for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flexmap.mms.timing import Timer


class ReactorClock:
    """Clock on a reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def now(self) -> int:
        """Return milliseconds since 1970-01-01T00:00:00 UTC."""
        return time.time_ns() // 1_000_000

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Make a call after so many seconds."""
        timer: Timer = self._reactor.callLater(seconds, call)
        return timer
