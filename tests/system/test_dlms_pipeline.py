"""A client that asks far more than it reads: nothing is lost, and others are served meanwhile."""

import contextlib
import socket
import struct
import time

import pytest
from gateway_harness import GET_CLOCK, PUBLIC_AARQ, Poller, gateway

REQUESTS = 100_000
REPLY = 8 + 18
"""Octets of the wrapper and of a GET-Response with a date-time."""


def frame(apdu):
    return struct.pack(">HHHH", 1, 16, 1001, len(apdu)) + apdu


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("pipeline"), meters=1) as demo:
        yield demo


def test_every_pipelined_request_is_answered_while_others_are_served(running):
    with socket.create_connection(("127.0.0.1", running.dlms), 20) as greedy:
        greedy.sendall(frame(PUBLIC_AARQ))
        greedy.recv(4096)
        other = Poller(running.dlms)
        other.start()
        greedy.setblocking(False)
        unsent, received = frame(GET_CLOCK) * REQUESTS, 0
        # Ask until nothing more is taken: the server has stopped to read, since nothing is read here.
        stuck = 0
        while unsent and stuck < 20:
            try:
                unsent = unsent[greedy.send(unsent[:65536]) :]
                stuck = 0
            except BlockingIOError:
                stuck += 1
                time.sleep(0.02)
        assert other.failure is None
        greedy.setblocking(True)
        while received < REQUESTS * REPLY:
            greedy.settimeout(0.05 if unsent else 10)
            try:
                received += len(greedy.recv(1 << 20))
            except TimeoutError:
                assert unsent
            if unsent:
                greedy.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    unsent = unsent[greedy.send(unsent[:65536]) :]
                greedy.setblocking(True)
        assert received == REQUESTS * REPLY
        other.done.set()
        other.join(5)
        assert other.failure is None
        assert len(other.delays) > 20
        assert max(other.delays) < 2
