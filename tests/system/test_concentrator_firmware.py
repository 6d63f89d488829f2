"""A 200 KB image to a meter over a losing power line in virtual time, while the meters are read all along."""

from __future__ import annotations

import binascii
import hashlib
import itertools
import random
from pathlib import Path

import msgspec
import pytest
from test_concentrator_line import START, Town

from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line
from flexmap.g3.medium import Medium
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES
from flexmap.gateway import config as configuration
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.gateway.street import Frame, Street
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.app import RESPONDER_PORT
from flexmap.stcomet.catalogue import BLOCK
from flexmap.stcomet.firmware import Binary
from flexmap.stcomet.mnsh import Line as Said
from flexmap.stcomet.mnsh import Mark, parse_line
from flexmap.stcomet.shell import Shell

IMAGE = random.Random(8).randbytes(200 * 1024)
BAUD = 230_400


class Host:
    """A session beside the gateway's."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.output = bytearray()
        self.octets = 0
        self.shell = Shell(town.core, self.output.extend)

    def type(self, line: str) -> Said:
        """Return the end of the reply."""
        self.octets += len(line) + 2
        self.output.clear()
        self.shell.feed(line.encode() + b"\r\n")
        while True:
            self.octets += len(self.output)
            for text in self.output.decode().split("\r\n"):
                if text.startswith("="):
                    return parse_line(text)
            self.town.run(0.1)

    def upload(self) -> None:
        digest = hashlib.sha256(IMAGE).hexdigest()
        assert self.type(f"FW IMAGE new {Binary.NON_LEGAL} 2 {len(IMAGE)} {digest}").done
        for at in range(0, len(IMAGE), BLOCK):
            octets = IMAGE[at : at + BLOCK]
            crc = binascii.crc_hqx(octets, 0xFFFF)
            assert self.type(f"FW BLOCK new {at} {crc} {octets.hex()}").done

    def wait_for(self, meter: str, state: str, most: float) -> float:
        """Return the seconds until an update stands so."""
        began = self.town.time.seconds()
        while True:
            said = self.type(f"FW STATUS {meter}")
            if said.fields["state"] == state:
                return self.town.time.seconds() - began
            assert said.fields["state"] in {"sending", "activating"}, said
            assert self.town.time.seconds() - began < most, said
            self.town.run(5)


def another_run(town: Town) -> Street:
    """Return the meters as a restart of the process finds them."""
    frame = msgspec.msgpack.decode(msgspec.msgpack.encode(town.street.frame()), type=Frame)
    time = VirtualTime(town.time.seconds())
    medium = Medium(time, random.Random(2), BANDS["CENELEC-A"], Line(CABLES["CENELEC-A"]))
    site = configuration.parse(write_config(DemoOptions(meters=6)), Path("demo.toml")).site
    pairs = [(meter, site.type_of(meter)) for meter in site.meters]
    settings = SimulationSettings(seed=1, substation="SUB1")
    return Street(pairs, medium, time, bytes(16), load=sample_load(), settings=settings, kept=[frame])


def registers(town: Town, name: str) -> list[tuple[int, ...]]:
    ring = town.street.meters[name].metrology.ring
    return [(record.sequence, record.time, *record.energies) for record in ring.since(ring.oldest().sequence)]


def test_firmware_over_a_losing_line_while_meters_are_read():
    town = Town(6)
    town.run(420)
    assert len(town.pan.members()) == 7
    host = Host(town)
    before = town.time.seconds()
    host.upload()
    # What the line takes at 10 bits an octet: the host is done long before the power line.
    assert town.time.seconds() == before
    assert host.octets * 10 / BAUD < 30
    farthest = max(town.pan.members(), key=lambda m: town.pan.route(m.short_address).hops)
    name = town.core.name_of(farthest)
    meter = town.street.meters[name]
    town.medium.frame_loss = 0.1
    assert host.type(f"FW SEND new {name}").done
    ages = []
    sent = 0.0
    while (state := host.type(f"FW STATUS {name}").fields)["state"] == "sending":
        town.run(30)
        sent += 30
        ages.append(town.ages()[-1])
        assert sent < 3000, state
    assert state["state"] == "verified", state
    hops = town.pan.route(farthest.short_address).hops
    print("hops", hops, "image sent in", sent, "s; oldest latest record", sorted(ages)[len(ages) // 2], max(ages))
    print(town.core.requests.total, town.core.requests.of(farthest.short_address))
    assert meter.firmware.versions[Binary.NON_LEGAL] == 1
    assert host.type(f"FW ACTIVATE {name}").fields["state"] == "activating"
    town.run(1)
    assert meter.firmware.replacing is Binary.NON_LEGAL
    host.wait_for(name, "active", 120)
    assert meter.firmware.versions[Binary.NON_LEGAL] == 2
    restarted = another_run(town).meters
    assert [restarted[each].firmware.versions[Binary.NON_LEGAL] for each in town.names] == [
        1 + (each == name) for each in town.names
    ]
    town.medium.frame_loss = 0.0
    town.run(120)
    # Not one second of metering lost in the meter, energies go on without a jump; and every second has arrived.
    kept = registers(town, name)
    assert [each[1] for each in kept] == list(range(kept[0][1], kept[-1][1] + 1))
    steps = [after[2] - early[2] for early, after in itertools.pairwise(kept)]
    assert min(steps) >= 0
    assert max(steps) <= 10  # Wh in a second: 36 kW
    assert kept[-1][1] == int(town.time.seconds())
    assert town.count() >= 7 * int(town.time.seconds() - START - 120)
    assert sorted(ages)[len(ages) // 2] < 60


@pytest.mark.parametrize("seed", [1, 11])
def test_rekeying_a_real_pan_over_the_shell(seed):
    town = Town(4, seed)
    town.run(420)
    host = Host(town)
    key = dict(town.pan._node.manager.keys)
    assert host.type("PLC REKEY").fields == {"meters": "5"}
    assert host.type("PLC REKEY").words[:2] == ("ERROR", "REFUSED")
    for _ in range(60):
        town.run(10)
        said = host.type("PLC REKEY_STATUS").fields
        if said["state"] == "done":
            break
    assert said["state"] == "done"
    assert (said["rekeyed"], said["lost"]) == ("5", "0")
    assert not set(key.values()) & set(town.pan._node.manager.keys.values())
    gone = town.core.name_of(town.pan.members()[-1])
    assert host.type(f"PLC REMOVE {gone}").mark is Mark.END
    assert len(town.pan.members()) == 4
    town.run(60)
    assert host.type(f"APP IDENTITY {town.core.name_of(town.pan.members()[0])}").done


def test_conformance_responder_of_the_meters():
    town = Town(2)
    town.run(300)
    udp = town.pan._node.udp
    heard = []
    udp.bind(RESPONDER_PORT, lambda short, port, octets: heard.append((short, port, octets)))
    shorts = [member.short_address for member in town.pan.members()]
    for short in shorts:
        udp.send(short, RESPONDER_PORT, RESPONDER_PORT, b"echo %d" % short)
        town.run(20)
    assert heard == [(short, RESPONDER_PORT, b"echo %d" % short) for short in shorts]
    assert len(heard) == 3
