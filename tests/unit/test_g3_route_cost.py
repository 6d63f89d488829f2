"""adpRLCEnabled: what a link costs the other way, asked of the neighbour it came from."""

import msgspec
import pytest
from test_g3_adp import Net
from test_g3_node import Pan

from flexmap.g3.loadng_message import CostMessage, Kind, parse
from flexmap.g3.reverse_cost import ANSWER_TTL, ANSWER_WAIT, ASKED


def blind(net):
    """No tone map response has come yet: nobody knows how it is heard."""
    for mac in net.ether.macs.values():
        real = mac.link
        mac.link = lambda neighbour, real=real: (
            None if (link := real(neighbour)) is None else msgspec.structs.replace(link, reverse_lqi=None)
        )
    return net


def trap(rlc):
    """0 hears 1 well, 1 hears 0 badly; over 2 it is middling both ways."""
    net = blind(Net(nodes=range(4), links=[(1, 0, 250, 60), (1, 3, 250), (0, 2, 200), (2, 3, 200)]))
    for node in net.nodes.values():
        node.pib.set("adpRLCEnabled", rlc)
    return net


def costs(net):
    return [
        (entry[1], parse(entry[3][2:])) for entry in net.loadng(Kind.COST_REQUEST) + net.loadng(Kind.COST_REPLY)
    ]


@pytest.mark.parametrize(("rlc", "through"), [(0, 1), (1, 2)])
def test_a_link_that_is_bad_the_other_way_is_not_taken_for_a_good_one(rlc, through):
    net = trap(rlc)
    net.send(3, 0, b"x")
    net.run(20)
    assert net.payloads(0) == [b"x"]
    assert net.nodes[0].loadng.route(3).next_hop == through
    assert bool(costs(net)) is bool(rlc)


def test_a_request_is_answered_with_the_cost_of_the_way_it_came():
    net = trap(1)
    net.send(3, 0, b"x")
    net.run(20)
    asked = costs(net)
    assert (0, CostMessage(Kind.COST_REQUEST, 1, 0)) in asked
    # Kq 10 × (255 − 60) / 255: 1 hears 0 with an LQI of 60
    assert (1, CostMessage(Kind.COST_REPLY, 0, 1, cost=7)) in asked
    assert net.nodes[0].loadng.reverse.known(1) == 7


def test_who_is_known_is_not_asked_again_until_the_answer_is_old():
    net = trap(1)
    net.send(3, 0, b"x")
    net.run(20)
    first = len(net.loadng(Kind.COST_REQUEST))
    net.nodes[3].loadng.discover(0, lambda _found: None, repair=True)
    net.nodes[3].loadng.table.remove(0)
    net.send(3, 0, b"y")
    net.run(60)
    assert len(net.loadng(Kind.COST_REQUEST)) == first
    net.run(ANSWER_TTL)
    net.nodes[3].loadng.table.remove(0)
    net.send(3, 0, b"z")
    net.run(60)
    assert len(net.loadng(Kind.COST_REQUEST)) > first
    assert net.payloads(0) == [b"x", b"y", b"z"]


@pytest.mark.parametrize(("acknowledged", "least"), [(True, ANSWER_WAIT), (False, 0.0)])
def test_without_an_answer_the_forward_cost_and_adp_add_rev_link_cost_count(acknowledged, least):
    net = blind(Net(nodes=range(2), links=[(0, 1, 200)]))
    for node in net.nodes.values():
        node.pib.set("adpRLCEnabled", 1)
        node.pib.set("adpAddRevLinkCost", 30)
    kind = Kind.COST_REPLY if acknowledged else Kind.COST_REQUEST
    net.ether.lose = lambda _source, _destination, msdu: msdu[:3] == bytes((0x40, 1, kind))
    net.send(0, 1, b"x")
    net.run(30)
    assert net.payloads(1) == [b"x"]
    # Kq 10 × (255 − 200) / 255, 30 and Kh 4
    assert net.nodes[1].loadng.route(0).cost == int(10 * 55 / 255 + 30) + 4
    (reply,) = (entry for entry in net.loadng(Kind.RREP))
    assert reply[0] >= least + net.nodes[1].pib.rrep_wait


def test_what_waits_is_bounded_and_forgotten_with_the_rest():
    net = blind(Net(nodes=[0]))
    reverse = net.nodes[0].loadng.reverse
    net.nodes[0].pib.set("adpRLCEnabled", 1)
    held = [reverse.hold(neighbour, lambda: None) for neighbour in range(1, ASKED + 3)]
    assert held == [True] * ASKED + [False] * 2
    again = [reverse.hold(1, lambda: None) for _ in range(ASKED)]
    assert again == [True] * (ASKED - 1) + [False]
    net.nodes[0].reset()
    sent = len(net.ether.log)
    net.run(60)
    assert len(net.ether.log) == sent
    assert reverse.hold(1, lambda: None)


def test_over_the_real_mac_a_chain_asks_and_finds_its_ways():
    pan = Pan(3, metres=550.0)
    for node in (pan.coordinator, *pan.devices):
        node.set("adpRLCEnabled", 1)
    pan.run(600)
    assert pan.joined() == [True] * 3
    found = []
    for device in pan.devices:
        pan.coordinator.adp.loadng.discover(device.short_address, found.append)
    pan.run(60)
    assert found == [True] * 3
    assert sum(node.adp.loadng.reverse.requests for node in (pan.coordinator, *pan.devices)) >= 3
