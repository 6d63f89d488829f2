"""A site of two meters and its hand-written CID (tests/data/mini.cid), for tests of the MMS engine."""

from pathlib import Path

from flexmap.model import Direction, Kind, Meter, MeterType, Point, Reference, Sample, Site

CID = Path(__file__).parents[1] / "data" / "mini.cid"
T0 = 1_750_000_000_123


def point(name, kind, path, cdc, *, control=None, supply=None):
    def reference(text):
        ln, _, do = text.partition(".")
        return Reference(ln, do, cdc)

    return Point(
        name=name,
        title=name,
        kind=kind,
        registers=(),
        type="",
        reference=reference(path),
        supply_reference=supply and reference(supply),
        control=control and reference(control),
    )


POINTS = (
    point("energy-import", Kind.ENERGY, "MMTR1.DmdWh", "BCR", supply="MMTR1.SupWh"),
    point("energy-export", Kind.ENERGY, "MMTR1.SupWh", "BCR", supply="MMTR1.DmdWh"),
    point("power", Kind.INSTANTANEOUS, "MMXN1.Watt", "MV"),
    point("voltage", Kind.INSTANTANEOUS, "MMXU1.PhV.phsA", "WYE"),
    point("breaker", Kind.STATUS, "XSWI1.Pos", "DPC", control="CSWI1.Pos"),
    point("tamper", Kind.STATUS, "GGIO1.Ind1", "SPS"),
    point("relay", Kind.STATUS, "XSWI2.Pos", "DPC", control="CSWI2.Pos"),
)
TYPE = MeterType(id="mini", title="mini", product="FM", points=POINTS, identity=())
SITE = Site(
    name="test",
    ied="FMTEST",
    meters=(
        Meter(id="SM_1", type="mini", ld="M1", sap=17),
        Meter(id="SM_2", type="mini", ld="M2", sap=18, direction=Direction.SUPPLY),
    ),
    types={"mini": TYPE},
)


def sample(meter="SM_1", time=T0, values=None, quality=None, clock_status=0, **changes):
    """A sample with the given values by point name (``breaker=True``)."""
    values = dict(
        zip([p.name for p in POINTS], values or (2**53 + 1, 22, 1500.5, 230.25, True, False, False), strict=True)
    )
    values.update(changes)
    return Sample(meter, time, tuple(values.values()), quality or (0,) * len(POINTS), clock_status)
