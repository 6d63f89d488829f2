"""Findings as SARIF 2.1.0 (OASIS): the form that pipelines and code hosts show beside the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import flexmap
from flexmap.scl.finding import Finding, Severity
from flexmap.scl.rules.catalogue import RULES

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(checked: Sequence[tuple[str, Sequence[Finding]]]) -> dict[str, Any]:
    """Return the log of one run over files, each a path as it was named and its findings.

    Relative paths stay relative, so that a code host finds them in the repository.
    """
    used = sorted({finding.rule for _, findings in checked for finding in findings})
    index = {rule: number for number, rule in enumerate(used)}
    driver = {
        "name": "flexmap scl check",
        "version": flexmap.__version__,
        "rules": [{"id": rule, "shortDescription": {"text": RULES[rule]}} for rule in used],
    }
    results = [_result(path, finding, index) for path, findings in checked for finding in findings]
    artifacts = [{"location": {"uri": _uri(path)}} for path, _ in checked]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "artifacts": artifacts, "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(path: str, finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": max(finding.line, 1)}}
    return {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.what}; {finding.remedy}"},
        "locations": [{"physicalLocation": place}],
    }


def _uri(path: str) -> str:
    """Return a path as a URI reference."""
    return f"file://{quote(path)}" if path.startswith("/") else quote(path)
