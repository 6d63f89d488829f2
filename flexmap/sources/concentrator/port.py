"""Where a shell is: ``pty:PATH``, ``serial:DEVICE?baud=230400&rtscts=1`` or ``tcp:HOST:PORT``; both ends of each.

The concentrator offers a port (makes the pseudo-terminal, listens on TCP), the gateway connects to it.
"""

from __future__ import annotations

import contextlib
import termios
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.policies import LimitTotalConnectionsFactory
from twisted.python.failure import Failure

from flexmap.lines.served import ServedLine
from flexmap.lines.terminal import (
    SPEEDS,
    Stop,
    TerminalTransport,
    cause,
    offer_terminal,
    open_device,
    open_terminal,
)
from flexmap.model import ConfigurationError, RemoteError

BAUD = 230_400
"""Of the minishell's USART (seed document, 7.1.1); 8 bits, no parity, RTS/CTS."""

_log = Logger(namespace="flexmap.concentrator")


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
            if path and not options and baud.isdecimal() and int(baud) in SPEEDS and rtscts in {"0", "1"}:
                return Port(kind, path=path, baud=int(baud), rtscts=rtscts == "1")
    remedy = "write pty:PATH, serial:/dev/ttyUSB0?baud=230400&rtscts=1 or tcp:HOST:PORT"
    raise ConfigurationError(f"'{text}' is no port", where=where, remedy=remedy)


def offer(
    reactor: Any, port: Port, make: Callable[[], TwistedProtocol], full: type[TwistedProtocol], most: int
) -> tuple[str, Stop]:
    """Offer a shell: return where it is, for people to read, and what ends it. Raises ConfigurationError.

    A TCP port holds ``most`` connections at a time; further ones get the protocol ``full``.
    """
    try:
        if port.kind == "pty":
            _, stop = offer_terminal(reactor, port.path, make())
            return str(port), stop
        if port.kind == "serial":
            line = ServedLine(reactor, port.path, port.baud, make, log=_log, rtscts=port.rtscts)
            return str(port), line.stop
        factory: Any = LimitTotalConnectionsFactory()
        factory.protocol, factory.overflowProtocol, factory.connectionLimit = make, full, most
        factory.noisy = False
        listening = reactor.listenTCP(port.number, factory, interface=port.host)
    except (OSError, termios.error, CannotListenError) as error:
        raise ConfigurationError(
            f"cannot be opened: {cause(error)}", where=str(port), remedy="choose another, or stop what uses it"
        ) from None
    number = listening.getHost().port
    return str(msgspec.structs.replace(port, number=number)), listening.stopListening


def connect(reactor: Any, port: Port, protocol: TwistedProtocol) -> Deferred[Any]:
    """Connect to a shell; fires with nothing when it is there, fails with RemoteError if it is not."""
    try:
        if port.kind == "pty":
            TerminalTransport(reactor, protocol, open_terminal(port.path))
            return succeed(None)
        if port.kind == "serial":
            TerminalTransport(reactor, protocol, open_device(port.path, port.baud, rtscts=port.rtscts))
            return succeed(None)
    except (OSError, termios.error) as error:
        raise RemoteError(f"{port}: {cause(error)}") from None
    return _connect_tcp(reactor, port, protocol)


def _connect_tcp(reactor: Any, port: Port, protocol: TwistedProtocol) -> Deferred[Any]:
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol  # noqa: PLC0415

    endpoint = TCP6ClientEndpoint if ":" in port.host else TCP4ClientEndpoint
    connected: Deferred[Any] = connectProtocol(endpoint(reactor, port.host, port.number, timeout=10), protocol)

    def failed(failure: Failure) -> None:
        raise RemoteError(f"{port}: {failure.getErrorMessage()}")

    connected.addErrback(failed)
    return connected
