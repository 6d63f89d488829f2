"""The mapping tables and their rules."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.mapping import cdc, quality, units, value
from flexmap.mapping.data import data_folder
from flexmap.mapping.table import behind, load, load_builtin, load_channels, load_products
from flexmap.model import ConfigurationError, Direction, Kind, LocalError, Part, Sample, obis
from flexmap.model import quality as q

TABLE = """
[meter-type]
id = "t"
title = "T"
product = "T"

[[point]]
name = "active-power"
title = "Active power"
kind = "instantaneous"
obis = "1-0:16.7.0"
class = 4
type = "double-long"
scaler = -1
unit = "W"
reference = "MMXN1.Watt"
cdc = "MV"
"""

SECOND = TABLE.split("\n\n", 1)[1]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.toml"
    path.write_text(text)
    return path


def test_both_product_types_load():
    types = load_builtin()
    assert set(types) == {"single-phase", "three-phase"}
    for meter_type in types.values():
        for point in (*meter_type.points, *meter_type.identity):
            assert cdc.place(point.reference).basic_type
            assert point.unit in units.BY_COSEM
            assert {register.part for register in point.registers} in (
                {Part.NET},
                {Part.PLUS, Part.MINUS},
                {Part.NET, Part.PLUS, Part.MINUS},
            )


def test_three_phase_has_every_phase_and_total():
    names = set(load_builtin()["three-phase"].index)
    for phase in ("l1", "l2", "l3"):
        for quantity in ("voltage", "current", "active-power", "reactive-power", "apparent-power", "power-factor"):
            assert f"{quantity}-{phase}" in names
        for direction in ("import", "export"):
            assert {f"energy-active-{direction}-{phase}", f"energy-reactive-{direction}-{phase}"} <= names


def test_direction_swaps_demand_and_supply():
    point = load_builtin()["single-phase"].points[0]
    assert point.reference_for(Direction.DEMAND).do == "DmdWh"
    assert point.reference_for(Direction.SUPPLY).do == "SupWh"


@pytest.mark.parametrize(
    ("change", "field", "what"),
    [
        (("1-0:16.7.0", "1-0:16.7"), "obis", "not an OBIS code"),
        (("1-0:16.7.0", "1-0:256.7.0"), "obis", "not an OBIS code"),
        (('"1-0:16.7.0"', '{ plus = "1-0:1.7.0" }'), "obis", "minus"),
        (('unit = "W"', 'unit = "kW"'), "unit", "'kW'"),
        (('cdc = "MV"', 'cdc = "BCR"'), "cdc", "cannot carry kind instantaneous"),
        (('cdc = "MV"', 'cdc = "XYZ"'), "cdc", "'XYZ'"),
        (("MMXN1.Watt", "Watt"), "reference", "'Watt'"),
        (('"double-long"', '"float"'), "type", "'float'"),
        (('kind = "instantaneous"', 'kind = "speed"'), "entry", "speed"),
        (("class = 4\n", ""), "entry", "class"),
        (("class = 4", "class = 4\nclas = 4"), "entry", "clas"),
        (("active-power", "Active Power"), "name", "Active Power"),
        (('cdc = "MV"', 'cdc = "MV"\ncontrol = "CSWI1.Pos"'), "control", "class 70"),
    ],
)
def test_errors_name_file_entry_and_field(tmp_path, change, field, what):
    path = write(tmp_path, TABLE.replace(*change))
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert f"field '{field}'" in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize("other", [SECOND, SECOND.replace("active-power", "other").replace("Watt", "Vol")])
def test_duplicates_are_refused(tmp_path, other):
    with pytest.raises(ConfigurationError, match="stands already"):
        load(write(tmp_path, TABLE + other))


def test_broken_toml_names_the_file(tmp_path):
    path = write(tmp_path, TABLE.replace("[[point]]", "[[point]"))
    with pytest.raises(ConfigurationError, match=str(path)):
        load(path)


def test_missing_table_names_the_file(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(tmp_path / "none.toml")


def test_unknown_obis_is_kept_as_ggio(tmp_path):
    text = TABLE.replace('reference = "MMXN1.Watt"\ncdc = "MV"\n', "")
    (point,) = load(write(tmp_path, text)).points
    assert (point.reference.ln, point.reference.do, point.reference.cdc) == ("GGIO9", "AnIn1", "MV")


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_obis_text_round_trip(a, c, f):
    octets = bytes((a, 0, c, 8, 0, f))
    assert obis.parse(obis.text(octets)) == octets


@pytest.mark.parametrize("text", ["", "1.8.0", "1-0:1.8.0.255.1", "a-b:c.d.e", "1-0:1.8.0.999", "-1-0:1.8.0"])
def test_bad_obis(text):
    with pytest.raises(LocalError):
        obis.parse(text)


points = load_builtin()["three-phase"].points
instantaneous = [point for point in points if point.kind is Kind.INSTANTANEOUS]


@given(st.sampled_from(instantaneous), st.floats(-1e5, 1e5))
def test_quantised_value_turns_back_into_its_register(point, number):
    number = abs(number) if len(point.registers) == 1 and "unsigned" in point.type else number
    shown = value.quantise(point, number)
    if len(point.registers) == 1:
        assert value.engineering(point, value.raw(point, shown)) == shown
    else:
        plus, minus = (value.raw(point, shown, part) for part in (Part.PLUS, Part.MINUS))
        assert value.engineering(point, plus - minus) == shown
        assert plus == 0 or minus == 0


def test_energy_register_rolls_over_and_never_becomes_a_float():
    point = load_builtin()["single-phase"].points[0]
    assert value.quantise(point, 2**32 + 5) == 5
    assert isinstance(value.quantise(point, 7.9), int)


def test_register_overflow_is_an_error():
    point = load_builtin()["single-phase"].points[0]
    with pytest.raises(OverflowError, match="energy-active-import"):
        value.raw(point, 2**32)


def test_age_and_clock_rules():
    sample = Sample("m", 5, (1.0, 2.0), (q.GOOD, q.INVALID))
    old = quality.age(sample)
    assert old.time == 5
    assert [q.describe(v) for v in old.quality] == ["questionable+oldData", "invalid+oldData"]
    assert quality.time_quality(0x80) & 0x60 == 0
    assert quality.time_quality(0x02) & q.CLOCK_NOT_SYNCHRONIZED
    assert quality.time_quality(0x01) & q.CLOCK_FAILURE
    assert quality.time_quality(0x08) & q.CLOCK_FAILURE


@given(st.integers(0, 2**13 - 1))
def test_quality_bits_round_trip(word):
    assert q.from_bits(q.to_bits(word)) == word


def test_quality_bits_on_the_wire():
    # IEC 61850-8-1: validity is the first pair of bits, 01 invalid, 11 questionable; failure is bit 6.
    assert q.to_bits(q.INVALID) == bytes.fromhex("4000")
    assert q.to_bits(q.QUESTIONABLE | q.OLD_DATA) == bytes.fromhex("c100")
    assert q.to_bits(q.NEVER_READ) == bytes.fromhex("4200")


def test_data_folders_exist():
    assert (data_folder("data") / "household-2007-02.csv").is_file()
    with pytest.raises(LocalError):
        data_folder("nowhere")


# --- channels ---------------------------------------------------------------------------------------------


def test_a_meter_behind_a_concentrator_has_the_points_of_the_channel_beside_its_own():
    alone, far = load_builtin()["single-phase"], load_products()["single-phase-g3-plc"]
    assert far.points == alone.points
    assert far.identity == alone.identity
    assert far.served == (*alone.points, *alone.rates, *load_channels()["g3-plc"].points)
    assert (alone.live, far.live) == (None, [point.name for point in far.channel].index("channel-live"))
    assert far.product != alone.product
    for point in far.channel:
        assert [register.class_id for register in point.registers] == [4], "each has a time and quality of its own"
        group_c, group_d = obis.parse(point.registers[0].obis)[2:4]
        assert (group_c, group_d) == (29, 128)


def test_an_own_table_with_a_point_of_the_channel_is_refused(tmp_path):
    own = load(write(tmp_path, TABLE.replace("1-0:16.7.0", "0-0:29.128.1")))
    with pytest.raises(ConfigurationError, match=r"meter type 't'.*0-0:29\.128\.1\.255.*messages-received"):
        behind(own, load_channels()["g3-plc"])


def test_a_silent_meters_value_is_invalid_and_old_and_keeps_its_details():
    assert quality.lost(q.GOOD) == q.INVALID | q.OLD_DATA
    assert quality.lost(q.QUESTIONABLE | q.OLD_DATA) == q.INVALID | q.OLD_DATA
    assert quality.lost(q.NEVER_READ) == q.NEVER_READ | q.OLD_DATA
    sample = Sample("m", 7, (1.0, None), (q.QUESTIONABLE | q.INACCURATE, q.NEVER_READ), 2)
    lost = quality.lose(sample)
    assert (lost.time, lost.values, lost.clock_status) == (7, (1.0, None), 2)
    assert lost.quality == (q.INVALID | q.INACCURATE | q.OLD_DATA, q.NEVER_READ | q.OLD_DATA)
    assert quality.lose(lost) == lost
