"""A-XDR encoding of COSEM data (IEC 61334-6, IEC 62056-5-3 clause "Data", IEC 62056-6-2 clause 4.1.5).

Encoding goes by the standard's type names::

    encode("double-long-unsigned", 1234)                    # 06 000004d2
    structure(encode("integer", -1), encode("enum", 30))    # 02 02 0fff 161e

Decoding gives plain Python values: ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes`` (octet-string,
date-time, date, time), ``list`` (array, compact array), ``tuple`` (structure), :class:`Bits` and
:class:`Enumerated`. Input is never trusted: depth and work are bounded by the octets that are really there.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence
from typing import Any

from flexmap.model.error import LocalError, RemoteError

MAX_DEPTH = 16
"""Nesting of arrays and structures that :func:`decode` follows."""


class AxdrError(RemoteError):
    """A peer's octets are not well-formed A-XDR."""


class Tag(enum.IntEnum):
    """Tags of the CHOICE ``Data``."""

    NULL_DATA = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DONT_CARE = 255


class Bits(str):
    """A bit-string as text of ``0`` and ``1``, first bit first."""

    __slots__ = ()


class Enumerated(int):
    """A value of type enum."""

    __slots__ = ()


# list and tuple are recursive, which msgspec and mypy would both have to chase: Any inside.
Value = None | bool | int | float | str | bytes | list[Any] | tuple[Any, ...]

NULL = b"\x00"
"""The encoding of null-data."""

_NUMBERS: dict[int, struct.Struct] = {
    Tag.DOUBLE_LONG: struct.Struct(">i"),
    Tag.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    Tag.BCD: struct.Struct(">b"),
    Tag.INTEGER: struct.Struct(">b"),
    Tag.LONG: struct.Struct(">h"),
    Tag.UNSIGNED: struct.Struct(">B"),
    Tag.LONG_UNSIGNED: struct.Struct(">H"),
    Tag.LONG64: struct.Struct(">q"),
    Tag.LONG64_UNSIGNED: struct.Struct(">Q"),
    Tag.FLOAT32: struct.Struct(">f"),
    Tag.FLOAT64: struct.Struct(">d"),
}
_FIXED_OCTETS = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}


# --- encoding ---------------------------------------------------------------------------------------------


def encode_length(length: int) -> bytes:
    """Return a length or a count: one octet below 128, otherwise 0x80 + n and n octets."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def octet_string(octets: bytes) -> bytes:
    """Return the encoding of an octet-string."""
    return b"\x09" + encode_length(len(octets)) + octets


def structure(*elements: bytes) -> bytes:
    """Return a structure of elements that are encoded already."""
    return structure_head(len(elements)) + b"".join(elements)


def structure_head(count: int) -> bytes:
    """Return what stands before the elements of a structure."""
    return b"\x02" + encode_length(count)


def array(elements: Sequence[bytes]) -> bytes:
    """Return an array of elements that are encoded already."""
    return b"\x01" + encode_length(len(elements)) + b"".join(elements)


def array_header(count: int) -> bytes:
    """Return what stands before the ``count`` elements of an array."""
    return b"\x01" + encode_length(count)


def _number_encoder(tag: Tag) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + _NUMBERS[tag].format[1:]).pack
    number = int(tag)

    def encode_number(value: Any) -> bytes:
        try:
            return pack(number, value)
        except (struct.error, OverflowError, TypeError) as error:
            raise LocalError(f"{value!r} is not a {_name(tag)}: {error}") from None

    return encode_number


def _name(tag: Tag) -> str:
    return tag.name.lower().replace("_", "-")


def _encode_boolean(value: Any) -> bytes:
    return b"\x03\x01" if value else b"\x03\x00"


def _encode_enum(value: Any) -> bytes:
    if not 0 <= value <= 255:
        raise LocalError(f"{value!r} is not an enum")
    return bytes((22, value))


def _encode_octets(value: Any) -> bytes:
    return octet_string(bytes(value))


def _encode_visible(value: Any) -> bytes:
    octets = value.encode("ascii", "replace") if isinstance(value, str) else bytes(value)
    return b"\x0a" + encode_length(len(octets)) + octets


def _encode_utf8(value: Any) -> bytes:
    octets = str(value).encode()
    return b"\x0c" + encode_length(len(octets)) + octets


def encode_bits(bits: str) -> bytes:
    """Return length and octets of a bit-string, without its tag."""
    if set(bits) - {"0", "1"}:
        raise LocalError(f"{bits!r} is not a bit-string such as '0110'")
    width = (len(bits) + 7) // 8
    octets = int(bits.ljust(width * 8, "0"), 2).to_bytes(width, "big") if bits else b""
    return encode_length(len(bits)) + octets


def _encode_bit_string(value: Any) -> bytes:
    return b"\x04" + encode_bits(value)


def _fixed_encoder(tag: Tag) -> Callable[[Any], bytes]:
    def encode_fixed(value: Any) -> bytes:
        if len(value) != _FIXED_OCTETS[tag]:
            raise LocalError(f"a {_name(tag)} has {_FIXED_OCTETS[tag]} octets, not {len(value)}")
        return bytes((tag,)) + bytes(value)

    return encode_fixed


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "null-data": lambda _: NULL,
    "boolean": _encode_boolean,
    "enum": _encode_enum,
    "octet-string": _encode_octets,
    "visible-string": _encode_visible,
    "utf8-string": _encode_utf8,
    "bit-string": _encode_bit_string,
    **{_name(Tag(tag)): _number_encoder(Tag(tag)) for tag in _NUMBERS},
    **{_name(tag): _fixed_encoder(tag) for tag in _FIXED_OCTETS},
}

TYPE_NAMES = frozenset(_ENCODERS)
"""Type names that :func:`encode` knows, as the standard writes them."""


def encoder(type_name: str) -> Callable[[Any], bytes]:
    """Return the function that encodes one value of that type; raises LocalError for an unknown name.

    The function raises LocalError for a value that the type cannot hold.
    """
    try:
        return _ENCODERS[type_name]
    except KeyError:
        raise LocalError(f"'{type_name}' is no A-XDR type; known: {', '.join(sorted(TYPE_NAMES))}") from None


def encode(type_name: str, value: object) -> bytes:
    """Return tag and contents of ``value`` as that type; raises LocalError when it does not fit."""
    return encoder(type_name)(value)


# --- decoding ---------------------------------------------------------------------------------------------


def decode_length(octets: bytes, at: int) -> tuple[int, int]:
    """Return the length (or count) that stands at ``at`` and the offset behind it."""
    if at >= len(octets):
        raise AxdrError("length is missing")
    first = octets[at]
    at += 1
    if first < 0x80:
        return first, at
    width = first & 0x7F
    if not 1 <= width <= 4 or at + width > len(octets):
        raise AxdrError(f"length of {width} octets")
    return int.from_bytes(octets[at : at + width], "big"), at + width


def take_octets(octets: bytes, at: int, count: int) -> tuple[bytes, int]:
    """Return ``count`` octets from ``at`` and the offset behind them; raises AxdrError if fewer are there."""
    end = at + count
    if end > len(octets):
        raise AxdrError(f"{count} octets announced, {len(octets) - at} there")
    return octets[at:end], end


def take_octet_string(octets: bytes, at: int) -> tuple[bytes, int]:
    """Return the octets behind a length at ``at`` (no tag) and the offset behind them."""
    length, at = decode_length(octets, at)
    return take_octets(octets, at, length)


class _Reader:
    """One decoding. ``budget`` bounds the values made: none of them is free of octets but null-data."""

    __slots__ = ("at", "budget", "octets")

    def __init__(self, octets: bytes, at: int) -> None:
        self.octets = octets
        self.at = at
        self.budget = 4 * (len(octets) - at) + 4

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise AxdrError("more values announced than the octets can hold")

    def take(self, count: int) -> bytes:
        taken, self.at = take_octets(self.octets, self.at, count)
        return taken

    def length(self) -> int:
        length, self.at = decode_length(self.octets, self.at)
        return length

    def value(self, depth: int) -> Value:
        self.spend(1)
        return self.contents(self.take(1)[0], depth)

    def contents(self, tag: int, depth: int) -> Value:
        number = _NUMBERS.get(tag)
        if number is not None:
            result: Value = number.unpack(self.take(number.size))[0]
            return result
        if tag in (Tag.ARRAY, Tag.STRUCTURE):
            return self._sequence(tag, depth)
        simple = _SIMPLE.get(tag)
        if simple is not None:
            return simple(self)
        if tag == Tag.COMPACT_ARRAY:
            return self._compact_array(depth)
        raise AxdrError(f"unknown data tag {tag}")

    def _sequence(self, tag: int, depth: int) -> Value:
        if depth <= 0:
            raise AxdrError(f"arrays and structures nested more than {MAX_DEPTH} deep")
        count = self.length()
        if count > len(self.octets) - self.at:
            raise AxdrError(f"{count} elements announced, {len(self.octets) - self.at} octets there")
        elements = [self.value(depth - 1) for _ in range(count)]
        return elements if tag == Tag.ARRAY else tuple(elements)

    def _compact_array(self, depth: int) -> list[Value]:
        shape = self._shape(depth - 1)
        length = self.length()
        end = self.at + length
        if end > len(self.octets):
            raise AxdrError("compact array is cut short")
        elements: list[Value] = []
        while self.at < end:
            before = self.at
            elements.append(self._shaped(shape))
            if self.at == before or self.at > end:
                raise AxdrError("compact array's contents do not fit its type description")
        return elements

    def _shape(self, depth: int) -> Any:
        """Read a TypeDescription: a tag, ``(count, shape)`` of an array or a list of shapes of a structure."""
        if depth <= 0:
            raise AxdrError(f"type description nested more than {MAX_DEPTH} deep")
        tag = self.take(1)[0]
        if tag == Tag.ARRAY:
            count = int.from_bytes(self.take(2), "big")
            return (count, self._shape(depth - 1))
        if tag == Tag.STRUCTURE:
            return [self._shape(depth - 1) for _ in range(self.length())]
        if tag == Tag.COMPACT_ARRAY:
            raise AxdrError("compact array within a compact array")
        return tag

    def _shaped(self, shape: Any) -> Value:
        self.spend(1)
        if isinstance(shape, list):
            return tuple(self._shaped(element) for element in shape)
        if isinstance(shape, tuple):
            count, element = shape
            return [self._shaped(element) for _ in range(count)]
        return self.contents(shape, 0)

    def text(self, encoding: str) -> str:
        return self.take(self.length()).decode(encoding, "replace")

    def bits(self) -> Bits:
        count = self.length()
        octets = self.take((count + 7) // 8)
        return Bits("".join(f"{octet:08b}" for octet in octets)[:count])


_SIMPLE: dict[int, Callable[[_Reader], Value]] = {
    Tag.NULL_DATA: lambda _: None,
    Tag.DONT_CARE: lambda _: None,
    Tag.BOOLEAN: lambda reader: reader.take(1) != b"\x00",
    Tag.ENUM: lambda reader: Enumerated(reader.take(1)[0]),
    Tag.OCTET_STRING: lambda reader: reader.take(reader.length()),
    Tag.VISIBLE_STRING: lambda reader: reader.text("ascii"),
    Tag.UTF8_STRING: lambda reader: reader.text("utf-8"),
    Tag.BIT_STRING: lambda reader: reader.bits(),
    Tag.DATE_TIME: lambda reader: reader.take(12),
    Tag.DATE: lambda reader: reader.take(5),
    Tag.TIME: lambda reader: reader.take(4),
}


def decode_from(octets: bytes, at: int = 0) -> tuple[Value, int]:
    """Return the value that starts at ``at`` and the offset behind it; raises AxdrError."""
    reader = _Reader(octets, at)
    return reader.value(MAX_DEPTH), reader.at


def decode(octets: bytes) -> Value:
    """Return the one value that ``octets`` are; raises AxdrError, also for octets left over."""
    value, end = decode_from(octets)
    if end != len(octets):
        raise AxdrError(f"{len(octets) - end} octets behind the value")
    return value


def elements_of(octets: bytes) -> list[bytes]:
    """Return the elements of an encoded structure, each left encoded; raises AxdrError."""
    if octets[:1] != bytes((Tag.STRUCTURE,)):
        raise AxdrError("structure expected")
    count, at = decode_length(octets, 1)
    elements: list[bytes] = []
    for _ in range(count):
        element, at = take_value(octets, at)
        elements.append(element)
    if at != len(octets):
        raise AxdrError(f"{len(octets) - at} octets behind the structure")
    return elements


def take_value(octets: bytes, at: int) -> tuple[bytes, int]:
    """Return the encoding of the value that starts at ``at`` and the offset behind it; raises AxdrError."""
    _, end = decode_from(octets, at)
    return octets[at:end], end
