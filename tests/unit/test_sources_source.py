from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from flexmap.mapping.table import load_builtin
from flexmap.model import Command, EventCode, Meter
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.sources.simulation.source import LONGEST_STALL, SimulationSource

TYPE = load_builtin()["single-phase"]
NOW = 1_795_392_000.25


class Sink:
    def __init__(self):
        self.samples = []
        self.events = []

    def accept(self, samples):
        self.samples += samples

    def event(self, event):
        self.events.append(event)


@pytest.fixture
def clock():
    clock = Clock()
    clock.advance(NOW)
    return clock


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def source(clock, sink):
    meters = [(Meter(id=name, type=TYPE.id, ld=name, sap=16), TYPE) for name in ("A", "B")]
    source = SimulationSource("model", SiteModel(meters, sample_load(), SimulationSettings(control_mode=4)), clock)
    source.start(sink)
    return source


def test_every_second_once_on_the_second(clock, sink, source):
    clock.pump([0.1] * 100)
    times = [sample.time for sample in sink.samples if sample.meter == "A"]
    assert times == [int(NOW + n) * 1000 for n in range(11)]
    assert len(sink.samples) == 22


def test_a_stalled_reactor_makes_up_for_the_missing_seconds(clock, sink, source):
    clock.advance(100)
    clock.pump([0.001] * 30)
    times = [sample.time for sample in sink.samples if sample.meter == "B"]
    assert times == [int(NOW + n) * 1000 for n in range(101)]


def restarted(clock, sink, last, keep=()):
    meters = [(Meter(id=name, type=TYPE.id, ld=name, sap=16), TYPE) for name in ("A", "B")]
    model = SiteModel(meters, sample_load(), SimulationSettings(control_mode=4), last)
    source = SimulationSource("model", model, clock)
    for name, ahead in dict(keep).items():
        source.keep_clock(name, ahead)
    source.start(sink)
    return source


def test_after_a_short_stop_no_second_and_no_energy_is_missing(clock, sink, source):
    clock.pump([1] * 400)
    going_on = sink.samples
    cut = {sample.meter: sample for sample in going_on[:200]}
    source.stop()
    again = Sink()
    restarted(clock, again, cut)
    clock.pump([0.001] * 200)
    assert not again.events
    whole = going_on[198:]
    assert [(each.meter, each.time) for each in again.samples] == [(each.meter, each.time) for each in whole]
    for one, other in zip(again.samples, whole, strict=True):
        # The register's own resolution is all that a restart can lose.
        assert all(0 <= a - b <= 1 for a, b in zip(one.values[:5], other.values[:5], strict=True))
        assert one.values[5:] == other.values[5:]


def test_after_a_long_stop_the_meters_were_without_power(clock, sink, source):
    clock.advance(1)
    last = {sample.meter: sample for sample in sink.samples}
    source.stop()
    clock.advance(LONGEST_STALL + 10)
    again = Sink()
    restarted(clock, again, last)
    assert [event.code for event in again.events if event.meter == "B"] == [
        EventCode.POWER_DOWN,
        EventCode.POWER_UP,
    ]
    assert [sample.time for sample in again.samples] == [int(clock.seconds()) * 1000] * 2


def test_a_clock_set_forward_is_noted_and_followed(clock, sink, source):
    clock.advance(3)
    before = len(sink.samples)
    clock.advance(LONGEST_STALL + 10_000)
    assert len(sink.samples) == before + 2
    assert sink.samples[-1].time == int(clock.seconds()) * 1000
    codes = [event.code for event in sink.events if event.meter == "A"]
    assert codes[1:] == [EventCode.CLOCK_ADJUSTED_OLD, EventCode.CLOCK_ADJUSTED_NEW]


def test_a_clock_set_back_repeats_no_second(clock, sink, source):
    clock.advance(3)
    clock.rightNow -= 60
    clock.pump([0.5] * 140)
    times = [sample.time for sample in sink.samples if sample.meter == "A"]
    assert times == sorted(set(times))


def test_a_command_is_answered_after_the_sample_that_shows_it(clock, sink, source):
    answers = []
    source.command(Command(5, "A", "breaker", False)).addCallback(
        lambda result: answers.append((result, dict(zip(TYPE.index, sink.samples[-2].values, strict=True))))
    )
    busy = source.command(Command(6, "A", "breaker", True))
    assert "busy" in busy.result.cause
    assert not answers
    clock.pump([0.1] * 20)
    ((result, shown),) = answers
    assert (result.id, result.done, result.cause) == (5, True, "")
    assert (shown["breaker"], shown["active-power"]) == (False, 0.0)
    assert [event.code for event in sink.events if event.meter == "A"][1:] == [EventCode.REMOTE_DISCONNECTION]
    again = source.command(Command(7, "A", "breaker", False))
    clock.pump([0.1] * 8)
    assert again.result.done


@pytest.mark.parametrize(("meter", "point"), [("Z", "breaker"), ("A", "voltage")])
def test_impossible_commands_are_refused_with_a_cause(source, meter, point):
    result = source.command(Command(1, meter, point, False)).result
    assert not result.done
    assert meter in result.cause


def test_a_sink_that_fails_does_not_stop_the_meters(clock, sink, source, monkeypatch):
    def broken(samples):
        raise RuntimeError("no room")

    monkeypatch.setattr(sink, "accept", broken)
    clock.advance(1)
    monkeypatch.undo()
    count = len(sink.samples)
    clock.pump([1] * 3)
    assert len(sink.samples) == count + 6


def test_stop_refuses_what_is_on_its_way_and_delivers_nothing_more(clock, sink, source):
    waiting = source.command(Command(1, "A", "breaker", False))
    stopped = []
    source.stop().addCallback(stopped.append)
    assert stopped == [None]
    assert "stops" in waiting.result.cause
    count = len(sink.samples)
    clock.pump([0.5] * 10)
    assert len(sink.samples) == count
    assert not clock.getDelayedCalls()
    assert not source.command(Command(2, "A", "breaker", False)).result.done
