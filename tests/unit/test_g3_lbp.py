"""LBP messages and configuration parameters, octet by octet, and hostile ones."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.g3 import lbp
from flexmap.g3.lbp import Kind, LbpError, Message, Outcome, ParameterError, ParameterResult, Parameters

EUI = bytes.fromhex("781d00fffe000005")
KEY = bytes(range(16))


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        (Kind.JOINING, "10"),
        (Kind.ACCEPTED, "90"),
        (Kind.CHALLENGE, "a0"),
        (Kind.DECLINE, "b0"),
        (Kind.LEAVE, "40"),
        (Kind.KICK, "c0"),
    ],
)
def test_messages(kind, first):
    octets = bytes.fromhex(first + "00" + EUI.hex() + "0c290004")
    assert Message(kind, EUI, bytes.fromhex("0c290004")).encode() == octets
    assert lbp.parse(octets) == Message(kind, EUI, bytes.fromhex("0c290004"))
    assert kind.to_device == (kind >= 8)


@pytest.mark.parametrize("octets", ["", "10", "100000", "2000" + "00" * 8, "1100" + "00" * 8, "1001" + "00" * 8])
def test_bad_messages(octets):
    with pytest.raises(LbpError):
        lbp.parse(bytes.fromhex(octets))


@pytest.mark.parametrize(
    ("parameters", "octets"),
    [
        (Parameters(short_address=0x1234), "1d021234"),
        (Parameters(keys=((1, KEY),)), "271101" + KEY.hex()),
        (Parameters(activate=1), "2b0101"),
        (Parameters(remove=0), "2f0100"),
        (Parameters(outcome=Outcome(ParameterResult.INVALID, 0x27)), "31020227"),
        (
            Parameters(short_address=5, keys=((0, KEY),), activate=0),
            "1d020005271100" + KEY.hex() + "2b0100",
        ),
        (Parameters(), ""),
    ],
)
def test_parameters(parameters, octets):
    assert parameters.encode().hex() == octets
    assert lbp.parse_parameters(bytes.fromhex(octets)) == parameters


@pytest.mark.parametrize(
    ("octets", "result", "parameter"),
    [
        ("1d", ParameterResult.INVALID, 0x1D),
        ("1d0200", ParameterResult.INVALID, 0x1D),
        ("1d0100", ParameterResult.INVALID, 0x1D),
        ("2b0102", ParameterResult.INVALID, 0x2B),
        ("271102" + "00" * 16, ParameterResult.INVALID, 0x27),
        ("2b01002b0100", ParameterResult.INVALID, 0x2B),
        (2 * ("271101" + "00" * 16), ParameterResult.INVALID, 0x27),
        ("31020400", ParameterResult.INVALID, 0x31),
        ("050100", ParameterResult.UNKNOWN, 0x05),
    ],
)
def test_bad_parameters_say_what_the_answer_must_say(octets, result, parameter):
    with pytest.raises(ParameterError) as caught:
        lbp.parse_parameters(bytes.fromhex(octets))
    assert (caught.value.result, caught.value.parameter) == (result, parameter)


@given(st.binary(max_size=60))
def test_any_octets_parse_to_what_encodes_to_them_or_are_refused(octets):
    with contextlib.suppress(LbpError):
        assert lbp.parse(octets).encode() == octets


def test_mutants_of_parameters():
    rng = random.Random(3)
    octets = Parameters(5, ((0, KEY), (1, KEY)), 0, 1, Outcome(ParameterResult.SUCCESS)).encode()
    refused = 0
    for _ in range(5000):
        mutant = bytearray(octets)
        for _ in range(rng.randrange(1, 4)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        try:
            lbp.parse_parameters(bytes(mutant[: rng.randrange(len(mutant) + 1)]))
        except LbpError:
            refused += 1
    assert 0 < refused < 5000
