"""The meter's clock: no second twice, no energy lost, commands that may come late, doubled or reordered."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stcomet_site import START, site

from flexmap.g3.kernel import VirtualTime
from flexmap.model import EventCode
from flexmap.sources.concentrator.clocks import Clocks
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.app import DATA_PORT, Datagram
from flexmap.stcomet.clock import SLEW_MOST, Clock, Stamps
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.meter import Meter
from flexmap.stcomet.metro import MeterIdentity
from flexmap.stcomet.metrology import Metrology
from flexmap.stcomet.pan import Member
from flexmap.stcomet.payload import ClockReply, ClockRequest, Result
from flexmap.stcomet.record import Layout, Status
from flexmap.stcomet.shell import Shell


class Bench:
    """A meter, ticked by the world's seconds."""

    def __init__(self, clock: Clock | None = None, depth: int = 9000):
        self.feed = SiteFeed(site(1)).meter("M0")
        metrology = Metrology(Layout.SINGLE_PHASE, self.feed, registers=self.feed.registers(), depth=depth)
        self.sent: list[Datagram] = []
        self.clock = clock or Clock()
        self.meter = Meter(metrology, self.feed, MeterIdentity("FM1"), self.sent.append, clock=self.clock)
        self.now = START

    def run(self, seconds: int):
        for _ in range(seconds):
            self.meter.tick(self.now)
            self.now += 1

    def ask(self, message):
        self.sent.clear()
        self.meter.receive(Datagram(0, 5, DATA_PORT, payload.encode(message)))
        return payload.decode(next(each.octets for each in self.sent if each.peer_port == 5))

    def records(self):
        return list(self.meter.metrology.ring.since(0))

    def times(self):
        return [record.time for record in self.records()]


def changed(record):
    return bool(record.state.status & Status.CLOCK_CHANGED)


def test_a_step_forward_leaves_a_gap_that_is_marked():
    bench = Bench(Clock(error=-90_000))
    bench.run(5)
    assert bench.times() == list(range(START - 90, START - 85))
    assert all(record.state.status & Status.CLOCK_DOUBTFUL for record in bench.records())
    reply = bench.ask(ClockRequest(1, 0, 90_000))
    assert (reply.result, reply.time, reply.adjustments) == (Result.DONE, (START + 4) * 1000, 1)
    bench.run(5)
    assert bench.times()[5:] == list(range(START + 5, START + 10))
    assert [changed(record) for record in bench.records()] == [False] * 5 + [True] + [False] * 4
    assert not any(record.state.status & Status.CLOCK_DOUBTFUL for record in bench.records()[5:])
    log = [(event.code, event.time) for event in bench.meter.event_log.events[-2:]]
    assert log == [
        (EventCode.CLOCK_ADJUSTED_OLD, (START - 86) * 1000),
        (EventCode.CLOCK_ADJUSTED_NEW, (START + 4) * 1000),
    ]


def test_a_step_back_records_no_second_twice_and_loses_no_energy():
    bench, right = Bench(Clock(error=60_000)), Bench()
    for each in (bench, right):
        each.run(300)
    bench.ask(ClockRequest(1, 0, -60_000))
    for each in (bench, right):
        each.run(300)
    times = bench.times()
    assert len(times) == len(set(times))
    # 60 seconds were recorded before under the same times; behind them the records go on, marked.
    assert times == list(range(START + 60, START + 600))
    assert [record.time for record in bench.records() if changed(record)] == [START + 360]
    assert bench.meter.metrology.registers == right.meter.metrology.registers
    truth = {record.time: record.energies for record in right.records()}
    assert all(record.energies == truth[record.time] for record in bench.records()[300:])


def test_a_clock_years_ahead_is_recorded_at_once_when_set_back():
    bench = Bench(Clock(error=3.2e10 * 10))
    bench.run(100)
    bench.ask(ClockRequest(1, 0, -(3.2e10).__int__() * 10))
    bench.run(100)
    assert bench.times()[100:] == list(range(START + 100, START + 200))
    assert [changed(record) for record in bench.records()[100:102]] == [True, False]


def test_a_small_adjustment_is_slewed():
    bench = Bench(Clock(error=-300))
    bench.run(3)
    events = len(bench.meter.event_log.events)
    reply = bench.ask(ClockRequest(1, 0, 300))
    assert (reply.result, reply.pending) == (Result.DONE, 300)
    bench.run(20)
    middle = bench.ask(ClockRequest(2))
    assert (middle.result, middle.time, middle.pending) == (Result.UNCHANGED, bench.now * 1000 - 1200, 200)
    bench.run(120)
    done = bench.ask(ClockRequest(3))
    assert (done.time, done.pending) == ((bench.now - 1) * 1000, 0)
    assert not any(changed(record) for record in bench.records()[1:])
    assert bench.times() == list(range(START, bench.now))
    assert len(bench.meter.event_log.events) == events


def test_late_doubled_and_reordered_commands_do_no_harm():
    bench = Bench(Clock(error=-700))
    bench.run(10)
    first = ClockRequest(7, 0, 700)
    assert bench.ask(first).result is Result.DONE
    bench.run(600)
    assert bench.ask(first).result is Result.UNCHANGED  # ten minutes late, again
    assert bench.ask(ClockRequest(8, 2, 5000)).result is Result.UNCHANGED  # measured after one that never came
    assert bench.ask(ClockRequest(9, 1, 4000)).result is Result.DONE
    assert bench.ask(ClockRequest(9, 1, 4000)).adjustments == 2
    assert bench.ask(ClockRequest(7, 0, 700)).result is Result.UNCHANGED
    reply = bench.ask(ClockRequest(10))
    assert reply.time == (bench.now - 1) * 1000 + 4000
    assert bench.ask(ClockRequest(11, 2, 2**62)).result is Result.REFUSED
    assert bench.ask(ClockRequest(11, 2, -(2**62))).result is Result.REFUSED
    assert bench.ask(ClockRequest(12)).adjustments == 2


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-4000, 4000),
    st.lists(st.tuples(st.integers(1, 90), st.integers(-2500, 2500) | st.integers(-(10**6), 10**6)), max_size=6),
)
def test_whatever_the_clock_does_no_second_comes_twice(drift, steps):
    clock, now, seen = Clock(drift=drift), START, []
    unmoved, moved, doubled = 0, 0, 0
    for wait, by in [*steps, (400, 0)]:
        for _ in range(wait):
            now += 1
            stamps, changed = clock.stamps.next(clock.tick(now * 1000))
            if not stamps:
                unmoved += 1
                near = {(clock.now() + off) // 1000 for off in (250, 500, 750)}
                assert any(start <= second < stop for second in near for start, stop in clock.stamps.runs())
            doubled += len(stamps) == 2
            assert all(abs(stamp * 1000 - clock.now()) <= 800 for stamp in stamps)
            assert changed or not seen or not stamps or stamps[0] == seen[-1] + 1
            seen += stamps
        moved += clock.adjust(clock.adjustments, by) is not None
    assert len(seen) == len(set(seen))
    assert len(seen) + unmoved - doubled == now - START
    assert moved or seen == list(range(START + 1, seen[-1] + 1))


def test_stamps_do_not_waver_where_the_clock_stands_between_two_seconds():
    stamps = Stamps()
    draw = random.Random(3)
    seen = [stamps.next(second * 1000 + 500 + draw.uniform(-200, 200)) for second in range(1000)]
    assert seen == [((second,), False) for second in range(seen[0][0][0], seen[0][0][0] + 1000)]


@pytest.mark.parametrize("by", [2000, -2000])
def test_slewing_over_whole_seconds_skips_and_repeats_none(by):
    bench, right = Bench(Clock(error=-by)), Bench()
    for each in (bench, right):
        each.run(3)
        each.ask(ClockRequest(1, 0, by if each is bench else 1))
        each.run(600)
    first, last = START - by // 1000, START + 602
    assert bench.times() == list(range(first, last + 1))
    assert not any(changed(record) for record in bench.records())
    assert bench.meter.metrology.registers == right.meter.metrology.registers
    # While it is slewed, a record has the energy of a second within one of its own.
    truth = [record.energies[0] for record in right.records()]
    for record in bench.records():
        place = record.time - START
        assert truth[max(place - 2, 0)] <= record.energies[0] <= truth[min(place + 2, 602)]
    assert bench.records()[-1].energies == right.records()[-1].energies


def test_a_clock_goes_on_over_a_restart():
    clock, other = (Clock(drift=20, error=1234) for _ in range(2))
    for each in (clock, other):
        for second in range(100):
            each.stamps.next(each.tick((START + second) * 1000))
        each.adjust(0, -900)
    clock = Clock(clock.state(), drift=20, error=99)
    for each in (clock, other):
        for second in range(100, 200):
            each.stamps.next(each.tick((START + second) * 1000))
    assert clock.state() == other.state()
    assert not clock.doubtful


class Line:
    """Meters that are no more than their clocks behind a line with delays of its own in each direction."""

    def __init__(self, draw: random.Random, drifts: list[float], loss: float, delay: float):
        self.time = VirtualTime(START)
        self.draw, self.loss, self.delay = draw, loss, delay
        self.user: Concentrator | None = None
        self.meters: dict[int, Meter] = {}
        self.copies: list[tuple[int, bytes]] = []
        feed = SiteFeed(site(1)).meter("M0")
        for short, drift in enumerate(drifts, start=1):
            error = draw.uniform(-400, 400)
            clock = Clock(drift=drift, error=error, time=lambda: self.time.seconds() * 1000)
            metrology = Metrology(Layout.SINGLE_PHASE, feed, depth=2)
            identity = MeterIdentity(f"M{short}", f"M{short}")
            self.meters[short] = Meter(metrology, feed, identity, self._up(short), clock=clock)

    def _up(self, short):
        return lambda datagram: self._later(self.user.datagram, short, datagram.octets)

    def _later(self, call, *arguments):
        if self.draw.random() >= self.loss:
            self.time.callLater(self.draw.expovariate(1 / self.delay) + 0.05, call, *arguments)

    def members(self):
        return [Member(f"{short:016x}", short, START) for short in self.meters]

    def send(self, short, octets, confirm, *, priority):
        confirm(True)
        self.copies.append((short, octets))
        down = lambda octets: self.meters[short].receive(Datagram(0, DATA_PORT, DATA_PORT, octets))  # noqa: E731
        self._later(down, octets)
        if self.draw.random() < 0.2:  # comes twice
            self._later(down, octets)
        if self.draw.random() < 0.2:  # and another one again, hours later
            other, old = self.draw.choice(self.copies)
            self.meters[other].receive(Datagram(0, DATA_PORT, DATA_PORT, old))


@pytest.mark.parametrize(("delay", "loss"), [(0.15, 0.02), (0.25, 0.1)])
def test_clocks_stay_within_half_a_second_over_a_day(delay, loss):
    """Crystals of ± 20 millionths, over the shell and FLEXMETER; delays of each way, losses, copies hours late."""
    draw = random.Random(5)
    line = Line(draw, [20, -20, 20, -20, 13, 0], loss, delay)
    core = Concentrator(line, line.time, 0)
    line.user = core
    ends: list[mnsh.Line] = []

    def take(octets: bytes) -> None:
        ends.extend(mnsh.parse_line(text) for text in octets.decode().splitlines())

    shell = Shell(core, take)
    core.begin()
    clocks, worst, moved, asked = Clocks(), 0.0, 0, 0
    line.time.run(START + 60)
    names = [f"M{short}" for short in line.meters]
    for name in names:
        clocks.add(name, START)
        clocks.urgent(name, START, START)  # never set
    while (second := line.time.seconds() + 10) < START + 86_400:
        line.time.run(second)
        meter = clocks.next(second)
        if meter is not None:
            asked += 1
            ends.clear()
            shell.feed(f"APP CLOCK {meter} {int(second)} {int(second % 1 * 1000)} 0\n".encode())
            line.time.run(second + 60)

            end = next(line for line in ends if line.mark is mnsh.Mark.END)
            if end.done:
                clocks.answered(meter, int(end.fields["offset_ms"]), int(end.fields["round_trip_ms"]), second)
                moved += end.fields["adjusted_ms"] != "0"
            else:
                clocks.failed(meter, second)
        if second > START + 3600:
            worst = max(
                worst, *(abs(each.time.now() - line.time.seconds() * 1000) for each in line.meters.values())
            )
    drifted = 20e-6 * 86_400_000
    print(f"worst {worst:.0f} ms (alone {drifted:.0f} ms), {asked} measurements, {moved} adjustments")
    assert worst <= 500 < drifted
    assert asked < 6 * 20
    assert set(clocks.offsets) == set(names)


def test_the_schedule_is_slow_and_backs_off():
    clocks = Clocks()
    for number in range(1000):
        clocks.add(f"m{number}", 0.0)
    measured: dict[str, int] = {}
    for now in range(6 * 3600):
        meter = clocks.next(now)
        if meter is not None:
            assert clocks.next(now) is None  # one at a time
            measured[meter] = measured.get(meter, 0) + 1
            clocks.answered(meter, 5, 300, now)
    assert set(measured.values()) == {3}
    clocks = Clocks()
    clocks.add("a", 0)
    clocks.urgent("a", 0, 0)
    tries, now = [], 0
    while now < 40_000:
        if clocks.next(now):
            clocks.failed("a", now)
            clocks.urgent("a", now, now)  # its records go on saying so
            tries.append(now)
        now += 10
    waits = [two - one for one, two in pairwise(tries)]
    assert waits[:5] == [300, 600, 1200, 2400, 4800]
    assert set(waits[5:]) == {7200}


def test_slewing_is_bounded():
    clock = Clock()
    clock.tick(0.0)
    assert clock.adjust(0, int(SLEW_MOST)) is None
    assert clock.adjust(1, 1) == pytest.approx(SLEW_MOST + 1)  # together they are a step
    assert isinstance(payload.decode(payload.encode(ClockReply(1, Result.DONE, 5, -3, 9))), ClockReply)
