"""What the checker reports."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Breaks the standard or the server: tools will refuse it or misread it."""
    WARNING = "warning"
    """Allowed, but known to go wrong with some tools."""
    INFO = "info"
    """What was not checked, and why."""


class Finding(msgspec.Struct, frozen=True):
    """One thing found in an SCL file."""

    line: int
    severity: Severity
    rule: str
    """Id of the rule, for example ``fcda-do``."""
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.severity}: {self.what} [{self.rule}]; {self.remedy}"
