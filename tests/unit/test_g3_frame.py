"""MAC frames of G3-PLC byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.g3 import command, frame
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.phy import CENELEC_A, FCC, Modulation
from flexmap.model.error import LocalError, RemoteError

SHORT = st.integers(0, 0xFFFF)
ADDRESS = st.none() | SHORT | st.binary(min_size=8, max_size=8)


@st.composite
def frames(draw):
    destination, source = draw(ADDRESS), draw(ADDRESS)
    counter = draw(st.none() | st.integers(0, 0xFFFFFFFF))
    return Frame(
        kind=draw(st.sampled_from(FrameKind)),
        sequence=draw(st.integers(0, 255)),
        payload=draw(st.binary(max_size=500)),
        destination=destination,
        destination_pan=0xFFFF if destination is None else draw(SHORT),
        source=source,
        source_pan=0xFFFF if source is None else draw(SHORT),
        ack_request=draw(st.booleans()),
        counter=counter,
        key_index=0 if counter is None else draw(st.integers(0, 255)),
        mic=b"" if counter is None else draw(st.binary(min_size=4, max_size=4)),
        segment=draw(st.integers(0, 63)),
        last=draw(st.booleans()),
        tone_map_request=draw(st.booleans()),
        contention_free=draw(st.booleans()),
        high_priority=draw(st.booleans()),
    )


def test_check_sequence_is_the_catalogues_kermit():
    assert frame.crc16(b"123456789") == 0x2189
    assert frame.crc16(b"") == 0


def test_a_data_frame_byte_for_byte():
    psdu = frame.encode(
        Frame(
            kind=FrameKind.DATA,
            sequence=0x42,
            payload=b"\x01\x02\x03",
            destination=0x0005,
            destination_pan=0x781D,
            source=0x0000,
            source_pan=0x781D,
            ack_request=True,
            counter=0x01020304,
            key_index=1,
            mic=b"MICs",
        )
    )
    body = bytes.fromhex(
        "01 00 03"  # last segment, count 0, length 3
        "69 88 42"  # data, security, acknowledgement, PAN compression; short, short; sequence
        "1d 78 05 00 00 00"  # PAN, destination, source
        "0d 04 03 02 01 01"  # ENC-MIC-32 with key index, counter, index
        "01 02 03"
    )
    assert psdu == body + b"MICs" + frame.crc16(body + b"MICs").to_bytes(2, "little")


def test_beacon_request_and_beacon_byte_for_byte():
    request = Frame(
        kind=FrameKind.COMMAND,
        sequence=1,
        payload=command.BEACON_REQUEST,
        destination=0xFFFF,
        destination_pan=0xFFFF,
    )
    assert frame.encode(request)[:-2] == bytes.fromhex("010001 0308 01 ffff ffff 07")
    beacon = Frame(
        kind=FrameKind.BEACON,
        sequence=9,
        payload=command.encode_beacon(command.BeaconPayload(coordinator=True, rc_coord=0)),
        source=0,
        source_pan=0x781D,
    )
    assert frame.encode(beacon)[:-2] == bytes.fromhex("010006 0080 09 1d78 0000 00c0 00 00 0000")


def test_eui64_travels_least_significant_octet_first():
    psdu = frame.encode(
        Frame(kind=FrameKind.DATA, sequence=0, payload=b"", destination=bytes(range(8)), destination_pan=1)
    )
    assert psdu[8:16] == bytes(range(7, -1, -1))


@given(frames())
def test_round_trip(value):
    psdu = frame.encode(value)
    assert frame.decode(psdu) == value
    assert len(psdu) == frame.overhead(value) + len(value.payload)


@given(frames(), st.data())
def test_a_flipped_bit_is_seen(value, data):
    psdu = bytearray(frame.encode(value))
    bit = data.draw(st.integers(0, len(psdu) * 8 - 1))
    psdu[bit // 8] ^= 1 << bit % 8
    with pytest.raises(frame.CheckSequenceError):
        frame.decode(bytes(psdu))


@given(st.binary(max_size=60))
def test_what_is_decoded_encodes_to_the_same_octets(body):
    psdu = body + frame.crc16(body).to_bytes(2, "little")
    try:
        value = frame.decode(psdu)
    except RemoteError:
        return
    assert frame.encode(value) == psdu


@given(frames(), st.data())
def test_mutated_frames_with_a_good_check_sequence(value, data):
    body = bytearray(frame.encode(value)[:-2])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, min(len(body), 25) - 1))] = data.draw(st.integers(0, 255))
    psdu = bytes(body) + frame.crc16(bytes(body)).to_bytes(2, "little")
    try:
        again = frame.decode(psdu)
    except RemoteError:
        return
    assert frame.encode(again) == psdu


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("010000 4188", "more than"),
        ("f10000 4188 00 0100 0200 0300", "Reserved bits"),
        ("010000 5188 00 0100 0200 0300", "does not use"),
        ("010000 4198 00 0100 0200 0300", "does not use"),
        ("010000 4288 00 0100 0200 0300", "Frame type 2"),
        ("010000 4184 00 0100 0200 0300", "reserved"),
        ("010000 4180 00 0100 0200 0300", "compression"),
        ("010000 4188 00 0100", "addresses"),
        ("010000 4988 00 0100 0200 0300 0d 00", "integrity"),
        ("010000 4988 00 0100 0200 0300 0c 00000000 00 00000000", "ENC-MIC-32"),
        ("010001 4188 00 0100 0200 0300", "Segment length"),
        ("010000 0188 00 0100 0200 0100 0300", "equal PAN"),
    ],
)
def test_refusals_say_what_is_wrong(body, says):
    octets = bytes.fromhex(body)
    with pytest.raises(frame.FrameError, match=says):
        frame.decode(octets + frame.crc16(octets).to_bytes(2, "little"))


def test_encode_refuses_fields_that_do_not_fit():
    good = Frame(kind=FrameKind.DATA, sequence=1, payload=b"")
    for bad in (
        {"sequence": 256},
        {"destination": 0x10000},
        {"destination": b"short"},
        {"payload": bytes(1024)},
        {"segment": 64},
        {"mic": b"abcd"},
        {"counter": 5},
        {"counter": 1 << 32, "mic": b"abcd"},
    ):
        with pytest.raises(LocalError):
            frame.encode(Frame(**{f: getattr(good, f) for f in good.__struct_fields__} | bad))


@pytest.mark.parametrize("band", [CENELEC_A, FCC])
@given(st.data())
def test_tone_map_response_round_trip(band, data):
    response = command.ToneMapResponse(
        modulation=data.draw(st.sampled_from([Modulation(m) for m in range(4)])),
        tone_map=data.draw(st.integers(1, (1 << band.tone_groups) - 1)),
        lqi=data.draw(st.integers(0, 255)),
    )
    octets = command.encode_tone_map_response(response, band)
    assert octets[0] == 0x0A
    assert command.decode_tone_map_response(octets, band) == response


def test_tone_map_response_byte_for_byte():
    response = command.ToneMapResponse(modulation=Modulation.DQPSK, tone_map=0x3F, lqi=77)
    assert command.encode_tone_map_response(response, CENELEC_A) == bytes.fromhex("0a 04 3f 4d 000000 00")
    response = command.ToneMapResponse(modulation=Modulation.D8PSK, tone_map=0x0000FF, lqi=200)
    assert command.encode_tone_map_response(response, FCC) == bytes.fromhex("0a 03 ff0000 c8" + 12 * "00" + "00")


@given(st.binary(max_size=24), st.sampled_from([CENELEC_A, FCC]))
def test_command_fuzz(payload, band):
    for decoder in (
        lambda: command.decode_tone_map_response(payload, band),
        lambda: command.decode_beacon(payload),
    ):
        try:
            decoder()
        except RemoteError:
            continue


@given(st.builds(command.BeaconPayload, coordinator=st.booleans(), rc_coord=SHORT))
def test_beacon_round_trip(beacon):
    assert command.decode_beacon(command.encode_beacon(beacon)) == beacon
