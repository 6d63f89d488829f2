"""The checker on files that nobody vouches for: findings or a ConfigurationError, never anything else."""

import contextlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from scl_site import site

from flexmap.model import ConfigurationError
from flexmap.scl import document
from flexmap.scl.abilities import NATIVE
from flexmap.scl.check import check
from flexmap.scl.diff import diff
from flexmap.scl.engineered import load
from flexmap.scl.generate import FileKind, generate
from flexmap.scl.merge import merge
from flexmap.scl.summary import summarise

SCD = generate(site(types=("single-phase",)), FileKind.SCD)
VALUES = [
    "",
    " ",
    "0",
    "-1",
    "1" * 400,
    "é",
    "Ω",
    "a.b.c.d",
    "q(1)",
    "$",
    "None",
    "@",
    "TEMPLATE",
    "Struct",
    "Enum",
    "SDO",
]
QUIET = [HealthCheck.too_slow]


def checked(document, kind):
    try:
        findings = check(document, kind=kind)
    except ConfigurationError as error:
        assert error.what
        return None
    lines = document.count(b"\n") + 1
    assert all(0 < finding.line <= lines for finding in findings)
    return findings


def mutate(root, dice):
    """One random change: an attribute, a text, an element removed, doubled, moved or renamed."""
    elements = list(root.iter(etree.Element))
    element = dice.choice(elements)
    action = dice.randrange(7)
    if action == 0 and element.attrib:
        del element.attrib[dice.choice(list(element.attrib))]
    elif action == 1 and element.attrib:
        other = dice.choice(elements).attrib.values() or VALUES
        element.set(dice.choice(list(element.attrib)), dice.choice([*VALUES, *other]))
    elif action == 2:
        element.text = dice.choice(VALUES)
    elif action == 3 and element is not root:
        element.getparent().remove(element)
    elif action == 4 and element is not root:
        element.addnext(etree.fromstring(etree.tostring(element)))
    elif action == 5 and element is not root:
        target = dice.choice(elements)
        if element not in [target, *target.iterancestors()]:
            target.append(element)
    else:
        element.tag = dice.choice(elements).tag


@pytest.mark.parametrize("kind", [*FileKind, None])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 12))
@settings(max_examples=30, deadline=None, suppress_health_check=QUIET)
def test_mutated_trees(kind, seed, changes):
    dice = random.Random(seed)
    root = etree.fromstring(SCD)
    for _ in range(changes):
        mutate(root, dice)
    checked(etree.tostring(root), kind)


@given(seed=st.integers(0, 2**32), changes=st.integers(1, 12))
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
def test_mutated_trees_are_compared_merged_and_loaded(tmp_path_factory, seed, changes):
    """Diff, merge and the loader say what is wrong by ConfigurationError alone."""
    dice = random.Random(seed)
    root = etree.fromstring(SCD)
    for _ in range(changes):
        mutate(root, dice)
    data = etree.tostring(root)
    path = tmp_path_factory.mktemp("fuzz") / "station.scd"
    path.write_bytes(data)
    with contextlib.suppress(ConfigurationError):
        both = [summarise(document.parse(each)) for each in (SCD, data)]
        assert diff(*both).changes or not diff(both[1], both[0]).changes
    with contextlib.suppress(ConfigurationError):
        merge(document.parse(SCD, everything=True), document.parse(data, everything=True), name="NEW")
    with contextlib.suppress(ConfigurationError):
        merge(document.parse(data, everything=True), document.parse(SCD, everything=True), name="NEW")
    with contextlib.suppress(ConfigurationError):
        load(path, None, NATIVE)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=80, deadline=None, suppress_health_check=QUIET)
def test_mutated_bytes(seed):
    dice = random.Random(seed)
    document = bytearray(SCD)
    for _ in range(dice.randint(1, 20)):
        start = dice.randrange(len(document))
        document[start : start + dice.randint(0, 30)] = dice.randbytes(dice.randint(0, 8))
    checked(bytes(document), None)


@given(st.binary(max_size=300))
def test_any_bytes(document):
    checked(document, None)


@given(st.text("<>/=\"' &;!-[]?SCLDOIname", max_size=200))
def test_any_markup(text):
    namespace = "http://www.iec.ch/61850/2003/SCL"
    checked(f'<SCL xmlns="{namespace}" version="2007" revision="B" release="4">{text}</SCL>'.encode(), None)


def test_types_that_contain_themselves():
    text = SCD.decode()
    loop = '<DOType id="FMSP_ORG" cdc="WYE"><SDO name="phsA" type="FMSP_ORG"/></DOType>'
    start = text.index('<DOType id="FMSP_ORG"')
    end = text.index("</DOType>", start) + len("</DOType>")
    text = text[:start] + loop + text[end:]
    struct = '<DAType id="FMSP_Unit"><BDA name="SIUnit" bType="Struct" type="FMSP_Unit"/></DAType>'
    start = text.index('<DAType id="FMSP_Unit"')
    end = text.index("</DAType>", start) + len("</DAType>")
    findings = checked((text[:start] + struct + text[end:]).encode(), FileKind.SCD)
    assert {finding.rule for finding in findings} >= {"do-cdc", "da-type"}
