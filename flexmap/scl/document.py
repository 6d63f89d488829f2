"""SCL documents as element trees: writing, and reading with line numbers from files that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

from lxml import etree

from flexmap.model import ConfigurationError

NAMESPACE = "http://www.iec.ch/61850/2003/SCL"
VERSION, REVISION, RELEASE = "2007", "B", "4"
MAX_BYTES = 64 * 1024 * 1024
"""Larger files are refused before they are parsed."""


def root_element() -> etree._Element:
    """Return an empty ``SCL`` element of edition 2007B4."""
    return etree.fromstring(
        f'<SCL xmlns="{NAMESPACE}" version="{VERSION}" revision="{REVISION}" release="{RELEASE}"/>'
    )


def add(parent: etree._Element, tag: str, text: str | None = None, /, **attributes: str | None) -> etree._Element:
    """Append an SCL element; attributes that are None are left out."""
    element = etree.SubElement(parent, _tag(tag))
    for key, value in attributes.items():
        if value is not None:
            element.set(key, value)
    element.text = text
    return element


def serialise(root: etree._Element) -> bytes:
    """Return the document as UTF-8, one element a line."""
    etree.indent(root, "  ")
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


class Document:
    """An SCL file that was read: its tree, and the line that each start tag stands in."""

    def __init__(self, root: etree._Element, data: bytes) -> None:
        self.root = root
        self._lines = _start_lines(root, data)

    def line_of(self, element: etree._Element) -> int:
        """Return the line that the element's start tag begins in, from 1."""
        line = self._lines.get(element) or element.sourceline
        return line if isinstance(line, int) else 0


def _start_lines(root: etree._Element, data: bytes) -> dict[etree._Element, int]:
    """Return the line of each start tag.

    libxml2 counts up to 65535 only and means the end of a start tag; expat knows better. Empty if expat cannot
    read the encoding.
    """
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda _name, _attributes: lines.append(parser.CurrentLineNumber)
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return {}
    elements = list(root.iter(etree.Element))
    return dict(zip(elements, lines, strict=True)) if len(elements) == len(lines) else {}


def parse(source: bytes | Path) -> Document:
    """Return an SCL file as a tree.

    Entities are not expanded, no other file and no network is read, and the size is limited. Raises
    ConfigurationError naming file and line if it cannot be read, is not well-formed XML or is not SCL.
    """
    where = str(source) if isinstance(source, Path) else "document"
    data = _read(source, where)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise ConfigurationError(
            f"not well-formed XML: {error.msg}", where=f"{where}, line {line}", remedy="mend the XML"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"not XML: {error}", where=where) from None
    if root.getroottree().docinfo.internalDTD is not None:
        remedy = "remove the DOCTYPE declaration"
        raise ConfigurationError("a document type declaration has no place in SCL", where=where, remedy=remedy)
    if root.tag != _tag("SCL"):
        remedy = f'the root has to be <SCL xmlns="{NAMESPACE}">'
        raise ConfigurationError(f"the root element is '{root.tag}'", where=where, remedy=remedy)
    return Document(root, data)


def _read(source: bytes | Path, where: str) -> bytes:
    if isinstance(source, Path):
        try:
            size = source.stat().st_size
            data = source.read_bytes() if size <= MAX_BYTES else b""
        except OSError as error:
            raise ConfigurationError(f"cannot read: {error.strerror}", where=where) from None
    else:
        size, data = len(source), source
    if size > MAX_BYTES:
        raise ConfigurationError(f"{size} bytes; at most {MAX_BYTES} are read", where=where)
    return data


def local(element: etree._Element) -> str:
    """Return the element's name without namespace; elements of other namespaces keep theirs."""
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
