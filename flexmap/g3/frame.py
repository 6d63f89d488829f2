"""MAC frames byte for byte, as a PSDU.

``SegCtl 3 | FCF 2 | Seq 1 | dstPAN 2 | dst 2/8 | [srcPAN 2] | [src 2/8] | [ASH 6] | payload | [MIC 4] | FCS 2``,
multi-octet fields least significant octet first (ITU-T G.9903 clause 9.3, IEEE 802.15.4-2006 clause 7.2;
confidence A unless a letter stands beside a field: B one source, C engineering memory).
"""

from __future__ import annotations

import binascii
import enum
import struct

import msgspec

from flexmap.g3.interface import BROADCAST, Address
from flexmap.model.error import LocalError, RemoteError

SEGMENT_CONTROL = 3
"""Octets of the segment control field."""
FCS_OCTETS = 2
MIC_OCTETS = 4
ASH_OCTETS = 6
SECURITY_CONTROL = 0x0D
"""Security level 5 (ENC-MIC-32), key identifier mode 1."""
MAX_SEGMENTS = 64
MAX_SEGMENT = 0x3FF

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))

_SECURITY, _ACK_REQUEST, _PAN_COMPRESSION = 0x08, 0x20, 0x40
_RESERVED = 0x0390  # FP and the reserved bits
_VERSION = 0x3000
_NONE, _SHORT, _EXTENDED = 0, 2, 3
_EUI64 = 8


class FrameError(RemoteError):
    """A PSDU that is not a MAC frame of G3-PLC."""


class CheckSequenceError(FrameError):
    """A PSDU whose FCS is wrong: it was damaged on the way."""


class FrameKind(enum.IntEnum):
    """Frame type of the frame control field."""

    BEACON = 0
    DATA = 1
    COMMAND = 3


class Command(enum.IntEnum):
    """First octet of a command frame's payload."""

    BEACON_REQUEST = 0x07
    TONE_MAP_RESPONSE = 0x0A


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A MAC frame; ``payload`` is the cipher text while ``mic`` is there and ``counter`` is not ``None``."""

    kind: FrameKind
    sequence: int
    payload: bytes
    destination: Address | None = None
    destination_pan: int = BROADCAST
    source: Address | None = None
    source_pan: int = BROADCAST
    ack_request: bool = False
    counter: int | None = None
    """Frame counter of the auxiliary security header; ``None`` for a frame without security."""
    key_index: int = 0
    mic: bytes = b""
    segment: int = 0
    """Segment count, 0 for the first."""
    last: bool = True
    tone_map_request: bool = False
    contention_free: bool = False
    """CC: the next segment follows in the contention-free slot."""
    high_priority: bool = False


def crc16(data: bytes) -> int:
    """Return the FCS: CRC-16 of 0x1021, reflected, start value 0 (the catalogue's CRC-16/KERMIT)."""
    crc = binascii.crc_hqx(data.translate(_REVERSED), 0)
    return _REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]


def header(frame: Frame, version: int = 0) -> bytes:
    """Return the MAC header with the auxiliary security header, without SegCtl: CCM*'s associated data (B).

    ``version`` is the frame version; G3 sends 0, and a decoder that checks 802.15.4-2006 security wants to see 1.
    Raises :class:`LocalError` for fields that do not fit.
    """
    destination, source = frame.destination, frame.source
    compressed = destination is not None and source is not None and frame.destination_pan == frame.source_pan
    control = frame.kind | _mode(destination) << 10 | version << 12 | _mode(source) << 14
    if frame.counter is not None:
        control |= _SECURITY
    if frame.ack_request:
        control |= _ACK_REQUEST
    if compressed:
        control |= _PAN_COMPRESSION
    try:
        parts = [struct.pack("<HB", control, frame.sequence)]
        if destination is not None:
            parts.append(struct.pack("<H", frame.destination_pan) + _address(destination))
        if source is not None:
            if not compressed:
                parts.append(struct.pack("<H", frame.source_pan))
            parts.append(_address(source))
        if frame.counter is not None:
            parts.append(struct.pack("<BIB", SECURITY_CONTROL, frame.counter, frame.key_index))
    except struct.error as error:
        raise LocalError(f"A field of a MAC header does not fit: {error}") from None
    return b"".join(parts)


def encode(frame: Frame) -> bytes:
    """Return the PSDU of a frame (already secured, where it has a counter).

    Raises :class:`LocalError` for fields that do not fit or a security header without integrity code.
    """
    if len(frame.mic) != (0 if frame.counter is None else MIC_OCTETS):
        raise LocalError("A frame has an integrity code of four octets exactly when it has a frame counter")
    if len(frame.payload) > MAX_SEGMENT or not 0 <= frame.segment < MAX_SEGMENTS:
        raise LocalError(
            f"Segment {frame.segment} of {len(frame.payload)} octets does not fit a segment control field"
        )
    body = _segment_control(frame) + header(frame) + frame.payload + frame.mic
    return body + crc16(body).to_bytes(FCS_OCTETS, "little")


def decode(psdu: bytes) -> Frame:
    """Return the frame in a PSDU, still encrypted where it has a frame counter.

    Strict: what :func:`encode` would not write is refused. Raises :class:`CheckSequenceError` for a wrong FCS,
    :class:`FrameError` for anything else.
    """
    size = len(psdu)
    if size < SEGMENT_CONTROL + 3 + FCS_OCTETS:
        raise FrameError(f"A MAC frame has more than {size} octets")
    end = size - FCS_OCTETS
    # The FCS covers SegCtl (C).
    if crc16(psdu[:end]) != psdu[end] | psdu[end + 1] << 8:
        raise CheckSequenceError("FCS of a MAC frame is wrong")
    first, second, length, control, sequence = struct.unpack_from("<BBBHB", psdu)
    if first & 0xF0:
        raise FrameError("Reserved bits of a segment control field are set")
    if control & (_RESERVED | _VERSION):
        raise FrameError(f"Frame control field {control:#06x} has bits that G3-PLC does not use")
    kind = _KINDS.get(control & 7)
    if kind is None:
        raise FrameError(f"Frame type {control & 7} is none of G3-PLC")
    destination, destination_pan, source, source_pan, offset = _addresses(psdu, control, end)
    counter, key_index = None, 0
    if control & _SECURITY:
        if offset + ASH_OCTETS + MIC_OCTETS > end:
            raise FrameError("A secured MAC frame ends before its integrity code")
        level, counter, key_index = struct.unpack_from("<BIB", psdu, offset)
        if level != SECURITY_CONTROL:
            raise FrameError(f"Security control {level:#04x} is not that of ENC-MIC-32 with a key index")
        offset += ASH_OCTETS
        end -= MIC_OCTETS
    if end - offset != (second & 3) << 8 | length:
        raise FrameError(f"Segment length is {(second & 3) << 8 | length}, the payload has {end - offset} octets")
    return Frame(
        kind=kind,
        sequence=sequence,
        payload=psdu[offset:end],
        destination=destination,
        destination_pan=destination_pan,
        source=source,
        source_pan=source_pan,
        ack_request=bool(control & _ACK_REQUEST),
        counter=counter,
        key_index=key_index,
        mic=b"" if counter is None else psdu[end : end + MIC_OCTETS],
        segment=second >> 2,
        last=bool(first & 1),
        high_priority=bool(first & 2),
        contention_free=bool(first & 4),
        tone_map_request=bool(first & 8),
    )


def overhead(frame: Frame) -> int:
    """Return the octets of a PSDU around the payload, for a frame with these addresses and this security."""
    destination, source = frame.destination, frame.source
    octets = SEGMENT_CONTROL + 3 + FCS_OCTETS
    if destination is not None:
        octets += 2 + _LENGTHS[_mode(destination)]
    if source is not None:
        octets += _LENGTHS[_mode(source)] + 2 * (destination is None or frame.destination_pan != frame.source_pan)
    if frame.counter is not None:
        octets += ASH_OCTETS + MIC_OCTETS
    return octets


def fcs_of(psdu: bytes) -> int:
    """Return the check sequence at the end of a PSDU, by which an acknowledgement names its frame."""
    return psdu[-2] | psdu[-1] << 8


_KINDS = {int(kind): kind for kind in FrameKind}
_LENGTHS = {_NONE: 0, _SHORT: 2, _EXTENDED: _EUI64}


def _mode(address: Address | None) -> int:
    if address is None:
        return _NONE
    return _SHORT if isinstance(address, int) else _EXTENDED


def _address(address: Address) -> bytes:
    if isinstance(address, int):
        return struct.pack("<H", address)
    if len(address) != _EUI64:
        raise LocalError(f"An EUI-64 has eight octets, not {len(address)}")
    return address[::-1]


def _segment_control(frame: Frame) -> bytes:
    length = len(frame.payload)
    first = frame.last | frame.high_priority << 1 | frame.contention_free << 2 | frame.tone_map_request << 3
    return bytes((first, frame.segment << 2 | length >> 8, length & 0xFF))


def _addresses(psdu: bytes, control: int, end: int) -> tuple[Address | None, int, Address | None, int, int]:
    """Return destination, its PAN, source, its PAN, and where the addresses end."""
    destination_mode, source_mode = control >> 10 & 3, control >> 14 & 3
    if destination_mode == 1 or source_mode == 1:
        raise FrameError("Address mode 1 is reserved")
    compressed = bool(control & _PAN_COMPRESSION)
    if compressed and not (destination_mode and source_mode):
        raise FrameError("PAN id compression needs two addresses")
    offset = SEGMENT_CONTROL + 3
    octets = _LENGTHS[destination_mode] + _LENGTHS[source_mode]
    octets += 2 * bool(destination_mode) + 2 * (bool(source_mode) and not compressed)
    if offset + octets > end:
        raise FrameError("A MAC frame ends within its addresses")
    destination: Address | None = None
    source: Address | None = None
    destination_pan = source_pan = BROADCAST
    if destination_mode:
        destination_pan = psdu[offset] | psdu[offset + 1] << 8
        destination, offset = _read_address(psdu, offset + 2, destination_mode)
    if source_mode:
        if compressed:
            source_pan = destination_pan
        else:
            source_pan = psdu[offset] | psdu[offset + 1] << 8
            offset += 2
            if destination_mode and source_pan == destination_pan:
                raise FrameError("Two equal PAN ids without PAN id compression")
        source, offset = _read_address(psdu, offset, source_mode)
    return destination, destination_pan, source, source_pan, offset


def _read_address(psdu: bytes, offset: int, mode: int) -> tuple[Address, int]:
    if mode == _SHORT:
        return psdu[offset] | psdu[offset + 1] << 8, offset + 2
    return psdu[offset : offset + _EUI64][::-1], offset + _EUI64
