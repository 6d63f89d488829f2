"""Forged frames and devices on the black list: refused, and counted where the shell shows it."""

import pytest
from virtual_site import Person, Site

from flexmap.g3 import frame
from flexmap.g3.ccm import Security
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.line import Place
from flexmap.g3.medium import Transmission
from flexmap.g3.node import Connection, Node
from flexmap.g3.phy import Modulation


class Forger:
    """Somebody on the line who hears everything and can send anything to the coordinator."""

    def __init__(self, site):
        self.site = site
        self.coordinator = site.concentrator._node
        self.meter = next(node for node in site.concentrator.street.nodes.values() if self.hops(node) == 1)
        self.heard = []
        self.coordinator.line.capture = lambda _at, psdu: self.heard.append(psdu)

    def hops(self, node):
        return self.coordinator.adp.loadng.route(node.short_address).hops

    def send(self, psdu):
        now = self.site.time.seconds()
        sender = Transmission(self.meter.line, psdu, Modulation.ROBO, now, now)
        self.coordinator.line.user.phy_data(psdu, 20.0, sender)

    def data(self, number, *, key=None, index=0, payload=b"\x7eforged"):
        """A data frame in a meter's name, under a key if there is one."""
        pan, short = self.coordinator.get("macPANId"), self.meter.short_address
        made = Frame(FrameKind.DATA, number & 0xFF, payload, 0, pan, short, pan)
        if key is not None:
            security = Security((1 << 24) + number)
            security.set_key(index, key)
            security.activate(index)
            made = security.protect(made)
        return frame.encode(made)

    def genuine(self):
        """A protected frame of the meter that has been heard."""
        short = self.meter.short_address
        frames = ((psdu, frame.decode(psdu)) for psdu in self.heard)
        return next(psdu for psdu, f in frames if f.counter is not None and f.source == short)


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = Site(tmp_path, monkeypatch, meters=2)
    made.start_concentrator()
    made.run(120)
    assert len(made.concentrator._pan.members()) == 3
    return made


def test_each_forged_frame_is_refused_and_counted_by_its_cause(site):
    person, forger = Person(site), Forger(site)
    person.ask(f"APP IDENTITY {forger.meter.eui64.hex()}")
    site.run(60)
    before, taken = person.stats(), site.concentrator._node.adp.counters.packets_received
    for number in range(3):
        forger.send(forger.data(number, key=b"?" * 16))
        forger.send(forger.data(10 + number, key=b"?" * 16, index=1))
        forger.send(forger.data(20 + number))
        forger.send(forger.data(30 + number, payload=b"\x40\x01\x00" + bytes(11)))
    copy = forger.genuine()
    for _ in range(3):
        forger.send(copy)
        site.run(40)  # later than a repetition may come
    after = person.stats()
    counted = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    counted.pop("airtime_ms", None)
    assert counted == {"wrong_mic": 3, "unknown_key": 3, "old_counter": 3, "unsecured": 6}
    assert site.concentrator._node.adp.counters.packets_received == taken
    names = ("macWrongMICCount", "macUnknownKeyCount", "macOldCounterCount", "adpUnsecuredCount")
    assert [person.pib(name) for name in names] == [3, 3, 3, 6]


def test_a_device_on_the_black_list_is_declined_and_counted(site):
    person = Person(site)
    eui64 = "02464d00000000bb"
    assert person.ask(f"PLC BAN {eui64}")[-1].words == ("OK",)
    medium, draw = site.medium, site._draw
    connection = Connection(Place("1", 20.0, 0.0, 3))
    stranger = Node.device(medium, bytes.fromhex(eui64), draw, site.concentrator._psk, at=connection)
    stranger.boot.start()
    site.run(60)
    declined = person.stats()["declined_black"]
    assert declined >= 1
    assert person.pib("bootDeclinedBlackCount") == declined
    assert not any(line.fields.get("eui64") == eui64 for line in person.ask("APP METERS"))
    impostor = Node.device(medium, bytes.fromhex("02464d00000000cc"), draw, bytes(16), at=connection)
    impostor.boot.start()
    site.run(60)
    failed = person.stats()["authentication_failures"]
    assert failed >= 1
    assert person.pib("bootAuthenticationFailuresCount") == failed
    assert len(person.ask("APP METERS")) == 4
    person.ask(f"PLC UNBAN {eui64}")
    site.run(300)
    assert any(line.fields.get("eui64") == eui64 for line in person.ask("APP METERS"))
