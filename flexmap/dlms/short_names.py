"""Short names: where each attribute and method of a schema stands (IEC 62056-6-2, short name referencing).

Attribute n of an object stands at its base name + 8 (n − 1); where its methods begin is the class's own. Base
names follow from the order of the schema's objects alone: devices of one type have the same, today and after a
restart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from flexmap.dlms import axdr
from flexmap.dlms.objects import (
    ASSOCIATION_LN,
    Schema,
    View,
    attribute_key,
)
from flexmap.model.error import ConfigurationError

ASSOCIATION_SN, _ASSOCIATION_LN, _SAP_ASSIGNMENT, _DATA = 12, 15, 17, 1
_VERSION = 2
"""Version of class 12."""
BASE = 0xFA00
"""Base name of the current association."""
_SAP_BASE, _NAME_BASE = 0xFD00, 0xFE00
_DEVICE_NAME = bytes((0, 0, 42, 0, 0, 255))
_SECURITY_SETUP = bytes((0, 0, 43, 0, 0, 255))
_FIRST, _STEP = 0x0100, 8
_METHODS = {3: 0x28, 4: 0x38, 7: 0x58, 8: 0x60, 9: 0x20, 17: 0x20, 18: 0x40, 40: 0x38, 64: 0x30, 70: 0x20}
"""Offset of the first method, of the classes that have any here."""

CHANGE_SECRET, REPLY_TO_HLS = BASE + 0x40, BASE + 0x58
"""Methods 5 change_secret and 8 reply_to_HLS_authentication of the association."""


class ShortName(NamedTuple):
    """What a short name stands for."""

    key: bytes
    """Nine octets, as logical name referencing has them."""
    is_method: bool = False


class _Object(NamedTuple):
    base: int
    class_id: int
    version: int
    logical_name: bytes
    attributes: tuple[int, ...]
    methods: tuple[int, ...]


class ShortNames:
    """The short names of a schema's objects. ``by_key``: the short name of each attribute."""

    def __init__(self, schema: Schema) -> None:
        self.names: dict[int, ShortName] = {
            CHANGE_SECRET: ShortName(attribute_key(_ASSOCIATION_LN, ASSOCIATION_LN, 2), is_method=True),
            REPLY_TO_HLS: ShortName(attribute_key(_ASSOCIATION_LN, ASSOCIATION_LN, 1), is_method=True),
        }
        self._objects: list[_Object] = []
        following = _FIRST
        for definition in schema.objects:
            class_id, name = definition.class_id, definition.logical_name
            if class_id == _ASSOCIATION_LN:
                continue
            attributes = tuple(attribute.index for attribute in definition.attributes)
            methods = tuple(method.index for method in definition.methods)
            first_method = max(_METHODS.get(class_id, 0), max(attributes) * _STEP)
            size = first_method + max(methods) * _STEP if methods else max(attributes) * _STEP
            if class_id == _SAP_ASSIGNMENT:
                base = _SAP_BASE
            elif (class_id, name) == (_DATA, _DEVICE_NAME):
                base = _NAME_BASE
            else:
                base, following = following, following + size
            for index in attributes:
                self.names[base + (index - 1) * _STEP] = ShortName(attribute_key(class_id, name, index))
            for index in methods:
                key = attribute_key(class_id, name, index)
                self.names[base + first_method + (index - 1) * _STEP] = ShortName(key, is_method=True)
            self._objects.append(_Object(base, class_id, definition.version, name, attributes, methods))
        if following > BASE:
            raise ConfigurationError("a device has too many objects for short names")
        self.by_key = {named.key: name for name, named in self.names.items() if not named.is_method}

    def own(self, name: int, view: View) -> bytes | None:
        """Return an attribute of the association itself, encoded; ``None`` for any other name."""
        match name:
            case 0xFA00:
                return axdr.octet_string(ASSOCIATION_LN)
            case 0xFA08:  # object_list
                return self._object_list(view)
            case 0xFA10:  # access_rights_list
                return self._access_rights(view)
            case 0xFA18:  # security_setup_reference
                return axdr.octet_string(_SECURITY_SETUP)
        return None

    def _object_list(self, view: View) -> bytes:
        own = _Object(BASE, ASSOCIATION_SN, _VERSION, ASSOCIATION_LN, (), ())
        return axdr.array(
            [
                axdr.structure(
                    _base(each),
                    axdr.encode("long-unsigned", each.class_id),
                    axdr.encode("unsigned", each.version),
                    axdr.octet_string(each.logical_name),
                )
                for each in (own, *self._seen(view))
            ]
        )

    def _access_rights(self, view: View) -> bytes:
        return axdr.array([_rights(each, view) for each in self._seen(view)])

    def _seen(self, view: View) -> list[_Object]:
        return [each for each in self._objects if any(_mode(each, index, view) for index in each.attributes)]


@lru_cache(maxsize=256)
def short_names(schema: Schema) -> ShortNames:
    """Return the short names of a schema, made once."""
    return ShortNames(schema)


def _mode(each: _Object, index: int, view: View) -> int:
    key = attribute_key(each.class_id, each.logical_name, index)
    mode = (key in view.readable) + 2 * (key in view.writable)
    return mode + 3 if mode and view.guards.get(key) else mode


def _rights(each: _Object, view: View) -> bytes:
    """Return an access_rights_element: 1 read, 2 write, 3 both; 4 to 6 with authenticated requests."""
    attributes = [
        axdr.structure(axdr.encode("integer", index), axdr.encode("enum", _mode(each, index, view)), axdr.NULL)
        for index in each.attributes
    ]
    methods = []
    for index in each.methods:
        key = attribute_key(each.class_id, each.logical_name, index)
        allowed = key in view.executable
        mode = 2 if allowed and view.method_guards.get(key) else int(allowed)
        methods.append(axdr.structure(axdr.encode("integer", index), axdr.encode("enum", mode)))
    return axdr.structure(_base(each), axdr.array(attributes), axdr.array(methods))


def _base(each: _Object) -> bytes:
    return axdr.encode("long", (each.base + 0x8000) % 0x10000 - 0x8000)
