"""The served part of an SCL document (IEC 61850-6) as plain structs: one IED, its types expanded to trees.

Reads any CID, IID or ICD with logical devices, DataTypeTemplates, initial values, data sets and report control
blocks. What is no part of an MMS model (Communication, Substation, GOOSE, logs) is passed over.
"""

from __future__ import annotations

from functools import cache, lru_cache
from io import BytesIO
from typing import NamedTuple, NoReturn

import msgspec
from lxml import etree

from flexmap.model import ConfigurationError

DCHG, QCHG, DUPD, INTEGRITY, GI = 1, 2, 4, 8, 16
"""Trigger options, as libiec61850 numbers them."""

_TRIGGERS = {"dchg": DCHG, "qchg": QCHG, "dupd": DUPD, "period": INTEGRITY, "gi": GI}
_OPTIONS = {
    "seqNum": 1,
    "timeStamp": 2,
    "reasonCode": 4,
    "dataSet": 8,
    "dataRef": 16,
    "bufOvfl": 32,
    "entryID": 64,
    "configRef": 128,
}
_SETTINGS = {"rptID": 1, "bufTime": 2, "datSet": 4, "trgOps": 8, "optFields": 16, "intgPd": 32}
_SETTABLE = {
    "rptID": "RptID",
    "bufTime": "BufTm",
    "datSet": "DatSet",
    "trgOps": "TrgOps",
    "optFields": "OptFlds",
    "intgPd": "IntgPd",
}
_TRUE = {"true", "1"}


class Attribute(msgspec.Struct, frozen=True):
    """A data attribute, or one component of a constructed one."""

    name: str
    basic_type: str
    """bType of SCL."""
    fc: str
    triggers: int
    count: int
    """Elements of an array, 0 for a single value."""
    default: str | None
    enumeration: dict[str, int] | None
    children: tuple[Attribute, ...]


class DataObject(msgspec.Struct, frozen=True):
    """A data object with its sub data objects and attributes, in the order of its type."""

    name: str
    cdc: str
    count: int
    children: tuple[DataObject | Attribute, ...]


class DataSet(msgspec.Struct, frozen=True):
    """A data set: members as (inst of the logical device, ``LN$FC$DO…`` MMS name)."""

    name: str
    members: tuple[tuple[str, str], ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a report control block; times in milliseconds, options as libiec61850's bits."""

    name: str
    id: str | None
    buffered: bool
    data_set: str | None
    revision: int
    triggers: int
    options: int
    buffer_time: int
    integrity_period: int


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A logical node."""

    name: str
    objects: tuple[DataObject, ...]
    values: dict[str, str]
    """Initial values of this instance (DAI), by path below the node: ``Pos.ctlModel``."""
    data_sets: tuple[DataSet, ...]
    reports: tuple[Report, ...]


class Device(msgspec.Struct, frozen=True):
    """A logical device."""

    inst: str
    name: str
    """Name on the wire: ldName, or IED name and inst."""
    functional: bool
    """The name comes from ldName."""
    nodes: tuple[Node, ...]


class Ied(msgspec.Struct, frozen=True, kw_only=True):
    """The IED to serve."""

    name: str
    vendor: str
    type: str
    revision: str
    devices: tuple[Device, ...]
    dynamic_report_settings: int
    """Which settings of a report control block clients may change, as libiec61850's bits."""
    resv_tms: bool
    """Buffered report control blocks have the attribute ResvTms."""
    owner: bool
    """Report control blocks have the attribute Owner."""

    @property
    def settable_report_fields(self) -> frozenset[str]:
        """Attributes of report control blocks that clients may set."""
        return frozenset(
            attribute
            for setting, attribute in _SETTABLE.items()
            if self.dynamic_report_settings & _SETTINGS[setting]
        )


def parse(scl: bytes, ied: str) -> Ied:
    """Return the IED of that name from an SCL document.

    Raises ConfigurationError, with the line, if the document is not well-formed, has no such IED, or names a
    type that it does not define.
    """
    try:
        root, nodes = _scan(scl)
    except etree.XMLSyntaxError as error:
        raise ConfigurationError(
            f"not well-formed: {error}", where="SCL document", remedy="flexmap scl check FILE"
        ) from error
    for element in root.findall("{*}IED"):
        if element.get("name") == ied:
            return _Reader(root, nodes).ied(element)
    names = ", ".join(str(element.get("name")) for element in root.findall("{*}IED")) or "none"
    raise ConfigurationError(
        f"no IED named {ied}, only {names}", where="SCL document", remedy="export the CID again"
    )


class _Found(NamedTuple):
    """A logical node as it stands in the document, its type not yet looked up."""

    name: str
    type: str | None
    line: int
    values: dict[str, str]
    data_sets: tuple[DataSet, ...]
    reports: tuple[Report, ...]


_Nodes = dict["etree._Element", tuple[_Found, ...]]  # noqa: SLF001 (lxml has no public name for it)
"""Logical nodes by their LDevice, which is empty by then."""


def _scan(scl: bytes) -> tuple[etree._Element, _Nodes]:
    """Return the document without what is in its logical devices, and their nodes.

    A site of thousands of meters is a document of a hundred mebibytes: each LDevice is emptied as soon as it is
    read, and nodes that are written alike are read once and are one object.
    """
    events = etree.iterparse(
        BytesIO(scl),
        events=("end",),
        tag="{*}LDevice",
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
    )
    nodes: _Nodes = {}
    known: dict[bytes, _Found] = {}
    blocks: dict[bytes, tuple[Report, ...]] = {}
    for _, device in events:
        found = []
        for element in device.iterchildren("{*}LN0", "{*}LN"):
            if element.get("lnClass") == "LLN0":  # names its device in data sets: no two are alike
                found.append(_found(element, blocks))
                continue
            text = etree.tostring(element, with_tail=False)
            node = known.get(text)
            if node is None:
                node = known[text] = _found(element, blocks)
            found.append(node)
        nodes[device] = tuple(found)
        for child in tuple(device):
            device.remove(child)
    return events.root, nodes


def _found(element: etree._Element, blocks: dict[bytes, tuple[Report, ...]]) -> _Found:
    return _Found(
        name=_node_name(element),
        type=element.get("lnType"),
        line=_line(element),
        values=_initial_values(element, "", {}),
        data_sets=tuple(_data_set(child) for child in element.iterchildren("{*}DataSet")),
        reports=tuple(
            report for child in element.iterchildren("{*}ReportControl") for report in _identified(child, blocks)
        ),
    )


def _line(element: etree._Element) -> int:
    return element.sourceline if isinstance(element.sourceline, int) else 0


def _fail(line: int, what: str) -> NoReturn:
    raise ConfigurationError(what, where=f"SCL document, line {line}", remedy="flexmap scl check FILE names more")


def _bits(element: etree._Element | None, names: dict[str, int], default: int) -> int:
    if element is None:
        return default
    bits = 0
    for name, bit in names.items():
        value = element.get(name)
        if value in _TRUE or (value is None and default & bit):
            bits |= bit
    return bits


def _number(element: etree._Element, name: str, default: int = 0) -> int:
    text = element.get(name)
    try:
        return default if text is None else int(text)
    except ValueError:
        _fail(_line(element), f'{name}="{text}" is not a number')


def _node_name(element: etree._Element) -> str:
    inst = element.get("inst", element.get("lnInst")) or ""
    return f"{element.get('prefix') or ''}{element.get('lnClass')}{inst}"


def _value(element: etree._Element) -> str | None:
    found = element.find("{*}Val")
    return None if found is None else (found.text or "")


def _initial_values(element: etree._Element, path: str, values: dict[str, str]) -> dict[str, str]:
    for child in element.iterchildren("{*}DOI", "{*}SDI", "{*}DAI"):
        below = f"{path}.{child.get('name')}" if path else str(child.get("name"))
        value = _value(child)
        if value is not None:
            values[below] = value
        _initial_values(child, below, values)
    return values


def _data_set(element: etree._Element) -> DataSet:
    members = []
    for fcda in element.iterchildren("{*}FCDA"):
        get = fcda.get
        node = get("prefix"), get("lnClass"), get("lnInst")
        members.append((str(get("ldInst")), _item(node, get("fc"), get("doName"), get("daName"))))
    return DataSet(str(element.get("name")), tuple(members))


@lru_cache(maxsize=10_000)
def _item(node: tuple[str | None, ...], *path: str | None) -> str:
    """Return an MMS item: the parts of the node's name, functional constraint, data object, attribute."""
    fc, *below = path
    names = ["".join(part or "" for part in node), str(fc)]
    return "$".join(names + [part for each in below for part in (each or "").split(".") if part])


def _identified(element: etree._Element, blocks: dict[bytes, tuple[Report, ...]]) -> list[Report]:
    """Return the instances of a report control block; those that differ in rptID alone are read once."""
    identifier = element.get("rptID")
    if identifier is not None:
        del element.attrib["rptID"]
    text = etree.tostring(element, with_tail=False)
    reports = blocks.get(text)
    if reports is None:
        reports = blocks[text] = _reports(element)
    return [msgspec.structs.replace(report, id=identifier) for report in reports]


def _reports(element: etree._Element) -> tuple[Report, ...]:
    enabled = element.find("{*}RptEnabled")
    count = 1 if enabled is None else _number(enabled, "max", 1)
    name = str(element.get("name"))
    indexed = element.get("indexed", "true") in _TRUE
    names = [f"{name}{index:02}" for index in range(1, count + 1)] if indexed else [name]
    first = Report(
        name=names[0] if names else name,
        id=None,
        buffered=element.get("buffered", "false") in _TRUE,
        data_set=element.get("datSet"),
        revision=_number(element, "confRev"),
        triggers=_bits(element.find("{*}TrgOps"), _TRIGGERS, GI),
        options=_bits(element.find("{*}OptFields"), _OPTIONS, _OPTIONS["bufOvfl"]),
        buffer_time=_number(element, "bufTime"),
        integrity_period=_number(element, "intgPd"),
    )
    return tuple(msgspec.structs.replace(first, name=instance) for instance in names)


class _Reader:
    """Expands the types of one document; each type once."""

    def __init__(self, root: etree._Element, nodes: _Nodes) -> None:
        self._found = nodes
        self._types = {
            (etree.QName(element).localname, element.get("id")): element
            for element in root.iterfind("{*}DataTypeTemplates/*")
        }
        self._objects = cache(self._expand_objects)
        self._children = cache(self._expand_children)
        self._enumeration = cache(self._expand_enumeration)
        self._nodes: dict[int, Node] = {}
        """By identity of what was found: nodes that are written alike are one object."""

    def ied(self, element: etree._Element) -> Ied:
        name = str(element.get("name"))
        settings = element.find(".//{*}Services/{*}ReportSettings")
        return Ied(
            name=name,
            vendor=element.get("manufacturer") or "flexmap",
            type=element.get("type") or name,
            revision=element.get("configVersion") or "1",
            devices=tuple(
                self._device(device, name) for device in element.iterfind("{*}AccessPoint/{*}Server/{*}LDevice")
            ),
            dynamic_report_settings=sum(
                bit
                for setting, bit in _SETTINGS.items()
                if settings is not None and settings.get(setting) == "Dyn"
            ),
            resv_tms=settings is None or settings.get("resvTms") in _TRUE,
            owner=settings is not None and settings.get("owner") in _TRUE,
        )

    def _device(self, element: etree._Element, ied: str) -> Device:
        inst = str(element.get("inst"))
        name = element.get("ldName")
        nodes = tuple(self._node(node) for node in self._found[element])
        return Device(inst, name or ied + inst, bool(name), nodes)

    def _node(self, found: _Found) -> Node:
        node = self._nodes.get(id(found))
        if node is None:
            node = self._nodes[id(found)] = Node(
                name=found.name,
                objects=self._objects(self._find(found.line, "LNodeType", found.type)),
                values=found.values,
                data_sets=found.data_sets,
                reports=found.reports,
            )
        return node

    def _find(self, line: int, kind: str, identifier: str | None) -> etree._Element:
        found = self._types.get((kind, identifier))
        if found is None:
            _fail(line, f"{kind} {identifier} is not defined")
        return found

    def _expand_objects(self, node_type: etree._Element) -> tuple[DataObject, ...]:
        return tuple(self._object(element) for element in node_type.iterchildren("{*}DO"))

    def _object(self, element: etree._Element) -> DataObject:
        object_type = self._find(_line(element), "DOType", element.get("type"))
        children = tuple(
            self._object(child)
            if etree.QName(child).localname == "SDO"
            else self._attribute(child, str(child.get("fc")), 0)
            for child in object_type.iterchildren("{*}SDO", "{*}DA")
        )
        name, cdc = str(element.get("name")), str(object_type.get("cdc"))
        return DataObject(name, cdc, _number(element, "count"), children)

    def _attribute(self, element: etree._Element, fc: str, triggers: int) -> Attribute:
        triggers |= _bits(element, {"dchg": DCHG, "qchg": QCHG, "dupd": DUPD}, 0)
        basic_type = str(element.get("bType"))
        identifier = element.get("type")
        constructed = basic_type == "Struct"
        return Attribute(
            name=str(element.get("name")),
            basic_type=basic_type,
            fc=fc,
            triggers=triggers,
            count=_number(element, "count"),
            default=_value(element),
            enumeration=self._enumeration(self._find(_line(element), "EnumType", identifier))
            if basic_type == "Enum"
            else None,
            children=self._children(self._find(_line(element), "DAType", identifier), fc, triggers)
            if constructed
            else (),
        )

    def _expand_children(self, attribute_type: etree._Element, fc: str, triggers: int) -> tuple[Attribute, ...]:
        return tuple(self._attribute(child, fc, triggers) for child in attribute_type.iterchildren("{*}BDA"))

    def _expand_enumeration(self, enumeration: etree._Element) -> dict[str, int]:
        return {
            (element.text or ""): _number(element, "ord") for element in enumeration.iterchildren("{*}EnumVal")
        }
