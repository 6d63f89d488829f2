"""LOADng messages octet for octet, costs, the routing table."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.g3 import loadng_message
from flexmap.g3.adp_pib import ATTRIBUTES, AdpPib
from flexmap.g3.interface import Link
from flexmap.g3.link_cost import directional_cost, link_cost
from flexmap.g3.loadng_message import CostMessage, Kind, PathHop, PathMessage, RouteError, RouteMessage
from flexmap.g3.routing import BLACKLIST_SIZE, Blacklist, Route, RoutingTable, newer
from flexmap.model.error import LocalError, RemoteError

SHORT = st.integers(0, 0xFFFF)
NIBBLE = st.integers(0, 15)
HOPS = st.lists(st.builds(PathHop, SHORT, st.integers(0, 255), st.booleans()), max_size=16).map(tuple)
MESSAGES = st.one_of(
    st.builds(
        RouteMessage,
        st.sampled_from((0, 1)),
        SHORT,
        SHORT,
        SHORT,
        SHORT,
        NIBBLE,
        NIBBLE,
        NIBBLE,
        st.booleans(),
        st.booleans(),
        NIBBLE,
    ),
    st.builds(RouteError, SHORT, SHORT, SHORT, st.integers(0, 255), NIBBLE),
    st.builds(PathMessage, st.just(252), SHORT, SHORT, st.none(), NIBBLE, HOPS),
    st.builds(PathMessage, st.just(253), SHORT, SHORT, SHORT, NIBBLE, HOPS),
    st.builds(CostMessage, st.just(254), SHORT, SHORT, NIBBLE),
    st.builds(CostMessage, st.just(255), SHORT, SHORT, NIBBLE, st.integers(0, 255)),
)


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (RouteMessage(Kind.RREQ, 0, 5, 0x1234, 0x0102, 8, 0, 0), "00 0000 0005 1234 0f 0102 80 00"),
        (RouteMessage(Kind.RREQ, 0, 5, 1, 9, 7, 1, 1, unicast=True), "00 0000 0005 0001 4f 0009 71 10"),
        (RouteMessage(Kind.RREP, 5, 0, 2, 0, 8, repair=True), "01 0005 0000 0002 8f 0000 80 00"),
        (RouteError(5, 7, 0x0102, 0, 8), "02 0005 0007 00 0102 80"),
        (PathMessage(Kind.PATH_REQUEST, 9, 0, hops=(PathHop(5, 12),)), "fc 0009 0000 f0 000000 0005 00 0c"),
        (
            PathMessage(Kind.PATH_REPLY, 0, 8, 9, hops=(PathHop(8, 0, False),)),
            "fd 0000 0009 f0 00 0008 0008 80 00",
        ),
        (CostMessage(Kind.COST_REQUEST, 1, 2), "fe 0001 0002 f0"),
        (CostMessage(Kind.COST_REPLY, 2, 1, cost=14), "ff 0002 0001 f0 0e"),
    ],
)
def test_layout(message, octets):
    assert message.encode() == bytes.fromhex(octets)
    assert loadng_message.parse(bytes.fromhex(octets)) == message


@given(MESSAGES)
def test_messages_come_back(message):
    assert loadng_message.parse(message.encode()) == message


def test_mutated_messages_raise_nothing_but_remote_error():
    dice = random.Random(2)
    seeds = [
        RouteMessage(Kind.RREQ, 0, 5, 1).encode(),
        RouteError(5, 7, 2).encode(),
        PathMessage(Kind.PATH_REPLY, 0, 8, 9, hops=(PathHop(8, 0),) * 5).encode(),
        CostMessage(Kind.COST_REPLY, 2, 1, cost=14).encode(),
    ]
    refused = 0
    for _ in range(10_000):
        octets = bytearray(dice.choice(seeds))
        octets[dice.randrange(len(octets))] = dice.randrange(256)
        del octets[dice.randrange(len(octets) + 1) :]
        try:
            loadng_message.parse(bytes(octets))
        except RemoteError:
            refused += 1
    assert refused > 5_000
    with pytest.raises(RemoteError):
        loadng_message.parse(PathMessage(Kind.PATH_REQUEST, 0, 8, hops=(PathHop(8, 0),) * 33).encode())


def test_sequence_numbers_wrap():
    assert newer(1, 0)
    assert newer(0, 0xFFFF)
    assert not newer(0xFFFF, 0)
    assert not newer(5, 5)
    assert newer(0x8000, 0)
    assert not newer(0, 255)
    assert newer(0, 256), "started anew"


def test_cost_of_a_link():
    pib = AdpPib()
    good = Link(lqi=255, modulation=2, robo=False, active_tones=36, max_tones=36, reverse_lqi=0)
    assert directional_cost(pib, 255, good) == 0
    assert link_cost(pib, 255, good, 0.0) == 14, "the worse direction: Kq 10, and Kh 4 for the hop"
    assert link_cost(pib, 255, None, 0.0) == 4
    for name, value in {
        "adpKr": 3, "adpKm": 5, "adpKc": 7, "adpKrt": 9, "adpAddRevLinkCost": 20, "adpLowLQIValue": 52,
        "adpHighLQIValue": 108,
    }.items():  # fmt: skip
        pib.set(name, value)
    assert directional_cost(pib, 80, None) == 10 * 0.5 + 3 + 5 * 3
    half = Link(lqi=80, modulation=1, robo=True, active_tones=18, max_tones=36)
    assert directional_cost(pib, 80, half) == 10 * 0.5 + 3 + 5 * 3 + 7 * 0.5
    assert link_cost(pib, 80, half, 0.5) == int(26.5 + 20 + 4.5) + 4


def test_attributes_by_name():
    pib = AdpPib()
    assert pib.get("adpMaxHops") == 8
    assert pib.get("adpNetTraversalTime") == 20
    pib.set("adpMaxHops", 14)
    assert (pib.get("adpMaxHops"), AdpPib().get("adpMaxHops")) == (14, 8)
    pib.set("adpGroupTable", (0x8001, 0x8002))
    for name, value in (("adpMaxHops", 15), ("adpNone", 1), ("adpGroupTable", 1), ("adpGroupTable", (1,))):
        with pytest.raises(LocalError):
            pib.set(name, value)
    assert len({attribute.identifier for attribute in ATTRIBUTES.values()}) == len(ATTRIBUTES)
    for name, attribute in ATTRIBUTES.items():
        default = pib.get(name)
        assert all(
            attribute.low <= entry <= attribute.high
            for entry in (default if isinstance(default, tuple) else (default,))
        )


def route(destination, next_hop=1, *, sequence=1, weak=0, cost=10, hops=2, expires=100.0, bidirectional=False):
    entry = Route(destination)
    entry.next_hop, entry.sequence, entry.weak_links, entry.cost, entry.hops = next_hop, sequence, weak, cost, hops
    entry.expires, entry.bidirectional = expires, bidirectional
    return entry


@pytest.mark.parametrize(
    ("known", "offered", "better"),
    [
        ({}, {}, False),
        ({}, {"sequence": 2, "cost": 99}, True),
        ({}, {"sequence": 0, "cost": 1}, False),
        ({"sequence": 0xFFFF}, {"sequence": 3, "cost": 99}, True),
        ({"weak": 1}, {"weak": 0, "cost": 99}, True),
        ({"weak": 0}, {"weak": 1, "cost": 1}, False),
        ({}, {"cost": 9, "hops": 9}, True),
        ({}, {"cost": 11, "hops": 1}, False),
        ({}, {"hops": 1}, True),
        ({"sequence": None, "cost": 1}, {"cost": 99}, True),
        ({}, {"sequence": None, "cost": 1}, False),
        ({"expires": 5.0}, {"sequence": 0, "cost": 99}, True),
    ],
)
def test_which_route_wins(known, offered, better):
    table = RoutingTable()
    assert table.offer(route(7, 1, **known), 0.0)
    assert table.offer(route(7, 2, **offered), 10.0) is better
    found = table.find(7, 10.0, bidirectional=False)
    assert found.next_hop == (2 if better else 1)
    assert table.find(7, 10.0) is None, "nothing has gone over it"


def test_routes_age_and_the_table_is_bounded():
    table = RoutingTable(3)
    for destination in (1, 2, 3):
        table.offer(route(destination, bidirectional=destination != 2), 0.0)
    table.offer(route(4, bidirectional=True), 0.0)
    assert [entry.destination for entry in table] == [1, 3, 4], "the one that carries nothing made room"
    table.offer(route(5, bidirectional=True), 0.0)
    assert [entry.destination for entry in table] == [3, 4, 5], "the oldest made room"
    assert table.find(5, 99.0).destination == 5
    assert table.find(5, 100.0) is None
    table.offer(route(6), 100.0)
    assert [entry.destination for entry in table] == [6], "all others were stale"


def test_blacklist_is_bounded_and_forgets():
    blacklist = Blacklist()
    for address in range(100):
        blacklist.add(address, 10.0)
    assert len(blacklist) == BLACKLIST_SIZE
    assert blacklist.holds(99, 9.0)
    assert not blacklist.holds(99, 10.0)
    assert not blacklist.holds(0, 9.0)
