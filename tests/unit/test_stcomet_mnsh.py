"""The minishell's lines, requests and replies, both ways; and what is no line at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.stcomet import catalogue, mnsh
from flexmap.stcomet.mnsh import ErrorCode, LineSplitter, Mark, MnshError


def code_of(line: str) -> ErrorCode:
    with pytest.raises(MnshError) as caught:
        catalogue.parse(line)
    return caught.value.code


@pytest.mark.parametrize(
    "line",
    [
        "APP GET_DATA_STREAM 10 SM_ID1",
        "<APP> <GET_DATA_STREAM> <10> <SM_ID1>",
        'app get_data_stream 0xA "SM_ID1"',
        "  APP   GET_DATA_STREAM  0x0000000a SM_ID1  ",
    ],
)
def test_the_seeds_request(line):
    request = catalogue.parse(line)
    assert request.command.usage == "APP GET_DATA_STREAM <count> <meter>"
    assert request.arguments == (10, "SM_ID1")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("NONE GET 1", ErrorCode.MODULE),
        ("APP NONE", ErrorCode.COMMAND),
        ("APP", ErrorCode.COMMAND),
        ("APP GET_DATA_STREAM 10", ErrorCode.COUNT),
        ("APP GET_DATA_STREAM 10 SM_ID1 1", ErrorCode.COUNT),
        ("APP GET_DATA_STREAM ten SM_ID1", ErrorCode.PARAMETER),
        ("APP GET_DATA_STREAM -1 SM_ID1", ErrorCode.PARAMETER),
        ("APP CLOCK SM_ID1 4294967296 0 0", ErrorCode.PARAMETER),
        ("APP CLOCK SM_ID1 0x100000000 0 0", ErrorCode.PARAMETER),
        ("APP BREAKER SM_ID1 4 0", ErrorCode.PARAMETER),
        ('APP IDENTITY ""', ErrorCode.PARAMETER),
        ('APP IDENTITY "SM_ID1', ErrorCode.SYNTAX),
        ('APP IDENTITY SM"1"', ErrorCode.SYNTAX),
        ("", ErrorCode.MODULE),
    ],
)
def test_wrong_requests_are_told_apart(line, code):
    assert code_of(line) is code


def test_what_is_wrong_is_said_in_ascii():
    with pytest.raises(MnshError, match=r"^APP wants a command: see HELP APP$"):
        catalogue.parse("APP")
    with pytest.raises(MnshError, match=r"^start is a 32-bit number, decimal or 0x\.\.\.$"):
        catalogue.parse("APP EVENTS SM_ID1 ten")


def test_32_bits_are_taken_in_both_forms():
    assert (
        catalogue.parse("APP CLOCK M 4294967295 0 0").arguments
        == catalogue.parse("APP CLOCK M 0xFFFFFFFF 0 0").arguments
    )


def test_help_names_every_command_once_and_modules_apart():
    everything = catalogue.help_lines()
    assert len(everything) == len(catalogue.COMMANDS) == len(set(everything))
    assert sum(len(catalogue.help_lines(module)) for module in catalogue.MODULES) == len(everything)
    with pytest.raises(MnshError, match="no module X"):
        catalogue.help_lines("x")


def test_lines_end_with_cr_lf_or_both_and_long_ones_are_one_error():
    splitter = LineSplitter(10)
    assert list(splitter.feed(b"one\r\ntwo\n\nth")) == ["one", "two"]
    assert list(splitter.feed(b"ree\r")) == ["three"]
    assert list(splitter.feed(b"x" * 11)) == []
    assert list(splitter.feed(b"y" * 500)) == []
    (error, after) = list(splitter.feed(b"z\nfour\n"))
    assert isinstance(error, MnshError)
    assert after == "four"
    (error,) = list(splitter.feed(b"\xc3\xa4\n"))
    assert isinstance(error, MnshError)


@given(st.lists(st.text()), st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.text()))
def test_what_is_written_is_read(plain, fields):
    fields.pop("tag", None)
    fields.pop("mark", None)
    fields = {f"k{key}": value for key, value in fields.items()}
    text = mnsh.line(Mark.DATA, *plain, tag=7, **fields)

    def shown(value):
        return "".join(c if c.isascii() and c.isprintable() else "?" for c in value)

    read = mnsh.parse_line(text)
    assert read.words == tuple(map(shown, plain))
    assert read.fields == {key: shown(value) for key, value in fields.items()}
    assert (read.tag, read.mark) == (7, Mark.DATA)


@given(st.binary(max_size=300))
def test_octets_travel_and_damage_is_seen(octets):
    text = mnsh.line(Mark.DATA, **mnsh.hex_fields(octets))
    assert mnsh.octets_of(mnsh.parse_line(text)) == octets
    if octets:
        place = text.index("hex=") + 4
        damaged = text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]
        with pytest.raises(MnshError):
            mnsh.octets_of(mnsh.parse_line(damaged))


def test_a_request_line_is_read_as_it_was_meant():
    for name in ("SM_ID1", "a b", 'q"q', "<x>", "back\\slash", "a=b"):
        tag, rest = mnsh.split_tag(mnsh.checked(mnsh.request_line("APP IDENTITY", name, tag=12)))
        assert tag == 12
        assert catalogue.parse(rest).arguments == (name,)


def test_fuzz_requests_and_replies_end_in_a_result_or_an_mnsh_error():
    draw = random.Random(7)
    seeds = [
        b"#1 APP GET_DATA_STREAM 10 SM_ID1\n",
        b'= ERROR COUNT text="wrong"\n',
        mnsh.line(Mark.DATA, "x", tag=3, **mnsh.hex_fields(b"abc")).encode() + b"\n",
        b"! EVENT meter=SM1 code=40\n",
        b"HELP APP\n",
    ]
    results = {"taken": 0, "refused": 0}
    requests, replies = LineSplitter(mnsh.MAX_REQUEST), LineSplitter(mnsh.MAX_REPLY)

    def act(text):
        try:
            mnsh.split_tag(text)
            catalogue.parse(mnsh.split_tag(text)[1])
            results["taken"] += 1
        except MnshError:
            results["refused"] += 1
        try:
            mnsh.octets_of(mnsh.parse_line(text))
            results["taken"] += 1
        except MnshError:
            results["refused"] += 1

    for _ in range(20_000):
        octets = bytearray(draw.choice(seeds))
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(octets))
            match draw.randrange(3):
                case 0:
                    octets[place] = draw.randrange(256)
                case 1:
                    octets[place:place] = draw.randbytes(draw.randrange(5))
                case _:
                    del octets[place : place + draw.randrange(1, 4)]
                    octets = octets or bytearray(b"\n")
        for splitter in (requests, replies):
            for text in splitter.feed(bytes(octets)):
                if isinstance(text, str):
                    act(text)
    assert min(results.values()) > 1000
