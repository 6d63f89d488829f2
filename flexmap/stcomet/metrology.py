"""The METRO task's own part: registers that count, and the ring buffer into which each second is stored.

The model of the site stands above this layer; it comes in as a :class:`Feed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from flexmap.model import Event, LocalError, RemoteError
from flexmap.model.breaker import Trigger
from flexmap.stcomet.phasors import THIRD, crossing, lag
from flexmap.stcomet.record import ENERGIES, Layout, Record, Slots, State
from flexmap.stcomet.stpm34 import Chip, Measured, PhaseInput, Reader

UNIT = 3_600_000
"""Counts of a register (mW·s) in one Wh."""
DEPTH = 3600
"""Records in the ring buffer: one hour."""


class Reading(msgspec.Struct, frozen=True):
    """What a second brings to the meter's terminals."""

    frequency: float
    """Hz; 0 without voltage."""
    phases: Sequence[PhaseInput] | None
    """L1, or L1 to L3; None where the load was not measured: registers stand still, the record has no powers."""


class Feed(Protocol):
    """The world around one meter: terminals, breaker, tamper inputs."""

    def measure(self, second: int) -> Reading:
        """Return what flows in the second that begins here; called once for each second, in order."""

    def state(self) -> State:
        """Return breaker and cover as they stand."""

    def operate(self, trigger: Trigger, time: int) -> bool:
        """Act on the line breaker at a time in ms; return whether its state has changed.

        Raises LocalError with the cause if its control mode or its state does not allow it.
        """

    def set_mode(self, mode: int, time: int) -> bool:
        """Set the breaker's control mode at a time in ms; return whether it was another.

        Raises LocalError if there is none such.
        """

    def take_events(self) -> list[Event]:
        """Return what has happened at breaker, tamper inputs and supply since the last call."""


class RingBuffer:
    """An array of records with the seed's two indexes: ``head`` is written next, ``tail`` is the oldest unread."""

    def __init__(self, depth: int = DEPTH, layout: Layout = Layout.SINGLE_PHASE) -> None:
        if depth < 2:
            raise LocalError("a ring buffer holds two records or more")
        self._slots = Slots(layout, depth)
        self.head = 0
        self.tail = 0
        self._unread = 0
        self._stored = 0
        self.overwritten = 0
        """Unread records that were lost to newer ones."""

    @property
    def depth(self) -> int:
        """Records that it holds."""
        return len(self._slots)

    @property
    def unread(self) -> int:
        """Records between tail and head."""
        return self._unread

    def append(self, record: Record) -> None:
        """Store at the head; if all is unread, the oldest record gives way and the tail moves on.

        A buffer holds one run of sequence numbers: behind a break in them it begins anew.
        """
        if self._stored and record.sequence != self._slots.head(self._back(1))[0] + 1:
            self._stored = self._unread = 0
            self.tail = self.head
        self._slots[self.head] = record
        self.head = (self.head + 1) % self.depth
        self._stored = min(self._stored + 1, self.depth)
        if self._unread == self.depth:
            self.tail = self.head
            self.overwritten += 1
        else:
            self._unread += 1

    def read(self) -> Record | None:
        """Return the record at the tail and move the tail on; None if all are read."""
        record = self.at_tail()
        if record is not None:
            self._move_tail()
        return record

    def release(self, sequence: int) -> None:
        """Move the tail past all records before a sequence number."""
        while self._unread and self._slots.head(self.tail)[0] < sequence:
            self._move_tail()

    def latest(self) -> Record | None:
        """Return the newest record, read or not."""
        return self._slots[self._back(1)] if self._stored else None

    def oldest(self) -> Record | None:
        """Return the oldest record that is still there, read or not."""
        return self._slots[self._back(self._stored)] if self._stored else None

    def at_tail(self) -> Record | None:
        """Return the record at the tail, without moving it."""
        return self._slots[self.tail] if self._unread else None

    def since(self, sequence: int) -> Iterator[Record]:
        """Return the records from a sequence number on, read or not; those no longer there are left out."""
        if not self._stored:
            return
        newest = self._slots.head(self._back(1))[0]
        for back in range(min(newest - sequence + 1, self._stored), 0, -1):
            yield self._slots[self._back(back)]

    def find(self, time: int) -> int | None:
        """Return the sequence number of the first record from a time on; None if all are older.

        Looks from the newest backwards: the clock may have been set, back too, meanwhile.
        """
        found = first = None
        for back in range(1, self._stored + 1):
            sequence, when = self._slots.head(self._back(back))
            if when >= time:
                if first is None or when < first:
                    found, first = sequence, when
            elif found is not None:
                break
        return found

    def _back(self, count: int) -> int:
        """Return the place so many records before the head."""
        return (self.head - count) % self.depth

    def _move_tail(self) -> None:
        self.tail = (self.tail + 1) % self.depth
        self._unread -= 1


class Metrology:
    """Counts energy and stores a record each second; three-phase meters read L2 and L3 from an STPM34."""

    def __init__(
        self,
        layout: Layout,
        feed: Feed,
        *,
        registers: Sequence[Sequence[int]] | None = None,
        depth: int = DEPTH,
        sequence: int = 0,
    ) -> None:
        """Set up; ``registers`` go on from counts in mW·s: five of the total, then of each of three phases."""
        self.layout = layout
        self.ring = RingBuffer(depth, layout)
        self._feed = feed
        self._sequence = sequence
        count = layout.energies // ENERGIES
        self.registers = (
            [list(part) for part in registers] if registers else [[0] * ENERGIES for _ in range(count)]
        )
        if [len(part) for part in self.registers] != [ENERGIES] * count:
            raise LocalError(f"{count} × {ENERGIES} registers are needed")
        self.chip = Chip() if layout is Layout.THREE_PHASE else None
        self._reader = Reader(self.chip.exchange, zcr=self.chip.zcr) if self.chip else None
        if self._reader:
            self._reader.read()  # what its registers hold by now was counted before
        self._owed = [0, 0, 0]
        """L1's energies of seconds in which the chip did not answer, in mW·s."""

    @property
    def next_sequence(self) -> int:
        """Sequence number of the record to come."""
        return self._sequence

    def second(self, second: int, times: Sequence[int] | None = None, flags: int = 0) -> Record | None:
        """Store the record of a second and count its energy: the record holds the energy up to its time.

        ``times`` are the seconds of the meter's clock that it bears, if that is not this one: two or none while
        the clock is slewed over a whole second. ``flags`` say what is wrong with them. Returns the newest record.
        """
        reading = self._feed.measure(second)
        state = self._feed.state()
        state = State(state.status | flags, state.breaker_operations, state.cover_openings)
        energies = tuple(register // UNIT for part in self.registers for register in part)
        phases = self._phases(reading)
        measured = () if phases is None else self._values(reading.frequency, phases)
        record = None
        for time in (second,) if times is None else times:
            record = Record(self._sequence, time, state, energies, measured)
            self._sequence += 1
            self.ring.append(record)
        if phases is not None:
            self._count(phases)
        return record

    def _phases(self, reading: Reading) -> list[Measured] | None:
        if reading.phases is None:
            return None
        first = reading.phases[0]
        powers = (first.active, first.reactive, first.apparent)
        frequency = reading.frequency
        edge = crossing(first.angle, frequency) if frequency and first.voltage else None
        own = Measured(*powers, first.voltage, first.current, powers, edge)
        if self.chip is None or self._reader is None:
            return [own]
        self.chip.advance(reading.phases[1:3], reading.frequency)
        active, reactive, apparent = (owed + power for owed, power in zip(self._owed, powers, strict=True))
        try:
            others = self._reader.read()
        except RemoteError:
            # The chip counts on by itself: all three phases are counted when it answers again.
            self._owed = [active, reactive, apparent]
            return None
        self._owed = [0, 0, 0]
        return [own._replace(work=(active, reactive, apparent)), *others]

    def _values(self, frequency: float, phases: Sequence[Measured]) -> tuple[int, ...]:
        values = [round(frequency * 100)]
        for phase in phases:
            powers = (phase.active, phase.reactive, phase.apparent)
            values += [
                round(phase.voltage * 10),
                *(round(power / 1000) for power in powers),
                round(phase.current * 100),
            ]
        if self.layout is Layout.THREE_PHASE:
            totals = (
                sum(p.active for p in phases),
                sum(p.reactive for p in phases),
                sum(p.apparent for p in phases),
            )
            values += [round(total / 1000) for total in totals]
            values += [_lag(phases, number, frequency) for number in (1, 2)]
        return tuple(values)

    def _count(self, phases: Sequence[Measured]) -> None:
        works = [phase.work for phase in phases]
        _add(self.registers[0], [sum(work) for work in zip(*works, strict=True)])
        for part, work in zip(self.registers[1:], works, strict=False):
            _add(part, work)


def _add(registers: list[int], work: Sequence[int]) -> None:
    active, reactive, apparent = work
    registers[0 if active >= 0 else 1] += abs(active)
    registers[2 if reactive >= 0 else 3] += abs(reactive)
    registers[4] += apparent


def _lag(phases: Sequence[Measured], number: int, frequency: float) -> int:
    """Return by how much the voltage of L2 (1) or L3 (2) comes behind L1's, in 0.01°."""
    own, other = phases[0].crossing, phases[number].crossing
    return number * THIRD if own is None or other is None else lag(own, other, frequency)
