"""A bound on the log lines that peers can cause: what is left out is counted, and said."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import ReactorBase
from twisted.logger import Logger

MOST_LINES = 20
"""Lines in a second."""

log = Logger(namespace="flexmap.dlms")


class Throttle:
    """Passes on the first lines of a second; the others are told of in one line a second later."""

    def __init__(self, reactor: ReactorBase, most: int = MOST_LINES) -> None:
        self._reactor = reactor
        self._most = most
        self._lines = 0
        self._left_out = 0
        self._counting = False

    def __call__(self, emit: Callable[..., None], text: str, **fields: object) -> None:
        """Log a line by ``log.info`` or ``log.warn``, or count it."""
        if not self._counting:
            self._counting = True
            self._reactor.callLater(1.0, self._second)
        if self._lines < self._most:
            self._lines += 1
            emit(text, **fields)
        else:
            self._left_out += 1

    def _second(self) -> None:
        left_out, self._lines, self._left_out, self._counting = self._left_out, 0, 0, False
        if left_out:
            log.warn("{count} more lines about DLMS peers are left out; /metrics counts all", count=left_out)
