"""A client that asks far more than it reads: nothing is lost, and others are served meanwhile."""

import contextlib
import socket
import time

import pytest
from gateway_harness import Poller, gateway

from flexmap.dlms import wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import Client, ClientSettings, drive

REQUESTS = 4000
SAP, LLS_READER = 1000, 18
GET_OBJECT_LIST = wrapper.encode(LLS_READER, SAP, bytes.fromhex("c001c1000f0000280000ff0200"))
"""21 octets that ask for several thousand."""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("pipeline"), meters=1) as demo:
        yield demo


def associate(connection):
    settings = ClientSettings(
        client_sap=LLS_READER, server_sap=SAP, mechanism=Mechanism.LLS, secret=b"flexmap-demo"
    )

    def transceive(apdu):
        connection.sendall(wrapper.encode(LLS_READER, SAP, apdu))
        head = connection.recv(8, socket.MSG_WAITALL)
        return connection.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)

    drive(Client(settings, random=bytes).connect(), transceive)


def test_every_pipelined_request_is_answered_while_others_are_served(running):
    with socket.create_connection(("127.0.0.1", running.dlms), 20) as greedy:
        associate(greedy)
        greedy.sendall(GET_OBJECT_LIST)
        head = greedy.recv(8, socket.MSG_WAITALL)
        reply = 8 + int.from_bytes(head[6:], "big")
        greedy.recv(reply - 8, socket.MSG_WAITALL)
        assert reply > 2000
        other = Poller(running.dlms)
        other.start()
        greedy.setblocking(False)
        unsent, stuck = GET_OBJECT_LIST * REQUESTS, 0
        # Ask until nothing more is taken: the server has stopped to read, since nothing is read here.
        while unsent and stuck < 20:
            try:
                unsent = unsent[greedy.send(unsent) :]
                stuck = 0
            except BlockingIOError:
                stuck += 1
                time.sleep(0.02)
        received, end = 0, time.monotonic() + 30
        while received < REQUESTS * reply and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[greedy.send(unsent) :] if unsent else unsent
            with contextlib.suppress(BlockingIOError):
                received += len(greedy.recv(1 << 20))
                continue
            time.sleep(0.001)
        assert received == REQUESTS * reply
        other.done.set()
        other.join(5)
        assert other.failure is None
        assert len(other.delays) > 5
        assert max(other.delays) < 2
