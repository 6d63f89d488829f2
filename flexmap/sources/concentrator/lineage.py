"""Which fields of a meter's record a point is made of, found by asking the code that makes it."""

from __future__ import annotations

import struct

import msgspec

from flexmap.model import MeterType
from flexmap.sources.concentrator.samples import to_sample
from flexmap.stcomet.record import Layout, Record, State, Status


class Field(msgspec.Struct, frozen=True):
    """A field of ``metro_data_store_t``."""

    name: str
    offset: int
    """Octets before it in the record."""
    octets: int


def fields_of(meter_type: MeterType, layout: Layout) -> dict[str, tuple[Field, ...]]:
    """Return the fields that each point of a type changes with; none for a point that records do not carry."""
    base = _record(layout)
    before = to_sample("", meter_type, layout, base).values
    found: dict[str, dict[Field, None]] = {point.name: {} for point in meter_type.points}
    for field, changed in _changed(layout, base):
        after = to_sample("", meter_type, layout, changed).values
        for point, old, new in zip(meter_type.points, before, after, strict=True):
            if old != new:
                found[point.name][field] = None
    return {name: tuple(fields) for name, fields in found.items()}


def layout_of(meter_type: MeterType) -> Layout:
    """Return the record's layout of a type: the one whose energies its points fill."""
    phases = any(point.name.endswith(("-l1", "-l2", "-l3")) for point in meter_type.points)
    return Layout.THREE_PHASE if phases else Layout.SINGLE_PHASE


def _record(layout: Layout) -> Record:
    energies = tuple(10_000 + place for place in range(layout.energies))
    measured = tuple(1_000 + 10 * place for place in range(layout.measured))
    return Record(1, 1_700_000_000, State(Status.BREAKER_CLOSED, 3, 1), energies, measured)


def _changed(layout: Layout, base: Record) -> list[tuple[Field, Record]]:
    head = struct.calcsize("<QI")
    changes = [
        (Field("status", head, 2), _with_state(base, status=base.state.status ^ flag))
        for flag in (Status.BREAKER_CLOSED, Status.COVER_OPEN)
    ]
    changes.append((Field("breaker_operations", head + 2, 2), _with_state(base, breaker_operations=4)))
    changes.append((Field("cover_openings", head + 4, 2), _with_state(base, cover_openings=2)))
    first = struct.calcsize("<QI3H?")
    for place, energy in enumerate(base.energies):
        energies = (*base.energies[:place], energy + 1_000, *base.energies[place + 1 :])
        field = Field(f"energies[{place}]", first + 8 * place, 8)
        changes.append((field, msgspec.structs.replace(base, energies=energies)))
    first += 8 * layout.energies
    for place, value in enumerate(base.measured):
        measured = (*base.measured[:place], value + 500, *base.measured[place + 1 :])
        field = Field(f"measured[{place}]", first + 4 * place, 4)
        changes.append((field, msgspec.structs.replace(base, measured=measured)))
    return changes


def _with_state(base: Record, **changes: int) -> Record:
    return msgspec.structs.replace(base, state=msgspec.structs.replace(base.state, **changes))
