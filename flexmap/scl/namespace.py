"""Names of IEC 61850-7-4, 7-3, 7-2 and 8-1: which data objects, attributes, types and literals there are.

The names stand in ``namespace.toml``; this module turns them into structs. Presence is kept as one short code,
explained at the head of each table in that file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import msgspec

LN_NAMESPACE = "IEC 61850-7-4:2007B"
"""Value of ``LLN0.NamPlt.ldNs`` for logical devices whose nodes are those of IEC 61850-7-4 Ed 2.1."""

SETTING_CONSTRAINTS = frozenset({"SP", "SG", "SE"})
"""Functional constraints that stand in for ``SP`` when a setting belongs to a setting group."""

SUB_DATA_OBJECT = "SDO"
"""``fc`` of an :class:`Attribute` that is a sub data object; its ``type`` is then a CDC."""

_TEXT = "d:DC:VisString255:O: dU:DC:Unicode255:O: cdcName:EX:VisString255:O: dataNs:EX:VisString255:C:"


class DataObject(msgspec.Struct, frozen=True):
    """A data object of a logical-node class."""

    name: str
    cdc: str
    presence: str


class Attribute(msgspec.Struct, frozen=True):
    """A data attribute or sub data object of a common data class."""

    name: str
    fc: str
    type: str
    presence: str
    triggers: str

    @property
    def basic_type(self) -> str:
        """Its bType in SCL."""
        return basic_type(self.type)


class Member(msgspec.Struct, frozen=True):
    """A member of a structure (BDA in SCL)."""

    name: str
    type: str
    presence: str

    @property
    def basic_type(self) -> str:
        """Its bType in SCL; ``Any`` where the data object decides."""
        return basic_type(self.type)


class _Tables(msgspec.Struct, forbid_unknown_fields=True):
    classes: dict[str, str]
    values: dict[str, str]
    cdcs: dict[str, str]
    structures: dict[str, str]
    enumerations: dict[str, list[str]]


@cache
def _tables() -> _Tables:
    data = resources.files("flexmap.scl").joinpath("namespace.toml").read_bytes()
    return msgspec.toml.decode(data, type=_Tables)


@cache
def class_objects(ln_class: str) -> dict[str, DataObject] | None:
    """Return the data objects of a logical-node class by name, or None if the class is not known."""
    text = _tables().classes.get(ln_class)
    if text is None or ln_class.endswith("LN"):
        return None
    return dict(_objects(ln_class))


def _objects(name: str) -> dict[str, DataObject]:
    base, *words = _tables().classes[name].split()
    objects = {} if base == "-" else _objects(base)
    for word in words:
        do, cdc, presence = word.split(":")
        objects[do] = DataObject(do, cdc, presence)
    return objects


def data_object(ln_class: str, name: str) -> DataObject | None:
    """Return the data object of that name; ``Ind12`` is the numbered ``Ind``."""
    objects = class_objects(ln_class) or {}
    found = objects.get(name)
    if found is None:
        found = objects.get(re.sub(r"\d+$", "", name))
        if found is not None and found.presence != "N":
            return None
    return found


@cache
def enumeration_of(data_object_name: str) -> str | None:
    """Return the enumeration of the value of an ENS, ENC or ENG data object: ``BehaviourModeKind`` for ``Beh``."""
    for kind, names in _tables().values.items():
        if data_object_name in names.split():
            return kind
    return None


@cache
def attributes(cdc: str) -> dict[str, Attribute] | None:
    """Return the attributes of a common data class by name, in its own order, or None if it is not known."""
    text = _tables().cdcs.get(cdc)
    if text is None:
        return None
    words = [word for item in text.split() for word in _expand(item)]
    return {word.split(":")[0]: Attribute(*word.split(":")) for word in words}


def _expand(word: str) -> list[str]:
    if word == "TEXT":
        return _TEXT.split()
    if word.startswith("SUBST:"):
        _, name, kind = word.split(":")
        return [
            "subEna:SV:BOOLEAN:C:",
            f"{name}:SV:{kind}:C:",
            "subQ:SV:Quality:C:",
            "subID:SV:VisString64:C:",
            "blkEna:BL:BOOLEAN:O:",
        ]
    return [word]


@cache
def structure(name: str) -> dict[str, Member] | None:
    """Return the members of a structure (``Unit``, ``Vector``, ``Oper`` …) by name, or None if it is not known."""
    text = _tables().structures.get(name)
    if text is None:
        return None
    return {word.split(":")[0]: Member(*word.split(":")) for word in text.split()}


@cache
def literals(enumeration: str) -> dict[int, str] | None:
    """Return the literals of an enumeration by ordinal, or None if it is not known."""
    items = _tables().enumerations.get(enumeration)
    if items is None:
        return None
    pairs: list[Any] = [item.partition("=") for item in items]
    return {int(ordinal): literal for ordinal, _, literal in pairs}


def basic_type(type_name: str) -> str:
    """Return the bType of an attribute's type: ``Enum``, ``Struct`` or the type itself."""
    if type_name == "Enum" or type_name in _tables().enumerations:
        return "Enum"
    return "Struct" if type_name in _tables().structures else type_name
