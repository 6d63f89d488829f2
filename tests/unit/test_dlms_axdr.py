"""A-XDR and COSEM date-time."""

import contextlib
import datetime as dt
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmap.dlms import axdr, cosem_time
from flexmap.dlms.axdr import AxdrError
from flexmap.model.error import LocalError


@pytest.mark.parametrize(
    ("type_name", "value", "octets"),
    [
        ("null-data", None, "00"),
        ("boolean", True, "0301"),
        ("boolean", False, "0300"),
        ("bit-string", "1010110", "0407ac"),
        ("double-long", -2, "05fffffffe"),
        ("double-long-unsigned", 4294967295, "06ffffffff"),
        ("octet-string", b"\x01\x02", "09020102"),
        ("visible-string", "AB", "0a024142"),
        ("utf8-string", "µ", "0c02c2b5"),
        ("bcd", 0x12, "0d12"),
        ("integer", -1, "0fff"),
        ("long", -300, "10fed4"),
        ("unsigned", 200, "11c8"),
        ("long-unsigned", 65535, "12ffff"),
        ("long64", -(2**63), "148000000000000000"),
        ("long64-unsigned", 2**64 - 1, "15ffffffffffffffff"),
        ("enum", 30, "161e"),
        ("float32", 1.5, "173fc00000"),
        ("float64", -2.25, "18c002000000000000"),
        ("date", b"\x07\xea\x01\x02\xff", "1a07ea0102ff"),
        ("time", b"\x01\x02\x03\xff", "1b010203ff"),
    ],
)
def test_each_type_both_ways(type_name, value, octets):
    assert axdr.encode(type_name, value).hex() == octets
    assert axdr.decode(bytes.fromhex(octets)) == value


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("unsigned", 256),
        ("unsigned", -1),
        ("long", 40000),
        ("enum", 256),
        ("double-long-unsigned", "12"),
        ("date-time", b"short"),
        ("bit-string", "012"),
        ("no-such-type", 1),
    ],
)
def test_a_value_that_does_not_fit_is_a_local_error(type_name, value):
    with pytest.raises(LocalError):
        axdr.encode(type_name, value)


def test_nested_values_keep_their_kind():
    octets = axdr.array([axdr.structure(axdr.encode("enum", 1), axdr.octet_string(b"x" * 200))])
    value = axdr.decode(octets)
    assert value == [(1, b"x" * 200)]
    assert isinstance(value[0][0], axdr.Enumerated)
    assert axdr.take_value(octets + b"rest", 0) == (octets, len(octets))


def test_compact_array_of_structures():
    # structure of long-unsigned and array of 2 unsigned, two elements
    octets = bytes.fromhex("13 02 02 12 01 0002 11 08 0001 0a0b 0002 0c0d".replace(" ", ""))
    assert axdr.decode(octets) == [(1, [10, 11]), (2, [12, 13])]


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "01",
        "0184ffffffff00",  # array of 2^32 - 1 elements
        "0182ffff" + "00" * 100,
        "0984ffffffff",  # octet string of 4 GiB
        "0485ffffffffff",
        "02" * 3,
        "0101" * 40 + "00",  # nesting
        "13" + "0101ffff" * 6 + "00" + "01" + "00",  # compact array of 65535^6 nulls
        "1300" + "01" + "00",  # null-data has no width
        "13" + "01ffff" * 5 + "11" + "0411111111",
        "1302" + "84ffffffff" + "1100",
        "1313" + "11" + "0100",
        "1300",
        "0800",  # unknown tag
        "0000",  # left over
    ],
)
def test_bombs_and_malformed_octets_are_refused_quickly(octets):
    start = time.perf_counter()
    with pytest.raises(AxdrError):
        axdr.decode(bytes.fromhex(octets))
    assert time.perf_counter() - start < 0.5


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_octets_decode_or_raise_axdr_error(octets):
    with contextlib.suppress(AxdrError):
        axdr.decode(octets)


_LEAVES = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(lambda n: (axdr.encode("double-long", n), n)),
    st.binary(max_size=200).map(lambda b: (axdr.octet_string(b), b)),
    st.just((axdr.NULL, None)),
    st.text("01", max_size=40).map(lambda b: (axdr.encode("bit-string", b), b)),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=5).flatmap(
        lambda items: st.sampled_from(
            [
                (axdr.array([o for o, _ in items]), [v for _, v in items]),
                (axdr.structure(*(o for o, _ in items)), tuple(v for _, v in items)),
            ]
        )
    ),
    max_leaves=30,
)


@given(_TREES)
@settings(max_examples=50, deadline=None)
def test_trees_come_back_as_they_went(tree):
    octets, value = tree
    try:
        assert axdr.decode(octets) == value
    except AxdrError as error:
        assert "deep" in str(error)


# --- date-time


def test_central_european_time_has_deviation_minus_60():
    # 2026-01-15 12:00:00 CET is 11:00:00 UTC
    instant = int(dt.datetime(2026, 1, 15, 11, tzinfo=dt.UTC).timestamp() * 1000)
    octets = cosem_time.encode(instant, deviation=-60, status=0)
    assert octets.hex() == "07ea010f040c000000ffc400"
    assert cosem_time.to_epoch_ms(octets) == instant


def test_the_daylight_saving_hour_comes_twice_and_stays_apart():
    first = bytes.fromhex("07ea0a1907021e0000ff8880")  # 02:30 CEST
    second = bytes.fromhex("07ea0a1907021e0000ffc400")  # 02:30 CET
    assert cosem_time.to_epoch_ms(second) - cosem_time.to_epoch_ms(first) == 3_600_000


def test_unspecified_fields():
    fields = cosem_time.decode(cosem_time.NOT_SPECIFIED)
    assert fields == cosem_time.DateTime(*(None,) * 10)
    assert cosem_time.encode_fields(fields) == cosem_time.NOT_SPECIFIED
    with pytest.raises(cosem_time.CosemTimeError):
        fields.epoch_ms()
    # hundredths 0xFF count as 0, deviation 0x8000 takes the default
    octets = bytes.fromhex("07ea010f040c0000ff8000ff")
    assert cosem_time.to_epoch_ms(octets, -60) == cosem_time.to_epoch_ms(bytes.fromhex("07ea010f040c000000ffc400"))


@pytest.mark.parametrize("octets", ["07ea021e010c000000000000", "07eafe01010c000000000000", "07ea"])
def test_impossible_dates(octets):
    with pytest.raises(cosem_time.CosemTimeError):
        cosem_time.to_epoch_ms(bytes.fromhex(octets))


@given(st.integers(-62_000_000_000_000, 250_000_000_000_000), st.integers(-720, 840))
def test_every_instant_comes_back_to_the_hundredth(epoch_ms, deviation):
    octets = cosem_time.encode(epoch_ms, deviation)
    assert cosem_time.to_epoch_ms(octets) == epoch_ms // 10 * 10
    assert cosem_time.encode_fields(cosem_time.decode(octets)) == octets
