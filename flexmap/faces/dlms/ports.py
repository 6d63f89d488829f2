"""The ports of the DLMS face: wrapper over TCP and UDP, HDLC over TCP and on serial lines."""

from __future__ import annotations

import ipaddress
import termios
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from flexmap.dlms import axdr, channel_classes
from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.objects import ObjectDefinition, SlotValue
from flexmap.dlms.optical import OPENING_SPEED, SignOn
from flexmap.dlms.server import Server
from flexmap.faces.dlms.datagrams import WrapperDatagrams
from flexmap.faces.dlms.serial_line import SerialTalk
from flexmap.faces.dlms.wrapper_tcp import WrapperFactory
from flexmap.faces.tcp import Begin, Gate, TcpFactory
from flexmap.faces.throttle import Throttle
from flexmap.lines.served import ServedLine
from flexmap.lines.terminal import cause, offer_terminal
from flexmap.model import ConfigurationError

log = Logger(namespace="flexmap.dlms")
_UDP_TURN = 8192
"""Octets of datagrams that are answered before others have their turn; Twisted's 256 KiB can be 4000 AARQs."""
_TCP_SEGMENT = 1460
"""Octets of a TCP segment over Ethernet and IPv4: what class 41 shows as MSS."""


class WrapperPort(msgspec.Struct, frozen=True, kw_only=True):
    """The wrapper on an address; of TCP and UDP both or one."""

    host: str
    port: int
    tcp: bool = True
    udp: bool = True
    where: str = "[dlms] listen"
    """Names the entry of the configuration in errors."""


class HdlcPort(msgspec.Struct, frozen=True, kw_only=True):
    """HDLC over TCP."""

    host: str
    port: int
    hdlc: HdlcSettings = HdlcSettings()
    where: str = "[[dlms.listener]]"


class SerialPort(msgspec.Struct, frozen=True, kw_only=True):
    """HDLC on a serial device, or on a pseudo-terminal that is made."""

    path: str
    made: bool = False
    """Make a pseudo-terminal, with a link to it at ``path``."""
    speed: int = 9600
    """Bit/s of HDLC."""
    mode_e: bool = False
    """Begin with the optical port's sign-on at 300 bit/s."""
    maker: str = "FMX"
    """Three letters of the identification."""
    address: str = ""
    """Device address of the sign-on."""
    hdlc: HdlcSettings = HdlcSettings(inter_octet_timeout=0.5)
    where: str = "[[dlms.listener]]"


PortSettings = WrapperPort | HdlcPort | SerialPort


class PortObject(NamedTuple):
    """A COSEM object that describes a port, and what stands in its slots by attribute."""

    definition: ObjectDefinition
    values: dict[int, SlotValue]


class Ports:
    """All ports of the face. ``objects`` describes them for the management logical device, from the start on."""

    def __init__(
        self,
        reactor: PosixReactorBase,
        settings: Sequence[PortSettings],
        *,
        idle_timeout: float,
        max_connections: int,
        max_connections_per_address: int,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._idle_timeout = idle_timeout
        self._max_connections = max_connections
        self.gate = Gate(reactor, most=max_connections, most_per_address=max_connections_per_address)
        self._numbers = {channel: _number(port) for channel, port in enumerate(settings)}
        """Channel → TCP or UDP port, as chosen by the system once open."""
        self._stops: list[Callable[[], Any]] = []
        self._lines: dict[int, ServedLine] = {}
        self.listening = False

    @property
    def addresses(self) -> list[str]:
        """Where the ports are, for people to read."""
        return [self._address(channel, port) for channel, port in enumerate(self._settings)]

    @property
    def gone(self) -> list[str]:
        """Serial devices that are not there now."""
        return [self._address(channel, self._settings[channel]) for channel, line in self._lines.items()
                if not line.there]  # fmt: skip

    def open(self, server: Server, tell: Throttle) -> None:
        """Listen; raises ConfigurationError, with nothing left open, if one of the ports cannot be had."""
        for channel, port in enumerate(self._settings):
            try:
                self._open(channel, port, server, tell)
            except (OSError, termios.error, CannotListenError) as error:
                self.close()
                raise ConfigurationError(
                    f"cannot listen on {self._address(channel, port)}: {cause(error)}",
                    where=port.where,
                    remedy="stop what uses it or choose another port",
                ) from None
            log.info("DLMS on {address}", address=self._address(channel, port))
        self.listening = True

    def close(self) -> Deferred[Any]:
        """Close every connection and listen no more."""
        self.listening = False
        self.gate.close()
        stops, self._stops = self._stops, []
        self._lines.clear()
        return gatherResults([maybeDeferred(stop) for stop in stops])

    def objects(self) -> list[PortObject]:
        """Return what describes the ports; a port's channel, group B of the names, is its place in the list."""
        return [item for channel, port in enumerate(self._settings) for item in self._describe(channel, port)]

    def _open(self, channel: int, port: PortSettings, server: Server, tell: Throttle) -> None:
        match port:
            case WrapperPort():
                if port.tcp:
                    self._listen(channel, port.host, server.connection, tell, WrapperFactory)
                if port.udp:
                    datagrams = WrapperDatagrams(server, tell)
                    self._stops.append(datagrams.close)
                    number = self._numbers[channel]
                    udp: Any = self._reactor.listenUDP(number, datagrams, port.host, 65535)
                    udp.maxThroughput = _UDP_TURN
                    self._numbers[channel] = int(udp.getHost().port)
                    self._stops.append(udp.stopListening)
            case HdlcPort():
                clock = self._reactor.seconds
                self._listen(
                    channel,
                    port.host,
                    lambda deliver, origin: server.line(port.hdlc, deliver, clock, origin),
                    tell,
                )
            case SerialPort():
                self._serve_line(channel, port, server)

    def _listen(
        self, channel: int, host: str, begin: Begin, tell: Throttle, kind: type[TcpFactory] = TcpFactory
    ) -> None:
        factory = kind(begin, self._reactor, tell, log, gate=self.gate, idle_timeout=self._idle_timeout)
        tcp: Any = self._reactor.listenTCP(self._numbers[channel], factory, interface=host)
        self._numbers[channel] = int(tcp.getHost().port)
        self._stops.append(tcp.stopListening)

    def _serve_line(self, channel: int, port: SerialPort, server: Server) -> None:
        def make() -> SerialTalk:
            sign_on = SignOn(port.maker, port.speed, address=port.address) if port.mode_e else None
            return SerialTalk(self._reactor, server, port.path, port.hdlc, sign_on)

        if port.made:
            _, stop = offer_terminal(self._reactor, port.path, make())
        else:
            line = ServedLine(self._reactor, port.path, port.speed, make, log=log)
            self._lines[channel], stop = line, line.stop
        self._stops.append(stop)

    def _address(self, channel: int, port: PortSettings) -> str:
        match port:
            case WrapperPort():
                kinds = " and ".join(name for name, on in (("TCP", port.tcp), ("UDP", port.udp)) if on)
                return f"{port.host}:{self._numbers[channel]} (wrapper, {kinds})"
            case HdlcPort():
                return f"{port.host}:{self._numbers[channel]} (HDLC, TCP)"
            case SerialPort():
                return f"{port.path} (HDLC{', mode E' if port.mode_e else ''})"

    def _describe(self, channel: int, port: PortSettings) -> list[PortObject]:
        objects: list[PortObject] = []
        if isinstance(port, WrapperPort | HdlcPort):
            objects += self._describe_ip(channel, port.host)
        if isinstance(port, HdlcPort | SerialPort):
            hdlc, speed = port.hdlc, port.speed if isinstance(port, SerialPort) else 115_200
            definition = channel_classes.hdlc_setup(
                channel,
                window=hdlc.window,
                max_info=hdlc.max_info,
                inter_octet_timeout=hdlc.inter_octet_timeout,
                inactivity_timeout=hdlc.inactivity_timeout,
                device_address=hdlc.device_address,
            )
            objects.append(PortObject(definition, {2: channel_classes.speed_value(speed)}))
        if isinstance(port, SerialPort) and port.mode_e:
            definition = channel_classes.local_port_setup(
                channel, opening_speed=OPENING_SPEED, speed=port.speed, address=port.address
            )
            objects.append(PortObject(definition, {}))
        return objects

    def _describe_ip(self, channel: int, host: str) -> list[PortObject]:
        ip = ipaddress.ip_address(host)
        name = channel_classes.ipv4_ln(channel) if ip.version == 4 else b""
        setup = channel_classes.tcp_udp_setup(
            channel,
            ip=name,
            max_segment=_TCP_SEGMENT,
            connections=self._max_connections,
            inactivity_timeout=self._idle_timeout,
        )
        objects = [PortObject(setup, {2: lambda: axdr.encode("long-unsigned", self._numbers[channel])})]
        if ip.version == 4:
            objects.append(PortObject(channel_classes.ipv4_setup(channel, address=ip.packed), {}))
        return objects


def _number(port: PortSettings) -> int:
    return 0 if isinstance(port, SerialPort) else port.port
