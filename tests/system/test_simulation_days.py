"""The meter model over whole days and hours: nothing of the measured energy is lost."""

import csv
from fractions import Fraction

import pytest
from msgspec import structs
from test_sources_simulation import LOAD, START, meter, named, site

from flexmap.mapping.data import data_folder
from flexmap.sources.load import DAY
from flexmap.sources.simulation.meter import UNIT
from flexmap.sources.simulation.settings import Connection, SimulationSettings, connection
from flexmap.sources.simulation.site import SiteModel, replay


def data_set_energy(date: str, column: int) -> Fraction:
    """Wh or varh of a day, from the file itself, without the code under test."""
    with (data_folder("data") / "household-2007-02.csv").open() as file:
        rows = [row for row in csv.reader(file, delimiter=";") if row[0] == date]
    assert len(rows) == 1440
    return sum((Fraction(row[column]) for row in rows), Fraction(0)) * 1000 / 60


@pytest.mark.parametrize(("date", "day"), [("1/2/2007", 0), ("2/2/2007", 1), ("5/2/2007", 4), ("6/2/2007", 5)])
def test_plain_replay_of_a_day_counts_exactly_the_data_sets_energy(date, day):
    model = SiteModel([meter("A")], LOAD, SimulationSettings(connections={"A": Connection()}))
    start = (13545 + day) * DAY
    registers = model.meters["A"].registers[0]
    before = list(registers)
    first = model.step(start)[0]
    for _ in replay(model, start + 1, start + DAY):
        pass
    counted = [after - earlier for after, earlier in zip(registers, before, strict=True)]
    assert Fraction(counted[0], UNIT) == data_set_energy(date, 2)
    assert Fraction(counted[2], UNIT) == data_set_energy(date, 3)
    assert counted[1] == counted[3] == 0
    # What a client reads at midnight: the register moved by the day's energy, to whole Wh.
    last = model.step(start + DAY)[0]
    shown = named(last)["energy-active-import"] - named(first)["energy-active-import"]
    assert abs(shown - data_set_energy(date, 2)) < 1


def test_substation_is_the_sum_of_the_meters_and_the_losses():
    names = ["SUB", *(f"M{number}" for number in range(20))]
    exact = {name: structs.replace(connection(SimulationSettings(seed=3), name), gain_error=0) for name in names}
    model = site(count=20, connections=exact)
    before = {name: [list(part) for part in each.registers] for name, each in model.meters.items()}
    for _ in replay(model, START, START + 3600):
        pass

    def moved(name: str, part: int) -> tuple[int, int]:
        registers = model.meters[name].registers[part]
        a, b, c, d, _ = (now - then for now, then in zip(registers, before[name][part], strict=True))
        return a - b, c - d

    net, reactive = list(model.losses), [0, 0, 0]
    for name in names[1:]:
        number = exact[name].phase
        net[number] += moved(name, 0)[0]
        reactive[number] += moved(name, 0)[1]
    assert {exact[name].phase for name in names} == {0, 1, 2}
    assert [moved("SUB", number) for number in (1, 2, 3)] == list(zip(net, reactive, strict=True))
    assert moved("SUB", 0) == (sum(net), sum(reactive))
    assert 0 < sum(model.losses) < 0.05 * sum(net)
