"""Rules for ``DataTypeTemplates``: classes, data objects, attributes, structures (IEC 61850-7-3, 7-4, 8-1)."""

from __future__ import annotations

from collections.abc import Iterator

from flexmap.scl import namespace
from flexmap.scl.rules.context import Context, Element, child, children, descendants, text_of

_SAME_TYPES = frozenset({("VisString129", "ObjRef"), ("ObjRef", "VisString129")})
"""An object reference is a visible string of 129 characters; SCL files name ``SBO`` either way."""
_SERVICE_REMEDY = "ctlModel decides: add it, or set ctlModel to status-only"


def check(context: Context) -> None:
    """Check every type against the namespace."""
    if context.first_edition:
        return
    for node_type in context.node_types.values():
        _check_node_type(context, node_type)
    for object_type in context.object_types.values():
        _check_object_type(context, object_type)


def _check_node_type(context: Context, node_type: Element) -> None:
    ln_class = node_type.get("lnClass", "")
    known = namespace.class_objects(ln_class)
    names = {element.get("name", "") for element in children(node_type, "DO")}
    if known is None:
        what = f"logical-node class {ln_class or '(none)'} is not one of those known here"
        context.info("class-unknown", node_type, what, "check its data objects by hand")
        return
    identifier = node_type.get("id", "")
    for element in children(node_type, "DO"):
        _check_data_object(context, element, ln_class)
    for data_object in known.values():
        if data_object.presence == "M" and data_object.name not in names:
            what = f"{identifier}: mandatory data object {data_object.name} of {ln_class} is missing"
            context.error("do-missing", node_type, what, f'add <DO name="{data_object.name}"/>')
    choice = [data_object.name for data_object in known.values() if data_object.presence == "A"]
    if choice and not names.intersection(choice):
        what = f"{identifier}: {ln_class} needs at least one of {', '.join(choice)}"
        context.error("do-missing", node_type, what, "add one of them")


def _check_data_object(context: Context, element: Element, ln_class: str) -> None:
    name = element.get("name", "")
    expected = namespace.data_object(ln_class, name)
    if expected is None:
        remedy = "use a name of the class, or a GGIO for what the class does not have"
        context.error("do-unknown", element, f"{ln_class} has no data object {name}", remedy)
        return
    object_type = context.object_types.get(element.get("type", ""))
    if object_type is None:
        return
    cdc = object_type.get("cdc", "")
    if cdc != expected.cdc:
        what = f"{ln_class}.{name} is of class {expected.cdc}, its DOType of {cdc}"
        context.error("do-cdc", element, what, f"use a DOType of class {expected.cdc}")


def _check_object_type(context: Context, object_type: Element) -> None:
    cdc = object_type.get("cdc", "")
    known = namespace.attributes(cdc)
    if known is None:
        what = f"common data class {cdc or '(none)'} is not one of those known here"
        context.info("cdc-unknown", object_type, what, "check its attributes by hand")
        return
    members = [element for element in object_type if element.get("name")]
    names = {element.get("name", "") for element in members}
    for element in members:
        _check_member(context, element, cdc, known, extended="dataNs" in names)
    _check_order(context, members, cdc, list(known))
    _check_presence(context, object_type, cdc, known, names)


def _check_member(
    context: Context, element: Element, cdc: str, known: dict[str, namespace.Attribute], *, extended: bool
) -> None:
    name = element.get("name", "")
    expected = known.get(name)
    if expected is None:
        if not extended:
            context.error("da-unknown", element, f"{cdc} has no attribute {name}", "remove it, or name its dataNs")
        return
    if expected.fc == namespace.SUB_DATA_OBJECT:
        below = context.object_types.get(element.get("type", ""))
        if below is not None and below.get("cdc") != expected.type:
            what = f"{cdc}.{name} is of class {expected.type}, its DOType of {below.get('cdc')}"
            context.error("do-cdc", element, what, f"use a DOType of class {expected.type}")
        return
    fc = element.get("fc", "")
    allowed = namespace.SETTING_CONSTRAINTS if expected.fc == "SP" else {expected.fc}
    if fc not in allowed:
        what = f"{cdc}.{name} has fc {fc or '(none)'}"
        context.error("da-fc", element, what, f'set fc="{expected.fc}"')
    _check_type(context, element, f"{cdc}.{name}", expected.type)


def _check_type(context: Context, element: Element, where: str, type_name: str, depth: int = 0) -> None:
    """Check bType and, for a structure, its members."""
    if type_name == "Any":
        return
    expected = namespace.basic_type(type_name)
    actual = element.get("bType", "")
    if actual != expected and (expected, actual) not in _SAME_TYPES:
        context.error("da-type", element, f"{where} has bType {actual or '(none)'}", f'set bType="{expected}"')
        return
    structure = context.structures.get(element.get("type", ""))
    members = namespace.structure(type_name)
    if structure is None or members is None or depth > 4:
        return
    _check_structure(context, structure, type_name, members, depth)


def _check_structure(
    context: Context, structure: Element, type_name: str, members: dict[str, namespace.Member], depth: int
) -> None:
    present = {element.get("name", ""): element for element in children(structure, "BDA")}
    for name, element in present.items():
        if name not in members:
            context.error("bda-unknown", element, f"{type_name} has no member {name}", "remove it")
        else:
            _check_type(context, element, f"{type_name}.{name}", members[name].type, depth + 1)
    for member in members.values():
        if member.presence == "M" and member.name not in present:
            what = f"mandatory member {member.name} of {type_name} is missing"
            context.error("bda-missing", structure, what, f'add <BDA name="{member.name}"/>')
    choice = [member.name for member in members.values() if member.presence in {"A", "C"}]
    if type_name.startswith("AnalogueValue") and not present.keys() & set(choice):
        context.error("bda-missing", structure, f"{type_name} has neither i nor f", "add f (FLOAT32)")


def _check_order(context: Context, members: list[Element], cdc: str, order: list[str]) -> None:
    """Members of one functional constraint stand in the order of the class: it is their order on the wire."""
    last: dict[str, int] = {}
    for element in members:
        name, fc = element.get("name", ""), element.get("fc", namespace.SUB_DATA_OBJECT)
        if name not in order:
            continue
        rank = order.index(name)
        if rank < last.get(fc, -1):
            before = order[last[fc]]
            what = f"{cdc}: {name} stands behind {before}"
            context.error("da-order", element, what, f"put {name} before {before}, as IEC 61850-7-3 orders them")
        last[fc] = max(rank, last.get(fc, -1))


def _check_presence(
    context: Context, object_type: Element, cdc: str, known: dict[str, namespace.Attribute], names: set[str]
) -> None:
    identifier = object_type.get("id", "")
    model = text_of(child(_control_model(object_type), "Val")) if _has(object_type, "ctlModel") else ""
    for attribute in known.values():
        if attribute.name not in names and _is_required(attribute.presence, model):
            what = f"{identifier}: mandatory attribute {attribute.name} of {cdc} is missing"
            remedy = (
                f'add {attribute.name} (fc="{attribute.fc}")' if attribute.presence == "M" else _SERVICE_REMEDY
            )
            context.error("da-missing", object_type, what, remedy)
    for rule in ("A", "G"):
        groups = _groups(known, rule)
        if groups and not any(names.issuperset(group) for group in groups):
            choices = " or ".join("+".join(group) for group in groups)
            context.error("da-missing", object_type, f"{identifier}: {cdc} needs {choices}", "add them")


def _has(object_type: Element, name: str) -> bool:
    return any(element.get("name") == name for element in children(object_type, "DA"))


def _control_model(object_type: Element) -> Element:
    return next(element for element in children(object_type, "DA") if element.get("name") == "ctlModel")


def _is_required(presence: str, model: str) -> bool:
    if presence == "M":
        return True
    controllable = bool(model) and model != "status-only"
    return {
        "K": controllable,
        "S": model.startswith("sbo"),
        "SN": model == "sbo-with-normal-security",
        "SE": model == "sbo-with-enhanced-security",
        "E": model.endswith("enhanced-security"),
    }.get(presence, False)


def _groups(known: dict[str, namespace.Attribute], rule: str) -> list[list[str]]:
    """Return the choices: single attributes for "at least one", whole groups for "at least one group"."""
    if rule == "A":
        return [[attribute.name] for attribute in known.values() if attribute.presence == "A"]
    groups: dict[str, list[str]] = {}
    for attribute in known.values():
        if attribute.presence.startswith("G"):
            groups.setdefault(attribute.presence, []).append(attribute.name)
    return list(groups.values())


def uses(context: Context) -> Iterator[tuple[Element, str]]:
    """Return every element that names a type, with the kind of type it names."""
    if context.templates is None:
        return
    for element in descendants(context.templates, "DO", "SDO"):
        yield element, "DOType"
    for element in descendants(context.templates, "DA", "BDA"):
        kind = {"Struct": "DAType", "Enum": "EnumType"}.get(element.get("bType", ""))
        if kind is not None:
            yield element, kind
