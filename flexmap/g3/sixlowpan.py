"""6LoWPAN as G3-PLC uses it (RFC 4944 with ITU-T G.9903): frames, fragments and their reassembly.

A frame is ``[mesh] [BC0] [FRAG1 | FRAGN] (IPv6 | IPHC | ESC)``, in this order (facts, confidence A):

    mesh    0x80 | V<<5 | F<<4 | hops left, originator 2/8, final 2/8    big-endian
    BC0     0x50 sequence
    FRAG1   0xC0 | size[10:8], size[7:0], tag 2
    FRAGN   0xE0 | size[10:8], size[7:0], tag 2, offset / 8
    0x41 IPv6 packet · 0b011… compressed header (:mod:`flexmap.g3.iphc`) · 0x40 command (1 LOADng, 2 LBP)

Every parser raises :class:`RemoteError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flexmap.g3 import iphc, ipv6
from flexmap.g3.interface import Address
from flexmap.model.error import LocalError, RemoteError

MAX_MSDU = 400
"""What the MAC takes at once (A)."""
MESH_LENGTH = 5
"""A mesh header with two short addresses."""
BC0_LENGTH = 2
BROADCAST_GROUP = 0x8001
"""Mesh final address of what goes to every node (A)."""
MAX_DATAGRAM = ipv6.MINIMUM_MTU

DISPATCH_IPV6 = 0x41
DISPATCH_ESC = 0x40
DISPATCH_BC0 = 0x50
COMMAND_LOADNG = 1
COMMAND_LBP = 2

_MESH = 0x80
_MESH_MASK = 0xC0
_DEEP_HOPS = 0x0F
_FRAG1 = 0xC0
_FRAGN = 0xE0
_FRAG_MASK = 0xF8
_FRAG1_LENGTH = 4
_FRAGN_LENGTH = 5
_UNIT = 8
"""Offsets of fragments count eight octets."""

REASSEMBLY_TIMEOUT = 60.0
"""Seconds (RFC 4944 §5.3: at most 60)."""
REASSEMBLY_LIMIT = 8
"""Datagrams put together at the same time (ours): bounds memory to 8 × 1,280 octets."""


class Headers(NamedTuple):
    """The mesh and broadcast headers of a frame; ``None`` where there are none."""

    originator: Address | None
    final: Address | None
    hops_left: int
    sequence: int | None
    """Of BC0."""
    offset: int
    """Where the payload starts."""


def mesh_header(hops_left: int, originator: int, final: int) -> bytes:
    """Return a mesh header between two short addresses."""
    if not 0 <= hops_left < _DEEP_HOPS:
        raise LocalError(f"a mesh header counts 0 to 14 hops, not {hops_left}")
    return bytes((_MESH | 0x30 | hops_left, originator >> 8, originator & 0xFF, final >> 8, final & 0xFF))


def one_hop_less(msdu: bytes, hops_left: int) -> bytes:
    """Return a frame that starts with a mesh header, with this count of hops left."""
    deep = 2 if msdu[0] & 0x0F == _DEEP_HOPS else 1
    return bytes((msdu[0] & 0xF0 | hops_left,)) + msdu[deep:]


def broadcast_header(sequence: int) -> bytes:
    """Return a BC0 header."""
    return bytes((DISPATCH_BC0, sequence & 0xFF))


def escape(command: int, message: bytes) -> bytes:
    """Return a command frame: LOADng or LBP."""
    return bytes((DISPATCH_ESC, command)) + message


def parse_headers(msdu: bytes) -> Headers:
    """Return what stands before the payload of a frame."""
    if not msdu:
        raise RemoteError("6LoWPAN: empty frame")
    first = msdu[0]
    if first & _MESH_MASK != _MESH:
        if first == DISPATCH_BC0:
            raise RemoteError("6LoWPAN: a broadcast header without a mesh header")
        return Headers(None, None, 0, None, 0)
    hops_left, offset = first & 0x0F, 1
    if hops_left == _DEEP_HOPS:
        hops_left, offset = (msdu[1] if len(msdu) > 1 else 0), 2
    originator, offset = _address(msdu, offset, short=bool(first & 0x20))
    final, offset = _address(msdu, offset, short=bool(first & 0x10))
    sequence = None
    if msdu[offset : offset + 1] == b"\x50":
        if len(msdu) < offset + BC0_LENGTH:
            raise RemoteError("6LoWPAN: cut short in the broadcast header")
        sequence = msdu[offset + 1]
        offset += BC0_LENGTH
    if offset >= len(msdu):
        raise RemoteError("6LoWPAN: nothing follows the mesh header")
    return Headers(originator, final, hops_left, sequence, offset)


def _address(msdu: bytes, offset: int, *, short: bool) -> tuple[Address, int]:
    end = offset + (2 if short else 8)
    if end > len(msdu):
        raise RemoteError("6LoWPAN: cut short in the mesh header")
    octets = msdu[offset:end]
    return (int.from_bytes(octets, "big") if short else octets), end


def is_fragment(payload: bytes) -> bool:
    """Return whether a payload starts with FRAG1 or FRAGN."""
    return payload[0] & _FRAG_MASK in {_FRAG1, _FRAGN}


def encode(packet: bytes, link: iphc.Link, tag: int, limit: int, *, compressed: bool = True) -> list[bytes]:
    """Return an IPv6 packet as payloads of at most ``limit`` octets: one, or FRAG1 and FRAGN.

    Args:
        packet: an IPv6 packet of at most 1,280 octets.
        link: the link addresses the header is compressed against.
        tag: datagram tag, should the packet need fragments.
        limit: octets a frame has left for this.
        compressed: whether headers are compressed (IPHC) or sent as they are.

    """
    if len(packet) > MAX_DATAGRAM:
        raise LocalError(f"an IPv6 packet of {len(packet)} octets is longer than {MAX_DATAGRAM}")
    if compressed:
        header, consumed = iphc.compress(packet, link)
    else:
        header, consumed = bytes((DISPATCH_IPV6,)), 0
    if len(header) + len(packet) - consumed <= limit:
        return [header + packet[consumed:]]
    end = consumed + limit - _FRAG1_LENGTH - len(header)
    end -= end % _UNIT
    if end < consumed or limit < _FRAGN_LENGTH + _UNIT:
        raise LocalError(f"no fragment fits {limit} octets")
    size_and_tag = len(packet).to_bytes(2, "big") + (tag & 0xFFFF).to_bytes(2, "big")
    fragments = [bytes((_FRAG1 | size_and_tag[0],)) + size_and_tag[1:] + header + packet[consumed:end]]
    step = (limit - _FRAGN_LENGTH) // _UNIT * _UNIT
    following = bytes((_FRAGN | size_and_tag[0],)) + size_and_tag[1:]
    fragments += [
        following + bytes((start // _UNIT,)) + packet[start : start + step]
        for start in range(end, len(packet), step)
    ]
    return fragments


def decode(payload: bytes, link: iphc.Link, size: int | None = None) -> bytes:
    """Return the IPv6 packet (or the beginning of one of ``size`` octets) in a payload that is no fragment."""
    if not payload:
        raise RemoteError("6LoWPAN: nothing where a packet should be")
    if payload[0] & iphc.DISPATCH_MASK == iphc.DISPATCH:
        return iphc.decompress(payload, link, size)
    if payload[0] != DISPATCH_IPV6:
        raise RemoteError(f"6LoWPAN: unknown dispatch {payload[0]:#04x}")
    packet = payload[1:]
    if size is None:
        ipv6.parse(packet)
    return packet


class _Partial:
    __slots__ = ("buffer", "deadline", "pieces", "received", "size")

    def __init__(self, size: int, deadline: float) -> None:
        self.buffer = bytearray(size)
        self.size = size
        self.deadline = deadline
        self.received = 0
        """A bit for every eight octets."""
        self.pieces: set[tuple[int, int]] = set()


_Key = tuple[Address, Address, int, int]


class Reassembler:
    """Puts fragments together again (RFC 4944 §5.3), whatever the order they come in.

    Bounded: at most :data:`REASSEMBLY_LIMIT` datagrams of 1,280 octets, each for :data:`REASSEMBLY_TIMEOUT`
    seconds; the oldest gives way to a new one. A repeated fragment is ignored, an overlapping one starts its
    datagram anew.
    """

    __slots__ = ("_limit", "_partials", "_seconds", "_timeout", "dropped")

    def __init__(
        self, seconds: Callable[[], float], *, timeout: float = REASSEMBLY_TIMEOUT, limit: int = REASSEMBLY_LIMIT
    ) -> None:
        self._seconds = seconds
        self._timeout = timeout
        self._limit = limit
        self._partials: dict[_Key, _Partial] = {}
        self.dropped = 0
        """Datagrams given up: timed out, overlapping, or displaced."""

    def __len__(self) -> int:
        """Return how many datagrams are incomplete."""
        return len(self._partials)

    def clear(self) -> None:
        """Forget every incomplete datagram."""
        self._partials.clear()

    def add(self, payload: bytes, link: iphc.Link) -> bytes | None:
        """Take a fragment; return the packet when it is complete."""
        start, content, size, tag = _parse_fragment(payload, link)
        end = start + len(content)
        if end > size or not content or (end < size and end % _UNIT):
            raise RemoteError(f"6LoWPAN: a fragment from {start} to {end} does not fit a datagram of {size}")
        self._expire()
        key = (link.source, link.destination, size, tag)
        partial = self._partials.get(key)
        if partial is not None and (start, end) in partial.pieces:
            return None
        units = (1 << (end - start + _UNIT - 1) // _UNIT) - 1 << start // _UNIT
        if partial is not None and partial.received & units:
            self.dropped += 1
            partial = None
        if partial is None:
            partial = self._open(key, size)
        partial.buffer[start:end] = content
        partial.received |= units
        partial.pieces.add((start, end))
        if partial.received != (1 << (size + _UNIT - 1) // _UNIT) - 1:
            return None
        del self._partials[key]
        packet = bytes(partial.buffer)
        ipv6.parse(packet)
        return packet

    def _open(self, key: _Key, size: int) -> _Partial:
        self._partials.pop(key, None)
        if len(self._partials) >= self._limit:
            del self._partials[next(iter(self._partials))]
            self.dropped += 1
        partial = self._partials[key] = _Partial(size, self._seconds() + self._timeout)
        return partial

    def _expire(self) -> None:
        now = self._seconds()
        for key in [key for key, partial in self._partials.items() if partial.deadline <= now]:
            del self._partials[key]
            self.dropped += 1


def _parse_fragment(payload: bytes, link: iphc.Link) -> tuple[int, bytes, int, int]:
    """Return offset, octets, size of the datagram and tag."""
    first = payload[0] & _FRAG_MASK == _FRAG1
    length = _FRAG1_LENGTH if first else _FRAGN_LENGTH
    if len(payload) <= length:
        raise RemoteError("6LoWPAN: a fragment is cut short")
    size = int.from_bytes(payload[:2], "big") & 0x7FF
    tag = int.from_bytes(payload[2:4], "big")
    if not ipv6.HEADER_LENGTH <= size <= MAX_DATAGRAM:
        raise RemoteError(f"6LoWPAN: a datagram of {size} octets")
    if first:
        return 0, decode(payload[length:], link, size), size, tag
    start = payload[4] * _UNIT
    if start == 0:
        raise RemoteError("6LoWPAN: a following fragment at offset 0")
    return start, payload[length:], size, tag
