"""SCL documents as element trees: writing, and reading with line numbers from files that nobody vouches for."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lxml import etree

from flexmap.model import ConfigurationError

_START_TAG = re.compile(rb"<[^/?]")
NAMESPACE = "http://www.iec.ch/61850/2003/SCL"
VERSION, REVISION, RELEASE = "2007", "B", "4"
MAX_BYTES = 192 * 1024 * 1024
"""Larger files are refused before they are parsed: about 12,000 meters."""
MAX_MARKS = 12_000_000
"""Tags and attributes of a file, which cost memory however short they are: about 1.5 GB."""


def root_element() -> etree._Element:
    """Return an empty ``SCL`` element of edition 2007B4."""
    return etree.fromstring(
        f'<SCL xmlns="{NAMESPACE}" version="{VERSION}" revision="{REVISION}" release="{RELEASE}"/>'
    )


def add(parent: etree._Element, name: str, text: str | None = None, /, **attributes: str | None) -> etree._Element:
    """Append an SCL element; attributes that are None are left out."""
    element = etree.SubElement(parent, tag(name))
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

    def __init__(self, root: etree._Element, source: bytes | Path) -> None:
        self.root = root
        self.where = _name(source)
        self._source = source

    def line_of(self, element: etree._Element) -> int:
        """Return the line that the element's start tag begins in, from 1; :meth:`lines_of` is faster for many."""
        return self.lines_of([element])[element]

    def lines_of(self, elements: Iterable[etree._Element]) -> dict[etree._Element, int]:
        """Return the line that the start tag of each element begins in, from 1; 0 if it is not known.

        libxml2 does not keep the line of every element, and means the end of a start tag; so the file is read
        again. Ask once, for all.
        """
        wanted = dict.fromkeys(elements, 0)
        if not wanted:
            return wanted
        lines = _start_lines(_read(self._source))
        for number, element in enumerate(self.root.iter(etree.Element)):
            if element in wanted:
                line = lines[number] if number < len(lines) else element.sourceline
                wanted[element] = line if isinstance(line, int) else 0
        return wanted

    def refuse(self, element: etree._Element, what: str, remedy: str) -> ConfigurationError:
        """Return the error that says what is wrong in the line of an element."""
        return ConfigurationError(what, where=f"{self.where}, line {self.line_of(element)}", remedy=remedy)


def _start_lines(data: bytes) -> array[int]:
    """Return the line of each start tag, in document order; empty if expat cannot read the encoding."""
    start = data.find(b"?>") + 2 if data.startswith(b"<?xml") else 0
    marked = b"<!" in data[start:] or b"<?" in data[start:]  # a "<" in a comment, CDATA or instruction is no tag
    if marked or data[:1] != b"<" or data[1:2] == b"\0" or b"\r" in data.replace(b"\r\n", b""):
        return _expat_lines(data)
    lines = array("L")
    line, place = 1, 0
    for match in _START_TAG.finditer(data):
        line += data.count(b"\n", place, match.start())
        place = match.start()
        lines.append(line)
    return lines


def _expat_lines(data: bytes) -> array[int]:
    lines = array("L")
    parser = expat.ParserCreate()

    def start(_name: str, _attributes: object) -> None:
        lines.append(parser.CurrentLineNumber)

    parser.StartElementHandler = start
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return array("L")
    return lines


def parse(source: bytes | Path, *, everything: bool = False) -> Document:
    """Return an SCL file as a tree: with comments and processing instructions, if ``everything`` is wanted.

    Entities are not expanded, no other file and no network is read; size and nesting are limited. Raises
    ConfigurationError naming file and line if it cannot be read, is not well-formed XML or is not SCL.
    """
    where = _name(source)
    data = _read(source)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        collect_ids=False,
        remove_blank_text=not everything,
        remove_comments=not everything,
        remove_pis=not everything,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise _malformed(error, where) from None
    except ValueError as error:
        raise ConfigurationError(f"not XML: {error}", where=where) from None
    if root.getroottree().docinfo.internalDTD is not None:
        remedy = "remove the DOCTYPE declaration"
        raise ConfigurationError("a document type declaration has no place in SCL", where=where, remedy=remedy)
    if root.tag != tag("SCL"):
        remedy = f'the root has to be <SCL xmlns="{NAMESPACE}">'
        raise ConfigurationError(f"the root element is '{root.tag}'", where=where, remedy=remedy)
    return Document(root, source)


def _malformed(error: etree.XMLSyntaxError, where: str) -> ConfigurationError:
    place = f"{where}, line {error.lineno or 1}"
    if "depth" in (error.msg or ""):
        return ConfigurationError(
            "elements are nested too deeply", where=place, remedy="SCL needs about 20 levels"
        )
    return ConfigurationError(f"not well-formed XML: {error.msg}", where=place, remedy="mend the XML")


def unchanged(root: etree._Element) -> bytes:
    """Return a document that was read as it is, with what stands around the root; nothing is indented anew."""
    tree = root.getroottree()
    info = tree.docinfo
    options: dict[str, Any] = {"standalone": True} if info.standalone else {}
    text: Any = etree.tostring(tree, encoding=info.encoding or "UTF-8", xml_declaration=True, **options)
    return bytes(text) + (b"\n" if text[:1] == b"<" else b"")  # UTF-16 has no octet for a line's end


def insert(parent: etree._Element, position: int, element: etree._Element) -> None:
    """Insert an element, set off by the blanks that its neighbours have."""
    if position:
        before = parent[position - 1]
        element.tail, before.tail = before.tail, parent.text
    else:
        element.tail = parent.text
    parent.insert(position, element)


def remove(element: etree._Element) -> None:
    """Remove an element and the blanks before it."""
    parent, before = element.getparent(), element.getprevious()
    if parent is None:
        return
    if before is not None:
        before.tail = element.tail
    elif len(parent) == 1:
        parent.text = None
    element.tail = None
    parent.remove(element)


def _name(source: bytes | Path) -> str:
    return str(source) if isinstance(source, Path) else "document"


def _read(source: bytes | Path) -> bytes:
    where = _name(source)
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
    marks = data.count(b"<") + data.count(b"=")
    if marks > MAX_MARKS:
        what = f"about {marks} tags and attributes; at most {MAX_MARKS} are read"
        raise ConfigurationError(what, where=where, remedy="split the project into several files")
    return data


def local(element: etree._Element) -> str:
    """Return the element's name without namespace; elements of other namespaces keep theirs."""
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


@cache
def tag(name: str) -> str:
    """Return the qualified name of an SCL element."""
    return f"{{{NAMESPACE}}}{name}"
