"""Cost of the G3-PLC MAC and medium: frames per second of wall time, and against the number of nodes.

Every node is within reach of the coordinator or of a neighbour; the coordinator polls the nodes it hears, one
after the other (29 octets down, 100 up, secured), while every other node sends a frame to a neighbour about every
twenty minutes.

    python tools/bench/g3_mac.py [--nodes 100,300,1000] [--seconds 600]
"""

import argparse
import random
import resource
import time

from flexmap.g3.interface import MacIndication, MacStatus
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line, LineModel, Place
from flexmap.g3.mac import Mac
from flexmap.g3.medium import Medium
from flexmap.g3.phy import CENELEC_A

PAN = 0x781D
KEY = bytes(range(16))


class Meter:
    """Answers requests of the coordinator."""

    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        mac.user = self

    def mac_data(self, indication: MacIndication) -> None:
        if indication.source == 0:
            self.mac.data(0, bytes(100), done)

    def mac_beacon_request(self) -> int | None:
        return None

    def mac_security_failure(self, source: object, failure: object) -> None:  # noqa: ARG002 (the interface)
        raise AssertionError(failure)


def done(status: MacStatus) -> None:
    """Take the confirmation of a frame that nobody waits for."""


class Coordinator(Meter):
    """Polls who it hears."""

    def __init__(self, mac: Mac) -> None:
        super().__init__(mac)
        self.targets: list[int] = []
        self.reads = self.asked = 0

    def poll(self) -> None:
        self.asked += 1
        self.mac.data(self.targets[self.asked % len(self.targets)], bytes(29), self._sent)

    def _sent(self, status: MacStatus) -> None:
        if status is not MacStatus.SUCCESS:
            self.poll()

    def mac_data(self, indication: MacIndication) -> None:
        if len(indication.msdu) == 100:
            self.reads += 1
            self.poll()


def build(count: int, source: random.Random) -> tuple[Medium, list[Meter]]:
    feeders = max(1, count // 60)
    medium = Medium(VirtualTime(), source, CENELEC_A, Line(LineModel()))
    nodes: list[Meter] = []
    for number in range(count):
        metres = 0.0 if number == 0 else 15.0 * (1 + (number - 1) // feeders)
        place = Place(feeder=str(number % feeders), metres=metres, branch=source.random() * 30, phase=number % 3)
        mac = Mac(medium, number.to_bytes(8, "big"), source, place=place)
        if number == 0:
            mac.start(PAN)
        mac.pan_id, mac.short_address = PAN, number
        mac.set_key(0, KEY)
        nodes.append(Coordinator(mac) if number == 0 else Meter(mac))
    return medium, nodes


def chatter(medium: Medium, meter: Meter, source: random.Random, neighbours: list[int]) -> None:
    if neighbours:
        meter.mac.data(neighbours[source.randrange(len(neighbours))], bytes(40), done)
    medium.scheduler.callLater(600 + 1200 * source.random(), chatter, medium, meter, source, neighbours)


def run(count: int, seconds: float) -> None:
    source = random.Random(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    medium, nodes = build(count, source)
    coordinator = nodes[0]
    assert isinstance(coordinator, Coordinator)
    numbers = {id(node.mac.port): node.mac.short_address for node in nodes}
    for node in nodes:
        heard = [numbers[id(p)] for p, snr in medium.neighbours(node.mac.port).items() if snr > 8]
        if node is coordinator:
            coordinator.targets = heard
        else:
            medium.scheduler.callLater(
                1200 * source.random(), chatter, medium, node, source, [n for n in heard if n]
            )
    kernel = medium.scheduler
    assert isinstance(kernel, VirtualTime)
    coordinator.poll()
    begin = time.perf_counter()
    kernel.run(seconds)
    took = time.perf_counter() - begin
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / max(1, count)
    statistics = medium.statistics
    degree = sum(len(medium.neighbours(node.mac.port)) for node in nodes) / count
    frames = max(1, statistics.frames)
    print(
        f"{count:5} nodes, {degree:5.1f} neighbours: {seconds / took:6.0f} x real time, "
        f"{frames / took:6.0f} frames/s, {kernel.events / took:6.0f} events/s, "
        f"{1e6 * took / frames:4.0f} us a frame, "
        f"{coordinator.reads / seconds * 60:4.0f} reads/min, airtime {statistics.share(seconds):.2f}, "
        f"{statistics.collisions} collisions, {memory:.1f} KiB a node"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", default="100,300,1000,3000")
    parser.add_argument("--seconds", type=float, default=300)
    chosen = parser.parse_args()
    for count in chosen.nodes.split(","):
        run(int(count), chosen.seconds)


if __name__ == "__main__":
    main()
