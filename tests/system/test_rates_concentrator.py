"""Rates of meters behind a concentrator: the core is killed over switches, and what it missed is fetched later."""

from virtual_site import START, Site

from flexmap.mapping.tariff import TARIFF_SCRIPTS, Calendar, Day, DayAction, Season, TariffSetup, Week

SWITCHES = range(0, 3600, 90)
"""Seconds of the day at which the rate changes: 1, 2, 3, 4, 1 ..."""
CALENDAR = Calendar(
    b"OFTEN",
    (Season(b"s", b"\xff" * 12, b"w"),),
    (Week(b"w", (1,) * 7),),
    (Day(1, tuple(DayAction(at, TARIFF_SCRIPTS, at // 90 % 4 + 1) for at in SWITCHES)),),
)


def test_what_was_missed_over_switches_is_counted_in_the_rates_of_its_time_stamps(tmp_path, monkeypatch):
    assert START % 86_400 == 0
    site = Site(tmp_path, monkeypatch, meters=3, far=True)
    site.start_concentrator()
    site.start_core()
    site.run(60)
    for name in site.names:
        rates = site.core.store.rates(name)
        assert rates.change(TariffSetup(CALENDAR, rates.setup.masks), int(site.time.seconds()))
    site.run(120)
    for missing in (200, 320):
        site.kill_core()
        site.run(missing)
        site.start_core()
        site.run(60)
    end = int(site.time.seconds())
    site.until_read(end)
    site.run(10)
    moved = 0
    for meter in site.site.meters:
        store, kind = site.core.store, site.site.type_of(meter)
        switches = list(store.rates(meter.id)._read("1 ORDER BY time"))
        newest = store.newest(meter.id)
        shown = store.rates(meter.id).sample(newest).values
        count = kind.tariff.rates
        for place, energy in enumerate(kind.tariff.energies):
            counted = list(shown[place * count : (place + 1) * count])
            assert sum(counted) == newest.values[kind.index[energy]]
            assert counted == expected(store.samples(meter.id), kind.index[energy], place, switches)
            moved += sum(counted[1:])
        assert len(switches) > 8
    assert moved > 20
    site.kill_core()
    site.kill_concentrator()


def expected(samples, column, place, switches):
    """Return a sum second by second: in rate 1 what was there at first, then by the calendar once it held."""
    first, second = switches[:2]
    found = [first.energies[place], 0, 0, 0]
    before = first.energies[place]
    for sample in samples:
        stamp, energy = sample.time // 1000, sample.values[column]
        if stamp > first.time:
            rate = (stamp - 1 - START) // 90 % 4 if stamp > second.time else first.rates[place] - 1
            found[rate] += energy - before
            before = energy
    return found
