import pytest

from flexmap.mapping import cdc, units
from flexmap.mapping.table import load_products
from flexmap.scl import namespace
from flexmap.scl.nodes import node_named, references

POINTS = [(t.id, p) for t in load_products().values() for p in (*t.served, *t.identity)]


def test_classes_inherit():
    assert list(namespace.class_objects("MMTR"))[:3] == ["NamPlt", "Beh", "Health"]
    assert namespace.class_objects("MMTR")["SupWh"].cdc == "BCR"
    assert namespace.class_objects("XSWI")["SwTyp"].presence == "M"
    assert namespace.class_objects("LPHD")["Proxy"].presence == "M"
    assert namespace.class_objects("ABCD") is None
    assert namespace.class_objects("DomainLN") is None


def test_only_some_data_objects_may_be_numbered():
    assert namespace.data_object("GGIO", "Ind12").cdc == "SPS"
    assert namespace.data_object("MMXU", "TotW2") is None
    assert namespace.data_object("MMXU", "Nothing") is None


def test_substitution_and_text_attributes_are_expanded_in_order():
    names = list(namespace.attributes("MV"))
    assert names.index("mag") < names.index("q") < names.index("t") < names.index("subMag") < names.index("units")
    assert names[-4:] == ["d", "dU", "cdcName", "dataNs"]
    assert namespace.attributes("MV")["subMag"].fc == "SV"
    assert namespace.attributes("XYZ") is None


def test_every_table_is_consistent():
    """Each CDC, structure and enumeration that is named is there, but for the classes left out on purpose."""
    tables = namespace._tables()
    left_out = {"HWYE", "HDEL", "HMV", "SAV", "CSG", "CTS", "CST", "UTS", "BTS", "LTS", "GTS", "MTS", "NTS", "STS"}
    for ln_class in tables.classes:
        for data_object in (namespace.class_objects(ln_class) or {}).values():
            assert data_object.cdc in left_out or namespace.attributes(data_object.cdc), data_object
            if data_object.cdc in {"ENS", "ENC", "ENG"}:
                assert namespace.literals(namespace.enumeration_of(data_object.name)), data_object
    basic = {"BOOLEAN", "FLOAT32", "Quality", "Timestamp", "ObjRef", "Dbpos", "Check", "Any", "Struct", "Enum"}
    for name in tables.cdcs:
        for attribute in namespace.attributes(name).values():
            kind = attribute.type if attribute.fc == "SDO" else attribute.basic_type
            assert kind in basic | set(tables.cdcs) or kind.startswith(("INT", "VisString", "Unicode", "Octet"))


@pytest.mark.parametrize("point", [p for _, p in POINTS], ids=[f"{t}-{p.name}" for t, p in POINTS])
def test_the_mapping_table_names_what_the_standard_has(point):
    for reference in references(point):
        node = node_named(reference.ln)
        name, _, child = cdc.data_object(reference).partition(".")
        assert namespace.data_object(node.ln_class, name).cdc == reference.cdc
        place = cdc.place(reference)
        attributes = namespace.attributes(reference.cdc)
        if child:
            assert attributes[child].fc == namespace.SUB_DATA_OBJECT
            attributes = namespace.attributes(attributes[child].type)
        assert attributes[place.attribute.split(".")[0]].fc == place.fc


def test_units_have_the_standard_s_ordinals():
    literals = namespace.literals("SIUnitKind")
    assert {unit.symbol: literals[unit.si] for unit in units.UNITS} == {
        u.symbol: u.si_literal for u in units.UNITS
    }
    assert namespace.literals("MultiplierKind")[0] == ""
    assert namespace.literals("BehaviourModeKind") == {
        1: "on",
        2: "blocked",
        3: "test",
        4: "test/blocked",
        5: "off",
    }
