"""What every rule needs: the document, its types by id, and where to report."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from flexmap.scl.abilities import Abilities
from flexmap.scl.document import NAMESPACE, Document
from flexmap.scl.finding import Finding, Severity
from flexmap.scl.generate import FileKind

Element = etree._Element  # noqa: SLF001 -- lxml has no public name for it


def tag(name: str) -> str:
    """Return the qualified name of an SCL element."""
    return f"{{{NAMESPACE}}}{name}"


def children(element: Element, *names: str) -> list[Element]:
    """Return the child elements of these names, in document order."""
    return list(element.iterchildren(*(tag(name) for name in names)))


def child(element: Element, name: str) -> Element | None:
    """Return the first child element of that name."""
    return next(iter(children(element, name)), None)


def descendants(element: Element, *names: str) -> Iterator[Element]:
    """Return all elements of these names below an element."""
    return element.iterdescendants(*(tag(name) for name in names))


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


class Context:
    """A document under check."""

    def __init__(self, document: Document, kind: FileKind | None, abilities: Abilities | None) -> None:
        root = document.root
        self.root = root
        self.line_of = document.line_of
        self.kind = kind
        self.abilities = abilities
        self.first_edition = root.get("version", "2003") == "2003"
        """Edition 1 has other classes (``Mod`` of class INC) and literals: the names of 2007B do not hold."""
        self.findings: list[Finding] = []
        self.ieds = children(root, "IED")
        templates = child(root, "DataTypeTemplates")
        self.templates = templates
        self.node_types = _by_id(templates, "LNodeType")
        self.object_types = _by_id(templates, "DOType")
        self.structures = _by_id(templates, "DAType")
        self.enumerations = _by_id(templates, "EnumType")

    def error(self, rule: str, element: Element, what: str, remedy: str) -> None:
        """Report an error at an element."""
        self._report(Severity.ERROR, rule, element, what, remedy)

    def warning(self, rule: str, element: Element, what: str, remedy: str) -> None:
        """Report a warning at an element."""
        self._report(Severity.WARNING, rule, element, what, remedy)

    def info(self, rule: str, element: Element, what: str, remedy: str) -> None:
        """Report what was not checked."""
        self._report(Severity.INFO, rule, element, what, remedy)

    def _report(self, severity: Severity, rule: str, element: Element, what: str, remedy: str) -> None:
        self.findings.append(Finding(self.line_of(element), severity, rule, what, remedy))

    def devices(self, ied: Element) -> Iterator[Element]:
        """Return the logical devices of all servers of an IED."""
        for point in children(ied, "AccessPoint"):
            for server in children(point, "Server"):
                yield from children(server, "LDevice")

    def object_type(self, ln_type: str, do_path: str) -> Element | None:
        """Return the DOType at a path such as ``PhV.phsA`` in an LNodeType, or None where the path ends."""
        names = do_path.split(".")
        found = _named(self.node_types.get(ln_type), "DO", names[0])
        for name in names[1:]:
            found = _named(self._type_of(found), "SDO", name.partition("(")[0])
        return self._type_of(found)

    def _type_of(self, element: Element | None) -> Element | None:
        return None if element is None else self.object_types.get(element.get("type", ""))

    def attribute(self, object_type: Element, path: str) -> Element | None:
        """Return the DA or BDA at a path such as ``cVal.mag.f`` in a DOType, or None where the path ends."""
        names = [name.partition("(")[0] for name in path.split(".")]
        found = _named(object_type, "DA", names[0])
        for name in names[1:]:
            structure = None if found is None else self.structures.get(found.get("type", ""))
            found = _named(structure, "BDA", name)
        return found

    def constraints(self, object_type: Element, depth: int = 0) -> set[str]:
        """Return the functional constraints that occur in a DOType and its sub data objects."""
        found = {attribute.get("fc", "") for attribute in children(object_type, "DA")}
        for sub in children(object_type, "SDO") if depth < 8 else []:
            below = self._type_of(sub)
            if below is not None:
                found |= self.constraints(below, depth + 1)
        return found


def node_name(element: Element) -> str:
    """Return prefix, class and instance of an LN, LN0, FCDA or LNode in one word."""
    inst = element.get("lnInst") if element.get("lnInst") is not None else element.get("inst")
    return f"{element.get('prefix') or ''}{element.get('lnClass') or ''}{inst or ''}"


def _by_id(templates: Element | None, name: str) -> dict[str, Element]:
    found: dict[str, Element] = {}
    for element in children(templates, name) if templates is not None else []:
        found.setdefault(element.get("id", ""), element)
    return found


def _named(parent: Element | None, element_name: str, name: str) -> Element | None:
    if parent is None:
        return None
    return next((element for element in children(parent, element_name) if element.get("name") == name), None)
