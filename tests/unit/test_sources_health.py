"""What a source learns of the channels to its meters, over the real shell; and the silence of meters."""

from stcomet_site import meter
from test_sources_concentrator import PORT, Bench, Nothing, Reactor, Sink

from flexmap.mapping.table import load_products
from flexmap.model import EventCode, quality
from flexmap.sources.concentrator.health import LOST_AFTER, ROUND, points_of
from flexmap.sources.concentrator.source import ConcentratorSource, Settings

TYPES = load_products()
OLD = quality.INVALID | quality.OLD_DATA


class FarSink(Sink):
    """Keeps samples of meters and of channels apart, and both in the batches they came in."""

    def __init__(self):
        super().__init__()
        self.channels = []
        self.batches = []
        self.told = []

    def coordinator(self, told):
        self.told.append(told)

    def accept(self, samples):
        self.samples += [sample for sample in samples if not sample.channel]
        self.channels += [sample for sample in samples if sample.channel]
        self.batches.append(list(samples))


class FarBench(Bench):
    """Meters whose types have the points of the channel."""

    def start(self):
        self.sink = FarSink()
        meters = [
            (site_meter, TYPES[f"{meter_type.id}-g3-plc"])
            for site_meter, meter_type in (meter("SM_ID0", "three-phase"), meter("SM_ID1"), meter("SM_ID2"))
        ]
        self.source = ConcentratorSource(
            "c", meters, Settings(PORT), Reactor(self.pan.time), Nothing(self.sink), connector=self.connect
        )
        self.source.start(self.sink)

    def channel(self, name):
        """The last sample of a channel: value and quality by point."""
        sample = [sample for sample in self.sink.channels if sample.meter == name][-1]
        names = [point.name for point in TYPES["single-phase-g3-plc"].channel]
        return dict(zip(names, zip(sample.values, sample.quality, strict=True), strict=True)), sample.time


def test_the_first_round_is_a_fast_one():
    bench = FarBench()
    bench.run(ROUND / 10)
    assert {sample.meter for sample in bench.sink.channels} == {"SM_ID0", "SM_ID1", "SM_ID2"}
    assert all(bench.channel(name)[0]["messages-sent"][0] for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


def test_each_meters_channel_is_told_every_round():
    bench = FarBench()
    bench.run(3 * ROUND + 10)
    now = bench.pan.time.seconds()
    for name, short in (("SM_ID0", 1), ("SM_ID1", 2), ("SM_ID2", 3)):
        known, time = bench.channel(name)
        assert now - ROUND - 1 <= time / 1000 <= now
        assert time % 10 == 0, "hundredths, as COSEM has them"
        assert known["channel-live"] == (True, quality.GOOD)
        route, told = bench.pan.route(short), bench.core.requests.of(short)
        assert known["route-hops"] == (float(route.hops), quality.GOOD)
        assert known["route-cost"] == (float(route.cost), quality.GOOD)
        assert known["first-link-lqi"] == (float(route.lqi), quality.GOOD)
        received, sent = known["messages-received"][0], known["messages-sent"][0]
        assert 0 < received <= told.replies
        assert 0 < sent <= told.requests + told.retries
        assert known["requests-unanswered"] == (0, quality.GOOD)
    counts = [
        sum(sample.meter == name for sample in bench.sink.channels) for name in ("SM_ID0", "SM_ID1", "SM_ID2")
    ]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) < 20, "a low rate"
    assert bench.sink.told[-1].attributes["adpMaxHops"] == "8"
    figures = bench.source.figures()
    assert (figures["connected"], figures["meters"], figures["meters_silent"]) == (True, 3, 0)
    assert 0 < figures["round_seconds"] <= 12
    assert figures["reads"] >= 15
    assert 0 < figures["plc_requests"] <= bench.core.requests.total.requests
    assert figures["shell_requests"] > 0


def test_a_silent_meters_channel_goes_false_and_comes_back_with_its_values():
    bench = FarBench()
    bench.run(30)
    bench.pan.deaf.add(2)
    bench.run(200)
    lost = [event.time for event in bench.sink.events if event.code is EventCode.COMMUNICATION_LOST]
    assert len(lost) == 1
    falls = [s for s in bench.sink.channels if s.meter == "SM_ID1" and s.values[0] is False]
    assert falls[0].time == lost[0] // 10 * 10
    known, _ = bench.channel("SM_ID1")
    assert known["channel-live"] == (False, quality.GOOD)
    assert known["requests-unanswered"][0] >= 2
    assert known["requests-repeated"][0] >= 2
    assert bench.channel("SM_ID2")[0]["channel-live"] == (True, quality.GOOD)
    assert bench.source.figures()["meters_silent"] == 1
    bench.pan.deaf.clear()
    bench.run(400)
    assert bench.channel("SM_ID1")[0]["channel-live"] == (True, quality.GOOD)
    (back,) = [
        batch
        for batch in bench.sink.batches
        if {s.channel for s in batch if s.meter == "SM_ID1"} == {True, False} and batch[0].time > lost[0]
    ]
    assert back[-1].values[0] is True, "values and channel come back in one batch"


def test_a_meter_that_is_not_in_the_pan_is_silent():
    bench = FarBench(count=1)
    bench.run(30)
    known, _ = bench.channel("SM_ID2")
    assert known["channel-live"] == (False, quality.GOOD)
    assert known["messages-sent"] == known["route-hops"] == (None, quality.NEVER_READ)
    assert bench.channel("SM_ID1")[0]["channel-live"] == (True, quality.GOOD)
    bench.pan.kick("0000000000000002")
    bench.run(5)
    known, _ = bench.channel("SM_ID1")
    assert known["channel-live"] == (False, quality.GOOD)
    assert known["route-hops"] == (None, quality.NEVER_READ)
    codes = [event.code for event in bench.sink.events if event.meter == "SM_ID1"]
    assert codes == [EventCode.POWER_UP, EventCode.COMMUNICATION_LOST]


def test_a_concentrator_that_stays_away_makes_all_its_meters_silent_a_short_cut_does_not():
    bench = FarBench()
    bench.run(60)
    bench.open = False
    bench.wire.cut()
    bench.run(LOST_AFTER / 2)
    assert all(bench.channel(f"SM_ID{n}")[0]["channel-live"] == (True, quality.GOOD) for n in range(3))
    assert not bench.sink.told[-1].attributes, "what the coordinator said of itself may be wrong by now"
    bench.run(LOST_AFTER)
    for number in range(3):
        known, _ = bench.channel(f"SM_ID{number}")
        assert known["channel-live"] == (False, quality.GOOD)
        assert known["route-hops"][1] == OLD
        assert known["messages-sent"][0] > 0
    bench.open = True
    bench.run(60)
    assert all(bench.channel(f"SM_ID{n}")[0]["channel-live"] == (True, quality.GOOD) for n in range(3))
    assert bench.channel("SM_ID1")[0]["route-hops"][1] == quality.GOOD


def test_what_a_status_does_not_tell_is_missing():
    assert set(points_of({}).values()) == {None}
    told = points_of({"hops": "0", "requests": "3", "retries": "1", "replies": "2", "late": "1", "silent": "x"})
    assert told["route-hops"] is told["route-cost"] is told["requests-unanswered"] is None
    assert (told["messages-sent"], told["messages-received"]) == (4, 3)
    assert points_of({"hops": "2", "cost": "9" * 20})["route-cost"] is None
