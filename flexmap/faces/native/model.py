"""The variables of an IED: what IEC 61850-8-1 makes of the served part of an SCL document.

A logical node is a structure of functional constraints, each of data objects with the attributes of that
constraint. Report control blocks stand under ``RP`` and ``BR``, as components like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec

from flexmap.faces.native import leaves
from flexmap.mms import data, types
from flexmap.mms.types import Array, Leaf, Structure, Type
from flexmap.mms.variables import Device, DeviceSchema, NodeSchema, VariableList, Variables
from flexmap.model import ConfigurationError, quality
from flexmap.scl.served import Attribute, DataObject, Ied, Node, Report
from flexmap.scl.served import Device as ServedDevice

_ORDER = "MX ST CO CF DC SP SG RP LG BR GO SV SE MS US EX SR OR BL".split()  # noqa: SIM905 - reads as the standard
"""Functional constraints, in the order in which a node has them."""

_REFERENCE = types.visible_string(129)
_HEAD = (("RptID", _REFERENCE), ("RptEna", types.BOOLEAN))
_MIDDLE = (
    ("DatSet", _REFERENCE),
    ("ConfRev", types.unsigned(32)),
    ("OptFlds", types.bit_string(10, varying=True)),
    ("BufTm", types.unsigned(32)),
)
_TAIL = (("TrgOps", types.bit_string(6, varying=True)), ("IntgPd", types.unsigned(32)), ("GI", types.BOOLEAN))
_BUFFER = (
    ("PurgeBuf", types.BOOLEAN),
    ("EntryID", types.octet_string(8, varying=False)),
    ("TimeofEntry", types.BINARY_TIME),
)
_OWNER = ("Owner", types.octet_string(64))
_RESERVED_TIME = ("ResvTms", types.integer(16))


class Attributes(msgspec.Struct, frozen=True):
    """Where a data attribute stands in the node's layout, and what SCL says of it."""

    position: int
    attribute: Attribute


class NodeLayout:
    """A node's schema, and its leaf attributes by ``DO.attribute`` path."""

    def __init__(
        self, schema: NodeSchema, attributes: dict[str, Attributes], blocks: dict[str, dict[str, int]]
    ) -> None:
        self.schema = schema
        self.attributes = attributes
        self.blocks = blocks
        """Positions of the attributes of report control blocks."""


class BuiltDevice(msgspec.Struct, frozen=True):
    """A logical device with the way into it."""

    device: Device
    layouts: dict[str, NodeLayout]
    """By logical node."""

    def position(self, path: str) -> int | None:
        """Return the position of a leaf attribute by ``LN.DO.attribute`` path."""
        found = self.attribute(path)
        return None if found is None else self.device.schema.nodes[path.partition(".")[0]].offset + found.position

    def attribute(self, path: str) -> Attributes | None:
        """Return a leaf attribute by ``LN.DO.attribute`` path."""
        node, _, rest = path.partition(".")
        layout = self.layouts.get(node)
        return None if layout is None else layout.attributes.get(rest)


class BuiltModel(msgspec.Struct, frozen=True):
    """The variables of an IED, and its logical devices by ``inst``."""

    variables: Variables
    devices: dict[str, BuiltDevice]


def build(ied: Ied, now: int) -> BuiltModel:
    """Return the variables of an IED; time stamps of states that nothing writes are ``now`` (milliseconds).

    Raises ConfigurationError if an initial value does not fit its type, or a type is not known.
    """
    builder = _Builder(ied, now)
    devices = {device.inst: builder.device(device) for device in ied.devices}
    names = {device.inst: device.name for device in ied.devices}
    for served in ied.devices:
        built = devices[served.inst].device
        for node in served.nodes:
            for data_set in node.data_sets:
                members = tuple(
                    (None if inst == served.inst else names.get(inst, ied.name + inst), item)
                    for inst, item in data_set.members
                )
                built.lists[f"{node.name}${data_set.name}"] = builder.variable_list(members)
    return BuiltModel(Variables(each.device for each in devices.values()), devices)


class _Builder:
    """Makes layouts once for all nodes and devices that share them."""

    def __init__(self, ied: Ied, now: int) -> None:
        self._ied = ied
        self._now = data.utc_time(now, quality.ACCURACY_MILLISECOND)
        self._types: dict[int, Type] = {}
        """By identity of the attribute, which the reader of SCL makes once for each type."""
        self._layouts: dict[tuple[object, ...], NodeLayout] = {}
        self._schemas: dict[tuple[tuple[str, int], ...], DeviceSchema] = {}
        self._at_first: dict[tuple[object, ...], list[bytes]] = {}
        self._members: dict[tuple[tuple[str | None, str], ...], VariableList] = {}

    def device(self, served: ServedDevice) -> BuiltDevice:
        layouts = {node.name: self._layout(node, served.inst) for node in served.nodes}
        key = tuple((name, id(layout)) for name, layout in layouts.items())
        schema = self._schemas.get(key)
        if schema is None:
            schema = DeviceSchema((name, layout.schema) for name, layout in layouts.items())
            self._schemas[key] = schema
        values: list[bytes] = []
        for node in served.nodes:
            values += self._values(node, layouts[node.name], served)
        return BuiltDevice(Device(served.name, schema, values), layouts)

    def variable_list(self, members: tuple[tuple[str | None, str], ...]) -> VariableList:
        """Return a data set; those with the same members are one object."""
        return self._members.setdefault(members, VariableList(members))

    def _values(self, node: Node, layout: NodeLayout, served: ServedDevice) -> list[bytes]:
        """Return the values of a node at first; nodes that are written alike in SCL share all but names."""
        settings = tuple(_settings(report) for report in node.reports)
        key = (id(layout), tuple(node.values.items()), settings)
        values = self._at_first.get(key)
        if values is None:
            values = self._at_first[key] = self._new_values(node, layout, served.inst)
        if not node.reports:
            return values
        values = values.copy()
        for report in node.reports:
            position = layout.blocks[report.name]
            block = f"{served.name}/{node.name}${'BR' if report.buffered else 'RP'}${report.name}"
            values[position["RptID"]] = data.visible_string(report.id or block)
            if report.data_set:
                values[position["DatSet"]] = data.visible_string(f"{served.name}/{node.name}${report.data_set}")
        layout.schema.seal(values)
        return values

    def _new_values(self, node: Node, layout: NodeLayout, inst: str) -> list[bytes]:
        values = layout.schema.template.copy()
        for path, text in node.values.items():
            found = layout.attributes.get(path)
            if found is not None:
                value = _value(found.attribute, text, f"{inst}/{node.name}.{path}")
                if value is not None:
                    values[found.position] = value
        for report in node.reports:
            for name, value in zip(_SETTINGS, _settings(report), strict=True):
                values[layout.blocks[report.name][name]] = value
        layout.schema.seal(values)
        return values

    def _layout(self, node: Node, inst: str) -> NodeLayout:
        blocks = tuple((report.name, report.buffered) for report in node.reports)
        key = (id(node.objects), blocks)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = self._lay_out(node, f"{inst}/{node.name}")
        return layout

    def _lay_out(self, node: Node, where: str) -> NodeLayout:
        fields: list[tuple[str, Type]] = []
        for fc in _ORDER:
            inside: list[tuple[str, Type]] = [
                (each.name, kind)
                for each in node.objects
                if (kind := self._object(each, fc, f"{where}.{each.name}")) is not None
            ]
            if fc in {"RP", "BR"}:
                inside += [
                    (report.name, self._block(report.buffered))
                    for report in node.reports
                    if report.buffered == (fc == "BR")
                ]
            if inside:
                fields.append((fc, Structure(tuple(inside))))
        schema = NodeSchema(Structure(tuple(fields)))
        attributes: dict[str, Attributes] = {}
        for path, name, attribute in _leaf_attributes(node.objects, "", ""):
            if attribute.fc not in _ORDER:
                raise _unknown(attribute, f"{where}.{path}")
            if name in schema.paths:
                attributes[path] = Attributes(schema.paths[name].start, attribute)
        blocks = {
            report.name: {
                child.name: child.start
                for child in schema.paths[f"{'BR' if report.buffered else 'RP'}${report.name}"].children
            }
            for report in node.reports
        }
        return NodeLayout(schema, attributes, blocks)

    def _object(self, served: DataObject, fc: str, where: str) -> Type | None:
        """Return the part of a data object that has a functional constraint."""
        inside: list[tuple[str, Type]] = []
        for child in served.children:
            below = f"{where}.{child.name}"
            if isinstance(child, DataObject):
                kind = self._object(child, fc, below)
            else:
                kind = self._attribute(child, below) if child.fc == fc else None
            if kind is not None:
                inside.append((child.name, kind))
        if not inside:
            return None
        kind = Structure(tuple(inside))
        return Array(kind, served.count) if served.count else kind

    def _attribute(self, attribute: Attribute, where: str) -> Type:
        known = self._types.get(id(attribute))
        if known is None:
            known = self._types[id(attribute)] = self._new_attribute(attribute, where)
        return known

    def _new_attribute(self, attribute: Attribute, where: str) -> Type:
        kind: Type
        if attribute.children:
            kind = Structure(
                tuple(
                    (child.name, self._attribute(child, f"{where}.{child.name}")) for child in attribute.children
                )
            )
        else:
            found = leaves.BASIC_TYPES.get(attribute.basic_type)
            if found is None:
                raise _unknown(attribute, where)
            kind = self._with_initial(found, attribute, where) if isinstance(found, Leaf) else found
        return Array(kind, attribute.count) if attribute.count else kind

    def _with_initial(self, kind: Leaf, attribute: Attribute, where: str) -> Leaf:
        initial = None
        if attribute.name == "t" and attribute.fc in {"ST", "MX"} and attribute.basic_type == "Timestamp":
            initial = self._now
        elif attribute.default is not None and not attribute.count:
            initial = _value(attribute, attribute.default, where)
        return kind if initial is None else msgspec.structs.replace(kind, initial=initial)

    def _block(self, buffered: bool) -> Structure:
        ied = self._ied
        owner = (_OWNER,) if ied.owner else ()
        if not buffered:
            fields = (*_HEAD, ("Resv", types.BOOLEAN), *_MIDDLE, ("SqNum", types.unsigned(8)), *_TAIL, *owner)
            return Structure(fields)
        reserved = (_RESERVED_TIME,) if ied.resv_tms else ()
        return Structure((*_HEAD, *_MIDDLE, ("SqNum", types.unsigned(16)), *_TAIL, *_BUFFER, *reserved, *owner))


def _leaf_attributes(
    children: tuple[DataObject | Attribute, ...], path: str, below: str
) -> Iterator[tuple[str, str, Attribute]]:
    """Yield ``DO.attribute`` path, MMS name within the node, and what SCL says, of every leaf attribute."""
    for child in children:
        dotted = f"{path}.{child.name}" if path else child.name
        name = f"{below}${child.name}" if below else child.name
        if isinstance(child, DataObject) or child.children:
            yield from _leaf_attributes(child.children, dotted, name)
        else:
            yield dotted, f"{child.fc}${name}", child


_SETTINGS = ("ConfRev", "OptFlds", "BufTm", "TrgOps", "IntgPd")


@cache
def _encoded_settings(revision: int, options: int, times: tuple[int, int], triggers: int) -> tuple[bytes, ...]:
    return (
        data.unsigned(revision),
        data.bit_string(_reversed(options, 8) << 1, 10),
        data.unsigned(times[0]),
        data.bit_string(_reversed(triggers, 5), 6),
        data.unsigned(times[1]),
    )


def _settings(report: Report) -> tuple[bytes, ...]:
    """Return the attributes of a report control block that the SCL file sets, as :data:`_SETTINGS` names them."""
    times = report.buffer_time, report.integrity_period
    return _encoded_settings(report.revision, report.options, times, report.triggers)


def _reversed(bits: int, width: int) -> int:
    """Return bits whose first is the lowest as bits whose first is the highest."""
    return sum(1 << (width - 1 - bit) for bit in range(width) if bits >> bit & 1)


def _value(attribute: Attribute, text: str, where: str) -> bytes | None:
    try:
        return leaves.encode(attribute, text)
    except (ValueError, KeyError, OverflowError):
        raise ConfigurationError(
            f"initial value '{text}' is no {attribute.basic_type}",
            where=f"SCL document, {where}",
            remedy="flexmap scl check FILE names the line",
        ) from None


def _unknown(attribute: Attribute, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"bType {attribute.basic_type}, fc {attribute.fc} is nothing this engine can serve",
        where=f"SCL document, {where}",
    )
