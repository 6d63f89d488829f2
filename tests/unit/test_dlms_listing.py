"""`flexmap dlms objects`: held to what the devices serve and to what clients are shown of their rights."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flexmap.cli.main import cli
from flexmap.dlms import axdr
from flexmap.dlms.profile import Role
from flexmap.faces.dlms.demand import demand_objects
from flexmap.faces.dlms.device import MeterDevice, management_device
from flexmap.faces.dlms.listing import access_text, listing
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.gateway import secrets
from flexmap.gateway.demo import SECRETS, DemoOptions, write_config
from flexmap.mapping.table import load_products
from flexmap.model import Direction, Meter, Sample, SamplePart, Site, obis
from flexmap.store import Store, StoreSettings

TYPES = load_products()
POINTS = StoreSettings().profile_points
PAGE = Path(__file__).parents[2] / "docs" / "objects.md"
ROLES = {"public": Role.PUBLIC, "read": Role.READER, "manage": Role.MANAGEMENT}


def run(*arguments):
    result = CliRunner().invoke(cli, ["dlms", "objects", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_is_what_the_command_prints():
    made = run("--markdown")
    assert PAGE.read_text() == made, "run: flexmap dlms objects --markdown > docs/objects.md"


@pytest.mark.parametrize("name", TYPES)
def test_types_are_those_of_the_values_that_a_device_serves(name, tmp_path):
    kind = TYPES[name]
    identity = {point.name: "x" for point in kind.identity}
    meter = Meter(id="m", type=name, ld="M", sap=17, identity=identity)
    objects = MeterObjects(kind, POINTS)
    store = Store(tmp_path / "s.sqlite", Site(name="s", ied="S", meters=(meter,), types={name: kind}))
    device = MeterDevice(meter, objects, make_buffers(store, meter, objects), lambda _: None)
    device.serve(demand_objects(store, "m", kind, objects.local))
    start = 1_795_392_000 - 1800
    store.append(
        Sample("m", (start + second) * 1000, (1,) * len(kind.points), (0,) * len(kind.points))
        for second in range(1802)
    )
    for part in SamplePart:
        values = tuple(1 for _ in kind.of_part(part))
        flags = {"channel": part is SamplePart.CHANNEL, "rates": part is SamplePart.RATES}
        device.update(Sample("m", 1_795_392_000_000, values, (0,) * len(values), **flags))
    compared = 0
    for each in listing(objects.schema, kind):
        for item in each.attributes:
            attribute = objects.schema.attribute(
                each.class_id.to_bytes(2, "big") + obis.parse(each.obis) + bytes((item.index,))
            )
            value = attribute.value
            if value is None:
                value = device.values[objects.schema.slot(each.class_id, obis.parse(each.obis), item.index)]
                value = value() if callable(value) else value
            if isinstance(value, bytes) and value != axdr.NULL:
                assert axdr.Tag(value[0]).name.lower().replace("_", "-") == item.type, (each.obis, item.name)
                compared += 1
    assert compared > 100
    store.close()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("client", ROLES)
def test_access_is_what_the_association_shows_that_client(name, client):
    schema = MeterObjects(TYPES[name], POINTS).schema
    shown = {
        (class_id, bytes(logical_name)): rights
        for class_id, _, logical_name, rights in axdr.decode(schema.view(ROLES[client]).object_list)
    }
    modes = {"": 0, "r": 1, "w": 2, "rw": 3, "r*": 4, "w*": 5, "rw*": 6, "x": 1, "x*": 2}
    for each in listing(schema, TYPES[name]):
        rights = shown.get((each.class_id, obis.parse(each.obis)))
        listed = [item.access[client] for item in (*each.attributes, *each.methods)]
        if rights is None:
            assert not any(listed[: len(each.attributes)])
        else:
            attributes, methods = rights
            assert [modes[text] for text in listed] == [*(a[1] for a in attributes), *(m[1] for m in methods)]


def test_every_object_of_a_busy_management_device_has_names():
    meter = Meter(id="m", type="single-phase-g3-plc", ld="M", sap=17)
    site = Site(name="s", ied="S", meters=(meter,), types={meter.type: TYPES[meter.type]})
    schema = management_device(site, bytes(8), lambda: 0, clients=(1, 2)).schema
    assert all(each.class_name and all(item.name for item in each.attributes) for each in listing(schema))


def test_iec_61850_names():
    kind = TYPES["single-phase"]
    schema = MeterObjects(kind, POINTS).schema
    demand, supply = (
        {each.obis: each for each in listing(schema, kind, direction, "M1")} for direction in Direction
    )
    energy = demand["1-0:1.8.0.255"]
    assert [item.iec61850 for item in energy.attributes] == [
        "",
        "M1/MMTR1.DmdWh.actVal",
        "M1/MMTR1.DmdWh.units",
        "M1/MMTR1.DmdWh.q",
        "M1/MMTR1.DmdWh.t",
    ]
    assert supply["1-0:1.8.0.255"].iec61850 == "M1/MMTR1.SupWh"
    assert demand["1-0:2.7.0.255"].iec61850 == "M1/MMXN1.Watt (-)"
    breaker = next(each for each in listing(schema, kind) if each.class_id == 70)
    assert [item.iec61850 for item in breaker.attributes][1:] == [
        "XSWI1.Pos.stVal",
        "GGIO1.IntIn1.stVal",
        "GGIO1.IntIn2.stVal",
    ]
    assert access_text(breaker, "manage") == "r1-4 w4 x1-2"
    assert access_text(breaker, "public") == ""


def test_a_configured_meter_and_json(tmp_path):
    (tmp_path / "site.toml").write_text(write_config(DemoOptions(meters=2)))
    secrets.write(tmp_path / "secrets.toml", SECRETS)
    options = ("--config", str(tmp_path / "site.toml"))
    titles = {row["meter"]: row["objects"] for row in json.loads(run(*options, "--json"))}
    assert titles.pop("management") > 8
    meter = next(iter(titles))
    listed = json.loads(run(meter, *options, "--json"))
    assert len(listed) == titles[meter]
    assert all(
        each["iec61850"].count("/") == 1 for each in listed if each["title"] and "demand" not in each["title"]
    )
    assert "MMTR1.DmdWh" in run("single-phase")
    refused = CliRunner().invoke(cli, ["dlms", "objects", "toaster"])
    assert "there is no 'toaster'" in str(refused.exception)
