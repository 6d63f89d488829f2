"""The box's own MMS client, against the engine and against a server that we did not write."""

import socket

import pytest
from mms_harness import core, until
from mms_site import T0, sample

from flexmap.faces.mms_client import MmsClient, Reading
from flexmap.model import RemoteError, quality


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def client(request, tmp_path_factory):
    with core(tmp_path_factory.mktemp("core"), engine=request.param) as engine:
        engine.update(sample("SM_1"), sample("SM_2", quality=(0, 0, 66, 0, 0, 0, 0), clock_status=1))
        with MmsClient.open("127.0.0.1", engine.port) as opened:
            until(lambda: opened.read(["FMTESTM2/MMTR1.SupWh"])[0].value)
            yield opened


def reading(**fields):
    return Reading(quality=0, time=T0, time_quality=10, **fields)


def test_a_data_object_is_read_with_quality_time_and_its_measure(client):
    assert client.read(
        ["FMTESTM1/MMTR1.DmdWh", "FMTESTM1/MMXN1.Watt", "FMTESTM1/MMXU1.PhV", "FMTESTM1/CSWI1.Pos"]
    ) == [
        reading(
            reference="FMTESTM1/MMTR1.DmdWh",
            fc="ST",
            attribute="actVal",
            value=2**53 + 1,
            type="INTEGER",
            unit="Wh",
            pulse_quantity=1.0,
        ),
        reading(reference="FMTESTM1/MMXN1.Watt", fc="MX", attribute="mag.f", value=1500.5, type="FLOAT", unit="W"),
        reading(
            reference="FMTESTM1/MMXU1.PhV.phsA",
            fc="MX",
            attribute="cVal.mag.f",
            value=230.25,
            type="FLOAT",
            unit="V",
        ),
        reading(reference="FMTESTM1/CSWI1.Pos", fc="ST", attribute="stVal", value=2, type="Dbpos"),
    ]


def test_bad_quality_and_a_failed_clock_are_read_as_such(client):
    (power,) = client.read(["FMTESTM2/MMXN1.Watt"])
    assert power.quality == quality.INVALID | quality.FAILURE
    assert power.time_quality == quality.CLOCK_FAILURE | quality.ACCURACY_MILLISECOND


def test_an_attribute_is_read_by_its_own_name(client):
    serial, model, leaf = client.read(
        ["FMTESTM1/LPHD1.PhyNam.serNum", "FMTESTM1/CSWI1.Pos.ctlModel", "FMTESTM1/MMXN1.Watt.mag.f"]
    )
    assert (serial.value, serial.fc) == ("SM_0001", "DC")
    assert (model.value, model.fc) == (4, "CF")
    assert (leaf.value, leaf.quality, leaf.time, leaf.unit) == (1500.5, 0, T0, "W")


def test_a_whole_device_is_read_at_once(client):
    readings = {reading.reference: reading for reading in client.read(["FMTESTM1"])}
    assert readings["FMTESTM1/MMTR1.SupWh"].value == 22
    assert readings["FMTESTM1/LPHD1.Proxy"].value is True
    assert not any(reading.error for reading in readings.values())


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("NOLD/LLN0.Mod", "no logical device NOLD"),
        ("FMTESTM1/NOLN1.Mod", "no logical node FMTESTM1/NOLN1"),
        ("FMTESTM1/MMXN1.TotW", "no value at FMTESTM1/MMXN1.TotW"),
    ],
)
def test_what_is_not_there_is_named_and_the_rest_is_read(client, reference, words):
    missing, found = client.read([reference, "FMTESTM1/MMXN1.Watt"])
    assert words in missing.error
    assert found.value == 1500.5


def test_browse_gives_the_tree_with_functional_constraints(client):
    devices = client.browse().devices
    assert sorted(devices) == ["FMTESTGW", "FMTESTM1", "FMTESTM2"]
    (meter,) = [node for node in devices["FMTESTM1"] if node.name == "MMXN1"]
    (watt,) = [node for node in meter.data["MX"] if node.name == "Watt"]
    assert [(child.name, child.type) for child in watt.children] == [
        ("mag", "STRUCTURE"),
        ("q", "BIT-STRING"),
        ("t", "UTC-TIME"),
    ]


def test_a_server_that_is_not_there_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RemoteError, match=f"no MMS association with 127.0.0.1:{port}"):
        MmsClient.open("127.0.0.1", port)


def test_a_server_that_goes_away_is_a_clear_error(tmp_path):
    with core(tmp_path) as engine:
        client = MmsClient.open("127.0.0.1", engine.port)
    with pytest.raises(RemoteError):
        client.browse()
    client.close()
