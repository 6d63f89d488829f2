"""Records of an STCOMET meter as samples: the meter type's points, in their order."""

from __future__ import annotations

from flexmap.mapping.value import quantise
from flexmap.model import Kind, MeterType, Point, Sample, Value, quality
from flexmap.model.sample import CONTROL_MODE
from flexmap.stcomet import phasors
from flexmap.stcomet.record import (
    ENERGIES,
    FREQUENCY,
    PHASE_VALUES,
    TOTAL_ACTIVE,
    TOTAL_APPARENT,
    TOTAL_REACTIVE,
    Layout,
    Record,
    Status,
    mode_of,
)

_ENERGIES = (
    "energy-active-import",
    "energy-active-export",
    "energy-reactive-import",
    "energy-reactive-export",
    "energy-apparent",
)
_PHASE = ("voltage", "active-power", "reactive-power", "apparent-power", "current")
_SCALES = (0.1, 1.0, 1.0, 1.0, 0.01)
_SEQUENCES = ("positive", "negative", "zero")
_NOT_COUNTING = quality.QUESTIONABLE | quality.OLD_DATA
_CLOCK_DOUBTFUL = 2
"""Clock status of COSEM (IEC 62056-6-2 clause 4.1.6.1)."""
_DISCONNECTED, _CONNECTED, _READY = range(3)


def to_sample(meter: str, meter_type: MeterType, layout: Layout, record: Record) -> Sample:
    """Return the sample of a record; points that records do not carry are missing, with quality never read."""
    shown = _state(record)
    _show_energies(shown, layout, record)
    if record.measured:
        _show_measured(shown, layout, record.measured)
    values = tuple(_value(point, shown.get(point.name)) for point in meter_type.points)
    marks = tuple(
        quality.NEVER_READ
        if value is None
        else _NOT_COUNTING
        if point.kind is Kind.ENERGY and not record.measured
        else quality.GOOD
        for point, value in zip(meter_type.points, values, strict=True)
    )
    doubtful = _CLOCK_DOUBTFUL if record.state.status & Status.CLOCK_DOUBTFUL else 0
    return Sample(meter, record.time * 1000, values, marks, doubtful)


def _state(record: Record) -> dict[str, Value]:
    status = record.state.status
    closed = bool(status & Status.BREAKER_CLOSED)
    control = _CONNECTED if closed else _READY if status & Status.BREAKER_READY else _DISCONNECTED
    return {
        "breaker": closed,
        "breaker-control-state": control,
        CONTROL_MODE: mode_of(status),
        "breaker-operations": record.state.breaker_operations,
        "tamper": bool(status & Status.COVER_OPEN),
        "tamper-count": record.state.cover_openings,
    }


def _show_energies(shown: dict[str, Value], layout: Layout, record: Record) -> None:
    for place, energy in enumerate(record.energies):
        phase, name = divmod(place, ENERGIES)
        suffix = f"-l{phase}" if phase and layout is not Layout.SINGLE_PHASE else ""
        shown[_ENERGIES[name] + suffix] = energy


def _show_measured(shown: dict[str, Value], layout: Layout, measured: tuple[int, ...]) -> None:
    shown["frequency"] = measured[FREQUENCY] / 100 or None
    single = layout is Layout.SINGLE_PHASE
    for phase in range(layout):
        suffix = "" if single else f"-l{phase + 1}"
        first = 1 + phase * PHASE_VALUES
        values = measured[first : first + PHASE_VALUES]
        for name, scale, value in zip(_PHASE, _SCALES, values, strict=True):
            shown[name + suffix] = value * scale
        shown["power-factor" + suffix] = _power_factor(values[1], values[3])
    if not single:
        shown["active-power"] = float(measured[TOTAL_ACTIVE])
        shown["reactive-power"] = float(measured[TOTAL_REACTIVE])
        shown["apparent-power"] = float(measured[TOTAL_APPARENT])
        shown["power-factor"] = _power_factor(measured[TOTAL_ACTIVE], measured[TOTAL_APPARENT])
        _show_components(shown, measured)


def _show_components(shown: dict[str, Value], measured: tuple[int, ...]) -> None:
    currents = phasors.currents(measured)
    shown["current-neutral"] = abs(sum(currents))
    for quantity, of_phases in (("voltage", phasors.voltages(measured)), ("current", currents)):
        for name, magnitude in zip(_SEQUENCES, phasors.components(of_phases), strict=True):
            shown[f"{quantity}-{name}-sequence"] = magnitude


def _power_factor(active: int, apparent: int) -> float:
    return max(-1.0, min(1.0, active / apparent)) if apparent else 1.0


def _value(point: Point, value: Value) -> Value:
    """Put a value on the register's grid; energies in Wh, varh, VAh become the register's units."""
    if value is None or isinstance(value, str | bool):
        return value
    if point.kind is Kind.ENERGY:
        power = int(10 ** abs(point.scaler))
        return quantise(point, int(value) // power if point.scaler > 0 else int(value) * power)
    return quantise(point, value)
