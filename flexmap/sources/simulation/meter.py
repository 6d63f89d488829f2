"""One simulated meter: registers, breaker and cover input; makes a sample of its type's points each second.

Registers count at 1 Hz in integers of mW·s (3,600,000 of them are one Wh) and show whole register units. A
sample shows the energy up to its own time stamp: the second that begins there is not yet in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flexmap.mapping.value import quantise
from flexmap.model import Event, EventCode, EventLog, Kind, Meter, MeterType, Point, Sample, Value, quality
from flexmap.model.breaker import MOST_MODE
from flexmap.model.sample import CONTROL_MODE
from flexmap.sources.load import DAY
from flexmap.sources.simulation import electric
from flexmap.sources.simulation.breaker import Breaker, State, Trigger
from flexmap.sources.simulation.electric import Phase
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.settings import Connection, is_three_phase
from flexmap.stcomet.phasors import components

UNIT = 3_600_000
"""Counts of an energy register in one Wh, varh or VAh."""

_ENERGIES = (
    "energy-active-import",
    "energy-active-export",
    "energy-reactive-import",
    "energy-reactive-export",
    "energy-apparent",
)
_NOT_COUNTING = quality.QUESTIONABLE | quality.OLD_DATA
_COVERS = (
    (EventCode.TERMINAL_COVER_OPENED, EventCode.TERMINAL_COVER_CLOSED),
    (EventCode.METER_COVER_OPENED, EventCode.METER_COVER_CLOSED),
)


class MeterModel:
    """A meter of any type whose points have names of the built-in tables; other points stay never read."""

    def __init__(
        self, meter: Meter, meter_type: MeterType, connection: Connection, seed: int, last: Sample | None = None
    ) -> None:
        self.id = meter.id
        self.three_phase = is_three_phase(meter_type)
        self.has_breaker = any(point.name.startswith("breaker") for point in meter_type.points)
        self.events: list[Event] = []
        """What has happened and was not yet taken."""
        self._points = meter_type.points
        self._good = (quality.GOOD,) * len(self._points)
        self._connection = connection
        self._key = f"{seed}/{meter.id}"
        # Five registers of the total, then of each phase.
        self.registers = self._first_registers()
        self.breaker = Breaker(connection.control_mode)
        self._cover: tuple[EventCode, EventCode] | None = None
        self._cover_forced = False
        self._cover_openings = 0
        self._tamper_day = -1
        self._tamper = (0, 0, _COVERS[0])
        self.measured: Sequence[Phase] | None = None
        """What flowed in the last second read; None where the load was not measured."""
        self.frequency = 0.0
        """Hz of the last second read; 0 without supply."""
        self._supplied = True
        if last is not None and len(last.values) == len(self._points):
            self._restore(dict(zip(meter_type.index, last.values, strict=True)))

    @property
    def cover_open(self) -> bool:
        """Whether a cover stands open."""
        return self._cover is not None

    @property
    def cover_openings(self) -> int:
        """How often a cover was opened."""
        return self._cover_openings

    def phases(self, flow: tuple[int, int]) -> Sequence[tuple[int, int, int]]:
        """Return (phase number, active, reactive) of what flows through the meter; nothing if it is open."""
        active, reactive = flow if self.breaker.closed else (0, 0)
        connection = self._connection
        if not self.three_phase:
            return ((connection.phase, active, reactive),)
        first, second = connection.split[:2]
        one = (active * first // 1000, reactive * first // 1000)
        two = (active * second // 1000, reactive * second // 1000)
        # The last phase takes the rest: nothing is lost by rounding.
        return ((0, *one), (1, *two), (2, active - one[0] - two[0], reactive - one[1] - two[1]))

    def read(self, second: int, frequency: float, phases: Sequence[Phase] | None) -> Sample:
        """Return the sample of a second and count its energy.

        ``phases`` is one phase of a single-phase meter, L1 to L3 of a three-phase meter; None where the load
        was not measured: then powers and currents are missing, and the registers stand still.
        """
        self._watch_cover(second)
        shown = self._status()
        self._show_registers(shown)
        self.measured = phases and [self._measured(phase) for phase in phases]
        self.frequency = frequency
        if self.measured is None:
            return self._gap(second, shown)
        phases = self.measured
        self._watch_supply(second, phases)
        self.frequency = frequency if self._supplied else 0.0
        shown["frequency"] = self.frequency or None
        if self.three_phase:
            _show_three(shown, phases)
        _show_total(shown, phases)
        self._count(phases)
        values = tuple(_on_grid(point, shown.get(point.name)) for point in self._points)
        missing = None in values
        marks = tuple(quality.NEVER_READ if value is None else 0 for value in values) if missing else self._good
        return Sample(self.id, second * 1000, values, marks)

    def operate(self, trigger: Trigger, time: int) -> bool:
        """Act on the breaker at a time in ms; return whether it has changed its state.

        Raises LocalError with the cause if it cannot be.
        """
        code = self.breaker.trigger(trigger)
        if code is not None:
            self.events.append(Event(self.id, time, EventLog.DISCONNECT, code, trigger.value))
        return code is not None

    def set_mode(self, mode: int, time: int) -> bool:
        """Set the breaker's control mode at a time in ms; return whether it was another.

        Raises LocalError if there is none such.
        """
        was_closed = self.breaker.closed
        changed = self.breaker.set_mode(mode)
        if self.breaker.closed is not was_closed:
            text = f"control mode {mode}"
            self.events.append(Event(self.id, time, EventLog.DISCONNECT, EventCode.REMOTE_CONNECTION, text))
        return changed

    def force_cover(self, opened: bool) -> None:
        """Open or close the cover by hand; shows with the next sample."""
        self._cover_forced = opened

    def _first_registers(self) -> list[list[int]]:
        random = generator(self._key, "registers")
        exports = self.three_phase or self._connection.pv_peak > 0
        parts = []
        for _ in range(3 if self.three_phase else 1):
            active = random.randrange(1_000_000, 40_000_000)
            back = random.randrange(2_000_000) if exports else 0
            inductive = active * random.randrange(50, 200) // 1000
            capacitive = active * random.randrange(100) // 1000 if self._connection.capacitor else 0
            apparent = int(math.hypot(active + back, inductive + capacitive) * 1.01)
            parts.append([count * UNIT for count in (active, back, inductive, capacitive, apparent)])
        if not self.three_phase:
            return parts
        return [[sum(register) for register in zip(*parts, strict=True)], *parts]

    def _restore(self, values: dict[str, Value]) -> None:
        for point in self._points:
            value = values.get(point.name)
            if value is None or isinstance(value, str):
                continue
            place = self._register(point.name)
            if place is not None:
                count, number = place
                self.registers[count][number] = _from_register(point, int(value))
            elif point.name == "breaker-operations":
                self.breaker.operations = int(value)
            elif point.name == "tamper-count":
                self._cover_openings = int(value)
        state = values.get("breaker-control-state")
        closed = values.get("breaker")
        mode = values.get(CONTROL_MODE)
        if isinstance(mode, int) and 0 <= mode <= MOST_MODE:
            self.breaker.mode = mode
        if self.breaker.mode and isinstance(state, int) and state in set(State):
            self.breaker.state = State(state)
        elif self.breaker.mode and closed is False:
            self.breaker.state = State.DISCONNECTED

    def _register(self, name: str) -> tuple[int, int] | None:
        count = 0
        if name[-3:] in {"-l1", "-l2", "-l3"}:
            name, count = name[:-3], int(name[-1])
        if name not in _ENERGIES or count >= len(self.registers):
            return None
        return count, _ENERGIES.index(name)

    def _status(self) -> dict[str, Value]:
        return {
            "breaker": self.breaker.closed,
            "breaker-control-state": int(self.breaker.state),
            CONTROL_MODE: self.breaker.mode,
            "breaker-operations": self.breaker.operations,
            "tamper": self._cover is not None,
            "tamper-count": self._cover_openings,
        }

    def _show_registers(self, shown: dict[str, Value]) -> None:
        for count, registers in enumerate(self.registers):
            suffix = f"-l{count}" if count else ""
            for name, value in zip(_ENERGIES, registers, strict=True):
                shown[name + suffix] = value

    def _gap(self, second: int, shown: dict[str, Value]) -> Sample:
        values = tuple(_on_grid(point, shown.get(point.name)) for point in self._points)
        marks = tuple(
            quality.NEVER_READ if value is None else _NOT_COUNTING if point.kind is Kind.ENERGY else 0
            for point, value in zip(self._points, values, strict=True)
        )
        return Sample(self.id, second * 1000, values, marks)

    def _measured(self, phase: Phase) -> Phase:
        error = self._connection.gain_error
        if not error:
            return phase
        active, reactive, apparent, voltage, current, angle = phase
        return Phase(
            active + active * error // 1_000_000,
            reactive + reactive * error // 1_000_000,
            apparent + apparent * error // 1_000_000,
            voltage,
            current * (1 + error / 1_000_000),
            angle,
        )

    def _count(self, phases: Sequence[Phase]) -> None:
        total = self.registers[0]
        _add(
            total, sum(p.active for p in phases), sum(p.reactive for p in phases), sum(p.apparent for p in phases)
        )
        if self.three_phase:
            for registers, phase in zip(self.registers[1:], phases, strict=True):
                _add(registers, phase.active, phase.reactive, phase.apparent)

    def _watch_cover(self, second: int) -> None:
        day = second // DAY
        if day != self._tamper_day:
            self._tamper_day = day
            self._tamper = self._plan_tamper(day)
        start, stop, codes = self._tamper
        opened = self._cover_forced or start <= second < stop
        if opened and self._cover is None:
            self._cover = codes
            self._cover_openings += 1
            self.events.append(Event(self.id, second * 1000, EventLog.FRAUD, codes[0]))
        elif not opened and self._cover is not None:
            self.events.append(Event(self.id, second * 1000, EventLog.FRAUD, self._cover[1]))
            self._cover = None

    def _plan_tamper(self, day: int) -> tuple[int, int, tuple[EventCode, EventCode]]:
        random = generator(self._key, "tamper", day)
        if random.random() >= self._connection.tampers_per_day:
            return 0, 0, _COVERS[0]
        start = day * DAY + random.randrange(DAY - 600)
        return start, start + random.randrange(30, 600), random.choice(_COVERS)

    def _watch_supply(self, second: int, phases: Sequence[Phase]) -> None:
        supplied = any(phase.voltage > 0 for phase in phases)
        if supplied is not self._supplied:
            self._supplied = supplied
            code = EventCode.POWER_UP if supplied else EventCode.POWER_DOWN
            self.events.append(Event(self.id, second * 1000, EventLog.STANDARD, code))


def _add(registers: list[int], active: int, reactive: int, apparent: int) -> None:
    registers[0 if active >= 0 else 1] += abs(active)
    registers[2 if reactive >= 0 else 3] += abs(reactive)
    registers[4] += apparent


def _show_total(shown: dict[str, Value], phases: Sequence[Phase]) -> None:
    active = sum(phase.active for phase in phases)
    apparent = sum(phase.apparent for phase in phases)
    shown["active-power"] = active / 1000
    shown["reactive-power"] = sum(phase.reactive for phase in phases) / 1000
    shown["apparent-power"] = apparent / 1000
    shown["power-factor"] = electric.power_factor(active, apparent)
    if len(phases) == 1:
        shown["voltage"] = phases[0].voltage
        shown["current"] = phases[0].current


def _show_three(shown: dict[str, Value], phases: Sequence[Phase]) -> None:
    for number, phase in enumerate(phases, start=1):
        shown[f"active-power-l{number}"] = phase.active / 1000
        shown[f"reactive-power-l{number}"] = phase.reactive / 1000
        shown[f"apparent-power-l{number}"] = phase.apparent / 1000
        shown[f"power-factor-l{number}"] = electric.power_factor(phase.active, phase.apparent)
        shown[f"voltage-l{number}"] = phase.voltage
        shown[f"current-l{number}"] = phase.current
    currents = electric.current_phasors(phases)
    shown["current-neutral"] = abs(sum(currents))
    for quantity, phasors in (("voltage", electric.voltage_phasors(phases)), ("current", currents)):
        names = ("positive", "negative", "zero")
        for name, magnitude in zip(names, components(phasors), strict=True):
            shown[f"{quantity}-{name}-sequence"] = magnitude


def _on_grid(point: Point, value: Value) -> Value:
    """Put a value on the register's grid; counts of mW·s become whole register units."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if point.kind is Kind.ENERGY:
        value = int(value)
        scaled = value // (UNIT * 10**point.scaler) if point.scaler > 0 else value * 10**-point.scaler // UNIT
        return quantise(point, scaled)
    return quantise(point, value)


def _from_register(point: Point, value: int) -> int:
    """Return the counts with which a register goes on: the most that it can have shown as ``value``.

    What was above the register's resolution is not stored; taken as lost, a register could fall back by one.
    """
    step = UNIT * int(10**point.scaler) if point.scaler > 0 else UNIT // int(10**-point.scaler)
    return (value + 1) * step - 1
