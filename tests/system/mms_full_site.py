"""A site of the built-in meter types with its generated CID; in its samples every point has its own value."""

from flexmap.mapping.table import load_builtin
from flexmap.model import Direction, Kind, Meter, Sample, Site
from flexmap.scl.generate import FileKind, generate

TYPES = load_builtin()


def full_site(single_phase):
    """One three-phase meter and a number of single-phase ones; every fifth of them with direction supply."""
    kinds = ["three-phase"] + ["single-phase"] * single_phase
    meters = tuple(
        Meter(
            id=f"SM_{number}",
            type=kind,
            ld=f"SM{number}",
            sap=17 + number,
            direction=Direction.SUPPLY if number % 5 == 4 else Direction.DEMAND,
            identity={point.name: f"{point.name}-{number}" for point in TYPES[kind].identity},
        )
        for number, kind in enumerate(kinds)
    )
    return Site(name="full", ied="FMFULL", meters=meters, types=TYPES)


def cid(site):
    return generate(site, FileKind.CID)


def samples(site, time, turn=0):
    """A sample of every meter; ``turn`` moves every energy and instantaneous value."""
    return [
        Sample(
            meter.id,
            time,
            tuple(
                value(point, 1000 * number + position, turn)
                for position, point in enumerate(site.type_of(meter).points)
            ),
            (0,) * len(site.type_of(meter).points),
        )
        for number, meter in enumerate(site.meters)
    ]


def value(point, base, turn):
    if point.kind is Kind.ENERGY:
        return base * 1_000_003 + turn
    if point.kind is Kind.COUNTER:
        return base + turn
    if point.kind is Kind.INSTANTANEOUS:
        return float(base) + 0.25 * (turn % 1000)
    return point.reference.cdc in {"DPC", "SPS"} and base % 2 == 1
