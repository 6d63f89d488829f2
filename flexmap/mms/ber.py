"""BER (ISO/IEC 8825-1): tag, length, contents, as OSI's upper layers and MMS use it.

Tags are the identifier octets as one number: ``0xA4``, or ``0xBF48`` for tag numbers from 31 on. Lengths are
definite, as every MMS implementation writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from flexmap.model.error import RemoteError

_LONG_TAG = 0x1F
_MAX_LENGTH_OCTETS = 4


class BerError(RemoteError):
    """Octets that are no BER, or not the BER that was expected."""


def header(tag: int, size: int) -> bytes:
    """Return identifier and length octets of an element with ``size`` octets of contents."""
    if tag > 0xFF:
        return tag.to_bytes(2, "big") + length(size)
    if size < 0x80:
        return bytes((tag, size))
    return bytes((tag,)) + length(size)


def length(size: int) -> bytes:
    """Return length octets, as few as possible."""
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return an element with these contents, joined."""
    joined = b"".join(contents)
    return header(tag, len(joined)) + joined


def element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return tag, begin and end of the contents of the element at ``at``; it must end by ``end``.

    Raises BerError.
    """
    try:
        tag = data[at]
        at += 1
        if tag & _LONG_TAG == _LONG_TAG:
            tag = tag << 8 | data[at]
            at += 1
            if tag & 0x80:
                raise BerError("tag number of more than 7 bits")
        size = data[at]
        at += 1
        if size >= 0x80:
            count = size & 0x7F
            if not 0 < count <= _MAX_LENGTH_OCTETS or at + count > end:
                raise BerError(f"length octet {size:#04x}")
            size = int.from_bytes(data[at : at + count], "big")
            at += count
    except IndexError:
        raise BerError("ends within tag or length") from None
    if at + size > end:
        raise BerError(f"{size} octets of contents, {max(0, end - at)} are there")
    return tag, at, at + size


def elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, begin and end of the contents of each element from ``at`` to ``end``; raises BerError."""
    while at < end:
        tag, begin, at = element(data, at, end)
        yield tag, begin, at


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Return begin and end of the contents of the element at ``at``, which must have this tag; raises BerError."""
    found, begin, stop = element(data, at, end)
    if found != tag:
        raise BerError(f"tag {found:#04x} where {tag:#04x} is expected")
    return begin, stop


def unsigned(octets: bytes) -> int:
    """Return the contents of an unsigned INTEGER of up to 32 bits, leading zero octets or not; raises BerError."""
    value = int.from_bytes(octets, "big")
    if not 0 < len(octets) <= 5 or value > 0xFFFFFFFF:
        raise BerError(f"{octets.hex()} is no unsigned integer of 32 bits")
    return value


def integer(octets: bytes) -> int:
    """Return the contents of an INTEGER of up to 64 bits; raises BerError."""
    if not 0 < len(octets) <= 9:
        raise BerError(f"an integer of {len(octets)} octets")
    return int.from_bytes(octets, "big", signed=True)


def integer_octets(value: int) -> bytes:
    """Return the contents of an INTEGER, as few octets as possible."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def text(octets: bytes) -> str:
    """Return the contents of a VisibleString; raises BerError."""
    if not octets.isascii():
        raise BerError("a visible string with octets above 127")
    return octets.decode("ascii")
