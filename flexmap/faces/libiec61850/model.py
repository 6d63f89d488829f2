"""The library's data model, built from an SCL document with its dynamic model functions."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import NamedTuple

from flexmap.faces.libiec61850.ctypes_api import BASIC_TYPES, FC, Pointer
from flexmap.faces.libiec61850.reports import ReportBlock
from flexmap.model import ConfigurationError
from flexmap.scl.served import Attribute, DataObject, DataSet, Device, Ied, Node, Report

_INTEGERS = {"INT8", "INT16", "INT24", "INT32", "INT64", "INT128"}
_UNSIGNED = {"INT8U", "INT16U", "INT24U", "INT32U"}
_STRINGS = {"VisString32", "VisString64", "VisString65", "VisString129", "VisString255", "ObjRef", "Currency"}
_DOUBLE_BITS = {"intermediate-state": 0, "off": 1, "on": 2, "bad-state": 3}
_DOUBLE_BITS |= {"stop": 0, "lower": 1, "higher": 2, "reserved": 3}
_TRUE = {"true", "1"}


class Leaf(NamedTuple):
    """A basic data attribute of the built model."""

    pointer: Pointer
    basic_type: str
    fc: str
    members: tuple[int, ...]
    """Data set members that contain it, each by a number of its own: a change can be worth a report of them."""


class Control(NamedTuple):
    """A data object that takes commands."""

    pointer: Pointer
    model: int
    """ctlModel: 1 direct, 2 SBO, 3 direct enhanced, 4 SBO enhanced."""


class BuiltDevice:
    """What can be reached in one logical device, by ``LN.DO.attribute`` path."""

    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.controls: dict[str, Control] = {}


class BuiltModel(NamedTuple):
    """An IedModel of the library, with the way into it."""

    pointer: Pointer
    devices: dict[str, BuiltDevice]
    """By ``inst`` of the logical device."""
    reports: dict[Pointer, ReportBlock]


def build(library: ctypes.CDLL, ied: Ied) -> BuiltModel:
    """Return the model of an IED.

    Raises ConfigurationError if an initial value does not fit its type, or a type is not known.
    """
    members = _number_members(ied)
    pointer = library.IedModel_create(None)
    library.IedModel_setIedNameForDynamicModel(pointer, ied.name.encode())
    built = BuiltModel(pointer, {}, {})
    for device in ied.devices:
        built.devices[device.inst] = _Builder(library, device, members, built.reports).build(pointer)
    return built


_Members = dict[tuple[str, str], list[int]]
"""Numbers of the data set members, by device and MMS name."""


def _number_members(ied: Ied) -> _Members:
    members: _Members = {}
    number = itertools.count()
    for device in ied.devices:
        for node in device.nodes:
            for data_set in node.data_sets:
                for member in data_set.members:
                    members.setdefault(member, []).append(next(number))
    return members


class _Builder:
    """Builds one logical device."""

    def __init__(
        self,
        library: ctypes.CDLL,
        device: Device,
        members: _Members,
        reports: dict[Pointer, ReportBlock],
    ) -> None:
        self._library = library
        self._device = device
        self._members = members
        self._reports = reports
        self._built = BuiltDevice()
        self._values: dict[str, str] = {}

    def build(self, model: Pointer) -> BuiltDevice:
        device = self._device
        name = device.name.encode() if device.functional else None
        pointer = self._library.LogicalDevice_createEx(device.inst.encode(), model, name)
        for node in device.nodes:
            self._node(node, pointer)
        return self._built

    def _node(self, node: Node, parent: Pointer) -> None:
        pointer = self._library.LogicalNode_create(node.name.encode(), parent)
        self._values = node.values
        for child in node.objects:
            self._object(child, pointer, node.name, child.name)
        for data_set in node.data_sets:
            self._data_set(data_set, pointer)
        for report in node.reports:
            self._report(report, pointer, node)

    def _object(self, data_object: DataObject, parent: Pointer, node: str, path: str) -> None:
        pointer = self._library.DataObject_create(data_object.name.encode(), parent, data_object.count)
        for child in data_object.children:
            below = f"{path}.{child.name}"
            if isinstance(child, DataObject):
                self._object(child, pointer, node, below)
            else:
                self._attribute(child, pointer, node, below)
                if child.name == "ctlModel":
                    self._control(child, pointer, node, path)

    def _control(self, ctl_model: Attribute, pointer: Pointer, node: str, path: str) -> None:
        text = self._values.get(f"{path}.ctlModel", ctl_model.default)
        model = 0 if text is None else _integer(ctl_model, text)
        if model:
            self._built.controls[f"{node}.{path}"] = Control(pointer, model)

    def _attribute(self, attribute: Attribute, parent: Pointer, node: str, path: str) -> None:
        number = BASIC_TYPES.get(attribute.basic_type)
        fc = FC.get(attribute.fc)
        if number is None or fc is None:
            raise ConfigurationError(
                f"bType {attribute.basic_type}, fc {attribute.fc} is nothing this engine can serve",
                where=f"SCL document, {self._device.inst}/{node}.{path}",
            )
        pointer = self._library.DataAttribute_create(
            attribute.name.encode(), parent, number, fc, attribute.triggers, attribute.count, 0
        )
        if attribute.children:
            for child in attribute.children:
                self._attribute(child, pointer, node, f"{path}.{child.name}")
            return
        members = self._containing(f"{node}${attribute.fc}${path.replace('.', '$')}")
        self._built.leaves[f"{node}.{path}"] = Leaf(pointer, attribute.basic_type, attribute.fc, members)
        text = self._values.get(path, attribute.default)
        if text is not None and not attribute.count:
            self._initial_value(attribute, pointer, text, f"{self._device.inst}/{node}.{path}")

    def _containing(self, item: str) -> tuple[int, ...]:
        numbers: list[int] = []
        while item:
            numbers += self._members.get((self._device.inst, item), ())
            item = item.rpartition("$")[0]
        return tuple(numbers)

    def _initial_value(self, attribute: Attribute, pointer: Pointer, text: str, where: str) -> None:
        try:
            value = _new_value(self._library, attribute, text)
        except (ValueError, KeyError):
            raise ConfigurationError(
                f"initial value '{text}' is no {attribute.basic_type}",
                where=f"SCL document, {where}",
                remedy="flexmap scl check FILE names the line",
            ) from None
        if value is not None:
            self._library.DataAttribute_setValue(pointer, value)
            self._library.MmsValue_delete(value)

    def _data_set(self, data_set: DataSet, node: Pointer) -> None:
        pointer = self._library.DataSet_create(data_set.name.encode(), node)
        for inst, item in data_set.members:
            # The library takes a member without a device as one of the data set's own.
            name = item if inst == self._device.inst else f"{inst}/{item}"
            self._library.DataSetEntry_create(pointer, name.encode(), -1, None)

    def _report(self, report: Report, parent: Pointer, node: Node) -> None:
        pointer = self._library.ReportControlBlock_create(
            report.name.encode(),
            parent,
            report.id.encode() if report.id else None,
            report.buffered,
            report.data_set.encode() if report.data_set else None,
            report.revision,
            report.triggers,
            report.options,
            report.buffer_time,
            report.integrity_period,
        )
        members = [
            number
            for data_set in node.data_sets
            if data_set.name == report.data_set
            for member in data_set.members
            for number in self._members[member]
        ]
        self._reports[pointer] = ReportBlock(report.buffered, report.triggers, frozenset(members))


def _integer(attribute: Attribute, text: str) -> int:
    if attribute.enumeration is not None and text in attribute.enumeration:
        return attribute.enumeration[text]
    return int(text)


def _new_value(library: ctypes.CDLL, attribute: Attribute, text: str) -> Pointer | None:
    """Return a new MmsValue; None for a type whose initial value means nothing here (times, qualities)."""
    kind = attribute.basic_type
    if kind == "Enum":
        value: Pointer = library.MmsValue_newIntegerFromInt32(_integer(attribute, text))
        return value
    if kind in {"Dbpos", "Tcmd"}:
        value = library.MmsValue_newBitString(2)
        library.MmsValue_setBitStringFromIntegerBigEndian(value, _DOUBLE_BITS[text])
        return value
    make = _MAKERS.get(kind)
    return None if make is None else make(library, text)


_MAKERS: dict[str, Callable[[ctypes.CDLL, str], Pointer]] = {
    "BOOLEAN": lambda library, text: library.MmsValue_newBoolean(text in _TRUE),
    "FLOAT32": lambda library, text: library.MmsValue_newFloat(float(text)),
    "FLOAT64": lambda library, text: library.MmsValue_newDouble(float(text)),
    "Unicode255": lambda library, text: library.MmsValue_newMmsString(text.encode()),
}
_MAKERS |= dict.fromkeys(_INTEGERS, lambda library, text: library.MmsValue_newIntegerFromInt64(int(text)))
_MAKERS |= dict.fromkeys(_UNSIGNED, lambda library, text: library.MmsValue_newUnsignedFromUint32(int(text)))
_MAKERS |= dict.fromkeys(
    _STRINGS, lambda library, text: library.MmsValue_newVisibleString(text.encode("ascii", "replace"))
)
