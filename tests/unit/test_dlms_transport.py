"""The wrapper's transport in virtual time: slow and silent peers, turns, and the bound on log lines."""

import os

import pytest
from dlms_toy import SAP, SERIAL, toy_server
from test_dlms_server import NONE_AARQ
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import Logger, globalLogPublisher

from flexmap.dlms import wrapper
from flexmap.faces.dlms.throttle import Throttle
from flexmap.faces.dlms.transport import WrapperFactory

GET = wrapper.encode(16, SAP, bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0")
OPENING = wrapper.encode(16, SAP, NONE_AARQ)


class Wire(StringTransportWithDisconnection):
    """A TCP connection that a test looks into."""

    def setTcpNoDelay(self, enabled):
        self.no_delay = enabled


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


def factory(clock, **changes):
    server, _ = toy_server()
    return WrapperFactory(server, clock, Throttle(clock), **{"idle_timeout": 60, "max_connections": 3} | changes)


def connect(made):
    protocol = made.buildProtocol(None)
    wire = protocol.transport = Wire()
    wire.protocol = protocol
    protocol.makeConnection(wire)
    return protocol, wire


def test_who_never_finishes_a_frame_is_silent(clock):
    made = factory(clock)
    protocol, wire = connect(made)
    for octet in (OPENING * 2)[: len(OPENING) - 1]:
        protocol.dataReceived(bytes((octet,)))
        clock.advance(5)
        if not wire.connected:
            break
    assert not wire.connected
    assert not made.open
    assert not clock.getDelayedCalls() or all(call.func.__name__ == "_second" for call in clock.getDelayedCalls())


def test_who_is_answered_stays(clock):
    protocol, wire = connect(factory(clock))
    protocol.dataReceived(OPENING)
    for _ in range(5):
        clock.advance(50)
        protocol.dataReceived(GET)
    assert wire.connected
    clock.advance(61)
    assert not wire.connected


def test_a_greedy_peer_is_answered_in_turns(clock):
    protocol, wire = connect(factory(clock))
    protocol.dataReceived(OPENING)
    wire.clear()
    protocol.dataReceived(GET)
    size = len(wire.value())
    wire.clear()
    protocol.dataReceived(GET * 1000)
    assert wire.producerState == "paused"
    assert len(wire.value()) == 256 * size
    clock.advance(0)  # virtual time takes all turns that are due at once
    assert len(wire.value()) == 1000 * size
    assert wire.producerState == "producing"
    # a peer that does not take its replies gets no more, and is read no more, until it does
    wire.clear()
    protocol.dataReceived(GET * 600)
    protocol.pauseProducing()
    clock.advance(1)
    assert len(wire.value()) == 256 * size
    assert wire.producerState == "paused"
    protocol.resumeProducing()
    assert len(wire.value()) == 512 * size
    clock.advance(0)
    assert len(wire.value()) == 600 * size
    assert wire.producerState == "producing"


def test_a_turn_that_is_due_does_not_outlive_the_connection(clock):
    protocol, wire = connect(factory(clock))
    protocol.dataReceived(OPENING + GET * 1000)
    wire.loseConnection()
    clock.advance(1)
    assert not protocol._factory.open


def test_log_lines_that_peers_cause_are_bounded_and_counted(clock, lines):
    made = factory(clock)
    for _ in range(3):
        connect(made)
    for _ in range(500):
        assert made.buildProtocol(None) is None
    assert made.refused == 500
    assert len(lines) == 20
    clock.advance(1)
    assert len(lines) == 21
    assert lines[-1]["count"] == 480
    clock.advance(5)
    assert len(lines) == 21
    Throttle(clock)(Logger().info, "told again")
    assert len(lines) == 22


def test_a_stream_out_of_step_is_closed(clock):
    protocol, wire = connect(factory(clock))
    protocol.dataReceived(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(20))
    assert not wire.connected
