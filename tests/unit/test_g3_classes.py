"""The coordinator's information base on its way: G3-PLC node, shell, adapter, COSEM's classes 90 to 92."""

import random

import pytest
from test_sources_concentrator import Reactor, Wire

from flexmap.dlms import axdr, g3_classes
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.objects import Schema
from flexmap.g3.formed import form
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line, Place
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.pan import Psks
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES, COORDINATOR_SPOT
from flexmap.gateway.g3_pan import G3Pan
from flexmap.model.plc import Coordinator
from flexmap.sources.concentrator.coordinator import PERIOD, Reader
from flexmap.sources.concentrator.link import Link
from flexmap.stcomet.concentrator import Concentrator

PAN, KEY = 0x781D, bytes(range(16))
START = 1_795_392_000
COUNTERS, SETUP, ADAPTATION = g3_classes.MAC_COUNTERS, g3_classes.MAC_SETUP, g3_classes.ADAPTATION_SETUP


class Bench:
    """A PAN of a coordinator and three devices in a row, its shell, and a reader of it."""

    def __init__(self):
        self.time = VirtualTime(START)
        source = random.Random(1)
        medium = Medium(self.time, source, BANDS["CENELEC-A"], Line(CABLES["CENELEC-A"]))
        at = Connection(COORDINATOR_SPOT.place)
        self.node = Node.coordinator(medium, bytes(7) + b"\xff", source, Psks(KEY), at=at)
        self.devices = [
            Node.device(medium, bytes(7) + bytes((n,)), source, KEY, at=Connection(Place("1", n * 380.0, 5.0, 0)))
            for n in (1, 2, 3)
        ]
        form(medium, self.node, self.devices, PAN, KEY)
        pan = G3Pan(self.node, source.randbytes)
        self.core = Concentrator(pan, self.time, 0)
        pan.attach(self.core)
        self.told = []
        self.reader = Reader("c", Reactor(self.time), self.told.append)
        self.link = Link(
            Reactor(self.time), 0, self.reader.began, lambda _cause: self.reader.ended(), lambda _: None
        )
        self.wire = Wire(self.link, self, self.core)

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)

    def shown(self):
        """Every attribute of the three classes, decoded from what stands on the wire."""
        device = dict(g3_classes.values(0, self.told[-1]))
        return {
            (class_id, index): value if isinstance(value, DataAccessResult) else axdr.decode(value)
            for (class_id, _, index), value in device.items()
        }


@pytest.fixture(scope="module")
def bench():
    made = Bench()
    made.link.makeConnection(made.wire)
    for device in made.devices:
        made.node.udp.send(device.short_address, 0xF0BF, 0xF0BF, bytes(60))
    made.run(PERIOD + 5)
    return made


def test_every_attribute_but_the_keys_has_a_value_of_its_type(bench):
    shown = bench.shown()
    assert [sum(class_id == each for class_id, _ in shown) for each in (COUNTERS, SETUP, ADAPTATION)] == [
        9,
        24,
        22,
    ]
    assert not [key for key, value in shown.items() if isinstance(value, DataAccessResult)]
    schema = Schema(g3_classes.definitions(0))
    assert schema.size == len(shown)
    keys = schema.attribute(b"\x00\x5b" + g3_classes.logical_name(SETUP, 0) + b"\x05")
    assert keys.read == 0


def test_counters_and_settings_are_the_nodes_own(bench):
    shown, node = bench.shown(), bench.node
    assert shown[COUNTERS, 2] > 0
    assert shown[COUNTERS, 2] <= node.get("macTxDataPacketCount")
    assert shown[SETUP, 2] == 0
    assert (shown[SETUP, 3], shown[SETUP, 4]) == (0, PAN)
    assert shown[SETUP, 9] == node.get("macMaxFrameRetries")
    assert shown[SETUP, 7] == "1" * 36
    assert shown[ADAPTATION, 2] == node.get("adpMaxHops")
    assert shown[ADAPTATION, 16] == node.get("adpMetricType")
    assert shown[ADAPTATION, 19] == 1, "the coordinator"
    (routing,) = shown[ADAPTATION, 6]
    assert len(routing) == 14
    assert routing[:2] == (node.get("adpNetTraversalTime"), node.get("adpRoutingTableEntryTTL"))
    assert shown[ADAPTATION, 12] == [0x8001]


def test_tables_are_the_nodes_own(bench):
    shown, node = bench.shown(), bench.node
    routes = {row[0]: row for row in shown[ADAPTATION, 8]}
    assert set(routes) == {device.short_address for device in bench.devices}
    for short, row in routes.items():
        route = node.adp.loadng.route(short)
        assert row[1:5] == (route.next_hop, route.cost, route.hops, route.weak_links)
        assert 0 < row[5] <= node.get("adpRoutingTableEntryTTL")
    assert max(row[3] for row in routes.values()) >= 2, "not all are one hop away"
    near = {row[0]: row for row in shown[SETUP, 25]}
    assert near, "the coordinator has heard somebody"
    for short, row in near.items():
        assert row[1] == node.adp.link(short).lqi
    for row in shown[SETUP, 11]:
        assert len(row) == 11
        assert (row[2], row[7]) == ("111111", node.adp.link(row[0]).reverse_lqi)
        assert row[3] == node.adp.link(row[0]).modulation
    (context,) = shown[ADAPTATION, 9]
    assert context[:3] == ("0000", 10, bytes.fromhex("fe80000000000000781d"))


def test_the_status_of_a_device_has_its_first_link_both_ways(bench):
    found = []
    bench.link.ask("PLC STATUS", f"{1:016x}").addCallback(lambda reply: found.append(reply.end.fields))
    bench.run(1)
    link = bench.node.adp.link(1)
    assert (found[0]["lqi"], found[0]["lqi_reverse"]) == (str(link.lqi), str(link.reverse_lqi))


def test_the_shell_tells_how_long_the_coordinator_has_been_sending(bench):
    found = []
    bench.link.ask("SYS STATS").addCallback(lambda reply: found.extend(reply.data))
    bench.run(1)
    (pan,) = [line.fields for line in found if line.words == ("pan",)]
    assert int(pan["airtime_ms"]) == int(bench.node.line.airtime * 1000) > 0


def test_it_is_read_again_and_forgotten_with_the_line(bench):
    before = len(bench.told)
    bench.run(3 * PERIOD)
    assert before + 2 <= len(bench.told) <= before + 4
    bench.wire.cut()
    assert bench.told[-1] == Coordinator(source="c")
    assert set(bench.shown().values()) == {DataAccessResult.TEMPORARY_FAILURE}
    after = len(bench.told)
    bench.run(3 * PERIOD)
    assert len(bench.told) == after


def test_what_a_concentrator_does_not_tell_or_tells_wrong_is_unavailable_and_harms_nothing_else():
    told = Coordinator(
        source="c",
        attributes={"macPANId": "0x781d", "macTMRTTL": "300", "macToneMask": "0b12", "adpMaxHops": "x"},
        tables={"adpRoutingTable": ({"destination": "1"},), "macPOSTable": ()},
    )
    shown = {(class_id, index): value for (class_id, _, index), value in g3_classes.values(0, told)}
    assert shown.pop((SETUP, 4)) == axdr.encode("long-unsigned", PAN)
    assert shown.pop((SETUP, 25)) == shown.pop((ADAPTATION, 5)) == axdr.array([])
    assert set(shown.values()) == {DataAccessResult.OBJECT_UNAVAILABLE}
