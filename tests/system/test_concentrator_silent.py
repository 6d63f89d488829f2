"""A third of the meters behind an open circuit, in virtual time: the others are read on."""

from virtual_site import Site


def test_a_feeder_that_falls_silent_does_not_hold_up_the_others(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, settle=300.0)
    site.start_concentrator()
    site.start_core()
    site.run(300)
    line = site.concentrator.core.line
    dark = {spot.meter for spot in line.spots() if spot.feeder == "3"}
    assert len(dark) == 7
    line.cut("SM0014")
    oldest = []
    for _ in range(60):
        site.run(5)
        oldest.append(max(age for name, age in site.ages().items() if name not in dark))
    print(f"latest records of the other meters at most {max(oldest)} s old")
    assert max(oldest) < 60  # the demo's max_age
    line.mend("SM0014")
    site.run(700)
    assert max(site.ages().values()) < 60
    now = int(site.time.seconds()) - 60
    for name in site.names:
        assert site.seconds(name, now - 1000, now) == list(range(now - 1000, now)), name
