"""Rules for OBIS bindings: their form, the COSEM attribute they name, and the unit of what they bind."""

from __future__ import annotations

from flexmap.mapping import units
from flexmap.model import LocalError, Register, obis
from flexmap.scl.binding import parse_binding
from flexmap.scl.document import tag
from flexmap.scl.rules.context import Context, Element, child, children, text_of

PRODUCT = "flexmap gateway"
"""``IED type`` of files whose ``sAddr`` hold OBIS bindings."""

_VALUES = frozenset({"f", "i", "actVal", "frVal", "stVal", "setVal"})
_DESCRIPTIONS = frozenset({"d", "dU"})
_ATTRIBUTES = {1: {2}, 3: {2}, 4: {2}, 5: {2, 3}}
"""Attributes of a COSEM class that hold a value, where others describe it (IEC 62056-6-2)."""
_DAI, _SDI = tag("DAI"), tag("SDI")

_ELECTRICITY = 1
_AVERAGES = frozenset({4, 5, 6, 7, 14, 15, 16, 24, 25, 26, 27, 28})
"""Value group D: demands, extremes and instantaneous values."""
_INTEGRALS = frozenset({8, 9, 10, 29, 30})
_ACTIVE, _REACTIVE, _APPARENT = ("W", "Wh"), ("var", "varh"), ("VA", "VAh")
_QUANTITIES = {
    **dict.fromkeys((1, 2, 15, 16, 17, 18, 19, 20), _ACTIVE),
    **dict.fromkeys((3, 4, 5, 6, 7, 8), _REACTIVE),
    **dict.fromkeys((9, 10), _APPARENT),
    11: ("A", None),
    12: ("V", None),
    13: ("", None),
    14: ("Hz", None),
}
"""Units of a quantity and of its integral by value group C, which has 20 codes for the sum and for each phase
(IEC 62056-6-1 table 10)."""


def check_binding(context: Context, element: Element, found: Element, where: str) -> None:
    """Check the form of an ``sAddr``, and what it names; ``found`` is the attribute's DA or BDA."""
    address = element.get("sAddr")
    if address is None:
        return
    try:
        registers = parse_binding(address)
    except LocalError as error:
        context.error("binding", element, f"{where}: {error}", "write A-B:C.D.E.F;class;attribute")
        return
    for register in registers:
        allowed = _ATTRIBUTES.get(register.class_id)
        if register.attribute == 1 or (allowed is not None and register.attribute not in allowed):
            what = f"{where}: attribute {register.attribute} of class {register.class_id} is not its value"
            context.error("binding-attribute", element, what, "name the attribute with the value, mostly 2")
    name = found.get("name", "")
    identity = found.get("fc") == "DC" and name not in _DESCRIPTIONS
    if name not in _VALUES and not identity:
        what = f"{where}: {name} carries no value of a meter"
        context.error("binding-place", element, what, "bind the value; quality and time come with it")


def check_units(context: Context, instance: Element, where: str) -> None:
    """Check that each binding below a DOI or SDI has the unit that is stated beside it."""
    stated = _unit(instance)
    if stated is not None:
        for element in instance.iterdescendants(_DAI):
            _check_unit(context, element, stated, where)
        return
    for below in children(instance, "SDI"):
        check_units(context, below, f"{where}.{below.get('name')}")


def _unit(instance: Element) -> str | None:
    for below in children(instance, "SDI"):
        if below.get("name") == "units":
            for leaf in children(below, "DAI"):
                if leaf.get("name") == "SIUnit" and child(leaf, "Val") is not None:
                    return text_of(child(leaf, "Val"))
    return None


def _check_unit(context: Context, element: Element, stated: str, where: str) -> None:
    try:
        registers = parse_binding(element.get("sAddr") or "")
    except LocalError:
        return  # reported where it stands
    for register in registers:
        expected = unit_of(register)
        if expected is not None and expected.si_literal != stated:
            what = f"{where}: {register.obis} is in {expected.symbol or 'no unit'}, SIUnit says '{stated}'"
            context.error("binding-unit", element, what, "bind a register of that unit, or set SIUnit")


def unit_of(register: Register) -> units.Unit | None:
    """Return the unit that an OBIS code of electricity implies, None if it implies none."""
    a, _, c, d, e, _ = obis.parse(register.obis)
    if a != _ELECTRICITY or register.class_id not in _ATTRIBUTES or not 0 < c <= 80:
        return None
    average, integral = _QUANTITIES[(c - 1) % 20 + 1]
    if d in _INTEGRALS and integral is not None:
        return units.BY_SYMBOL[integral]
    if d in _AVERAGES and not (d == 7 and e):  # E of an instantaneous value is a harmonic, or a ratio of them
        return units.BY_SYMBOL[average]
    return None
