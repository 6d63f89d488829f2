"""A site served under the names that an engineering tool gave it: which points of which meter the file binds."""

from __future__ import annotations

import msgspec

from flexmap.model import ConfigurationError, Meter, MeterType, Point, Reference, SamplePart, Site
from flexmap.scl.engineered import Binding, Engineered, Registers

Picks = dict[tuple[str, SamplePart], tuple[int, ...]]
"""Positions of the values that are served, by meter and part of its samples."""


class EngineeredSite(msgspec.Struct, frozen=True):
    """What the MMS face serves when the file rules."""

    site: Site
    """With the file's IED name and references; points that it does not bind are left out."""
    picks: Picks
    unused: tuple[str, ...]
    """Logical devices of the file with bindings that no meter of the site feeds."""


def apply(site: Site, file: Engineered) -> EngineeredSite:
    """Return the site as the file names it.

    Raises ConfigurationError, with the file's line, if a meter has no logical device in it, or if it binds what
    the meter's type does not have.
    """
    picks: Picks = {}
    types: dict[str, MeterType] = {}
    known: dict[tuple[str, tuple[tuple[str, str, str], ...]], str] = {}
    meters = []
    for meter in site.meters:
        bound = file.bindings.get(meter.ld)
        if bound is None:
            what = f"the IED '{file.ied}' has no logical device '{meter.ld}' for meter '{meter.id}'"
            remedy = f"let the file have it, or set the meter's ld to one of {', '.join(file.bindings)}"
            raise ConfigurationError(what, where=file.where, remedy=remedy)
        meter_type = _renamed(site.type_of(meter), meter, bound)
        _check_unknown(file, site.type_of(meter), meter, bound)
        for part in SamplePart:
            chosen = {point.name for point in meter_type.of_part(part)}
            points = site.type_of(meter).of_part(part)
            picks[meter.id, part] = tuple(n for n, point in enumerate(points) if point.name in chosen)
        shape = tuple(
            (point.name, point.reference.path, point.control.path if point.control else "")
            for point in (*meter_type.served, *meter_type.identity)
        )
        name = known.setdefault((meter.type, shape), f"{meter.type}-{len(known) + 1}")
        types[name] = msgspec.structs.replace(meter_type, id=name)
        meters.append(msgspec.structs.replace(meter, type=name))
    served = {meter.ld for meter in site.meters}
    unused = tuple(inst for inst, bound in file.bindings.items() if bound and inst not in served)
    named = msgspec.structs.replace(site, ied=file.ied, meters=tuple(meters), types=types)
    return EngineeredSite(named, picks, unused)


def _renamed(meter_type: MeterType, meter: Meter, bound: dict[Registers, tuple[Binding, ...]]) -> MeterType:
    """Return the type with the file's references, without the points that it does not bind."""

    def renamed(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple(
            found
            for point in points
            if (found := _point(point, meter, bound.get(point.registers, ()))) is not None
        )

    return msgspec.structs.replace(
        meter_type,
        points=renamed(meter_type.points),
        rates=renamed(meter_type.rates),
        channel=renamed(meter_type.channel),
        identity=renamed(meter_type.identity),
    )


def _point(point: Point, meter: Meter, places: tuple[Binding, ...]) -> Point | None:
    references = [place.reference for place in places]
    if not references:
        return None
    control = _control(point, references)
    own = point.reference_for(meter.direction)
    others = [reference for reference in references if reference != control] or references
    reference = own if own in others else others[0]
    return msgspec.structs.replace(point, reference=reference, supply_reference=None, control=control)


def _control(point: Point, references: list[Reference]) -> Reference | None:
    """Return what takes commands for a point: where the map has it, else a second place of its class."""
    if point.control is None or point.control in references:
        return point.control
    same = [reference for reference in references if reference.cdc == point.control.cdc]
    return same[-1] if len(same) > 1 else None


def _check_unknown(
    file: Engineered, meter_type: MeterType, meter: Meter, bound: dict[Registers, tuple[Binding, ...]]
) -> None:
    known = {point.registers for point in (*meter_type.served, *meter_type.identity)}
    for registers, places in bound.items():
        if registers not in known:
            names = " ".join(register.obis for register in registers)
            what = f"{places[0].reference.path} is bound to {names}, which meter '{meter.id}' does not have"
            remedy = f"remove the sAddr, or give the meter a type that has it (it is a {meter_type.id})"
            raise ConfigurationError(what, where=f"{file.where}, line {places[0].line}", remedy=remedy)
