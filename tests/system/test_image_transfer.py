"""A head-end replaces a meter's firmware: Gurux's client, DLMS face, concentrator, power line, meter."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import random

import pytest
from virtual_head_end import Front
from virtual_site import Person, Site

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


def test_blocks_in_any_order_over_a_kill_and_a_lying_identifier(town):
    meter, image = town.meter(1), random.Random(6).randbytes(3000)
    parts = [image[at : at + 512] for at in range(0, 3000, 512)]
    session = town.associate(meter)
    assert (session.read(6), session.read(3), session.read(4)) == (NOT_INITIATED, "", 0)
    assert session.block(0, parts[0]) == OTHER_REASON
    assert session.verify() == OTHER_REASON
    assert session.initiate(identifier(image), 3000) == SUCCESS
    assert [session.block(number, parts[number]) for number in (5, 1, 1, 0)] == [SUCCESS] * 4
    assert session.block(6, b"x") == OTHER_REASON
    assert session.block(2, parts[2][:-1]) == OTHER_REASON
    assert (session.read(3), session.read(4)) == ("110001", 2)
    assert session.verify() == OTHER_REASON
    assert session.activate() == OTHER_REASON
    assert session.read(6) == INITIATED
    town.restart()
    session = town.associate(meter)
    assert (session.read(3), session.read(4), session.read(6)) == ("110001", 2, INITIATED)
    assert [session.block(number, parts[number]) for number in (4, 3, 2)] == [SUCCESS] * 3
    assert (session.read(3), session.read(4)) == ("111111", 6)
    # Activation of what was not verified verifies it first.
    assert session.activate() == TEMPORARY_FAILURE
    assert session.read(6) == VERIFYING
    assert session.block(0, parts[0]) == TEMPORARY_FAILURE
    town.wait(6, ACTIVE, 600)
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 2
    # Another image under this one's digest is refused here, before anything goes over the power line.
    assert session.initiate(identifier(image, version=3), 3000) == SUCCESS
    assert session.blocks(image[:-1] + b"?") == 6
    assert session.verify() == OTHER_REASON
    assert session.read(6) == VERIFICATION_FAILED
    assert session.verify() == OTHER_REASON
    assert town.codes(meter) == [
        EventCode.FIRMWARE_READY,
        EventCode.FIRMWARE_ACTIVATED,
        EventCode.FIRMWARE_VERIFICATION_FAILED,
    ]
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 2


def test_what_is_refused(town):
    meter, image = town.meter(1), bytes(1000)
    session = town.associate(meter)
    for binary in ("generic", "legal"):
        assert session.initiate(identifier(image, binary), 1000) == READ_WRITE_DENIED
        assert session.read(6) == VERIFICATION_FAILED
        assert session.verify() == OTHER_REASON
    for wrong in (b"firmware", identifier(image, version=2**32), identifier(image, "other"), b""):
        assert session.initiate(wrong, 1000) == OTHER_REASON
        assert session.read(6) == VERIFICATION_FAILED
    for size in (0, 512 * 1024 + 1):
        assert session.initiate(identifier(image), size) == OTHER_REASON
    assert session.enable(False) == SUCCESS
    assert session.initiate(identifier(image), 1000) == OTHER_REASON
    assert session.read(5) is False
    town.restart()
    session = town.associate(meter)
    assert session.read(5) is False
    assert session.enable(True) == SUCCESS
    assert session.initiate(identifier(image), 1000) == SUCCESS
    assert session.block(0, image[:512]) == SUCCESS
    # A client that may only read.
    session = town.associate(meter, client=2)
    assert session.initiate(identifier(image), 1000) == READ_WRITE_DENIED
    assert session.block(1, image[512:]) == READ_WRITE_DENIED
    assert session.verify() == session.activate() == READ_WRITE_DENIED
    assert session.enable(False) == READ_WRITE_DENIED
    assert session.execute(SCRIPTS, 1) == READ_WRITE_DENIED
    assert session.schedule(SCHEDULE, bytes(4), b"\xff" * 5) == READ_WRITE_DENIED
    assert (session.read(4), session.read(6)) == (1, INITIATED)


def test_an_order_that_is_taken_back_and_a_second_head_end_at_the_shell(town):
    meter, image = town.meter(1), random.Random(9).randbytes(120_000)
    session = town.associate(meter)
    assert session.initiate(identifier(image), len(image)) == SUCCESS
    session.blocks(image)
    assert session.verify() == TEMPORARY_FAILURE
    town.site.run(30)
    (first,) = town.site.concentrator.core.updates
    assert first.state == "sending"
    other = random.Random(10).randbytes(1000)
    assert session.initiate(identifier(other, "plc", 7), 1000) == SUCCESS
    town.site.run(30)
    assert first.state == "stopped"
    assert session.blocks(other) == 2
    assert session.verify() == TEMPORARY_FAILURE
    town.wait(6, VERIFIED, 600)
    # Whoever is at the shell stops it: the meter will not have it, and the object says so.
    person = Person(town.site)
    assert person.ask(f"FW STOP {meter.id}")[-1].done
    assert session.activate() == TEMPORARY_FAILURE
    town.wait(6, ACTIVATION_FAILED, 120)
    assert session.activate() == OTHER_REASON
    assert town.model(meter).firmware.versions[Binary.PLC] == 1


def test_activation_by_script_and_by_schedule_also_when_flexmap_stood_still_then(town):
    image = random.Random(7).randbytes(2000)
    one, two = town.meter(1), town.meter(2)
    for meter in (one, two):
        session = town.associate(meter)
        assert session.initiate(identifier(image, "plc", 4), 2000) == SUCCESS
        session.blocks(image)
        assert session.verify() == TEMPORARY_FAILURE
        town.wait(6, VERIFIED, 600)
    assert session.execute(SCRIPTS, 2) == OTHER_REASON
    assert session.get(9, SCRIPTS, 2) == [[1, [[2, 18, bytes((0, 0, 44, 0, 0, 255)), 4, 0]]]]
    assert session.get(22, SCHEDULE, 2) == [bytes((0, 0, 10, 0, 107, 255)), 1]
    assert session.schedule(SCHEDULE, bytes((24, 0, 0, 0)), b"\xff" * 5) == TYPE_UNMATCHED
    at = dt.datetime.fromtimestamp(town.site.time.seconds() + 120, dt.UTC)
    time = bytes((at.hour, at.minute, at.second, 0))
    date = at.year.to_bytes(2, "big") + bytes((at.month, at.day, 0xFF))
    assert session.schedule(SCHEDULE, time, date) == SUCCESS
    town.site.run(100)
    assert session.read(6) == VERIFIED
    town.close()
    town.site.kill_core()
    town.site.run(60)  # it is due now, and there is nobody
    assert town.model(two).firmware.replacing is None
    town.restart()
    session = town.associate(two)
    assert session.get(22, SCHEDULE, 4) == [[time, date]]
    town.wait(6, ACTIVE, 300)
    session = town.associate(one)
    assert session.execute(SCRIPTS, 1) == TEMPORARY_FAILURE
    assert session.execute(SCRIPTS, 1) == TEMPORARY_FAILURE
    town.wait(6, ACTIVE, 300)
    assert session.execute(SCRIPTS, 1) == SUCCESS
    assert [town.model(each).firmware.versions[Binary.PLC] for each in (one, two)] == [4, 4]
    assert town.site.concentrator.core.shelf.names() == []


def test_the_concentrator_is_killed_in_the_middle_and_again_before_the_activation(town):
    meter, image = town.meter(1), random.Random(12).randbytes(40_000)
    session = town.associate(meter)
    assert session.initiate(identifier(image), len(image)) == SUCCESS
    session.blocks(image)
    assert session.verify() == TEMPORARY_FAILURE
    town.site.run(12)
    (transfer,) = town.site.concentrator.core.updates
    assert transfer.state == "sending"
    assert 0 < transfer.offset < len(image)
    town.site.kill_concentrator()
    town.site.run(40)
    assert session.read(6) == VERIFYING
    town.site.start_concentrator()
    town.wait(6, VERIFIED, 1200)
    town.site.kill_concentrator()
    town.site.run(10)
    assert session.activate() == TEMPORARY_FAILURE
    town.site.run(30)
    assert session.read(6) == ACTIVATING
    town.site.start_concentrator()
    # The simulated meters ended with the concentrator's process, and with them what lay in their SPI flash.
    town.wait(6, ACTIVATION_FAILED, 900)
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 1
    assert session.initiate(identifier(image), len(image)) == SUCCESS
    session.blocks(image)
    assert session.activate() == TEMPORARY_FAILURE
    town.wait(6, ACTIVE, 900)
    assert town.model(meter).firmware.versions[Binary.NON_LEGAL] == 2
