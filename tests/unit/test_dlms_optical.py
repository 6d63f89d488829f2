"""The optical port's sign-on (IEC 62056-21 mode E), message by message."""

import random

import pytest

from flexmap.dlms.optical import OPENING_SPEED, Phase, SignOn, with_parity


def seven(octets):
    return bytes(octet & 0x7F for octet in octets)


def signed_on(now=0.0, **changes):
    sign_on = SignOn("FLX", 9600, **changes)
    step = sign_on.receive(b"/?!\r\n", now)
    assert seven(step.octets) == b"/FLX5\\2flexmap\r\n"
    assert (step.speed, sign_on.phase) == (300, Phase.OFFERED)
    assert step.wait >= 0.2
    return sign_on


def test_characters_have_even_parity():
    assert with_parity(b"/?!\r\n") == bytes.fromhex("af3f218d0a")
    assert all(octet.bit_count() % 2 == 0 for octet in with_parity(bytes(range(128))))


@pytest.mark.parametrize(("code", "speed"), [(b"0", 300), (b"4", 4800), (b"5", 9600)])
def test_mode_e(code, speed):
    sign_on = signed_on()
    step = sign_on.receive(with_parity(b"\x062" + code + b"2\r\n"), 1.5)
    assert seven(step.octets) == b"\x062" + code + b"2\r\n"
    assert step.speed == sign_on.speed == speed
    assert sign_on.phase is Phase.BINARY


def test_message_octet_by_octet_behind_noise():
    sign_on = SignOn("FLX", 9600)
    noise = random.Random(1).randbytes(500).replace(b"\n", b"").replace(b"\x8a", b"")
    steps = [sign_on.receive(bytes((octet,)), 0.0) for octet in noise + with_parity(b"/?!\r\n")]
    assert [step is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert len(sign_on._rest) <= 64


@pytest.mark.parametrize(
    ("request_", "answered"),
    [
        (b"/?!\r\n", True),
        (b"/?12345!\r\n", True),
        (b"/?00012345!\r\n", True),
        (b"/?12346!\r\n", False),
        (b"/?!\n", False),
        (b"/!\r\n", False),
        (b"/?" + b"1" * 33 + b"!\r\n", False),
    ],
)
def test_device_address(request_, answered):
    assert (SignOn("FLX", 9600, address="12345").receive(request_, 0) is not None) == answered


@pytest.mark.parametrize(
    "message", [b"\x06052\r\n", b"\x06050\r\n", b"\x06051\r\n", b"\x06262\r\n", b"\x062x2\r\n", b"\x06250\r\n"]
)
def test_what_is_not_hdlc_or_too_fast_ends_the_sign_on(message):
    sign_on = signed_on()
    step = sign_on.receive(message, 1)
    assert (step.octets, step.speed, sign_on.phase) == (b"", OPENING_SPEED, Phase.IDLE)
    assert sign_on.receive(b"\x06252\r\n", 1) is None


def test_an_acknowledgement_alone_does_nothing():
    assert SignOn("FLX", 9600).receive(b"\x06252\r\n", 0) is None


def test_time_limits():
    sign_on = signed_on(now=100)
    assert sign_on.expire(103) is None
    assert sign_on.expire(104.5).speed == 300
    assert sign_on.phase is Phase.IDLE
    sign_on = signed_on(now=100)
    assert sign_on.receive(b"\x06252\r\n", 110) is None  # too late
    sign_on = signed_on()
    sign_on.receive(b"\x06252\r\n", 1)
    assert sign_on.expire(11) is None
    assert sign_on.expire(11.3).speed == 300
    assert (sign_on.phase, sign_on.speed) == (Phase.IDLE, 300)
    sign_on = signed_on()
    sign_on.receive(b"\x06252\r\n", 1)
    sign_on.set_up()
    assert sign_on.expire(1e9) is None


def test_a_reading_device_may_begin_again():
    sign_on = signed_on()
    assert seven(sign_on.receive(b"/?!\r\n", 1).octets) == b"/FLX5\\2flexmap\r\n"
    assert sign_on.receive(b"\x06252\r\n", 2).speed == 9600


def test_10000_broken_messages():
    chance = random.Random(3)
    sign_on = SignOn("FLX", 19200)
    for number in range(10_000):
        octets = bytearray(chance.choice((b"/?!\r\n", b"\x06262\r\n", b"/?1!\r\n")))
        octets[chance.randrange(len(octets))] = chance.randrange(256)
        step = sign_on.receive(bytes(octets), number * 0.5)
        assert step is None or step.speed in (300, 19200)
        if sign_on.phase is Phase.BINARY:
            sign_on.leave()
        assert len(sign_on._rest) <= 64
