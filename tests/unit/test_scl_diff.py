"""Two files that differ in one thing: the change in words, what it breaks, and confRev."""

import json
import re

import pytest
from click.testing import CliRunner
from scl_site import site

from flexmap.cli.scl import scl
from flexmap.model import Direction
from flexmap.scl import document
from flexmap.scl.check import check
from flexmap.scl.diff import diff
from flexmap.scl.generate import FileKind, generate
from flexmap.scl.impact import STEP, raise_revisions
from flexmap.scl.summary import summarise

ONE = site(types=("single-phase",), directions=(Direction.DEMAND,))
SCD = generate(ONE, FileKind.SCD).decode()
CLIENTS = """
  <IED name="SCADA"><AccessPoint name="P"><LN lnClass="IHMI" inst="1" lnType="none"><Inputs>
    <ExtRef iedName="FLEX1" ldInst="MTR01" lnClass="MMXN" lnInst="1" doName="Watt"/>
    <ExtRef iedName="FLEX1" ldInst="MTR01" srcCBName="brEnergy"/>
  </Inputs></LN></AccessPoint></IED>
"""
USED = re.sub(
    r'(datSet="State".*?)<RptEnabled max="5"/>',
    r'\1<RptEnabled max="5"><ClientLN iedName="RTU" lnClass="ITCI" lnInst="1"/></RptEnabled>',
    SCD.replace("  <DataTypeTemplates>", CLIENTS + "  <DataTypeTemplates>"),
    count=1,
    flags=re.DOTALL,
)


def compared(old, new):
    return diff(*(summarise(document.parse(text.encode())) for text in (old, new)))


def changed(pattern, new, text=USED, after=""):
    start = re.search(after, text).end()
    edited, count = re.subn(pattern, new, text[start:], count=1, flags=re.DOTALL)
    assert count == 1
    return text[:start] + edited


METER = 'LDevice inst="MTR01"'
CASES = [
    (
        r'<IED name="FLEX1" desc="Test site"',
        '<IED name="FLEX1" desc="x"',
        "FLEX1",
        "desc: 'Test site' becomes 'x'",
    ),
    (r'<LDevice inst="MTR01".*?</LDevice>', "", "FLEX1/MTR01", "logical device removed"),
    (r'\s*<LN lnClass="GGIO".*?</LN>', "", "FLEX1/MTR01/GGIO1", "logical node removed"),
    (
        r'<LDevice inst="MTR01"',
        '<LDevice inst="MTR01" ldName="X"',
        "FLEX1",
        "name of logical device MTR01 is now 'X'",
    ),
    (r"<Val>@GW</Val>", "<Val>@X</Val>", "FLEX1/MTR01/LLN0", "GrRef.setSrcRef: '@GW' becomes '@X'"),
    (
        r'sAddr="1-0:1\.8\.0\.255;4;2"',
        'sAddr="1-0:1.8.1.255;4;2"',
        "FLEX1/MTR01/MMTR1",
        "binding of DmdWh.actVal: '1-0:1.8.0.255;4;2' becomes '1-0:1.8.1.255;4;2'",
    ),
    (r'\s*<DO name="Hz"[^/]*/>', "", "FLEX1/MTR01/MMXN1", "data object Hz removed"),
    (r'\s*<DA name="pulsQty"[^/]*/>', "", "FLEX1/MTR01/MMTR1", "attribute DmdWh.pulsQty removed"),
    (
        r'(<DOType id="FMSP_BCR.*?<DA name="actVal" )bType="INT64"',
        r'\1bType="INT32"',
        "FLEX1/MTR01/MMTR1",
        "attribute DmdWh.actVal: type INT64 becomes INT32",
    ),
    (
        r'(<DOType id="FMSP_BCR.*?<DA name="actVal"[^>]*)fc="ST"',
        r'\1fc="MX"',
        "FLEX1/MTR01/MMTR1",
        "attribute DmdWh.actVal: functional constraint ST becomes MX",
    ),
    (
        r'(id="FMSP_BehaviourModeKind">.*?>)off<',
        r"\1out<",
        "FLEX1/MTR01/LLN0",
        "attribute Beh.stVal: value, count or literals of its type changed",
    ),
    (
        r'(<DA name="q" bType="Quality" fc="ST"[^/]*/>)(\s*<DA name="t"[^/]*/>)',
        r"\2\1",
        "FLEX1/GW/LLN0",
        "attributes stand in another order",
    ),
    (r'<DataSet name="Energy">.*?</DataSet>', "", "FLEX1/MTR01/LLN0.Energy", "data set removed"),
    (r'<ReportControl name="urMeas".*?</ReportControl>', "", "FLEX1/MTR01/LLN0.urMeas", "ReportControl removed"),
    (r'confRev="1"', 'confRev="2"', "FLEX1/GW/LLN0.brAllEnergy", "confRev 1 becomes 2"),
    (r'intgPd="900000"', 'intgPd="1000"', "FLEX1/GW/LLN0.brAllEnergy", "intgPd: '900000' becomes '1000'"),
    (r'qchg="true"', 'qchg="false"', "FLEX1/GW/LLN0.brAllState", "TrgOps.qchg: 'true' becomes 'false'"),
    (r'datSet="Energy"', 'datSet="State"', "FLEX1/MTR01/LLN0.brEnergy", "data set 'Energy' becomes 'State'"),
    (r'iedName="RTU"', 'iedName="RTU2"', "FLEX1/GW/LLN0.brAllState", None),
    (
        r'<DynAssociation max="5"/>',
        '<DynAssociation max="4"/>',
        "FLEX1",
        "Services: DynAssociation.max: '5' becomes '4'",
    ),
    (r">127\.0\.0\.1<", ">192.0.2.1<", "FLEX1/AP1", "address, IP: '127.0.0.1' becomes '192.0.2.1'"),
    (r'\s*<LNode [^>]*lnClass="MMXN"[^>]*/>', "", "Substation/LV/Feeders/MTR01", "no longer bound here"),
    (
        r'\s*<ExtRef iedName="FLEX1" ldInst="MTR01" src[^>]*/>',
        "",
        "SCADA//IHMI1",
        "input FLEX1MTR01/ from MTR01/brEnergy removed",
    ),
    (r'release="4"', 'release="3"', "file", "edition: '2007B4' becomes '2007B'"),
    (r'(<Header [^>]*) version="1"', r'\1 version="2"', "header", "version: '1' becomes '2'"),
]


@pytest.mark.parametrize(("pattern", "new", "where", "what"), CASES, ids=range(len(CASES)))
def test_a_change_is_told_in_words(pattern, new, where, what):
    if what is None:
        where, what = "FLEX1/MTR01/LLN0.brState", "client RTU2/ITCI1 added"
    found = compared(USED, changed(pattern, new)).changes
    assert any(change.where == where and what in change.what for change in found), found


@pytest.mark.parametrize(("pattern", "new", "where", "what"), CASES, ids=range(len(CASES)))
def test_the_way_back_is_a_change_too(pattern, new, where, what):
    assert compared(changed(pattern, new), USED).changes


def test_equal_files_do_not_differ():
    assert compared(USED, USED) == diff_of_nothing()
    blanks = re.sub(r">\s+<", "><", USED).replace("FMSP_", "OTHER_").replace("<Header", "<!-- a --><Header")
    assert compared(USED, blanks) == diff_of_nothing()


def diff_of_nothing():
    return type(compared(SCD, SCD))((), ())


def test_a_data_set_that_changed_breaks_its_control_blocks():
    found = compared(
        USED, changed(r'\s*<FCDA ldInst="MTR01" lnClass="MMTR"[^>]*/>', "", after='<DataSet name="Energy">')
    )
    (impact,) = found.impacts
    assert impact.reference == "FLEX1/MTR01/LLN0.brEnergy"
    assert impact.why == ("1 members removed from its data set, MTR01/MMTR1.DmdWh[ST] first",)
    assert impact.concerns == ("input of SCADA//IHMI1",)
    assert (impact.old_revision, impact.new_revision, impact.must_rise) == (1, 1, True)


def test_another_order_is_another_data_set():
    member = r'(\s*<FCDA ldInst="MTR01" lnClass="MMTR"[^>]*/>)'
    found = compared(USED, changed(member * 2, r"\2\1", after='<DataSet name="Energy">'))
    assert [(i.reference, i.must_rise) for i in found.impacts] == [("FLEX1/MTR01/LLN0.brEnergy", True)]


def test_a_type_that_changed_breaks_who_reports_it():
    found = compared(USED, changed(r'(<DOType id="FMSP_DPC_direct.*?<DA name=)"q"', r'\1"qq"', USED))
    broken = {impact.reference: impact for impact in found.impacts}
    assert set(broken) == {"FLEX1/GW/LLN0.brAllState", "FLEX1/MTR01/LLN0.urMeas", "FLEX1/MTR01/LLN0.brState"}
    assert broken["FLEX1/MTR01/LLN0.brState"].concerns == ("RTU/ITCI1",)
    assert all("MTR01/XSWI1.Pos[ST]" in impact.why[0] for impact in found.impacts)


def test_a_risen_revision_is_enough():
    new = changed(r'\s*<FCDA ldInst="MTR01" lnClass="MMTR"[^>]*/>', "", after='<DataSet name="Energy">')
    found = compared(USED, changed(r'confRev="1"', 'confRev="2"', new, after='name="brEnergy"'))
    assert [(i.new_revision, i.must_rise) for i in found.impacts] == [(2, False)]


def test_what_does_not_change_what_is_sent_breaks_nothing():
    for pattern, new in (('desc="Test site"', 'desc="x"'), ('intgPd="900000"', 'intgPd="1000"'), ("@GW", "@X")):
        assert compared(USED, changed(pattern, new)).impacts == ()


def test_what_is_gone_concerns_those_who_used_it():
    found = compared(USED, changed(r'<LDevice inst="MTR01".*?</LDevice>', ""))
    broken = {impact.reference: impact for impact in found.impacts}
    assert broken["FLEX1/MTR01/LLN0.brState"].why == ("the control block is gone",)
    assert broken["FLEX1/MTR01/MMXN1"].concerns == ("input of SCADA//IHMI1",)
    found = compared(USED, changed(r">127\.0\.0\.1<", ">192.0.2.1<"))
    assert [(i.reference, set(i.concerns)) for i in found.impacts] == [
        ("FLEX1/AP1", {"input of SCADA//IHMI1", "RTU/ITCI1"})
    ]
    found = compared(USED, changed(r'<IED name="FLEX1".*?</IED>', ""))
    assert found.impacts[0].why == ("the IED is gone",)


def test_revisions_are_raised_where_they_have_to_rise():
    new = changed(r'\s*<FCDA ldInst="MTR01" lnClass="MMTR"[^>]*/>', "", after='<DataSet name="Energy">')
    parsed = document.parse(new.encode(), everything=True)
    raised = raise_revisions(parsed, compared(USED, new).impacts)
    assert raised == {"FLEX1/MTR01/LLN0.brEnergy": 1 + STEP}
    after = document.unchanged(parsed.root).decode()
    assert [i.must_rise for i in compared(USED, after).impacts] == [False]
    only = [c.what for c in compared(new, after).changes]
    assert only == [f"confRev 1 becomes {1 + STEP}"]


def test_a_site_with_another_meter(tmp_path):
    old, new, out = (tmp_path / name for name in ("old.scd", "new.scd", "out.scd"))
    old.write_text(SCD)
    new.write_bytes(generate(site(types=("single-phase",)), FileKind.SCD))
    result = CliRunner().invoke(scl, ["diff", str(old), str(new)])
    assert result.exit_code == 1
    assert "FLEX1/MTR02: logical device added" in result.output
    assert "breaks FLEX1/GW/LLN0.urAllHealth: 1 members added to its data set" in result.output
    assert "confRev has to rise: it is 1, then 1" in result.output
    command = ["diff", str(old), str(new), "--json", "--raise-confrev", "-o", str(out)]
    report = json.loads(CliRunner().invoke(scl, command).stdout)
    assert {impact["reference"] for impact in report["impacts"] if impact["must_rise"]} == {
        f"FLEX1/GW/LLN0.{name}" for name in ("brAllEnergy", "brAllState", "urAllHealth")
    }
    assert check(out) == []
    assert "confRev has to rise" not in CliRunner().invoke(scl, ["diff", str(old), str(out)]).output
    result = CliRunner().invoke(scl, ["diff", str(old), str(old)])
    assert (result.exit_code, result.output) == (0, "0 changes, 0 things broken\n")
    assert CliRunner().invoke(scl, ["diff", str(old), str(new), "--raise-confrev"]).exit_code == 2
