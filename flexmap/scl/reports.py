"""Data sets and report control blocks of a meter and of the whole site."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flexmap.mapping import cdc
from flexmap.model import Kind, Meter, Point, Site
from flexmap.scl.abilities import Abilities
from flexmap.scl.nodes import ROOT_LD

MEASURED_PERIOD_MS = 10_000
ENERGY_PERIOD_MS = 900_000
"""Energies are buffered every 15 minutes: a buffer of 64 KiB then lasts days, where every change fills it in
minutes."""
STATE_PERIOD_MS = 60_000
BUFFER_TIME_MS = 100


class Member(msgspec.Struct, frozen=True):
    """One FCDA: a whole data object under one functional constraint, so that reports carry value, q and t."""

    ld: str
    ln: str
    do: str
    fc: str


class Report(msgspec.Struct, frozen=True):
    """A data set with its report control block."""

    data_set: str
    name: str
    members: tuple[Member, ...]
    buffered: bool
    on_change: bool
    """Reports at a change of value or quality, not only in its period."""
    period: int
    """Milliseconds between integrity reports."""
    instances: int


def meter_reports(site: Site, meter: Meter, abilities: Abilities) -> list[Report]:
    """Return the reports of a meter's LLN0: measured values with state, energies, state."""
    instances = meter_instances(len(site.meters), abilities)
    points = site.type_of(meter).points
    measured = _members(meter, points, {Kind.INSTANTANEOUS})
    energies = _members(meter, (*points, *site.type_of(meter).rates), {Kind.ENERGY, Kind.COUNTER})
    state = (*_state(site, meter), Member(meter.ld, "LLN0", "Health", "ST"))
    return [
        Report(*report, instances)
        for report in (
            ("Meas", "urMeas", (*measured, *state), False, True, MEASURED_PERIOD_MS),
            ("Energy", "brEnergy", energies, True, False, ENERGY_PERIOD_MS),
            ("State", "brState", state, True, True, STATE_PERIOD_MS),
        )
        if report[2]
    ]


def site_reports(site: Site, abilities: Abilities) -> list[Report]:
    """Return the reports of the root LLN0: energies, state and health of all meters."""
    energies = [m for meter in site.meters for m in _members(meter, site.type_of(meter).points, {Kind.ENERGY})]
    state = [m for meter in site.meters for m in _state(site, meter)]
    health = [Member(ld, "LLN0", "Health", "ST") for ld in (ROOT_LD, *(meter.ld for meter in site.meters))]
    return [
        Report(data_set, name, tuple(members), buffered, on_change, period, abilities.max_instances)
        for data_set, name, members, buffered, on_change, period in (
            ("AllEnergy", "brAllEnergy", energies, True, False, ENERGY_PERIOD_MS),
            ("AllState", "brAllState", state, True, True, STATE_PERIOD_MS),
            ("AllHealth", "urAllHealth", health, False, True, STATE_PERIOD_MS),
        )
        if members
    ]


def meter_instances(meters: int, abilities: Abilities) -> int:
    """Return how many clients can use a meter's control block at once.

    One for each client, fewer on a large site: every instance costs the engine time at every update.
    """
    left = abilities.max_report_blocks - 3 * abilities.max_instances
    return min(max(left // (3 * max(meters, 1)), 1), abilities.max_instances)


def _state(site: Site, meter: Meter) -> tuple[Member, ...]:
    """Return the members for the state of a meter and for whether it can be reached.

    What else is known of the channel changes too often to be reported: it is there to be read.
    """
    return _members(meter, site.type_of(meter).served, {Kind.STATUS})


def _members(meter: Meter, points: Iterable[Point], kinds: Iterable[Kind]) -> tuple[Member, ...]:
    """Return one member for each data object of points of these kinds, in the order of the points."""
    found: dict[Member, None] = {}
    for point in points:
        if point.kind in kinds:
            reference = point.reference_for(meter.direction)
            name = reference.do.partition(".")[0]
            found[Member(meter.ld, reference.ln, name, cdc.place(reference).fc)] = None
    return tuple(found)
