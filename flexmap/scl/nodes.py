"""Logical nodes as plain data: the data objects of each node of the gateway and of a meter, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

import flexmap
from flexmap.mapping import cdc, units
from flexmap.model import Kind, LocalError, Meter, MeterType, Point, Reference, Site
from flexmap.scl import namespace
from flexmap.scl.binding import format_binding
from flexmap.scl.types import DIRECT, SELECT, STATUS_ONLY, ObjectType, object_type

ROOT_LD = "GW"
"""``inst`` of the gateway's own logical device."""

MAX_TEXT = {"name": 64}
"""Characters that an attribute holds, if fewer than 255."""

_NODE = re.compile(r"(?P<prefix>\w*?)(?P<ln_class>[A-Z]{4})(?P<inst>\d+)")
_DEFAULTS = {
    "Mod": "on",
    "Beh": "on",
    "Health": "Ok",
    "PhyHealth": "Ok",
    "SwTyp": "Load Break",
    "TmSrcTyp": "Unknown",
    "Loc": "false",
    "BlkOpn": "false",
    "BlkCls": "false",
    "ChLiv": "true",
}
"""Value that a mandatory status starts with when no point feeds it."""

Path = tuple[str, ...]
"""Names from the data object down to the attribute: ``("PhV", "phsA", "cVal", "mag", "f")``."""


class Node(msgspec.Struct):
    """A logical node."""

    prefix: str
    ln_class: str
    inst: str
    objects: dict[str, ObjectType] = msgspec.field(default_factory=dict)
    values: dict[Path, str] = msgspec.field(default_factory=dict)
    addresses: dict[Path, str] = msgspec.field(default_factory=dict)
    """``sAddr`` by attribute."""

    @property
    def name(self) -> str:
        """Prefix, class and instance in one word."""
        return f"{self.prefix}{self.ln_class}{self.inst}"


def gateway_nodes(site: Site) -> list[Node]:
    """Return the nodes of the root logical device: LLN0, LPHD1, LTMS1 and LCCH1."""
    head = Node("", "LLN0", "")
    _name_plate(head, site, site.name)
    physical = Node("", "LPHD", "1")
    physical.values[("Proxy", "stVal")] = "false"
    plate = {"vendor": site.vendor, "swRev": flexmap.__version__, "model": "flexmap gateway", "name": site.ied}
    _physical_name(physical, plate)
    return [_complete(node) for node in (head, physical, Node("", "LTMS", "1"), Node("", "LCCH", "1"))]


def meter_nodes(site: Site, meter: Meter) -> list[Node]:
    """Return the nodes of a meter's logical device; meters of one type have the same data objects."""
    meter_type = site.type_of(meter)
    head = Node("", "LLN0", "")
    _name_plate(head, site, meter_type.title)
    head.objects["GrRef"] = object_type("ORG")
    head.values[("GrRef", "setSrcRef")] = f"@{ROOT_LD}"
    nodes = {"LLN0": head, "LPHD1": _meter_physical(site, meter, meter_type)}
    for name, objects in _referenced(meter_type).items():
        node = nodes.setdefault(name, node_named(name))
        node.objects.update(objects)
    for point in meter_type.served:
        _bind(nodes, point, point.reference_for(meter.direction))
        if point.control is not None:
            _bind(nodes, point, point.control)
    return [_complete(node) for node in nodes.values()]


def references(point: Point) -> Iterator[Reference]:
    """Return every reference a point can have, whatever the direction of the meter."""
    for reference in (point.reference, point.supply_reference, point.control):
        if reference is not None:
            yield reference


def node_named(name: str) -> Node:
    """Return an empty node of that name: ``L1MMTR1`` has prefix L1, class MMTR, instance 1."""
    if name == "LLN0":
        return Node("", name, "")
    match = _NODE.fullmatch(name)
    if match is None:
        raise LocalError(f"'{name}' is not a logical node such as MMXU1 or L1MMTR1")
    return Node(match["prefix"], match["ln_class"], match["inst"])


def _referenced(meter_type: MeterType) -> dict[str, dict[str, ObjectType]]:
    """Return the data objects of each node that any point of the type names, in the order of the points."""
    children: dict[tuple[str, str], list[str]] = {}
    kinds: dict[tuple[str, str], tuple[str, str]] = {}
    for point in meter_type.served:
        for reference in references(point):
            name, _, child = reference.do.partition(".")
            key = (reference.ln, name)
            children.setdefault(key, []).extend([child] if child else [])
            kinds[key] = (reference.cdc, _control_model(point, reference))
    found: dict[str, dict[str, ObjectType]] = {}
    for (ln, name), (cdc_name, model) in kinds.items():
        texts = ("d", "dU") if _is_generic(ln) else ("d",)
        found.setdefault(ln, {})[name] = object_type(
            cdc_name, name=name, model=model, children=tuple(children[ln, name]), texts=texts
        )
    return found


def _control_model(point: Point, reference: Reference) -> str:
    if point.control is None or reference.cdc != "DPC":
        return STATUS_ONLY
    return SELECT if reference == point.control else DIRECT


def _is_generic(ln: str) -> bool:
    return "GGIO" in ln


def _bind(nodes: dict[str, Node], point: Point, reference: Reference) -> None:
    """Put binding, description, unit and pulse quantity of a point into its node."""
    node = nodes[reference.ln]
    data_object = tuple(reference.do.split("."))
    value = (*data_object, *cdc.place(reference).attribute.split("."))
    node.addresses[value] = format_binding(point.registers)
    node.values.update(_texts(data_object, point, _is_generic(reference.ln)))
    kind = node.objects[data_object[0]]
    kind = kind.child or kind
    if "units" in kind.attributes:
        node.values[(*data_object, "units", "SIUnit")] = units.BY_COSEM[point.unit].si_literal
    if "pulsQty" in kind.attributes:
        node.values[(*data_object, "pulsQty")] = f"{10.0**point.scaler:g}"


def _texts(data_object: Path, point: Point, generic: bool) -> dict[Path, str]:
    if not generic:
        return {(*data_object, "d"): _ascii(point.title)}
    codes = " ".join(dict.fromkeys(register.obis for register in point.registers))
    return {(*data_object, "d"): codes, (*data_object, "dU"): point.title}


def _meter_physical(site: Site, meter: Meter, meter_type: MeterType) -> Node:
    node = Node("", "LPHD", "1")
    node.values[("Proxy", "stVal")] = "true"
    plate = {"vendor": site.vendor, "model": meter_type.title, "location": meter.location}
    for point in meter_type.identity:
        if point.reference.cdc != "DPL" or point.kind is not Kind.IDENTITY:
            continue
        attribute = cdc.place(point.reference).attribute
        plate[attribute] = meter.identity.get(point.name, "")
        node.addresses[("PhyNam", attribute)] = format_binding(point.registers)
    _physical_name(node, plate)
    return node


def _physical_name(node: Node, plate: dict[str, str]) -> None:
    node.objects["PhyNam"] = object_type("DPL")
    for attribute in node.objects["PhyNam"].attributes:
        text = _ascii(plate.get(attribute, ""))
        if text:
            node.values[("PhyNam", attribute)] = text[: MAX_TEXT.get(attribute, 255)]


def _name_plate(node: Node, site: Site, description: str) -> None:
    texts = {
        "vendor": site.vendor,
        "swRev": flexmap.__version__,
        "d": description,
        "configRev": str(site.revision),
        "ldNs": namespace.LN_NAMESPACE,
    }
    node.objects["NamPlt"] = object_type("LPL")
    node.values.update({("NamPlt", name): _ascii(text)[:255] for name, text in texts.items()})


def _complete(node: Node) -> Node:
    """Add the mandatory data objects that nothing has named, with the values they start with."""
    for known in (namespace.class_objects(node.ln_class) or {}).values():
        if known.presence not in {"M", "R"}:
            continue
        if known.name not in node.objects:
            node.objects[known.name] = object_type(known.cdc, name=known.name)
        default = _DEFAULTS.get(known.name)
        path = (known.name, "stVal")
        if default is not None and path not in node.addresses:
            node.values.setdefault(path, default)
    return node


def _ascii(text: str) -> str:
    """Return the text as a VisString holds it: what is not ASCII becomes a question mark."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)
