"""Attacks on the running gateway over real sockets: replay across kill -9, floods, peers that never read."""

import contextlib
import os
import re
import socket
import struct
import time
from pathlib import Path

import pytest
from gateway_harness import GET_CLOCK, MANAGER_GAK, MANAGER_GUEK, PUBLIC_AARQ, Gateway, Poller, gateway

from flexmap.dlms import axdr, wrapper
from flexmap.dlms.acse import Aarq, Mechanism, encode_aarq
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.client import AssociationError, Client, ClientSettings, drive
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, MemoryCounterStore
from flexmap.model import obis

SAP = 1001
BREAKER = obis.parse("0-0:96.3.10")
ACCEPTED, NOT_ALLOWED = bytes.fromhex("a203020100"), "d80101"
HALF_OPEN = encode_aarq(
    Aarq(
        context=1,
        mechanism=Mechanism.HLS_GMAC,
        calling_title=b"ATTACKER",
        authentication=b"x" * 16,
        user_information=bytes.fromhex("01000000065f1f040000fe1dffff"),
    )
)


class Line:
    """A TCP connection; ``frames`` keeps what was sent."""

    def __init__(self, port, client=1, sap=SAP):
        self.client, self.sap, self.frames = client, sap, []
        self.socket = socket.create_connection(("127.0.0.1", port), 10)

    def transceive(self, apdu):
        self.frames.append(apdu)
        self.socket.sendall(wrapper.encode(self.client, self.sap, apdu))
        head = self.socket.recv(8, socket.MSG_WAITALL)
        return self.socket.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)


def manager(line, counters=None):
    ciphering = Ciphering(Keys(MANAGER_GUEK, MANAGER_GAK), b"MANAGER1", counters or MemoryCounterStore())
    settings = ClientSettings(
        client_sap=1, server_sap=SAP, mechanism=Mechanism.HLS_GMAC, protection=AUTHENTICATED_ENCRYPTED
    )
    client = Client(settings, random=os.urandom, ciphering=ciphering)
    drive(client.connect(), line.transceive)
    return client


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_recorded_session_is_worth_nothing_even_after_kill_9(tmp_path):
    first = Gateway(tmp_path, meters=1)
    second = None
    counters = MemoryCounterStore()
    try:
        first.wait()
        line = Line(first.dlms)
        client = manager(line, counters)
        opened = drive(client.action(70, BREAKER, 1, axdr.encode("integer", 0)), line.transceive)
        assert opened.result is ActionResult.SUCCESS
        closed = drive(client.action(70, BREAKER, 2, axdr.encode("integer", 0)), line.transceive)
        assert closed.result is ActionResult.SUCCESS
        other = Line(first.dlms)
        assert ACCEPTED not in other.transceive(line.frames[0])
        first.kill()
        second = Gateway(tmp_path, meters=1, ports=(first.mms, first.dlms, first.web)).wait()
        replay = Line(second.dlms)
        replies = [replay.transceive(frame) for frame in line.frames]
        assert ACCEPTED not in replies[0]
        assert [reply.hex() for reply in replies[1:]] == [NOT_ALLOWED] * (len(replies) - 1)
        with pytest.raises(AssociationError):
            manager(Line(second.dlms))  # counters from 1 again
        line = Line(second.dlms)
        client = manager(line, counters)
        assert isinstance(drive(client.get(70, BREAKER, 2), line.transceive), bool)
        assert replay.transceive(line.frames[-1]).hex() == NOT_ALLOWED
        assert second.text().count("command breaker=") == 2, second.text()
    finally:
        for running in (first, second):
            if running is not None:
                running.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("demo"), meters=1) as running:
        yield running


def frame(client, apdu, sap=SAP):
    return struct.pack(">HHHH", 1, client, sap, len(apdu)) + apdu


def test_a_flood_of_associations_is_served_logged_in_few_lines_and_forgotten(demo):
    before, start, lines = resident(demo.process.pid), time.monotonic(), demo.text().count("association")
    other = Poller(demo.dlms)
    other.start()
    attempts = 400 * 3 * 3
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            attacker = stack.enter_context(socket.create_connection(("127.0.0.1", demo.dlms), 10))
            for client, opening in ((16, PUBLIC_AARQ), (2, HALF_OPEN), (99, PUBLIC_AARQ)):
                attacker.sendall(b"".join(frame(client, opening, sap) for sap in (1, 1000, SAP)))
        time.sleep(1.5)
        figures = demo.health()["dlms"]
        grown = resident(demo.process.pid) - before
    seconds = time.monotonic() - start
    other.done.set()
    other.join(5)
    assert other.failure is None
    assert max(other.delays) < 20  # of hours, if the peers that do not read held up the others
    assert figures["associations_refused"] >= attempts / 3
    assert figures["associations_opened"] >= attempts / 3
    assert demo.text().count("association") - lines <= 2 * 20 * (seconds + 2)  # orderly ones and refused ones
    assert re.search(r"\d+ more lines about peers are left out", demo.text())
    assert grown < 30_000_000
    end = time.monotonic() + 5
    while demo.health()["dlms"]["connections"] > 1 and time.monotonic() < end:
        time.sleep(0.1)
    assert demo.health()["dlms"]["connections"] <= 1


def test_peers_that_ask_and_never_read_cost_little_memory(demo):
    before = resident(demo.process.pid)
    object_list = bytes.fromhex("c003c1820100") + (b"\0\x0f" + obis.parse("0-0:40.0.0") + b"\2\0") * 256
    other = Poller(demo.dlms)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            attacker = stack.enter_context(socket.create_connection(("127.0.0.1", demo.dlms), 10))
            attacker.setblocking(False)
            unsent = frame(16, PUBLIC_AARQ) + frame(16, object_list) * 200
            with contextlib.suppress(BlockingIOError):
                while unsent:
                    unsent = unsent[attacker.send(unsent) :]
        other.start()
        # until the peers' buffers are full they are answered, each in its turn; then they cost nothing more
        end = time.monotonic() + 20
        while time.monotonic() < end and (len(other.delays) < 100 or max(other.delays[-50:]) > 0.1):
            time.sleep(0.1)
        grown = resident(demo.process.pid) - before
    other.done.set()
    other.join(5)
    assert other.failure is None
    assert len(other.delays) >= 100
    assert max(other.delays) < 20  # of hours, if the peers that do not read held up the others
    assert max(other.delays[-50:]) < 0.2
    assert grown < 60 * 600_000


def test_half_open_is_worth_nothing(demo):
    line = Line(demo.dlms, client=2)
    assert ACCEPTED in line.transceive(HALF_OPEN)
    assert line.transceive(GET_CLOCK).hex() == "c401c10103"
    key = b"\0\x46" + BREAKER + b"\1"
    assert line.transceive(b"\xc3\x01\xc1" + key + b"\0").hex() == "c701c10300"
    assert line.transceive(b"\xc1\x01\xc1\0\1" + obis.parse("0-0:42.0.0") + b"\2\0\0").hex() == "c501c103"
    # another connection is another association, also for the same addresses
    assert Line(demo.dlms, client=2).transceive(GET_CLOCK).hex() == NOT_ALLOWED
