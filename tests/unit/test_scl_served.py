"""The reader of the served part of SCL documents."""

from pathlib import Path

import pytest

from flexmap.model import ConfigurationError
from flexmap.scl import served

CID = (Path(__file__).parents[1] / "data" / "mini.cid").read_bytes()


@pytest.fixture(scope="module")
def ied():
    return served.parse(CID, "FMTEST")


def node(ied, device, name):
    (found,) = [n for d in ied.devices if d.inst == device for n in d.nodes if n.name == name]
    return found


def test_devices_take_the_ied_name_in_front(ied):
    assert [(device.inst, device.name) for device in ied.devices] == [
        ("GW", "FMTESTGW"),
        ("M1", "FMTESTM1"),
        ("M2", "FMTESTM2"),
    ]
    assert (ied.vendor, ied.type, ied.revision) == ("flexmap", "mini", "3")


def test_a_device_with_a_functional_name_keeps_it():
    renamed = served.parse(CID.replace(b'<LDevice inst="M1">', b'<LDevice inst="M1" ldName="Feeder7">'), "FMTEST")
    assert (renamed.devices[1].name, renamed.devices[1].functional) == ("Feeder7", True)


def test_types_are_expanded_with_fc_and_triggers_inherited(ied):
    (watt,) = [o for o in node(ied, "M1", "MMXN1").objects if o.name == "Watt"]
    mag, q, _t, units = watt.children
    assert (watt.cdc, mag.basic_type, mag.children[0].name, mag.children[0].fc) == ("MV", "Struct", "f", "MX")
    assert mag.children[0].triggers == served.DCHG
    assert q.triggers == served.QCHG
    assert units.children[0].enumeration["W"] == 38


def test_report_control_blocks_are_expanded_to_their_instances(ied):
    reports = node(ied, "M1", "LLN0").reports
    assert [report.name for report in reports] == ["brAll01", "brAll02", "urAll01", "urAll02"]
    assert reports[0].triggers == served.DCHG | served.QCHG | served.INTEGRITY | served.GI
    assert (reports[0].buffered, reports[0].buffer_time, reports[0].id) == (True, 50, "M1_brAll")
    assert [report.name for report in node(ied, "GW", "LLN0").reports] == ["urSite"]
    assert node(ied, "GW", "LLN0").reports[0].id is None


def test_data_sets_name_members_as_mms_does(ied):
    (site,) = node(ied, "GW", "LLN0").data_sets
    assert site.members[2] == ("M1", "MMXU1$MX$PhV$phsA")
    assert site.members[-1] == ("M2", "GGIO1$ST$Ind1")


def test_instances_bring_their_own_initial_values(ied):
    assert node(ied, "M2", "LPHD1").values["PhyNam.serNum"] == "SM_0002"
    assert node(ied, "M1", "CSWI1").values == {
        "Pos.ctlModel": "sbo-with-enhanced-security",
        "Pos.sboTimeout": "5000",
    }


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ((b"</SCL>", b""), "not well-formed"),
        ((b'name="FMTEST"', b'name="OTHER"'), "no IED named FMTEST, only OTHER"),
        ((b'lnType="T_MMXN"', b'lnType="T_NONE"'), "LNodeType T_NONE is not defined"),
        ((b'type="A_AV" dchg', b'type="A_NO" dchg'), "DAType A_NO is not defined"),
        ((b'bufTime="50"', b'bufTime="soon"'), "soon"),
    ],
    ids=["cut", "ied", "node type", "attribute type", "number"],
)
def test_a_damaged_document_is_a_clear_error(damage, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        served.parse(CID.replace(*damage), "FMTEST")
    assert "SCL document" in caught.value.where
    assert caught.value.remedy


def test_a_wrong_type_is_named_with_its_line():
    line = CID[: CID.index(b'lnType="T_MMXN"')].count(b"\n") + 1
    with pytest.raises(ConfigurationError, match=f"line {line}:"):
        served.parse(CID.replace(b'lnType="T_MMXN"', b'lnType="T_NONE"', 1), "FMTEST")
