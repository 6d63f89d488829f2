"""What an SCL file says, as plain structs that two files are compared by; much smaller than its tree.

Nodes with the same text share one struct, so a site of thousands of meters stays small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
from lxml import etree

from flexmap.scl.document import Document, local, tag
from flexmap.scl.edition import edition
from flexmap.scl.rules.context import node_name
from flexmap.scl.typeset import Key, types_of

CONTROLS = ("ReportControl", "GSEControl", "SampledValueControl", "LogControl")
_DEPTH = 16


class Leaf(msgspec.Struct, frozen=True, array_like=True):
    """An attribute below a logical node's type: what a client sees at the end of a path."""

    path: str
    fc: str
    basic_type: str
    detail: str
    """cdc of the data object, array length, literals of an enumeration, value in the type."""


class Control(msgspec.Struct, frozen=True):
    """A control block."""

    kind: str
    data_set: str | None
    revision: int
    settings: dict[str, str]
    """Its other attributes and those of its parts, ``TrgOps.dchg``."""
    clients: tuple[str, ...]
    """Clients and subscribers that the file names."""


class Node(msgspec.Struct, frozen=True):
    """A logical node."""

    type: str
    """Id of its type."""
    values: dict[str, str]
    """Value by path."""
    bindings: dict[str, str]
    """``sAddr`` by path."""
    data_sets: dict[str, tuple[str, ...]]
    """Members, each ``ld/LN.DO.da[fc]``."""
    controls: dict[str, Control]
    inputs: tuple[str, ...]
    """External references, each ``ied|ld/LN.DO.da|ld/control block``."""


class Ied(msgspec.Struct):
    """An IED."""

    attributes: dict[str, str]
    services: dict[str, str]
    devices: dict[str, dict[str, Node]] = msgspec.field(default_factory=dict)
    """Nodes by name, by inst of the logical device."""
    names: dict[str, str] = msgspec.field(default_factory=dict)
    """``ldName`` by inst, where the file gives one."""


class Summary(msgspec.Struct):
    """An SCL file."""

    edition: str
    header: dict[str, str]
    ieds: dict[str, Ied]
    types: dict[str, tuple[Leaf, ...]]
    """What each LNodeType has, in the order on the wire."""
    addresses: dict[str, dict[str, str]]
    """Parameters by ``IED/access point`` and, for multicast, ``IED/ld/control block``."""
    functions: dict[str, tuple[str, ...]]
    """Logical nodes by path in the single-line structure."""


def summarise(parsed: Document) -> Summary:
    """Return what a document says."""
    root = parsed.root
    header = next(root.iterchildren(tag("Header")), None)
    nodes: dict[bytes, Node] = {}
    ieds = {ied.get("name", ""): _ied(ied, nodes) for ied in root.iterchildren(tag("IED"))}
    types = types_of(root)
    return Summary(
        edition(root),
        {} if header is None else _attributes(header),
        ieds,
        {key[1]: tuple(_leaves(types, key, "", _DEPTH)) for key in types if key[0] == "LNodeType"},
        dict(_addresses(root)),
        dict(_functions(root)),
    )


def _attributes(element: etree._Element, *without: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in element.attrib.items() if key not in without}


def _ied(element: etree._Element, nodes: dict[bytes, Node]) -> Ied:
    services = {
        f"{local(service)}.{name}": value
        for section in element.iter(tag("Services"))
        for service in section.iter(etree.Element)
        for name, value in ({"": "there"} | _attributes(service)).items()
    }
    found = Ied(_attributes(element, "name"), services)
    for device in element.iter(tag("LDevice")):
        inst = device.get("inst", "")
        name = device.get("ldName")
        if name:
            found.names[inst] = name
        found.devices[inst] = {
            node_name(node): _node(node, nodes) for node in device.iterchildren(tag("LN0"), tag("LN"))
        }
    for point in element.iterchildren(tag("AccessPoint")):
        for node in point.iterchildren(tag("LN")):
            found.devices.setdefault("", {})[node_name(node)] = _node(node, nodes)
    return found


def _node(element: etree._Element, nodes: dict[bytes, Node]) -> Node:
    key = hashlib.blake2b(etree.tostring(element, with_tail=False), digest_size=16).digest()
    found = nodes.get(key)
    if found is not None:
        return found
    values: dict[str, str] = {}
    bindings: dict[str, str] = {}
    data_sets: dict[str, tuple[str, ...]] = {}
    controls: dict[str, Control] = {}
    inputs: list[str] = []
    for child in element.iterchildren(etree.Element):
        kind = local(child)
        if kind == "DOI":
            _values(child, child.get("name", ""), values, bindings)
        elif kind == "DataSet":
            data_sets[child.get("name", "")] = tuple(_member(member) for member in child.iterchildren(tag("FCDA")))
        elif kind in CONTROLS:
            controls[child.get("name", "")] = _control(child, kind)
        elif kind == "Inputs":
            inputs += [_input(reference) for reference in child.iterchildren(tag("ExtRef"))]
    node = Node(element.get("lnType", ""), values, bindings, data_sets, controls, tuple(inputs))
    nodes[key] = node
    return node


def _values(element: etree._Element, path: str, values: dict[str, str], bindings: dict[str, str]) -> None:
    for child in element.iterchildren(tag("SDI"), tag("DAI")):
        index = f"({child.get('ix')})" if child.get("ix") else ""
        below = f"{path}.{child.get('name')}{index}"
        address = child.get("sAddr")
        if address is not None:
            bindings[below] = address
        value = next(child.iterchildren(tag("Val")), None)
        if value is not None:
            values[below] = (value.text or "").strip()
        _values(child, below, values, bindings)


def _member(element: etree._Element) -> str:
    path = ".".join(part for part in (node_name(element), element.get("doName"), element.get("daName")) if part)
    index = f"({element.get('ix')})" if element.get("ix") else ""
    return f"{element.get('ldInst', '')}/{path}{index}[{element.get('fc', '')}]"


def _input(element: etree._Element) -> str:
    path = ".".join(part for part in (node_name(element), element.get("doName"), element.get("daName")) if part)
    source = element.get("srcCBName")
    block = f"{element.get('srcLDInst') or element.get('ldInst', '')}/{source}" if source else ""
    return f"{element.get('iedName', '')}|{element.get('ldInst', '')}/{path}|{block}"


def _control(element: etree._Element, kind: str) -> Control:
    settings = _attributes(element, "name", "datSet", "confRev", "desc")
    clients = []
    for child in element.iterchildren(etree.Element):
        if local(child) == "IEDName":
            clients.append((child.text or "").strip())
            continue
        settings |= {f"{local(child)}.{name}": value for name, value in _attributes(child).items()}
        clients += [
            f"{client.get('iedName', '')}/{client.get('ldInst') or ''}{node_name(client)}"
            for client in child.iterchildren(tag("ClientLN"))
        ]
    text = element.get("confRev", "0")
    revision = int(text) if text.isdecimal() else 0
    return Control(kind, element.get("datSet"), revision, settings, tuple(clients))


def _leaves(types: dict[Key, etree._Element], key: Key, path: str, depth: int, fc: str = "") -> Iterator[Leaf]:
    """Return the attributes below a type, in their order."""
    element = types.get(key)
    if element is None or depth == 0:
        return
    for member in element.iterchildren(*map(tag, ("DO", "SDO", "DA", "BDA"))):
        name = member.get("name", "")
        below = f"{path}.{name}" if path else name
        identifier = member.get("type", "")
        if local(member) in {"DO", "SDO"}:
            yield from _leaves(types, ("DOType", identifier), below, depth - 1)
            continue
        constraint = member.get("fc", fc)
        basic_type = member.get("bType", "")
        if basic_type == "Struct":
            yield from _leaves(types, ("DAType", identifier), below, depth - 1, constraint)
            continue
        value = next(member.iterchildren(tag("Val")), None)
        detail = [member.get("count", ""), "" if value is None else (value.text or "")]
        enumeration = types.get(("EnumType", identifier)) if basic_type == "Enum" else None
        if enumeration is not None:
            detail += [f"{v.get('ord')}={v.text or ''}" for v in enumeration.iterchildren(tag("EnumVal"))]
        yield Leaf(below, constraint, basic_type, ";".join(detail))


def _addresses(root: etree._Element) -> Iterator[tuple[str, dict[str, str]]]:
    for network in root.iter(tag("SubNetwork")):
        for connected in network.iterchildren(tag("ConnectedAP")):
            name = f"{connected.get('iedName', '')}/{connected.get('apName', '')}"
            yield name, {"SubNetwork": network.get("name", "")} | _parameters(connected)
            for stream in connected.iterchildren(tag("GSE"), tag("SMV")):
                block = f"{stream.get('ldInst', '')}/{stream.get('cbName', '')}"
                yield f"{connected.get('iedName', '')}/{block}", _parameters(stream)


def _parameters(element: etree._Element) -> dict[str, str]:
    return {p.get("type", ""): (p.text or "").strip() for p in element.iterfind(f"{tag('Address')}/{tag('P')}")}


def _functions(root: etree._Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    left = [(section, "") for section in root.iterchildren(*map(tag, ("Substation", "Line", "Process")))]
    while left:
        element, above = left.pop()
        path = f"{above}/{element.get('name', '')}" if above else element.get("name", "")
        nodes = tuple(
            f"{node.get('iedName', 'None')}/{node.get('ldInst') or ''}/{node_name(node)}"
            for node in element.iterchildren(tag("LNode"))
        )
        if nodes:
            yield path, nodes
        left += [(child, path) for child in element.iterchildren(etree.Element) if child.get("name")]
