"""What is due for all meters at one instant, done meter by meter: clients are served between two of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

log = Logger(namespace="flexmap.dlms")

Call = Callable[[], object]
Spread = Callable[[Call], object]
"""Calls what it is given, at once or later."""


def at_once(call: Call) -> object:
    """Call it now."""
    return call()


class Turns:
    """Calls one after the other, each in a turn of the reactor of its own."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._calls: deque[Call] = deque()

    def add(self, call: Call) -> None:
        """Call it when all before it have been called."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self._clock.callLater(0, self._next)

    def _next(self) -> None:
        try:
            self._calls[0]()
        except Exception:  # noqa: BLE001 (the other meters' calls must come)
            log.failure("what was due has failed")
        self._calls.popleft()
        if self._calls:
            self._clock.callLater(0, self._next)
