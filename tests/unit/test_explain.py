"""The lineage of a value: from the record's field to the control blocks that report it."""

import json

import pytest
from click.testing import CliRunner

from flexmap.cli.explain import explain
from flexmap.gateway import config as configuration
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError
from flexmap.scl.generate import FileKind, generate
from flexmap.sources.concentrator.lineage import fields_of, layout_of
from flexmap.stcomet.record import Layout, Record, Slots, State


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "site.toml"
    path.write_text(write_config(DemoOptions(meters=2, port="pty:gateway-shell")))
    return path


def told(config, *arguments):
    result = CliRunner().invoke(explain, [*map(str, arguments), "--config", str(config), "--json"])
    if isinstance(result.exception, ConfigurationError):
        raise result.exception
    assert result.exit_code == 0, result.output
    found = {}
    for row in json.loads(result.output):
        found.setdefault(row["stage"], []).append(row["what"])
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("FLEXGWSM0001/MMXN1.Vol",),
        ("FLEXGWSM0001/MMXN1.Vol.mag.f",),
        ("SM0001/MMXN1.Vol.q",),
        ("MMXN1.Vol", "--meter", "SM0001"),
        ("1-0:32.7.0", "--meter", "SM0001"),
        ("1-0:32.7.0.255", "--meter", "SM0001"),
        ("voltage", "--meter", "SM0001"),
    ],
)
def test_a_point_has_many_names(config, arguments):
    found = told(config, *arguments)
    assert found["COSEM name"] == ["SAP 1001, 1-0:32.7.0.255;4;2"]
    assert found["IEC 61850 name"] == ["FLEXGWSM0001/MMXN1.Vol.mag.f [MX], class MV, FLOAT32"]
    assert found["register"] == ["class 4, object 1-0:32.7.0.255, attribute 2; long-unsigned"]
    assert found["scaler"] == ["value = raw × 10^-1 V; converted once, to a float"]
    assert found["unit"] == ["COSEM 35 (V), SIUnit 29 ('V')"]
    assert found["frame"][0].startswith("measured[1]: octets 63 to 66 of metro_data_store_t")
    assert "concentrator at pty:" in found["source"][0]
    (report,) = found["reported by"]
    assert report.startswith(
        "FLEXGWSM0001/LLN0.urMeas (unbuffered), data set Meas, confRev 1, triggers dchg qchg "
    )
    assert any("questionable+oldData once older than 60 s" in text for text in found["quality"])


def test_direction_control_and_what_is_derived(config):
    """An infeed's import flows towards the busbar; a breaker has two names; energies have demands and rates."""
    assert told(config, "1-0:1.8.0", "--meter", "SUB1")["IEC 61850 name"][0].startswith("FLEXGWSUB1/MMTR1.SupWh.")
    found = told(config, "1-0:1.8.0", "--meter", "SM0001")
    assert found["IEC 61850 name"] == ["FLEXGWSM0001/MMTR1.DmdWh.actVal [ST], class BCR, INT64, pulsQty 1"]
    assert found["frame"][0].startswith("energies[0]: octets 19 to 26")
    assert any("1-0:1.4.0.255, maximum 1-0:1.6.0.255" in text for text in found["derived"])
    assert [text.partition(" ")[0] for text in found["reported by"]] == [
        "FLEXGWGW/LLN0.brAllEnergy",
        "FLEXGWSM0001/LLN0.brEnergy",
    ]
    breaker = told(config, "breaker", "--meter", "SM0002")
    assert [name.partition(" ")[0] for name in breaker["IEC 61850 name"]] == [
        "FLEXGWSM0002/XSWI1.Pos.stVal",
        "FLEXGWSM0002/CSWI1.Pos.stVal",
    ]
    assert breaker["command"][0].startswith("CSWI1.Pos")
    assert "status" in breaker["frame"][0]


def test_what_is_not_from_the_meter_is_told(config):
    assert "tables of the line" in told(config, "channel-live", "--meter", "SM0001")["frame"][0]
    assert "identity" in told(config, "serial-number", "--meter", "SM0001")["source"][0]
    assert "tariff" in told(config, "1-0:1.8.1", "--meter", "SM0001")["source"][0]
    assert told(config, "1-0:33.7.0", "--meter", "SUB1")["frame"][0].startswith("measured[")


def test_what_is_meant_twice_or_not_at_all_is_refused(config):
    with pytest.raises(ConfigurationError, match="3 times") as caught:
        told(config, "1-0:1.8.0")
    assert "SUB1, SM0001, SM0002" in caught.value.remedy
    for name in ("nonsense", "9-0:1.8.0", "SM0001/MMXN9.Vol", "OTHERSM0001/MMXN1.Vol"):
        with pytest.raises(ConfigurationError, match="nothing is called"):
            told(config, name)
    with pytest.raises(ConfigurationError, match="nothing is called"):
        told(config, "voltage", "--meter", "SM0099")


def test_names_of_an_engineered_file(config, tmp_path):
    scl = generate(configuration.load(config).site, FileKind.CID).decode()
    path = tmp_path / "station.cid"
    path.write_text(scl.replace('"FLEXGW"', '"BAY7"'))
    found = told(config, "BAY7SM0001/MMXN1.Vol", "--scl", path)
    assert found["IEC 61850 name"] == ["BAY7SM0001/MMXN1.Vol.mag.f [MX], class MV, FLOAT32"]
    assert found["reported by"][0].startswith("BAY7SM0001/LLN0.urMeas")


@pytest.mark.parametrize("name", ["single-phase", "three-phase"])
def test_every_field_is_where_the_record_has_it(name):
    """Octets of a field are those that change in a stored record when the field does."""
    meter_type = load_products()[name]
    layout = layout_of(meter_type)
    assert layout is (Layout.SINGLE_PHASE if name == "single-phase" else Layout.THREE_PHASE)
    fields = {field for found in fields_of(meter_type, layout).values() for field in found}
    assert len(fields) > 10
    base = Record(1, 2, State(1, 3, 1), (5,) * layout.energies, (6,) * layout.measured)
    for field in fields:
        kind, _, index = field.name.rstrip("]").partition("[")
        changed = {"energies": list(base.energies), "measured": list(base.measured)}
        if index:
            changed[kind][int(index)] += 1
            other = Record(1, 2, base.state, tuple(changed["energies"]), tuple(changed["measured"]))
        else:
            state = {"status": 1, "breaker_operations": 3, "cover_openings": 1} | {kind: 7}
            other = Record(1, 2, State(**state), base.energies, base.measured)
        memories = []
        for record in (base, other):
            slots = Slots(layout, 1)
            slots[0] = record
            memories.append(bytes(slots._memory))
        places = [place for place, (a, b) in enumerate(zip(*memories, strict=True)) if a != b]
        assert places
        assert field.offset <= min(places) <= max(places) < field.offset + field.octets


def test_records_do_not_carry_everything():
    meter_type = load_products()["single-phase"]
    fields = fields_of(meter_type, Layout.SINGLE_PHASE)
    assert [field.name for field in fields["power-factor"]] == ["measured[2]", "measured[4]"]
    assert set(fields) == {point.name for point in meter_type.points}
