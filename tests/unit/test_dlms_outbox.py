"""Push setups and the outbox in virtual time."""

import datetime as dt

import pytest
from dlms_push_server import HEAD_END, Keeper, make
from dlms_toy import ENERGY, NOTE, PROFILE, SAP
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from flexmap.dlms import axdr, cosem_time
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.push_setup import Destination, PushSetup, Window, changed, values
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms import push

SETUP = PushSetup(objects=(CaptureObject(3, ENERGY, 2),), destination=Destination(0, "127.0.0.1", 4059))


@pytest.fixture
def reactor():
    clock = MemoryReactorClock()
    clock.advance(1_790_000_010)
    return clock


def pushing(reactor, folder, *, version=0, transport=0, interval=0, **changes):
    server, device, post = make(reactor, folder, version=version, transport=transport, port=4059, ciphered=False,
                                interval=interval, **changes)  # fmt: skip
    return server, device, post


def accept(reactor):
    """Let the head-end accept the connection that was asked for last."""
    factory = reactor.tcpClients[-1][2]
    talk = factory.buildProtocol(None)
    talk.makeConnection(StringTransport())
    return talk


def refuse(reactor):
    reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectError()))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_what_is_shown_can_be_written_back(version):
    shown = values(SETUP, version)
    written = SETUP
    for attribute in (2, 3, 4, 5, 6, 7, *([11] if version == 2 else [])):
        written = changed(written, attribute, shown[attribute])
    assert written == SETUP


@pytest.mark.parametrize(
    ("attribute", "octets"),
    [
        (2, axdr.encode("unsigned", 1)),
        (2, axdr.array([CaptureObject(7, PROFILE, 2).encode()])),
        (2, axdr.array([CaptureObject(7, PROFILE, 0).encode()])),
        (2, axdr.array([CaptureObject(3, ENERGY, 2, 1).encode()])),
        (2, axdr.array([CaptureObject(3, ENERGY, 2).encode()] * 65)),
        (3, axdr.structure(axdr.encode("enum", 9), axdr.octet_string(b"127.0.0.1:1"), axdr.encode("enum", 0))),
        (3, axdr.structure(axdr.encode("enum", 0), axdr.octet_string(b"127.0.0.1"), axdr.encode("enum", 0))),
        (3, axdr.structure(axdr.encode("enum", 0), axdr.octet_string(b"127.0.0.1:0"), axdr.encode("enum", 0))),
        (3, axdr.structure(axdr.encode("enum", 0), axdr.octet_string(b"127.0.0.1:1"), axdr.encode("enum", 1))),
        (4, axdr.array([axdr.structure(axdr.octet_string(b"x"), axdr.octet_string(b"y"))])),
        (5, axdr.encode("double-long-unsigned", 65536)),
        (6, axdr.encode("boolean", True)),
        (7, axdr.NULL),
        (8, axdr.octet_string(b"")),
        (11, axdr.encode("enum", 1)),
        (6, b"\x11"),
    ],
)
def test_what_an_attribute_cannot_be_is_refused(attribute, octets):
    with pytest.raises(AxdrError):
        changed(SETUP, attribute, octets)


def at(text):
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


def pattern(hour, minute, *, year=0xFFFF, month=0xFF, day=0xFF, weekday=0xFF):
    return year.to_bytes(2, "big") + bytes((month, day, weekday, hour, minute, 0, 0, 0x80, 0, 0xFF))


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (Window(pattern(22, 0), pattern(23, 30)), "2026-03-04T22:00:00Z", "2026-03-04T23:30:00Z"),
        (Window(pattern(22, 0), pattern(6, 0)), "2026-03-04T05:59:59Z", "2026-03-04T06:00:00Z"),
        (Window(pattern(22, 0), pattern(6, 0)), "2026-03-04T22:00:01Z", "2026-03-04T21:59:59Z"),
        (
            Window(pattern(0, 0, weekday=3), pattern(23, 0, weekday=3)),
            "2026-03-04T12:00:00Z",
            "2026-03-05T12:00:00Z",
        ),
        (
            Window(pattern(0, 0, year=2026, month=3, day=1), pattern(0, 0, year=2026, month=3, day=8)),
            "2026-03-04T12:00:00Z",
            "2026-03-08T00:00:00Z",
        ),
        (Window(pattern(0, 0, day=4), pattern(12, 0, day=4)), "2026-05-04T01:00:00Z", "2026-05-05T01:00:00Z"),
    ],
)
def test_windows(window, inside, outside):
    setup = PushSetup(objects=(), destination=SETUP.destination, windows=(window,))
    assert setup.open_at(at(inside))
    assert not setup.open_at(at(outside))
    assert not PushSetup(
        objects=(), destination=SETUP.destination, windows=(Window(b"\xff" * 12, bytes(12)),)
    ).open_at(0)


def test_a_notification_goes_out_once_and_again_if_the_connection_breaks(reactor, tmp_path):
    _, device, post = pushing(reactor, tmp_path)
    assert device.push.push()
    reactor.advance(0)
    talk = accept(reactor)
    sent = talk.transport.value()
    assert sent[:6].hex() == f"0001{SAP:04x}{HEAD_END:04x}"
    assert sent[8] == 0x0F
    talk.connectionLost(Failure(ConnectionDone()))
    reactor.advance(1)
    talk = accept(reactor)
    assert talk.transport.value() == sent
    reactor.advance(push.SETTLED)
    assert (post.sent, post.waiting) == (1, 0)
    assert device.push.push()
    reactor.advance(0)
    assert len(talk.transport.value()) == 2 * len(sent)  # over the same connection
    reactor.advance(push.SETTLED)
    assert (post.sent, post.waiting) == (2, 0)


def test_retries_and_delays(reactor, tmp_path):
    _, device, post = pushing(reactor, tmp_path, version=2)
    write = device.push.write
    delays = axdr.structure(*(axdr.encode("long-unsigned", each) for each in (10, 200, 35)))
    assert write(6, axdr.encode("unsigned", 3)) == write(7, delays) == DataAccessResult.SUCCESS
    device.push.push()
    reactor.advance(0)
    for attempt, delay in enumerate((10, 20, 35), 1):
        refuse(reactor)
        reactor.advance(delay - 0.1)
        assert len(reactor.tcpClients) == attempt
        reactor.advance(0.2)
        assert len(reactor.tcpClients) == attempt + 1
    refuse(reactor)
    reactor.advance(1000)
    assert len(reactor.tcpClients) == 4
    device.push.push()  # the next one takes along what waits
    reactor.advance(0)
    talk = accept(reactor)
    assert talk.transport.value().count(b"\x0f\x00\x00\x00") == 2
    reactor.advance(push.SETTLED)
    assert post.waiting == 0


def test_what_waits_is_bounded_and_the_oldest_goes(reactor, tmp_path, monkeypatch):
    monkeypatch.setattr(push, "MOST_WAITING", 3)
    _, device, post = pushing(reactor, tmp_path)
    for _ in range(5):
        device.push.push()
    assert (post.waiting, post.lost) == (3, 2)
    reactor.advance(0)
    assert accept(reactor).transport.value()[9:13].hex() == "00000003"


def test_a_closed_window_holds_it_back(reactor, tmp_path):
    now = dt.datetime.fromtimestamp(reactor.seconds(), dt.UTC)
    soon = now + dt.timedelta(minutes=2)
    window = Window(pattern(soon.hour, soon.minute), pattern((soon.hour + 1) % 24, soon.minute))
    _, device, _ = pushing(reactor, tmp_path, windows=(window,))
    device.push.push()
    reactor.advance(30)
    assert not reactor.tcpClients
    for _ in range(5):
        reactor.advance(30)
    assert len(reactor.tcpClients) == 1


def test_pushes_at_intervals(reactor, tmp_path):
    _, device, post = pushing(reactor, tmp_path, transport=1, interval=900)
    post.datagram = lambda destination, octets: None
    device.push.begin()
    reactor.advance(900 - reactor.seconds() % 900 - 1)
    assert post.sent == 0
    for _ in range(3):
        reactor.advance(900)
    assert post.sent == 3
    device.push.stop()
    reactor.advance(9000)
    assert post.sent == 3
    post.close()


def test_the_client_gets_what_it_may_read(reactor, tmp_path):
    _, device, _ = pushing(reactor, tmp_path)
    columns = [CaptureObject(3, ENERGY, 2), CaptureObject(1, NOTE, 2), CaptureObject(99, NOTE, 2)]
    written = device.push.write(2, axdr.array([each.encode() for each in columns]))
    assert written == DataAccessResult.SUCCESS
    device.push.push()
    reactor.advance(0)
    sent = accept(reactor).transport.value()
    assert axdr.decode(sent[8 + 18 :]) == (123456, b"", None)
    assert cosem_time.to_epoch_ms(sent[14:26]) // 1000 == int(reactor.seconds())


def test_a_head_end_that_talks_nonsense_is_left(reactor, tmp_path):
    _, device, _ = pushing(reactor, tmp_path)
    device.push.push()
    reactor.advance(0)
    talk = accept(reactor)
    talk.dataReceived(bytes.fromhex("0001000100010000"))
    talk.dataReceived(b"GET / HTTP/1.1\r\n")
    assert talk.transport.disconnecting or talk.transport.disconnected


def test_state_that_cannot_be_read_leaves_the_configuration(reactor, tmp_path):
    Keeper(tmp_path).keep("M1", "push-setup", b"\xff\xff")
    _, device, _ = pushing(reactor, tmp_path)
    assert device.push.push()
