"""Rules for values: literals of enumerations, ``Val`` against its type."""

from __future__ import annotations

import re

from flexmap.scl import namespace
from flexmap.scl.document import tag
from flexmap.scl.rules.context import Context, Element, children, descendants

_VAL = tag("Val")
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?INF|NaN")
_RANGES = {
    "INT8": (-0x80, 0x7F),
    "INT16": (-0x8000, 0x7FFF),
    "INT24": (-0x80_0000, 0x7F_FFFF),
    "INT32": (-0x8000_0000, 0x7FFF_FFFF),
    "INT64": (-(1 << 63), (1 << 63) - 1),
    "INT8U": (0, 0xFF),
    "INT16U": (0, 0xFFFF),
    "INT24U": (0, 0xFF_FFFF),
    "INT32U": (0, 0xFFFF_FFFF),
}


def check(context: Context) -> None:
    """Check the literals and the values of the templates."""
    if not context.first_edition:
        _check_literals(context)
    if context.templates is not None:
        for attribute in descendants(context.templates, "DA", "BDA"):
            check_values(context, attribute, attribute)


def _check_literals(context: Context) -> None:
    """Compare the EnumTypes that standard attributes use with the standard's literals."""
    checked: set[tuple[str, str]] = set()
    for enum_id, standard in _standard_uses(context):
        enum_type = context.enumerations.get(enum_id)
        known = namespace.literals(standard)
        if enum_type is None or known is None or (enum_id, standard) in checked:
            continue
        checked.add((enum_id, standard))
        for value in children(enum_type, "EnumVal"):
            ordinal, literal = value.get("ord", ""), value.text or ""
            expected = known.get(int(ordinal)) if _INTEGER.fullmatch(ordinal) else None
            if expected is None and (ordinal.startswith("-") and standard != "MultiplierKind"):
                continue  # negative ordinals are left to manufacturers
            if expected != literal:
                what = f"{standard} has {'no such ordinal' if expected is None else repr(expected)} at {ordinal}"
                remedy = "use the standard's literals"
                context.error("enum-literals", value, f"'{literal}': {what}", remedy)


def _standard_uses(context: Context) -> list[tuple[str, str]]:
    """Return the pairs of EnumType id and standard enumeration that the document implies."""
    pairs: list[tuple[str, str]] = []
    for node_type in context.node_types.values():
        for element in children(node_type, "DO"):
            standard = namespace.enumeration_of(element.get("name", ""))
            object_type = context.object_types.get(element.get("type", ""))
            if standard is not None and object_type is not None:
                pairs += [(enum_id, standard) for enum_id in _value_types(object_type)]
    for object_type in context.object_types.values():
        known = namespace.attributes(object_type.get("cdc", "")) or {}
        for element in children(object_type, "DA"):
            attribute = known.get(element.get("name", ""))
            if attribute is not None:
                pairs += _typed(context, element, attribute.type)
    return pairs


def _value_types(object_type: Element) -> list[str]:
    names = {"stVal", "setVal"}
    return [
        element.get("type", "")
        for element in children(object_type, "DA")
        if element.get("name") in names and element.get("bType") == "Enum"
    ]


def _typed(context: Context, element: Element, type_name: str, depth: int = 0) -> list[tuple[str, str]]:
    if namespace.literals(type_name) is not None:
        return [(element.get("type", ""), type_name)]
    structure, members = context.structures.get(element.get("type", "")), namespace.structure(type_name)
    if structure is None or members is None or depth > 4:
        return []
    return [
        pair
        for below in children(structure, "BDA")
        if below.get("name", "") in members
        for pair in _typed(context, below, members[below.get("name", "")].type, depth + 1)
    ]


def check_values(context: Context, holder: Element, attribute: Element) -> None:
    """Check each ``Val`` of a DA, BDA or DAI against the attribute's type."""
    basic_type = attribute.get("bType", "")
    for value in holder.iterchildren(_VAL):
        text = value.text or ""
        if basic_type == "Enum":
            _check_literal(context, value, text, attribute.get("type", ""))
        elif text and not _fits(text.strip(), basic_type):
            what = f"'{text}' is not a value of {basic_type}"
            context.error("value-type", value, what, f"write a value of {basic_type}")


def _check_literal(context: Context, value: Element, text: str, enum_id: str) -> None:
    enum_type = context.enumerations.get(enum_id)
    if enum_type is None:
        return
    literals = [known.text or "" for known in children(enum_type, "EnumVal")]
    if text not in literals:
        few = ", ".join(repr(literal) for literal in literals[:6])
        remedy = f"use one of {few}{' …' if len(literals) > 6 else ''}"
        context.error("enum-value", value, f"'{text}' is not a literal of EnumType '{enum_id}'", remedy)


def _fits(text: str, basic_type: str) -> bool:
    if basic_type in _RANGES:
        low, high = _RANGES[basic_type]
        return len(text) < 24 and _INTEGER.fullmatch(text) is not None and low <= int(text) <= high
    if basic_type in {"FLOAT32", "FLOAT64"}:
        return _FLOAT.fullmatch(text) is not None
    if basic_type == "BOOLEAN":
        return text in {"true", "false", "0", "1"}
    if basic_type == "Dbpos":
        return text in {"intermediate", "off", "on", "bad", "intermediate-state", "bad-state"}
    match = re.fullmatch(r"(?:VisString|Unicode)(\d+)", basic_type)
    return match is None or len(text) <= int(match[1])
