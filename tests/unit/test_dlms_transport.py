"""Transports in virtual time: slow, silent and too many peers, turns, the sign-on, the bound on log lines."""

import os

import pytest
from dlms_mutants import LLS
from dlms_toy import SAP, SERIAL, toy_server
from test_dlms_server import NONE_AARQ
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import Logger, globalLogPublisher

from flexmap.dlms import hdlc, wrapper
from flexmap.dlms.hdlc import POLL, Command
from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.optical import SignOn, with_parity
from flexmap.faces.dlms.serial_line import SerialTalk
from flexmap.faces.dlms.wrapper_tcp import WrapperFactory
from flexmap.faces.tcp import Gate, origin_of
from flexmap.faces.throttle import Throttle

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


def factory(clock, *, most=3, most_per_address=3, idle_timeout=60):
    server, _ = toy_server()
    gate = Gate(clock, most=most, most_per_address=most_per_address)
    return WrapperFactory(
        server.connection, clock, Throttle(clock), Logger(), gate=gate, idle_timeout=idle_timeout
    )


def connect(made, host=None):
    protocol = made.buildProtocol(host and IPv4Address("TCP", host, 1))
    if protocol is None:
        return None, None
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
    assert not made.gate.open
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
    assert protocol.conversation.paused  # and is told nothing unasked
    clock.advance(1)
    assert len(wire.value()) == 256 * size
    assert wire.producerState == "paused"
    protocol.resumeProducing()
    assert not protocol.conversation.paused
    assert len(wire.value()) == 512 * size
    clock.advance(0)
    assert len(wire.value()) == 600 * size
    assert wire.producerState == "producing"


def test_a_turn_that_is_due_does_not_outlive_the_connection(clock):
    protocol, wire = connect(factory(clock))
    protocol.dataReceived(OPENING + GET * 1000)
    wire.loseConnection()
    clock.advance(1)
    assert not protocol._factory.gate.open


def test_log_lines_that_peers_cause_are_bounded_and_counted(clock, lines):
    made = factory(clock)
    for _ in range(3):
        connect(made)
    for _ in range(500):
        assert made.buildProtocol(None) is None
    assert made.gate.refused == 500
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


# --- many peers


def test_one_address_cannot_take_all_places(clock):
    made = factory(clock, most=10, most_per_address=4)
    greedy = [connect(made, "192.0.2.1")[0] for _ in range(9)]
    assert [protocol is not None for protocol in greedy] == [True] * 4 + [False] * 5
    assert connect(made, "192.0.2.2")[0] is not None
    assert made.gate.refused == 5
    greedy[0].transport.loseConnection()
    assert connect(made, "192.0.2.1")[0] is not None
    assert len(made.gate.open) == 5


def test_who_has_proven_nothing_makes_room_after_a_while(clock):
    made = factory(clock, most=4, most_per_address=4)
    (honest, honest_wire), *others = [connect(made, f"192.0.2.{number}") for number in range(4)]
    honest.dataReceived(wrapper.encode(2, SAP, LLS))
    assert connect(made, "192.0.2.9")[0] is None  # newcomers are left in peace
    clock.advance(11)
    assert connect(made, "192.0.2.9")[0] is not None
    assert [wire.connected for _, wire in others] == [False, True, True]
    assert honest_wire.connected
    for number in range(10, 40):
        clock.advance(1)
        connect(made, f"192.0.2.{number}")
    assert honest_wire.connected
    assert len(made.gate.open) == 4


def test_addresses_of_one_origin():
    assert origin_of(IPv4Address("TCP", "192.0.2.1", 5)) == "192.0.2.1"
    assert origin_of(IPv6Address("TCP", "::ffff:192.0.2.1", 5)) == "192.0.2.1"
    first, second = (origin_of(IPv6Address("TCP", f"2001:db8:0:1::{host}", 5)) for host in (1, 2))
    assert first == second != origin_of(IPv6Address("TCP", "2001:db8:0:2::1", 5))


def test_who_sends_a_frame_for_ever_is_ended_although_it_is_answered_now_and_then(clock):
    protocol, wire = connect(factory(clock, idle_timeout=600))
    protocol.dataReceived(OPENING)
    protocol.dataReceived(GET[:20])
    clock.pump([5] * 11)
    assert wire.connected
    clock.pump([5] * 3)
    assert not wire.connected


# --- serial lines


class Terminal(StringTransportWithDisconnection):
    """A serial line; ``sent`` has what went out, with its time and speed."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.sent = []
        self.speeds = []

    def set_speed(self, speed):
        self.speeds.append((self.clock.seconds(), speed))

    def write(self, data):
        self.sent.append((self.clock.seconds(), self.speeds[-1][1] if self.speeds else None, bytes(data)))


ADDRESSES = hdlc.encode_station(SAP, 16) + b"\x07"
SNRM, DISC = (hdlc.encode(ADDRESSES, command | POLL) for command in (Command.SNRM, Command.DISC))


def serial(clock, *, mode_e=True, **settings):
    server, device = toy_server()
    talk = SerialTalk(clock, server, "ttyX", HdlcSettings(**settings), SignOn("FLX", 9600) if mode_e else None)
    terminal = Terminal(clock)
    terminal.protocol = talk
    talk.makeConnection(terminal)
    return talk, terminal, device


def sign_on(talk, clock):
    talk.dataReceived(with_parity(b"/?!\r\n"))
    clock.advance(1)
    talk.dataReceived(with_parity(b"\x06252\r\n"))
    clock.advance(1)


def test_the_sign_on_changes_speeds_at_the_right_moments(clock):
    talk, terminal, _ = serial(clock)
    assert terminal.speeds == [(0, 300)]
    talk.dataReceived(with_parity(b"/?!\r\n"))
    assert terminal.sent == []
    clock.advance(0.2)
    assert terminal.sent == [(0.2, 300, with_parity(b"/FLX5\\2flexmap\r\n"))]
    clock.advance(0.8)
    talk.dataReceived(with_parity(b"\x06252\r\n"))
    assert terminal.speeds[-1][1] == 300
    clock.advance(0.25)
    assert terminal.speeds[-1] == (1.25, 9600)
    assert terminal.sent[-1] == (1.25, 9600, with_parity(b"\x06252\r\n"))
    clock.advance(2)
    talk.dataReceived(SNRM)
    assert hdlc.encode(b"\x07" + ADDRESSES[:2], Command.UA | POLL)[3:7] in terminal.sent[-1][2]
    # as long as the link lives the speed stays; the answer to the disconnection still goes out at it
    clock.pump([1] * 60)
    talk.dataReceived(DISC)
    assert terminal.sent[-1][1] == 9600
    assert terminal.speeds[-1][1] == 9600
    clock.advance(0.2)
    assert terminal.speeds[-1][1] == 300
    sign_on(talk, clock)
    assert terminal.speeds[-1][1] == 9600


def test_the_port_falls_back_when_nothing_follows(clock):
    talk, terminal, _ = serial(clock, inactivity_timeout=20)
    talk.dataReceived(with_parity(b"/?!\r\n"))
    clock.pump([1] * 8)
    talk.dataReceived(with_parity(b"\x06252\r\n"))  # too late
    clock.pump([1] * 5)
    assert {speed for _, speed in terminal.speeds} == {300}
    sign_on(talk, clock)
    assert terminal.speeds[-1][1] == 9600
    clock.pump([1] * 12)
    assert terminal.speeds[-1][1] == 300
    # and when a link goes silent
    sign_on(talk, clock)
    talk.dataReceived(SNRM)
    clock.pump([1] * 15)
    assert terminal.speeds[-1][1] == 9600
    clock.pump([1] * 8)
    assert terminal.speeds[-1][1] == 300


def test_hdlc_at_once_where_there_is_no_sign_on(clock):
    talk, terminal, _ = serial(clock, mode_e=False)
    talk.dataReceived(SNRM)
    assert len(terminal.sent) == 1
    assert terminal.speeds == []
    terminal.loseConnection()
    assert not clock.getDelayedCalls()


def test_a_fault_of_a_device_ends_the_link_and_not_the_line(clock):
    talk, terminal, device = serial(clock, mode_e=False)
    device.put(1, SERIAL, 2, lambda: 1 // 0)
    talk.dataReceived(SNRM)
    talk.dataReceived(hdlc.encode(ADDRESSES, POLL, hdlc.LLC_COMMAND + LLS))
    get = hdlc.LLC_COMMAND + bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0"
    count = len(terminal.sent)
    talk.dataReceived(hdlc.encode(ADDRESSES, 0x32, get))
    assert len(terminal.sent) == count
    talk.dataReceived(SNRM)
    assert len(terminal.sent) == count + 1
