"""Files of several gateways, and IEDs that go from one file to another."""

import pytest
from click.testing import CliRunner
from lxml import etree
from scl_site import TYPES, site

from flexmap.cli.scl import scl
from flexmap.model import ConfigurationError, Direction
from flexmap.scl import document
from flexmap.scl.check import check
from flexmap.scl.communication import Address
from flexmap.scl.exchange import Right, exchange
from flexmap.scl.generate import FileKind, Gateway, generate, generate_project, product_icd
from flexmap.scl.merge import merge
from flexmap.scl.rename import rename
from flexmap.scl.typeset import types_of

NS = {"s": document.NAMESPACE}
PROJECT = generate(site(types=("single-phase",)), FileKind.SCD, address=Address(host="192.0.2.1"))
FOREIGN = """<?xml version="1.0" encoding="UTF-8"?>
<!-- station, by hand -->
<SCL xmlns="http://www.iec.ch/61850/2003/SCL" xmlns:v="urn:vendor" v:tool="x"
	version="2007" revision="B" release="4">
\t<Private type="vendor"><v:note v:kind="a">keep   me</v:note></Private>
\t<Header id="station"/>
\t<!-- the bus -->
\t<Communication>
\t\t<SubNetwork name="MMS bus" type="8-MMS"/>
\t</Communication>
\t<IED name="BAY1"><AccessPoint name="P1"/></IED>
\t<DataTypeTemplates>
\t\t<LNodeType id="FMSP_LPHD" lnClass="LPHD"><DO name="PhyNam" type="own"/></LNodeType>
\t\t<DOType id="own" cdc="DPL"><DA name="vendor" fc="DC" bType="VisString255"/></DOType>
\t\t<EnumType id="FMSP_SPS"><EnumVal ord="1">one</EnumVal></EnumType>
\t</DataTypeTemplates>
</SCL>
<!-- end -->
"""


def read(data):
    return document.parse(data if isinstance(data, bytes) else data.encode(), everything=True)


def merged(into, data, **options):
    result = merge(into, read(data), **options)
    return result, read(document.unchanged(into.root))


def types_used(root, name):
    """The types below the nodes of an IED, by the path that leads to them, each as text without its id."""
    types = types_of(root)
    found = {}

    def walk(key, path):
        element = types[key]
        copied = etree.fromstring(etree.tostring(element))
        for part in copied.iter():
            part.attrib.pop("id" if part is copied else "type", None)
        found[path] = etree.tostring(copied, method="c14n2", strip_text=True)
        for member in element:
            kind = {"Struct": "DAType", "Enum": "EnumType"}.get(member.get("bType"), "DOType")
            if member.get("type"):
                walk((kind, member.get("type")), f"{path}.{member.get('name')}")

    for node in root.iterfind(f"s:IED[@name='{name}']//s:LDevice/*", NS):
        place = f"{node.getparent().get('inst')}/{node.get('prefix', '')}{node.get('lnClass')}{node.get('inst')}"
        walk(("LNodeType", node.get("lnType")), place)
    return found


def gateways(*names):
    return [
        Gateway(site=site(ied=name, types=(kind,)), address=Address(host=f"192.0.2.{number}"))
        for number, (name, kind) in enumerate(zip(names, TYPES, strict=False), 1)
    ]


@pytest.mark.parametrize("kind", [FileKind.SCD, FileKind.SED])
def test_several_gateways_in_one_file(kind):
    data = generate_project(gateways("FLEX1", "FLEX2", "FLEX3"), kind)
    assert check(data, kind=kind) == []
    root = etree.fromstring(data)
    assert [ied.get("name") for ied in root.iterfind("s:IED", NS)] == ["FLEX1", "FLEX2", "FLEX3"]
    places = {
        c.get("iedName"): c.findtext("s:Address/s:P[@type='IP']", None, NS) for c in root.iter("{*}ConnectedAP")
    }
    assert places == {"FLEX1": "192.0.2.1", "FLEX2": "192.0.2.2", "FLEX3": "192.0.2.3"}
    if kind is FileKind.SCD:
        bound = {node.get("iedName") for node in root.iter("{*}LNode")}
        assert bound == {"FLEX1", "FLEX2", "FLEX3"}
    else:
        rights = [(ied.get("engRight"), ied.get("owner")) for ied in root.iterfind("s:IED", NS)]
        assert rights == [("dataflow", "FLEX1")] * 3


def test_gateways_of_one_type_share_their_types():
    one = generate_project(gateways("FLEX1"), FileKind.SCD)
    two = [
        Gateway(site=site(ied=name, types=(next(iter(TYPES)),)), address=Address(host=host))
        for name, host in (("FLEX1", "192.0.2.1"), ("FLEX2", "192.0.2.2"))
    ]
    both = generate_project(two, FileKind.SCD)
    assert types_of(read(both).root).keys() == types_of(read(one).root).keys()


def test_gateways_that_clash_are_refused():
    first, second = gateways("FLEX1", "FLEX2")
    with pytest.raises(ConfigurationError, match="two gateways are called"):
        generate_project([first, Gateway(site=first.site, address=second.address)], FileKind.SCD)
    with pytest.raises(ConfigurationError, match=r"both reached at 192\.0\.2\.1:102"):
        generate_project([first, Gateway(site=second.site, address=first.address)], FileKind.SCD)
    with pytest.raises(ConfigurationError, match="describes one IED"):
        generate_project([first, second], FileKind.CID)


@pytest.mark.parametrize("product", TYPES)
def test_a_product_joins_a_project(product):
    into = read(PROJECT)
    before = types_used(into.root, "FLEX1")
    icd = product_icd(TYPES[product])
    result, after = merged(into, icd, name="NEW1", address=Address(host="192.0.2.77", port=10102))
    assert (result.ied, result.renamed, result.notes) == ("NEW1", {}, ())
    assert check(document.unchanged(after.root), kind=FileKind.SCD) == []
    assert types_used(after.root, "FLEX1") == before
    assert types_used(after.root, "NEW1") == types_used(read(icd).root, "TEMPLATE")
    assert b"TEMPLATE" not in document.unchanged(after.root)
    (network,) = after.root.iter("{*}SubNetwork")
    assert [c.get("iedName") for c in network] == ["FLEX1", "NEW1"]
    assert network.findtext("s:ConnectedAP[2]/s:Address/s:P[@type='IP']", None, NS) == "192.0.2.77"


def test_types_that_clash_get_new_ids_and_are_found_again():
    into, icd = read(FOREIGN), product_icd(TYPES["single-phase"])
    result, after = merged(into, icd, name="NEW1")
    assert result.renamed == {"FMSP_LPHD": "FMSP_LPHD_2", "FMSP_SPS": "FMSP_SPS_2"}
    assert types_used(after.root, "NEW1") == types_used(read(icd).root, "TEMPLATE")
    ids = [element.get("id") for element in after.root.find("s:DataTypeTemplates", NS)]
    assert len(ids) == len(set(ids))
    again, twice = merged(after, icd, name="NEW2", address=Address(host="192.0.2.8"))
    assert (again.added, again.renamed) == (0, {})
    assert types_used(twice.root, "NEW2") == types_used(twice.root, "NEW1")


def test_what_stood_in_the_project_is_kept():
    into = read(FOREIGN)
    before = document.unchanged(into.root).decode()
    _, after = merged(into, product_icd(TYPES["single-phase"]), name="NEW1")
    text = document.unchanged(after.root).decode()
    for kept in (
        "<!-- station, by hand -->",
        "<!-- the bus -->",
        "<!-- end -->",
        'v:kind="a"',
        "keep   me",
        'v:tool="x"',
    ):
        assert kept in before
        assert kept in text
    for ied in after.root.iterfind("s:IED[@name='NEW1']", NS):
        after.root.remove(ied)
    assert "BAY1" in document.unchanged(after.root).decode()
    kinds = [etree.QName(child).localname for child in after.root if isinstance(child.tag, str)]
    assert kinds == ["Private", "Header", "Communication", "IED", "DataTypeTemplates"]
    (network,) = after.root.iter("{*}SubNetwork")
    assert (network.get("name"), len(network)) == ("MMS bus", 1)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "ISO-8859-1"])
@pytest.mark.parametrize("version", ["", 'version="2007" revision="A"', 'version="2007" revision="B" release="4"'])
@pytest.mark.parametrize("standalone", ["", " standalone='yes'"])
def test_what_is_not_touched_is_written_back_as_it_was(encoding, version, standalone):
    text = FOREIGN.replace('version="2007" revision="B" release="4"', version).replace(
        "keep   me", "k\u00e9ep <![CDATA[<me>]]>"
    )
    text = text.replace("<!-- end -->", "<?tool keep?><!-- end -->")
    text = text.replace(
        '<?xml version="1.0" encoding="UTF-8"?>', f"<?xml version='1.0' encoding='{encoding}'{standalone}?>"
    )
    data = text.encode(encoding)
    back = document.unchanged(read(data).root)
    forms = [
        etree.tostring(etree.fromstring(each).getroottree(), method="c14n2", with_comments=True)
        for each in (data, back)
    ]
    assert forms[0] == forms[1]
    head = back.decode(encoding).splitlines()[0]
    assert encoding in head
    assert ("standalone='yes'" in head) is bool(standalone)


def test_sections_are_made_where_they_are_missing():
    into = read(
        f'<SCL xmlns="{document.NAMESPACE}" version="2007" revision="B" release="4"><Header id="p"/></SCL>'
    )
    _, after = merged(into, product_icd(TYPES["single-phase"]), name="NEW1", address=Address(host="192.0.2.9"))
    kinds = [etree.QName(child).localname for child in after.root]
    assert kinds == ["Header", "Communication", "IED", "DataTypeTemplates"]
    assert check(document.unchanged(after.root), kind=FileKind.SCD) == []


def test_an_ied_takes_the_place_of_its_predecessor():
    into = read(PROJECT)
    newer = generate(
        site(types=("three-phase",), ied="FLEX1", revision=2), FileKind.CID, address=Address(host="x")
    )
    with pytest.raises(ConfigurationError, match="already"):
        merge(into, read(newer))
    result, after = merged(into, newer, replace=True)
    assert result.ied == "FLEX1"
    assert [ied.get("name") for ied in after.root.iterfind("s:IED", NS)] == ["FLEX1"]
    assert not any(key[1].startswith("FMSP_") for key in types_of(after.root))
    assert after.root.findtext(".//s:P[@type='IP']", None, NS) == "192.0.2.1"
    with pytest.raises(ConfigurationError, match="no IED 'OTHER' to replace"):
        merge(after, read(newer), name="OTHER", replace=True)


def test_rights_of_another_project_are_respected():
    given = read(generate(site(types=("single-phase",)), FileKind.SED))
    with pytest.raises(ConfigurationError, match="only the right 'dataflow'"):
        merge(given, read(generate(site(types=("single-phase",)), FileKind.CID)), replace=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "still called TEMPLATE"),
        ({"name": "1st"}, "not an IED name"),
        ({"ied": "OTHER"}, "there is no IED 'OTHER'"),
        ({"name": "FLEX1"}, "line .*IED 'FLEX1' already"),
        ({"name": "NEW", "address": Address(host="192.0.2.1")}, "is that of IED 'FLEX1'"),
    ],
)
def test_what_cannot_be_merged_is_refused(options, what):
    with pytest.raises(ConfigurationError, match=what) as caught:
        merge(read(PROJECT), read(product_icd(TYPES["single-phase"])), **options)
    assert caught.value.remedy


def test_a_later_edition_is_not_put_into_an_earlier_one():
    older = FOREIGN.replace('version="2007" revision="B" release="4"', 'version="2007" revision="A"')
    with pytest.raises(ConfigurationError, match="2007B4, the project of 2007A"):
        merge(read(older), read(product_icd(TYPES["single-phase"])), name="N")


def test_an_earlier_edition_is_remembered():
    older = FOREIGN.replace('version="2007" revision="B" release="4"', 'version="2007" revision="A"')
    _, after = merged(read(PROJECT), older)
    ied = after.root.find("s:IED[@name='BAY1']", NS)
    assert (ied.get("originalSclVersion"), ied.get("originalSclRevision")) == ("2007", "A")


def test_a_name_is_changed_wherever_it_stands():
    text = f"""<SCL xmlns="{document.NAMESPACE}"><Communication><SubNetwork name="s">
    <ConnectedAP iedName="OLD" apName="P"/></SubNetwork></Communication><IED name="OLD"><LDevice inst="LD"><LN0>
    <ReportControl name="r" rptID="OLDLD/LLN0$r"/>
    <GSEControl name="g" appID="OLDLD/LLN0.g"><IEDName>OLD</IEDName></GSEControl>
    <DOI name="InRef"><DAI name="setSrcRef"><Val>OLDLD/MMXU1.TotW</Val></DAI></DOI>
    <DOI name="PhyNam"><DAI name="name"><Val>OLD</Val></DAI><DAI name="model"><Val>OLD</Val></DAI></DOI>
    <DOI name="d"><DAI name="d"><Val>OLD text</Val></DAI></DOI></LN0></LDevice>
    <Private type="x"><ExtRef iedName="OLD"/></Private></IED><IED name="OLDER"><ExtRef iedName="OLD"/>
    <ExtRef iedName="OLDER"/></IED></SCL>"""
    parsed = read(text)
    assert rename(parsed.root, "OLD", "NEW") == 8
    changed = document.unchanged(parsed.root).decode()
    assert changed.count("NEW") == 8
    for kept in (
        "OLD text",
        '"OLDER"><ExtRef iedName="NEW"',
        '<ExtRef iedName="OLDER"/>',
        '<Private type="x"><ExtRef iedName="OLD"/>',
    ):
        assert kept in changed


def test_a_project_gives_an_ied_to_another():
    project = read(generate_project(gateways("FLEX1", "FLEX2"), FileKind.SCD))
    exchange(project, ["FLEX2"], Right.FIX)
    data = document.unchanged(project.root)
    assert check(data, kind=FileKind.SED) == []
    assert b"FLEX1" not in data.replace(b'id="FLEX1"', b"").replace(b'owner="FLEX1"', b"")
    (ied,) = project.root.iterfind("s:IED", NS)
    assert (ied.get("name"), ied.get("engRight"), ied.get("owner")) == ("FLEX2", "fix", "FLEX1")
    with pytest.raises(ConfigurationError, match="no IED 'FLEX1'"):
        exchange(project, ["FLEX1"], Right.FIX)


def test_the_commands(tmp_path):
    project, product, out, given = (tmp_path / name for name in ("p.scd", "new.icd", "out.scd", "given.sed"))
    project.write_bytes(PROJECT)
    product.write_bytes(product_icd(TYPES["three-phase"]))
    result = CliRunner().invoke(scl, ["merge", str(product), str(project), "-o", str(out), "--name", "NEW"])
    assert result.exit_code == 0, result.output
    assert "IED 'NEW'" in result.output
    assert "placeholder 127.0.0.1" in result.output
    result = CliRunner().invoke(scl, ["sed", str(out), "--ied", "NEW", "--right", "full", "-o", str(given)])
    assert result.exit_code == 0, result.output
    assert check(given) == []


def test_both_directions_stand_in_bays():
    data = generate_project(
        [Gateway(site=site(types=("three-phase", "single-phase"), directions=tuple(Direction)))], FileKind.SCD
    )
    assert {bay.get("name") for bay in etree.fromstring(data).iter("{*}Bay")} == {"Infeed", "Feeders"}
