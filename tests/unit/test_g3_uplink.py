"""A node whose way to the coordinator fails: other agents first, then a scan, a flood last."""

import random

import pytest

from flexmap.g3 import uplink
from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import BROADCAST, COORDINATOR, Beacon, MacStatus
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.loadng import Loadng
from flexmap.g3.loadng_message import Kind, RouteMessage, parse
from flexmap.g3.routing import RoutingTable
from flexmap.g3.uplink import Uplink, Way, ways

PAN = 0x781D


class Bench:
    """A node 9, joined through 1; ``dead`` neighbours acknowledge nothing."""

    pan_id = PAN
    short_address = 9

    def __init__(self, *found, answered=True):
        self.time = VirtualTime()
        self.dead = set()
        self.answered = answered
        self.sent = []
        self.scans = []
        self.beacons = []
        source = random.Random(1)
        self.loadng = Loadng(self, AdpPib(), self.time, source, RoutingTable())
        self.uplink = Uplink(self, self.loadng, self.time, source)
        self.uplink.joined([Way(next_hop, cost) for next_hop, cost in found], 53)

    def link(self, neighbour):
        return None

    def send_loadng(self, neighbour, octets, confirm):
        message = parse(octets)
        self.sent.append((self.time.seconds(), neighbour, message))
        status = MacStatus.NO_ACK if neighbour in self.dead else MacStatus.SUCCESS
        if confirm is not None:
            self.time.callLater(0.1, confirm, status)
        if status is MacStatus.SUCCESS and neighbour != BROADCAST and self.answered:
            self.time.callLater(5, self.reply, neighbour)

    def reply(self, neighbour):
        sequence = len(self.sent)
        reply = RouteMessage(Kind.RREP, 9, COORDINATOR, sequence, cost=9, hop_limit=6, hop_count=1, metric=0x0F)
        self.loadng.message(neighbour, 100, reply.encode(), alone=True)

    def scan(self, seconds, done):
        self.scans.append(self.time.seconds())
        self.time.callLater(seconds, lambda: done(self.beacons))

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)

    def next_hop(self):
        route = self.loadng.route(COORDINATOR)
        return None if route is None else route.next_hop


def test_a_way_that_the_coordinator_answers_is_kept():
    bench = Bench((1, 20), (2, 25))
    bench.run(600)
    assert bench.next_hop() == 1
    assert [to for _, to, _ in bench.sent] == [1], "one RREQ along the way, no flood"
    assert bench.loadng.route(COORDINATOR).sequence is not None


def test_a_neighbour_that_does_not_acknowledge_makes_way_for_the_next_at_once():
    bench = Bench((1, 20), (2, 25))
    bench.run(60)
    bench.loadng.link_failed(COORDINATOR, 1)
    assert bench.next_hop() == 2
    bench.run(60)
    assert [to for _, to, _ in bench.sent] == [1, 2]


def test_ways_that_are_not_answered_are_given_up_one_after_the_other_then_it_scans():
    bench = Bench((1, 20), (2, 25), answered=False)
    bench.run(2 * uplink.PROOF + 0.1)
    assert [to for _, to, _ in bench.sent] == [1, 2]
    assert bench.next_hop() is None
    asked = []
    bench.uplink.discover(COORDINATOR, asked.append)
    assert asked == [], "it looks around already"
    bench.beacons = [Beacon(3, PAN, 120, 10), Beacon(4, PAN, 120, 30), Beacon(5, PAN, 52, 0), Beacon(6, 7, 200, 0)]
    bench.answered = True
    bench.run(20)
    assert bench.scans == [pytest.approx(2 * uplink.PROOF, abs=1)]
    assert bench.next_hop() == 3, "4 may itself lead through this node"
    assert asked == [True]
    assert not any(to == BROADCAST for _, to, _ in bench.sent)


def test_scans_come_ever_more_rarely_and_three_in_vain_end_in_a_flood():
    bench = Bench((1, 20), answered=False)
    bench.run(20000)
    gaps = [later - earlier for earlier, later in zip(bench.scans, bench.scans[1:], strict=False)]
    assert 0.5 * uplink.WAIT < gaps[0] < 3.2 * uplink.WAIT
    assert 10 < len(bench.scans) < 40
    assert min(gaps[5:]) > 0.5 * uplink.WAIT_MOST
    floods = [at for at, to, _ in bench.sent if to == BROADCAST]
    assert floods
    assert floods[0] > bench.scans[2]


def test_nodes_nearer_to_the_coordinator_are_ways_and_the_best_come_first():
    beacons = [Beacon(n, PAN, 100, cost) for n, cost in ((1, 30), (2, 10), (3, 20), (4, 5), (5, 6), (6, 7))]
    assert [way.next_hop for way in ways(beacons, PAN, 30, 53)] == [4, 5, 6, 2]
    assert ways([Beacon(bytes(8), PAN, 100, 0)], PAN, 30, 53) == []


def test_before_a_join_and_for_others_loadng_is_asked():
    bench = Bench((1, 20))
    bench.uplink.discover(7, lambda _found: None)
    assert bench.sent[-1][1:2] == (BROADCAST,)
    bench.uplink.clear()
    bench.loadng.clear()
    bench.uplink.discover(COORDINATOR, lambda _found: None)
    assert bench.sent[-1][1:2] == (BROADCAST,)
    assert bench.sent[-1][2].destination == COORDINATOR


def test_who_was_spoken_to_repairs_at_once():
    """A meter that is being read: its reply is waited for, and minutes of looking around would lose it."""
    bench = Bench((1, 20))
    bench.run(60)
    bench.uplink.heard()
    bench.loadng.link_failed(COORDINATOR, 1)
    found = []
    bench.uplink.discover(COORDINATOR, found.append, repair=True)
    assert bench.sent[-1][1:2] == (BROADCAST,)
    assert bench.sent[-1][2].repair
    bench.reply(2)
    assert found == [True]
    bench.run(600)
    assert bench.next_hop() == 2
    assert bench.scans == []


def test_who_does_not_find_the_coordinator_by_a_repair_looks_around():
    bench = Bench((1, 20))
    bench.run(60)
    bench.uplink.heard()
    bench.loadng.link_failed(COORDINATOR, 1)
    found = []
    bench.uplink.discover(COORDINATOR, found.append)
    bench.run(60)
    assert found == [False]
    bench.uplink.discover(COORDINATOR, found.append)
    bench.run(60)
    assert len(bench.scans) == 1
