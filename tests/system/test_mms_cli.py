"""`flexmap mms` against libiec61850's server."""

import json
import socket

import pytest
from gateway_harness import flexmap, gateway


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("mms"), meters=2) as running:
        running.wait_read()
        yield f"mms://127.0.0.1:{running.mms}"


def told(*arguments):
    done = flexmap("mms", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments):
    done = flexmap("mms", *arguments)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    return done.stderr


def test_browse(url):
    devices = json.loads(told("browse", url, "--json"))
    assert set(devices) == {"FLEXGWGW", "FLEXGWSUB1", "FLEXGWSM0001", "FLEXGWSM0002"}
    assert "MMXN1" in told("browse", url)
    tree = json.loads(told("browse", f"{url}/FLEXGWSM0001", "--json"))
    assert tree["MMXN1"]["data"]["MX"]["Watt"] == {"mag": {"f": "FLOAT"}, "q": "BIT-STRING", "t": "UTC-TIME"}
    assert set(tree["LLN0"]["data_sets"]) == {"Meas", "Energy", "State"}
    assert "brState01" in tree["LLN0"]["control_blocks"]["BR"]
    text = told("browse", f"{url}/FLEXGWSM0001/CSWI1")
    assert "Pos [CO]" in text
    assert "SBOw(ctlVal origin(orCat orIdent) ctlNum T Test Check)" in text
    assert "there are" in refused("browse", f"{url}/FLEXGWSM0001/NONE1")


def test_read_agrees_with_the_other_client(url):
    reference = "FLEXGWSM0001/MMTR1.DmdWh"
    (ours,) = json.loads(told("read", f"{url}/{reference}", "--json"))
    (theirs,) = json.loads(flexmap("read", f"{url}/{reference}", "--json").stdout)
    assert ours["reference"] == theirs["reference"]
    assert (ours["unit"], ours["quality"]) == (theirs["unit"], theirs["quality"])
    assert 0 <= theirs["value"] - ours["value"] < 1000
    assert len(json.loads(told("read", f"{url}/FLEXGWSM0001/MMXN1", "--json"))) == 8
    assert "no logical device" in refused("read", f"{url}/NONE/LLN0.Mod")
    assert "nothing to read" in refused("read", url)


def test_report(url):
    lines = told("report", f"{url}/FLEXGWSM0001/LLN0.urMeas01", "--count", 2, "--json").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["sequence"] + 1 == second["sequence"]
    by_member = {each["member"]: each for each in first["values"]}
    watt = by_member["FLEXGWSM0001/MMXN1.Watt[MX]"]
    assert watt["reasons"] == ["general-interrogation"]
    assert set(watt["value"]) == {"mag", "q", "t"}
    assert watt["value"]["q"] == "good"
    assert all("general-interrogation" not in each["reasons"] for each in second["values"])
    shown = told("report", f"{url}/FLEXGWSM0001/LLN0.urMeas01", "--count", 1)
    assert "FLEXGWSM0001/MMXN1.Vol[MX]  mag.f 2" in shown
    assert "no report control block" in refused("report", f"{url}/FLEXGWSM0001/LLN0.none")
    assert "is for buffered" in refused("report", f"{url}/FLEXGWSM0001/LLN0.urMeas01", "--purge")


def test_control(url):
    place = f"{url}/FLEXGWSM0002/CSWI1.Pos"
    opened = json.loads(told("control", place, "off", "--json"))
    assert opened["done"]
    assert opened["model"] == "sbo-enhanced"
    assert "position-reached" in refused("control", place, "off")
    assert "done (direct-enhanced" in told("control", f"{url}/FLEXGWSM0002/XSWI1.Pos", "on")
    assert "is no value for BOOLEAN" in refused("control", place, "sideways")
    assert "names no DO" in refused("control", f"{url}/FLEXGWSM0002", "on")


def test_who_is_not_there():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        assert "Connection refused" in refused("browse", f"mms://127.0.0.1:{port}")
    assert "is no MMS server" in refused("browse", "dlms://127.0.0.1:4059")
