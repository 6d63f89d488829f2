from pathlib import Path

import msgspec
import pytest
from lxml import etree
from scl_site import IDENTITY, TYPES, site

from flexmap.mapping import cdc
from flexmap.mapping.data import data_folder
from flexmap.model import ConfigurationError, Direction, Kind, Meter, Point, Reference, Register
from flexmap.scl import check as checker
from flexmap.scl.abilities import LIBIEC61850, NATIVE
from flexmap.scl.binding import format_binding, parse_binding
from flexmap.scl.communication import Address
from flexmap.scl.generate import FileKind, generate, kind_of, product_icd
from flexmap.scl.nodes import node_named
from flexmap.scl.reports import meter_instances

NS = {"s": "http://www.iec.ch/61850/2003/SCL"}
KINDS = tuple(FileKind)


def tree(document):
    return etree.fromstring(document)


def nodes_of(ied, inst):
    device = ied.find(f".//s:LDevice[@inst='{inst}']", NS)
    return {
        f"{ln.get('prefix', '')}{ln.get('lnClass')}{ln.get('inst')}": ln
        for ln in device
        if ln.tag.endswith(("LN", "LN0"))
    }


def instance(node, path):
    """The DAI at a path of names below a node."""
    element = node
    for name in path:
        element = next(e for e in element if e.get("name") == name and e.tag.endswith(("}DOI", "}SDI", "}DAI")))
    return element


def value(node, *path):
    return instance(node, path).findtext("s:Val", namespaces=NS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "types", [("three-phase",), ("single-phase",), ("three-phase", "single-phase")], ids="+".join
)
@pytest.mark.parametrize("directions", [(Direction.DEMAND,), (Direction.SUPPLY,), tuple(Direction)], ids="+".join)
def test_generated_files_are_faultless(kind, types, directions):
    document = generate(site(types=types, directions=directions), kind)
    findings = checker.check(document, kind=kind)
    assert findings == []  # the schema too: its absence would be a finding


def test_a_file_promises_what_its_engine_does():
    with_files = msgspec.structs.replace(NATIVE, file_service=True)
    promised = {}
    for abilities in (LIBIEC61850, NATIVE, with_files):
        document = generate(site(types=("single-phase",)), FileKind.CID, abilities=abilities)
        assert checker.check(document, kind=FileKind.CID, abilities=abilities) == []
        services = {etree.QName(each).localname for each in tree(document).find(".//s:Services", NS)}
        promised[abilities] = services & {"DynDataSet", "FileHandling"}
    assert list(promised.values()) == [set(), {"DynDataSet"}, {"DynDataSet", "FileHandling"}]


@pytest.mark.parametrize("kind", KINDS)
def test_same_input_same_bytes(kind):
    assert generate(site(), kind) == generate(site(), kind)


def test_another_site_is_another_file():
    assert generate(site(), FileKind.CID) != generate(site(ied="FLEX2"), FileKind.CID)


@pytest.mark.parametrize("meter_type", TYPES.values(), ids=list(TYPES))
def test_committed_product_files_are_current(meter_type):
    """If this fails: flexmap scl icd -o scl."""
    assert (data_folder("scl") / f"{meter_type.id}.icd").read_bytes() == product_icd(meter_type)


def test_an_icd_is_a_product():
    root = tree(generate(site(), FileKind.ICD))
    assert [ied.get("name") for ied in root.findall("s:IED", NS)] == ["TEMPLATE"]
    assert [d.get("inst") for d in root.findall(".//s:LDevice", NS)] == ["GW", "M1", "M2"]
    assert b"FM0001" not in generate(site(), FileKind.ICD)


@pytest.mark.parametrize("meter_type", TYPES.values(), ids=list(TYPES))
@pytest.mark.parametrize("direction", Direction)
def test_every_point_is_bound_where_its_reference_says(meter_type, direction):
    root = tree(generate(site(types=(meter_type.id,), directions=(direction,)), FileKind.CID))
    nodes = nodes_of(root.find("s:IED", NS), "MTR01")
    bound = 0
    for point in (*meter_type.served, *meter_type.identity):
        reference = point.reference_for(direction)
        path = (*cdc.data_object(reference).split("."), *cdc.place(reference).attribute.split("."))
        dai = instance(nodes[reference.ln], path)
        assert parse_binding(dai.get("sAddr")) == point.registers
        bound += 1
        if point.control is not None:
            assert instance(nodes[point.control.ln], ("Pos", "stVal")).get("sAddr") == dai.get("sAddr")
            bound += 1
    assert len(root.findall(".//s:DAI[@sAddr]", NS)) == bound


def test_direction_swaps_demand_and_supply():
    root = tree(generate(site(types=("single-phase",)), FileKind.CID))
    addresses = {
        inst: instance(nodes_of(root.find("s:IED", NS), inst)["MMTR1"], (name, "actVal")).get("sAddr")
        for inst, name in (("MTR01", "DmdWh"), ("MTR02", "SupWh"))
    }
    assert addresses == {"MTR01": "1-0:1.8.0.255;4;2", "MTR02": "1-0:1.8.0.255;4;2"}


def test_meters_of_a_type_share_their_types_whatever_their_direction():
    root = tree(generate(site(types=("single-phase",)), FileKind.CID))
    heads = root.findall(".//s:LDevice", NS)
    types = [[node.get("lnType") for node in head] for head in heads[1:]]
    assert types[0] == types[1]


def test_values_of_the_first_meter():
    root = tree(generate(site(revision=7), FileKind.CID))
    nodes = nodes_of(root.find("s:IED", NS), "MTR01")
    assert value(nodes["LLN0"], "GrRef", "setSrcRef") == "@GW"
    assert value(nodes["LLN0"], "NamPlt", "ldNs") == "IEC 61850-7-4:2007B"
    assert value(nodes["LLN0"], "NamPlt", "configRev") == "7"
    assert value(nodes["LPHD1"], "Proxy", "stVal") == "true"
    assert value(nodes["LPHD1"], "PhyNam", "serNum") == IDENTITY["serial-number"]
    assert value(nodes["LPHD1"], "PhyNam", "location") == "Hall 1"
    assert value(nodes["XSWI1"], "SwTyp", "stVal") == "Load Break"
    assert value(nodes["MMTR1"], "DmdWh", "units", "SIUnit") == "Wh"
    assert value(nodes["MMTR1"], "DmdWh", "pulsQty") == "1"
    assert value(nodes["MMXU1"], "PhV", "phsA", "units", "SIUnit") == "V"
    assert value(nodes["MMXU1"], "PhV", "phsA", "d") == "Voltage, L1"
    assert value(nodes["GGIO1"], "Alm1", "d") == "0-0:96.3.1.255"
    assert value(nodes["GGIO1"], "Alm1", "dU") == "Cover open (tamper)"
    gateway = nodes_of(root.find("s:IED", NS), "GW")
    assert list(gateway) == ["LLN0", "LPHD1", "LTMS1", "LCCH1"]
    assert value(gateway["LPHD1"], "Proxy", "stVal") == "false"


def test_pulse_quantity_is_the_scaler():
    meter_type = TYPES["single-phase"]
    points = tuple(
        msgspec.structs.replace(point, scaler=-3 if point.kind is Kind.ENERGY else point.scaler)
        for point in meter_type.points
    )
    changed = msgspec.structs.replace(meter_type, points=points)
    root = tree(product_icd(changed))
    assert value(nodes_of(root, "M1")["MMTR1"], "DmdWh", "pulsQty") == "0.001"


def test_a_point_without_a_place_is_kept_as_generic():
    point = Point(
        name="phase-angle",
        title="Phase angle φ",
        kind=Kind.INSTANTANEOUS,
        registers=(Register("1-0:81.7.4.255", 3, 2),),
        type="long",
        reference=Reference("GGIO9", "AnIn1", "MV"),
    )
    meter_type = TYPES["single-phase"]
    document = product_icd(msgspec.structs.replace(meter_type, points=(*meter_type.points, point)))
    assert checker.check(document, kind=FileKind.ICD) == []
    node = nodes_of(tree(document), "M1")["GGIO9"]
    assert value(node, "AnIn1", "d") == "1-0:81.7.4.255"
    assert value(node, "AnIn1", "dU") == "Phase angle φ"


def test_breaker_control_models():
    root = tree(product_icd(TYPES["single-phase"]))
    models = {}
    for node in ("XSWI", "CSWI"):
        type_id = root.find(f".//s:LNodeType[@lnClass='{node}']/s:DO[@name='Pos']", NS).get("type")
        object_type = root.find(f".//s:DOType[@id='{type_id}']", NS)
        names = [element.get("name") for element in object_type if element.get("fc") == "CO"]
        models[node] = (object_type.findtext("s:DA[@name='ctlModel']/s:Val", namespaces=NS), names)
    assert models == {
        "XSWI": ("direct-with-enhanced-security", ["Oper"]),
        "CSWI": ("sbo-with-enhanced-security", ["SBOw", "Oper", "Cancel"]),
    }


@pytest.mark.parametrize("meter_type", TYPES.values(), ids=list(TYPES))
def test_reports_cover_every_point(meter_type):
    root = tree(product_icd(meter_type))
    members = {
        (m.get("prefix", "") + m.get("lnClass") + m.get("lnInst", ""), m.get("doName"), m.get("fc"))
        for m in root.findall(".//s:LDevice[@inst='M1']/s:LN0/s:DataSet/s:FCDA", NS)
    }
    for point in meter_type.points:
        name = point.reference.do.partition(".")[0]
        assert (point.reference.ln, name, cdc.place(point.reference).fc) in members
    controls = root.findall(".//s:LDevice[@inst='M1']/s:LN0/s:ReportControl", NS)
    buffered = {control.get("name"): control.get("buffered") for control in controls}
    assert buffered == {"urMeas": "false", "brEnergy": "true", "brState": "true"}
    site_wide = root.findall(".//s:LDevice[@inst='GW']/s:LN0/s:ReportControl", NS)
    assert {control.get("name") for control in site_wide} == {"brAllEnergy", "brAllState", "urAllHealth"}
    for control in (*controls, *site_wide):
        assert control.get("rptID")
        assert control.get("confRev") == "1"
        assert control.find("s:RptEnabled", NS).get("max") == str(LIBIEC61850.max_clients)


def test_large_sites_get_fewer_instances():
    assert meter_instances(1, LIBIEC61850) == 5
    assert meter_instances(21, LIBIEC61850) == 5
    assert meter_instances(99, LIBIEC61850) == 1
    for meters in range(1, 100):
        blocks = 3 * meters * meter_instances(meters, LIBIEC61850) + 15
        assert blocks <= LIBIEC61850.max_report_blocks


def test_an_scd_binds_every_working_node_once():
    root = tree(generate(site(), FileKind.SCD))
    bound = [
        (r.get("ldInst"), r.get("prefix", "") + r.get("lnClass") + r.get("lnInst"))
        for r in root.findall(".//s:LNode", NS)
    ]
    present = [
        (device.get("inst"), name)
        for device in root.findall(".//s:LDevice", NS)
        for name in nodes_of(root, device.get("inst"))
        if name not in {"LLN0", "LPHD1"}
    ]
    assert sorted(bound) == sorted(present)
    bays = {bay.get("name"): len(bay) for bay in root.findall(".//s:Bay", NS)}
    assert bays == {"Infeed": 2, "Feeders": 2}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", [("IP", "192.0.2.7"), ("IP-SUBNET", "255.255.255.0")]),
        ("2001:db8::1", [("IPv6", "2001:db8:0:0:0:0:0:1")]),
        ("gateway.example", [("DNSName", "gateway.example")]),
    ],
)
def test_addresses(host, expected):
    document = generate(site(), FileKind.CID, address=Address(host=host, port=10102))
    parameters = [(p.get("type"), p.text) for p in tree(document).findall(".//s:Address/s:P", NS)]
    assert parameters[: len(expected)] == expected
    assert parameters[-1] == ("MMS-Port", "10102")
    assert checker.check(document, kind=FileKind.CID) == []


def one_meter(**changes):
    return site(meters=(Meter(**{"id": "m", "type": "single-phase", "ld": "M1", "sap": 16, **changes}),))


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (lambda: generate(site(ied="None"), FileKind.CID), "ied"),
        (lambda: generate(site(ied="1FLEX"), FileKind.CID), "ied"),
        (lambda: generate(site(ied="F" * 60), FileKind.CID), "ld"),
        (lambda: generate(one_meter(ld="GW"), FileKind.CID), "ld"),
        (lambda: generate(one_meter(ld="M-1"), FileKind.CID), "ld"),
        (lambda: generate(site(), FileKind.CID, address=Address(port=0)), "address"),
        (lambda: generate(site(), FileKind.CID, address=Address(host="")), "address"),
        (lambda: kind_of(Path("site.xml")), "site.xml"),
        (
            lambda: generate(
                site(), FileKind.CID, abilities=msgspec.structs.replace(LIBIEC61850, max_logical_devices=4)
            ),
            "meters",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_place(wrong, where):
    with pytest.raises(ConfigurationError) as caught:
        wrong()
    assert where in caught.value.where


def test_long_identity_is_cut_to_what_the_attribute_holds():
    meter = one_meter(identity={"device-name": "n" * 100, "serial-number": "Zähler"})
    document = generate(meter, FileKind.CID)
    node = nodes_of(tree(document), "M1")["LPHD1"]
    assert len(value(node, "PhyNam", "name")) == 64
    assert value(node, "PhyNam", "serNum") == "Z?hler"
    assert checker.check(document, kind=FileKind.CID) == []


def test_node_names():
    node = node_named("L1MMTR12")
    assert (node.prefix, node.ln_class, node.inst, node.name) == ("L1", "MMTR", "12", "L1MMTR12")
    assert format_binding(TYPES["single-phase"].points[0].registers) == "1-0:1.8.0.255;4;2"
