"""Rules for type ids: dangling, unused and duplicate ones, and classes that do not match."""

from __future__ import annotations

from flexmap.scl.rules.context import Context, Element, children, descendants, node_name
from flexmap.scl.rules.templates import uses

_KINDS = ("LNodeType", "DOType", "DAType", "EnumType")


def check(context: Context) -> None:
    """Check that every id that is used exists, once, and that every type is used."""
    known = {
        "LNodeType": context.node_types,
        "DOType": context.object_types,
        "DAType": context.structures,
        "EnumType": context.enumerations,
    }
    used: set[tuple[str, str]] = set()
    for element, kind in uses(context):
        identifier = element.get("type", "")
        used.add((kind, identifier))
        if identifier not in known[kind]:
            _dangling(context, element, f"{element.get('name')}: there is no {kind} '{identifier}'")
    for node in descendants(context.root, "LN", "LN0"):
        used.add(("LNodeType", node.get("lnType", "")))
        _check_node(context, node)
    for kind in _KINDS:
        for identifier, element in known[kind].items():
            if (kind, identifier) not in used:
                what = f"{kind} '{identifier}' is not used"
                context.warning("type-unused", element, what, "remove it")
    _check_duplicates(context)


def _check_node(context: Context, node: Element) -> None:
    identifier, ln_class = node.get("lnType", ""), node.get("lnClass", "")
    node_type = context.node_types.get(identifier)
    if node_type is None:
        _dangling(context, node, f"{node_name(node)}: there is no LNodeType '{identifier}'")
    elif node_type.get("lnClass") != ln_class:
        what = f"{node_name(node)}: LNodeType '{identifier}' is of class {node_type.get('lnClass')}"
        context.error("type-class", node, what, f"name an LNodeType of class {ln_class}")


def _dangling(context: Context, element: Element, what: str) -> None:
    context.error("type-dangling", element, what, "add the type to DataTypeTemplates, or name one that is there")


def _check_duplicates(context: Context) -> None:
    if context.templates is None:
        return
    seen: dict[str, Element] = {}
    for element in children(context.templates, *_KINDS):
        identifier = element.get("id", "")
        if identifier in seen:
            what, remedy = f"id '{identifier}' stands already", "give each type an id of its own"
            context.error("duplicate", element, what, remedy, see=seen[identifier])
        seen.setdefault(identifier, element)
