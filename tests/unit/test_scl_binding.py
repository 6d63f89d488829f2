import pytest
from hypothesis import given
from hypothesis import strategies as st
from scl_site import TYPES

from flexmap.model import LocalError, Part, Register
from flexmap.scl.binding import format_binding, parse_binding

octet = st.integers(0, 255)
code = st.tuples(octet, octet, octet, octet, octet, octet).map(lambda o: "{}-{}:{}.{}.{}.{}".format(*o))
register = st.tuples(code, st.integers(0, 65535), st.integers(-128, 127))


def test_forms():
    assert format_binding((Register("1-0:1.8.0.255", 4, 2),)) == "1-0:1.8.0.255;4;2"
    split = (Register("1-0:3.7.0.255", 4, 2, Part.PLUS), Register("1-0:4.7.0.255", 4, 2, Part.MINUS))
    assert format_binding(split) == "+1-0:3.7.0.255;4;2 -1-0:4.7.0.255;4;2"


@given(st.lists(register, min_size=3, max_size=3), st.sampled_from(["net", "split", "all"]))
def test_round_trip(items, form):
    parts = {"net": [Part.NET], "split": [Part.PLUS, Part.MINUS], "all": [Part.NET, Part.PLUS, Part.MINUS]}[form]
    registers = tuple(Register(*item, part) for item, part in zip(items, parts, strict=False))
    assert parse_binding(format_binding(registers)) == registers


@pytest.mark.parametrize("meter_type", TYPES.values(), ids=list(TYPES))
def test_every_point_of_the_table_survives(meter_type):
    points = (*meter_type.points, *meter_type.identity)
    assert len(points) > 10
    for point in points:
        assert parse_binding(format_binding(point.registers)) == point.registers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "1-0:1.8.0",
        "1-0:1.8.0.255",
        "1-0:1.8.0.255;4",
        "1-0:1.8.0.256;4;2",
        "1-0:1.8.0.255;4;2;1",
        "*1-0:1.8.0.255;4;2",
        "+1-0:1.7.0.255;4;2",
        "1-0:1.7.0.255;4;2 1-0:2.7.0.255;4;2",
        "1-0:1.7.0.255;4;2 -1-0:2.7.0.255;4;2",
    ],
)
def test_what_is_no_binding_is_refused(text):
    with pytest.raises(LocalError):
        parse_binding(text)


@given(st.text(max_size=60))
def test_any_text_is_a_binding_or_an_error(text):
    try:
        registers = parse_binding(text)
    except LocalError:
        return
    assert parse_binding(format_binding(registers)) == registers
