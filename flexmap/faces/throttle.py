"""A bound on the log lines that peers can cause: what is left out is counted, and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.base import ReactorBase

MOST_LINES = 20
"""Lines of one level in a second."""

Emit = Callable[..., None]
"""``log.info`` or ``log.warn``."""


class Throttle:
    """Passes on the first lines of each level in a second; the others are told of in one line a second later.

    Each level has its own bound: many orderly associations do not hide a refused one.
    """

    def __init__(self, reactor: ReactorBase, most: int = MOST_LINES) -> None:
        self._reactor = reactor
        self._most = most
        self._lines: Counter[Emit] = Counter()

    def __call__(self, emit: Emit, text: str, **fields: object) -> None:
        """Log a line, or count it."""
        if not self._lines:
            self._reactor.callLater(1.0, self._second)
        self._lines[emit] += 1
        if self._lines[emit] <= self._most:
            emit(text, **fields)

    def _second(self) -> None:
        lines, self._lines = self._lines, Counter()
        for emit, count in lines.items():
            if count > self._most:
                emit(
                    "{count} more lines about peers are left out; /metrics counts all",
                    count=count - self._most,
                )
