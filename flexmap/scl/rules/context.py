"""What every rule needs: the document, its types by id, and where to report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from flexmap.scl.abilities import Abilities
from flexmap.scl.document import Document, tag
from flexmap.scl.finding import Finding, Severity
from flexmap.scl.generate import FileKind

Element = etree._Element  # noqa: SLF001 -- lxml has no public name for it


def children(element: Element, *names: str) -> list[Element]:
    """Return the child elements of these names, in document order."""
    return list(element.iterchildren(*map(tag, names)))


def child(element: Element, name: str) -> Element | None:
    """Return the first child element of that name."""
    return next(element.iterchildren(tag(name)), None)


def descendants(element: Element, *names: str) -> Iterator[Element]:
    """Return all elements of these names below an element."""
    return element.iterdescendants(*map(tag, names))


def text_of(element: Element | None) -> str:
    """Return the text of an element, stripped; empty if there is none."""
    return (element.text or "").strip() if element is not None else ""


def number(text: str | None, default: int = 0) -> int:
    """Return the integer of an attribute; ``default`` if it is missing or none (the schema tells)."""
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default


def is_true(text: str | None, default: bool = False) -> bool:
    """Return the boolean of an attribute."""
    return default if text is None else text.strip() in {"true", "1"}


class _Pending(NamedTuple):
    """A finding whose lines are still to be looked up."""

    element: Element
    severity: Severity
    rule: str
    what: str
    remedy: str
    see: Element | None


class Context:
    """A document under check."""

    def __init__(self, document: Document, kind: FileKind | None, abilities: Abilities | None) -> None:
        root = document.root
        self.root = root
        self.kind = kind
        self.abilities = abilities
        self.first_edition = root.get("version", "2003") == "2003"
        """Edition 1 has other classes (``Mod`` of class INC) and literals: the names of 2007B do not hold."""
        self.ieds = children(root, "IED")
        templates = child(root, "DataTypeTemplates")
        self.templates = templates
        self.node_types = _by_id(templates, "LNodeType")
        self.object_types = _by_id(templates, "DOType")
        self.structures = _by_id(templates, "DAType")
        self.enumerations = _by_id(templates, "EnumType")
        self._document = document
        self._pending: list[_Pending] = []
        self._members: dict[Element, dict[str, Element]] = {}
        self._paths: dict[tuple[str, str], Element | None] = {}
        self._attributes: dict[tuple[Element, str], Element | None] = {}
        self._constraints: dict[Element, frozenset[str]] = {}

    def error(self, rule: str, element: Element, what: str, remedy: str, *, see: Element | None = None) -> None:
        """Report an error at an element; the line of ``see`` is added to ``what``."""
        self._pending.append(_Pending(element, Severity.ERROR, rule, what, remedy, see))

    def warning(self, rule: str, element: Element, what: str, remedy: str, *, see: Element | None = None) -> None:
        """Report a warning at an element; the line of ``see`` is added to ``what``."""
        self._pending.append(_Pending(element, Severity.WARNING, rule, what, remedy, see))

    def info(self, rule: str, element: Element, what: str, remedy: str) -> None:
        """Report what was not checked."""
        self._pending.append(_Pending(element, Severity.INFO, rule, what, remedy, None))

    @property
    def reported(self) -> int:
        """How many findings there are so far."""
        return len(self._pending)

    def findings(self) -> list[Finding]:
        """Return all that was reported, sorted by line."""
        elements = [pending.element for pending in self._pending]
        seen = [pending.see for pending in self._pending if pending.see is not None]
        lines = self._document.lines_of([*elements, *seen])
        found = [
            Finding(
                lines[pending.element],
                pending.severity,
                pending.rule,
                pending.what if pending.see is None else f"{pending.what} in line {lines[pending.see]}",
                pending.remedy,
            )
            for pending in self._pending
        ]
        return sorted(found, key=lambda finding: (finding.line, finding.rule, finding.what))

    def devices(self, ied: Element) -> Iterator[Element]:
        """Return the logical devices of all servers of an IED."""
        for point in children(ied, "AccessPoint"):
            for server in children(point, "Server"):
                yield from children(server, "LDevice")

    def members(self, type_element: Element) -> dict[str, Element]:
        """Return what a type has by name: DO, SDO, DA or BDA; the first of those with one name."""
        found = self._members.get(type_element)
        if found is None:
            found = {}
            for element in children(type_element, "DO", "SDO", "DA", "BDA"):
                found.setdefault(element.get("name", ""), element)
            self._members[type_element] = found
        return found

    def object_type(self, ln_type: str, do_path: str) -> Element | None:
        """Return the DOType at a path such as ``PhV.phsA`` in an LNodeType, or None where the path ends."""
        key = (ln_type, do_path)
        if key not in self._paths:
            names = do_path.split(".")
            found = self._named(self.node_types.get(ln_type), "DO", names[0])
            for name in names[1:]:
                found = self._named(self._type_of(found), "SDO", name.partition("(")[0])
            self._paths[key] = self._type_of(found)
        return self._paths[key]

    def _type_of(self, element: Element | None) -> Element | None:
        return None if element is None else self.object_types.get(element.get("type", ""))

    def attribute(self, object_type: Element, path: str) -> Element | None:
        """Return the DA or BDA at a path such as ``cVal.mag.f`` in a DOType, or None where the path ends."""
        key = (object_type, path)
        if key not in self._attributes:
            names = [name.partition("(")[0] for name in path.split(".")]
            found = self._named(object_type, "DA", names[0])
            for name in names[1:]:
                structure = None if found is None else self.structures.get(found.get("type", ""))
                found = self._named(structure, "BDA", name)
            self._attributes[key] = found
        return self._attributes[key]

    def constraints(self, object_type: Element, depth: int = 0) -> frozenset[str]:
        """Return the functional constraints that occur in a DOType and its sub data objects."""
        known = self._constraints.get(object_type)
        if known is not None:
            return known
        found = {attribute.get("fc", "") for attribute in children(object_type, "DA")}
        for sub in children(object_type, "SDO") if depth < 8 else []:
            below = self._type_of(sub)
            if below is not None:
                found |= self.constraints(below, depth + 1)
        if depth == 0:
            self._constraints[object_type] = frozenset(found)
        return frozenset(found)

    def _named(self, parent: Element | None, element_name: str, name: str) -> Element | None:
        found = None if parent is None else self.members(parent).get(name)
        return found if found is not None and found.tag == tag(element_name) else None


def node_name(element: Element) -> str:
    """Return prefix, class and instance of an LN, LN0, FCDA or LNode in one word."""
    inst = element.get("lnInst") if element.get("lnInst") is not None else element.get("inst")
    return f"{element.get('prefix') or ''}{element.get('lnClass') or ''}{inst or ''}"


def _by_id(templates: Element | None, name: str) -> dict[str, Element]:
    found: dict[str, Element] = {}
    for element in children(templates, name) if templates is not None else []:
        found.setdefault(element.get("id", ""), element)
    return found
