"""The object list for people and programs: what a logical device has, who may do what, and the IEC 61850 names."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flexmap.dlms import axdr, classes
from flexmap.dlms.class_names import CHOICE, CLASSES
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition, Schema
from flexmap.dlms.profile import Role
from flexmap.faces.dlms.demand import TYPE as DEMAND_TYPE
from flexmap.faces.dlms.device import FIRMWARE_LN
from flexmap.faces.dlms.objects import CAUSE_LN
from flexmap.mapping import cdc
from flexmap.model import Direction, MeterType, Part, Point, obis

CLIENTS = {"public": Role.PUBLIC, "read": Role.READER, "manage": Role.MANAGEMENT}
"""Access of a client as the configuration names it, and its role."""
_SIGNS = {Part.NET: "", Part.PLUS: " (+)", Part.MINUS: " (-)"}


class ListedItem(msgspec.Struct, frozen=True):
    """An attribute or a method."""

    index: int
    name: str
    type: str
    """A-XDR type; empty for a method."""
    access: dict[str, str]
    """By a client's access: ``r``, ``w``, ``rw``, ``x`` or empty; ``*`` behind it: with protected requests."""
    iec61850: str = ""


class ListedObject(msgspec.Struct, frozen=True):
    """One COSEM object."""

    obis: str
    class_id: int
    class_name: str
    version: int
    title: str
    """The title of the point or the demand whose object it is."""
    iec61850: str
    """Data object of the point."""
    attributes: tuple[ListedItem, ...]
    methods: tuple[ListedItem, ...]


def listing(
    schema: Schema, meter_type: MeterType | None = None, direction: Direction = Direction.DEMAND, ld: str = ""
) -> list[ListedObject]:
    """Return the objects of a schema, those of points with their names in the logical device ``ld``."""
    named = _points(meter_type) if meter_type is not None else {}
    found = [_object(each, named, direction, f"{ld}/" if ld else "") for each in schema.objects]
    titles = {} if meter_type is None else _demand_titles(meter_type)
    return [msgspec.structs.replace(each, title=titles.get(each.obis, each.title)) for each in found]


def _demand_titles(meter_type: MeterType) -> dict[str, str]:
    titles = {demand.obis: demand.title for demand in meter_type.demands}
    for demand in meter_type.demands:
        titles[demand.maximum] = f"{demand.title}, maximum"
        titles.update(
            (code, f"{demand.title}, maximum in rate {rate}") for rate, code in enumerate(demand.rates, 1)
        )
    return titles


_Named = dict[tuple[int, str], dict[int, tuple[Point, Part]]]


def _points(meter_type: MeterType) -> _Named:
    """Return, by class and OBIS code, the points of an object's attributes."""
    named: _Named = {}
    for point in (*meter_type.served, *meter_type.identity):
        for register in point.registers:
            named.setdefault((register.class_id, register.obis), {})[register.attribute] = (point, register.part)
    return named


def _object(definition: ObjectDefinition, named: _Named, direction: Direction, prefix: str) -> ListedObject:
    name = obis.text(definition.logical_name)
    points = named.get((definition.class_id, name), {})
    names = CLASSES[definition.class_id]
    first = next(iter(points.values()), None)
    return ListedObject(
        obis=name,
        class_id=definition.class_id,
        class_name=names.title,
        version=definition.version,
        title=first[0].title if first else "",
        iec61850=f"{prefix}{first[0].reference_for(direction).path}{_SIGNS[first[1]]}" if first else "",
        attributes=tuple(
            _attribute(definition, each, points, direction, prefix) for each in definition.attributes
        ),
        methods=tuple(
            ListedItem(each.index, names.methods[each.index], "", _executers(each)) for each in definition.methods
        ),
    )


def _attribute(
    definition: ObjectDefinition,
    attribute: Attribute,
    points: dict[int, tuple[Point, Part]],
    direction: Direction,
    prefix: str,
) -> ListedItem:
    class_id = definition.class_id
    name, kind = CLASSES[class_id].attributes[attribute.index]
    found = points.get(attribute.index)
    if found is not None:
        kind = found[0].type
    elif isinstance(attribute.value, bytes) and attribute.value != axdr.NULL:
        kind = axdr.Tag(attribute.value[0]).name.lower().replace("_", "-")
    elif kind == CHOICE:
        kind = _type(class_id, definition.logical_name, attribute.index)
    reference = _reference(class_id, attribute.index, points, direction)
    return ListedItem(attribute.index, name, kind, _users(attribute), f"{prefix}{reference}" if reference else "")


_ALARMS = bytes((97, 98))
"""Groups C and D of alarm registers, filters and descriptors."""


def _type(class_id: int, logical_name: bytes, index: int) -> str:
    """Return the type of an attribute whose class leaves a choice, where no point says it."""
    if class_id == classes.DATA:
        if logical_name[2:4] == _ALARMS:
            return "double-long-unsigned"
        texts = (classes.LOGICAL_DEVICE_NAME_LN, FIRMWARE_LN, CAUSE_LN)
        return "octet-string" if logical_name in texts else "unsigned"
    if class_id == classes.REGISTER:
        return "long-unsigned"
    status = {classes.EXTENDED_REGISTER: 4, classes.DEMAND_REGISTER: 5}[class_id]
    return "bit-string" if index == status else DEMAND_TYPE


_BESIDE = {3: "units", 4: "q", 5: "t"}
"""Attributes of an Extended register that say what stands beside a point's value."""


def _reference(class_id: int, index: int, points: dict[int, tuple[Point, Part]], direction: Direction) -> str:
    found = points.get(index)
    if found is not None:
        point, part = found
        reference = point.reference_for(direction)
        leaf = "" if reference.cdc == "DPL" else f".{cdc.place(reference).attribute}"
        return f"{reference.path}{leaf}{_SIGNS[part]}"
    if class_id == classes.EXTENDED_REGISTER and index in _BESIDE and 2 in points:
        reference = points[2][0].reference_for(direction)
        if index != 3 or reference.cdc in ("MV", "CMV", "WYE", "DEL", "SEQ", "BCR"):
            return f"{reference.path}.{_BESIDE[index]}"
    return ""


def _users(attribute: Attribute) -> dict[str, str]:
    star = "*" if attribute.protection else ""
    modes = {
        client: "r" * bool(attribute.read & role) + "w" * bool(attribute.write & role)
        for client, role in CLIENTS.items()
    }
    return {client: mode and mode + star for client, mode in modes.items()}


def _executers(method: Method) -> dict[str, str]:
    mode = "x*" if method.protection else "x"
    return {client: mode if method.execute & role else "" for client, role in CLIENTS.items()}


def access_text(listed: ListedObject, client: str) -> str:
    """Return in short what a client may do: ``r1-5 w2 x1-2*``, ``*`` where requests must be protected."""
    parts = []
    for letter, items in (("r", listed.attributes), ("w", listed.attributes), ("x", listed.methods)):
        for star in ("", "*"):
            numbers = [
                item.index
                for item in items
                if letter in item.access[client] and item.access[client].endswith("*") == bool(star)
            ]
            if numbers:
                parts.append(f"{letter}{_ranges(numbers)}{star}")
    return " ".join(parts)


def _ranges(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in runs)
