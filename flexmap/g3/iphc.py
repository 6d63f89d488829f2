"""IPv6 header compression: LOWPAN_IPHC and LOWPAN_NHC for UDP (RFC 6282), with the interface ids of G3-PLC.

Unlike RFC 6282 the stateless 16-bit and 0-bit modes stand for ``PAN:00ff:fe00:short`` (facts of ITU-T G.9903,
confidence A), not for ``0000:00ff:fe00:short``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flexmap.g3 import ipv6
from flexmap.g3.interface import Address
from flexmap.model.error import LocalError, RemoteError

DISPATCH = 0x60
"""0b011: the first three bits of a compressed header."""
DISPATCH_MASK = 0xE0

_NHC_UDP = 0xF0
_NHC_UDP_MASK = 0xF8
_CHECKSUM_ELIDED = 0x04
_HOP_LIMITS = (None, 1, 64, 255)
_UNSPECIFIED = bytes(16)
_ALL_ONES = (1 << 128) - 1


class Context(msgspec.Struct, frozen=True):
    """An entry of adpContextInformationTable: a prefix both sides know."""

    prefix: bytes
    """16 octets, zero behind the prefix."""
    length: int
    """Length of the prefix in bits."""


def pan_context(pan_id: int) -> Context:
    """Return context 0 of a PAN, ``fe80::PAN:0:0:0/80`` (A)."""
    return Context(ipv6.LINK_LOCAL_PREFIX + pan_id.to_bytes(2, "big") + bytes(6), 80)


class Link(msgspec.Struct, frozen=True):
    """What a compressed header leaves out: link addresses, the PAN and the contexts."""

    source: Address
    destination: Address
    pan_id: int
    contexts: Sequence[Context | None] = ()


def compress(packet: bytes, link: Link) -> tuple[bytes, int]:
    """Return the compressed header of an IPv6 packet, and how many octets of the packet it stands for.

    The rest of the packet follows the compressed header unchanged. :class:`LocalError` if it is no IPv6 packet.
    """
    try:
        header, payload = ipv6.parse(packet)
    except RemoteError as error:
        raise LocalError(f"not an IPv6 packet to send: {error}") from error
    udp = _compress_udp(payload) if header.next_header == ipv6.NEXT_HEADER_UDP else b""
    flow, flow_octets = _compress_flow(header.traffic_class, header.flow_label)
    hop = _HOP_LIMITS.index(header.hop_limit) if header.hop_limit in _HOP_LIMITS else 0
    source_index, source_bits, source = _compress_source(header.source, link)
    if header.destination[0] == 0xFF:
        index, bits, destination = 0, *_compress_multicast(header.destination)
    else:
        index, bits, destination = _compress_unicast(header.destination, link.destination, link)
    first = DISPATCH | flow << 3 | (0x04 if udp else 0) | hop
    second = source_bits << 4 | bits
    extension = b""
    if source_index or index:
        second |= 0x80
        extension = bytes((source_index << 4 | index,))
    next_header = b"" if udp else bytes((header.next_header,))
    hop_limit = b"" if hop else bytes((header.hop_limit,))
    fields = (bytes((first, second)), extension, flow_octets, next_header, hop_limit, source, destination, udp)
    consumed = ipv6.HEADER_LENGTH + (ipv6.UDP_HEADER_LENGTH if udp else 0)
    return b"".join(fields), consumed


def decompress(data: bytes, link: Link, size: int | None = None) -> bytes:
    """Return the IPv6 packet, or its beginning, behind a compressed header.

    ``size`` is the size of the whole packet where ``data`` is only its first fragment. :class:`RemoteError` if the
    header is cut short, uses a reserved value or a context that is not there.
    """
    return _Decompressor(data, link).packet(size)


def _compress_flow(traffic_class: int, flow_label: int) -> tuple[int, bytes]:
    """Return TF and its octets; in RFC 6282 §3.1.1 ECN stands before DSCP, in IPv6 behind it."""
    swapped = (traffic_class & 0x03) << 6 | traffic_class >> 2
    if flow_label == 0:
        return (2, bytes((swapped,))) if traffic_class else (3, b"")
    if traffic_class & 0xFC == 0:
        return 1, (swapped << 16 | flow_label).to_bytes(3, "big")
    return 0, (swapped << 24 | flow_label).to_bytes(4, "big")


def _compress_source(address: bytes, link: Link) -> tuple[int, int, bytes]:
    if address == _UNSPECIFIED:
        return 0, 0x4, b""
    return _compress_unicast(address, link.source, link)


def _compress_unicast(address: bytes, own: Address, link: Link) -> tuple[int, int, bytes]:
    """Return context, the three bits SAC/DAC and mode, and the inline octets."""
    tail = address[8:]
    local = address[:8] == ipv6.LINK_LOCAL_PREFIX
    if local and tail == ipv6.interface_id(link.pan_id, own):
        return 0, 0x3, b""
    for index, context in enumerate(link.contexts):
        if context is None:
            continue
        # Context 0 also holds link-local addresses: 16 bits behind it mean the same to decoders that follow
        # RFC 6282 to the letter, the stateless 16 bits do not.
        for mode, octets in ((3, b""), (2, tail[6:]), (1, tail)):
            if _expand(context, _inline_id(mode, octets, own, link.pan_id)) == address:
                return index, 0x4 | mode, octets
    if not local:
        return 0, 0x0, address
    if tail[:6] == ipv6.short_interface_id(link.pan_id, 0)[:6]:
        return 0, 0x2, tail[6:]
    return 0, 0x1, tail


def _compress_multicast(address: bytes) -> tuple[int, bytes]:
    """Return the bits M, DAC and mode, and the inline octets."""
    if address[1] == 0x02 and not any(address[2:15]):
        return 0xB, address[15:]
    if not any(address[2:13]):
        return 0xA, address[1:2] + address[13:]
    if not any(address[2:11]):
        return 0x9, address[1:2] + address[11:]
    return 0x8, address


def _compress_udp(payload: bytes) -> bytes:
    """Return the NHC of a UDP header, empty if the header could not be restored from it."""
    if len(payload) < ipv6.UDP_HEADER_LENGTH or int.from_bytes(payload[4:6], "big") != len(payload):
        return b""
    source = int.from_bytes(payload[0:2], "big")
    destination = int.from_bytes(payload[2:4], "big")
    check = payload[6:8]
    if source & 0xFFF0 == 0xF0B0 and destination & 0xFFF0 == 0xF0B0:
        return bytes((_NHC_UDP | 3, (source & 0xF) << 4 | destination & 0xF)) + check
    if destination & 0xFF00 == 0xF000:
        return bytes((_NHC_UDP | 1,)) + payload[0:2] + payload[3:4] + check
    if source & 0xFF00 == 0xF000:
        return bytes((_NHC_UDP | 2,)) + payload[1:4] + check
    return bytes((_NHC_UDP,)) + payload[0:4] + check


def _inline_id(mode: int, octets: bytes, own: Address, pan_id: int) -> bytes:
    """Return the interface id that a mode (1: 64 bits inline, 2: 16 bits, 3: none) stands for."""
    if mode == 1:
        return octets
    if mode == 2:
        return ipv6.short_interface_id(pan_id, int.from_bytes(octets, "big"))
    return ipv6.interface_id(pan_id, own)


def _expand(context: Context, interface_id: bytes) -> bytes:
    """Return prefix and interface id joined; bits of the prefix win (RFC 6282 §3.1.1)."""
    mask = _ALL_ONES >> context.length
    value = int.from_bytes(context.prefix, "big") & ~mask | int.from_bytes(interface_id, "big") & mask
    return (value & _ALL_ONES).to_bytes(16, "big")


class _Decompressor:
    __slots__ = ("_data", "_link", "_position")

    def __init__(self, data: bytes, link: Link) -> None:
        self._data = data
        self._link = link
        self._position = 0

    def packet(self, size: int | None) -> bytes:
        first, second = self._take(2)
        if first & DISPATCH_MASK != DISPATCH:
            raise RemoteError(f"6LoWPAN: dispatch {first:#04x} is no compressed header")
        extension = self._octet() if second & 0x80 else 0
        traffic_class, flow_label = self._flow(first >> 3 & 0x3)
        next_header = None if first & 0x04 else self._octet()
        inline_hops = _HOP_LIMITS[first & 0x3]
        hop_limit = self._octet() if inline_hops is None else inline_hops
        source = self._source(second >> 4 & 0x7, extension >> 4)
        if second & 0x08:
            destination = self._multicast(second & 0x7, extension & 0xF)
        else:
            destination = self._unicast(second & 0x7, extension & 0xF, self._link.destination)
        header = ipv6.Header(source, destination, next_header or 0, hop_limit, traffic_class, flow_label)
        if next_header is None:
            return self._with_udp(msgspec.structs.replace(header, next_header=ipv6.NEXT_HEADER_UDP), size)
        return _with_length(ipv6.build(header, self._data[self._position :]), size)

    def _with_udp(self, header: ipv6.Header, size: int | None) -> bytes:
        control = self._octet()
        if control & _NHC_UDP_MASK != _NHC_UDP:
            raise RemoteError(f"6LoWPAN: next header compression {control:#04x} is not UDP's")
        ports = self._ports(control & 0x3)
        elided = bool(control & _CHECKSUM_ELIDED)
        if elided and size is not None:
            raise RemoteError("6LoWPAN: the checksum of a fragmented datagram cannot be restored")
        check = b"\x00\x00" if elided else self._take(2)
        payload = self._data[self._position :]
        length = ipv6.UDP_HEADER_LENGTH + len(payload) if size is None else size - ipv6.HEADER_LENGTH
        if not ipv6.UDP_HEADER_LENGTH + len(payload) <= length <= 0xFFFF:
            raise RemoteError(f"6LoWPAN: a UDP length of {length} does not fit what follows")
        datagram = ports + length.to_bytes(2, "big") + check + payload
        if elided:
            value = ipv6.checksum(header.source, header.destination, ipv6.NEXT_HEADER_UDP, datagram)
            datagram = datagram[:6] + value.to_bytes(2, "big") + payload
        return _with_length(ipv6.build(header, datagram), size)

    def _flow(self, mode: int) -> tuple[int, int]:
        if mode == 3:
            return 0, 0
        swapped = self._octet()
        ecn, dscp = swapped >> 6, swapped & 0x3F
        if mode == 2:
            return dscp << 2 | ecn, 0
        if mode == 1:
            return ecn, (dscp & 0xF) << 16 | int.from_bytes(self._take(2), "big")
        return dscp << 2 | ecn, int.from_bytes(self._take(3), "big") & 0xFFFFF

    def _source(self, mode: int, index: int) -> bytes:
        if mode == 0x4:
            return _UNSPECIFIED
        return self._unicast(mode, index, self._link.source)

    def _unicast(self, mode: int, index: int, own: Address) -> bytes:
        if mode == 0:
            return self._take(16)
        if mode == 0x4:
            raise RemoteError("6LoWPAN: reserved destination address mode")
        octets = self._take((0, 8, 2, 0)[mode & 0x3])
        interface_id = _inline_id(mode & 0x3, octets, own, self._link.pan_id)
        if mode & 0x4:
            return _expand(self._context(index), interface_id)
        return ipv6.LINK_LOCAL_PREFIX + interface_id

    def _multicast(self, mode: int, index: int) -> bytes:
        if mode == 0:
            address = self._take(16)
        elif mode == 1:
            octets = self._take(6)
            address = b"\xff" + octets[:1] + bytes(9) + octets[1:]
        elif mode == 2:
            octets = self._take(4)
            address = b"\xff" + octets[:1] + bytes(11) + octets[1:]
        elif mode == 3:
            address = b"\xff\x02" + bytes(13) + self._take(1)
        elif mode == 4:
            octets = self._take(6)
            context = self._context(index)
            if context.length > 64:
                raise RemoteError("6LoWPAN: a multicast address holds no prefix longer than 64 bits")
            address = b"\xff" + octets[:2] + bytes((context.length,)) + context.prefix[:8] + octets[2:]
        else:
            raise RemoteError(f"6LoWPAN: reserved multicast address mode {mode}")
        return address

    def _context(self, index: int) -> Context:
        context = self._link.contexts[index] if index < len(self._link.contexts) else None
        if context is None:
            raise RemoteError(f"6LoWPAN: context {index} is not known")
        return context

    def _ports(self, mode: int) -> bytes:
        if mode == 0:
            return self._take(4)
        if mode == 1:
            octets = self._take(3)
            return octets[:2] + b"\xf0" + octets[2:]
        if mode == 2:
            return b"\xf0" + self._take(3)
        both = self._octet()
        return bytes((0xF0, 0xB0 | both >> 4, 0xF0, 0xB0 | both & 0xF))

    def _octet(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        end = self._position + count
        octets = self._data[self._position : end]
        if len(octets) < count:
            raise RemoteError("6LoWPAN: the compressed header is cut short")
        self._position = end
        return octets


def _with_length(packet: bytes, size: int | None) -> bytes:
    """Return the packet with the payload length of the whole datagram, of which it may be the beginning."""
    if size is None:
        return packet
    if len(packet) > size:
        raise RemoteError(
            f"6LoWPAN: a first fragment of {len(packet)} octets is longer than its datagram of {size}"
        )
    return packet[:4] + (size - ipv6.HEADER_LENGTH).to_bytes(2, "big") + packet[6:]
