"""The wrapper over TCP and UDP (IEC 62056-47) on Twisted: octets in, octets out, limits on idle and slow peers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

from twisted.internet import tcp, udp
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flexmap.dlms.server import Server
from flexmap.dlms.wrapper import WrapperError
from flexmap.dlms.wrapper_server import Connection
from flexmap.faces.dlms.throttle import Throttle

log = Logger(namespace="flexmap.dlms")


class WrapperFactory(Factory):
    """Accepts TCP connections up to a limit and closes those that stay silent."""

    noisy = False

    def __init__(
        self, server: Server, reactor: ReactorBase, tell: Throttle, *, idle_timeout: float, max_connections: int
    ) -> None:
        self.server = server
        self.tell = tell
        self.reactor = reactor
        self.idle_timeout = idle_timeout
        self.max_connections = max_connections
        self.open: set[WrapperProtocol] = set()
        self.accepted = 0
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> WrapperProtocol | None:
        """Return the protocol of a new connection, ``None`` (it is closed) if there are too many."""
        if len(self.open) >= self.max_connections:
            self.refused += 1
            text = "connection from {peer} refused: {limit} are open"
            self.tell(log.warn, text, peer=addr, limit=self.max_connections)
            return None
        self.accepted += 1
        return WrapperProtocol(self)

    def close(self) -> None:
        """Close every connection."""
        for protocol in list(self.open):
            protocol.abort()


@implementer(IPushProducer)
class WrapperProtocol(Protocol):
    """One TCP connection. It stops reading while the peer does not take its replies, or has many to come.

    A peer that gets no reply for the time limit is silent, whatever it sends: an unfinished frame does not count.
    """

    def __init__(self, factory: WrapperFactory) -> None:
        self._factory = factory
        self._connection: Connection | None = None
        self._idle: DelayedCall | None = None
        self._heard = 0.0
        self._paused = False
        self._later: DelayedCall | None = None
        self._peer = ""

    def connectionMade(self) -> None:
        """Begin to listen to the peer."""
        self._socket = cast("tcp.Connection", self.transport)
        self._socket.setTcpNoDelay(True)
        peer = self._socket.getPeer()
        self._peer = str(peer)
        self._connection = self._factory.server.connection(self._socket.write, peer.host)
        self._factory.open.add(self)
        self._socket.registerProducer(self, True)
        self._heard = self._factory.reactor.seconds()
        self._watch(self._factory.idle_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Answer what has come."""
        connection = self._connection
        if connection is None:
            return
        try:
            reply = connection.receive(data)
        except WrapperError as error:
            text = "{peer}: {error}; connection closed"
            self._factory.tell(log.warn, text, peer=self._peer, error=str(error))
            self.abort()
            return
        if reply:
            self._heard = self._factory.reactor.seconds()
            self._socket.write(reply)
        if connection.backlog and not self._paused:
            # Other connections have their turn first.
            self._socket.pauseProducing()
            self._later = self._factory.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        """Answer what was left waiting; read on once that is done and the peer has taken its replies."""
        self._later = None
        if self._paused or self._connection is None:
            return
        if self._connection.backlog:
            self.dataReceived(b"")
        if not self._paused and self._later is None:
            self._socket.resumeProducing()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """End the connection's associations."""
        del reason
        self._factory.open.discard(self)
        for call in (self._idle, self._later):
            if call is not None and call.active():
                call.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def pauseProducing(self) -> None:
        """Read no more requests until the peer has taken its replies."""
        self._paused = True
        self._socket.pauseProducing()

    def resumeProducing(self) -> None:
        """Answer what was left waiting, and read on."""
        self._paused = False
        if self._later is None:
            self._go_on()

    def stopProducing(self) -> None:
        """Nothing more will be written: the connection ends."""

    def abort(self) -> None:
        """Close the connection at once."""
        self._socket.unregisterProducer()
        self._socket.abortConnection()

    def _watch(self, seconds: float) -> None:
        self._idle = self._factory.reactor.callLater(seconds, self._check_idle)

    def _check_idle(self) -> None:
        silent = self._factory.reactor.seconds() - self._heard
        if silent < self._factory.idle_timeout:
            self._watch(self._factory.idle_timeout - silent)
            return
        self._factory.tell(log.info, "{peer}: silent for {seconds:.0f} s, closed", peer=self._peer, seconds=silent)
        self.abort()


class WrapperDatagrams(DatagramProtocol):
    """The UDP port: one frame in, at most one out."""

    noisy = False

    def __init__(self, server: Server, tell: Throttle) -> None:
        self._tell = tell
        self._datagrams = server.datagrams(self._send)

    def startProtocol(self) -> None:
        """Begin to answer."""
        self._port = cast("udp.Port", self.transport)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer a datagram."""
        reply = self._datagrams.receive(addr, datagram)
        if reply:
            self._send(addr, reply)

    def close(self) -> None:
        """End all associations."""
        self._datagrams.close()

    def _send(self, peer: Hashable, octets: bytes) -> None:
        try:
            self._port.write(octets, cast("tuple[str, int]", peer))
        except OSError as error:
            text = "reply of {size} octets to {peer}: {error}"
            self._tell(log.warn, text, size=len(octets), peer=peer, error=str(error))
