"""The schema of IEC 61850-6 (2007B4): not part of flexmap, found in an installed package or a named folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lxml import etree

from flexmap.model import ConfigurationError
from flexmap.scl.document import NAMESPACE
from flexmap.scl.edition import EDITIONS, edition
from flexmap.scl.rules.context import Context, Element

ENVIRONMENT = "FLEXMAP_SCL_SCHEMA"
"""Environment variable that names the schema's folder (read by the command line)."""

_CARRIER = "scl_loader"
_FILE = "SCL.xsd"
_REMEDY = "see IEC 61850-6 annex A"


def find(folder: Path | None) -> Path | None:
    """Return the path of ``SCL.xsd``: in the folder, else in an installed ``scl_loader``; None if there is none.

    Raises ConfigurationError if a folder is named and has no schema.
    """
    if folder is not None:
        path = folder if folder.is_file() else folder / _FILE
        if not path.is_file():
            raise ConfigurationError(f"no {_FILE} here", where=str(folder), remedy="name the folder of the schema")
        return path
    spec = find_spec(_CARRIER)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "resources" / "SCL_Schema" / _FILE
    return path if path.is_file() else None


class Validation:
    """A validation that runs beside the other rules: libxml2 needs no Python for it, and half of the time."""

    def __init__(self, context: Context, folder: Path | None) -> None:
        """Begin to check the document against the schema, if it is there and of the document's edition.

        Raises ConfigurationError if a folder is named that holds no usable schema.
        """
        self._context = context
        self._schema = _schema(context, folder)
        if self._schema is not None:
            self._pool = ThreadPoolExecutor(1)
            self._valid = self._pool.submit(self._schema.validate, context.root)

    def finish(self) -> None:
        """Wait for it and report what it found."""
        if self._schema is None:
            return
        with self._pool:
            self._valid.result()
        log: Any = self._schema.error_log
        for path, message in dict.fromkeys((entry.path, entry.message) for entry in log):
            text = message.replace(f"{{{NAMESPACE}}}", "")
            self._context.error("schema", _element(self._context.root, path), text, _REMEDY)


def _schema(context: Context, folder: Path | None) -> etree.XMLSchema | None:
    name = edition(context.root)
    if name not in EDITIONS:
        remedy = f"state version, revision and release of one of {', '.join(EDITIONS)}"
        context.warning("edition", context.root, f"the standard has no edition {name}", remedy)
        return None
    if name != "2007B4":
        names = "are not checked" if context.first_edition else "are taken for those of 2007B"
        what = f"edition {name}: not checked against the schema (2007B4), and its names {names}"
        context.info("edition", context.root, what, "state version 2007, revision B, release 4 if it is that")
        return None
    path = find(folder)
    if path is None:
        what = "not checked against the schema: it is the IEC's and not part of flexmap"
        remedy = f"install {_CARRIER}, or name its folder with --schema or {ENVIRONMENT}"
        context.info("schema-absent", context.root, what, remedy)
        return None
    try:
        return etree.XMLSchema(etree.parse(str(path)))
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError, OSError) as error:
        remedy = "use the eight files of IEC 61850-6, 2007B4"
        raise ConfigurationError(f"not a usable schema: {error}", where=str(path), remedy=remedy) from None


def _element(root: Element, path: str | None) -> Element:
    """Return the element that the schema complains about."""
    try:
        elements: Any = root.xpath(path) if path else []
    except etree.XPathError:
        elements = []
    return elements[0] if elements else root
