"""Energies split over rates: against a sum second by second, over daylight saving, clock jumps, gaps and kills."""

import datetime as dt
import random
from zoneinfo import ZoneInfo

import pytest

from flexmap.mapping.table import load_builtin
from flexmap.mapping.tariff import (
    TARIFF_SCRIPTS,
    Calendar,
    Day,
    DayAction,
    Mask,
    Program,
    Season,
    SpecialDay,
    Week,
    mask_name,
)
from flexmap.mapping.zone import Zone
from flexmap.model import Meter, Sample, Site, quality
from flexmap.store import Store, StoreSettings

VIENNA = ZoneInfo("Europe/Vienna")
TYPES = load_builtin()
IMPORT, EXPORT = "energy-active-import", "energy-active-export"


def vienna(*fields):
    return int(dt.datetime(*fields, tzinfo=VIENNA).timestamp())


def day(number, *actions):
    return Day(number, tuple(DayAction(int(at * 3600), TARIFF_SCRIPTS, rate) for at, rate in actions))


OPEN = b"\xff" * 5
NIGHTS = Calendar(
    b"NIGHTS",
    (Season(b"s", OPEN, b"w"),),
    (Week(b"w", (1, 1, 1, 1, 1, 2, 3)),),
    (day(1, (0, 2), (6, 1), (22, 2)), day(2, (0, 2), (12, 3)), day(3, (0, 4), (2.5, 3), (3.25, 1), (22, 2))),
)
"""Sunday, when daylight saving begins and ends, switches within the hour that is twice, or left out."""


def expected_rate(stamp, pieces):
    """Return the rate of the second that ends at ``stamp``, out of the standard library's own local time."""
    local = dt.datetime.fromtimestamp(stamp - 1, VIENNA)
    hours = local.hour + local.minute / 60 + local.second / 3600
    actions = pieces[local.isoweekday()]
    return next(rate for at, rate in reversed(actions) if at <= hours)


PIECES = {
    **dict.fromkeys(range(1, 6), ((0, 2), (6, 1), (22, 2))),
    6: ((0, 2), (12, 3)),
    7: ((0, 4), (2.5, 3), (3.25, 1), (22, 2)),
}


class Meterable:
    """A store with one meter, whose samples may come as one likes."""

    def __init__(self, path, kind="single-phase", interval=10):
        self.type = TYPES[kind]
        self.path, self.interval = path, interval
        meter = Meter(id="A", type=kind, ld="A", sap=17)
        self.site = Site(name="s", ied="S", meters=(meter,), types={kind: self.type}, time_zone="Europe/Vienna")
        self.open()

    def open(self):
        settings = StoreSettings(sample_interval=self.interval, time_zone="Europe/Vienna")
        self.store = Store(self.path / "s.sqlite", self.site, settings, filled={"A"})
        self.rates = self.store.rates("A")

    def kill(self):
        self.store._file.close()
        self.open()

    def made(self, second, energies):
        values = [0] * len(self.type.points)
        for name, energy in energies.items():
            values[self.type.index[name]] = energy
        return Sample("A", second * 1000, tuple(values), (0,) * len(values))

    def send(self, second, energies):
        sample = self.made(second, energies)
        self.store.append([sample])
        return sample

    def shown(self):
        sample = self.rates.sample(self.store.newest("A"))
        return {point.name: value for point, value in zip(self.type.rates, sample.values, strict=True)}

    def split(self, name):
        shown = self.shown()
        return [shown[f"{name}-rate-{rate}"] for rate in range(1, 5)]

    def total(self, name):
        return self.store.newest("A").values[self.type.index[name]]


@pytest.fixture
def bench(tmp_path):
    made = Meterable(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize("kind", ["single-phase", "three-phase"])
@pytest.mark.parametrize("begin", [(2026, 10, 23, 21), (2026, 3, 27, 21)], ids=["autumn", "spring"])
def test_every_watt_hour_is_in_the_rate_of_its_time_stamp(tmp_path, kind, begin):
    """Four days over the change of daylight saving, gaps over switches that are filled later, kills."""
    bench = Meterable(tmp_path, kind, interval=20)
    energies = bench.type.tariff.energies
    bench.rates.change(bench.rates.setup.__class__(NIGHTS, bench.rates.setup.masks), 0)
    randomness = random.Random(5)
    start = vienna(*begin)
    registers = {name: 10**6 + number for number, name in enumerate(energies)}
    expected = {name: [registers[name], 0, 0, 0] for name in energies}
    bench.send(start, registers)
    held, holding = [], 0
    for second in range(start + 20, start + 4 * 86_400, 20):
        for number, name in enumerate(energies):
            rise = randomness.randrange(3 + number)
            registers[name] += rise
            expected[name][expected_rate(second, PIECES) - 1] += rise
        if second > holding and randomness.random() < 0.003:
            holding = second + randomness.randrange(20, 20_000)
        if second < holding:
            held.append((second, dict(registers)))
        else:
            bench.send(second, registers)
            if held and second > holding + 600:
                randomness.shuffle(held)
                for late in held:
                    bench.send(*late)
                held = []
        if not second % 7:
            bench.store.flush()
        if randomness.random() < 0.001:
            bench.store.flush()
            bench.kill()
        for name in energies:
            assert sum(bench.split(name)) == bench.total(name)
    for late in held:
        bench.send(*late)
    bench.send(second + 20, registers)
    assert {name: bench.split(name) for name in energies} == expected
    assert all(min(split[:3]) > 0 for split in expected.values())
    assert not any(bench.rates.sample(bench.store.newest("A")).quality)
    bench.store.flush()
    bench.kill()
    assert {name: bench.split(name) for name in energies} == expected
    bench.store.close()


def test_a_kill_loses_no_switch_that_its_samples_have_passed(bench):
    """The samples are in the file, the switch between them is not."""
    noon = vienna(2026, 7, 1, 21, 59)
    for second in range(noon, noon + 120, 10):
        bench.send(second, {IMPORT: second - noon})
        if second == noon:
            bench.store.flush()
    bench.store._writer.write(lambda log: sorted(log.open), bench.store._logs.values(), None)
    bench.kill()
    assert bench.split(IMPORT) == [60, 50, 0, 0]


def test_what_a_gap_over_a_switch_has_is_questionable_until_it_is_filled(bench):
    evening = vienna(2026, 7, 1, 21, 59)
    bench.send(evening, {IMPORT: 100})
    bench.send(evening + 100, {IMPORT: 150})
    sample = bench.rates.sample(bench.store.newest("A"))
    assert bench.split(IMPORT) == [100, 50, 0, 0]
    assert [quality.validity(each) for each in sample.quality] == [quality.QUESTIONABLE] * 4 + [quality.GOOD] * 4
    bench.send(evening + 60, {IMPORT: 130})
    assert bench.split(IMPORT) == [130, 20, 0, 0]
    assert not any(bench.rates.sample(bench.store.newest("A")).quality)


def test_after_a_day_what_is_still_missing_counts_for_the_rate_after_it(bench):
    evening = vienna(2026, 7, 1, 21, 59)
    bench.send(evening, {IMPORT: 100})
    bench.send(evening + 100, {IMPORT: 150})
    for hour in range(1, 26):
        bench.send(evening + hour * 3600, {IMPORT: 150})
    assert not any(bench.rates.sample(bench.store.newest("A")).quality[:4])
    assert sum(bench.split(IMPORT)) == 150


def test_a_clock_put_forward_and_back_moves_no_watt_hour_out_of_the_sum(bench):
    second, energy = vienna(2026, 7, 1, 20), 1000
    stop = second + 8 * 3600
    jumps = {second + 7000: 1900, second + 10_600: -4000}
    while second < stop:
        second += jumps.pop(second, 0) + 10
        energy += 2
        bench.send(second, {IMPORT: energy})
        assert sum(bench.split(IMPORT)) == bench.total(IMPORT)
    assert bench.total(IMPORT) == energy
    assert bench.split(IMPORT)[1] > 0


def test_a_script_switches_at_its_time_though_samples_come_late(bench):
    noon = vienna(2026, 7, 1, 12)
    bench.send(noon, {IMPORT: 0})
    bench.rates.switch(bench.rates.setup.mask(mask_name(3)), noon + 30)
    assert bench.rates.active(noon + 31) == mask_name(3)
    for second in range(noon + 10, noon + 70, 10):
        bench.send(second, {IMPORT: second - noon})
    assert bench.split(IMPORT) == [30, 0, 30, 0]
    bench.send(vienna(2026, 7, 1, 22) + 10, {IMPORT: 61})  # the calendar goes on
    assert bench.rates.active(vienna(2026, 7, 1, 22) + 10) == mask_name(2)


def test_import_and_export_may_have_rates_of_their_own(bench):
    noon = vienna(2026, 7, 1, 12)
    bench.send(noon, {IMPORT: 0, EXPORT: 0})
    bench.rates.switch(Mask(b"MIX", (2, 4, 2, 4)), noon)
    bench.send(noon + 10, {IMPORT: 5, EXPORT: 7})
    assert (bench.split(IMPORT), bench.split(EXPORT)) == ([0, 5, 0, 0], [0, 0, 0, 7])


def test_the_passive_calendar_takes_over_at_its_time_and_a_restart_keeps_it(bench):
    noon = vienna(2026, 7, 1, 12)
    bench.send(noon, {IMPORT: 0})
    flat = Calendar(b"FLAT", NIGHTS.seasons, (Week(b"w", (1,) * 7),), (day(1, (0, 4)),))
    setup = bench.rates.setup
    setup = setup.__class__(setup.active, setup.masks, flat, b"x" * 12, noon + 600)
    assert bench.rates.change(setup, noon)
    bench.store.flush()
    bench.kill()
    for second in range(noon + 10, noon + 1200, 10):
        bench.send(second, {IMPORT: second - noon})
    assert bench.split(IMPORT) == [600, 0, 0, 590]
    bench.store.flush()
    bench.kill()
    assert bench.rates.setup.active == flat
    assert bench.rates.active(noon + 1200) == mask_name(4)


def test_a_register_that_begins_anew_begins_its_rates_anew(bench):
    noon = vienna(2026, 7, 1, 12)
    bench.send(noon, {IMPORT: 500})
    bench.send(noon + 10, {IMPORT: 3})
    assert bench.split(IMPORT) == [3, 0, 0, 0]


def test_history_of_rates_over_a_restart(bench):
    begin = vienna(2026, 7, 1, 12)
    for second in range(begin, begin + 3 * 86_400, 600):
        bench.send(second, {IMPORT: second - begin})
    bench.store.flush()
    bench.kill()
    history = bench.rates.history(begin)
    ten = vienna(2026, 7, 2, 22)
    assert [history.rate(second, 0) for second in (begin - 5, begin + 1, ten, ten + 1)] == [1, 1, 1, 2]


class TestProgram:
    def at(self, calendar, *fields, special=()):
        return Program(calendar, special, Zone("Europe/Vienna")).at(vienna(*fields))

    def test_seasons_begin_on_their_dates_every_year_and_before_the_first_the_last_holds(self):
        calendar = Calendar(
            b"c",
            (Season(b"summer", b"\xff\xff\x04\x01\xff", b"a"), Season(b"winter", b"\xff\xff\x0a\x01\xff", b"b")),
            (Week(b"a", (1,) * 7), Week(b"b", (2,) * 7)),
            (day(1, (0, 1)), day(2, (0, 2))),
        )
        months = [self.at(calendar, 2026, month, 1, 12) for month in range(1, 13)]
        assert months == [2, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 2]

    def test_special_days_take_the_place_of_the_week_and_the_least_index_counts(self):
        christmas = SpecialDay(2, b"\xff\xff\x0c\x19\xff", 3)
        assert self.at(NIGHTS, 2026, 12, 25, 12) == 1
        assert self.at(NIGHTS, 2026, 12, 25, 23, special=(christmas,)) == 2
        assert self.at(NIGHTS, 2026, 12, 25, 1, special=(christmas,)) == 4
        assert self.at(NIGHTS, 2026, 12, 25, 13, special=(christmas, SpecialDay(1, christmas.date, 2))) == 3

    def test_a_day_goes_on_with_the_last_action_of_the_days_before(self):
        calendar = Calendar(b"c", NIGHTS.seasons, (Week(b"w", (1,) * 7),), (day(1, (8, 1), (20, 2)),))
        assert [self.at(calendar, 2026, 7, 2, hour) for hour in (7, 8, 21)] == [2, 1, 2]

    def test_what_follows_is_where_the_rate_changes(self):
        program = Program(NIGHTS, (), Zone("Europe/Vienna"))
        found, after = [], vienna(2026, 10, 24, 23)
        for _ in range(6):
            after, script = program.following(after)
            found.append((dt.datetime.fromtimestamp(after, VIENNA).strftime("%H:%M%z"), script))
        assert found == [
            ("00:00+0200", 4),
            ("02:30+0200", 3),
            ("02:00+0100", 4),
            ("02:30+0100", 3),
            ("03:15+0100", 1),
            ("22:00+0100", 2),
        ]

    @pytest.mark.parametrize(
        "calendar",
        [
            Calendar(b"c"),
            Calendar(b"c", (Season(b"s", OPEN, b"x"),), (Week(b"w", (1,) * 7),), (day(1),)),
            Calendar(b"c", (Season(b"s", OPEN, b"w"),), (Week(b"w", (2,) * 7),), (day(1),)),
            Calendar(b"c", (Season(b"s", OPEN, b"w"),), (Week(b"w", (1,) * 7),), (day(1), day(1))),
        ],
    )
    def test_faults(self, calendar):
        assert calendar.fault()
        assert not NIGHTS.fault()
