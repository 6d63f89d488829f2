"""Rules for values: literals of enumerations, ``Val`` against its type, namespaces, paths and bindings."""

from __future__ import annotations

import re

from flexmap.model import LocalError
from flexmap.scl import namespace
from flexmap.scl.binding import parse_binding
from flexmap.scl.rules.context import Context, Element, child, children, descendants, node_name, text_of

PRODUCT = "flexmap gateway"
"""``IED type`` of files whose ``sAddr`` hold OBIS bindings."""

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
    """Check the values of the templates and of every instance."""
    if not context.first_edition:
        _check_literals(context)
    if context.templates is not None:
        for attribute in descendants(context.templates, "DA", "BDA"):
            _check_values(context, attribute, attribute)
    for ied in context.ieds:
        for device in context.devices(ied):
            for node in children(device, "LN0", "LN"):
                _check_node(context, node, bound=ied.get("type") == PRODUCT)
            if not context.first_edition:
                _check_root(context, ied, device)


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


def _check_node(context: Context, node: Element, *, bound: bool) -> None:
    name = node_name(node)
    ln_type = node.get("lnType", "")
    if not context.first_edition:
        _check_namespace(context, node, name)
    for instance in children(node, "DOI"):
        data_object = instance.get("name", "")
        object_type = context.object_type(ln_type, data_object)
        if object_type is None:
            if ln_type in context.node_types:
                what = f"{name} has no data object {data_object}"
                context.error("instance-path", instance, what, "name one of its LNodeType")
            continue
        _check_instance(context, instance, object_type, None, f"{name}.{data_object}", bound=bound)


def _check_instance(
    context: Context, parent: Element, object_type: Element, structure: Element | None, path: str, *, bound: bool
) -> None:
    """Follow SDI and DAI below a DOI, through sub data objects and structures."""
    for element in children(parent, "SDI", "DAI"):
        name = element.get("name", "")
        where = f"{path}.{name}"
        source = object_type if structure is None else structure
        found = next((below for below in source if below.get("name") == name), None)
        if found is None:
            what = f"{where}: there is no {name} in type '{source.get('id')}'"
            context.error("instance-path", element, what, "name one that is there")
            continue
        if bound:
            _check_binding(context, element, where)
        if element.tag.endswith("}DAI"):
            _check_values(context, element, found)
            continue
        below_object = context.object_types.get(found.get("type", "")) if found.tag.endswith("}SDO") else None
        if below_object is not None:
            _check_instance(context, element, below_object, None, where, bound=bound)
        else:
            below = context.structures.get(found.get("type", ""))
            if below is not None:
                _check_instance(context, element, object_type, below, where, bound=bound)


def _check_binding(context: Context, element: Element, where: str) -> None:
    address = element.get("sAddr")
    if address is None:
        return
    try:
        parse_binding(address)
    except LocalError as error:
        context.error("binding", element, f"{where}: {error}", "write A-B:C.D.E.F;class;attribute")


def _check_values(context: Context, holder: Element, attribute: Element) -> None:
    """Check each ``Val`` of a DA, BDA or DAI against the attribute's type."""
    basic_type = attribute.get("bType", "")
    for value in children(holder, "Val"):
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


def _check_namespace(context: Context, node: Element, name: str) -> None:
    """Without ldNs checkers skip the nodes; a class of another standard has to name that in lnNs."""
    ln_class = node.get("lnClass", "")
    if ln_class == "LLN0":
        if not _constant(context, node, "NamPlt", "ldNs"):
            remedy = f"add <DAI name='ldNs'><Val>{namespace.LN_NAMESPACE}</Val></DAI> to NamPlt"
            context.error("namespace-missing", node, "LLN0.NamPlt.ldNs has no value", remedy)
    elif namespace.class_objects(ln_class) is None and not _constant(context, node, "NamPlt", "lnNs"):
        what = f"{name}: class {ln_class} is not known here and NamPlt.lnNs has no value"
        context.warning("namespace-missing", node, what, "name the class's namespace in NamPlt.lnNs")


def _constant(context: Context, node: Element, data_object: str, attribute: str) -> str:
    """Return the value of an attribute: of the instance, else of the type."""
    for instance in children(node, "DOI"):
        if instance.get("name") == data_object:
            for value in children(instance, "DAI"):
                if value.get("name") == attribute and child(value, "Val") is not None:
                    return text_of(child(value, "Val"))
    object_type = context.object_type(node.get("lnType", ""), data_object)
    found = None if object_type is None else context.attribute(object_type, attribute)
    return "" if found is None else text_of(child(found, "Val"))


def _check_root(context: Context, ied: Element, device: Element) -> None:
    """Check that a root logical device is complete, and that one below it names an existing one in GrRef."""
    head = child(device, "LN0")
    if head is None:
        return
    ln_type = head.get("lnType", "")
    above = _constant(context, head, "GrRef", "setSrcRef")
    if above:
        insts = {other.get("inst") for other in context.devices(ied)}
        if above.removeprefix("@") not in insts or above == f"@{device.get('inst')}":
            what = f"GrRef.setSrcRef '{above}' names no other logical device of this IED"
            context.error("group-reference", head, what, "write @ and the inst of the one above")
        return
    for name in ("Mod", "Health", "NamPlt"):
        if ln_type in context.node_types and context.object_type(ln_type, name) is None:
            what = f"root logical device {device.get('inst')}: LLN0 has no {name}"
            context.error("root-device", head, what, f"add {name}, or name the logical device above in GrRef")
