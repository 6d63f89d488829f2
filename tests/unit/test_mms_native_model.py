"""From SCL to variables, and from samples to values, without sockets."""

import mms_site
import pytest
from mms_site import T0, sample

from flexmap.faces.native import model
from flexmap.faces.native.values import Values
from flexmap.mms import ber, data
from flexmap.mms.variables import DATA_CHANGE, QUALITY_CHANGE
from flexmap.model import ConfigurationError, quality
from flexmap.scl import served

CID = mms_site.CID.read_text()
TIMEOUT = '<DAI name="sboTimeout"><Val>5000</Val>'
START = 1_760_000_000_000
ARRAYS = CID.replace(
    '<DO name="Watt" type="D_MV"/>', '<DO name="Watt" type="D_MV"/><DO name="HA" type="D_HMV"/>'
).replace(
    '<DOType id="D_BCR"',
    '<DOType id="D_HMV" cdc="HMV"><SDO name="har" type="D_CMV" count="4"/>'
    '<DA name="hvRef" fc="CF" bType="INT32" count="3"/>'
    '<DA name="cst" fc="CF" bType="Struct" type="A_Unit" count="2"/></DOType><DOType id="D_BCR"',
)


def build(text=CID):
    return model.build(served.parse(text.encode(), "FMTEST"), START)


@pytest.fixture
def built():
    return build()


def encoded(built, item, device="FMTESTM1"):
    return built.variables.find(device, item).encoded()


def test_every_variable_is_one_element_of_its_type(built):
    for device in built.variables.devices.values():
        for name in device.schema.names.names:
            variable = device.find(name)
            value = variable.encoded()
            assert variable.component.type.fits(value, 0, len(value)), name


def test_devices_with_the_same_nodes_share_their_layout_and_not_their_values(built):
    first, second = built.devices["M1"].device, built.devices["M2"].device
    assert first.schema is second.schema
    assert first.values is not second.values
    assert encoded(built, "LPHD1$DC$PhyNam$serNum") == data.visible_string("SM_0001")
    assert encoded(built, "LPHD1$DC$PhyNam$serNum", "FMTESTM2") == data.visible_string("SM_0002")


def test_initial_values_and_the_time_of_the_start(built):
    assert encoded(built, "LLN0$ST$Mod$stVal") == data.integer(1)
    assert encoded(built, "LLN0$ST$Mod$t") == data.utc_time(START, quality.ACCURACY_MILLISECOND)
    assert encoded(built, "CSWI1$CF$Pos$ctlModel") == data.integer(4)
    assert encoded(built, "MMTR1$CF$DmdWh$pulsQty") == data.float32(1.0)
    assert encoded(built, "XSWI1$ST$Pos$stVal") == data.bit_string(1, 2)


def test_report_control_blocks_have_the_settings_of_the_file(built):
    block = {name: encoded(built, f"LLN0$BR$brAll02${name}") for name in ("RptID", "DatSet", "TrgOps", "OptFlds")}
    assert block == {
        "RptID": data.visible_string("M1_brAll"),
        "DatSet": data.visible_string("FMTESTM1/LLN0$All"),
        "TrgOps": data.bit_string(0b011011, 6),
        "OptFlds": data.bit_string(0b0111101110, 10),
    }
    # Without rptID its own reference stands there.
    assert encoded(built, "LLN0$RP$urAll01$RptID") == data.visible_string("FMTESTM1/LLN0$RP$urAll01")


def test_arrays_of_data_objects_attributes_and_structures():
    built = build(ARRAYS)
    harmonics = built.variables.find("FMTESTM1", "MMXN1$MX$HA$har")
    parts = data.parts(harmonics.encoded())
    assert len(parts) == 4
    assert harmonics.encoded()[0] == data.ARRAY
    assert [len(data.parts(part)) for part in parts] == [3] * 4
    assert encoded(built, "MMXN1$CF$HA$hvRef") == ber.tlv(data.ARRAY, *[data.integer(0)] * 3)
    assert encoded(built, "MMXN1$CF$HA$cst") == ber.tlv(data.ARRAY, *[ber.tlv(0xA2, data.integer(72))] * 2)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (('<Val>1</Val></DA></DOType>\n    <DOType id="D_MV"', "x"), "not well-formed"),
        ((TIMEOUT, TIMEOUT.replace("5000", "soon")), "'soon' is no INT32U"),
        ((TIMEOUT, TIMEOUT.replace("5000", "-1")), "'-1' is no INT32U"),
        (("<Val>direct-with-normal-security</Val>", "<Val>never</Val>"), "'never' is no Enum"),
        (('bType="INT64"', 'bType="INT65"'), "INT65"),
        (('fc="ST" bType="INT64"', 'fc="XX" bType="INT64"'), "fc XX"),
    ],
)
def test_a_damaged_document_is_a_clear_error(damage, words):
    assert damage[0] in CID
    with pytest.raises(ConfigurationError, match=words):
        build(CID.replace(*damage))


def test_a_sample_is_told_of_once_when_all_of_it_is_there(built):
    told = []

    def on_change(device, changes):
        told.append((device.name, dict(changes)))
        assert encoded(built, "MMXN1$MX$Watt$t") == data.utc_time(T0, quality.ACCURACY_MILLISECOND)

    values = Values(mms_site.SITE, built, on_change)
    values.apply(sample("SM_1"), 0.0)
    meters = [changes for device, changes in told if device == "FMTESTM1"]
    assert len(meters) == 1
    at = {name: built.devices["M1"].position(f"MMXN1.Watt.{name}") for name in ("mag.f", "q", "t")}
    assert meters[0][at["mag.f"]] == DATA_CHANGE
    assert meters[0][at["q"]] == QUALITY_CHANGE
    assert at["t"] not in meters[0]
    told.clear()
    values.apply(sample("SM_1"), 1.0)
    assert told == []
    assert (values.samples, values.points, values.skipped) == (2, 14, 0)


def test_a_sample_of_nobody_or_of_another_width_is_skipped(built):
    values = Values(mms_site.SITE, built, lambda *_: None)
    values.apply(sample("SM_9"), 0.0)
    values.apply(sample("SM_1", quality=(0,)), 0.0)
    assert (values.samples, values.skipped) == (0, 2)


def test_a_document_without_a_point_names_it():
    without = CID.replace('<DO name="SupWh" type="D_BCR"/>', "")
    with pytest.raises(ConfigurationError, match=r"no MMTR1\.SupWh"):
        Values(mms_site.SITE, build(without), lambda *_: None)
