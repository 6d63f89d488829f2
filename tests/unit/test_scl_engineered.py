"""Files as engineering tools write them: what the server takes from them, and what it refuses."""

import re

import msgspec
import pytest
from scl_site import site

from flexmap.faces.mms_face import MmsFace
from flexmap.gateway.engineered import apply
from flexmap.model import ConfigurationError, Direction, Sample, SamplePart
from flexmap.scl.abilities import LIBIEC61850, NATIVE
from flexmap.scl.communication import Address
from flexmap.scl.engineered import load
from flexmap.scl.generate import FileKind, Gateway, generate, generate_project

SITE = site(types=("three-phase", "single-phase"))
CID = generate(SITE, FileKind.CID, address=Address(host="192.0.2.7", port=10102)).decode()


def loaded(tmp_path, text=CID, ied=None, abilities=NATIVE):
    path = tmp_path / "station.cid"
    path.write_text(text)
    return load(path, ied, abilities)


def changed(pattern, new, text=CID, after="", count=1):
    start = re.search(after, text).end()
    edited, found = re.subn(pattern, new, text[start:], count=count, flags=re.DOTALL)
    assert found
    return text[:start] + edited


def test_our_own_file_serves_the_site_as_it_is(tmp_path):
    file = loaded(tmp_path)
    assert (file.ied, file.address) == ("FLEX1", Address(host="192.0.2.7", port=10102))
    named = apply(SITE, file)
    assert named.unused == ()
    for meter in SITE.meters:
        other = next(each for each in named.site.meters if each.id == meter.id)
        ours, theirs = SITE.type_of(meter), named.site.type_of(other)
        assert [point.name for point in theirs.served] == [point.name for point in ours.served]
        for point, renamed in zip(ours.served, theirs.served, strict=True):
            assert renamed.reference_for(other.direction) == point.reference_for(meter.direction)
            assert renamed.control == point.control
        for part in SamplePart:
            assert named.picks[meter.id, part] == tuple(range(len(ours.of_part(part))))


def test_names_of_the_file_rule(tmp_path):
    """An IED with another name, a node with another instance, a control that stands elsewhere."""
    text = CID.replace('name="FLEX1"', 'name="BAY7"').replace('iedName="FLEX1"', 'iedName="BAY7"')
    text = text.replace('lnClass="MMXN" inst="1"', 'lnClass="MMXN" inst="5"')
    text = text.replace('lnClass="MMXN" lnInst="1"', 'lnClass="MMXN" lnInst="5"')
    named = apply(SITE, loaded(tmp_path, text))
    assert named.site.ied == "BAY7"
    meter = next(m for m in named.site.meters if SITE.types[SITE.meters[1].type].id in m.type and m.ld == "MTR02")
    points = {point.name: point for point in named.site.type_of(meter).served}
    assert points["voltage"].reference.path == "MMXN5.Vol"


def test_points_that_the_file_does_not_bind_are_left_out(tmp_path):
    """Samples lose the values that have no place, and nothing else."""
    text = changed(r' sAddr="1-0:32\.7\.0\.255;4;2"', "", after='LDevice inst="MTR02"')
    named = apply(SITE, loaded(tmp_path, text))
    meter = SITE.meters[1]
    ours = SITE.type_of(meter)
    position = [point.name for point in ours.points].index("voltage")
    picks = named.picks[meter.id, SamplePart.METER]
    assert picks == tuple(n for n in range(len(ours.points)) if n != position)
    other = SITE.meters[3]
    assert len(named.picks[other.id, SamplePart.METER]) == len(ours.points)
    assert (
        next(m for m in named.site.meters if m.id == other.id).type
        != next(m for m in named.site.meters if m.id == meter.id).type
    )

    class Engine:
        def update(self, samples):
            self.samples = list(samples)

    engine = Engine()
    face = MmsFace(engine, named.site, b"", ("", 0), None, picks=named.picks)
    face.update([Sample(meter.id, 1, tuple(range(len(ours.points))), tuple(range(len(ours.points))))])
    (sample,) = engine.samples
    assert sample.values == sample.quality == picks
    assert len(sample.values) == len(named.site.type_of(named.site.meters[1]).points)


def test_logical_devices_without_a_meter_are_told(tmp_path):
    fewer = msgspec.structs.replace(SITE, meters=SITE.meters[:2])
    assert apply(fewer, loaded(tmp_path)).unused == ("MTR03", "MTR04")


def test_one_ied_of_a_project(tmp_path):
    gateways = [
        Gateway(site=site(ied=name, types=("single-phase",)), address=Address(host=host))
        for name, host in (("FLEX1", "192.0.2.1"), ("FLEX2", "192.0.2.2"))
    ]
    text = generate_project(gateways, FileKind.SCD).decode()
    file = loaded(tmp_path, text, "FLEX2")
    assert (file.ied, file.address.host) == ("FLEX2", "192.0.2.2")
    for ied, what in ((None, "2 IEDs with a server"), ("FLEX3", "no IED 'FLEX3'")):
        with pytest.raises(ConfigurationError, match=what) as caught:
            loaded(tmp_path, text, ied)
        assert "FLEX1, FLEX2" in caught.value.remedy
    broken = changed('doName="TotVAh"', 'doName="Nothing"', text)  # in the other IED
    assert loaded(tmp_path, broken, "FLEX2").ied == "FLEX2"
    with pytest.raises(ConfigurationError, match="no data object Nothing"):
        loaded(tmp_path, broken, "FLEX1")


HEAD = '(?=<ReportControl name="urMeas")'


@pytest.mark.parametrize(
    ("pattern", "new", "what"),
    [
        (HEAD, '<GSEControl name="g" appID="a"/>', "GSEControl 'g'.*does not do that"),
        (HEAD, '<SettingControl numOfSGs="2"/>', "SettingControl"),
        (HEAD, '<LogControl name="l" logName="x"/>', "LogControl 'l'"),
        (HEAD, '<SampledValueControl name="s" smvID="x"/>', "SampledValueControl 's'"),
        (r'<RptEnabled max="\d+"/>', '<RptEnabled max="99"/>', "99 instances"),
        ('name="FLEX1"', 'name="TEMPLATE"', "describes a product"),
        ('doName="TotVAh"', 'doName="Nothing"', "no data object Nothing"),
        ('datSet="Energy"', 'datSet="Gone"', "no data set 'Gone'"),
        ('lnType="FMSP_CSWI"', 'lnType="gone"', "no LNodeType 'gone'"),
        ('sAddr="1-0:1.8.0.255;4;2"', 'sAddr="1-0:1.8.0"', "not an OBIS binding"),
        (
            r'<DAI name="stVal" sAddr="([^"]*)"/?>',
            r'<DAI name="q" sAddr="\1"/><DAI name="stVal">',
            "carries no value|is bound, but values",
        ),
        (r'(type="MMS-Port">)10102', r"\g<1>0", "'0' is not a port"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_line(tmp_path, pattern, new, what):
    text = changed(pattern, new)
    if "</DAI>" in new or 'name="q"' in new:
        text = changed(r'(<DAI name="q" sAddr="[^"]*"/><DAI name="stVal")>', r"\1/>", text)
    with pytest.raises(ConfigurationError, match=what) as caught:
        loaded(tmp_path, text, abilities=LIBIEC61850)
    assert re.search(r"station\.cid, line \d+$", caught.value.where), caught.value.where
    assert caught.value.remedy
    first = next(n for n, (a, b) in enumerate(zip(CID, text, strict=False)) if a != b)
    assert int(caught.value.where.rpartition(" ")[2]) == text.count("\n", 0, first) + 1


def test_what_no_meter_has_is_refused(tmp_path):
    text = changed(r"1-0:14\.7\.0\.255;4;2", "1-0:81.7.4.255;4;2", after='LDevice inst="MTR02"')
    with pytest.raises(
        ConfigurationError, match=r"bound to 1-0:81\.7\.4\.255, which meter .* does not have"
    ) as caught:
        apply(SITE, loaded(tmp_path, text))
    line = text[: text.index("1-0:81.7.4")].count("\n") + 1
    assert caught.value.where.endswith(f"line {line}")


def test_a_meter_without_a_logical_device_is_refused(tmp_path):
    other = msgspec.structs.replace(SITE, meters=(msgspec.structs.replace(SITE.meters[0], ld="MTR77"),))
    with pytest.raises(ConfigurationError, match="no logical device 'MTR77'") as caught:
        apply(other, loaded(tmp_path))
    assert "MTR01" in caught.value.remedy


@pytest.mark.parametrize("version", ['version="2007" revision="A"', 'version="2007" revision="B"'])
def test_older_editions_are_read(tmp_path, version):
    text = CID.replace('version="2007" revision="B" release="4"', version)
    assert apply(SITE, loaded(tmp_path, text)).site.ied == "FLEX1"


def test_a_breaker_of_another_project_takes_commands_at_its_second_place(tmp_path):
    """Two nodes show the breaker under other names: the last one of its class takes the commands."""
    text = CID.replace('lnClass="CSWI" inst="1"', 'lnClass="CSWI" inst="3"')
    text = text.replace('lnClass="XSWI" inst="1"', 'lnClass="XSWI" inst="3"').replace(
        'lnClass="XSWI" lnInst="1"', 'lnClass="XSWI" lnInst="3"'
    )
    named = apply(SITE, loaded(tmp_path, text))
    meter = next(m for m in named.site.meters if m.ld == "MTR02")
    (breaker,) = (point for point in named.site.type_of(meter).points if point.control is not None)
    assert (breaker.reference.path, breaker.control.path) == ("XSWI3.Pos", "CSWI3.Pos")
    assert meter.direction in Direction
