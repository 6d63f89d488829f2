"""Terminals as Twisted transports: serial devices, and pseudo-terminals that are offered under a path."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import CannotListenError, ConnectionAborted
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

SPEEDS = {
    speed: cast("int", getattr(termios, f"B{speed}"))
    for speed in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
}
"""Bit/s → the system's code."""
Stop = Callable[[], Any]


class TerminalTransport(FileDescriptor):
    """A file descriptor of a terminal as a Twisted transport; closes the descriptors it is given."""

    def __init__(self, reactor: Any, protocol: Protocol, descriptor: int, *kept: int) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._kept = kept
        self._protocol = protocol
        fdesc.setNonBlocking(descriptor)
        self.connected = True
        protocol.makeConnection(cast("Any", self))
        cast("Any", self).startReading()

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._descriptor

    def set_speed(self, speed: int) -> None:
        """Send and receive at so many bit/s (one of SPEEDS) from now on, eight bits without parity."""
        # Of a pseudo-terminal the far end has the settings.
        set_speed(self._kept[0] if self._kept else self._descriptor, speed)

    def doRead(self) -> Any:  # noqa: N802 (Twisted's name)
        """Read what there is."""
        return fdesc.readFromFD(self._descriptor, self._protocol.dataReceived)

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802 (Twisted's name)
        """Write what goes."""
        return fdesc.writeToFD(self._descriptor, data)

    def abortConnection(self) -> None:  # noqa: N802 (Twisted's name)
        """Close, whatever is still to be written."""
        cast("Any", self).reactor.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 (Twisted's name)
        """Close."""
        if self._descriptor < 0:
            return
        FileDescriptor.connectionLost(cast("Any", self), reason)
        for descriptor in (self._descriptor, *self._kept):
            os.close(descriptor)
        self._descriptor = -1
        self._protocol.connectionLost(reason)


def set_speed(descriptor: int, speed: int) -> None:
    """Set the speed of a terminal; raises termios.error."""
    attributes = termios.tcgetattr(descriptor)
    attributes[4] = attributes[5] = SPEEDS[speed]
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def open_terminal(path: str) -> int:
    """Return a descriptor of a terminal, which others may have open too, raw. Raises OSError and termios.error.

    A link that :func:`offer_terminal` made and that has outlived its program is refused.
    """
    _check_offer(Path(path))
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_device(path: str, speed: int, *, rtscts: bool = False) -> int:
    """Return a descriptor of a serial device, for ourselves alone, 8N1. Raises OSError and termios.error."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        _lock(descriptor)
        tty.setraw(descriptor)
        _set_form(descriptor, termios.CRTSCTS if rtscts else 0)
        set_speed(descriptor, speed)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _set_form(descriptor: int, flow_control: int) -> None:
    attributes = termios.tcgetattr(descriptor)
    attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL | flow_control
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    if termios.tcgetattr(descriptor)[2] & flow_control != flow_control:
        raise OSError(errno.ENOTSUP, "it has no RTS/CTS")  # a driver drops silently what it cannot do


def _lock(descriptor: int) -> None:
    """Keep other programs out: those that lock too, whoever runs them, and by TIOCEXCL those of other users."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another program uses it") from None
    fcntl.ioctl(descriptor, termios.TIOCEXCL)


def offer_terminal(reactor: Any, path: str, protocol: Protocol) -> tuple[TerminalTransport, Stop]:
    """Make a pseudo-terminal with a link to it at ``path``; return its transport and what ends it.

    Raises OSError, also if something other than a link has that name. While it is offered, the file of that name
    with ``.lock`` behind it is locked and names the terminal: a program that is killed leaves its link behind, and
    the system gives the terminal's name to the next program that asks for one.
    """
    link = Path(path)
    if link.exists() and not link.is_symlink():
        raise OSError(0, "there is something else of that name")
    # Both ends stay open: the terminal is there whether somebody sits at it or not.
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        lock = _hold_offer(link, os.ttyname(slave))
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    transport = TerminalTransport(reactor, protocol, master, slave, lock)

    def stop() -> None:
        link.unlink(missing_ok=True)
        _lock_file(link).unlink(missing_ok=True)
        cast("Any", transport).loseConnection()

    return transport, stop


def _lock_file(link: Path) -> Path:
    return link.with_name(link.name + ".lock")


def _hold_offer(link: Path, terminal: str) -> int:
    """Link to a terminal, and lock a file that names it; return the file's descriptor. Raises OSError."""
    made = link.with_name(f"{link.name}.lock.{os.getpid()}")
    descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, terminal.encode())
        made.replace(_lock_file(link))
        link.unlink(missing_ok=True)
        link.symlink_to(terminal)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_offer(link: Path) -> None:
    """Raise OSError if a link is one of :func:`offer_terminal` and its program is gone; others pass."""
    try:
        descriptor = os.open(_lock_file(link), os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        named = os.read(descriptor, 4096).decode(errors="replace")
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        offered = False
    except BlockingIOError:
        offered = True
    finally:
        os.close(descriptor)
    if offered != (link.is_symlink() and str(link.readlink()) == named):
        raise OSError(errno.ENXIO, "nobody is at the other end")


def cause(error: Exception) -> object:
    """Return why a port cannot be opened, for people to read."""
    if isinstance(error, CannotListenError):
        return error.socketError
    if isinstance(error, termios.error) or getattr(error, "errno", None) == errno.ENOTTY:
        return "it is no serial line"
    return getattr(error, "strerror", None) or error
