"""Mutated frames against the running demo: it goes on serving, at once and within its memory."""

import contextlib
import os
import random
import socket
import time
from pathlib import Path

import pytest
from dlms_mutants import get, lls, mutate, seeds
from gateway_harness import PUBLIC_AARQ, gateway

from flexmap.dlms import wrapper
from flexmap.dlms.client import Client, ClientSettings, drive
from flexmap.model import obis

SAP = 1001
LLS_CLIENT, PASSWORD, PUBLIC_CLIENT = 18, b"flexmap-demo", 16
FRAMES, BATCH = 5000, 25
NAME = obis.parse("0-0:42.0.0")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("demo"), meters=2) as running:
        yield running


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def frames(chance, count):
    """Yield mutated frames, some with a mutated header."""
    for _ in range(count):
        client = chance.choice((LLS_CLIENT, 16, 1))
        frame = wrapper.encode(client, SAP, mutate(chance, chance.choice(seeds())))
        yield mutate(chance, frame) if chance.random() < 0.05 else frame


def read_name(port):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:

        def transceive(apdu):
            connection.sendall(wrapper.encode(16, SAP, apdu))
            head = connection.recv(8, socket.MSG_WAITALL)
            return connection.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)

        client = Client(ClientSettings(client_sap=16, server_sap=SAP), random=os.urandom)
        drive(client.connect(), transceive)
        return drive(client.get(1, NAME, 2), transceive)


def batch(port, octets):
    """Send everything, then take what comes until the server closes or has no more to say."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        contextlib.suppress(ConnectionError, TimeoutError),
    ):
        connection.sendall(octets)
        connection.settimeout(0.05)
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)


def test_mutated_frames_over_tcp(demo):
    name = read_name(demo.dlms)
    chance = random.Random(7)
    opening = wrapper.encode(LLS_CLIENT, SAP, lls(PASSWORD))
    for _ in range(10):
        batch(demo.dlms, opening + b"".join(frames(chance, BATCH)))
    before = resident(demo.process.pid)
    answered = 0
    for _ in range(FRAMES // BATCH):
        answered += len(batch(demo.dlms, opening + b"".join(frames(chance, BATCH))))
    assert answered > FRAMES
    start = time.monotonic()
    assert read_name(demo.dlms) == name
    assert time.monotonic() - start < 1
    assert resident(demo.process.pid) - before < 20_000_000
    assert demo.process.poll() is None


def ask(peer, request):
    """Ask until there is an answer: behind a flood, datagrams find the socket's buffer full and are lost."""
    peer.settimeout(0.5)
    for _ in range(40):
        peer.send(request)
        with contextlib.suppress(TimeoutError):
            return peer.recv(65536)
    raise AssertionError("no answer in 20 s")


def test_mutated_datagrams(demo):
    chance = random.Random(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", demo.dlms))
        for frame in frames(chance, 1000):
            peer.send(frame)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", demo.dlms))
        assert bytes.fromhex("a203020100") in ask(peer, wrapper.encode(PUBLIC_CLIENT, SAP, PUBLIC_AARQ))
        assert ask(peer, wrapper.encode(PUBLIC_CLIENT, SAP, get(1, bytes(6), 2)))[8:].hex() == "c401c10104"
    assert read_name(demo.dlms)
