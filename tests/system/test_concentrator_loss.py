"""One whole hour in virtual time with all that loses records: frames, a cut, a dead concentrator, a dead core."""

from collections import Counter
from statistics import median

from virtual_site import START, Site

from flexmap.model import EventCode

HOUR = 3600


def test_an_hour_of_losses_and_every_second_of_every_meter_once(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, loss=0.1)
    site.start_concentrator()
    site.start_core()
    site.run(900)
    site.medium.cut("1", 400.0)
    site.run(600)
    dark = sorted(name for name, age in site.ages().items() if age > 300)
    assert 1 <= len(dark) < len(site.names)
    assert set(dark) <= site.noted(EventCode.COMMUNICATION_LOST)
    site.medium.mend("1")
    site.run(300)
    site.kill_concentrator()
    site.run(60)
    site.start_concentrator()
    site.run(540)
    site.kill_core()
    site.run(60)
    site.start_core()
    site.run(START + HOUR - site.time.seconds())
    late = site.until_read(START + HOUR)
    hour = (START + 1, START + 1 + HOUR)
    total = 0
    for name in site.names:
        stored = Counter(site.seconds(name, *hour))
        recorded = site.recorded(name, *hour)
        if not site.stepped(name):
            assert len(recorded) == HOUR, name
        assert stored.keys() == recorded, (name, sorted(recorded.symmetric_difference(stored))[:10])
        assert set(stored.values()) == {1}, name
        total += len(stored)
    assert set(dark) <= site.noted(EventCode.COMMUNICATION_RESTORED)
    stepped = {name: site.stepped(name) for name in site.names if site.stepped(name)}
    print(f"{len(dark)} meters dark, {total} records stored, the last of them {late} s after the hour; {stepped=}")
    # Only a clock that is stepped (measured over a line that is all but dead) leaves out seconds, and marks it.
    assert total == 21 * HOUR or stepped


def test_a_backlog_of_fifty_minutes_drains_while_the_latest_records_stay_fresh(tmp_path, monkeypatch):
    """The core is new, the PAN is 3,000 s old: 21 meters × 3,000 records to fetch."""
    site = Site(tmp_path, monkeypatch, settle=3000.0)
    site.start_concentrator()
    site.start_core()
    site.run(60)
    assert max(site.ages().values()) < 60, "every meter has given its latest record first"
    oldest = []
    while site.behind():
        site.run(10)
        oldest.append(max(site.ages().values()))
        assert site.time.seconds() < START + 900
    drained = site.time.seconds() - START
    print(f"drained after {drained} s; latest records at most {max(oldest)} s old, at the median {median(oldest)}")
    assert max(oldest) < 120
    assert median(oldest) < 60
    for name in site.names:
        assert site.seconds(name, START - 2999, START) == list(range(START - 2999, START)), name
