"""Bits for the bulk coder: most significant bit first, and the adaptive Golomb–Rice code of one column.

Rice codes and their adaptation follow the idea of LOCO-I (Weinberger, Seroussi, Sapiro, 2000): the parameter is
taken from the running mean of the magnitudes, so that no table travels.
"""

from __future__ import annotations

from flexmap.model import RemoteError

ESCAPE = 12
"""A quotient of so many ones says that a length and the number itself follow."""
_LENGTH_BITS = 6
_WINDOW = 16
"""Numbers over which the mean runs before it is halved."""


class BitError(RemoteError):
    """Bits that no encoder of ours has written."""


class BitWriter:
    """Collects bits."""

    __slots__ = ("_value", "bits")

    def __init__(self) -> None:
        self._value = 0
        self.bits = 0
        """How many have been written."""

    def write(self, value: int, width: int) -> None:
        """Append the ``width`` low bits of a number that fits them."""
        self._value = self._value << width | value
        self.bits += width

    def mark(self) -> tuple[int, int]:
        """Return the present end, for :meth:`back`."""
        return self._value, self.bits

    def back(self, mark: tuple[int, int]) -> None:
        """Take back what was written since."""
        self._value, self.bits = mark

    def octets(self) -> bytes:
        """Return whole octets, the last one filled with zero bits."""
        padding = -self.bits % 8
        return (self._value << padding).to_bytes((self.bits + padding) // 8, "big")


class BitReader:
    """Takes bits from octets."""

    __slots__ = ("_left", "_value")

    def __init__(self, octets: bytes) -> None:
        self._value = int.from_bytes(octets, "big")
        self._left = 8 * len(octets)

    def read(self, width: int) -> int:
        """Return the next ``width`` bits as a number; raises BitError behind the end."""
        if width > self._left:
            raise BitError("octets end within a record")
        self._left -= width
        return self._value >> self._left & ((1 << width) - 1)

    def ones(self, most: int) -> int:
        """Return how many ones stand before a zero, and pass the zero; no zero is looked for after ``most``."""
        count = 0
        while count < most and self.read(1):
            count += 1
        return count

    def end(self) -> None:
        """Raise BitError unless only the last octet's padding is left, and it is zero."""
        if self._left > 7 or self._value & ((1 << self._left) - 1):
            raise BitError("octets behind the last record")


def write_long(writer: BitWriter, number: int) -> None:
    """Write a number ≥ 0 of any length below 64 bits: its length, then its bits below the leading one."""
    length = number.bit_length()
    writer.write(length, _LENGTH_BITS)
    if length > 1:
        writer.write(number & ((1 << (length - 1)) - 1), length - 1)


def read_long(reader: BitReader) -> int:
    """Return what :func:`write_long` wrote."""
    length = reader.read(_LENGTH_BITS)
    return 1 << (length - 1) | reader.read(length - 1) if length else 0


def zigzag(number: int) -> int:
    """Return 0, 1, 2, 3, 4 … for 0, −1, 1, −2, 2 …."""
    return number << 1 if number >= 0 else -number * 2 - 1


def unzigzag(number: int) -> int:
    """Return what :func:`zigzag` was given."""
    return -(number + 1 >> 1) if number & 1 else number >> 1


class Rice:
    """The code of one column's residuals, adapting as it goes; encoder and decoder keep one each."""

    __slots__ = ("_count", "_sum")

    def __init__(self) -> None:
        self._count = 1
        self._sum = 0

    def write(self, writer: BitWriter, residual: int) -> None:
        """Write a residual of either sign."""
        number = zigzag(residual)
        parameter = self._parameter()
        quotient = number >> parameter
        if quotient < ESCAPE:
            # So many ones, a zero, then the rest.
            writer.write(((1 << quotient) - 1) << 1, quotient + 1)
            writer.write(number & ((1 << parameter) - 1), parameter)
        else:
            writer.write((1 << ESCAPE) - 1, ESCAPE)
            write_long(writer, number)
        self._adapt(number)

    def read(self, reader: BitReader) -> int:
        """Return the next residual."""
        parameter = self._parameter()
        quotient = reader.ones(ESCAPE)
        if quotient < ESCAPE:
            number = quotient << parameter | reader.read(parameter)
        else:
            number = read_long(reader)
            if number >> parameter < ESCAPE:
                raise BitError("a small number written the long way")
        self._adapt(number)
        return unzigzag(number)

    def _parameter(self) -> int:
        parameter = 0
        while self._count << parameter < self._sum:
            parameter += 1
        return parameter

    def _adapt(self, number: int) -> None:
        # A single outlier (a kettle switched on) must not spoil what follows.
        self._sum += min(number, (self._sum // self._count + 4) * 8)
        self._count += 1
        if self._count == _WINDOW:
            self._sum >>= 1
            self._count >>= 1
