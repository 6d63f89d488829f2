"""A shell's sessions on the transports of a reactor, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.g3.kernel import VirtualTime
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.login import Guard
from flexmap.stcomet.shell import Shell

log = Logger(namespace="flexmap.concentrator")

SLEEP_MOST = 1.0
MOST_UNREAD = 1 << 18
"""Octets that may wait for a terminal nobody reads; what comes after is dropped. A TCP connection is ended."""
LOGIN_SECONDS = 30.0
"""How long a session may take to log in: one that does not must not keep others out."""


class RealTime:
    """Moves virtual time with the real one: whatever is due is called in its order, however late."""

    def __init__(self, reactor: Any, virtual: VirtualTime) -> None:
        self._reactor = reactor
        self._virtual = virtual
        self._offset = reactor.seconds() - time.monotonic()
        self._call: Any = None

    def catch_up(self) -> None:
        """Make the calls that are due; one that fails is logged, and the others are made, as a reactor does it."""
        until = time.monotonic() + self._offset
        while True:
            try:
                return self._virtual.run(until)
            except Exception:  # noqa: BLE001 (one meter's fault must not stop the time of all)
                log.failure("a call failed")

    def go_on(self) -> None:
        """Catch up, and come back for the next call."""
        self.catch_up()
        if self._call is not None and self._call.active():
            self._call.cancel()
        due = self._virtual.next_time()
        wait = SLEEP_MOST if due is None else due - self._virtual.seconds()
        self._call = self._reactor.callLater(min(max(wait, 0.0), SLEEP_MOST), self.go_on)

    def stop(self) -> None:
        """Come back no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


class Soon:
    """Makes a call when the reactor comes round, once, however often it is asked for until then."""

    def __init__(self, reactor: Any, call: Callable[[], object]) -> None:
        self._reactor = reactor
        self._call = call
        self._due = False

    def __call__(self) -> None:
        """Ask for it."""
        if not self._due:
            self._due = True
            self._reactor.callLater(0, self._now)

    def _now(self) -> None:
        self._due = False
        self._call()


class Session(Protocol):
    """A shell on a transport; with a guard, of a TCP port whose users must log in."""

    def __init__(self, reactor: Any, concentrator: Concentrator, clock: RealTime, guard: Guard | None) -> None:
        self._reactor = reactor
        self._concentrator = concentrator
        self._clock = clock
        self._guard = guard
        self._shell: Shell | None = None
        self._deadline: Any = None

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's name)
        """Begin."""
        transport: Any = self.transport
        peer = transport.getPeer().host if self._is_network else ""
        self._shell = Shell(self._concentrator, self._write, self._guard, peer)
        if self._is_network:
            transport.setTcpKeepAlive(1)
        if self._guard is not None:
            self._deadline = self._reactor.callLater(LOGIN_SECONDS, self._too_late)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 (Twisted's name)
        """Take octets."""
        self._clock.catch_up()
        try:
            if self._shell is not None:
                self._shell.feed(data)
        except Exception:  # noqa: BLE001 (a fault in a command must not take a terminal away for good)
            log.failure("a command failed")
            self._begin_anew()
        self._clock.go_on()

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002, N802 (Twisted's)
        """End."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    @property
    def _is_network(self) -> bool:
        return hasattr(self.transport, "setTcpKeepAlive")

    def _begin_anew(self) -> None:
        """End a connection; a terminal stays, with a shell of its own."""
        transport: Any = self.transport
        if self._is_network:
            transport.abortConnection()
        elif self._shell is not None:
            self._shell.close()
            self._shell = Shell(self._concentrator, self._write, self._guard)

    def _too_late(self) -> None:
        transport: Any = self.transport
        if self._shell is not None and not self._shell.trusted:
            transport.abortConnection()

    def _write(self, octets: bytes) -> None:
        transport: Any = self.transport
        waiting = len(getattr(transport, "dataBuffer", b"")) + getattr(transport, "_tempDataLen", 0)
        if waiting < MOST_UNREAD:
            transport.write(octets)
        elif self._is_network:
            transport.abortConnection()


class Full(Protocol):
    """What a connection gets that is one too many."""

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's name)
        """Say so, and end."""
        transport: Any = self.transport
        transport.write(b'= ERROR BUSY text="too many sessions"\r\n')
        transport.loseConnection()
