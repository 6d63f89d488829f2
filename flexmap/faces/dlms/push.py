"""Push on Twisted: data notifications to a head-end that listens, tried again while it is down.

What cannot be delivered waits in memory, for each destination, until an attempt succeeds; the oldest is given up
when there is too much of it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IAddress
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.dlms import hdlc
from flexmap.dlms.notification import confirmed_invoke
from flexmap.dlms.push_setup import Destination, PushSetup, Transport
from flexmap.dlms.wrapper import HEADER
from flexmap.dlms.wrapper import encode as wrapped
from flexmap.faces.throttle import Throttle
from flexmap.model.error import RemoteError

log = Logger(namespace="flexmap.dlms.push")

MOST_WAITING = 10_000
"""Notifications that wait for one destination."""
SETTLED = 1.0
"""Seconds that a connection must hold after unconfirmed notifications; they go again if it does not."""
IDLE = 30.0
"""Seconds after which a connection without anything to send is closed."""
LONG_PAUSE = 60.0
"""Seconds after all attempts until a letter that must not be given up is tried anew."""
CONFIRMATION = 10.0
"""Seconds in which a head-end must confirm."""
_CONNECT = 10.0
_MOST_CONFIRM = 2048
_CLOSED_WINDOW = 30.0
_CONFIRM = b"\x10"
"""Tag of data-notification-confirm."""


class Letter(msgspec.Struct, frozen=True):
    """One notification on its way."""

    apdu: bytes
    server: int
    """SAP of the logical device that sends it."""
    client: int
    invoke: int
    setup: PushSetup
    opened: Callable[[bytes], bytes]
    """Returns the plain APDU of what the head-end answers; raises RemoteError."""
    confirmed: Callable[[], None]
    """Told when the head-end has confirmed."""
    delivered: Callable[[], None] | None = None
    """Told once it counts as delivered; a letter that somebody waits for so is never given up."""


class Outbox:
    """What waits for one destination, and the connection to it."""

    def __init__(self, reactor: PosixReactorBase, destination: Destination, post: Post) -> None:
        self.waiting: deque[Letter] = deque()
        self._reactor = reactor
        self._destination = destination
        self._post = post
        self._talk: _Talk | None = None
        self._later: DelayedCall | None = None
        self._connector: Any = None
        self._attempt = 0
        self._sent = 0
        """How many of the letters are out, but not yet settled or confirmed."""

    def put(self, letter: Letter, *, after: float) -> None:
        """Send a letter once ``after`` seconds have passed, unless an attempt comes before."""
        if len(self.waiting) >= MOST_WAITING:
            self.waiting.popleft()
            self._sent = max(0, self._sent - 1)
            self._post.lost += 1
        self.waiting.append(letter)
        if self._later is None and self._connector is None:
            self._attempt = 0
            self._arm(after)
        elif self._talk is not None and not self._sent:
            self._arm(after)

    def close(self) -> None:
        """Send nothing more."""
        self.waiting.clear()
        self._disarm()
        if self._connector is not None:
            self._connector.disconnect()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._later = self._reactor.callLater(seconds, self._go)

    def _disarm(self) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None

    def _go(self) -> None:
        self._later = None
        if not self.waiting:
            if self._connector is not None:
                self._connector.disconnect()
            return
        setup = self.waiting[0].setup
        if not setup.open_at(int(self._reactor.seconds() * 1000)):
            self._arm(_CLOSED_WINDOW)
        elif self._destination.transport == Transport.UDP:
            self._send_datagrams()
        elif self._talk is not None:
            self._send()
        elif self._connector is None:
            where = self._destination
            factory = _Factory(self)
            self._connector = self._reactor.connectTCP(where.host, where.port, factory, timeout=_CONNECT)

    def _send(self) -> None:
        """Send what waits: one letter where it is to be confirmed, else all."""
        talk = self._talk
        if talk is None:
            return
        first = self.waiting[0]
        letters = [first] if first.setup.confirmed else [each for each in self.waiting if not each.setup.confirmed]
        if not first.setup.confirmed:
            rest = [each for each in self.waiting if each.setup.confirmed]
            self.waiting = deque(letters + rest)
        self._sent = len(letters)
        for letter in letters:
            talk.send(_framed(self._destination, letter))
        self._later = self._reactor.callLater(
            CONFIRMATION if first.setup.confirmed else SETTLED,
            self._overdue if first.setup.confirmed else self._settled,
        )

    def _settled(self) -> None:
        """Take what went out as delivered: the connection still stands."""
        self._later = None
        for _ in range(self._sent):
            _told(self.waiting.popleft())
        self._post.sent += self._sent
        self._sent = self._attempt = 0
        self._arm(0 if self.waiting else IDLE)

    def _overdue(self) -> None:
        self._later = None
        if self._connector is not None:
            self._connector.disconnect()

    def answered(self, apdu: bytes) -> None:
        """Take what the head-end sends: a confirmation, or nothing of interest."""
        if not self._sent or not self.waiting or not self.waiting[0].setup.confirmed:
            return
        letter = self.waiting[0]
        try:
            plain = letter.opened(apdu)
            if plain[:1] != _CONFIRM or confirmed_invoke(plain) != letter.invoke:
                return
        except RemoteError as error:
            self._post.tell(log.warn, "no confirmation: {error}", error=str(error))
            return
        self._disarm()
        letter.confirmed()
        self._settled()

    def connected(self, talk: _Talk) -> None:
        """Begin to send."""
        self._talk = talk
        self._go()

    def lost(self, why: str) -> None:
        """Try again later what is not delivered."""
        self._talk = self._connector = None
        self._sent = 0
        self._disarm()
        if not self.waiting:
            return
        self._attempt += 1
        setup = self.waiting[0].setup
        if self._attempt <= setup.retries:
            delay = setup.repetition(self._attempt)
            self._post.tell(log.info, "push to {where}: {why}; again in {delay:.0f} s",
                            where=self._destination.address, why=why, delay=delay)  # fmt: skip
            self._arm(delay)
        elif any(letter.delivered for letter in self.waiting):
            self._attempt = 0
            self._arm(max(setup.repetition(setup.retries), LONG_PAUSE))
        else:
            self._post.tell(log.warn, "push to {where}: {why}; {count} wait for the next one",
                            where=self._destination.address, why=why, count=len(self.waiting))  # fmt: skip

    def _send_datagrams(self) -> None:
        while self.waiting:
            letter = self.waiting.popleft()
            self._post.datagram(self._destination, _framed(self._destination, letter))
            self._post.sent += 1
            _told(letter)
        self._attempt = 0


def _told(letter: Letter) -> None:
    if letter.delivered is not None:
        letter.delivered()


def _framed(destination: Destination, letter: Letter) -> bytes:
    if destination.transport == Transport.HDLC:
        # An unnumbered frame: the head-end's station is the destination, the logical device the source.
        addresses = hdlc.encode_station(letter.client) + hdlc.encode_station(letter.server, octets=2)
        return hdlc.encode(addresses, hdlc.Command.UI, b"\xe6\xe7\x00" + letter.apdu)
    return wrapped(letter.server, letter.client, letter.apdu)


class _Talk(Protocol):
    """The connection to a head-end."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._rest = b""

    def connectionMade(self) -> None:
        self._outbox.connected(self)

    def send(self, octets: bytes) -> None:
        cast("Any", self.transport).write(octets)

    def dataReceived(self, data: bytes) -> None:
        """Look for confirmations; nothing else is expected."""
        self._rest += data
        while len(self._rest) >= HEADER.size:
            version, _, _, length = HEADER.unpack_from(self._rest)
            if version != 1 or length > _MOST_CONFIRM:
                cast("Any", self.transport).abortConnection()
                return
            if len(self._rest) < HEADER.size + length:
                return
            apdu, self._rest = self._rest[8 : 8 + length], self._rest[8 + length :]
            self._outbox.answered(apdu)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._outbox.lost("the connection ended" if reason is None else reason.getErrorMessage())


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def buildProtocol(self, addr: IAddress | None) -> _Talk:
        del addr
        return _Talk(self._outbox)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        del connector
        self._outbox.lost(reason.getErrorMessage())


class Post:
    """Sends letters to where they go."""

    def __init__(self, reactor: PosixReactorBase, tell: Throttle) -> None:
        self._reactor = reactor
        self._outboxes: dict[Destination, Outbox] = {}
        self._udp: dict[str, Any] = {}
        self.tell = tell
        self.sent = 0
        self.lost = 0

    @property
    def waiting(self) -> int:
        """Notifications that are not delivered yet."""
        return sum(len(outbox.waiting) for outbox in self._outboxes.values())

    def put(self, letter: Letter) -> None:
        """Send a letter, after the random delay of its setup."""
        destination = letter.setup.destination
        outbox = self._outboxes.get(destination)
        if outbox is None:
            outbox = self._outboxes[destination] = Outbox(self._reactor, destination, self)
        most = letter.setup.randomisation
        outbox.put(letter, after=random.uniform(0, most) if most else 0.0)  # noqa: S311 (spreads load, keeps no secret)

    def datagram(self, destination: Destination, octets: bytes) -> None:
        """Send one datagram."""
        interface = "::" if ":" in destination.host else ""
        if interface not in self._udp:
            self._udp[interface] = self._reactor.listenUDP(0, DatagramProtocol(), interface)
        try:
            self._udp[interface].write(octets, (destination.host, destination.port))
        except OSError as error:
            self.tell(log.warn, "push to {where}: {error}", where=destination.address, error=str(error))

    def close(self) -> None:
        """Send nothing more."""
        for outbox in self._outboxes.values():
            outbox.close()
        for port in self._udp.values():
            port.stopListening()
