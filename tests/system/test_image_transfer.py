"""A head-end replaces a meter's firmware: Gurux's client, DLMS face, concentrator, power line, meter."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest
from virtual_head_end import Front
from virtual_site import Site

from flexmap.model import EventCode, EventLog
from flexmap.stcomet.firmware import Binary

SUCCESS, TEMPORARY_FAILURE, READ_WRITE_DENIED, TYPE_UNMATCHED, OTHER_REASON = 0, 2, 3, 12, 250
NOT_INITIATED, INITIATED, VERIFYING, VERIFIED, VERIFICATION_FAILED, ACTIVATING, ACTIVE, ACTIVATION_FAILED = range(
    8
)
SCRIPTS, SCHEDULE = "0.0.10.0.107.255", "0.0.15.0.2.255"
FIRMWARE = (1, "0.0.0.2.0.255", 2)


def identifier(octets, binary="non-legal", version=2):
    return f"{binary}/{version}/{hashlib.sha256(octets).hexdigest()}".encode()


class Town:
    """A site, and a head-end's session with one of its meters."""

    def __init__(self, tmp_path, monkeypatch, **options):
        self.site = Site(tmp_path, monkeypatch, far=True, settle=600.0, **options)
        self.site.start_concentrator()
        self.front = self.session = None
        self.restart()
        self.site.run(60)

    def restart(self):
        """Kill the core, if it runs, and start it."""
        if self.site.core is not None:
            self.close()
            self.site.kill_core()
        self.site.start_core()
        self.front = Front(self.site.core, self.site.site)

    def associate(self, meter, client=1):
        if self.session is not None:
            self.session.end()
        self.session = self.front.connect("gurux_images.py", meter, client)
        return self.session

    def meter(self, number):
        return self.site.site.meters[number]

    def model(self, meter):
        return self.site.concentrator.street.meters[meter.id]

    def wait(self, attribute, wanted, most):
        """Run until an attribute has a value; return the seconds."""
        began = self.site.time.seconds()
        while (found := self.session.read(attribute)) != wanted:
            assert self.site.time.seconds() - began < most, found
            self.site.run(10)
        return self.site.time.seconds() - began

    def codes(self, meter):
        self.site.run(30)
        events = self.site.core.store.events(meter.id, EventLog.STANDARD)
        codes = {EventCode.FIRMWARE_READY, EventCode.FIRMWARE_ACTIVATED, EventCode.FIRMWARE_VERIFICATION_FAILED}
        return [event.code for event in events if event.code in codes]

    def close(self):
        if self.session is not None:
            self.session.end()
            self.session = None
        self.front.close()


@pytest.fixture
def town(tmp_path, monkeypatch):
    made = Town(tmp_path, monkeypatch, meters=4)
    yield made
    made.close()


def test_200_kb_over_a_losing_line_and_a_restart_of_the_core(tmp_path, monkeypatch):
    town = Town(tmp_path, monkeypatch, meters=6)
    site, image = town.site, random.Random(5).randbytes(200 * 1024)
    pan = site.concentrator.core.pan
    hops = {site.concentrator.core.name_of(m): pan.route(m.short_address).hops for m in pan.members()}
    meter = max(site.site.meters, key=lambda each: hops.get(each.id, 0))
    session = town.associate(meter)
    began = int(site.time.seconds())
    site.medium.frame_loss = 0.1
    assert session.initiate(identifier(image), len(image)) == SUCCESS
    assert session.blocks(image) == 400
    assert session.read(4) == 400
    assert session.verify() == TEMPORARY_FAILURE
    assert session.read(6) == VERIFYING
    site.run(300)
    there = len(town.model(meter).firmware._octets)
    assert 0 < there < len(image)
    town.restart()
    session = town.associate(meter)
    assert session.read(6) == VERIFYING
    assert session.verify() == TEMPORARY_FAILURE
    taken = town.wait(6, VERIFIED, 3000)
    assert session.verify() == SUCCESS
    assert session.read(7) == [(len(image), identifier(image), hashlib.sha256(image).digest())]
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 1
    assert session.activate() == TEMPORARY_FAILURE
    town.wait(6, ACTIVE, 300)
    assert session.activate() == SUCCESS
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 2
    configured = meter.identity["firmware"]
    assert bytes(session.get(*FIRMWARE)).decode() == f"{configured}+non-legal.2"
    site.medium.frame_loss = 0.0
    assert town.codes(meter) == [EventCode.FIRMWARE_READY, EventCode.FIRMWARE_ACTIVATED]
    ended = int(site.time.seconds()) - 5
    site.until_read(ended)
    # Not one second of metering lost: in the meter, and in the store.
    every = list(range(began, ended))
    assert site.seconds(meter.id, began, ended) == every
    ring = town.model(meter).metrology.ring
    kept = [record for record in ring.since(ring.oldest().sequence) if began <= record.time < ended]
    assert [record.time for record in kept] == every
    steps = [after.energies[0] - early.energies[0] for early, after in itertools.pairwise(kept)]
    assert min(steps) >= 0
    assert max(steps) <= 10  # Wh in a second: 36 kW
    print(f"{hops[meter.id]} hops; {there} octets before the restart, verified {taken + 300} s after the order")
    print(f"{len(every)} seconds, each stored once")
    town.restart()
    session = town.associate(meter)
    assert session.read(6) == ACTIVE
    assert bytes(session.get(*FIRMWARE)).decode() == f"{configured}+non-legal.2"
    town.close()
