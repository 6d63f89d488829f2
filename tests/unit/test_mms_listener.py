"""MMS connections in virtual time: half-open, slow, silent and too many peers; peers that take nothing."""

import pytest
from mms_raw import define, read, read_list, variable, write
from mms_toy import Toy, answer, association_request, connect_request, frames
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from flexmap.faces.native.listener import MOST_UNSENT, OPENING_TIMEOUT, MmsFactory
from flexmap.faces.tcp import FRAME_TIMEOUT, GRACE, Gate
from flexmap.mms import data, pdu

TOTW = variable("TOY1", "MMXU1$MX$TotW")
ASSOCIATE = b"".join(frames(association_request()))


class Handle:
    """A socket's options."""

    def setsockopt(self, *_):
        pass


class Wire(StringTransportWithDisconnection):
    """A TCP connection that a test looks into."""

    def setTcpNoDelay(self, enabled):
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled):
        self.keep_alive = enabled

    def getHandle(self):
        return Handle()

    def abortConnection(self):
        self.loseConnection()


class Site:
    def __init__(self, *, most=3, most_per_address=3, idle_timeout=0):
        self.clock = Clock()
        self.toy = Toy()
        self.gate = Gate(self.clock, most=most, most_per_address=most_per_address)
        self.factory = MmsFactory(self.toy.server, self.clock, gate=self.gate, idle_timeout=idle_timeout)

    def connect(self, host="192.0.2.1", *, associate=True):
        """A connection's transport, None if it was not let in."""
        protocol = self.factory.buildProtocol(IPv4Address("TCP", host, 1))
        if protocol is None:
            return None
        wire = protocol.transport = Wire(peerAddress=IPv4Address("TCP", host, 1))
        wire.protocol = protocol
        protocol.makeConnection(wire)
        if associate:
            protocol.dataReceived(connect_request())
            protocol.dataReceived(ASSOCIATE)
            assert protocol.conversation.trusted
            wire.clear()
        return wire


@pytest.fixture
def frame():
    return Toy().client().frame


@pytest.mark.parametrize("octets", [b"", connect_request(), connect_request() + ASSOCIATE[:-1], b"\x03"])
def test_who_opens_no_association_is_closed(octets):
    site = Site()
    wire = site.connect(associate=False)
    wire.protocol.dataReceived(octets)
    site.clock.pump([1.0] * int(OPENING_TIMEOUT))
    site.clock.advance(3)
    assert not wire.connected
    assert not site.gate.open


def test_who_sends_octet_by_octet_is_closed():
    site = Site()
    wire = site.connect(associate=False)
    octets = iter(connect_request() + ASSOCIATE)
    while wire.connected and (octet := next(octets, None)) is not None:
        wire.protocol.dataReceived(bytes((octet,)))
        site.clock.advance(2)
    assert octet is not None
    assert not wire.connected


def test_a_silent_association_stays_unless_there_is_a_limit(frame):
    for limit, stays in ((0, True), (300, False)):
        site = Site(idle_timeout=limit)
        wire = site.connect()
        for _ in range(200):
            site.clock.advance(2)
        assert wire.connected == stays
        if stays:
            wire.protocol.dataReceived(frame(read(TOTW)))
            assert answer(wire.value())[0] == pdu.CONFIRMED_RESPONSE


def test_a_request_that_never_ends_closes_the_association(frame):
    site = Site()
    wire = site.connect()
    wire.protocol.dataReceived(frame(read(TOTW))[:-1])
    for _ in range(int(FRAME_TIMEOUT / 2) + 2):
        site.clock.advance(2)
    assert not wire.connected
    assert not site.toy.server.associations


def test_one_address_has_its_share():
    site = Site(most=3, most_per_address=2)
    assert [site.connect() is None for _ in range(3)] == [False, False, True]
    assert site.connect("192.0.2.2") is not None


def test_half_open_connections_make_room_and_associations_do_not():
    site = Site(most=2)
    open_, idle = site.connect(), site.connect(associate=False)
    assert site.connect() is None
    site.clock.advance(GRACE)
    assert site.connect() is not None
    assert (open_.connected, idle.connected) == (True, False)
    site.clock.advance(GRACE)
    assert site.connect() is None


@pytest.mark.parametrize(
    "octets", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.0\r\n\r\n", b"\x03\x00\x00\x02"]
)
def test_another_protocol_is_turned_away(octets):
    site = Site()
    wire = site.connect(associate=False)
    wire.protocol.dataReceived(octets)
    assert not wire.connected


def test_what_waits_is_answered_in_turns(frame):
    site = Site()
    client = site.connect()
    client.protocol.dataReceived(frame(define("@", "many", *[TOTW] * 500)))
    client.clear()
    client.protocol.dataReceived(frame(read_list("@", "many")) * 100)
    assert client.producerState == "paused"
    first = len(client.value())
    site.clock.advance(0)
    assert client.producerState == "producing"
    assert len(client.value()) > 3 * first


def test_who_takes_nothing_is_read_no_more_and_then_cut_off(frame):
    site = Site()
    client = site.connect()
    client.protocol.pauseProducing()
    client.clear()
    association = next(iter(site.toy.server.associations))
    report = pdu.information_report((None, "RPT"), data.octet_string(bytes(50_000)))
    for _ in range(MOST_UNSENT // 50_000 - 1):
        association.send(report)
    assert client.connected
    for _ in range(3):
        association.send(report)
    assert not client.connected
    assert not site.toy.server.associations


def test_an_answer_that_comes_after_its_client_goes_nowhere(frame):
    site = Site()
    client = site.connect()
    oper = variable("TOY1", "LLN0$CO$Oper$ctlVal")
    client.protocol.dataReceived(frame(write([oper], [data.TRUE])))
    client.loseConnection()
    site.toy.pending[0].answer()
    assert client.value() == b""


def test_conclude_and_release_close_the_connection(frame):
    site = Site()
    client = site.connect()
    client.protocol.dataReceived(Toy().client().pdu(b"\x8b\x00"))
    assert answer(client.value()) == b"\x8c\x00"
    assert client.connected
    client.protocol.dataReceived(b"".join(frames(b"\x09\x09\xc1\x07" + bytes.fromhex("61053003020101"))))
    assert client.disconnecting or not client.connected
