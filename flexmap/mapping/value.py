"""One value, two encodings: register integers (COSEM) and engineering values (IEC 61850).

value = raw × 10^scaler unit. Energies, counters and states are the register's integer on both faces; an
instantaneous value is a float that stands on the register's grid, so that it turns back into the same integer.
"""

from __future__ import annotations

from flexmap.model import Kind, Part, Point, Value

RANGES = {
    "unsigned": (0, 0xFF),
    "integer": (-0x80, 0x7F),
    "long-unsigned": (0, 0xFFFF),
    "long": (-0x8000, 0x7FFF),
    "double-long-unsigned": (0, 0xFFFF_FFFF),
    "double-long": (-0x8000_0000, 0x7FFF_FFFF),
    "long64-unsigned": (0, 0xFFFF_FFFF_FFFF_FFFF),
    "long64": (-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
    "enum": (0, 0xFF),
}


def engineering(point: Point, raw: int) -> float | int:
    """Return the value of a register's integer: ``float`` in the base unit if instantaneous, else the integer."""
    if point.kind is not Kind.INSTANTANEOUS:
        return raw
    if point.scaler >= 0:
        return float(raw * int(10**point.scaler))
    return raw / int(10**-point.scaler)


def raw(point: Point, value: Value, part: Part = Part.NET) -> int:
    """Return the register integer of a value, or of its plus or minus part.

    Raises OverflowError if the register's type cannot hold it.
    """
    if value is None or isinstance(value, str):
        raise TypeError(f"{point.name}: {value!r} has no register integer")
    number = value
    if part is Part.PLUS:
        number = max(number, 0)
    elif part is Part.MINUS:
        number = max(-number, 0)
    if point.kind is Kind.INSTANTANEOUS:
        scale = 10 ** abs(point.scaler)
        number = round(number / scale if point.scaler > 0 else number * scale)
    integer = int(number)
    low, high = RANGES.get(point.type, (integer, integer))
    if not low <= integer <= high:
        raise OverflowError(f"{point.name}: {integer} does not fit {point.type}")
    return integer


def quantise(point: Point, value: float) -> float | int:
    """Return the value as the register would show it: put on the register's grid, held within its range.

    A counter register rolls over at its type's end; an instantaneous one stays at its limit.
    """
    low, high = RANGES[point.type]
    if any(register.part is Part.MINUS for register in point.registers):
        low = -high
    if point.kind is Kind.INSTANTANEOUS:
        scale = 10 ** abs(point.scaler)
        integer = round(value / scale if point.scaler > 0 else value * scale)
        return engineering(point, min(max(integer, low), high))
    return int(value) % (high + 1)
