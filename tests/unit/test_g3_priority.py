"""Commands and events against bulk data over several hops, on the line model."""

import random
import statistics

import pytest

from flexmap.g3 import phy
from flexmap.g3.formed import form
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Place
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.pan import Psks
from flexmap.g3.poll import Answerer, Poller

PSK, KEY, PAN = bytes(range(16)), bytes(16), 0x781D
PORT = 0xF0B1
HOPS = 4
BULK, ABREAST = 1000, 4
"""Octets of a bulk reply, and how many reads are under way."""


class Chain:
    """A coordinator and devices 400 m apart: two hops away is heard, but too weakly for a route."""

    def __init__(self, seed):
        self.time = VirtualTime()
        self.random = random.Random(seed)
        self.medium = Medium(self.time, self.random, phy.CENELEC_A)
        at = [Connection(Place("1", n * 400.0, 0.0, 3)) for n in range(HOPS + 1)]
        coordinator = Node.coordinator(self.medium, bytes(8), self.random, Psks(PSK), at=at[0])
        devices = [
            Node.device(self.medium, bytes(7) + bytes((n,)), self.random, PSK, at=at[n])
            for n in range(1, HOPS + 1)
        ]
        form(self.medium, coordinator, devices, PAN, KEY)
        self.nodes = [coordinator, *devices]
        self.arrived = {}
        for node in self.nodes:
            node.udp.bind(PORT, self.take)
        self.poller = Poller(coordinator, self.time, 23, 40.0)
        for device in devices:
            Answerer(device, BULK)
        self.poller.start([HOPS] * ABREAST, ABREAST)

    def take(self, _source, _port, payload):
        self.arrived[payload] = self.time.seconds()

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)

    def latencies(self, source, destination, *, priority, count=12):
        """Seconds of messages of 20 octets, sent while the line is busy; infinite for lost ones."""
        sent = {}
        for number in range(count):
            self.run(4.0 + self.random.random())
            message = b"%d %d %d" % (source, priority, number)
            sent[message] = self.time.seconds()
            self.nodes[source].udp.send(destination, PORT, PORT, message, priority=priority)
        self.run(60)
        return [self.arrived.get(message, float("inf")) - at for message, at in sent.items()]


@pytest.mark.parametrize(("source", "destination"), [(0, HOPS), (HOPS, 0)], ids=["command", "event"])
def test_commands_and_events_pass_bulk_data_at_every_hop(source, destination):
    chain = Chain(1)
    chain.run(30)
    urgent = chain.latencies(source, destination, priority=True)
    read = sum(read.seconds is not None for read in chain.poller.reads)
    plain = chain.latencies(source, destination, priority=False)
    assert read > 20, "the line carries bulk data meanwhile"
    assert max(urgent) < 10
    assert statistics.median(urgent) < 3
    assert statistics.median(plain) > 4 * statistics.median(urgent)
