"""The ADP over a MAC that tests steer: delivery, forwarding, discovery, repair, broadcast, LBP, limits."""

import itertools
import random

import pytest
from g3_mesh import DELAY, PAN, Ether, MeshMac

from flexmap.g3 import adp as adp_module
from flexmap.g3 import ipv6, outbox, sixlowpan
from flexmap.g3.adp import Adp, AdpStatus
from flexmap.g3.interface import BROADCAST, MacIndication, MacStatus
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.loadng_message import Kind, RouteMessage
from flexmap.g3.uplink import Way

PORT = ipv6.PORT_G3_DATA
EVERYONE = sixlowpan.BROADCAST_GROUP


class Net:
    def __init__(self, *, nodes, links=(), seed=1):
        self.kernel = VirtualTime()
        self.ether = Ether(self.kernel)
        self.nodes = {}
        self.received = []
        self.lbp = []
        for name in nodes:
            mac = MeshMac(self.ether, name, name)
            mac.user = self.nodes[name] = Adp(
                mac, self.kernel, random.Random(f"{seed} {name}"), coordinator=name == 0
            )
            mac.user.on_ipv6 = lambda packet, name=name: self.received.append((name, ipv6.parse_udp(packet)))
            mac.user.lbp_user = LbpEnd(self, name)
        for link in links:
            self.ether.join(*link)

    def send(self, source, destination, payload, *, priority=False, to=None):
        statuses = []
        address = to or ipv6.link_local(PAN, destination)
        packet = ipv6.build_udp(ipv6.Datagram(ipv6.link_local(PAN, source), address, PORT, PORT, payload))
        self.nodes[source].send_ipv6(packet, statuses.append, priority=priority)
        return statuses

    def payloads(self, node):
        return [datagram.payload for name, datagram in self.received if name == node]

    def loadng(self, kind):
        return [entry for entry in self.ether.log if entry[3][:3] == bytes((0x40, 1, kind))]

    def run(self, seconds):
        self.kernel.run(self.kernel.seconds() + seconds)


class LbpEnd:
    def __init__(self, net, name):
        self.net, self.name = net, name

    def lbp_message(self, source, message, *, secured):
        self.net.lbp.append((self.name, source, message, secured))


def line(count):
    return Net(nodes=range(count), links=[(n, n + 1) for n in range(count - 1)])


def test_three_hops_there_and_back():
    net = line(4)
    statuses = net.send(0, 3, b"request")
    net.run(4.0)
    assert not net.received, "the destination waits adpRREPWait for better ways"
    net.run(6.0)
    assert statuses == [AdpStatus.SUCCESS]
    assert net.payloads(3) == [b"request"]
    started = net.kernel.seconds()
    net.send(3, 0, b"reply")
    net.run(1.0)
    assert net.payloads(0) == [b"reply"], "the way back is known"
    assert net.received[-1][1].source == ipv6.link_local(PAN, 3)
    frames = [entry[3] for entry in net.ether.log if entry[0] >= started]
    assert [frame[:5].hex() for frame in frames] == ["b800030000", "b700030000", "b600030000"]
    assert [net.nodes[n].counters.forwarded for n in range(4)] == [0, 2, 2, 0]
    route = net.nodes[0].loadng.route(3)
    assert (route.next_hop, route.hops, route.weak_links) == (1, 3, 0)
    assert net.nodes[2].mac_beacon_request() == net.nodes[2].loadng.route(0).cost
    assert net.nodes[0].mac_beacon_request() == 0


def test_one_hop_has_no_mesh_header_and_the_packet_is_short():
    net = line(2)
    net.send(0, 1, b"x" * 29)
    net.run(10)
    assert net.ether.log[-1][3][:4].hex() == "7e33f311"
    assert len(net.ether.log[-1][3]) == 35


def test_large_packets_travel_in_fragments_over_hops():
    net = line(3)
    payload = bytes(range(256)) * 4
    statuses = net.send(2, 0, payload)
    net.run(20)
    assert (net.payloads(0), statuses) == ([payload], [AdpStatus.SUCCESS])
    assert net.nodes[1].counters.forwarded == 3


def test_a_lost_fragment_loses_its_packet_alone():
    net = line(2)
    net.send(0, 1, b"first")
    net.run(10)
    net.ether.lose = lambda source, destination, msdu: msdu[0] & 0xF8 == 0xE0 and net.kernel.seconds() < 50
    lost = net.send(0, 1, bytes(1000))
    net.run(70)
    net.send(0, 1, b"after")
    net.run(70)
    assert net.payloads(1) == [b"first", b"after"]
    assert lost == [AdpStatus.ROUTE_ERROR]


def test_the_better_way_wins():
    """Two hops of good quality against one weak link, and against two bad hops."""
    net = Net(nodes=range(4), links=[(0, 3, 40), (0, 1, 220), (1, 3, 220), (0, 2, 90), (2, 3, 90)])
    net.send(0, 3, b"x")
    net.run(10)
    route = net.nodes[0].loadng.route(3)
    assert (route.next_hop, route.weak_links) == (1, 0)
    assert net.nodes[3].loadng.route(0).next_hop == 1
    assert net.payloads(3) == [b"x"]


def test_repair_when_a_node_disappears():
    net = Net(nodes=range(5), links=[(0, 1, 220), (1, 4, 220), (0, 2, 150), (2, 4, 150), (0, 3, 100), (3, 4, 100)])
    net.send(0, 4, b"one")
    net.run(40)
    net.ether.cut(1)
    statuses = net.send(0, 4, b"two")
    net.run(12)
    assert (net.payloads(4), statuses) == ([b"one", b"two"], [AdpStatus.SUCCESS])
    assert net.nodes[0].loadng.route(4).next_hop == 2
    assert net.nodes[0].counters.repairs == 1


def test_repair_by_a_node_on_the_way():
    net = Net(nodes=range(5), links=[(0, 1, 220), (1, 2, 220), (2, 4, 220), (1, 3, 120), (3, 4, 120)])
    net.send(0, 4, b"one")
    net.run(40)
    net.ether.cut(2)
    net.send(0, 4, b"two")
    net.run(12)
    assert net.payloads(4) == [b"one", b"two"]
    assert [net.nodes[n].counters.repairs for n in (0, 1)] == [0, 1]


def test_no_way_is_an_error_and_the_originator_learns():
    net = line(3)
    net.send(0, 2, b"one")
    net.run(40)
    net.ether.cut(2)
    net.send(0, 2, b"two")
    net.run(60)
    assert net.nodes[1].counters.route_errors == 1
    assert len(net.loadng(Kind.RERR)) == 1
    assert net.nodes[0].loadng.route(2) is None
    statuses = net.send(0, 2, b"three")
    net.run(30)
    assert statuses == []
    net.run(11)
    assert statuses == [AdpStatus.ROUTE_ERROR], "2 × adpNetTraversalTime without an answer"
    assert net.payloads(2) == [b"one"]


def test_retries_and_the_wait_between_requests():
    net = Net(nodes=[0])
    net.nodes[0].pib.set("adpRREQRetries", 2)
    statuses = net.send(0, 9, b"x")
    net.run(121)
    assert statuses == [AdpStatus.ROUTE_ERROR]
    assert [round(entry[0]) for entry in net.loadng(Kind.RREQ)] == [0, 40, 80]
    sequences = [entry[3][7:9] for entry in net.loadng(Kind.RREQ)]
    assert len(set(sequences)) == 3
    net.nodes[0].pib.set("adpNetTraversalTime", 5)
    net.send(0, 8, b"x")
    net.run(32)
    net.send(0, 8, b"x")
    net.run(1)
    net.send(0, 8, b"x")
    net.run(60)
    times = [entry[0] for entry in net.loadng(Kind.RREQ)][3:]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 10


def test_a_one_way_neighbour_is_blacklisted_and_another_way_is_found():
    """0 hears 1 well, 1 does not hear 0: its RREQ is a trap."""
    net = Net(nodes=range(4), links=[(1, 3, 250), (0, 2, 120), (2, 3, 120)])
    net.ether.links[1, 0] = 250
    first = net.send(3, 0, b"one")
    net.run(75)
    second = net.send(3, 0, b"two")
    net.run(20)
    assert (first, second) == ([AdpStatus.ROUTE_ERROR], [AdpStatus.SUCCESS])
    assert net.payloads(0) == [b"two"]
    assert net.nodes[3].loadng.route(0).next_hop == 2


def test_who_was_not_found_is_not_asked_for_again_at_once():
    net = Net(nodes=range(2))
    asked = []
    for _ in range(200):
        statuses = net.send(0, 1, b"x")
        asked.append(len(net.loadng(Kind.RREQ)))
        net.run(10)
    assert statuses == [AdpStatus.ROUTE_ERROR]
    times = [entry[0] for entry in net.loadng(Kind.RREQ)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[:4] == pytest.approx([70, 100, 160, 280], abs=10), "40 s each, and 30, 60, 120, 240"
    net.ether.join(0, 1)
    net.nodes[1].joined([Way(0, 4)])
    net.run(6)
    net.send(0, 1, b"back")
    net.run(1)
    assert net.payloads(1) == [b"back"], "who comes back is reached at once"


def test_one_unacknowledged_frame_costs_no_route():
    net = line(2)
    net.send(0, 1, b"one")
    net.run(10)
    requests = len(net.loadng(Kind.RREQ))
    lost = [True]
    net.ether.lose = lambda *_frame: bool(lost) and lost.pop()
    statuses = net.send(0, 1, b"two")
    net.run(1)
    assert (net.payloads(1), statuses) == ([b"one", b"two"], [AdpStatus.SUCCESS])
    assert len(net.loadng(Kind.RREQ)) == requests


@pytest.mark.parametrize("lqi", [60, 200])
def test_two_routes_that_are_looked_for_at_once_are_both_found(lqi):
    """Behind two hops, over links that make nodes wait before they pass an RREQ on: it must not get lost there."""
    net = Net(
        nodes=range(8),
        links=[(0, 1, lqi), (1, 2, lqi), (0, 7, lqi), (7, 2, lqi), *((2, n, lqi) for n in range(3, 7))],
    )
    done = []
    for far in range(3, 7):
        net.nodes[0].loadng.discover(far, done.append)
    net.run(30)
    assert done == [True] * 4


def test_known_routes_spare_the_flood():
    net = line(5)
    net.send(4, 0, b"x")
    net.run(20)
    asked = len(net.loadng(Kind.RREQ))
    node = net.nodes[4]
    done = []
    node.loadng.table.remove(0)
    node.loadng.discover(0, done.append)
    net.run(20)
    requests = net.loadng(Kind.RREQ)[asked:]
    assert done == [True]
    assert [entry[2] for entry in requests] == [BROADCAST, 2, 1, 0], "broadcast once, then along what is known"


def test_weak_copies_do_not_multiply_requests():
    """In a full mesh of ten every node passes an RREQ on about once."""
    nodes = range(10)
    dice = random.Random(3)
    net = Net(nodes=nodes, links=[(a, b, dice.randrange(80, 240)) for a in nodes for b in nodes if a < b])
    net.send(0, 9, b"x")
    net.run(10)
    assert net.payloads(9) == [b"x"]
    assert len(net.loadng(Kind.RREQ)) <= 15


def test_broadcast_reaches_everyone_once():
    net = Net(nodes=range(6), links=[(0, 1), (1, 2), (2, 3), (3, 0), (3, 4), (4, 5), (5, 2)])
    statuses = net.send(0, 0, b"all", to=ipv6.ALL_NODES)
    net.run(5)
    assert statuses == [AdpStatus.SUCCESS]
    assert sorted(name for name, _ in net.received) == [1, 2, 3, 4, 5]
    assert sum(entry[2] == BROADCAST for entry in net.ether.log) == 6, "each node sent it once"
    assert net.ether.log[0][3][:6].hex() == "b80000800150"
    net.send(0, 0, bytes(900), to=ipv6.ALL_NODES)
    net.run(20)
    assert [len(net.payloads(n)[-1]) for n in range(1, 6)] == [900] * 5


def test_broadcasts_run_out_of_hops_and_keep_to_groups():
    net = line(11)
    net.send(0, 0, b"far", to=ipv6.ALL_NODES)
    net.run(20)
    assert sorted(name for name, _ in net.received) == list(range(1, 9)), "adpMaxHops 8"
    net.received.clear()
    net.nodes[2].pib.set("adpGroupTable", (EVERYONE, 0x8123))
    net.send(0, 0, b"some", to=bytes.fromhex("ff020000000000000000000000000123"))
    net.run(20)
    assert [name for name, _ in net.received] == [2]


def test_the_broadcast_log_forgets_and_is_bounded():
    net = line(2)
    frame = sixlowpan.mesh_header(1, 9, EVERYONE) + sixlowpan.broadcast_header(1) + b"\x40\x02lbp"

    def hear(octets):
        net.nodes[1].mac_data(MacIndication(9, BROADCAST, PAN, octets, 200, secured=True))

    hear(frame)
    hear(frame)
    assert len(net.lbp) == 1
    net.run(121)
    hear(frame)
    assert len(net.lbp) == 2
    for originator in range(1000):
        hear(sixlowpan.mesh_header(1, 100 + originator, EVERYONE) + frame[5:])
    assert len(net.nodes[1]._broadcast_log) == adp_module.BROADCAST_LOG_SIZE


def test_lbp_between_a_device_that_joins_its_agent_and_the_coordinator():
    net = line(3)
    joining = MeshMac(net.ether, 77)
    joining.user = device = Adp(joining, net.kernel, random.Random(7))
    device.lbp_user = LbpEnd(net, 77)
    net.ether.join(2, 77)
    statuses = []
    device.send_lbp(2, b"joining", statuses.append)
    net.run(1)
    assert net.lbp == [(2, joining.eui64, b"joining", False)]
    assert net.ether.log[-1][3] == b"\x40\x02joining"
    net.nodes[2].send_lbp(0, b"joining", statuses.append)
    net.run(10)
    assert net.lbp[-1] == (0, 2, b"joining", True)
    net.nodes[0].send_lbp(2, b"challenge", statuses.append)
    net.run(1)
    net.nodes[2].send_lbp(joining.eui64, b"challenge", statuses.append)
    net.run(1)
    assert net.lbp[-1] == (77, 2, b"challenge", False)
    device.send_lbp(5, b"nobody", statuses.append)
    net.run(1)
    assert statuses == [MacStatus.SUCCESS] * 4 + [MacStatus.NO_ACK]


def test_what_is_not_secured_is_dropped_but_lbp():
    net = line(2)
    net.send(0, 1, b"x")
    net.run(10)
    frame = net.ether.log[-1][3]
    node = net.nodes[1]

    def hear(octets, *, secured):
        node.mac_data(MacIndication(0, 1, PAN, octets, 200, secured))

    hear(frame, secured=True)
    assert len(net.received) == 2
    hear(frame, secured=False)
    hear(b"\x40\x01" + RouteMessage(Kind.RREQ, 1, 9, 1).encode(), secured=False)
    hear(sixlowpan.mesh_header(8, 9, 1) + b"\x40\x02forged", secured=False)
    assert (len(net.received), net.lbp, node.counters.unsecured) == (2, [], 3)
    assert node.loadng.table.find(9, 0.0, bidirectional=False) is None
    node.pib.set("adpSecurityLevel", 0)
    hear(frame, secured=False)
    assert len(net.received) == 3


def test_a_frame_in_a_circle_and_one_without_hops_are_dropped():
    net = line(2)
    node = net.nodes[1]
    for octets in (sixlowpan.mesh_header(8, 1, 0), sixlowpan.mesh_header(1, 5, 0), sixlowpan.mesh_header(0, 5, 0)):
        node.mac_data(MacIndication(0, 1, PAN, octets + b"\x7e\x33\xf3\x11\0\0", 200, secured=True))
    net.run(1)
    assert (node.counters.dropped_hops, node.counters.forwarded, net.ether.log) == (3, 0, [])


def test_priority_passes_what_waits():
    net = line(2)
    net.send(0, 1, b"route")
    net.run(10)
    for number in range(5):
        net.send(0, 1, b"bulk%d" % number)
    net.send(0, 1, b"command", priority=True)
    net.run(5)
    assert net.payloads(1) == [b"route", b"bulk0", b"command", b"bulk1", b"bulk2", b"bulk3", b"bulk4"]
    assert [entry[5] for entry in net.ether.log[-6:]] == [False, True, False, False, False, False]


def test_what_is_urgent_does_not_stop_the_others():
    net = line(2)
    net.send(0, 1, b"route")
    net.run(10)
    for number in range(12):
        net.send(0, 1, b"urgent%d" % number, priority=True)
    for number in range(2):
        net.send(0, 1, b"bulk%d" % number)
    net.run(10)
    order = [payload[:4] for payload in net.payloads(1)[1:]]
    assert order[:10] == [b"urge"] * 4 + [b"bulk"] + [b"urge"] * 4 + [b"bulk"]


def test_queues_are_bounded():
    """One packet waits for its route, the others behind the RREQ on the air; then all wait for the route."""
    net = Net(nodes=[0])
    limit = outbox.QUEUE_LIMIT
    waiting = [net.send(0, 9, b"%d" % number) for number in range(limit + 6)]
    assert waiting[: limit + 1] == [[]] * (limit + 1)
    assert waiting[limit + 1 :] == [[AdpStatus.NO_BUFFERS]] * 5
    net.run(60)
    assert waiting[:limit] == [[AdpStatus.ROUTE_ERROR]] * limit
    assert waiting[limit] == [AdpStatus.NO_BUFFERS]
    assert net.nodes[0].counters.dropped_full == 6


def test_what_cannot_be_sent():
    net = line(2)
    assert net.send(0, 0, b"self") == [AdpStatus.INVALID_REQUEST]
    assert net.send(0, 1, b"x", to=bytes.fromhex("fd00" + "11" * 14)) == [AdpStatus.INVALID_IPV6_FRAME]
    statuses = []
    net.nodes[0].send_ipv6(b"\x60" + bytes(30) + ipv6.link_local(PAN, 1), statuses.append)
    net.nodes[0].send_ipv6(b"", statuses.append)
    assert statuses == [AdpStatus.INVALID_IPV6_FRAME] * 2
    net.ether.macs[0].short_address = BROADCAST
    assert net.send(0, 1, b"x") == [AdpStatus.INVALID_REQUEST]


def test_echo_is_answered():
    net = line(3)
    echoes = []
    net.nodes[0].on_ipv6 = echoes.append
    one, other = ipv6.link_local(PAN, 0), ipv6.link_local(PAN, 2)
    net.nodes[0].send_ipv6(ipv6.echo_request(one, other, 1, 2, b"ping"))
    net.run(10)
    header, payload = ipv6.parse(echoes[0])
    assert (header.source, payload[0], payload[8:]) == (other, 129, b"ping")


def test_joins_one_after_the_other_teach_the_coordinator_without_a_flood():
    net = line(5)
    for number in range(1, 5):
        net.nodes[number].joined([Way(number - 1, 4 * number)])
        assert net.nodes[number].loadng.route(0).next_hop == number - 1
        net.run(6)
    assert net.nodes[4].mac_beacon_request() == net.nodes[4].loadng.route(0).cost < 100
    assert not any(entry[2] == BROADCAST for entry in net.ether.log)
    statuses = net.send(0, 4, b"read")
    net.run(1)
    assert (net.payloads(4), statuses) == ([b"read"], [AdpStatus.SUCCESS])
    assert net.nodes[0].loadng.route(4).hops == 4


def test_what_is_asked_while_the_reply_is_due_waits_for_it():
    net = line(3)
    net.nodes[1].joined([Way(0, 4)])
    net.run(6)
    net.nodes[2].joined([Way(1, 4)])
    net.run(1)
    net.send(0, 2, b"read")
    net.run(5)
    assert net.payloads(2) == [b"read"]
    assert not any(entry[2] == BROADCAST for entry in net.ether.log)


def test_without_the_default_route_a_joined_node_knows_no_way():
    node = line(3).nodes[2]
    node.pib.set("adpDefaultCoordRouteEnabled", 0)
    node.joined([Way(1, 4)])
    assert node.loadng.route(0) is None
    assert node.mac_beacon_request() == adp_module.RC_COORD_UNKNOWN


def test_neighbours_near_by_spare_each_other_the_request():
    """adpClusterTrickle: in a cluster of twenty a few pass the RREQ on, and the node behind still gets it."""

    def forwarded(trickle):
        near = range(1, 21)
        links = [(0, n, 200) for n in near] + [(a, b, 220) for a in near for b in near if a < b]
        net = Net(nodes=range(22), links=[*links, *((n, 21, 200) for n in near)])
        for node in net.nodes.values():
            node.pib.set("adpClusterTrickleEnabled", trickle)
            node.pib.set("adpDelayHighLQI", 1000)
        net.send(0, 21, b"x")
        net.run(15)
        assert net.payloads(21) == [b"x"]
        return sum(node.loadng.counters.rreq_forwarded for node in net.nodes.values())

    assert forwarded(0) >= 20
    assert forwarded(1) <= 14


def test_path_discovery():
    net = line(4)
    net.send(0, 3, b"x")
    net.run(20)
    paths = []
    net.nodes[0].loadng.discover_path(3, paths.append)
    net.run(5)
    assert [hop.address for hop in paths[0].hops] == [1, 2, 3, 2, 1, 0]
    assert (paths[0].expected, paths[0].originator) == (3, 3)
    assert all(hop.link_cost == 6 for hop in paths[0].hops)
    net.nodes[2].loadng.table.remove(3)
    net.nodes[0].loadng.discover_path(3, paths.append)
    net.run(5)
    assert (paths[1].expected, paths[1].originator) == (3, 2), "the way ends at node 2"
    net.ether.cut(1)
    net.nodes[0].loadng.discover_path(3, paths.append)
    net.run(40)
    assert paths[2] is None


@pytest.mark.parametrize("back", [300, 20_000, 40_000, 65_000])
def test_a_node_that_has_lost_its_sequence_number_is_heard(back):
    net = line(3)
    net.send(0, 2, b"before")
    net.run(40)
    node = net.nodes[0]
    node.reset()
    node.loadng.sequence = (node.loadng.sequence - back) & 0xFFFF
    net.send(0, 2, b"after")
    net.run(10)
    assert net.payloads(2) == [b"before", b"after"]


def test_reset_forgets_and_tells():
    net = line(3)
    net.send(0, 2, b"x")
    net.run(20)
    statuses = net.send(0, 9, b"never") + net.send(0, 9, b"never")
    waiting = net.send(0, 8, b"never")
    net.nodes[0].reset()
    assert (statuses, waiting) == ([], [AdpStatus.FAILED])
    assert len(net.nodes[0].loadng.table) == 0
    net.run(300)
    assert waiting == [AdpStatus.FAILED]


def test_a_mac_that_forgets_a_frame_does_not_stop_the_node():
    net = line(2)
    net.send(0, 1, b"x")
    net.run(10)
    mac = net.ether.macs[0]
    real, mac.data = mac.data, lambda *args, **kwargs: None
    lost = net.send(0, 1, b"lost")
    mac.data = real
    net.run(outbox.CONFIRM_WAIT + 1)
    net.send(0, 1, b"next")
    net.run(1)
    assert (lost, net.payloads(1)) == ([AdpStatus.FAILED], [b"x", b"next"])


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_random_loss_of_frames(loss):
    """Unacknowledged RREQs get lost, unicast fails: with application retries everything arrives."""
    net = Net(nodes=range(6), links=[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (1, 3), (2, 4), (3, 5)])
    dice = random.Random(5)
    net.ether.lose = lambda source, destination, msdu: (
        dice.random() < (loss if destination == BROADCAST else loss**3)
    )
    for node in range(1, 6):
        for _attempt in range(4):
            net.send(0, node, b"%d" % node)
            net.run(90)
            if net.payloads(node):
                break
    assert sorted({name for name, _ in net.received}) == [1, 2, 3, 4, 5]


def test_mutated_frames_do_not_stop_a_node():
    """20,000 mutated frames, secured and not; afterwards the node still works and its tables are bounded."""
    net = line(4)
    net.send(0, 3, bytes(900))
    net.send(0, 0, b"all", to=ipv6.ALL_NODES)
    net.run(20)
    seeds = [entry[3] for entry in net.ether.log]
    dice = random.Random(9)
    node = net.nodes[1]
    for number in range(20_000):
        frame = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 4)):
            frame[dice.randrange(min(len(frame), 20))] = dice.randrange(256)
        del frame[dice.randrange(1, len(frame) + 1) :]
        source = dice.choice((0, 2, 3, bytes(8)))
        node.mac_data(
            MacIndication(source, dice.choice((1, BROADCAST)), PAN, bytes(frame), 100, dice.random() < 0.9)
        )
        if number % 50 == 0:
            net.run(DELAY * 5)
    assert node.counters.malformed > 2_000
    assert len(node.loadng.table) <= node.loadng.table.size
    net.run(600)
    for sender in (0, 2):
        net.send(sender, 1, b"alive")
    net.run(120)
    assert net.payloads(1)[-2:] == [b"alive", b"alive"]


def test_a_node_is_being_read_when_packets_come_not_when_it_is_an_agent():
    net = line(2)
    node = net.nodes[1]
    node.joined([Way(0, 4)])
    net.run(6)
    net.nodes[0].send_lbp(1, b"\xa0\x00" + bytes(8) + b"EAP", lambda _status: None)
    net.run(2)
    assert not node.uplink._heard
    net.send(0, 1, b"read")
    net.run(2)
    assert node.uplink._heard
