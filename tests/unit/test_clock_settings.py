"""Clocks that head-ends set: behind a concentrator, in the model, through the desk that keeps the settings."""

import msgspec
import pytest
from test_sources_concentrator import PORT, Bench
from test_sources_source import Sink as ModelSink
from test_sources_source import clock, restarted, sink, source
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from flexmap.gateway.clocks import CLOCK, ClockDesk
from flexmap.model import EventCode, LocalError, Meter, Site
from flexmap.sources.concentrator.source import Settings

__all__ = ["clock", "sink", "source"]  # fixtures

OLD, NEW = EventCode.CLOCK_ADJUSTED_OLD, EventCode.CLOCK_ADJUSTED_NEW
METER = "SM_ID1"


def quiet():
    """A line with little to do, so that hours pass quickly."""
    return Bench(settings=Settings(PORT, interval=30.0))


def order(bench, ahead, seconds=10):
    """Set the clock; return what came of it."""
    answer = bench.source.set_clock(METER, ahead)
    causes = []
    answer.addCallback(causes.append)
    bench.run(seconds)
    return causes


def off(bench):
    """Milliseconds that the meter's clock is ahead of the gateway's."""
    return bench.pan.meters[2].time.now() - bench.pan.time.seconds() * 1000


def clock_events(bench):
    return [(event.code, event.time) for event in bench.sink.events if event.code in {OLD, NEW}]


def no_gaps(bench):
    return not [event for event in bench.sink.events if event.code is EventCode.DATA_GAP]


@pytest.mark.parametrize("ahead", [90_000, 3_600_000, -90_000], ids=["minutes", "an hour", "back"])
def test_a_setting_reaches_the_meter_and_holds(ahead):
    bench = quiet()
    bench.run(60)
    assert order(bench, ahead) == [""]
    assert abs(off(bench) - ahead) < 200
    bench.run(1300)
    bench.source._clocks.urgent(METER, 2**32, bench.pan.time.seconds())  # its turn
    bench.run(60)
    assert abs(off(bench) - ahead) < 200
    (old, before), (new, after) = clock_events(bench)
    assert (old, new) == (OLD, NEW)
    assert abs(after - before - ahead) < 200
    now = int(bench.pan.time.seconds() + ahead / 1000)
    assert now - 40 <= bench.seconds(METER)[-1] <= now
    assert abs(bench.source.figures()["clock_offset_seconds"]) < 0.2


def test_what_is_slewed_is_written_down_too():
    bench = Bench()
    bench.run(60)
    assert order(bench, 1500) == [""]
    ((old, before), (new, after)) = clock_events(bench)
    assert (old, new) == (OLD, NEW)
    assert abs(after - before - 1500) < 200
    bench.run(600)
    assert abs(off(bench) - 1500) < 200


@pytest.mark.parametrize("meanwhile", [0, 200], ids=["at once", "minutes later"])
def test_a_wrong_setting_taken_back_loses_and_doubles_no_second(meanwhile):
    """Minutes ahead by mistake and back: the seconds between are recorded now, those of the mistake are kept."""
    bench = quiet()
    bench.run(100)
    energy = bench.pan.meters[2].metrology
    assert order(bench, 600_000) == [""]
    bench.run(meanwhile)
    assert order(bench, 0) == [""]
    bench.run(1200)
    seconds = bench.seconds(METER)
    stored = sorted(set(seconds))
    ago = int(bench.pan.time.seconds()) - 40
    recorded = sorted(record.time for record in records(energy) if record.time < ago)
    assert set(recorded) <= set(stored)
    assert len(recorded) == len(set(recorded))
    assert stored[-1] > ago
    # It went on by the wrong clock for so long, and stood still for so long when it came to those seconds again.
    wrong = 10 + meanwhile
    assert abs(len(range(recorded[0], ago)) - wrong - len(recorded)) <= 3


def records(metrology):
    oldest = metrology.ring.oldest()
    return list(metrology.ring.since(oldest.sequence))


def test_after_a_restart_the_setting_holds():
    bench = Bench()
    bench.run(60)
    assert order(bench, -120_000) == [""]
    bench.source.stop()
    bench.start()
    bench.source.keep_clock(METER, -120_000)
    bench.run(300)
    bench.source._clocks.urgent(METER, 2**32, bench.pan.time.seconds())
    bench.run(60)
    assert abs(off(bench) + 120_000) < 200
    stored = sorted(set(bench.seconds(METER)))
    assert stored == list(range(stored[0], stored[-1] + 1))
    assert no_gaps(bench)


def test_settings_that_cannot_be_are_refused_with_a_cause():
    bench = Bench()
    assert order(bench, 5000, 0) == ["there is no line to the concentrator"]
    bench.run(60)
    assert bench.source.set_clock("SM_ID9", 5000).result == "meter 'SM_ID9' is not in the PAN"
    bench.source.set_clock(METER, 5000)
    assert order(bench, 6000, 0) == [f"the clock of meter '{METER}' is just being set"]
    bench.run(30)
    bench.pan.deaf.add(2)
    assert order(bench, 9000, 60) == ["the meter has not answered"]
    bench.pan.deaf.clear()
    bench.open = False
    causes = []
    bench.source.set_clock(METER, 7000).addCallback(causes.append)
    bench.wire.cut()
    assert causes == ["the line to the concentrator is gone"]
    assert order(bench, 7000, 1) == ["there is no line to the concentrator"]


def test_a_setting_that_nobody_waits_for_any_more_is_taken_back():
    bench = Bench()
    bench.run(60)
    answer = bench.source.set_clock(METER, 90_000)
    answer.addErrback(lambda _: None)
    bench.run(0)
    answer.cancel()
    bench.run(120)
    assert abs(off(bench)) < 200
    assert bench.seconds(METER)[-1] > bench.pan.time.seconds() - 20


def test_simulated_meters_follow_and_go_on_after_a_restart(clock, sink, source):
    clock.advance(3)
    before = {each.meter: each for each in sink.samples}
    assert source.set_clock("A", 120_000).result == ""
    clock.pump([1] * 3)
    latest = {each.meter: each for each in sink.samples}
    assert latest["A"].time - before["A"].time == 123_000
    assert latest["B"].time - before["B"].time == 3000
    codes = [event.code for event in sink.events if event.meter == "A"]
    assert codes[-2:] == [OLD, NEW]
    source.stop()
    again = ModelSink()
    went_on = restarted(clock, again, latest, keep={"A": 120_000})
    clock.pump([1] * 3)
    assert next(each.time for each in again.samples if each.meter == "A") == latest["A"].time
    assert not [event for event in again.events if event.code is EventCode.POWER_UP]
    went_on.stop()


class Files(dict):
    broken = False

    def read(self, meter, name):
        return self.get((meter, name))

    def keep(self, meter, name, octets):
        if self.broken:
            raise LocalError("the disk is full")
        self[meter, name] = octets


class Gateway:
    def __init__(self, source):
        self.source = source
        self.last = (0, True)
        self.told = []

    def source_of(self, meter):
        return self.source

    def shown_time(self, meter):
        return self.last

    def clock_set(self, meter):
        self.told.append(meter)


class Source:
    def __init__(self):
        self.kept = {}
        self.answer = succeed("")

    def keep_clock(self, meter, ahead):
        self.kept[meter] = ahead

    def set_clock(self, meter, ahead):
        return self.answer.addCallback(lambda cause: (cause or self.keep_clock(meter, ahead), cause)[1])


class DeskBench:
    def __init__(self, files=None, head_end=("s",)):
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.files = Files() if files is None else files
        self.source = Source()
        self.gateway = Gateway(self.source)
        meters = tuple(Meter(id=name, type="t", ld=name, sap=16, source=where) for name, where in ("Ms", "No"))
        site = Site(name="s", ied="S", meters=meters, types={})
        self.desk = ClockDesk(self.clock, self.gateway, site, self.files, frozenset(head_end))
        self.desk.resume()

    def set(self, time, meter="M"):
        causes = []
        self.desk.set(meter, time, "a test").addCallback(causes.append)
        return causes


def test_the_desk_keeps_a_setting_over_a_restart():
    bench = DeskBench()
    assert bench.desk.settable("M")
    assert not bench.desk.settable("N")
    assert bench.desk.shown("M") is None
    bench.gateway.last = (999_999_000, False)
    assert bench.desk.shown("M") == 1_000_000_000
    assert bench.set(1_000_007_000) == [""]
    assert bench.gateway.told == ["M"]
    assert bench.desk.shown("M") == 1_000_007_000
    bench.gateway.last = (999_999_000, True)
    assert bench.desk.shown("M") == 999_999_000
    assert bench.set(1_000_007_000, "N") == ["flexmap keeps the clock itself ([[source]] clock)"]
    again = DeskBench(bench.files)
    assert again.source.kept == {"M": 7000}
    kept_by_flexmap = DeskBench(bench.files, ())
    assert kept_by_flexmap.source.kept == {}
    # Once flexmap has kept the clock itself, the setting of before is forgotten.
    assert DeskBench(bench.files).source.kept == {}


def test_a_setting_that_is_not_answered_or_not_kept_does_not_hold():
    bench = DeskBench()
    bench.source.answer = Deferred()
    causes = bench.set(1_000_007_000)
    bench.clock.advance(60)
    assert causes == ["time-limit-over"]
    bench.source.answer = succeed("the meter has not answered")
    assert bench.set(1_000_067_000) == ["the meter has not answered"]
    assert not bench.files
    bench.files.broken = True
    bench.source.answer = succeed("")
    assert bench.set(1_000_067_000) == ["the disk is full"]
    assert bench.source.kept == {"M": 0}


def test_a_damaged_setting_is_none():
    assert DeskBench(Files({("M", CLOCK): msgspec.msgpack.encode("x")})).source.kept == {}
