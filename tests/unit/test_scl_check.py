"""Broken variants of faultless files: each is caught by the rule made for it, at the right line."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from scl_site import site

from flexmap.model import ConfigurationError, Direction
from flexmap.scl import document
from flexmap.scl.abilities import LIBIEC61850
from flexmap.scl.check import Finding, Severity, check
from flexmap.scl.edition import edition
from flexmap.scl.generate import FileKind, generate
from flexmap.scl.rules import schema
from flexmap.scl.rules.catalogue import RULES

ONE = site(types=("single-phase",), directions=(Direction.DEMAND,))
FILES = {kind: generate(ONE, kind).decode() for kind in FileKind}
ICD, CID, SCD = FileKind.ICD, FileKind.CID, FileKind.SCD

DROP = ""
COUNT = itertools.count(1)


class Mutant(NamedTuple):
    """`old` (a pattern) becomes `new`, the first time behind `after`; the finding stands in a line of `at` (a
    pattern) if given, else where the change is."""

    rule: str
    old: str
    new: str
    at: str | None = None
    kind: FileKind = CID
    after: str = ""


def mutant(*fields, **named):
    case = Mutant(*fields, **named)
    return pytest.param(case, id=f"{case.rule}-{next(COUNT)}")


URMEAS = '(?=<ReportControl name="urMeas")'
ENABLED = r'<RptEnabled max="5"/>'
CONNECTED = "(?=</ConnectedAP>)"


def client(attributes):
    return f'<RptEnabled max="5"><ClientLN {attributes}/></RptEnabled>'


def source(attributes):
    return f"<Inputs><ExtRef {attributes}/></Inputs>"


def goose(address, application):
    """The address of a GOOSE control block that is not there."""
    return (
        f'<GSE ldInst="GW" cbName="g"><Address><P type="MAC-Address">{address}</P>'
        f'<P type="APPID">{application}</P></Address></GSE>'
    )


MUTANTS = [
    # Data sets.
    mutant("fcda-ld", r'<FCDA ldInst="MTR01"', '<FCDA ldInst="MTR99"'),
    mutant("fcda-ln", r'lnClass="MMTR" lnInst="1" doName', 'lnClass="MMTR" lnInst="2" doName'),
    mutant("fcda-ln", r'<FCDA ldInst="MTR01" lnClass="XSWI"', '<FCDA ldInst="MTR01" prefix="L1" lnClass="XSWI"'),
    mutant("fcda-do", r'doName="TotVAh"', 'doName="TotWh"'),
    mutant("fcda-do", r'doName="Watt"', 'doName="Watt.phsA"'),
    mutant("fcda-fc", r'doName="DmdWh" fc="ST"', 'doName="DmdWh" fc="MX"'),
    mutant("fcda-fc", r'doName="Watt" fc="MX"', 'doName="Watt" daName="mag.f" fc="ST"'),
    mutant("fcda-da", r'doName="Watt" fc="MX"', 'doName="Watt" daName="mag.i" fc="MX"'),
    mutant("fcda-duplicate", r'doName="SupWh" fc="ST"', 'doName="DmdWh" fc="ST"'),
    mutant(
        "fcda-kind",
        r'<DA name="stVal" bType="INT32" fc="ST"',
        '<DA name="stVal" bType="INT32" fc="ST" valKind="Conf"',
        at=r'<FCDA .*doName="OpCnt"',
    ),
    mutant("data-set-empty", r'(?s)(<DataSet name="Energy">).*?(</DataSet>)', r"\1\2"),
    # Report control blocks.
    mutant(
        "report-data-set",
        r'datSet="Energy"',
        'datSet="AllEnergy"',
        at=r'datSet="AllEnergy".*',
        after="MTR01/urMeas",
    ),
    mutant("report-revision", r'confRev="1"', 'confRev="0"'),
    mutant("report-id", r'rptID="MTR01/brState"', 'rptID=""'),
    mutant("report-id", r'rptID="MTR01/brState"', 'rptID="MTR01/brEnergy"'),
    mutant("report-indexed", r'indexed="true"', 'indexed="false"'),
    mutant("report-triggers", r'(<TrgOps .*period=)"true"', r'\1"false"', at='brAllEnergy|<TrgOps dchg="false"'),
    mutant(
        "report-triggers", r'<TrgOps dchg="false".*/>', '<TrgOps gi="true"/>', at='brAllEnergy|<TrgOps gi="true"/>'
    ),
    # Types.
    mutant("do-missing", r'\s*<DO name="Proxy" type="FMSP_SPS"/>', DROP, at='<LNodeType id="FMSP_LPHD"'),
    mutant("do-missing", r'\s*<DO name="SwTyp"[^/]*/>', DROP, at='<LNodeType id="FMSP_XSWI"'),
    mutant("do-unknown", r'<DO name="TotVAh"', '<DO name="TotalVAh"'),
    mutant("do-unknown", r'<DO name="Watt"', '<DO name="Watt2"'),
    mutant("do-cdc", r'(<DO name="Watt" type=)"FMSP_MV_d"', r'\1"FMSP_INS_d"'),
    mutant("da-fc", r'(<DA name="pulsQty" .*?)fc="CF"', r'\1fc="ST"'),
    mutant("da-type", r'(<DA name="actVal" )bType="INT64"', r'\1bType="INT32"'),
    mutant(
        "da-missing", r'\s*<DA name="q" bType="Quality" fc="MX" qchg="true"/>', DROP, at='<DOType id="FMSP_MV_d"'
    ),
    mutant("da-missing", r'\s*<DA name="pulsQty"[^/]*/>', DROP, at='<DOType id="FMSP_BCR_d"'),
    mutant("da-missing", r'\s*<DA name="Cancel"[^/]*/>', DROP, at='<DOType id="FMSP_DPC_select_d"'),
    mutant("da-missing", r'\s*<DA name="actVal"[^/]*/>', DROP, at='<DOType id="FMSP_BCR_d"'),
    mutant("da-unknown", r'<DA name="ctlNum"', '<DA name="ctlNumber"'),
    mutant(
        "da-order",
        r'(\s*<DA name="q" bType="Quality" fc="MX"[^/]*/>)(\s*<DA name="t"[^/]*/>)',
        r"\2\1",
        at=r'<DA name="q" bType="Quality" fc="MX"',
    ),
    mutant("bda-missing", r'\s*<BDA name="orIdent"[^/]*/>', DROP, at='<DAType id="FMSP_Originator"'),
    mutant("da-type", r'(<BDA name="ctlNum" )bType="INT8U"', r'\1bType="INT8"'),
    mutant("bda-unknown", r'<BDA name="SIUnit"', '<BDA name="siUnit"'),
    mutant("type-dangling", r'(<DO name="Hz" type=)"FMSP_MV_d"', r'\1"FMSP_MV"'),
    mutant("type-dangling", r'lnType="FMSP_CSWI"', 'lnType="FMSP_CSWI1"'),
    mutant("type-class", r'lnType="FMSP_CSWI"', 'lnType="FMSP_XSWI"'),
    mutant("type-unused", r'<DOType id="FMSP_ORG" cdc="ORG">', '<DOType id="FMSP_X" cdc="SPS">'),
    mutant(
        "duplicate",
        r'<DAType id="FMSP_Unit">',
        '<DAType id="FMSP_Originator">',
        at='<DAType id="FMSP_Originator">',
    ),
    # Values.
    mutant("enum-literals", r'(<EnumVal ord="5")>off<', r"\1>out<"),
    mutant("enum-literals", r'<EnumVal ord="2">Warning<', '<EnumVal ord="7">Warning<'),
    mutant("enum-value", r"<Val>Load Break</Val>", "<Val>LoadBreak</Val>"),
    mutant("enum-value", r"<Val>sbo-with-enhanced-security</Val>", "<Val>sbo</Val>"),
    mutant("value-type", r'(<DAI name="pulsQty">\s*)<Val>1</Val>', r"\1<Val>one</Val>", at="<Val>one</Val>"),
    mutant("value-type", r"<Val>30000</Val>", "<Val>-1</Val>"),
    mutant("instance-path", r'<DOI name="TotVAh">', '<DOI name="TotVArh">'),
    mutant("instance-path", r'<SDI name="mag">', '<SDI name="instMag">'),
    mutant("binding", r'sAddr="1-0:1\.8\.0\.255;4;2"', 'sAddr="1.8.0"'),
    mutant("namespace-missing", r"<Val>IEC 61850-7-4:2007B</Val>", "<Val></Val>", at="<LN0 "),
    mutant("group-reference", r"<Val>@GW</Val>", "<Val>@Gateway</Val>", at='<LN0 .*"FMSP_LLN0"'),
    mutant("root-device", r'\s*<DO name="Mod" type="FMGW_[^/]*/>', DROP, at='<LN0 .*"FMGW_LLN0"'),
    mutant("binding-attribute", r"1-0:1\.8\.0\.255;4;2", "1-0:1.8.0.255;4;3"),
    mutant("binding-attribute", r"0-0:96\.3\.10\.255;70;2", "0-0:96.3.10.255;70;1"),
    mutant("binding-place", r'<DAI name="pulsQty">', '<DAI name="pulsQty" sAddr="1-0:1.8.0.255;4;2">'),
    mutant("binding-unit", r"1-0:32\.7\.0", "1-0:31.7.0"),
    mutant("binding-unit", r"\+1-0:3\.7\.0\.255;4;2 -1-0:4\.7\.0", "+1-0:1.7.0.255;4;2 -1-0:4.7.0"),
    mutant("binding-unit", r"1-0:1\.8\.0\.255;4;2", "1-0:1.7.0.255;3;2"),
    mutant(
        "control-model",
        r'<DOI name="Pos">',
        '<DOI name="Pos"><DAI name="ctlModel"><Val>sbo-with-enhanced-security</Val></DAI>',
        after='lnClass="XSWI" inst="1"',
    ),
    # Other control blocks, and who receives them.
    mutant("control-data-set", URMEAS, '<GSEControl name="g" appID="a" datSet="Gone" confRev="1"/>'),
    mutant("control-revision", URMEAS, '<GSEControl name="g" appID="a" datSet="Meas" confRev="0"/>'),
    mutant("goose-id", URMEAS, '<GSEControl name="g" appID=" " datSet="Meas" confRev="1"/>'),
    mutant("goose-id", URMEAS, '<GSEControl name="g" appID="a"/><GSEControl name="h" appID="a"/>'),
    mutant("setting-group", URMEAS, '<SettingControl numOfSGs="2" actSG="3"/>'),
    mutant("client-dangling", ENABLED, client('iedName="SCADA" lnClass="IHMI" lnInst="1"'), kind=SCD),
    mutant("client-dangling", ENABLED, client('iedName="FLEX1" ldInst="GW" lnClass="IHMI" lnInst="1"')),
    mutant(
        "client-dangling", URMEAS, '<GSEControl name="g" appID="a"><IEDName>X</IEDName></GSEControl>', kind=SCD
    ),
    mutant("extref-dangling", URMEAS, source('iedName="X" ldInst="LD" lnClass="XCBR" lnInst="1"'), kind=SCD),
    mutant("extref-dangling", URMEAS, source('iedName="@" ldInst="GW" lnClass="LTMS" lnInst="2"')),
    mutant("extref-dangling", URMEAS, source('iedName="FLEX1" ldInst="GW" srcCBName="gone"')),
    mutant("multicast-block", CONNECTED, goose("01-0C-CD-01-00-01", "0001")),
    mutant("address-malformed", CONNECTED, goose("00-0C-CD-01-00-01", "0001")),
    mutant("address-malformed", CONNECTED, goose("01-0C-CD-01-00-01", "1")),
    mutant("address-missing", CONNECTED, '<GSE ldInst="GW" cbName="g"/>'),
    mutant("address-duplicate", CONNECTED, 2 * goose("01-0C-CD-01-00-01", "0001")),
    # Names.
    mutant("name-length", r'(?s)name="FLEX1"(.*)', lambda m: m[0].replace("FLEX1", "F" * 62), at="<LDevice"),
    mutant("name-length", r'(<DataSet name=)"State"', rf'\1"{"S" * 33}"'),
    mutant("ied-name", r'(<IED name=)"FLEX1"', r'\1"TEMPLATE"'),
    mutant("ied-name", r'(<IED name=)"TEMPLATE"', r'\1"FLEX1"', kind=ICD),
    mutant(
        "ied-count",
        r"(?s)(<IED .*</IED>)",
        lambda m: m[1] + m[1].replace('"FLEX1"', '"FLEX2"'),
        at='<IED name="FLEX2"',
    ),
    mutant("duplicate", r'<LN lnClass="CSWI" inst="1"', '<LN lnClass="XSWI" inst="1"'),
    mutant("lnode-dangling", r'(<LNode .*lnClass="MMXN" lnInst=)"1"', r'\1"2"', kind=SCD),
    # Communication and services.
    mutant("communication-missing", r"(?s)\s*<Communication>.*</Communication>", DROP, at="<SCL "),
    mutant("access-point", r'(<ConnectedAP .*apName=)"AP1"', r'\1"AP2"', at="<ConnectedAP |<AccessPoint "),
    mutant(
        "access-point", r'<AccessPoint name="AP1">', '<AccessPoint name="AP2">', at="<ConnectedAP |<AccessPoint "
    ),
    mutant("address-missing", r"(?s)\s*<Address>.*</Address>", DROP, at="<ConnectedAP "),
    mutant("address-malformed", r">127\.0\.0\.1<", ">127.0.0.256<"),
    mutant("address-malformed", r">255\.255\.255\.0<", ">255.0.255.0<"),
    mutant("address-malformed", r'(type="MMS-Port">)102<', r"\g<1>70000<"),
    mutant("address-malformed", r'(type="OSI-TSEL">)0001<', r"\g<1>001<"),
    mutant(
        "address-duplicate",
        r"(?s)(<ConnectedAP .*</ConnectedAP>)",
        lambda m: m[1] + "\n" + m[1].replace('apName="AP1"', 'apName="AP2"'),
        at=r'<P type="IP">',
    ),
    mutant("services-ability", r"<ReadWrite/>", "<ReadWrite/><FileHandling/>"),
    mutant("services-ability", r"<ReadWrite/>", '<ReadWrite/><DynDataSet max="5"/>'),
    mutant("services-ability", r'<DynAssociation max="5"/>', '<DynAssociation max="50"/>'),
    mutant("services-ability", r'owner="false"', 'owner="true"'),
    mutant("services-ability", r'<RptEnabled max="5"/>', '<RptEnabled max="6"/>', at="<ReportControl "),
    mutant("services-count", r'<ConfReportControl max="\d+"', '<ConfReportControl max="1"'),
    mutant("services-count", r'<ConfDataSet max="\d+"', '<ConfDataSet max="1"'),
    mutant("services-count", r'maxAttributes="\d+"', 'maxAttributes="1"'),
    mutant("services-missing", r"(?s)\s*<Services .*</Services>", DROP, at="<IED "),
    # The schema.
    mutant("schema", r'<ReportControl name="urMeas"', '<ReportControl nam="urMeas"'),
    mutant("schema", r"<Server ", "<Servers/><Server "),
    mutant("edition", r'revision="B" release="4"', 'revision="Z" release="4"'),
]


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def break_file(case):
    """The changed file, and the lines in one of which the finding has to stand."""
    text = FILES[case.kind]
    start = re.search(case.after, text).end()
    changed, count = re.compile(case.old).subn(case.new, text[start:], count=1)
    assert count == 1, "the mutant changes nothing"
    changed = text[:start] + changed
    if case.at is None:
        positions = [next(i for i, (a, b) in enumerate(zip(text, changed, strict=False)) if a != b)]
    else:
        positions = [match.start() for match in re.finditer(case.at, changed)]
    return changed, {line_of(changed, position) for position in positions}


@pytest.mark.parametrize("case", MUTANTS)
def test_mutants_are_caught_where_they_are(case):
    changed, lines = break_file(case)
    findings = check(changed.encode(), kind=case.kind)
    caught = {finding.line for finding in findings if finding.rule == case.rule}
    assert caught, [str(finding) for finding in findings]
    assert caught <= lines, (lines, [str(finding) for finding in findings])
    for finding in findings:
        assert finding.what
        assert finding.remedy


def test_no_rule_is_without_a_mutant():
    source = "".join(path.read_text() for path in sorted(Path(schema.__file__).parent.glob("*.py")))
    rules = set(re.findall(r'\.(?:error|warning)\(\s*"([a-z-]+)"', source)) | {"schema"}
    assert rules == {parameters.values[0].rule for parameters in MUTANTS}


@pytest.mark.parametrize("kind", FileKind)
def test_faultless_files_have_no_finding(kind):
    assert check(FILES[kind].encode(), kind=kind) == []
    behind_a_concentrator = site(types=("three-phase-g3-plc", "single-phase-g3-plc"))
    assert check(generate(behind_a_concentrator, kind), kind=kind) == []


def test_the_catalogue_has_every_rule():
    source = "".join(path.read_text() for path in sorted(Path(schema.__file__).parent.glob("*.py")))
    assert set(re.findall(r'\.(?:error|warning|info)\(\s*"([a-z-]+)"', source)) == set(RULES)


def test_the_page_names_every_rule():
    page = (Path(__file__).parent.parent.parent / "docs" / "scl.md").read_text()
    assert [rule for rule in RULES if f"`{rule}`" not in page] == []


def test_findings_are_sorted_by_line():
    text = FILES[CID].replace('fc="ST"/>', 'fc="MX"/>')
    lines = [finding.line for finding in check(text.encode())]
    assert len(lines) > 10
    assert lines == sorted(lines)


def test_lines_are_right_where_libxml2_stops_counting():
    many = tuple(msgspec.structs.replace(ONE.meters[0], id=f"m{n}", ld=f"M{n}", sap=16 + n) for n in range(200))
    abilities = msgspec.structs.replace(LIBIEC61850, max_logical_devices=1000)
    text = generate(msgspec.structs.replace(ONE, meters=many), CID, abilities=abilities).decode()
    assert text.count("\n") > 70_000
    before, _, behind = text.rpartition('doName="Health"')
    findings = check((before + 'doName="Healthy"' + behind).encode(), kind=CID, abilities=abilities)
    assert [(f.rule, f.line) for f in findings] == [("fcda-do", line_of(text, len(before)))]


def test_without_a_schema_the_other_rules_still_run(monkeypatch):
    monkeypatch.setattr(schema, "_CARRIER", "no_such_package")
    findings = check(FILES[CID].replace('doName="TotVAh"', 'doName="TotWh"').encode())
    assert {(f.rule, f.severity) for f in findings} == {
        ("schema-absent", Severity.INFO),
        ("fcda-do", Severity.ERROR),
    }


def test_a_schema_folder_can_be_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"SCL\.xsd"):
        check(FILES[CID].encode(), schema_folder=tmp_path)
    (tmp_path / "SCL.xsd").write_text("<nothing/>")
    with pytest.raises(ConfigurationError, match="not a usable schema"):
        check(FILES[CID].encode(), schema_folder=tmp_path)
    assert check(FILES[CID].encode(), schema_folder=schema.find(None).parent) == []


def test_other_editions_are_said_not_to_be_checked_by_the_schema():
    text = FILES[CID].replace('version="2007" revision="B" release="4"', 'version="2007" revision="A"')
    assert [(f.rule, f.severity) for f in check(text.encode())] == [("edition", Severity.INFO)]


FIRST_EDITION = """<SCL xmlns="http://www.iec.ch/61850/2003/SCL">
  <IED name="simpleIO"><AccessPoint name="A"><Server><Authentication/><LDevice inst="IO">
    <LN0 lnClass="LLN0" lnType="T" inst=""><DataSet name="D">
      <FCDA ldInst="IO" lnClass="LLN0" doName="Mod" fc="ST"/>
      <FCDA ldInst="IO" lnClass="LLN0" doName="Beh" fc="ST"/>
    </DataSet></LN0>
  </LDevice></Server></AccessPoint></IED>
  <DataTypeTemplates>
    <LNodeType id="T" lnClass="LLN0"><DO name="Mod" type="M"/></LNodeType>
    <DOType id="M" cdc="INC"><DA name="stVal" bType="INT32" fc="ST"/></DOType>
  </DataTypeTemplates>
</SCL>
"""


def test_the_first_edition_is_not_measured_by_names_of_the_second():
    found = [(finding.line, finding.rule) for finding in check(FIRST_EDITION.encode(), kind=ICD)]
    assert found == [(1, "edition"), (2, "ied-name"), (2, "services-missing"), (5, "fcda-do")]


def test_an_object_reference_may_stand_for_its_string():
    text = FILES[CID].replace('name="setSrcRef" bType="ObjRef"', 'name="setSrcRef" bType="VisString129"')
    assert text != FILES[CID]
    assert check(text.encode(), kind=CID) == []


def test_the_engine_s_abilities_do_not_bind_other_products():
    text = FILES[CID].replace('type="flexmap gateway"', 'type="another"')
    text = text.replace("<ReadWrite/>", "<ReadWrite/><FileHandling/>").replace('sAddr="', 'sAddr="vendor ')
    assert check(text.encode(), kind=CID) == []


def test_unknown_classes_are_said_not_to_be_checked():
    text = FILES[CID].replace('lnClass="CSWI"', 'lnClass="ZZZZ"')
    findings = check(text.encode())
    assert {(f.rule, f.severity) for f in findings} >= {
        ("class-unknown", Severity.INFO),
        ("namespace-missing", Severity.WARNING),
    }


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ("", "2003"),
        ('version="2003"', "2003"),
        ('version="2007" revision="A"', "2007A"),
        ('version="2007" revision="A" release="1"', "2007A"),
        ('version="2007" revision="B" release="1"', "2007B"),
        ('version="2007" revision="B" release="4"', "2007B4"),
        ('version="2007" revision="C" release="5"', "2007C5"),
        ('version="2007" revision="Q" release="9"', "2007Q9"),
    ],
)
def test_editions_are_told_apart(attributes, name):
    parsed = document.parse(f'<SCL xmlns="{document.NAMESPACE}" {attributes}/>'.encode())
    assert edition(parsed.root) == name


LINES = (
    "<?xml version='1.0' encoding='{encoding}'?>\n<SCL xmlns='{namespace}'>\n<!-- <IED> --><IED\nname='a'>é"
    "</IED>\r\n<IED name='b'/><Private><![CDATA[<IED>\n]]></Private>\n<?x <IED> ?><IED name='c'/></SCL>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("marked", [True, False])
def test_lines_of_start_tags(encoding, marked):
    name = {"utf-8-sig": "utf-8", "latin-1": "iso-8859-1"}.get(encoding, encoding)
    text = LINES.format(encoding=name, namespace=document.NAMESPACE)
    if not marked:
        text = re.sub(r"(?s)<!-- .*? -->|<!\[CDATA.*?\]\]>|<\?x .*?\?>", "", text)
    parsed = document.parse(text.encode(encoding))
    lines = list(parsed.lines_of(parsed.root).values())
    assert lines == ([3, 5, 5, 7] if marked else [3, 5, 5, 6])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "XML"),
        ("<a>" * 300, "nested too deeply"),
        ("<SCL " + "x='' " * 400 + "/>", "at most"),
        ("not xml", "not well-formed"),
        ("<SCL>", "not well-formed"),
        ("<SCL/>", "root element"),
        ("<html xmlns='http://www.iec.ch/61850/2003/SCL'/>", "root element"),
        ("<!DOCTYPE SCL><SCL xmlns='http://www.iec.ch/61850/2003/SCL'/>", "document type"),
        (
            "<!DOCTYPE SCL [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><SCL xmlns='http://www.iec.ch/61850/2003/SCL'/>",
            "document type",
        ),
    ],
)
def test_what_is_not_scl_is_refused(text, what, monkeypatch):
    monkeypatch.setattr(document, "MAX_MARKS", 400)
    with pytest.raises(ConfigurationError, match=what):
        check(text.encode())


def test_a_bomb_of_entities_does_not_go_off():
    levels = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    bomb = f"<!DOCTYPE SCL [<!ENTITY a0 'ha'>{levels}]><SCL xmlns='http://www.iec.ch/61850/2003/SCL' x='&a11;'/>"
    with pytest.raises(ConfigurationError):
        check(bomb.encode())


def test_files_are_named_in_errors(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read") as caught:
        check(tmp_path / "missing.cid")
    assert "missing.cid" in caught.value.where
    path = tmp_path / "broken.cid"
    path.write_text("<SCL>\n<a>\n</SCL>")
    with pytest.raises(ConfigurationError) as caught:
        check(path)
    assert caught.value.where == f"{path}, line 3"


def test_the_kind_comes_from_the_extension(tmp_path):
    path = tmp_path / "site.CID"
    path.write_text(FILES[ICD])
    assert [finding.rule for finding in check(path)] == ["ied-name"]
    path = tmp_path / "site.xml"
    path.write_text(FILES[ICD])
    assert check(path) == []


def test_a_finding_reads_as_one_line():
    finding = Finding(7, Severity.ERROR, "fcda-do", "no data object", "name one")
    assert str(finding) == "line 7: error: no data object [fcda-do]; name one"
