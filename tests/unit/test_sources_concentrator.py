"""The adapter to a concentrator: turns, samples, events, commands; over the real shell and real STCOMET meters."""

from __future__ import annotations

import random

import pytest
from stcomet_pan import DelayPan
from stcomet_site import START, TYPES, meter, metrologies, site
from twisted.internet.defer import succeed
from twisted.internet.testing import StringTransport

from flexmap.model import Command, ConfigurationError, EventCode, Kind, RemoteError, quality
from flexmap.model.breaker import Trigger
from flexmap.sources.concentrator.poll import SHORT, Gap, Planner, Read, Span, Turn, holes
from flexmap.sources.concentrator.port import Port, parse_port
from flexmap.sources.concentrator.samples import to_sample
from flexmap.sources.concentrator.source import ConcentratorSource, Settings
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.payload import Operation
from flexmap.stcomet.shell import Shell

PORT = Port("pty", path="/none")


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("pty:/tmp/shell", Port("pty", path="/tmp/shell")),
        ("tcp:127.0.0.1:7000", Port("tcp", host="127.0.0.1", number=7000)),
        ("tcp:[::1]:7000", Port("tcp", host="::1", number=7000)),
        ("serial:/dev/ttyUSB0", Port("serial", path="/dev/ttyUSB0", baud=230400, rtscts=True)),
        ("serial:/dev/ttyS1?baud=9600&rtscts=0", Port("serial", path="/dev/ttyS1", baud=9600, rtscts=False)),
    ],
)
def test_ports(text, port):
    assert parse_port(text, "here") == port


@pytest.mark.parametrize(
    "text",
    ["", "pty:", "tcp:x", "tcp::1", "tcp:a:70000", "serial:", "serial:x?baud=x", "serial:x?parity=1", "usb:1"],
)
def test_what_is_no_port_is_refused_with_the_way_out(text):
    with pytest.raises(ConfigurationError, match=r"here: .*write pty:PATH"):
        parse_port(text, "here")


def steps(point, values):
    """How many register steps a point may be off the model's own value: the table in docs/concentrator.md."""
    name = point.name
    if name.startswith("power-factor"):
        apparent = values[name.replace("power-factor", "apparent-power")]
        return 1 + 1000 / max(apparent, 1)
    if point.kind is not Kind.INSTANTANEOUS or name == "frequency":
        return 0
    if name == "current-neutral":
        return 2
    through_the_chip = name.endswith(("-l2", "-l3", "-sequence")) or (
        name.endswith("power") and "voltage-l1" in values
    )
    return int(through_the_chip)


def test_every_point_has_the_value_that_the_model_shows():
    """The record of a second gives the sample that the site's model gives for it, point by point."""
    model, other = site(6), site(6)
    meters = metrologies(model)
    for hour in (3, 12, 19):
        for second in range(START + 3600 * hour, START + 3600 * hour + 120):
            expected = {sample.meter: sample for sample in other.step(second)}
            for name, metrology in meters.items():
                meter_type = TYPES["three-phase" if name == "SUB" else "single-phase"]
                sample = to_sample(name, meter_type, metrology.layout, metrology.second(second))
                assert (sample.time, set(sample.quality)) == (expected[name].time, {quality.GOOD})
                values = dict(zip(meter_type.index, expected[name].values, strict=True))
                for point, value in zip(meter_type.points, sample.values, strict=True):
                    off = abs(value - values[point.name]) / 10**point.scaler
                    assert off <= steps(point, values) + 1e-6, (name, point.name, value, values[point.name])


def test_holes_between_what_is_stored():
    assert holes([], 5, 8) == [Span(5, 8)]
    assert holes([5, 6, 7], 5, 8) == []
    assert holes([6, 9, 9, 12], 5, 11) == [Span(5, 6), Span(7, 9), Span(10, 11)]


def read_all(planner, now, ring):
    """Play a line of meters that answer at once; return what was delivered by meter."""
    delivered = {}
    for _ in range(1000):
        read = planner.next(now)
        if read is None:
            break
        times = ring if read.turn is Turn.LATEST else [t for t in ring if t >= read.start][: read.count]
        times = times[-1:] if read.turn is Turn.LATEST else times
        delivered.setdefault(read.meter, []).extend(planner.answered(read, times, now))
    return delivered


def test_after_an_outage_the_latest_comes_first_then_every_second_once():
    planner = Planner(5, 3600)
    planner.add("a", 1000)
    planner.add("b", None)
    planner.add("c", 4000, [Span(900, 950)])
    ring = list(range(700, 4001))
    delivered = read_all(planner, 4000.0, ring)
    assert delivered["a"][0] == 4000
    assert sorted(delivered["a"]) == list(range(1001, 4001))
    assert sorted(delivered["b"]) == ring
    assert sorted(delivered["c"]) == list(range(900, 950))
    assert planner.behind() == 0


@pytest.mark.parametrize("held", [900, 500])
def test_a_hole_that_is_asked_for_twice_is_not_taken_for_a_gap(held):
    """A look behind a command ends a meter's turn while its bulk read is under way, which so is made again."""
    planner = Planner(5, 3600)
    planner.add("a", 4000, [Span(1000, 3000)])
    planner.answered(planner.next(4000.0), [], 4000.0)
    first = planner.next(4000.0)
    planner.answered(Read("a", Turn.LATEST), [4000], 4000.0)
    second = planner.next(4000.0)
    assert (first, second) == (Read("a", Turn.HOLE, 1000, 900),) * 2
    delivered = planner.answered(first, list(range(1000, 1000 + held)), 4001.0)
    delivered += planner.answered(second, list(range(1000, 1000 + held)), 4001.0)
    delivered += read_all(planner, 4001.0, list(range(1000, 4001)))["a"]
    assert delivered == list(range(1000, 3000))
    assert planner.take_gaps() == []


def test_what_the_ring_has_overwritten_does_not_hold_up_the_rest():
    planner = Planner(5, 3600)
    planner.add("a", 1000)
    ring = list(range(6000, 9001))
    delivered = read_all(planner, 9000.0, ring)
    assert sorted(delivered["a"]) == ring
    assert planner.next(9000.0) is None


def test_turns_are_fair_and_bulk_gets_its_share_on_a_busy_line():
    planner = Planner(5, 3600)
    for number in range(10):
        planner.add(f"m{number}", None)
    now, turns = 10_000.0, {}
    for _ in range(600):
        read = planner.next(now)
        turns.setdefault(read.turn, {}).setdefault(read.meter, 0)
        turns[read.turn][read.meter] += 1
        start = read.start if read.turn is not Turn.LATEST else int(now)
        planner.answered(read, list(range(start, min(start + read.count, int(now) + 1))), now)
        now += 1  # the line is never idle: ten meters, a second a read, five seconds an interval
    following = turns[Turn.FOLLOWING]
    assert max(following.values()) - min(following.values()) <= 2
    assert sum(turns[Turn.HOLE].values()) >= 40
    assert planner.behind() == 0


def test_at_the_start_meters_come_in_the_sites_order_and_all_else_waits():
    """The latest record of every meter comes first; one that does not answer does not hold up the rest."""
    planner = Planner(5, 3600)
    for name in ("sub", "b", "a"):
        planner.add(name, None)
    assert planner.catching_up(4000.0)
    reads = [planner.next(4000.0) for _ in range(3)]
    assert [read.meter for read in reads] == ["sub", "b", "a"]
    for read in reads[:2]:
        planner.answered(read, [4000], 4000.0)
        assert planner.catching_up(4000.0)
    planner.failed(reads[2], 4000.0)
    assert not planner.catching_up(4000.0)


def test_silent_meters_wait_longer_and_longer():
    planner = Planner(5, 3600)
    planner.add("a", 100)
    now, waits = 1000.0, []
    for _ in range(8):
        read = planner.next(now)
        planner.failed(read, now)
        assert planner.next(now) is None
        waits.append(planner.wait(now))
        now += waits[-1]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert planner.silent("a")
    planner.answered(planner.next(now), [int(now)], now)
    assert not planner.silent("a")


class Reactor:
    """Virtual time as the source sees it."""

    def __init__(self, time):
        self.seconds = time.seconds
        self._time = time

    def callLater(self, delay, call, *args):
        return self._time.callLater(delay, call, *args)


class Sink:
    def __init__(self):
        self.samples = []
        self.events = []

    def accept(self, samples):
        self.samples += samples

    def event(self, event):
        self.events.append(event)


class Nothing:
    """A store with nothing in it."""

    def __init__(self, sink):
        self._sink = sink

    def seconds(self, meter, start, stop):
        stored = (s.time // 1000 for s in self._sink.samples if s.meter == meter)
        return [second for second in stored if start <= second < stop]

    def span(self, meter):
        stored = [s.time // 1000 for s in self._sink.samples if s.meter == meter]
        return (min(stored), max(stored)) if stored else None

    def has(self, event):
        return event in self._sink.events


class Wire(StringTransport):
    """Octets from the adapter to a shell, at once; and back."""

    def __init__(self, link, pan, core):
        super().__init__()
        self.link = link
        self.time = pan.time
        self.shell = Shell(core, self._back)
        self.dead = False

    def write(self, data):
        if not self.dead:
            self.time.callLater(0, self._feed, data)

    def _feed(self, data):
        if not self.dead:
            self.shell.feed(data)

    def _back(self, data):
        self.time.callLater(0, self._take, data)

    def _take(self, data):
        if not self.dead:
            self.link.dataReceived(data)

    def abortConnection(self):
        self.cut()

    def cut(self):
        if not self.dead:
            self.dead = True
            self.shell.close()
            self.link.connectionLost()


class Bench:
    def __init__(self, count=2, depth=3600, before=600, settings=None):
        self.settings = settings or Settings(PORT)
        self.pan = DelayPan(count, depth)
        self.core = Concentrator(self.pan, self.pan.time, 0)
        self.pan.user = self.core
        self.core.begin()
        self.run(before)
        self.sink = Sink()
        self.open = True
        self.wire = None
        self.start()

    def start(self):
        meters = [meter("SM_ID0", "three-phase"), *(meter(f"SM_ID{n}") for n in (1, 2))]
        self.source = ConcentratorSource(
            "c", meters, self.settings, Reactor(self.pan.time), Nothing(self.sink), connector=self.connect
        )
        self.source.start(self.sink)

    def connect(self, _reactor, port, link):
        if not self.open:
            raise RemoteError("not there")
        self.wire = Wire(link, self.pan, self.core)
        link.makeConnection(self.wire)
        return succeed(None)

    def run(self, seconds):
        self.pan.time.run(self.pan.time.seconds() + seconds)

    def seconds(self, name):
        return [sample.time // 1000 for sample in self.sink.samples if sample.meter == name]

    def whole(self, name):
        """Every second from the meter's first one on, once; up to a few seconds ago."""
        now = int(self.pan.time.seconds())
        seconds = sorted(self.seconds(name))
        assert seconds == list(range(START, seconds[-1] + 1)), name
        assert seconds[-1] >= now - 10
        return True


def test_every_second_since_before_the_gateway_was_there():
    bench = Bench()
    bench.run(60)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))
    # The latest records came first.
    assert bench.sink.samples[0].time // 1000 >= START + 599


def test_a_cut_line_and_a_new_gateway_miss_nothing():
    bench = Bench()
    bench.run(60)
    bench.open = False
    bench.wire.cut()
    bench.run(SHORT * 3)
    bench.open = True
    bench.run(90)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))
    bench.source.stop()
    bench.run(1000)
    bench.start()
    bench.run(120)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


def gaps(bench, name):
    return [event for event in bench.sink.events if (event.meter, event.code) == (name, EventCode.DATA_GAP)]


def test_a_gap_is_noted_only_when_it_can_not_be_filled_any_more():
    bench = Bench(depth=900, settings=Settings(PORT, depth=900))
    bench.run(60)
    bench.source.stop()
    bench.run(700)  # within the ring buffers' depth
    bench.start()
    bench.run(60)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))
    assert not [event for event in bench.sink.events if event.code == EventCode.DATA_GAP]
    bench.source.stop()
    bench.run(2000)
    bench.start()
    bench.run(60)
    for name in ("SM_ID0", "SM_ID1", "SM_ID2"):
        seconds = sorted(bench.seconds(name))
        missing = sorted(set(range(seconds[0], seconds[-1])) - set(seconds))
        assert 1080 < len(missing) < 1120
        assert missing == list(range(missing[0], missing[-1] + 1))
        told = sum(int(event.text.split()[5]) for event in gaps(bench, name))
        assert told == len(missing)
        assert gaps(bench, name)[0].time == missing[0] * 1000
    before = list(bench.sink.events)
    for _ in range(2):
        bench.source.stop()
        bench.run(20)
        bench.start()
        bench.run(60)
    assert bench.sink.events == before  # what is told is not told again


def test_planner_tells_gaps_that_stay():
    planner = Planner(5, 1000)
    planner.add("a", 5000)
    planner.answered(planner.next(7000.0), [7000], 7000.0)
    assert planner.take_gaps() == [Gap("a", 5001, 6000)]
    hole = planner.next(7000.0)
    assert (hole.turn, hole.start, hole.count) == (Turn.HOLE, 6000, 900)
    planner.answered(hole, [*range(6003, 6050), *range(6060, 6900)], 7000.0)
    assert planner.take_gaps() == [Gap("a", 6000, 6003), Gap("a", 6050, 6060)]
    planner.answered(planner.next(7000.0), [], 7000.0)
    assert planner.take_gaps() == [Gap("a", 6900, 7000)]
    assert planner.behind() == 0
    # A clock that was set forward: the meter has nothing between.
    planner.answered(planner.next(7010.0), [7001, 7002, 7008, 7009], 7010.0)
    assert planner.take_gaps() == [Gap("a", 7003, 7008)]


def test_what_a_meter_had_not_yet_measured_is_no_gap():
    planner = Planner(5, 1000)
    planner.add("a", None)
    planner.answered(planner.next(7000.0), [7000], 7000.0)
    planner.answered(planner.next(7000.0), list(range(6800, 7000)), 7000.0)
    assert (planner.take_gaps(), planner.behind()) == ([], 0)


def test_a_silent_meter_is_noted_and_its_gap_fetched():
    bench = Bench()
    bench.run(30)
    bench.pan.deaf.add(2)
    bench.run(400)
    assert EventCode.COMMUNICATION_LOST in [e.code for e in bench.sink.events if e.meter == "SM_ID1"]
    others = bench.seconds("SM_ID2")
    assert others[-1] >= bench.pan.time.seconds() - 10  # it does not hold up the others
    bench.pan.deaf.clear()
    bench.run(400)
    assert bench.whole("SM_ID1")
    codes = [e.code for e in bench.sink.events if e.meter == "SM_ID1"]
    assert codes.count(EventCode.COMMUNICATION_LOST) == codes.count(EventCode.COMMUNICATION_RESTORED) == 1


def test_a_breaker_command_is_answered_by_the_meter():
    bench = Bench()
    bench.run(30)
    results = []
    bench.source.command(Command(1, "SM_ID1", "breaker", False)).addCallback(results.append)
    bench.run(5)
    assert [(r.id, r.done) for r in results] == [(1, True)]
    latest = [s for s in bench.sink.samples if s.meter == "SM_ID1"][-1]
    assert latest.values[TYPES["single-phase"].index["breaker"]] is False
    codes = [e.code for e in bench.sink.events if e.meter == "SM_ID1"]
    assert codes.count(EventCode.REMOTE_DISCONNECTION) == 1
    bench.pan.deaf.add(2)
    bench.source.command(Command(2, "SM_ID1", "breaker", True)).addCallback(results.append)
    bench.source.command(Command(3, "none", "breaker", True)).addCallback(results.append)
    bench.run(60)
    assert [(r.id, r.done, r.cause) for r in results[1:]] == [
        (3, False, "meter 'none' is not in the PAN"),
        (2, False, "time-limit-over"),
    ]
    bench.source.command(Command(4, "SM_ID2", "breaker", True)).addCallback(results.append)
    bench.source.stop()
    assert results[-1].cause == "the source stops"


def test_events_that_got_lost_are_fetched_and_none_comes_twice():
    bench = Bench()
    bench.run(30)
    bench.wire.cut()
    bench.pan.meters[2].operate(Trigger.REMOTE_DISCONNECT)
    bench.run(30)
    bench.pan.meters[2].operate(Trigger.REMOTE_RECONNECT)
    bench.run(30)
    codes = [e.code for e in bench.sink.events if e.meter == "SM_ID1"]
    assert codes.count(EventCode.REMOTE_DISCONNECTION) == codes.count(EventCode.REMOTE_CONNECTION) == 1
    assert len(bench.sink.events) == len(set(bench.sink.events))


def test_doubtful_clocks_are_set():
    bench = Bench(before=0)
    bench.run(60)
    marks = [sample.clock_status for sample in bench.sink.samples if sample.meter == "SM_ID1"]
    assert marks[0] == 2
    assert marks[-1] == 0


def test_meters_that_fall_silent_do_not_hold_up_the_others():
    bench = Bench()
    bench.run(60)
    bench.pan.deaf.update({1, 2})
    oldest = 0.0
    for _ in range(120):
        bench.run(1)
        oldest = max(oldest, bench.pan.time.seconds() - bench.seconds("SM_ID2")[-1])
    assert oldest < 32  # 34 where silent meters keep their turn; a read of many records does
    bench.pan.deaf.clear()
    bench.run(400)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


@pytest.mark.parametrize("by", [600, -600, -START], ids=["ahead", "behind", "1970"])
def test_a_clock_that_somebody_has_set_wrong_is_set_right_within_minutes(by):
    bench = Bench()
    bench.run(120)
    time = int(bench.pan.time.seconds()) + by
    bench.core.pan.meters[2].adjust_clock(bench.pan.meters[2].time.adjustments, by * 1000)
    assert abs(bench.pan.meters[2].time.now() - time * 1000) < 2000
    bench.run(240)
    now = bench.pan.time.seconds()
    assert abs(bench.pan.meters[2].time.now() - now * 1000) < 200
    assert bench.seconds("SM_ID1")[-1] > now - 15


def test_a_line_that_waits_moves_no_clock():
    bench = Bench(before=0)
    bench.run(1)
    write = bench.wire.write

    def late(data):
        """The concentrator is busy with something else whenever a clock is to be measured."""
        bench.pan.time.callLater(3.0 if b"APP CLOCK" in data else 0.0, write, data)

    bench.wire.write = late
    bench.run(600)
    now = bench.pan.time.seconds() * 1000
    assert set(bench.source.clock_offsets()) == {"SM_ID0", "SM_ID1", "SM_ID2"}
    assert bench.source.figures()["clock_offset_seconds"] < 0.1
    for each in bench.pan.meters.values():
        assert not each.time.doubtful
        assert abs(each.time.now() - now) < 100


def test_over_a_line_that_is_slow_no_clock_is_measured_until_it_is_quick_again():
    bench = Bench(before=0)
    write = bench.wire.write
    bench.wire.write = lambda data: bench.pan.time.callLater(0.5, write, data)
    bench.run(60)
    assert bench.sink.samples
    assert not [octets for _, _, octets, _ in bench.pan.sent if octets[1] & 0x0F == Operation.CLOCK]
    assert all(each.time.doubtful for each in bench.pan.meters.values())
    bench.wire.write = write
    bench.run(30)
    assert not any(each.time.doubtful for each in bench.pan.meters.values())


def test_a_person_has_left_the_echo_on_and_a_line_half_typed():
    bench = Bench()
    bench.run(30)
    bench.wire.shell.feed(b"SYS ECHO 1\r\nAPP GET_DATA")
    shell = bench.wire.shell
    bench.open = False
    bench.wire.abortConnection()

    def write(octets):
        bench.wire._back(octets)

    shell._write = write
    shell.set_echo(True)

    def again(_reactor, _port, link):
        bench.wire = Wire(link, bench.pan, bench.core)
        bench.wire.shell.close()
        bench.wire.shell = shell
        bench.core.listen(shell._line)
        link.makeConnection(bench.wire)
        return succeed(None)

    bench.source._connector = again
    bench.run(60)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


def test_meters_that_leave_and_join():
    bench = Bench()
    bench.run(30)
    bench.pan.kick("0000000000000002")
    bench.run(100)
    gone = len(bench.seconds("SM_ID1"))
    bench.pan.join(2)
    bench.run(100)
    assert len(bench.seconds("SM_ID1")) > gone
    assert bench.whole("SM_ID1")


def test_noise_on_the_line_costs_nothing():
    bench = Bench()
    bench.run(30)
    for junk in (
        b"\xff\x00\xfe",
        b"= OK\r\n",
        b"#7 = OK\r\n",
        b": hex=00 crc=0000\r\n! EVENT meter=SM_ID1\r\n",
        b"x" * 9000,
    ):
        bench.wire.link.dataReceived(junk)
        bench.run(10)
    bench.wire.link.dataReceived(b"\r\n")
    bench.run(60)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


class Noisy:
    """Damages octets on their way from the adapter to the shell, or back."""

    def __init__(self, wire, share, seed=3):
        self.draw = random.Random(seed)
        self.share = share
        self.damaged = 0
        to_shell, to_link = wire.shell.feed, wire.link.dataReceived
        wire.shell.feed = lambda octets: to_shell(self.damage(octets))
        wire.link.dataReceived = lambda octets: to_link(self.damage(octets))

    def damage(self, octets):
        if self.draw.random() >= self.share:
            return octets
        self.damaged += 1
        place = self.draw.randrange(len(octets))
        return octets[:place] + bytes((octets[place] ^ 1 << self.draw.randrange(7),)) + octets[place + 1 :]


def test_lines_that_are_damaged_cost_seconds_and_no_meter_counts_as_silent():
    bench = Bench()
    bench.run(60)
    noise = Noisy(bench.wire, 0.03)
    for _ in range(60):
        bench.run(10)
        newest = min(bench.seconds(name)[-1] for name in ("SM_ID0", "SM_ID1", "SM_ID2"))
        assert bench.pan.time.seconds() - newest < 40
    assert noise.damaged > 20
    assert not bench.wire.dead
    assert not [event for event in bench.sink.events if event.code == EventCode.COMMUNICATION_LOST]
    noise.share = 0
    bench.run(60)
    assert all(bench.whole(name) for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


def test_a_gateway_that_goes_leaves_no_read_to_the_one_that_follows_on_the_same_line():
    """A serial line has no end: the shell does not learn that another gateway is at it."""
    bench = Bench()
    bench.pan.deaf.update({1, 2, 3})
    bench.run(SHORT * 2)
    shell = bench.wire.shell
    for _ in range(600):
        if not shell.open_tags():
            bench.run(1)
    assert shell.open_tags()
    bench.wire.dead = True
    bench.pan.deaf.clear()
    bench.source.stop()
    bench.start()
    bench.wire.shell.close()
    bench.wire.shell = shell
    shell._write = bench.wire._back
    bench.run(3)
    assert all(bench.pan.time.seconds() - bench.seconds(name)[-1] < 5 for name in ("SM_ID0", "SM_ID1", "SM_ID2"))


def test_a_bulk_read_that_fails_is_followed_by_a_short_one_at_once():
    planner = Planner(10, 3600)
    planner.add("a", 3990, [Span(1000, 2000)])
    planner.answered(planner.next(4000.0), list(range(3991, 4001)), 4000.0)
    bulk = planner.next(4001.0)
    assert bulk.turn is Turn.HOLE
    planner.failed(bulk, 4021.0)
    assert not planner.silent("a")
    short = planner.next(4021.0)
    assert (short.turn, short.start) == (Turn.FOLLOWING, 4001)
    planner.failed(short, 4045.0)
    assert planner.silent("a")
    assert planner.next(4046.0) is None  # nothing in bulk of one that does not answer
    planner.answered(planner.next(4100.0), list(range(4001, 4101)), 4100.0)
    assert planner.next(4101.0).turn is Turn.HOLE
