"""COSEM objects as a server holds them: one schema for all meters of a type, one flat list of values per meter.

A :class:`Schema` maps the nine octets by which a request names an attribute (class, logical name, attribute, as
they stand on the wire) to a slot; a :class:`LogicalDevice` has one value per slot, encoded when it changes and not
when it is read::

    schema = Schema([clock(...), register(...)])
    device = LogicalDevice(16, schema)
    device.values[schema.slot(3, ENERGY, 2)] = encode("double-long-unsigned", 1234)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.profile import AUTHENTICATED, ClientProfile, Grant, Role
from flexmap.dlms.security import SIGNED
from flexmap.dlms.selection import Selection
from flexmap.model.error import ConfigurationError, RemoteError

ASSOCIATION_LN = bytes((0, 0, 40, 0, 0, 255))
"""Logical name of the current association."""


class Rows(NamedTuple):
    """An array on its way out: how many elements, and each of them encoded."""

    total: int
    rows: Iterator[bytes]
    """Gives ``total`` rows, whatever is appended meanwhile; fewer only if rows were deleted."""


class RowSource(Protocol):
    """A buffer too long to hold encoded: its rows are fetched while blocks go out."""

    def select(self, selection: Selection | None) -> Rows:
        """Return the chosen rows, oldest first; raises SelectionError."""


class SelectionError(RemoteError):
    """A selection that a row source cannot follow."""

    def __init__(self, reason: str, result: DataAccessResult = DataAccessResult.SCOPE_OF_ACCESS_VIOLATED) -> None:
        super().__init__(reason)
        self.result = result


Stored = bytes | DataAccessResult | RowSource
"""Encoded value; why there is none; or rows."""
SlotValue = Stored | Callable[[], Stored]
"""What stands in a slot; a callable is called at each read (a clock)."""


class SecuritySetups(Protocol):
    """What class 64 shows and does, for each client by its SAP."""

    def attribute(self, sap: int, index: int) -> bytes:
        """Return an attribute of a client's security setup, encoded."""

    def act(self, sap: int, method: int, data: bytes | None) -> ActionReply:
        """Call a method of a client's security setup."""

    def change_secret(self, sap: int, data: bytes | None) -> ActionReply:
        """Change a client's secret of high level security."""


class AssociationContext:
    """What class 15 shows of the association that reads it."""

    __slots__ = (
        "client_sap",
        "conformance",
        "context",
        "max_receive",
        "max_send",
        "mechanism",
        "object_list",
        "open",
        "policy",
        "security",
        "server_sap",
    )

    def __init__(self, *, client_sap: int, server_sap: int, context: int, mechanism: int) -> None:
        self.client_sap = client_sap
        self.server_sap = server_sap
        self.context = context
        self.mechanism = mechanism
        self.conformance = 0
        self.max_receive = 0
        self.max_send = 0
        self.open = False
        self.policy = 0
        """Security control that every APDU must have at least."""
        self.object_list = b""
        self.security: SecuritySetups | None = None


class Attribute(msgspec.Struct, frozen=True):
    """One attribute of an object and who may do what with it."""

    index: int
    read: Role = AUTHENTICATED
    write: Role = Role.NOBODY
    value: Any = None
    """``bytes`` (one for all devices of the schema), a function of AssociationContext, or ``None``: a slot."""
    selectors: tuple[int, ...] = ()
    """Access selectors that reading takes."""
    protection: int = 0
    """Protection that a request must have: security.AUTHENTICATED, ENCRYPTED, SIGNED."""


class Method(msgspec.Struct, frozen=True):
    """One method of an object and who may call it."""

    index: int
    execute: Role = Role.MANAGEMENT
    protection: int = 0
    """Protection that a request must have: security.AUTHENTICATED, ENCRYPTED, SIGNED."""


class ObjectDefinition(msgspec.Struct, frozen=True):
    """One COSEM object; attribute 1 (logical_name) is added when not given."""

    class_id: int
    version: int
    logical_name: bytes
    attributes: tuple[Attribute, ...]
    methods: tuple[Method, ...] = ()


class View(NamedTuple):
    """What one role may do with a schema."""

    readable: dict[bytes, Any]
    """Nine octets → slot, encoded value or function of AssociationContext."""
    writable: frozenset[bytes]
    executable: frozenset[bytes]
    object_list: bytes
    """Encoded."""
    unguarded: dict[bytes, Any]
    """Of ``readable`` what needs no protection."""
    guards: dict[bytes, int]
    """Protection that a request for an attribute needs, where it needs any."""
    method_guards: dict[bytes, int]
    """The same of methods."""


def attribute_key(class_id: int, logical_name: bytes, index: int) -> bytes:
    """Return the nine octets by which requests name an attribute or method."""
    return class_id.to_bytes(2, "big") + logical_name + (index & 0xFF).to_bytes(1, "big")


_REGISTER, _EXTENDED_REGISTER, _ASSOCIATION = 3, 4, 15


class Schema:
    """The objects that all devices of one type have, and where their values stand."""

    def __init__(self, objects: Sequence[ObjectDefinition]) -> None:
        self.objects = tuple(_with_logical_name(definition) for definition in objects)
        self._slots: dict[bytes, int] = {}
        self._attributes: dict[bytes, Attribute] = {}
        self._classes: dict[bytes, set[int]] = {}
        self._views: dict[tuple[Role, tuple[Grant, ...]], View] = {}
        for definition in self.objects:
            self._add(definition)

    def _add(self, definition: ObjectDefinition) -> None:
        name = definition.logical_name
        classes = self._classes.setdefault(name, set())
        if len(name) != 6 or definition.class_id in classes:
            raise ConfigurationError(
                f"class {definition.class_id} has the logical name {name.hex()} twice or of a wrong length"
            )
        classes.add(definition.class_id)
        for attribute in definition.attributes:
            key = attribute_key(definition.class_id, name, attribute.index)
            self._attributes[key] = attribute
            if attribute.value is None:
                self._slots[key] = len(self._slots)

    def has_class(self, class_id: int) -> bool:
        """Tell whether there is an object of that class."""
        return any(definition.class_id == class_id for definition in self.objects)

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self._slots)

    def slot(self, class_id: int, logical_name: bytes, attribute: int) -> int:
        """Return the place of an attribute's value in ``LogicalDevice.values``; raises KeyError if it has none."""
        return self._slots[attribute_key(class_id, logical_name, attribute)]

    def attribute_count(self, key: bytes) -> int:
        """Return how many attributes the object has that the first eight octets name; 0 without such an object."""
        class_id, name = int.from_bytes(key[:2], "big"), key[2:8]
        classes = self._classes.get(name) or set()
        if class_id not in classes:
            return 3 if class_id == _REGISTER and _EXTENDED_REGISTER in classes else 0
        definition = next(o for o in self.objects if o.class_id == class_id and o.logical_name == name)
        return max(attribute.index for attribute in definition.attributes)

    def attribute(self, key: bytes) -> Attribute | None:
        """Return the attribute that nine octets name."""
        return self._attributes.get(key)

    def view(self, role: Role, scope: tuple[Grant, ...] = ()) -> View:
        """Return what that role may do, within a scope; made once for each pair."""
        view = self._views.get((role, scope))
        if view is None:
            view = self._views[role, scope] = self._make_view(role, scope)
        return view

    def _make_view(self, role: Role, scope: tuple[Grant, ...]) -> View:
        readable: dict[bytes, Any] = {}
        writable: set[bytes] = set()
        executable: set[bytes] = set()
        guards: dict[bytes, int] = {}
        method_guards: dict[bytes, int] = {}
        elements: list[bytes] = []
        for whole in self.objects:
            definition = _within(whole, scope) if scope else whole
            keyed = [
                (attribute_key(definition.class_id, definition.logical_name, a.index), a)
                for a in definition.attributes
            ]
            if not any((a.read | a.write) & role for _, a in keyed):
                continue
            for key, attribute in keyed:
                if attribute.read & role:
                    readable[key] = self._slots[key] if attribute.value is None else attribute.value
                if attribute.write & role:
                    writable.add(key)
                if attribute.protection:
                    guards[key] = attribute.protection
            for method in definition.methods:
                if method.protection:
                    key = attribute_key(definition.class_id, definition.logical_name, method.index)
                    method_guards[key] = method.protection
            executable.update(
                attribute_key(definition.class_id, definition.logical_name, method.index)
                for method in definition.methods
                if method.execute & role
            )
            elements.append(_object_list_element(definition, role, self._bits_shown))
        self._add_register_names(readable)
        unguarded = {key: found for key, found in readable.items() if key not in guards}
        return View(
            readable,
            frozenset(writable),
            frozenset(executable),
            axdr.array(elements),
            unguarded,
            guards,
            method_guards,
        )

    @property
    def _bits_shown(self) -> bool:
        """Access modes are bits, as from version 3 of Association LN on."""
        return any(o.class_id == _ASSOCIATION and o.version >= 3 for o in self.objects)

    def _add_register_names(self, readable: dict[bytes, Any]) -> None:
        """Let an extended register be read as a register: attributes 1 to 3 are identical."""
        for key in list(readable):
            class_id, name, index = int.from_bytes(key[:2], "big"), key[2:8], key[8]
            if class_id == _EXTENDED_REGISTER and index <= 3 and _REGISTER not in self._classes[name]:
                readable[attribute_key(_REGISTER, name, index)] = readable[key]

    def why_not(self, key: bytes) -> DataAccessResult:
        """Return why a request that names these nine octets gets nothing."""
        classes = self._classes.get(key[2:8])
        class_id = int.from_bytes(key[:2], "big")
        if classes is None:
            return DataAccessResult.OBJECT_UNDEFINED
        if class_id == _REGISTER and _EXTENDED_REGISTER in classes and key[8] <= 3:
            class_id = _EXTENDED_REGISTER
        if class_id not in classes:
            return DataAccessResult.OBJECT_CLASS_INCONSISTENT
        definition = next(o for o in self.objects if o.class_id == class_id and o.logical_name == key[2:8])
        known = {a.index for a in definition.attributes} | {m.index for m in definition.methods}
        return DataAccessResult.READ_WRITE_DENIED if key[8] in known else DataAccessResult.OBJECT_UNDEFINED


def _with_logical_name(definition: ObjectDefinition) -> ObjectDefinition:
    if any(attribute.index == 1 for attribute in definition.attributes):
        return definition
    readers = Role.NOBODY
    for attribute in definition.attributes:
        readers |= attribute.read
    name = Attribute(1, read=readers, value=axdr.octet_string(definition.logical_name))
    return msgspec.structs.replace(definition, attributes=(name, *definition.attributes))


def _within(definition: ObjectDefinition, scope: tuple[Grant, ...]) -> ObjectDefinition:
    """Return what a scope leaves of an object; its association is every client's."""
    if definition.class_id == _ASSOCIATION:
        return definition
    grants = [grant for grant in scope if grant.logical_name == definition.logical_name]
    whole = any(not grant.attribute and not grant.method for grant in grants)
    attributes = {grant.attribute for grant in grants if grant.attribute}
    methods = {grant.method for grant in grants if grant.method}
    if whole:
        return definition
    return msgspec.structs.replace(
        definition,
        attributes=tuple(a for a in definition.attributes if a.index in attributes or (grants and a.index == 1)),
        methods=tuple(m for m in definition.methods if m.index in methods),
    )


def _attribute_mode(attribute: Attribute, role: Role, *, bits: bool) -> int:
    """Return the access_mode of an attribute: up to version 2 of Association LN a number, then bits."""
    mode = bool(attribute.read & role) + 2 * bool(attribute.write & role)
    if bits:
        return mode | _request_bits(attribute.protection) if mode else 0
    # 1 read, 2 write, 3 both, and 4 to 6 the same with authenticated requests.
    return mode + 3 if mode and attribute.protection else mode


def _method_mode(method: Method, role: Role, *, bits: bool) -> int:
    mode = int(bool(method.execute & role))
    if bits:
        return mode | _request_bits(method.protection) if mode else 0
    return mode + 1 if mode and method.protection else mode


def _request_bits(protection: int) -> int:
    """Return bits 2 to 4 of an access mode: authenticated, encrypted, signed request."""
    return (protection >> 4 & 3) << 2 | bool(protection & SIGNED) << 4


def _object_list_element(definition: ObjectDefinition, role: Role, bits: bool) -> bytes:
    """Return the object_list_element with the rights of that role (IEC 62056-6-2, Association LN)."""
    attributes = [
        axdr.structure(
            axdr.encode("integer", attribute.index),
            axdr.encode("enum", _attribute_mode(attribute, role, bits=bits)),
            axdr.array([axdr.encode("integer", selector) for selector in attribute.selectors])
            if attribute.selectors
            else axdr.NULL,
        )
        for attribute in definition.attributes
    ]
    methods = [
        axdr.structure(
            axdr.encode("integer", method.index), axdr.encode("enum", _method_mode(method, role, bits=bits))
        )
        for method in definition.methods
    ]
    return axdr.structure(
        axdr.encode("long-unsigned", definition.class_id),
        axdr.encode("unsigned", definition.version),
        axdr.octet_string(definition.logical_name),
        axdr.structure(axdr.array(attributes), axdr.array(methods)),
    )


class ActionReply(NamedTuple):
    """A method's result and, encoded, what it returns."""

    result: ActionResult
    returned: bytes | None = None


class Pending:
    """A method's answer that is still to come.

    ``LogicalDevice.on_action`` returns one and keeps it; the reply goes out when :meth:`answer` is called. The
    keeper must call it in the end (with TEMPORARY_FAILURE after a time limit of its own). After ``cancelled`` (the
    client went away) an answer goes nowhere.
    """

    __slots__ = ("_then", "cancelled", "reply")

    def __init__(self) -> None:
        self.reply: ActionReply | None = None
        self.cancelled = False
        self._then: Callable[[ActionReply], None] | None = None

    def answer(self, result: ActionResult, returned: bytes | None = None) -> None:
        """Give the answer; only the first one counts."""
        if self.reply is None:
            self.reply = ActionReply(result, returned)
            if self._then is not None and not self.cancelled:
                self._then(self.reply)

    def then(self, receiver: Callable[[ActionReply], None]) -> None:
        """Name who is told of an answer that has not come yet."""
        self._then = receiver


class LogicalDevice:
    """One logical device: its server SAP, its schema, its values. Override ``on_set`` and ``on_action``."""

    __slots__ = ("sap", "schema", "values")

    def __init__(self, sap: int, schema: Schema) -> None:
        self.sap = sap
        self.schema = schema
        self.values: list[SlotValue] = [DataAccessResult.TEMPORARY_FAILURE] * schema.size
        """One value per slot; TEMPORARY_FAILURE until one is put there: missing is not zero.

        Change it in place only: open associations hold it.
        """

    def on_set(
        self, class_id: int, logical_name: bytes, attribute: int, data: bytes, client: ClientProfile
    ) -> DataAccessResult | Pending:
        """Write ``data`` (one well-formed encoded value); the client has the right to."""
        del class_id, logical_name, attribute, data, client
        return DataAccessResult.READ_WRITE_DENIED

    def on_action(
        self, class_id: int, logical_name: bytes, method: int, data: bytes | None, client: ClientProfile
    ) -> ActionResult | ActionReply | Pending:
        """Call a method with an encoded parameter or none; the client has the right to."""
        del class_id, logical_name, method, data, client
        return ActionResult.READ_WRITE_DENIED
