"""IPv6 (RFC 8200), UDP (RFC 768) and ICMPv6 echo (RFC 4443) as far as a G3-PLC node needs them.

Addresses are 16 octets. Inside a PAN every interface id comes from the PAN id and the short address,
``PAN:00ff:fe00:short`` (ITU-T G.9903 §9.4; confidence A), so that the link-local address *is* the PAN address.
"""

from __future__ import annotations

import struct

import msgspec

from flexmap.g3.interface import Address
from flexmap.model.error import LocalError, RemoteError

HEADER_LENGTH = 40
UDP_HEADER_LENGTH = 8
MINIMUM_MTU = 1280
"""RFC 8200 §5: the largest packet a G3-PLC node takes."""
NEXT_HEADER_UDP = 17
NEXT_HEADER_ICMPV6 = 58
DEFAULT_HOP_LIMIT = 64

LINK_LOCAL_PREFIX = bytes.fromhex("fe80000000000000")
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")

PORT_G3_DATA = 0xF0B1
"""Seen in public G3 demonstrations for DLMS (B); inside the four-bit port range of RFC 6282."""
PORT_G3_RESPONDER = 0xF0BF
"""Conformance responder (B)."""

_ECHO_REQUEST = 128
_ECHO_REPLY = 129
_SHORT_MIDDLE = b"\x00\xff\xfe\x00"
_UNIVERSAL_BIT = 0x02


def short_interface_id(pan_id: int, short_address: int) -> bytes:
    """Return the eight octets ``PAN:00ff:fe00:short``."""
    return pan_id.to_bytes(2, "big") + _SHORT_MIDDLE + short_address.to_bytes(2, "big")


def interface_id(pan_id: int, address: Address) -> bytes:
    """Return the interface id of a short address, or of an EUI-64 (universal bit turned: RFC 4291 appendix A)."""
    if isinstance(address, int):
        return short_interface_id(pan_id, address)
    return bytes((address[0] ^ _UNIVERSAL_BIT,)) + address[1:]


def link_local(pan_id: int, address: Address) -> bytes:
    """Return the address a node has inside its PAN."""
    return LINK_LOCAL_PREFIX + interface_id(pan_id, address)


def short_address_of(address: bytes, pan_id: int) -> int | None:
    """Return the short address behind an IPv6 address of this PAN, ``None`` if there is none behind it."""
    if address[8:10] != pan_id.to_bytes(2, "big") or address[10:14] != _SHORT_MIDDLE or address[0] == 0xFF:
        return None
    return int.from_bytes(address[14:16], "big")


def checksum(source: bytes, destination: bytes, next_header: int, payload: bytes) -> int:
    """Return the Internet checksum of an upper-layer packet with its pseudo-header (RFC 8200 §8.1).

    Never zero, which UDP keeps for "none": the other zero of ones' complement, 0xFFFF, stands for it.
    Over a packet whose checksum is right the result is 0xFFFF.
    """
    length = len(payload)
    total = int.from_bytes(source, "big") + int.from_bytes(destination, "big") + length + next_header
    # 2^16 ≡ 1 modulo 2^16 - 1: the sum of the 16-bit words is the number itself modulo 0xFFFF.
    total += int.from_bytes(payload if length % 2 == 0 else payload + b"\x00", "big")
    return 0xFFFF - (total % 0xFFFF)


class Header(msgspec.Struct, frozen=True):
    """An IPv6 header; payload length is left to the packet."""

    source: bytes
    destination: bytes
    next_header: int = NEXT_HEADER_UDP
    hop_limit: int = DEFAULT_HOP_LIMIT
    traffic_class: int = 0
    """DSCP in the upper six bits, ECN in the lower two."""
    flow_label: int = 0


class Datagram(msgspec.Struct, frozen=True):
    """A UDP datagram with the addresses it travels between."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    payload: bytes
    hop_limit: int = DEFAULT_HOP_LIMIT
    traffic_class: int = 0


def build(header: Header, payload: bytes) -> bytes:
    """Return an IPv6 packet."""
    if len(payload) > 0xFFFF:
        raise LocalError(f"an IPv6 payload of {len(payload)} octets does not exist")
    first = 6 << 28 | header.traffic_class << 20 | header.flow_label
    fixed = struct.pack(">IHBB", first, len(payload), header.next_header, header.hop_limit)
    return fixed + header.source + header.destination + payload


def parse(packet: bytes) -> tuple[Header, bytes]:
    """Return header and payload of an IPv6 packet; :class:`RemoteError` if it is none."""
    if len(packet) < HEADER_LENGTH:
        raise RemoteError(f"IPv6: {len(packet)} octets are no packet")
    first, length, next_header, hop_limit = struct.unpack_from(">IHBB", packet)
    if first >> 28 != 6:
        raise RemoteError(f"IPv6: version {first >> 28}")
    if length != len(packet) - HEADER_LENGTH:
        raise RemoteError(f"IPv6: length {length}, but {len(packet) - HEADER_LENGTH} octets follow the header")
    header = Header(packet[8:24], packet[24:40], next_header, hop_limit, first >> 20 & 0xFF, first & 0xFFFFF)
    return header, packet[HEADER_LENGTH:]


def build_udp(datagram: Datagram) -> bytes:
    """Return the IPv6 packet of a UDP datagram, checksum included."""
    length = UDP_HEADER_LENGTH + len(datagram.payload)
    if HEADER_LENGTH + length > MINIMUM_MTU:
        raise LocalError(f"UDP: {len(datagram.payload)} octets do not fit a packet of {MINIMUM_MTU}")
    ports = struct.pack(">HHH", datagram.source_port, datagram.destination_port, length)
    bare = ports + b"\x00\x00" + datagram.payload
    check = checksum(datagram.source, datagram.destination, NEXT_HEADER_UDP, bare)
    header = Header(
        datagram.source, datagram.destination, NEXT_HEADER_UDP, datagram.hop_limit, datagram.traffic_class
    )
    return build(header, ports + check.to_bytes(2, "big") + datagram.payload)


def parse_udp(packet: bytes) -> Datagram:
    """Return the UDP datagram in an IPv6 packet; :class:`RemoteError` if there is none or it is damaged."""
    header, payload = parse(packet)
    if header.next_header != NEXT_HEADER_UDP:
        raise RemoteError(f"UDP: next header {header.next_header}")
    if len(payload) < UDP_HEADER_LENGTH:
        raise RemoteError(f"UDP: {len(payload)} octets are no datagram")
    source_port, destination_port, length, check = struct.unpack_from(">HHHH", payload)
    if length != len(payload):
        raise RemoteError(f"UDP: length {length}, but {len(payload)} octets are there")
    if check == 0:
        raise RemoteError("UDP: over IPv6 a datagram has a checksum")
    _verify(header, payload)
    return Datagram(
        header.source,
        header.destination,
        source_port,
        destination_port,
        payload[UDP_HEADER_LENGTH:],
        header.hop_limit,
        header.traffic_class,
    )


def echo_request(source: bytes, destination: bytes, identifier: int, sequence: int, data: bytes = b"") -> bytes:
    """Return the packet of an ICMPv6 echo request."""
    return _echo(Header(source, destination, NEXT_HEADER_ICMPV6), _ECHO_REQUEST, identifier, sequence, data)


def echo_reply(packet: bytes) -> bytes | None:
    """Return the answer to an ICMPv6 echo request, ``None`` if the packet is no such request.

    A request to a multicast group is left unanswered: the answer would need an address of our own as its source.
    """
    header, payload = parse(packet)
    if header.next_header != NEXT_HEADER_ICMPV6 or len(payload) < 8 or header.destination[0] == 0xFF:
        return None
    kind, code, _check, identifier, sequence = struct.unpack_from(">BBHHH", payload)
    if (kind, code) != (_ECHO_REQUEST, 0):
        return None
    _verify(header, payload)
    back = Header(header.destination, header.source, NEXT_HEADER_ICMPV6)
    return _echo(back, _ECHO_REPLY, identifier, sequence, payload[8:])


def _echo(header: Header, kind: int, identifier: int, sequence: int, data: bytes) -> bytes:
    bare = struct.pack(">BBHHH", kind, 0, 0, identifier, sequence) + data
    check = checksum(header.source, header.destination, NEXT_HEADER_ICMPV6, bare)
    return build(header, bare[:2] + check.to_bytes(2, "big") + bare[4:])


def _verify(header: Header, payload: bytes) -> None:
    if checksum(header.source, header.destination, header.next_header, payload) != 0xFFFF:
        raise RemoteError(f"IPv6: wrong checksum of next header {header.next_header}")
