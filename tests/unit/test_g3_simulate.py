"""Simulations: repeatable, everyone joins, reads take what the facts compute, routes of formed PANs hold."""

import random

import pytest

from flexmap.g3 import phy, simulate
from flexmap.g3.line import Place
from flexmap.g3.phy import Modulation
from flexmap.g3.simulate import Settings, Simulation, spread_of


def run(meters, duration, *, seed=1, band=phy.CENELEC_A, **fields):
    simulation = Simulation(Settings(meters, band, duration, **fields), random.Random(seed))
    simulation.run()
    return simulation.report()


def test_twenty_meters_join_and_are_read():
    report = run(20, 900)
    assert report.joined == 20
    assert max(report.hops) >= 2
    assert sum(report.hops.values()) == 20
    assert report.all_joined_at < 450
    assert report.answered / report.reads > 0.99
    assert 0 < report.airtime_joining < 2
    assert 0 < report.airtime_polling < 1
    assert report.refusals["joined"] == 20
    for meter in report.each:
        assert meter.answered > 5
        assert meter.lqi > 40


def test_runs_repeat():
    assert run(15, 200, seed=3) == run(15, 200, seed=3)
    assert run(15, 200, seed=3) != run(15, 200, seed=4)


def test_fcc():
    report = run(15, 400, band=phy.FCC)
    assert report.joined == 15
    assert report.answered >= 0.999 * report.reads > 1000
    assert report.read_seconds.median < 0.2


@pytest.mark.parametrize(
    ("fastest", "one_hop", "three_hops"), [(Modulation.ROBO, 0.373, 1.14), (Modulation.DQPSK, 0.154, 0.46)]
)
def test_reads_take_what_the_facts_compute(fastest, one_hop, three_hops):
    """29 octets asked, 100 answered behind the MAC header, idle line: within 15 % at one hop and 10 % at three."""
    report = run(60, 1800, formed=True, fastest=fastest)
    assert report.answered >= 0.999 * report.reads > 100
    assert report.read_seconds_by_hops[1] == pytest.approx(one_hop, rel=0.15)
    assert report.read_seconds_by_hops[3] == pytest.approx(three_hops, rel=0.10)


def test_a_meter_out_of_reach_is_reported_as_not_joined(monkeypatch):
    real = simulate.network

    def far(meters, rng):
        spots = real(meters, rng)
        lost = simulate.Spot(Place("9", 5000.0), 5000.0, 0.0)
        return [*spots[:-1], lost]

    monkeypatch.setattr(simulate, "network", far)
    report = run(5, 300)
    assert report.joined == 4
    assert report.all_joined_at is None
    lost = report.each[-1]
    assert (lost.short_address, lost.join_seconds, lost.hops, lost.lqi, lost.reads) == (None,) * 4 + (0,)


def test_figures():
    assert spread_of([]) is None
    assert spread_of([3.0, 1.0, 2.0]) == simulate.Spread(1.0, 2.0, 3.0, 3.0)


def test_airtime_by_kind_adds_up_and_rounds_are_told():
    report = run(20, 900)
    joining, polling = report.airtime_by_kind["joining"], report.airtime_by_kind["polling"]
    assert sum(joining.values()) == pytest.approx(report.airtime_joining)
    assert sum(polling.values()) == pytest.approx(report.airtime_polling)
    assert joining["LBP exchange"] > joining["RREP"] > 0
    assert next(iter(polling)) == "data"
    assert len(report.round_minutes) == report.reads // 20
    assert sum(report.round_minutes) == pytest.approx((report.seconds - report.all_joined_at) / 60, abs=1)


def test_sixty_meters_switched_on_at_the_same_instant_join():
    report = run(60, 2400, switch_on=0.0)
    assert report.joined == 60


def test_tone_maps_that_hold_keep_a_round_fast():
    """They expire after macTMRTTL: reads of a meter that come later than that go in ROBO again."""
    short, long = (run(60, 900, formed=True, tone_map_minutes=minutes) for minutes in (0, 60))
    assert short.round_minutes[-1] > 1.5 * long.round_minutes[-1]
