"""A site of meters behind a concentrator with its generated CID; in its samples every point has its own value."""

from flexmap.mapping.table import load_products
from flexmap.model import Direction, Kind, Meter, Sample, Site
from flexmap.scl.generate import FileKind, generate

TYPES = load_products()


def full_site(single_phase):
    """One three-phase meter and a number of single-phase ones; every fifth of them with direction supply."""
    kinds = ["three-phase-g3-plc"] + ["single-phase-g3-plc"] * single_phase
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


def samples(site, time, turn=0, *, channel=False, rates=False):
    """A sample of every meter, channel or rates; ``turn`` moves every energy and instantaneous value."""
    made = []
    for number, meter in enumerate(site.meters):
        kind = site.type_of(meter)
        points = kind.channel if channel else kind.rates if rates else kind.points
        first = 1000 * number + 500 * channel + 700 * rates
        values = tuple(value(point, first + position, turn) for position, point in enumerate(points))
        made.append(Sample(meter.id, time, values, (0,) * len(values), channel=channel, rates=rates))
    return made


def value(point, base, turn):
    if point.kind is Kind.ENERGY:
        return base * 1_000_003 + turn
    if point.kind is Kind.COUNTER:
        return base + turn
    if point.kind is Kind.INSTANTANEOUS:
        return float(base) + 0.25 * (turn % 1000)
    return point.reference.cdc in {"DPC", "SPS"} and base % 2 == 1
