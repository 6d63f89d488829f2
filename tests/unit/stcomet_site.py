"""A simulated site with STCOMET meters, for tests."""

from functools import lru_cache

from flexmap.mapping.table import load_builtin
from flexmap.model import Meter
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.stcomet.metrology import Metrology
from flexmap.stcomet.record import ENERGIES, Layout, Record

TYPES = load_builtin()
START = 1_795_392_000  # midnight UTC
NAMES = (
    "energy-active-import",
    "energy-active-export",
    "energy-reactive-import",
    "energy-reactive-export",
    "energy-apparent",
)


def meter(name: str, type_id: str = "single-phase"):
    return Meter(id=name, type=type_id, ld=name, sap=16), TYPES[type_id]


def site(count: int = 3, **settings) -> SiteModel:
    meters = [meter("SUB", "three-phase"), *(meter(f"M{number}") for number in range(count))]
    return SiteModel(meters, sample_load(), SimulationSettings(substation="SUB", **settings))


def metrologies(model: SiteModel, depth: int = 3600) -> dict[str, Metrology]:
    feed = SiteFeed(model)
    made = {}
    for name, its in model.meters.items():
        layout = Layout.THREE_PHASE if its.three_phase else Layout.SINGLE_PHASE
        own = feed.meter(name)
        made[name] = Metrology(layout, own, registers=own.registers(), depth=depth)
    return made


@lru_cache
def load_shapes() -> dict[str, tuple[Record, ...]]:
    """Five minutes at four hours of the day, of a substation and five meters: the demo's load shapes."""
    model = site(5)
    meters = metrologies(model)
    for hour in (3, 7, 12, 19):
        for second in range(START + 3600 * hour, START + 3600 * hour + 300):
            for each in meters.values():
                each.second(second)
    return {name: tuple(each.ring.since(0)) for name, each in meters.items()}


def expected(sample, three_phase: bool) -> tuple[tuple, tuple]:
    """Energies and measured values (but for the lags) of the model's own sample, in a record's units."""
    shown = dict(zip(TYPES["three-phase" if three_phase else "single-phase"].index, sample.values, strict=True))
    suffixes = ("", "-l1", "-l2", "-l3") if three_phase else ("",)
    energies = tuple(shown[name + suffix] for suffix in suffixes for name in NAMES)
    assert len(energies) in {ENERGIES, 4 * ENERGIES}
    if shown["active-power"] is None:
        return energies, ()
    values = [round((shown["frequency"] or 0) * 100)]
    for suffix in suffixes[1:] or ("",):
        values += [round(shown[f"voltage{suffix}"] * 10)]
        values += [round(shown[f"{kind}-power{suffix}"]) for kind in ("active", "reactive", "apparent")]
        values += [round(shown[f"current{suffix}"] * 100)]
    if three_phase:
        values += [round(shown[f"{kind}-power"]) for kind in ("active", "reactive", "apparent")]
    return energies, tuple(values)
