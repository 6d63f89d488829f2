"""Types of one document taken into another: equal ones shared, clashing ones renamed, unused ones removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy

from lxml import etree

from flexmap.scl.document import insert, local, remove, tag

KINDS = ("LNodeType", "DOType", "DAType", "EnumType")
"""Kinds of type in the order that they stand in."""

Key = tuple[str, str]
"""Kind and id of a type: files of the first edition have one id in several kinds."""

_Fingerprint = tuple[object, ...]


def types_of(root: etree._Element) -> dict[Key, etree._Element]:
    """Return the types of a document."""
    found: dict[Key, etree._Element] = {}
    for section in root.iterchildren(tag("DataTypeTemplates")):
        for element in section.iterchildren(*map(tag, KINDS)):
            found.setdefault((local(element), element.get("id", "")), element)
    return found


def uses(element: etree._Element) -> Iterator[tuple[etree._Element, Key]]:
    """Return the members of a type that name another type, and which."""
    for member in element.iterchildren(*map(tag, ("DO", "SDO", "DA", "BDA"))):
        if local(member) in {"DO", "SDO"}:
            yield member, ("DOType", member.get("type", ""))
        else:
            kind = {"Struct": "DAType", "Enum": "EnumType"}.get(member.get("bType", ""))
            if kind is not None:
                yield member, (kind, member.get("type", ""))


class TypeMerge:
    """Takes the types that an IED needs into a project's ``DataTypeTemplates``."""

    def __init__(self, target: etree._Element, source: dict[Key, etree._Element]) -> None:
        self.shared = 0
        self.added = 0
        self.renamed: dict[str, str] = {}
        self._target = target
        self._source = source
        elements = list(target.iterchildren(*map(tag, KINDS)))
        self._present = {(local(element), element.get("id", "")): element for element in elements}
        self._ids = {element.get("id", "") for element in elements}
        self._equal: dict[_Fingerprint, list[str]] = {}
        for element in elements:
            self._equal.setdefault(_fingerprint(element, {}), []).append(element.get("id", ""))
        self._taken: dict[Key, str] = {}

    def take(self, ied: etree._Element) -> None:
        """Take every type that the logical nodes of an IED need, and let the nodes name them by their new ids.

        An id that the file does not define stays as it is.
        """
        for node in ied.iter(tag("LN"), tag("LN0")):
            key = ("LNodeType", node.get("lnType", ""))
            if key in self._source:
                node.set("lnType", self._take(key))

    def _take(self, key: Key) -> str:
        """Return the id that a type of the file has in the project."""
        if key in self._taken:
            return self._taken[key]
        identifier = key[1]
        self._taken[key] = identifier  # a type that contains itself ends here
        element = self._source[key]
        below = {used: self._take(used) for _, used in uses(element) if used in self._source}
        fingerprint = _fingerprint(element, below)
        present = self._present.get(key)
        if present is not None and _fingerprint(present, {}) == fingerprint:
            self.shared += 1
            return identifier
        name = identifier
        if identifier in self._ids:
            given = re.compile(rf"{re.escape(identifier)}_\d+")
            equal = next(filter(given.fullmatch, self._equal.get(fingerprint, [])), None)
            if equal is not None:  # the same type, under the name that an earlier merge gave it
                self.shared += 1
                self._taken[key] = equal
                return equal
            name = self._free(identifier)
            self.renamed[identifier] = name
        self._add(element, name, below)
        self._equal.setdefault(fingerprint, []).append(name)
        self._taken[key] = name
        return name

    def _free(self, identifier: str) -> str:
        used = self._ids | {known for _, known in self._source}
        number = 2
        while f"{identifier}_{number}" in used:
            number += 1
        return f"{identifier}_{number}"

    def _add(self, element: etree._Element, name: str, below: dict[Key, str]) -> None:
        copied = deepcopy(element)
        copied.set("id", name)
        for member, used in uses(copied):
            member.set("type", below.get(used, used[1]))
        rank = KINDS.index(local(element))
        position = 0
        for number, child in enumerate(self._target, 1):
            if isinstance(child.tag, str) and local(child) in KINDS and KINDS.index(local(child)) <= rank:
                position = number
        insert(self._target, position, copied)
        self._present[local(element), name] = copied
        self._ids.add(name)
        self.added += 1


def _fingerprint(element: etree._Element, below: dict[Key, str]) -> _Fingerprint:
    """Return what makes up a type: everything but its id, comments, blanks and the order of attributes."""
    named = {member: below.get(used, used[1]) for member, used in uses(element)}
    return _part(element, named, top=True)


def _part(element: etree._Element, named: dict[etree._Element, str], *, top: bool = False) -> _Fingerprint:
    attributes = {str(key): str(value) for key, value in element.attrib.items() if not (top and key == "id")}
    if element in named:
        attributes["type"] = named[element]
    children = tuple(_part(child, named) for child in element.iterchildren(etree.Element))
    text = "" if children else (element.text or "")
    return (element.tag, tuple(sorted(attributes.items())), "" if text.isspace() else text, children)


def needed(root: etree._Element) -> set[Key]:
    """Return the types that the logical nodes of a document need."""
    types = types_of(root)
    found: set[Key] = set()
    left: list[Key] = [("LNodeType", node.get("lnType", "")) for node in root.iter(tag("LN"), tag("LN0"))]
    while left:
        key = left.pop()
        if key not in found and key in types:
            found.add(key)
            left += [used for _, used in uses(types[key])]
    return found


def prune(root: etree._Element, candidates: set[Key]) -> None:
    """Remove those of the types that no logical node needs."""
    types = types_of(root)
    for key in candidates - needed(root):
        if key in types:
            remove(types[key])
