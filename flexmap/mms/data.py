r"""MMS data (ISO 9506-2): values as they stand on the wire, encoded when they change.

A value is its complete element, tag and length included: ``b"\x83\x01\x01"`` is the boolean true.
"""

from __future__ import annotations

import enum
import struct

from flexmap.mms import ber
from flexmap.mms.ber import BerError

ARRAY, STRUCTURE = 0xA1, 0xA2
BOOLEAN, BIT_STRING, INTEGER, UNSIGNED, FLOAT = 0x83, 0x84, 0x85, 0x86, 0x87
OCTET_STRING, VISIBLE_STRING, BINARY_TIME, MMS_STRING, UTC_TIME = 0x89, 0x8A, 0x8C, 0x90, 0x91

TRUE, FALSE = b"\x83\x01\x01", b"\x83\x01\x00"


class DataAccessError(enum.IntEnum):
    """Why one variable of a read or write fails (ISO 9506-2)."""

    OBJECT_INVALIDATED = 0
    HARDWARE_FAULT = 1
    TEMPORARILY_UNAVAILABLE = 2
    OBJECT_ACCESS_DENIED = 3
    OBJECT_UNDEFINED = 4
    INVALID_ADDRESS = 5
    TYPE_UNSUPPORTED = 6
    TYPE_INCONSISTENT = 7
    OBJECT_ATTRIBUTE_INCONSISTENT = 8
    OBJECT_ACCESS_UNSUPPORTED = 9
    OBJECT_NON_EXISTENT = 10
    OBJECT_VALUE_INVALID = 11


_FLOAT = struct.Struct(">cf")
_DOUBLE = struct.Struct(">cd")
_INTEGERS = tuple(bytes((INTEGER, 1, value)) for value in range(128))


def boolean(value: bool) -> bytes:
    """Return a boolean."""
    return TRUE if value else FALSE


def integer(value: int) -> bytes:
    """Return an integer."""
    if 0 <= value < 128:
        return _INTEGERS[value]
    octets = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return bytes((INTEGER, len(octets))) + octets


def unsigned(value: int) -> bytes:
    """Return an unsigned integer."""
    octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes((UNSIGNED, len(octets))) + octets


def float32(value: float) -> bytes:
    """Return a FLOAT32; what is too large for one becomes infinite."""
    try:
        return b"\x87\x05" + _FLOAT.pack(b"\x08", value)
    except OverflowError:
        return b"\x87\x05" + _FLOAT.pack(b"\x08", float("inf") if value > 0 else float("-inf"))


def float64(value: float) -> bytes:
    """Return a FLOAT64."""
    return b"\x87\x09" + _DOUBLE.pack(b"\x0b", value)


def bit_string(value: int, width: int) -> bytes:
    """Return ``width`` bits, the first one of them the highest bit of ``value``."""
    padding = -width % 8
    octets = (value << padding).to_bytes((width + padding) // 8, "big")
    return bytes((BIT_STRING, len(octets) + 1, padding)) + octets


def octet_string(octets: bytes) -> bytes:
    """Return an octet string."""
    return ber.tlv(OCTET_STRING, octets)


def visible_string(text: str) -> bytes:
    """Return a visible string; characters outside of ASCII become ``?``."""
    return ber.tlv(VISIBLE_STRING, text.encode("ascii", "replace"))


def mms_string(text: str) -> bytes:
    """Return a string of UTF-8 (Unicode255 of IEC 61850)."""
    return ber.tlv(MMS_STRING, text.encode())


def utc_time(milliseconds: int, quality: int) -> bytes:
    """Return a time stamp: milliseconds since 1970-01-01T00:00:00 UTC, and its time quality's octet.

    The fraction is cut off to 24 bits, as IEC 61850-8-1 has it.
    """
    seconds, rest = divmod(milliseconds, 1000)
    fraction = (rest << 24) // 1000
    word = (seconds & 0xFFFFFFFF) << 32 | fraction << 8 | quality
    return b"\x91\x08" + word.to_bytes(8, "big")


BINARY_TIME_EPOCH_DAYS = 5113
"""Days from 1970-01-01 to 1984-01-01, which TimeOfDay counts from."""


def binary_time(milliseconds: int) -> bytes:
    """Return a TimeOfDay with date (EntryTime): milliseconds since 1970-01-01T00:00:00 UTC; 0 for earlier ones."""
    days, rest = divmod(milliseconds, 86_400_000)
    days -= BINARY_TIME_EPOCH_DAYS
    if not 0 <= days <= 0xFFFF:
        return b"\x8c\x06" + bytes(6)
    return b"\x8c\x06" + rest.to_bytes(4, "big") + days.to_bytes(2, "big")


def structure(*components: bytes) -> bytes:
    """Return a structure of encoded components."""
    return ber.tlv(STRUCTURE, *components)


def failure(error: DataAccessError) -> bytes:
    """Return an access result that failed."""
    return bytes((0x80, 1, error))


def contents(value: bytes) -> bytes:
    """Return the contents of an encoded value."""
    _, begin, end = ber.element(value, 0, len(value))
    return value[begin:end]


def parts(value: bytes) -> list[bytes]:
    """Return the components of an encoded structure or array, each encoded; raises BerError."""
    tag, begin, end = ber.element(value, 0, len(value))
    if tag not in {ARRAY, STRUCTURE}:
        raise BerError(f"tag {tag:#04x} has no components")
    found = []
    while begin < end:
        _, _, stop = ber.element(value, begin, end)
        found.append(value[begin:stop])
        begin = stop
    return found


def to_boolean(value: bytes) -> bool:
    """Return an encoded boolean."""
    return value[-1] != 0


def to_integer(value: bytes) -> int:
    """Return an encoded integer; raises BerError if it has more than 64 bits."""
    return ber.integer(contents(value))


def to_unsigned(value: bytes) -> int:
    """Return an encoded unsigned integer; raises BerError if it has more than 32 bits."""
    return ber.unsigned(contents(value))


def to_float(value: bytes) -> float:
    """Return an encoded floating point number; raises BerError."""
    octets = contents(value)
    if len(octets) == 5:
        return float(_FLOAT.unpack(octets)[1])
    if len(octets) == 9:
        return float(_DOUBLE.unpack(octets)[1])
    raise BerError(f"a floating point number of {len(octets)} octets")


def to_bits(value: bytes) -> int:
    """Return an encoded bit string as a number, its first bit the highest."""
    octets = contents(value)
    return int.from_bytes(octets[1:], "big") >> (octets[0] if octets else 0)


def to_text(value: bytes) -> str:
    """Return an encoded visible string or MMS string; raises BerError."""
    try:
        return contents(value).decode()
    except UnicodeDecodeError:
        raise BerError("a string that is no UTF-8") from None
