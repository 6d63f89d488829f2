"""The server's side of the wrapper: streams and datagrams (IEC 62056-47)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import msgspec

from flexmap.dlms import acse
from flexmap.dlms.apdu import Tag
from flexmap.dlms.general_blocks import apdus_of
from flexmap.dlms.peer import EXTRA_TURNS, Peer, Pool
from flexmap.dlms.profile import Limits
from flexmap.dlms.wrapper import HEADER, VERSION, WrapperError, decode_datagram

if TYPE_CHECKING:
    from flexmap.dlms.server import Server

BROADCAST_SAP = 0x007F
"""All-station address of the wrapper (IEC 62056-47)."""
_MAX_DATAGRAM_APDU = 0xFFFF - 20 - 8 - 8
"""What a UDP datagram over IPv4 leaves for an APDU behind the wrapper's header."""
_RESPONSES = frozenset(
    bytes((tag,))
    for tag in (
        *(acse.AARE, acse.RLRE, Tag.CONFIRMED_SERVICE_ERROR, Tag.EXCEPTION_RESPONSE),
        *(Tag.GET_RESPONSE, Tag.SET_RESPONSE, Tag.ACTION_RESPONSE),
        *(Tag.GLO_GET_RESPONSE, Tag.GLO_SET_RESPONSE, Tag.GLO_ACTION_RESPONSE),
    )
)


class Connection:
    """One peer that speaks the wrapper: a TCP connection, or a UDP address."""

    __slots__ = ("_deliver", "_limits", "_peer", "_rest", "backlog", "paused", "proven")

    def __init__(
        self,
        server: Server,
        deliver: Callable[[bytes], None],
        pool: Pool,
        limits: Limits,
        origin: Hashable = None,
    ) -> None:
        self._limits = limits
        self._deliver = deliver
        self._peer = Peer(
            server,
            pool,
            limits,
            deliver=lambda key, reply: deliver(_reply(key, reply)),
            announce=self._announce,
            origin=origin,
        )
        self._rest = b""
        self.backlog = False
        """Frames may be waiting: call ``receive(b"")`` when the replies are written."""
        self.paused = False
        """The peer does not take what is written: it is told nothing unasked."""
        self.proven = False
        """A datagram came in an association that a secret has opened."""

    @property
    def associations(self) -> int:
        """Number of open and half-open associations."""
        return len(self._peer)

    @property
    def unfinished(self) -> bool:
        """A frame has begun and not ended."""
        return bool(self._rest)

    @property
    def trusted(self) -> bool:
        """A secret has opened an association."""
        return self._peer.trusted

    def expire(self) -> None:
        """Nothing ends by itself: the TCP connection has a time limit."""

    def receive(self, octets: bytes) -> bytes:
        """Return the replies to all frames that are complete with these octets, joined for one write.

        Raises WrapperError where the stream is out of step; the connection must be closed then.
        """
        if self._rest:
            octets = self._rest + octets
        at, size = 0, len(octets)
        replies: list[bytes] = []
        room, turns = self._limits.max_replies, self._limits.max_requests
        while size - at >= 8 and room > 0 and turns > 0:
            version, source, destination, length = HEADER.unpack_from(octets, at)
            if version != VERSION:
                self._rest = b""
                raise WrapperError(f"version {version} in a wrapper header")
            end = at + 8 + length
            if end > size:
                break
            if destination != BROADCAST_SAP:
                key, apdu = octets[at + 2 : at + 6], octets[at + 8 : end]
                turns -= EXTRA_TURNS.get(apdu[:1], 0)
                reply = self._peer.answer(key, source, destination, apdu)
                if reply:
                    replies.append(HEADER.pack(VERSION, destination, source, len(reply)) + reply)
                    room -= len(reply)
                else:
                    for each in apdus_of(reply):
                        replies.append(_reply(key, each))
                        room -= len(each)
            turns -= 1
            at = end
        self._rest = octets[at:]
        self.backlog = room <= 0 or turns <= 0
        return b"".join(replies)

    def receive_datagram(self, octets: bytes) -> bytes:
        """Return the reply to the one frame of a datagram; raises WrapperError if it is none.

        A response is never answered: under a forged address two servers would answer each other for ever.
        """
        source, destination, apdu = decode_datagram(octets)
        if apdu[:1] in _RESPONSES or destination == BROADCAST_SAP:
            return b""
        key = octets[2:6]
        reply = self._peer.answer(key, source, destination, apdu)
        self.proven = self.proven or self._peer.proven(key)
        if reply:
            return _reply(key, reply)
        for each in apdus_of(reply):
            self._deliver(_reply(key, each))
        return b""

    def _announce(self, key: bytes, apdu: bytes) -> bool:
        if not self.paused:
            self._deliver(_reply(key, apdu))
        return not self.paused

    def close(self) -> None:
        """End all associations: the peer is gone."""
        self._peer.close()


def _reply(key: bytes, apdu: bytes) -> bytes:
    """Return the frame that goes back to where ``key`` (source and destination wPort) came from."""
    return b"\x00\x01" + key[2:] + key[:2] + len(apdu).to_bytes(2, "big") + apdu


class Datagrams:
    """The peers of one UDP port; the one silent longest makes room for a new one, unproven ones first."""

    def __init__(self, server: Server, deliver: Callable[[Hashable, bytes], None]) -> None:
        self._server = server
        self._deliver = deliver
        limits = server.limits
        self._pool = Pool(limits.max_all_associations // 4, limits.max_unproven_associations // 4)
        self._unproven: OrderedDict[Hashable, Connection] = OrderedDict()
        self._proven: OrderedDict[Hashable, Connection] = OrderedDict()
        self._limits = msgspec.structs.replace(
            server.limits,
            max_pdu=min(server.limits.max_pdu, _MAX_DATAGRAM_APDU),
            max_unproven=server.limits.max_unproven_datagram,
            proven_release=True,
        )

    def receive(self, peer: Hashable, octets: bytes) -> bytes:
        """Return the reply to a datagram, empty if none is due; a datagram that is no frame is dropped."""
        connection = self._proven.pop(peer, None) or self._unproven.pop(peer, None)
        if connection is None:
            # The address may be forged: what fails here must not lock out the connections of who really has it.
            origin = ("datagram", peer[0] if isinstance(peer, tuple) else peer)
            self._make_room_for_silent(octets)
            connection = Connection(
                self._server, lambda late: self._deliver(peer, late), self._pool, self._limits, origin
            )
        if octets[8:9] == bytes((acse.AARQ,)):
            self._make_room()
        try:
            return connection.receive_datagram(octets)
        except WrapperError:
            return b""
        finally:
            if connection.associations:
                (self._proven if connection.proven else self._unproven)[peer] = connection

    def _make_room_for_silent(self, octets: bytes) -> None:
        """Make room if a pre-established association will open with the first datagram of a peer."""
        client = self._server.clients.get(int.from_bytes(octets[2:4], "big"))
        if client is not None and client.pre_established:
            self._make_room()

    def _make_room(self) -> None:
        """Forget peers until another one, with another association, can come."""
        while (peers := self._unproven or self._proven) and (
            self._pool.full or len(self._unproven) + len(self._proven) >= self._limits.max_datagram_peers
        ):
            peers.popitem(last=False)[1].close()

    def close(self) -> None:
        """End all associations."""
        for peers in (self._unproven, self._proven):
            while peers:
                peers.popitem()[1].close()
