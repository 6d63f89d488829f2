"""LOADng messages, octet for octet: what follows ``40 01``, big-endian (ITU-T G.9903 §9.4.3, confidence A).

    RREQ 0, RREP 1           type, destination 2, originator 2, sequence 2, R U 00 metric4, cost 2,
                             hop limit4 hop count4, weak links4 0
    RERR 2                   type, destination 2, originator 2, error, unreachable 2, hop limit4 0
    path request 252         type, destination 2, originator 2, metric4 0, 0 0 0, hops
    path reply 253           type, destination 2, expected originator 2, metric4 0, 0, originator 2, hops
    route cost request 254   type, destination 2, originator 2, metric4 0
    route cost reply 255     type, destination 2, originator 2, metric4 0, cost

A hop of a path is ``address 2, N 0000000, link cost``; N: this node does not support the metric (layout B).
"""

from __future__ import annotations

import enum
import struct

import msgspec

from flexmap.model.error import RemoteError

METRIC_HOP_COUNT = 0
METRIC_COMPOSITE = 0x0F


class Kind(enum.IntEnum):
    """The first octet."""

    RREQ = 0
    RREP = 1
    RERR = 2
    PATH_REQUEST = 252
    PATH_REPLY = 253
    COST_REQUEST = 254
    COST_REPLY = 255


class RouteMessage(msgspec.Struct, frozen=True, gc=False):
    """RREQ (who seeks a route to ``destination``) and RREP (who is found)."""

    kind: int
    destination: int
    originator: int
    sequence: int
    cost: int = 0
    hop_limit: int = 8
    hop_count: int = 0
    weak_links: int = 0
    repair: bool = False
    unicast: bool = False
    """A node that knows a route sends the RREQ along it instead of flooding it."""
    metric: int = METRIC_COMPOSITE

    def encode(self) -> bytes:
        """Return the twelve octets."""
        return _ROUTE.pack(
            self.kind,
            self.destination,
            self.originator,
            self.sequence,
            self.repair << 7 | self.unicast << 6 | self.metric,
            self.cost,
            self.hop_limit << 4 | self.hop_count,
            self.weak_links << 4,
        )


class RouteError(msgspec.Struct, frozen=True, gc=False):
    """RERR: ``originator`` cannot reach ``unreachable``, ``destination`` shall know."""

    destination: int
    originator: int
    unreachable: int
    error: int = 0
    """0 no route, 1 no hops left (C)."""
    hop_limit: int = 8

    def encode(self) -> bytes:
        """Return the nine octets."""
        fields = (self.destination, self.originator, self.error, self.unreachable, self.hop_limit << 4)
        return _ERROR.pack(Kind.RERR, *fields)


class PathHop(msgspec.Struct, frozen=True, gc=False):
    """A node on a path, and what the link over which the message came to it costs."""

    address: int
    link_cost: int
    metric_supported: bool = True


class PathMessage(msgspec.Struct, frozen=True):
    """Path request and reply: gather the nodes on the way there and back."""

    kind: int
    destination: int
    originator: int
    """Of a reply: the node that answered, the one looked for or the one where the way ended."""
    expected: int | None = None
    """Of a reply: the node looked for."""
    metric: int = METRIC_COMPOSITE
    hops: tuple[PathHop, ...] = ()

    def encode(self) -> bytes:
        """Return nine octets, and four for each hop."""
        if self.kind == Kind.PATH_REQUEST:
            fixed = _PATH_REQUEST.pack(self.kind, self.destination, self.originator, self.metric << 4)
        else:
            expected = self.originator if self.expected is None else self.expected
            fixed = _PATH_REPLY.pack(self.kind, self.destination, expected, self.metric << 4, self.originator)
        hops = (_HOP.pack(hop.address, (not hop.metric_supported) << 7, hop.link_cost) for hop in self.hops)
        return fixed + b"".join(hops)


class CostMessage(msgspec.Struct, frozen=True, gc=False):
    """Route cost request and reply: what one link costs in the other direction."""

    kind: int
    destination: int
    originator: int
    metric: int = METRIC_COMPOSITE
    cost: int = 0

    def encode(self) -> bytes:
        """Return six octets (request) or seven (reply)."""
        octets = _COST.pack(self.kind, self.destination, self.originator, self.metric << 4)
        return octets if self.kind == Kind.COST_REQUEST else octets + bytes((self.cost,))


Message = RouteMessage | RouteError | PathMessage | CostMessage

_ROUTE = struct.Struct(">BHHHBHBB")
_ERROR = struct.Struct(">BHHBHB")
_PATH_REQUEST = struct.Struct(">BHHB3x")
_PATH_REPLY = struct.Struct(">BHHBxH")
_COST = struct.Struct(">BHHB")
_HOP = struct.Struct(">HBB")
_MAX_PATH_HOPS = 32
"""There and back over at most fourteen hops each."""


def parse(octets: bytes) -> Message:
    """Return the message; :class:`RemoteError` if it is none."""
    kind = octets[0] if octets else -1
    try:
        if kind in {Kind.RREQ, Kind.RREP}:
            return _parse_route(octets)
        if kind == Kind.RERR:
            _, destination, originator, error, unreachable, limit = _ERROR.unpack(octets)
            return RouteError(destination, originator, unreachable, error, limit >> 4)
        if kind in {Kind.PATH_REQUEST, Kind.PATH_REPLY}:
            return _parse_path(octets)
        if kind == Kind.COST_REQUEST:
            kind, destination, originator, metric = _COST.unpack(octets)
            return CostMessage(kind, destination, originator, metric >> 4)
        if kind == Kind.COST_REPLY:
            kind, destination, originator, metric = _COST.unpack(octets[:-1])
            return CostMessage(kind, destination, originator, metric >> 4, octets[-1])
    except struct.error:
        raise RemoteError(f"LOADng: {len(octets)} octets of kind {kind}") from None
    raise RemoteError(f"LOADng: kind {kind}")


def _parse_route(octets: bytes) -> RouteMessage:
    kind, destination, originator, sequence, flags, cost, hops, weak = _ROUTE.unpack(octets)
    return RouteMessage(
        kind,
        destination,
        originator,
        sequence,
        cost,
        hops >> 4,
        hops & 0xF,
        weak >> 4,
        bool(flags & 0x80),
        bool(flags & 0x40),
        flags & 0xF,
    )


def _parse_path(octets: bytes) -> PathMessage:
    fixed, rest = octets[: _PATH_REPLY.size], octets[_PATH_REPLY.size :]
    if len(rest) % _HOP.size or len(rest) > _MAX_PATH_HOPS * _HOP.size:
        raise RemoteError(f"LOADng: {len(rest)} octets of hops")
    hops = tuple(PathHop(address, cost, not flags & 0x80) for address, flags, cost in _HOP.iter_unpack(rest))
    if octets[0] == Kind.PATH_REQUEST:
        kind, destination, originator, metric = _PATH_REQUEST.unpack(fixed)
        return PathMessage(kind, destination, originator, None, metric >> 4, hops)
    kind, destination, expected, metric, originator = _PATH_REPLY.unpack(fixed)
    return PathMessage(kind, destination, originator, expected, metric >> 4, hops)
