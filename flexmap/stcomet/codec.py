"""Records in bulk: each value is foretold from what is already known, and what is left is written in few bits.

Lossless, in integer arithmetic alone (firmware without floating point can do the same), and canonical: one
sequence of records has exactly one encoding, and the decoder takes no other. docs/flexmeter-payload.md describes
the bits; ``_Row`` is the model of a meter that both sides run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isqrt
from typing import Protocol

from flexmap.stcomet.bits import BitError, BitReader, BitWriter, Rice, read_long, unzigzag, write_long, zigzag
from flexmap.stcomet.phasors import THIRD
from flexmap.stcomet.record import (
    ACTIVE,
    APPARENT,
    CURRENT,
    ENERGIES,
    LAG_L2,
    LAG_L3,
    PHASE_VALUES,
    REACTIVE,
    TOTAL_ACTIVE,
    TOTAL_APPARENT,
    VOLTAGE,
    Layout,
    Record,
    State,
)

MAX_ENERGY = 2**48
"""Energies are below this many Wh."""
MAX_MEASURED = 2**31
MAX_COUNT = 2**16
MAX_TIME = 2**32
NOMINAL_FREQUENCY = 5000
"""0.01 Hz: what the first record's frequency is foretold as."""
NOMINAL_VOLTAGE = 2300
"""0.1 V"""
NOMINAL_LAGS = (THIRD, 2 * THIRD)
_IMPORTS, _EXPORTS = (0, 2), (1, 3)
"""Places of active and reactive energy."""
_HOUR = 3600
"""Seconds; W·s in one Wh."""


class _Coder(Protocol):
    """One direction of the coding: takes a residual's place and prediction, gives the value."""

    def value(self, column: int, foretold: int, value: int) -> int:
        """Return the value of a column, whose residual goes over its adaptive code."""

    def flag(self, value: bool) -> bool:
        """Return one bit."""

    def long(self, value: int) -> int:
        """Return a number ≥ 0 that is seldom written."""


class _Encoder(_Coder):
    def __init__(self, writer: BitWriter, columns: int) -> None:
        self._writer = writer
        self._codes = [Rice() for _ in range(columns)]

    def value(self, column: int, foretold: int, value: int) -> int:
        self._codes[column].write(self._writer, value - foretold)
        return value

    def flag(self, value: bool) -> bool:
        self._writer.write(value, 1)
        return value

    def long(self, value: int) -> int:
        write_long(self._writer, value)
        return value


class _Decoder(_Coder):
    def __init__(self, reader: BitReader, columns: int) -> None:
        self._reader = reader
        self._codes = [Rice() for _ in range(columns)]

    def value(self, column: int, foretold: int, value: int) -> int:  # noqa: ARG002 - known to the encoder alone
        return foretold + self._codes[column].read(self._reader)

    def flag(self, value: bool) -> bool:  # noqa: ARG002
        return bool(self._reader.read(1))

    def long(self, value: int) -> int:  # noqa: ARG002
        return read_long(self._reader)


class _Row:
    """What both sides know of the meter, and the order in which a record's values are coded."""

    def __init__(self, layout: Layout, coder: _Coder) -> None:
        self._layout = layout
        self._coder = coder
        self._time = 0
        self._state = State(0, 0, 0)
        self._present = False
        self._first = True
        self._energies = [0] * layout.energies
        self._fractions = [0] * layout.energies
        self._measured = [NOMINAL_FREQUENCY, NOMINAL_VOLTAGE] + [0] * (layout.measured - 2)
        if layout is Layout.THREE_PHASE:
            self._measured[LAG_L2:] = NOMINAL_LAGS
        # Of each phase: S and √(P² + Q²), summed up and fading: their ratio is the distortion of its current.
        self._shape = [[0, 0] for _ in range(layout)]

    def code(self, record: Record) -> tuple[int, State, tuple[int, ...], tuple[int, ...]]:
        """Code a record (its content matters to an encoder alone); return time, state, energies, measured."""
        powers = self._powers(self._measured) if self._present else ()
        self._head(record)
        energies = self._code_energies(record.energies, powers)
        measured = self._code_measured(record.measured) if self._present else ()
        self._first = False
        return self._time, self._state, energies, measured

    def _head(self, record: Record) -> None:
        """One bit says that the record is the next second's, in the same state as the one before."""
        coder = self._coder
        expected = (self._time + 1, self._state, self._present)
        if not self._first and not coder.flag((record.time, record.state, bool(record.measured)) != expected):
            self._time += 1
            if self._time == MAX_TIME:
                raise BitError("time out of range")
            return
        self._time = coder.long(record.time)
        old, new = self._state, record.state
        numbers = (
            unzigzag(coder.long(zigzag(new.status - old.status))) + old.status,
            unzigzag(coder.long(zigzag(new.breaker_operations - old.breaker_operations))) + old.breaker_operations,
            unzigzag(coder.long(zigzag(new.cover_openings - old.cover_openings))) + old.cover_openings,
        )
        self._state = State(*numbers)
        self._present = coder.flag(bool(record.measured))
        if not 0 <= self._time < MAX_TIME or not all(0 <= number < MAX_COUNT for number in numbers):
            raise BitError("time or state out of range")
        if not self._first and (self._time, self._state, self._present) == expected:
            raise BitError("an ordinary record written as an unusual one")

    def _code_energies(self, values: Sequence[int], powers: Sequence[Sequence[int]]) -> tuple[int, ...]:
        coder, old = self._coder, self._energies
        foretold = self._foretell_energies(powers)
        encoding = bool(values)
        if coder.flag(not encoding or any(map(int.__ne__, values, foretold))):
            total = self._write_energies(values or (0,) * len(old), list(foretold))
            if total == foretold:
                raise BitError("energies as foretold, written out")
        else:
            total = foretold
        for place, value in enumerate(total):
            if not 0 <= value < MAX_ENERGY:
                raise BitError("energy out of range")
            # What is above the register's resolution: known after the first step, kept within one unit.
            rest = self._fractions[place] - (value - old[place]) * _HOUR
            self._fractions[place] = min(max(rest, 0), _HOUR - 1)
        self._energies = total
        return tuple(total)

    def _write_energies(self, values: Sequence[int], foretold: list[int]) -> list[int]:
        """Code the energies, the total behind the phases.

        In the first record the total is foretold as their sum, an apparent energy as √(P² + Q²) of its energies.
        What phases import and others export at the same time is in neither total: both differ by it from the sums.
        """
        count = len(foretold)
        total = [0] * count
        for place in (*range(ENERGIES, count), *range(ENERGIES)):
            if self._first and place < ENERGIES < count:
                netted = total[place - 1] - foretold[place - 1] if place in _EXPORTS else 0
                foretold[place] = sum(total[place + ENERGIES :: ENERGIES]) + netted
            elif self._first and place % ENERGIES == ENERGIES - 1:
                active, reactive = sum(total[place - 4 : place - 2]), sum(total[place - 2 : place])
                foretold[place] = isqrt(active * active + reactive * reactive)
            near = place < ENERGIES < count and place not in _IMPORTS
            total[place] = self._value(place, foretold[place], values[place], near=near)
        return total

    def _foretell_energies(self, powers: Sequence[Sequence[int]]) -> list[int]:
        """Return the energies that the powers of the record before give."""
        foretold = list(self._energies)
        for part, (active, reactive, apparent) in enumerate(powers):
            place = part * ENERGIES
            for register, power in enumerate((active, -active, reactive, -reactive, apparent)):
                if power > 0:
                    self._fractions[place + register] += power
                    foretold[place + register] += self._fractions[place + register] // _HOUR
        return foretold

    def _powers(self, measured: Sequence[int]) -> list[Sequence[int]]:
        if self._layout is Layout.SINGLE_PHASE:
            return [measured[ACTIVE : APPARENT + 1]]
        phases = [
            measured[ACTIVE + shift : APPARENT + 1 + shift] for shift in range(0, 3 * PHASE_VALUES, PHASE_VALUES)
        ]
        return [measured[TOTAL_ACTIVE : TOTAL_APPARENT + 1], *phases]

    def _code_measured(self, values: Sequence[int]) -> tuple[int, ...]:
        values = values or (0,) * len(self._measured)
        old, new = self._measured, [0] * len(self._measured)
        self._one(new, 0, old[0], values)
        for phase in range(self._layout):
            self._code_phase(phase, old, new, values)
        if self._layout is Layout.THREE_PHASE:
            for place in range(TOTAL_ACTIVE, LAG_L2):
                shift = place - TOTAL_ACTIVE + ACTIVE
                self._one(new, place, sum(new[shift:TOTAL_ACTIVE:PHASE_VALUES]), values, near=True)
            for place in (LAG_L2, LAG_L3):
                self._one(new, place, old[place], values)
        self._measured = new
        return tuple(new)

    def _code_phase(self, phase: int, old: Sequence[int], new: list[int], values: Sequence[int]) -> None:
        shift = phase * PHASE_VALUES
        voltage, active, reactive = VOLTAGE + shift, ACTIVE + shift, REACTIVE + shift
        # The phases' voltages move together.
        known = old[voltage] if not phase or old[voltage] else new[VOLTAGE]
        self._one(new, voltage, known, values)
        self._one(new, active, old[active], values)
        self._one(new, reactive, _along(old[reactive], old[active], new[active]), values)
        hypotenuse = isqrt(new[active] ** 2 + new[reactive] ** 2)
        shape = self._shape[phase]
        self._one(new, APPARENT + shift, hypotenuse * shape[0] // shape[1] if shape[1] else hypotenuse, values)
        apparent = new[APPARENT + shift]
        shape[0] += apparent - (shape[0] >> 4)
        shape[1] += hypotenuse - (shape[1] >> 4)
        # VA and 0.1 V give 0.01 A: S · 1000 / V, rounded.
        known = (2000 * apparent + new[voltage]) // (2 * new[voltage]) if new[voltage] else 0
        self._one(new, CURRENT + shift, known, values, near=True)

    def _value(self, column: int, foretold: int, value: int, *, near: bool = False) -> int:
        if self._first and not near:  # nothing is known yet: the residual is of any size
            return unzigzag(self._coder.long(zigzag(value - foretold))) + foretold
        return self._coder.value(column, foretold, value)

    def _one(
        self, new: list[int], place: int, foretold: int, values: Sequence[int], *, near: bool = False
    ) -> None:
        """Code one measured value; ``near`` if it follows from others of its record but for rounding."""
        value = self._value(self._layout.energies + place, foretold, values[place], near=near)
        if not -MAX_MEASURED < value < MAX_MEASURED:
            raise BitError("measured value out of range")
        new[place] = value


def _along(reactive: int, before: int, after: int) -> int:
    """Return the reactive power, moved as the active power has moved, if that is of the same sign and not far."""
    if before * after <= 0 or not abs(before) < 2 * abs(after) < 4 * abs(before):
        return reactive
    return reactive + reactive * (after - before) // before


def encode(layout: Layout, records: Iterable[Record], most_bits: int) -> tuple[bytes, int]:
    """Return the octets of as many of the records as ``most_bits`` hold, and their number (0: not even one)."""
    writer = BitWriter()
    row = _Row(layout, _Encoder(writer, layout.energies + layout.measured))
    count = 0
    for record in records:
        mark = writer.mark()
        row.code(record)
        if writer.bits > most_bits:
            writer.back(mark)
            break
        count += 1
    return writer.octets(), count


def decode(layout: Layout, sequence: int, count: int, octets: bytes) -> list[Record]:
    """Return ``count`` records, numbered from ``sequence`` on; raises BitError."""
    reader = BitReader(octets)
    row = _Row(layout, _Decoder(reader, layout.energies + layout.measured))
    nothing = Record(0, 0, State(), (), ())
    records = [Record(sequence + number, *row.code(nothing)) for number in range(count)]
    reader.end()
    return records
