"""The schema of IEC 61850-6 (2007B4): not part of flexmap, found in an installed package or a named folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lxml import etree

from flexmap.model import ConfigurationError
from flexmap.scl.finding import Finding, Severity
from flexmap.scl.rules.context import Context

ENVIRONMENT = "FLEXMAP_SCL_SCHEMA"
"""Environment variable that names the schema's folder (read by the command line)."""

_CARRIER = "scl_loader"
_FILE = "SCL.xsd"
EDITION = ("2007", "B", "4")


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


def check(context: Context, folder: Path | None) -> None:
    """Check the document against the schema, if it is there and of the document's edition."""
    edition = tuple(context.root.get(name, "") for name in ("version", "revision", "release"))
    if edition != EDITION:
        text = "".join(edition) or "2003"
        names = "are not checked" if context.first_edition else "are taken for those of 2007B"
        what = f"edition {text}: not checked against the schema (2007B4), and its names {names}"
        context.info("edition", context.root, what, "state version 2007, revision B, release 4 if it is that")
        return
    path = find(folder)
    if path is None:
        what = "not checked against the schema: it is the IEC's and not part of flexmap"
        remedy = f"install {_CARRIER}, or name its folder with --schema or {ENVIRONMENT}"
        context.info("schema-absent", context.root, what, remedy)
        return
    context.findings.extend(_validate(context, path))


def _validate(context: Context, path: Path) -> list[Finding]:
    try:
        schema = etree.XMLSchema(etree.parse(str(path)))
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError, OSError) as error:
        remedy = "use the eight files of IEC 61850-6, 2007B4"
        raise ConfigurationError(f"not a usable schema: {error}", where=str(path), remedy=remedy) from None
    schema.validate(context.root)
    log: Any = schema.error_log
    found = {(_line(context, entry), entry.message) for entry in log}
    return [
        Finding(line, Severity.ERROR, "schema", message.replace("{http://www.iec.ch/61850/2003/SCL}", ""), _REMEDY)
        for line, message in found
    ]


def _line(context: Context, entry: Any) -> int:
    """Return the line of the element that the schema complains about."""
    try:
        elements: Any = context.root.xpath(entry.path) if entry.path else []
    except etree.XPathError:
        elements = []
    return context.line_of(elements[0]) if elements else entry.line


_REMEDY = "see IEC 61850-6 annex A"
