"""The core's end of the bus: a thin Twisted protocol around the sans-io framer."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import cast

import msgspec
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from flexmap.bus import frames
from flexmap.bus.framer import BadFrameError, Framer, encode


class Transport(typing.Protocol):
    """What of Twisted's ITransport is used here (a zope interface tells mypy nothing)."""

    def write(self, data: bytes) -> None:
        """Send octets."""

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close once everything is sent."""


class CoreProtocol(Protocol):
    """Speaks with one worker: checks its greeting, hands its frames on.

    ``received`` gets every frame after the greeting, ``lost`` the reason when the connection ends: a
    BadFrameError if the worker broke the protocol.
    """

    def __init__(
        self,
        greeted: Callable[[frames.Hello], None],
        received: Callable[[frames.ToCore], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._greeted = greeted
        self._received = received
        self._lost = lost
        self._framer: Framer[frames.ToCore] = Framer(frames.ToCore)
        self._hello: frames.Hello | None = None
        self._error: BadFrameError | None = None

    def send(self, frame: msgspec.Struct) -> None:
        """Send a frame."""
        cast("Transport", self.transport).write(encode(frame))

    def close(self) -> None:
        """Close the connection; the worker ends when it sees that."""
        cast("Transport", self.transport).loseConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take octets from the worker."""
        if self._error is not None:
            return
        try:
            for frame in self._framer.feed(data):
                self._dispatch(frame)
        except BadFrameError as error:
            self._error = error
            self.close()

    def _dispatch(self, frame: frames.ToCore) -> None:
        if self._hello is not None:
            self._received(frame)
            return
        if not isinstance(frame, frames.Hello):
            raise BadFrameError(f"first frame of a worker is {type(frame).__name__}, not Hello")
        if frame.version != frames.VERSION:
            raise BadFrameError(
                f"worker {frame.pid} speaks version {frame.version} of the bus, this core {frames.VERSION}: "
                "both must come from the same installation"
            )
        self._hello = frame
        self._greeted(frame)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """Tell why the connection ended."""
        self._lost(self._error or ConnectionError(str(reason.value)))
