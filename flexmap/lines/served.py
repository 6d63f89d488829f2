"""A serial line that is served for as long as we run: opened again when it comes back."""

from __future__ import annotations

import termios
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.lines.terminal import TerminalTransport, open_device

REOPEN = (1.0, 30.0)
"""Seconds until a serial line that has gone is tried again, doubled by each failure."""


class _WatchedLine(TerminalTransport):
    """A serial line whose end is told."""

    def __init__(self, reactor: Any, protocol: Protocol, descriptor: int, gone: Callable[[], object]) -> None:
        self._gone = gone
        super().__init__(reactor, protocol, descriptor)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 (Twisted's name)
        """Close, and tell."""
        was_open = self.fileno() >= 0
        super().connectionLost(reason)
        if was_open:
            self._gone()


class ServedLine:
    """A protocol of ``make`` on a serial device, each time that it can be opened (an adapter may be unplugged).

    Raises OSError and termios.error if it cannot be opened the first time.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        speed: int,
        make: Callable[[], Protocol],
        *,
        log: Logger,
        rtscts: bool = False,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._speed = speed
        self._rtscts = rtscts
        self._make = make
        self._log = log
        self._failures = 0
        self._call: Any = None
        self._transport: Any = None
        self._stopped = False
        self._open()

    @property
    def there(self) -> bool:
        """The line is open."""
        return self._transport is not None

    def stop(self) -> None:
        """Close it for good."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._transport is not None:
            self._transport.loseConnection()

    def _open(self) -> None:
        descriptor = open_device(self._path, self._speed, rtscts=self._rtscts)
        self._failures = 0
        self._transport = _WatchedLine(self._reactor, self._make(), descriptor, self._lost)

    def _lost(self) -> None:
        self._transport = None
        if not self._stopped:
            self._log.warn("{path} has gone; it is opened again once it is back", path=self._path)
            self._later()

    def _later(self) -> None:
        wait = min(REOPEN[0] * 2 ** min(self._failures, 16), REOPEN[1])
        self._failures += 1
        self._call = self._reactor.callLater(wait, self._again)

    def _again(self) -> None:
        try:
            self._open()
        except (OSError, termios.error):
            self._later()
        else:
            self._log.warn("{path} is back", path=self._path)
