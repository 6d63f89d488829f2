"""The whole way in virtual time: gateway, shell, coordinator, G3-PLC line with losses, STCOMET meters."""

from __future__ import annotations

import random
from pathlib import Path

from test_sources_concentrator import Nothing, Reactor, Sink, Wire
from twisted.internet.defer import succeed

from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.pan import Psks
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES, COORDINATOR_SPOT
from flexmap.gateway import config as configuration
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.gateway.g3_pan import G3Pan
from flexmap.gateway.street import Street
from flexmap.sources.concentrator.port import Port
from flexmap.sources.concentrator.source import ConcentratorSource, Settings
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.concentrator import Concentrator

START = 1_795_392_000
BAND = "CENELEC-A"


class Town:
    """The demo's meters on a line, their coordinator, and a gateway's source that reads them."""

    def __init__(self, meters: int, seed: int = 1) -> None:
        self.time = VirtualTime(START)
        site = configuration.parse(write_config(DemoOptions(meters=meters)), Path("demo.toml")).site
        pairs = [(meter, site.type_of(meter)) for meter in site.meters]
        self.medium = Medium(self.time, random.Random(seed), BANDS[BAND], Line(CABLES[BAND]))
        psk = bytes(range(16))
        at = Connection(COORDINATOR_SPOT.place)
        node = Node.coordinator(self.medium, bytes(7) + b"\xff", random.Random(seed), Psks(psk), at=at)
        pan = G3Pan(node, random.Random(seed).randbytes)
        core = Concentrator(pan, self.time, 0)
        pan.attach(core)
        settings = SimulationSettings(seed=seed, substation="SUB1")
        self.street = Street(pairs, self.medium, self.time, psk, load=sample_load(), settings=settings)
        node.manager.start(0x781D)
        self.street.begin({})
        self.names = [meter.id for meter in site.meters]
        self.core = core
        self.pan = pan
        self.sink = Sink()

        def connector(_reactor, _port, link):
            link.makeConnection(Wire(link, self, core))
            return succeed(None)

        self.source = ConcentratorSource(
            "c", pairs, Settings(Port("pty")), Reactor(self.time), Nothing(self.sink), connector=connector
        )
        self.source.start(self.sink)

    def run(self, seconds: float) -> None:
        self.time.run(self.time.seconds() + seconds)

    def ages(self) -> list[float]:
        newest = dict.fromkeys(self.names, 0)
        for sample in self.sink.samples:
            newest[sample.meter] = max(newest[sample.meter], sample.time // 1000)
        return sorted(self.time.seconds() - second for second in newest.values())

    def count(self) -> int:
        """Count the seconds of all meters; each stands there once, none is missing since the meters' first."""
        total = 0
        for name in self.names:
            seconds = sorted(sample.time // 1000 for sample in self.sink.samples if sample.meter == name)
            assert seconds == list(range(START + 1, seconds[-1] + 1)), name
            total += len(seconds)
        return total


def test_twenty_meters_at_up_to_three_hops_all_seconds_and_none_old():
    town = Town(20)
    town.run(600)
    hops = [town.pan.route(member.short_address).hops for member in town.pan.members()]
    assert len(hops) == 21
    assert max(hops) >= 2
    worst = []
    for _ in range(10):
        town.run(30)
        worst.append(town.ages()[-1])
    print("hops", sorted(hops), "oldest latest record, s", worst, "airtime", town.medium.statistics.share(900))
    assert sorted(worst)[5] < 20
    assert town.count() >= 21 * 880
