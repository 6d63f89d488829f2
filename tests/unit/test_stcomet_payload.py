"""The FLEXMETER message: round trips, density on the demo's load shapes, strictness."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stcomet_site import load_shapes

from flexmap.model import RemoteError
from flexmap.stcomet import codec, payload
from flexmap.stcomet.bits import BitReader, BitWriter, Rice, read_long, write_long
from flexmap.stcomet.payload import (
    BreakerRequest,
    ClockReply,
    ClockRequest,
    CommandReply,
    Events,
    EventsRequest,
    Identity,
    IdentityRequest,
    MeterEvent,
    Origin,
    PayloadError,
    ReadRequest,
    Reason,
    Records,
    Refusal,
    Result,
    records_reply,
)
from flexmap.stcomet.record import Layout, Record, State, raw_size

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=60)
STATE = st.builds(State, st.integers(0, 31), U16, U16)


@st.composite
def runs(draw):
    """Records of a layout as hard as they come: any times, jumps of all values, gaps in the measured ones."""
    layout = draw(st.sampled_from(Layout))
    big = st.integers(-(2**31) + 1, 2**31 - 1)
    small = st.integers(-3, 3)
    measured = st.lists(st.one_of(small, big), min_size=layout.measured, max_size=layout.measured).map(tuple)
    energies = st.lists(
        st.one_of(st.integers(0, 5), st.integers(0, 2**48 - 1)), min_size=layout.energies, max_size=layout.energies
    ).map(tuple)
    count = draw(st.integers(0, 4))
    first = draw(st.integers(0, 2**32 - 5)) if count else 0
    records = []
    for number in range(count):
        ordinary = records and draw(st.booleans())
        time = min(records[-1].time + 1, 2**32 - 1) if ordinary else draw(U32)
        state = records[-1].state if ordinary else draw(STATE)
        values = draw(st.one_of(st.just(()), measured))
        records.append(Record(first + number, time, state, draw(energies), values))
    return layout, tuple(records)


MESSAGES = st.one_of(
    st.builds(IdentityRequest, U16),
    st.builds(ReadRequest, U16, st.sampled_from(Origin), U32, U16, U16),
    st.builds(EventsRequest, U16, U32, U16),
    st.builds(BreakerRequest, U16, st.booleans(), U32),
    st.builds(ClockRequest, U16, U16, st.integers(-(2**63), 2**63 - 1)),
    st.builds(Identity, U16, st.sampled_from(Layout), U32, U32, U32, U32, U64, TEXT, TEXT, TEXT),
    st.builds(
        Events,
        U16,
        U32,
        st.lists(st.builds(MeterEvent, U64, st.integers(0, 255), st.integers(0, 255)), max_size=9).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(CommandReply, U16, st.sampled_from(Result), TEXT),
    st.builds(ClockReply, U16, st.sampled_from(Result), U64, st.integers(-(2**31), 2**31 - 1), U16),
    st.builds(Refusal, U16, st.sampled_from(Reason)),
    st.builds(
        lambda number, run, more, lost, event: Records(number, *run, more, lost, event),
        U16,
        runs(),
        st.booleans(),
        st.booleans(),
        U16,
    ),
)


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_round_trip(message):
    octets = payload.encode(message)
    assert payload.decode(octets) == message
    assert payload.encode(payload.decode(octets)) == octets


@given(st.lists(st.integers(-(2**50), 2**50)), st.lists(st.integers(-9, 9)))
def test_rice_round_trip(wild, tame):
    writer, code = BitWriter(), Rice()
    for number in [*tame, *wild, *tame]:
        code.write(writer, number)
    reader, code = BitReader(writer.octets()), Rice()
    assert [code.read(reader) for _ in [*tame, *wild, *tame]] == [*tame, *wild, *tame]
    reader.end()


@given(st.integers(0, 2**63 - 1))
def test_long_round_trip(number):
    writer = BitWriter()
    write_long(writer, number)
    assert read_long(BitReader(writer.octets())) == number


def coded(records, layout, octets):
    """Octets of payload, and records, when all records are fetched in replies of a size."""
    total = at = 0
    while at < len(records):
        request = ReadRequest(1, Origin.SEQUENCE, records[at].sequence, 65535, octets)
        reply = records_reply(request, layout, records[at:], lost=False, next_event=7)
        message = payload.decode(reply)
        assert message.records == tuple(records[at : at + len(message.records)])
        assert len(reply) <= octets
        total += len(reply)
        at += len(message.records)
        assert message.more == (at < len(records))
    return total


@pytest.mark.parametrize(("octets", "most"), [(payload.ROBO_FRAME, 6), (380, 3.5), (payload.DATAGRAM, 3)])
def test_density_on_the_demos_load_shapes(octets, most):
    """Docs state these figures; the aim is ≤ 10 octets a second and ≥ 4 times denser than the raw record."""
    shapes = load_shapes()
    records = [shapes[name] for name in shapes if name != "SUB"]
    size = sum(coded(run, Layout.SINGLE_PHASE, octets) for run in records) / sum(map(len, records))
    print(f"{octets}: {size:.2f} octets a second, {raw_size(Layout.SINGLE_PHASE) / size:.1f} times denser")
    assert size <= most
    assert raw_size(Layout.SINGLE_PHASE) / size >= 4


def test_density_of_the_three_phase_meter():
    run = load_shapes()["SUB"]
    size = coded(run, Layout.THREE_PHASE, payload.DATAGRAM) / len(run)
    print(f"three-phase: {size:.2f} octets a second, {raw_size(Layout.THREE_PHASE) / size:.1f} times denser")
    assert raw_size(Layout.THREE_PHASE) / size >= 4


def test_latest_record_travels_alone_in_one_robo_frame():
    sizes = {
        name: max(
            len(records_reply(ReadRequest(1), Layout(3 if name == "SUB" else 1), [each], lost=False, next_event=7))
            for each in run
        )
        for name, run in load_shapes().items()
    }
    print(sizes)
    assert max(sizes.values()) <= payload.ROBO_FRAME


def test_reply_too_small_for_a_record_holds_one_all_the_same():
    run = load_shapes()["M0"]
    message = payload.decode(
        records_reply(ReadRequest(1, octets=1), Layout.SINGLE_PHASE, run, lost=True, next_event=0)
    )
    assert (message.records, message.more, message.lost) == (run[:1], True, True)


def samples() -> list[bytes]:
    run, three = load_shapes()["M1"], load_shapes()["SUB"]
    jump = [run[0], replace(run[1], time=run[1].time + 60, state=State(0, 1, 2)), replace(run[2], measured=())]
    jump = [replace(each, sequence=number) for number, each in enumerate(jump)]
    messages = [
        IdentityRequest(1),
        ReadRequest(2, Origin.TIME, 1_795_392_000, 600, 380),
        EventsRequest(3, 17),
        BreakerRequest(4, True, 1_795_392_000),
        ClockRequest(5, 3, -1_795_392_000_123),
        ClockReply(5, Result.DONE, 1_795_392_000_123, -1500, 4),
        Identity(1, Layout.SINGLE_PHASE, 3600, 7, 9, 3, 1_795_392_000_123, "FM1", "Meter", "1.2"),
        Events(3, 17, (MeterEvent(1_795_392_000_123, 1, 40), MeterEvent(1_795_392_100_123, 1, 41)), True),
        CommandReply(4, Result.REFUSED, "control mode 0"),
        Refusal(9, Reason.FORM),
        Records(2, Layout.SINGLE_PHASE, tuple(run[:30])),
        Records(2, Layout.SINGLE_PHASE, tuple(jump)),
        Records(2, Layout.THREE_PHASE, tuple(three[:4]), True, True, 99),
    ]
    return [payload.encode(message) for message in messages]


def test_mutated_payloads_are_refused_or_mean_exactly_what_they_say():
    generator = random.Random(5)
    seeds = samples()
    taken = 0
    for number in range(20_000):
        octets = bytearray(seeds[number % len(seeds)])
        for _ in range(generator.randrange(1, 4)):
            match generator.randrange(4):
                case 0:
                    octets[generator.randrange(len(octets))] ^= 1 << generator.randrange(8)
                case 1:
                    octets[generator.randrange(len(octets))] = generator.randrange(256)
                case 2:
                    del octets[generator.randrange(1, len(octets) + 1) :]
                case _:
                    octets += generator.randbytes(generator.randrange(1, 5))
        try:
            message = payload.decode(bytes(octets))
        except PayloadError:
            continue
        taken += 1
        assert payload.encode(message) == bytes(octets)
    assert 1000 < taken < 15_000


@pytest.mark.parametrize(
    ("octets", "cause"),
    [
        ("", "no FLEXMETER"),
        ("03110001", "no FLEXMETER"),
        ("10310001", "version 3"),
        ("10200001", "operation 0"),
        ("1021000100", "1 octets too many"),
        ("102200010400000000000100ff", "4 is not a valid Origin"),
        ("102400010200000000", "neither 0 nor 1"),
        ("102f000109", "9 is not a valid Reason"),
    ],
)
def test_causes_of_refusal(octets, cause):
    with pytest.raises(PayloadError, match=cause):
        payload.decode(bytes.fromhex(octets))


def test_decoder_refuses_other_writings_of_the_same_records():
    run = load_shapes()["M1"][:3]
    octets, count = codec.encode(Layout.SINGLE_PHASE, run, 10_000)
    assert count == 3
    with pytest.raises(RemoteError):
        codec.decode(Layout.SINGLE_PHASE, 0, 3, octets + b"\0")
    with pytest.raises(RemoteError):
        codec.decode(Layout.SINGLE_PHASE, 0, 2, octets)
    with pytest.raises(RemoteError):
        codec.decode(Layout.SINGLE_PHASE, 0, 4, octets)
