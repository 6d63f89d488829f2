"""Check an SCL file: the schema, and what no public tool checks (facts of IEC 61850-6, 7-3, 7-4 and 8-1)."""

from __future__ import annotations

from pathlib import Path

from flexmap.scl import document
from flexmap.scl.abilities import LIBIEC61850, Abilities
from flexmap.scl.finding import Finding, Severity
from flexmap.scl.generate import FileKind
from flexmap.scl.rules import (
    communication,
    controls,
    datasets,
    instances,
    names,
    references,
    schema,
    services,
    templates,
    values,
)
from flexmap.scl.rules.context import Context

__all__ = ["Finding", "Severity", "check"]

_RULES = (
    templates.check,
    references.check,
    values.check,
    instances.check,
    datasets.check,
    controls.check,
    names.check,
    communication.check,
    services.check,
)


def check(
    source: bytes | Path,
    *,
    kind: FileKind | None = None,
    schema_folder: Path | None = None,
    abilities: Abilities | None = LIBIEC61850,
) -> list[Finding]:
    """Return what is wrong with an SCL file, sorted by line.

    ``kind`` is taken from the extension of a path if not given; rules that depend on it are skipped if it is not
    known. ``schema_folder`` holds ``SCL.xsd``. ``abilities`` are those of the engine that will serve the file;
    they are checked for flexmap's own IEDs only. Raises ConfigurationError if the file cannot be read as SCL.
    """
    parsed = document.parse(source)
    if kind is None and isinstance(source, Path):
        kind = _kind(source)
    context = Context(parsed, kind, abilities)
    validation = schema.Validation(context, schema_folder)
    for rule in _RULES:
        rule(context)
    validation.finish()
    return context.findings()


def _kind(path: Path) -> FileKind | None:
    suffix = path.suffix.lower().removeprefix(".")
    return FileKind(suffix) if suffix in set(FileKind) else None
