"""Rules for instances: paths and values of DOI, SDI and DAI, control models, namespaces, root logical devices.

Meters of one type have the same nodes with the same values. What was found faultless once is known by its text,
and not looked at again: that keeps the check of large sites fast.
"""

from __future__ import annotations

from lxml import etree

from flexmap.scl import namespace
from flexmap.scl.document import tag
from flexmap.scl.rules.bindings import PRODUCT, check_binding, check_units
from flexmap.scl.rules.context import Context, Element, child, children, node_name, text_of
from flexmap.scl.rules.values import check_values

_DAI = tag("DAI")
_SDO = tag("SDO")


def check(context: Context) -> None:
    """Check every instance."""
    for ied in context.ieds:
        faultless: set[tuple[str, bytes]] = set()
        bound = ied.get("type") == PRODUCT
        insts = {device.get("inst", "") for device in context.devices(ied)}
        for device in context.devices(ied):
            for node in children(device, "LN0", "LN"):
                _check_node(context, node, faultless, bound=bound)
            if not context.first_edition:
                _check_root(context, insts, device)


def _check_node(context: Context, node: Element, faultless: set[tuple[str, bytes]], *, bound: bool) -> None:
    ln_type = node.get("lnType", "")
    whole = (ln_type, etree.tostring(node, with_tail=False))
    if whole in faultless:
        return
    before = context.reported
    name = node_name(node)
    if not context.first_edition:
        _check_namespace(context, node, name)
    for instance in children(node, "DOI"):
        part = (ln_type, etree.tostring(instance, with_tail=False))
        if part in faultless:
            continue
        before_part = context.reported
        _check_data_object(context, instance, ln_type, name, bound=bound)
        if context.reported == before_part:
            faultless.add(part)
    if context.reported == before:
        faultless.add(whole)


def _check_data_object(context: Context, instance: Element, ln_type: str, name: str, *, bound: bool) -> None:
    data_object = instance.get("name", "")
    object_type = context.object_type(ln_type, data_object)
    if object_type is None:
        if ln_type in context.node_types:
            what = f"{name} has no data object {data_object}"
            context.error("instance-path", instance, what, "name one of its LNodeType")
        return
    _check_instance(context, instance, object_type, None, f"{name}.{data_object}", bound=bound)
    _check_control_model(context, instance, object_type, f"{name}.{data_object}")
    if bound:
        check_units(context, instance, f"{name}.{data_object}")


def _check_instance(
    context: Context, parent: Element, object_type: Element, structure: Element | None, path: str, *, bound: bool
) -> None:
    """Follow SDI and DAI below a DOI, through sub data objects and structures."""
    for element in children(parent, "SDI", "DAI"):
        name = element.get("name", "")
        where = f"{path}.{name}"
        source = object_type if structure is None else structure
        found = context.members(source).get(name)
        if found is None:
            what = f"{where}: there is no {name} in type '{source.get('id')}'"
            context.error("instance-path", element, what, "name one that is there")
            continue
        if bound:
            check_binding(context, element, found, where)
        if element.tag == _DAI:
            check_values(context, element, found)
            continue
        below_object = context.object_types.get(found.get("type", "")) if found.tag == _SDO else None
        if below_object is not None:
            _check_instance(context, element, below_object, None, where, bound=bound)
        else:
            below = context.structures.get(found.get("type", ""))
            if below is not None:
                _check_instance(context, element, object_type, below, where, bound=bound)


_NEEDED = {
    "direct-with-normal-security": ("Oper",),
    "sbo-with-normal-security": ("SBO", "Oper", "Cancel"),
    "direct-with-enhanced-security": ("Oper",),
    "sbo-with-enhanced-security": ("SBOw", "Oper", "Cancel"),
}
"""Services that a control model has (IEC 61850-7-2 clause 20, 8-1 clause 20)."""


def _check_control_model(context: Context, instance: Element, object_type: Element, where: str) -> None:
    """Check that the type of an instance that is given a control model has the services of that model."""
    for value in children(instance, "DAI"):
        if value.get("name") != "ctlModel" or child(value, "Val") is None:
            continue
        model = text_of(child(value, "Val"))
        missing = [name for name in _NEEDED.get(model, ()) if context.attribute(object_type, name) is None]
        if missing:
            what = f"{where}: ctlModel is {model}, but its DOType has no {', '.join(missing)}"
            context.error("control-model", value, what, "use a DOType with them, or another ctlModel")


def _check_namespace(context: Context, node: Element, name: str) -> None:
    """Without ldNs checkers skip the nodes; a class of another standard has to name that in lnNs."""
    ln_class = node.get("lnClass", "")
    if ln_class == "LLN0":
        if not constant(context, node, "NamPlt", "ldNs"):
            remedy = f"add <DAI name='ldNs'><Val>{namespace.LN_NAMESPACE}</Val></DAI> to NamPlt"
            context.error("namespace-missing", node, "LLN0.NamPlt.ldNs has no value", remedy)
    elif namespace.class_objects(ln_class) is None and not constant(context, node, "NamPlt", "lnNs"):
        what = f"{name}: class {ln_class} is not known here and NamPlt.lnNs has no value"
        context.warning("namespace-missing", node, what, "name the class's namespace in NamPlt.lnNs")


def constant(context: Context, node: Element, data_object: str, attribute: str) -> str:
    """Return the value of an attribute: of the instance, else of the type."""
    for instance in children(node, "DOI"):
        if instance.get("name") == data_object:
            for value in children(instance, "DAI"):
                if value.get("name") == attribute and child(value, "Val") is not None:
                    return text_of(child(value, "Val"))
    object_type = context.object_type(node.get("lnType", ""), data_object)
    found = None if object_type is None else context.attribute(object_type, attribute)
    return "" if found is None else text_of(child(found, "Val"))


def _check_root(context: Context, insts: set[str], device: Element) -> None:
    """Check that a root logical device is complete, and that one below it names an existing one in GrRef."""
    head = child(device, "LN0")
    if head is None:
        return
    ln_type = head.get("lnType", "")
    above = constant(context, head, "GrRef", "setSrcRef")
    if above:
        if above.removeprefix("@") not in insts or above == f"@{device.get('inst')}":
            what = f"GrRef.setSrcRef '{above}' names no other logical device of this IED"
            context.error("group-reference", head, what, "write @ and the inst of the one above")
        return
    for name in ("Mod", "Health", "NamPlt"):
        if ln_type in context.node_types and context.object_type(ln_type, name) is None:
            what = f"root logical device {device.get('inst')}: LLN0 has no {name}"
            context.error("root-device", head, what, f"add {name}, or name the logical device above in GrRef")
