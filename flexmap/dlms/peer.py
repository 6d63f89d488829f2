"""The associations of one peer, whatever the transport, and the bound on all of them together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING

from flexmap.dlms import acse
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import AcseError
from flexmap.dlms.apdu import ServiceError, StateError, Tag
from flexmap.dlms.association import UnprotectedReleaseError
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.general_blocks import apdus_of
from flexmap.dlms.profile import EventKind, Limits
from flexmap.dlms.security import SecurityError

if TYPE_CHECKING:
    from flexmap.dlms.association import Association
    from flexmap.dlms.server import Server

NO_ASSOCIATION = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE)
TOO_LONG = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.PDU_TOO_LONG)
_NOT_FINISHED = acse.encode_release(acse.Release(reason=1), acse.RLRE)
_OPENING = (b"\x60", b"\x62")
"""AARQ and RLRQ: what opens and ends associations."""
EXTRA_TURNS = {
    bytes((acse.AARQ,)): 49,
    bytes((Tag.GENERAL_CIPHERING,)): 49,
    bytes((Tag.GENERAL_SIGNING,)): 49,
    bytes((Tag.GENERAL_BLOCK_TRANSFER,)): 7,
}
"""Turns beyond one that an APDU of that tag takes: keys and signatures of P-384 need a millisecond."""


class Pool:
    """How many associations some peers hold together, and the most that they may.

    With ``most_unproven``, associations that no secret has opened make room: the oldest of them for a new one.
    """

    __slots__ = ("_unproven", "most", "most_unproven", "used")

    def __init__(self, most: int, most_unproven: int | None = None) -> None:
        self.most = most
        self.most_unproven = most_unproven
        self.used = 0
        # The oldest first. One that has proven itself since is found out when its turn comes.
        self._unproven: OrderedDict[tuple[int, bytes], Peer] = OrderedDict()

    @property
    def full(self) -> bool:
        """There is room for no other one."""
        return self.used >= self.most

    def make_room(self) -> bool:
        """Return whether another one can come; the oldest unproven one goes if there are too many."""
        if self.most_unproven is not None and (self.full or len(self._unproven) >= self.most_unproven):
            while self._unproven:
                (_, key), peer = self._unproven.popitem(last=False)
                if not peer.proven(key):
                    peer.drop(key)
                    break
        return not self.full

    def enter(self, peer: Peer, key: bytes) -> None:
        """Count an association."""
        self.used += 1
        if self.most_unproven is not None:
            self._unproven[id(peer), key] = peer

    def leave(self, peer: Peer, key: bytes) -> None:
        """Count an association no more."""
        self.used -= 1
        self._unproven.pop((id(peer), key), None)


class Peer:
    """The associations of one peer: of a TCP connection, a UDP address, an HDLC line.

    Each has a key of the transport's own, made of the addresses as they stand in its frames. ``deliver`` takes
    the key and a response that comes late, ``announce`` the key and a notification, and tells whether it goes out.
    """

    __slots__ = ("_announce", "_deliver", "_limits", "_open", "_origin", "_pool", "_server")

    def __init__(
        self,
        server: Server,
        pool: Pool,
        limits: Limits,
        *,
        deliver: Callable[[bytes, bytes], None],
        announce: Callable[[bytes, bytes], bool],
        origin: Hashable = None,
    ) -> None:
        self._announce = announce
        self._origin = origin
        self._server = server
        self._pool = pool
        self._limits = limits
        self._deliver = deliver
        self._open: dict[bytes, Association] = {}

    def __len__(self) -> int:
        """Return the number of open and half-open associations."""
        return len(self._open)

    def answer(self, key: bytes, client_sap: int, server_sap: int, apdu: bytes) -> bytes:
        """Return the response to an APDU, empty if none is due (now)."""
        association = self._open.get(key)
        if association is not None and apdu[:1] not in _OPENING:
            return association.handle(apdu) if len(apdu) <= self._limits.max_pdu else TOO_LONG
        if not apdu:
            return b""
        if apdu[0] == acse.AARQ:
            return self._associate(key, client_sap, server_sap, apdu)
        if apdu[0] != acse.RLRQ:
            return self._unasked(key, client_sap, server_sap, apdu)
        return self._release(key, client_sap, server_sap, apdu)

    def _unasked(self, key: bytes, client_sap: int, server_sap: int, apdu: bytes) -> bytes:
        """Answer an APDU without association: a client may have a pre-established one."""
        association = self._server.pre_established(client_sap, server_sap, limits=self._limits)
        if association is None or len(self._open) >= self._limits.max_associations or not self._pool.make_room():
            return NO_ASSOCIATION
        self._enter(key, association)
        return self.answer(key, client_sap, server_sap, apdu)

    def _enter(self, key: bytes, association: Association) -> None:
        association.deliver = _Way(self._deliver, key)
        if association.listens:
            association.announce = partial(self._announce, key)
            self._server.audience.join(association)
        self._open[key] = association
        self._pool.enter(self, key)

    def proven(self, key: bytes) -> bool:
        """Return whether there is an association of that key that a secret has opened."""
        association = self._open.get(key)
        return association is not None and association.proven

    @property
    def trusted(self) -> bool:
        """A secret has opened one of the associations."""
        return any(association.proven for association in self._open.values())

    def waiting(self, key: bytes) -> bool:
        """Return whether a response will come late."""
        association = self._open.get(key)
        return association is not None and association.waiting

    def drop(self, key: bytes) -> None:
        """End an association, if there is one of that key."""
        association = self._open.pop(key, None)
        if association is not None:
            self._pool.leave(self, key)
            self._server.audience.leave(association)
            association.close()

    def close(self) -> None:
        """End all associations: the peer is gone."""
        for key in list(self._open):
            self.drop(key)

    def _associate(self, key: bytes, client_sap: int, server_sap: int, apdu: bytes) -> bytes:
        known = key in self._open
        full = not known and (len(self._open) >= self._limits.max_associations or not self._pool.make_room())
        association, aare = self._server.open(
            client_sap, server_sap, apdu, limits=self._limits, full=full, origin=self._origin
        )
        if association is None:
            return aare
        self.drop(key)
        self._enter(key, association)
        return aare

    def _release(self, key: bytes, client_sap: int, server_sap: int, apdu: bytes) -> bytes:
        association = self._open.get(key)
        if association is None:
            return acse.encode_release(acse.Release(reason=0), acse.RLRE)
        try:
            reply = association.release(apdu, proven=self._limits.proven_release)
        except UnprotectedReleaseError as error:
            self._server.report(EventKind.SECURITY_FAILURE, client_sap, server_sap, f"release: {error}")
            return _NOT_FINISHED
        except (AcseError, AxdrError, SecurityError) as error:
            self._server.report(EventKind.PROTOCOL_ERROR, client_sap, server_sap, f"release: {error}")
            return NO_ASSOCIATION
        self.drop(key)
        self._server.report(EventKind.RELEASED, client_sap, server_sap, "")
        return reply


class _Way:
    """Where the late responses of an association go: smaller than a closure, for there are thousands."""

    __slots__ = ("_deliver", "_key")

    def __init__(self, deliver: Callable[[bytes, bytes], None], key: bytes) -> None:
        self._deliver = deliver
        self._key = key

    def __call__(self, reply: bytes) -> None:
        for each in apdus_of(reply):
            self._deliver(self._key, each)
