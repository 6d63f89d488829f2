"""One second of a meter, as the METRO task stores it, in integers.

The seed's ``metro_data_store_t`` holds active, reactive and apparent energy and power and a time stamp. Here the
active and the reactive energy stand as import and export, as the meter's registers do, and voltage, current and
frequency are added. Units are those of the registers that the meter's values end up in: Wh, varh, VAh, W, var, VA,
0.1 V, 0.01 A, 0.01 Hz; lags of voltages are in 0.01°.
"""

from __future__ import annotations

import enum
import struct

import msgspec

ENERGIES = 5
"""Active import and export, reactive import and export, apparent: of the total, then of each of three phases."""


class Layout(enum.IntEnum):
    """Which columns a record has; the number is that of the phases."""

    SINGLE_PHASE = 1
    THREE_PHASE = 3

    @property
    def energies(self) -> int:
        """Number of energies."""
        return ENERGIES if self is Layout.SINGLE_PHASE else ENERGIES * 4

    @property
    def measured(self) -> int:
        """Number of measured values: frequency; each phase's V, P, Q, S, I; of three, total P, Q, S, two lags."""
        return 6 if self is Layout.SINGLE_PHASE else 1 + 3 * 5 + 5


FREQUENCY = 0
VOLTAGE, ACTIVE, REACTIVE, APPARENT, CURRENT = range(1, 6)
"""Places of L1's values among the measured ones; those of L2 and L3 follow, five places on each."""
PHASE_VALUES = 5
TOTAL_ACTIVE, TOTAL_REACTIVE, TOTAL_APPARENT, LAG_L2, LAG_L3 = range(16, 21)
"""Places of a three-phase meter's totals, and of what its L2's and L3's voltages come behind L1's, in 0.01°."""


class Status(enum.IntFlag):
    """State of the meter in a record."""

    BREAKER_CLOSED = 1
    BREAKER_READY = 2
    """Open, ready for reconnection at the meter."""
    COVER_OPEN = 4
    CLOCK_DOUBTFUL = 8
    """The clock was never set."""
    CLOCK_CHANGED = 16
    """The clock has jumped before this record: its second does not follow the one before."""


_MODE_SHIFT = 5
USUAL_MODE = 4
"""Control mode of a breaker whose bits in the status, 5 to 7, are 0: they hold the mode, exclusive-or this."""


def mode_bits(mode: int) -> int:
    """Return the bits of a status that a control mode (class 70 attribute 4) stands in."""
    return (mode ^ USUAL_MODE) << _MODE_SHIFT


def mode_of(status: int) -> int:
    """Return the control mode that a status holds."""
    return status >> _MODE_SHIFT & 7 ^ USUAL_MODE


class State(msgspec.Struct, frozen=True, array_like=True):
    """What changes seldom."""

    status: int = Status.BREAKER_CLOSED
    breaker_operations: int = 0
    cover_openings: int = 0


class Record(msgspec.Struct, frozen=True, array_like=True):
    """``metro_data_store_t``: what stands in the ring buffer, one a second."""

    sequence: int
    """Counts the records of the meter; never comes twice."""
    time: int
    """Seconds since 1970-01-01T00:00:00 UTC; energies are those up to here."""
    state: State
    energies: tuple[int, ...]
    """Wh, varh, VAh."""
    measured: tuple[int, ...]
    """Frequency, then V, P, Q, S, I of each phase, then totals and lags (see above); empty where nothing was
    measured."""


_RAW = {Layout.SINGLE_PHASE: struct.Struct(">I5I HHiiIH"), Layout.THREE_PHASE: struct.Struct(">I20I H 15i iiI HH")}


class Slots:
    """An array of ``metro_data_store_t``: records at fixed places in one piece of memory."""

    __slots__ = ("_count", "_layout", "_memory", "_struct")

    _HEAD = struct.Struct("<QI")

    def __init__(self, layout: Layout, count: int) -> None:
        self._layout = layout
        self._count = count
        self._struct = struct.Struct(f"<QI3H?{layout.energies}Q{layout.measured}i")
        self._memory = bytearray(count * self._struct.size)

    def __len__(self) -> int:
        return self._count

    def head(self, place: int) -> tuple[int, int]:
        """Return sequence number and time of the record at a place."""
        sequence, time = self._HEAD.unpack_from(self._memory, place * self._struct.size)
        return sequence, time

    def __getitem__(self, place: int) -> Record:
        fields = self._struct.unpack_from(self._memory, place * self._struct.size)
        sequence, time, status, operations, openings, present = fields[:6]
        energies = fields[6 : 6 + self._layout.energies]
        measured = fields[6 + self._layout.energies :] if present else ()
        return Record(sequence, time, State(status, operations, openings), energies, measured)

    def __setitem__(self, place: int, record: Record) -> None:
        state = record.state
        self._struct.pack_into(
            self._memory,
            place * self._struct.size,
            record.sequence,
            record.time,
            state.status,
            state.breaker_operations & 0xFFFF,
            state.cover_openings & 0xFFFF,
            bool(record.measured),
            *record.energies,
            *(record.measured or (0,) * self._layout.measured),
        )


def raw_size(layout: Layout) -> int:
    """Return the octets of a record written plainly, without sequence and state: the measure of coding."""
    return _RAW[layout].size
