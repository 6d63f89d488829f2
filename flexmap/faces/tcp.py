"""Connections of a face on Twisted: octets in, octets out, limits on idle, slow and many peers.

What is spoken is a :class:`Conversation` of the protocol's server core.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Protocol, cast

from twisted.internet import tcp
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flexmap.faces.throttle import Throttle
from flexmap.model import RemoteError

TICK = 2.0
"""Seconds between two looks at a connection's time limits."""
FRAME_TIMEOUT = 60.0
"""Seconds in which a peer must finish a frame that it has begun."""
GRACE = 10.0
"""Seconds that a connection may take to prove itself before it must make room for others."""


class Conversation(Protocol):
    """One peer as a server core sees it: a connection of MMS or of the wrapper, a line of HDLC."""

    @property
    def backlog(self) -> bool:
        """Requests wait to be answered: call ``receive(b"")``."""

    @property
    def unfinished(self) -> bool:
        """A frame has begun and not ended."""

    @property
    def trusted(self) -> bool:
        """A secret has opened an association."""

    def receive(self, octets: bytes) -> bytes:
        """Return what is to be sent; raises RemoteError where the stream is out of step."""

    def expire(self) -> None:
        """End what has been silent for too long."""

    def close(self) -> None:
        """End all associations."""


Begin = Callable[[Callable[[bytes], None], Hashable], Conversation]
"""Begins a conversation: takes what sends octets that come late, and who the peer is."""


class Line(Protocol):
    """What a talk needs of its transport."""

    def write(self, data: bytes) -> None:
        """Send octets."""

    def pauseProducing(self) -> None:
        """Read no more."""

    def resumeProducing(self) -> None:
        """Read on."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Tell ``producer`` when the peer does not take what is written, and when it does again."""


@implementer(IPushProducer)
class Talk(TwistedProtocol):
    """Answers a peer. It stops reading while the peer does not take its replies, or has many to come."""

    def __init__(self, reactor: ReactorBase) -> None:
        self.reactor = reactor
        self.conversation: Conversation | None = None
        self.answered = 0.0
        """When the last reply went out."""
        self._paused = False
        self._later: DelayedCall | None = None

    def begin(self, conversation: Conversation) -> None:
        """Begin to answer."""
        self.conversation = conversation
        self.answered = self.reactor.seconds()
        self._line = cast("Line", self.transport)
        self._line.registerProducer(self, True)

    def answer(self, data: bytes) -> None:
        """Answer what has come; raises RemoteError."""
        conversation = self.conversation
        if conversation is None:
            return
        reply = conversation.receive(data)
        if reply:
            self.answered = self.reactor.seconds()
            self.write(reply)
        if conversation.backlog:
            self.put_off()

    def write(self, reply: bytes) -> None:
        """Send a reply."""
        self._line.write(reply)

    def put_off(self) -> None:
        """Answer what is left waiting later: other connections have their turn first."""
        if not self._paused:
            self._line.pauseProducing()
            self._later = self.reactor.callLater(0, self._go_on)

    def end(self) -> None:
        """End the conversation."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        conversation, self.conversation = self.conversation, None
        if conversation is not None:
            conversation.close()

    def _go_on(self) -> None:
        """Answer what was left waiting; read on once that is done and the peer has taken its replies."""
        self._later = None
        if self._paused or self.conversation is None:
            return
        if self.conversation.backlog:
            self.dataReceived(b"")
        if not self._paused and self._later is None:
            self._line.resumeProducing()

    def pauseProducing(self) -> None:
        """Read no more requests until the peer has taken its replies."""
        self._paused = True
        self._line.pauseProducing()

    def resumeProducing(self) -> None:
        """Answer what was left waiting, and read on."""
        self._paused = False
        if self._later is None:
            self._go_on()

    def stopProducing(self) -> None:
        """Nothing more will be written: the connection ends."""


class Gate:
    """Who may connect by TCP: so many at once, so many from one address.

    When all places are taken, the oldest connection that has proven nothing makes room, unless it is a newcomer.
    """

    def __init__(self, reactor: ReactorBase, *, most: int, most_per_address: int) -> None:
        self._reactor = reactor
        self._most = most
        self._most_per_address = most_per_address
        self._counts: Counter[Hashable] = Counter()
        # The oldest first. One that has proven itself since is found out when its turn comes.
        self._unproven: dict[TcpTalk, float] = {}
        self.open: set[TcpTalk] = set()
        self.accepted = 0
        self.refused = 0

    def refusal(self, origin: Hashable) -> str | None:
        """Return why a peer cannot connect now, or None."""
        if self._counts[origin] >= self._most_per_address:
            return f"{self._most_per_address} of its address are open"
        if len(self.open) >= self._most and not self._make_room():
            return f"{self._most} are open"
        return None

    def enter(self, talk: TcpTalk) -> None:
        """Count a connection."""
        self.accepted += 1
        self.open.add(talk)
        self._counts[talk.origin] += 1
        self._unproven[talk] = self._reactor.seconds()

    def leave(self, talk: TcpTalk) -> None:
        """Count a connection no more."""
        if talk in self.open:
            self.open.discard(talk)
            self._unproven.pop(talk, None)
            self._counts[talk.origin] -= 1
            if not self._counts[talk.origin]:
                del self._counts[talk.origin]

    def _make_room(self) -> bool:
        now = self._reactor.seconds()
        while self._unproven:
            talk, since = next(iter(self._unproven.items()))
            if now - since < GRACE:
                return False
            del self._unproven[talk]
            if talk.conversation is None or not talk.conversation.trusted:
                talk.abort("made room for another")
                return True
        return False

    def close(self) -> None:
        """Close every connection."""
        for talk in list(self.open):
            talk.abort()


def origin_of(address: IAddress | None) -> Hashable:
    """Return who has an address: the host, of IPv6 its network of 64 bits."""
    host = getattr(address, "host", "")
    try:
        ip: Any = ipaddress.ip_address(host)
    except ValueError:
        return host
    if ip.version == 4:
        return host
    return str(ip.ipv4_mapped) if ip.ipv4_mapped else f"{ipaddress.ip_network((int(ip) >> 64 << 64, 64))}"


class TcpFactory(Factory):
    """Accepts the TCP connections that the gate lets in, and closes those that stay silent."""

    noisy = False

    def __init__(
        self, begin: Begin, reactor: ReactorBase, tell: Throttle, log: Logger, *, gate: Gate, idle_timeout: float
    ) -> None:
        self.begin = begin
        self.tell = tell
        self.log = log
        self.reactor = reactor
        self.gate = gate
        self.idle_timeout = idle_timeout

    def buildProtocol(self, addr: IAddress | None) -> TcpTalk | None:
        """Return the protocol of a new connection, ``None`` (it is closed) if there are too many."""
        origin = origin_of(addr)
        refusal = self.gate.refusal(origin)
        if refusal is not None:
            self.gate.refused += 1
            self.tell(self.log.warn, "connection from {peer} refused: {why}", peer=addr, why=refusal)
            return None
        talk = self.talk(origin)
        self.gate.enter(talk)
        return talk

    def talk(self, origin: Hashable) -> TcpTalk:
        """Return a connection's protocol."""
        return TcpTalk(self, origin)


class TcpTalk(Talk):
    """One TCP connection.

    A peer that gets no reply for the time limit is silent, whatever it sends: an unfinished frame does not count.
    """

    def __init__(self, factory: TcpFactory, origin: Hashable) -> None:
        super().__init__(factory.reactor)
        self.origin = origin
        self._factory = factory
        self._watch: DelayedCall | None = None
        self._begun: float | None = None
        """Since when a frame has been unfinished, at the latest."""
        self._peer = ""

    @property
    def patience(self) -> float:
        """Seconds that the peer may be silent."""
        return self._factory.idle_timeout

    def connectionMade(self) -> None:
        """Begin to listen to the peer."""
        self._socket = cast("tcp.Connection", self.transport)
        self._socket.setTcpNoDelay(True)
        self._direct = isinstance(self._socket, tcp.Connection) and not self._socket.TLS
        self._peer = str(self._socket.getPeer())
        self.begin(self.converse())
        self._tick()

    def converse(self) -> Conversation:
        """Return the protocol core's side of the connection."""
        return self._factory.begin(self._socket.write, self.origin)

    def dataReceived(self, data: bytes) -> None:
        """Answer what has come."""
        try:
            self.answer(data)
        except RemoteError as error:
            self.abort(str(error), warn=True)

    def write(self, reply: bytes) -> None:
        """Send a reply, at once if nothing waits: a turn of the reactor would cost as much as the answer."""
        line = self._socket
        if self._direct and not (line.disconnecting or line.dataBuffer or line._tempDataBuffer):  # noqa: SLF001
            sent = line.writeSomeData(reply)
            if isinstance(sent, int) and sent >= 0:
                reply = reply[sent:]
        if reply:
            line.write(reply)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """End the connection's associations."""
        del reason
        self._factory.gate.leave(self)
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self.end()

    def abort(self, why: str = "", *, warn: bool = False) -> None:
        """Close the connection at once."""
        if why:
            log = self._factory.log
            emit = log.warn if warn else log.info
            self._factory.tell(emit, "{peer}: {why}; connection closed", peer=self._peer, why=why)
        self._factory.gate.leave(self)
        self._socket.unregisterProducer()
        self._socket.abortConnection()

    def _tick(self) -> None:
        conversation = self.conversation
        if conversation is None:
            return
        now, limit = self.reactor.seconds(), self.patience
        silent = now - self.answered
        if not conversation.unfinished:
            self._begun = None
        elif self._begun is None or self._begun < self.answered:
            self._begun = now
        if silent >= limit:
            self.abort(f"silent for {silent:.0f} s")
        elif self._begun is not None and now - self._begun >= FRAME_TIMEOUT:
            self.abort(f"a frame not finished in {FRAME_TIMEOUT:.0f} s")
        else:
            conversation.expire()
            self._watch = self.reactor.callLater(min(TICK, limit - silent), self._tick)
