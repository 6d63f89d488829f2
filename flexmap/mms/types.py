"""Types of MMS variables: how they are described to clients, what fits them, what stands in them at first."""

from __future__ import annotations

from functools import cached_property

import msgspec

from flexmap.mms import ber, data


class Leaf(msgspec.Struct, frozen=True):
    """A type without components."""

    tag: int
    """Of its data."""
    description: bytes
    """TypeDescription (ISO 9506-2), encoded."""
    initial: bytes
    """A value, encoded."""
    size: int = 0
    """Bits of an integer, of a floating point number, of a bit string; octets of a string (the most)."""

    def fits(self, value: bytes, at: int, end: int) -> bool:
        """Tell whether the one element from ``at`` to ``end`` is of this type; raises BerError."""
        tag, begin, stop = ber.element(value, at, end)
        if tag != self.tag or stop != end:
            return False
        count = stop - begin
        check = _CHECKS.get(tag)
        return check is None or check(self.size, value, begin, count)


class Structure(msgspec.Struct, frozen=True, dict=True):
    """A structure with named components."""

    components: tuple[tuple[str, Type], ...]

    @cached_property
    def description(self) -> bytes:
        """TypeDescription, encoded."""
        fields = b"".join(
            ber.tlv(0x30, ber.tlv(0x80, name.encode()), ber.tlv(0xA1, kind.description))
            for name, kind in self.components
        )
        return ber.tlv(0xA2, ber.tlv(0xA1, fields))

    def fits(self, value: bytes, at: int, end: int) -> bool:
        """Tell whether the one element from ``at`` to ``end`` is of this type; raises BerError."""
        return _fit(value, at, end, data.STRUCTURE, [kind for _, kind in self.components])


class Array(msgspec.Struct, frozen=True, dict=True):
    """Elements of one type, counted from 0."""

    element: Type
    count: int

    @cached_property
    def description(self) -> bytes:
        """TypeDescription, encoded."""
        number = ber.integer_octets(self.count)
        return ber.tlv(0xA1, ber.tlv(0x81, number), ber.tlv(0xA2, self.element.description))

    def fits(self, value: bytes, at: int, end: int) -> bool:
        """Tell whether the one element from ``at`` to ``end`` is of this type; raises BerError."""
        return _fit(value, at, end, data.ARRAY, [self.element] * self.count)


Type = Leaf | Structure | Array


def _fit(value: bytes, at: int, end: int, wanted: int, kinds: list[Type]) -> bool:
    tag, begin, stop = ber.element(value, at, end)
    if tag != wanted or stop != end:
        return False
    for kind in kinds:
        if begin == stop:
            return False
        _, _, after = ber.element(value, begin, stop)
        if not kind.fits(value, begin, after):
            return False
        begin = after
    return begin == stop


def _boolean(_size: int, _value: bytes, _at: int, count: int) -> bool:
    return count == 1


def _integer(size: int, value: bytes, at: int, count: int) -> bool:
    if not 0 < count <= 9:
        return False
    number = int.from_bytes(value[at : at + count], "big", signed=True)
    return -(1 << (size - 1)) <= number < 1 << (size - 1)


def _unsigned(size: int, value: bytes, at: int, count: int) -> bool:
    return 0 < count <= 9 and int.from_bytes(value[at : at + count], "big") < 1 << size


def _float(size: int, _value: bytes, _at: int, count: int) -> bool:
    return count == size // 8 + 1


def _bits(size: int, value: bytes, at: int, count: int) -> bool:
    return count > 0 and value[at] < 8 and (count - 1) * 8 - value[at] == size


def _octets(size: int, _value: bytes, _at: int, count: int) -> bool:
    return count <= size


def _fixed(size: int, _value: bytes, _at: int, count: int) -> bool:
    return count == size


_CHECKS = {
    data.BOOLEAN: _boolean,
    data.INTEGER: _integer,
    data.UNSIGNED: _unsigned,
    data.FLOAT: _float,
    data.BIT_STRING: _bits,
    data.OCTET_STRING: _octets,
    data.VISIBLE_STRING: _octets,
    data.MMS_STRING: _octets,
    data.UTC_TIME: _fixed,
    data.BINARY_TIME: _fixed,
}


def _signed(number: int) -> bytes:
    return ber.integer_octets(number)


def integer(bits: int) -> Leaf:
    """Return an integer type."""
    return Leaf(data.INTEGER, ber.tlv(0x85, _signed(bits)), data.integer(0), bits)


def unsigned(bits: int) -> Leaf:
    """Return an unsigned integer type."""
    return Leaf(data.UNSIGNED, ber.tlv(0x86, _signed(bits)), data.unsigned(0), bits)


def bit_string(bits: int, *, varying: bool = False) -> Leaf:
    """Return a bit string type; its size is described as the most (a negative number) if ``varying``."""
    described = ber.tlv(0x84, _signed(-bits if varying else bits))
    return Leaf(data.BIT_STRING, described, data.bit_string(0, bits), bits)


def octet_string(octets: int, *, varying: bool = True) -> Leaf:
    """Return an octet string type: of up to so many octets, or of so many."""
    initial = data.octet_string(b"" if varying else bytes(octets))
    return Leaf(data.OCTET_STRING, ber.tlv(0x89, _signed(-octets if varying else octets)), initial, octets)


def visible_string(characters: int) -> Leaf:
    """Return a string type of up to so many characters."""
    return Leaf(data.VISIBLE_STRING, ber.tlv(0x8A, _signed(-characters)), data.visible_string(""), characters)


BOOLEAN = Leaf(data.BOOLEAN, b"\x83\x00", data.FALSE)
FLOAT32 = Leaf(data.FLOAT, bytes.fromhex("a706020120020108"), data.float32(0.0), 32)
FLOAT64 = Leaf(data.FLOAT, bytes.fromhex("a70602014002010b"), data.float64(0.0), 64)
UNICODE255 = Leaf(data.MMS_STRING, ber.tlv(0x90, _signed(-255)), data.mms_string(""), 255 * 4)
UTC_TIME = Leaf(data.UTC_TIME, b"\x91\x00", data.utc_time(0, 0), 8)
BINARY_TIME = Leaf(data.BINARY_TIME, b"\x8c\x01\x01", b"\x8c\x06" + bytes(6), 6)
