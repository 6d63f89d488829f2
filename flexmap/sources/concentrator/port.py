"""Where a shell is: ``pty:PATH``, ``serial:DEVICE?baud=230400&rtscts=1`` or ``tcp:HOST:PORT``; both ends of each.

The concentrator offers a port (makes the pseudo-terminal, listens on TCP), the gateway connects to it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tty
from collections.abc import Callable
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from flexmap.lines.terminal import Stop, TerminalTransport, offer_terminal
from flexmap.model import ConfigurationError, RemoteError

__all__ = ["BAUD", "Port", "TerminalTransport", "Transport", "connect", "offer", "ordinary", "parse_port"]

BAUD = 230_400
"""Of the minishell's USART (seed document, 7.1.1); 8 bits, no parity, RTS/CTS."""


class Port(msgspec.Struct, frozen=True):
    """A port of one of the three kinds."""

    kind: str
    path: str = ""
    host: str = ""
    number: int = 0
    baud: int = BAUD
    rtscts: bool = True

    def __str__(self) -> str:
        if self.kind == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp:{host}:{self.number}"
        return f"{self.kind}:{self.path}"


def parse_port(text: str, where: str) -> Port:
    """Return the port that a text names; raise ConfigurationError, naming ``where``, if it names none."""
    kind, _, rest = text.partition(":")
    with contextlib.suppress(ValueError):
        if kind == "pty" and rest:
            return Port(kind, path=rest)
        if kind == "tcp":
            host, _, number = rest.rpartition(":")
            if host and 0 <= int(number) <= 0xFFFF:
                return Port(kind, host=host.removeprefix("[").removesuffix("]"), number=int(number))
        if kind == "serial" and rest:
            path, _, query = rest.partition("?")
            options = dict(parse_qsl(query, strict_parsing=bool(query)))
            baud, rtscts = options.pop("baud", str(BAUD)), options.pop("rtscts", "1")
            if path and not options and re.fullmatch(r"[1-9][0-9]{2,6}", baud) and rtscts in {"0", "1"}:
                return Port(kind, path=path, baud=int(baud), rtscts=rtscts == "1")
    remedy = "write pty:PATH, serial:/dev/ttyUSB0?baud=230400&rtscts=1 or tcp:HOST:PORT"
    raise ConfigurationError(f"'{text}' is no port", where=where, remedy=remedy)


class Transport(Protocol):
    """What a session writes to."""

    def write(self, data: bytes) -> None:
        """Send octets."""

    def loseConnection(self) -> None:  # noqa: N802 (Twisted's name)
        """Let go."""


def offer(reactor: Any, port: Port, make: Callable[[], TwistedProtocol]) -> tuple[str, Stop]:
    """Offer a shell: return where it is, for people to read, and what ends it. Raises ConfigurationError."""
    try:
        if port.kind == "pty":
            _, stop = offer_terminal(reactor, port.path, make())
            return str(port), stop
        if port.kind == "serial":
            transport = _serial(reactor, port, make())
            return str(port), transport.loseConnection
        factory = Factory.forProtocol(cast("Any", make))
        factory.noisy = False
        listening = reactor.listenTCP(port.number, factory, interface=port.host)
    except Exception as error:  # noqa: BLE001 (pyserial raises its own, the system OSError and termios.error)
        cause = getattr(error, "strerror", None) or getattr(error, "socketError", None) or error
        raise ConfigurationError(
            f"cannot be opened: {cause}", where=str(port), remedy="choose another, or stop what uses it"
        ) from None
    number = listening.getHost().port
    return str(msgspec.structs.replace(port, number=number)), listening.stopListening


def connect(reactor: Any, port: Port, protocol: TwistedProtocol) -> Deferred[Any]:
    """Connect to a shell; fires with nothing when it is there, fails with RemoteError if it is not."""
    try:
        if port.kind == "pty":
            descriptor = os.open(port.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(descriptor)
            TerminalTransport(reactor, protocol, descriptor)
            return succeed(None)
        if port.kind == "serial":
            _serial(reactor, port, protocol)
            return succeed(None)
    except Exception as error:  # noqa: BLE001 (pyserial raises its own, the system OSError and termios.error)
        raise RemoteError(f"{port}: {getattr(error, 'strerror', None) or error}") from None
    return _connect_tcp(reactor, port, protocol)


def _connect_tcp(reactor: Any, port: Port, protocol: TwistedProtocol) -> Deferred[Any]:
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol  # noqa: PLC0415

    endpoint = TCP6ClientEndpoint if ":" in port.host else TCP4ClientEndpoint
    connected: Deferred[Any] = connectProtocol(endpoint(reactor, port.host, port.number, timeout=10), protocol)

    def failed(failure: Failure) -> None:
        raise RemoteError(f"{port}: {failure.getErrorMessage()}")

    connected.addErrback(failed)
    return connected


def _serial(reactor: Any, port: Port, protocol: TwistedProtocol) -> Any:
    from twisted.internet.serialport import SerialPort  # noqa: PLC0415 (termios settings, only where one is used)

    return SerialPort(protocol, port.path, reactor, baudrate=port.baud, rtscts=port.rtscts)


def ordinary(reason: Failure) -> bool:
    """Return whether a connection has ended in an ordinary way."""
    return bool(reason.check(ConnectionDone, ConnectionLost))
