"""The DLMS/COSEM server core: feed it octets, write what it returns.

::

    server = Server(devices, clients, title=b"FLX...", counters=store, random=os.urandom, on_event=log)
    connection = server.connection(deliver=transport.write)     # one per TCP connection
    transport.write(connection.receive(octets))                 # raises WrapperError: close the connection
    connection.close()                                          # when it is lost
    datagrams = server.datagrams(deliver=lambda peer, octets: port.write(octets, peer))
    reply = datagrams.receive(peer, octets)                     # UDP: one frame in, at most one out

An exception out of a device (``on_set``, ``on_action``, a callable value) passes through ``receive``: log it and
close the connection.

``devices`` maps server SAP to LogicalDevice and ``clients`` client SAP to ClientProfile; both may change while
the server runs (open associations keep what they opened with).

State is per connection, client SAP and server SAP. Choices the standard leaves open: an AARQ to an unknown
server or client SAP is refused by an AARE, any other APDU without association gets an exception response, frames
to the broadcast address 127 are dropped, and an AARQ that is accepted replaces the association that is open (one
that is refused leaves it).

A client may ask for far more than it sends. ``receive`` therefore stops after ``Limits.max_replies`` octets of
replies or ``Limits.max_requests`` requests, and ``connection.backlog`` is true: once the replies are written, call
``receive(b"")``, and do not read from the peer meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import msgspec

from flexmap.dlms import acse
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import AcseError, Diagnostic
from flexmap.dlms.apdu import ServiceError, StateError, Tag
from flexmap.dlms.association import Association, Opening, RefusalError
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import LogicalDevice
from flexmap.dlms.profile import AssociationEvent, ClientProfile, EventKind, Limits
from flexmap.dlms.security import Ciphering, CounterStore, Keys, SecurityError
from flexmap.dlms.wrapper import HEADER, VERSION, WrapperError, decode_datagram

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
_NO_ASSOCIATION = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE)
_TOO_LONG = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.PDU_TOO_LONG)


class Pool:
    """How many associations some connections hold together, and the most that they may."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    @property
    def full(self) -> bool:
        """There is room for no other one."""
        return self.used >= self.most


class Server:
    """Logical devices, clients and keys: what all connections share."""

    def __init__(
        self,
        devices: Mapping[int, LogicalDevice],
        clients: Mapping[int, ClientProfile],
        *,
        title: bytes,
        counters: CounterStore,
        random: Callable[[int], bytes],
        on_event: Callable[[AssociationEvent], None] = lambda _: None,
        limits: Limits | None = None,
    ) -> None:
        self.devices = devices
        self.clients = clients
        self.title = title
        """The server's system title, eight octets."""
        self.limits = limits or Limits()
        self._counters = counters
        self._random = random
        self._on_event = on_event
        self._ciphering: dict[Keys, Ciphering] = {}
        self._pool = Pool(self.limits.max_all_associations)

    def connection(self, deliver: Callable[[bytes], None]) -> Connection:
        """Return the state of one TCP connection; ``deliver`` takes frames that come late (pending actions)."""
        return Connection(self, deliver, self._pool, self.limits)

    def datagrams(self, deliver: Callable[[Hashable, bytes], None]) -> Datagrams:
        """Return the state of one UDP port; ``deliver`` takes a peer and a frame that comes late."""
        return Datagrams(self, deliver)

    def ciphering(self, keys: Keys) -> Ciphering:
        """Return the one ciphering of these keys, so that their counters are one sequence."""
        ciphering = self._ciphering.get(keys)
        if ciphering is None:
            ciphering = self._ciphering[keys] = Ciphering(keys, self.title, self._counters)
        return ciphering

    def open(
        self, client_sap: int, server_sap: int, apdu: bytes, *, limits: Limits, full: bool
    ) -> tuple[Association | None, bytes]:
        """Return the association that an AARQ asks for, or none, and the AARE; ``full``: there is no room."""

        def report(kind: EventKind, reason: str) -> None:
            self._on_event(AssociationEvent(kind, client_sap, server_sap, reason))

        context: int | None = None
        try:
            aarq = acse.decode_aarq(apdu)
            context = aarq.context
            device, client = self._parties(client_sap, server_sap, full=full)
            opening = Opening(
                device,
                client,
                ciphering=None if client.keys is None else self.ciphering(client.keys),
                limits=limits,
                random=self._random,
                report=report,
            )
            association, aare = opening.open(aarq)
        except AcseError as error:
            refusal = RefusalError(f"malformed AARQ: {error}", 1, provider=True)
            report(EventKind.REFUSED, str(refusal))
            return None, refusal.aare()
        except RefusalError as refusal:
            report(EventKind.REFUSED, str(refusal))
            return None, refusal.aare(context)
        if client.mechanism < acse.Mechanism.HLS:
            report(EventKind.OPENED, "")
        return association, aare

    def _parties(self, client_sap: int, server_sap: int, *, full: bool) -> tuple[LogicalDevice, ClientProfile]:
        device, client = self.devices.get(server_sap), self.clients.get(client_sap)
        if device is None:
            raise RefusalError("no such logical device", Diagnostic.CALLED_AP_TITLE_NOT_RECOGNIZED)
        if client is None:
            raise RefusalError("no such client")
        if full:
            raise RefusalError("too many associations", transient=True)
        return device, client

    def report(self, kind: EventKind, client_sap: int, server_sap: int, reason: str) -> None:
        """Pass an event on to the log."""
        self._on_event(AssociationEvent(kind, client_sap, server_sap, reason))


class Connection:
    """The associations of one peer: a TCP connection or a UDP address."""

    __slots__ = ("_associations", "_deliver", "_limits", "_pool", "_rest", "_server", "backlog", "proven")

    def __init__(self, server: Server, deliver: Callable[[bytes], None], pool: Pool, limits: Limits) -> None:
        self._server = server
        self._pool = pool
        self._limits = limits
        self._deliver = deliver
        self._rest = b""
        self.backlog = False
        """Frames may be waiting: call ``receive(b"")`` when the replies are written."""
        self.proven = False
        """A datagram came in an association that a secret has opened."""
        # Key: source and destination wPort as they stand in the frame. Value: association, head of replies.
        self._associations: dict[bytes, tuple[Association, bytes]] = {}

    @property
    def associations(self) -> int:
        """Number of open and half-open associations."""
        return len(self._associations)

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
            version, _, _, length = HEADER.unpack_from(octets, at)
            if version != VERSION:
                self._rest = b""
                raise WrapperError(f"version {version} in a wrapper header")
            end = at + 8 + length
            if end > size:
                break
            reply = self._frame(octets[at + 2 : at + 6], octets[at + 8 : end])
            replies.append(reply)
            room -= len(reply)
            turns -= 1
            at = end
        self._rest = octets[at:]
        self.backlog = room <= 0 or turns <= 0
        return b"".join(replies)

    def receive_datagram(self, octets: bytes) -> bytes:
        """Return the reply to the one frame of a datagram; raises WrapperError if it is none.

        A response is never answered: under a forged address two servers would answer each other for ever.
        """
        decode_datagram(octets)
        key, apdu = octets[2:6], octets[8:]
        if apdu[:1] in _RESPONSES:
            return b""
        reply = self._frame(key, apdu)
        entry = self._associations.get(key)
        self.proven = self.proven or (entry is not None and entry[0].proven)
        return reply

    def close(self) -> None:
        """End all associations: the peer is gone."""
        associations, self._associations = self._associations, {}
        self._pool.used -= len(associations)
        for association, _ in associations.values():
            association.close()

    def _frame(self, key: bytes, apdu: bytes) -> bytes:
        entry = self._associations.get(key)
        if entry is not None and apdu[:1] not in (b"\x60", b"\x62"):
            association, head = entry
            reply = association.handle(apdu) if len(apdu) <= self._limits.max_pdu else _TOO_LONG
        else:
            head = b"\x00\x01" + key[2:] + key[:2]
            reply = self._control(key, apdu, entry)
        return head + len(reply).to_bytes(2, "big") + reply if reply else b""

    def _control(self, key: bytes, apdu: bytes, entry: tuple[Association, bytes] | None) -> bytes:
        """Answer an AARQ, an RLRQ, or what comes without an association."""
        client_sap, server_sap = int.from_bytes(key[:2], "big"), int.from_bytes(key[2:], "big")
        if (server_sap == BROADCAST_SAP and server_sap not in self._server.devices) or not apdu:
            return b""
        if apdu[0] == acse.AARQ:
            return self._open(key, client_sap, server_sap, apdu, entry)
        if apdu[0] != acse.RLRQ:
            return _NO_ASSOCIATION
        return self._release(key, client_sap, server_sap, apdu, entry)

    def _open(
        self, key: bytes, client_sap: int, server_sap: int, apdu: bytes, entry: tuple[Association, bytes] | None
    ) -> bytes:
        full = entry is None and (len(self._associations) >= self._limits.max_associations or self._pool.full)
        association, aare = self._server.open(client_sap, server_sap, apdu, limits=self._limits, full=full)
        if association is None:
            return aare
        if entry is None:
            self._pool.used += 1
        else:
            entry[0].close()
        head = b"\x00\x01" + key[2:] + key[:2]
        association.deliver = lambda reply: self._deliver(head + len(reply).to_bytes(2, "big") + reply)
        self._associations[key] = (association, head)
        return aare

    def _release(
        self, key: bytes, client_sap: int, server_sap: int, apdu: bytes, entry: tuple[Association, bytes] | None
    ) -> bytes:
        if entry is None:
            return acse.encode_release(acse.Release(reason=0), acse.RLRE)
        try:
            reply = entry[0].release(apdu)
        except (AcseError, AxdrError, SecurityError) as error:
            self._server.report(EventKind.PROTOCOL_ERROR, client_sap, server_sap, f"release: {error}")
            return _NO_ASSOCIATION
        del self._associations[key]
        self._pool.used -= 1
        self._server.report(EventKind.RELEASED, client_sap, server_sap, "")
        return reply


class Datagrams:
    """The peers of one UDP port; the one silent longest makes room for a new one, unproven ones first."""

    def __init__(self, server: Server, deliver: Callable[[Hashable, bytes], None]) -> None:
        self._server = server
        self._deliver = deliver
        self._pool = Pool(server.limits.max_all_associations // 4)
        self._unproven: OrderedDict[Hashable, Connection] = OrderedDict()
        self._proven: OrderedDict[Hashable, Connection] = OrderedDict()
        self._limits = msgspec.structs.replace(
            server.limits,
            max_pdu=min(server.limits.max_pdu, _MAX_DATAGRAM_APDU),
            max_unproven=server.limits.max_unproven_datagram,
        )

    def receive(self, peer: Hashable, octets: bytes) -> bytes:
        """Return the reply to a datagram, empty if none is due; a datagram that is no frame is dropped."""
        connection = self._proven.pop(peer, None) or self._unproven.pop(peer, None)
        if connection is None:
            connection = Connection(self._server, lambda late: self._deliver(peer, late), self._pool, self._limits)
        if octets[8:9] == bytes((acse.AARQ,)):
            self._make_room()
        try:
            return connection.receive_datagram(octets)
        except WrapperError:
            return b""
        finally:
            if connection.associations:
                (self._proven if connection.proven else self._unproven)[peer] = connection

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
