"""``DataTypeTemplates``: each type is written once, its id prefixed with the product it belongs to."""

from __future__ import annotations

from lxml import etree

from flexmap.scl import namespace
from flexmap.scl.document import add
from flexmap.scl.types import ObjectType

_CONSTANT_CONSTRAINTS = frozenset({"CF", "DC", "EX", "SP"})
_MEMBERS = {"AnalogueValue": ("f",), "Vector": ("mag",)}
"""Members written of structures that leave a choice; of the others, all mandatory ones and ``multiplier``."""
_MEMBER_CONSTANTS = {"multiplier": ""}
"""All values are in base units; the literal of multiplier 0 is the empty string."""
_SERVICES = frozenset({"Oper", "SBOw", "Cancel"})
_CONTROL_VALUES = {"DPC": "BOOLEAN", "SPC": "BOOLEAN"}
"""Type of ``ctlVal`` (IEC 61850-8-1)."""
_TRIGGERS = {"d": "dchg", "q": "qchg", "u": "dupd"}


class Library:
    """Collects the types of one product under its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._nodes: dict[str, tuple[str, dict[str, str]]] = {}
        self._objects: dict[str, ObjectType] = {}
        self._structures: dict[str, tuple[str, str, bool]] = {}
        self._enumerations: dict[str, str] = {}

    def node(self, ln_class: str, objects: dict[str, ObjectType]) -> str:
        """Return the id of the LNodeType with these data objects."""
        types = {name: self._object(objects[name]) for name in _class_order(ln_class, objects)}
        number = 1
        while True:
            identifier = f"{self._prefix}_{ln_class}" + (f"_{number}" if number > 1 else "")
            known = self._nodes.setdefault(identifier, (ln_class, types))
            if known == (ln_class, types):
                return identifier
            number += 1

    def _object(self, kind: ObjectType) -> str:
        identifier = "_".join(part for part in (self._prefix, kind.cdc, kind.label) if part)
        if identifier not in self._objects:
            self._objects[identifier] = kind
            if kind.child is not None:
                self._object(kind.child)
            for name in kind.attributes:
                attribute = _attribute(kind, name)
                self._use(_type_name(kind, attribute), attribute.fc in _CONSTANT_CONSTRAINTS, kind.cdc)
        return identifier

    def _use(self, type_name: str, constant: bool, cdc: str) -> str | None:
        """Return the id of the structure or enumeration that an attribute needs, if any."""
        basic_type = namespace.basic_type(type_name)
        if basic_type == "Enum":
            identifier = f"{self._prefix}_{type_name}"
            self._enumerations[identifier] = type_name
            return identifier
        if basic_type != "Struct":
            return None
        identifier = f"{self._prefix}_{type_name}" + (f"_{cdc}" if type_name in _SERVICES else "")
        if identifier not in self._structures:
            self._structures[identifier] = (type_name, cdc, constant)
            for member in _members(type_name):
                self._use(_member_type(member, cdc), constant, cdc)
        return identifier

    def write_nodes(self, parent: etree._Element) -> None:
        """Append the LNodeTypes."""
        for identifier, (ln_class, objects) in self._nodes.items():
            node = add(parent, "LNodeType", id=identifier, lnClass=ln_class)
            for name, kind in objects.items():
                add(node, "DO", name=name, type=kind)

    def write_objects(self, parent: etree._Element) -> None:
        """Append the DOTypes."""
        for identifier, kind in self._objects.items():
            element = add(parent, "DOType", id=identifier, cdc=kind.cdc)
            if kind.child is not None:
                for name in kind.children:
                    add(element, "SDO", name=name, type=self._object(kind.child))
            for name in kind.attributes:
                self._write_attribute(element, kind, name)

    def _write_attribute(self, parent: etree._Element, kind: ObjectType, name: str) -> None:
        attribute = _attribute(kind, name)
        constant = attribute.fc in _CONSTANT_CONSTRAINTS
        type_name = _type_name(kind, attribute)
        element = add(
            parent,
            "DA",
            name=name,
            bType=attribute.basic_type,
            type=self._use(type_name, constant, kind.cdc),
            fc=attribute.fc,
            valKind="RO" if constant and attribute.basic_type != "Struct" else None,
            **{_TRIGGERS[trigger]: "true" for trigger in attribute.triggers},
        )
        value = dict(kind.constants).get(name)
        if value is not None:
            add(element, "Val", value)

    def write_structures(self, parent: etree._Element) -> None:
        """Append the DATypes."""
        for identifier, (type_name, cdc, constant) in self._structures.items():
            element = add(parent, "DAType", id=identifier)
            for member in _members(type_name):
                member_type = _member_type(member, cdc)
                basic_type = namespace.basic_type(member_type)
                bda = add(
                    element,
                    "BDA",
                    name=member.name,
                    bType=basic_type,
                    type=self._use(member_type, constant, cdc),
                    valKind="RO" if constant and basic_type != "Struct" else None,
                )
                if member.name in _MEMBER_CONSTANTS:
                    add(bda, "Val", _MEMBER_CONSTANTS[member.name])

    def write_enumerations(self, parent: etree._Element) -> None:
        """Append the EnumTypes."""
        for identifier, name in self._enumerations.items():
            element = add(parent, "EnumType", id=identifier)
            for ordinal, literal in (namespace.literals(name) or {}).items():
                add(element, "EnumVal", literal, ord=str(ordinal))


def write(parent: etree._Element, libraries: list[Library]) -> None:
    """Append ``DataTypeTemplates`` with the types of all products, kind by kind as the schema wants them."""
    templates = add(parent, "DataTypeTemplates")
    for library in libraries:
        library.write_nodes(templates)
    for library in libraries:
        library.write_objects(templates)
    for library in libraries:
        library.write_structures(templates)
    for library in libraries:
        library.write_enumerations(templates)


def _class_order(ln_class: str, objects: dict[str, ObjectType]) -> list[str]:
    known = list(namespace.class_objects(ln_class) or {})
    stem = {name: name.rstrip("0123456789") for name in objects}
    rank = {name: known.index(name if name in known else stem[name]) for name in objects}
    return sorted(objects, key=lambda name: (rank[name], len(name), name))


def _attribute(kind: ObjectType, name: str) -> namespace.Attribute:
    return (namespace.attributes(kind.cdc) or {})[name]


def _members(type_name: str) -> list[namespace.Member]:
    members = namespace.structure(type_name) or {}
    wanted = _MEMBERS.get(type_name)
    if wanted is not None:
        return [members[name] for name in wanted]
    return [member for member in members.values() if member.presence == "M" or member.name == "multiplier"]


def _type_name(kind: ObjectType, attribute: namespace.Attribute) -> str:
    return kind.enumeration or attribute.type if attribute.type == "Enum" else attribute.type


def _member_type(member: namespace.Member, cdc: str) -> str:
    return _CONTROL_VALUES[cdc] if member.type == "Any" else member.type
