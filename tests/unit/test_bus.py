"""The bus: frames survive the wire in any cut, and a bad peer gets a clear error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from flexmap.bus import frames
from flexmap.bus.framer import BadFrameError, Framer, encode
from flexmap.bus.protocol import CoreProtocol
from flexmap.model import Command, CommandResult, Sample

SAMPLE = Sample("SM_1", 1_700_000_000_123, (2**53 + 1, 230.5, None, True), (0, 3, 66, 0), 2)
TO_WORKER = [
    frames.Samples((SAMPLE, SAMPLE)),
    frames.ResultFrame(CommandResult(7, done=False, cause="blocked-by-process")),
    frames.Stop(),
]
TO_CORE = [
    frames.Serving(10102),
    frames.CommandFrame(Command(1, "SM_1", "breaker", value=True, origin="mms")),
    frames.Status(clients=1, points=2, samples=3, skipped=4, commands=5),
    frames.Log("warn", "text"),
]


@given(st.data())
def test_frames_come_back_whole_however_the_stream_is_cut(data):
    stream = b"".join(encode(frame) for frame in TO_WORKER)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = Framer(frames.ToWorker)
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += framer.feed(stream[start:end])
    assert got == TO_WORKER


def test_an_energy_over_53_bits_stays_an_integer():
    (frame,) = Framer(frames.ToWorker).feed(encode(TO_WORKER[0]))
    assert frame.samples[0].values[0] == 2**53 + 1
    assert type(frame.samples[0].values[0]) is int
    assert frame.samples[0].values[3] is True


def test_an_instantaneous_whole_number_stays_a_float():
    (frame,) = Framer(frames.ToWorker).feed(encode(frames.Samples((Sample("m", 0, (230.0,), (0,)),))))
    assert type(frame.samples[0].values[0]) is float


def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(BadFrameError, match="over the limit"):
        list(Framer(frames.ToWorker, limit=100).feed((101).to_bytes(4, "big")))


@pytest.mark.parametrize("body", [b"\xc1", b"\x80", b"\x81\xa5frame\xa4nope"])
def test_a_frame_that_does_not_decode_is_named(body):
    with pytest.raises(BadFrameError, match="does not decode"):
        list(Framer(frames.ToWorker).feed(len(body).to_bytes(4, "big") + body))


class Core:
    def __init__(self):
        self.greeted, self.received, self.lost = [], [], []
        self.protocol = CoreProtocol(self.greeted.append, self.received.append, self.lost.append)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)


def test_core_takes_frames_after_the_greeting():
    core = Core()
    core.protocol.dataReceived(encode(frames.Hello(frames.VERSION, 42)) + b"".join(map(encode, TO_CORE)))
    assert [hello.pid for hello in core.greeted] == [42]
    assert core.received == TO_CORE
    assert not core.transport.disconnecting


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (encode(frames.Hello(frames.VERSION + 1, 42)), "same installation"),
        (encode(frames.Serving(1)), "not Hello"),
        (b"\xff\xff\xff\xff", "over the limit"),
    ],
)
def test_core_hangs_up_on_a_peer_that_breaks_the_protocol(first, words):
    core = Core()
    core.protocol.dataReceived(first)
    core.protocol.dataReceived(encode(frames.Serving(1)))
    assert core.transport.disconnecting
    assert core.received == []
    core.protocol.connectionLost()
    assert words in str(core.lost[0])
    assert isinstance(core.lost[0], BadFrameError)
