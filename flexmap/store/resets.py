"""When demands were last reset: kept at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec
from twisted.logger import Logger

from flexmap.store.meterlog import MeterLog

_log = Logger()


class Reset(msgspec.Struct, frozen=True):
    """When a demand was reset."""

    time: int
    """Second since 1970."""
    energy: int
    """The register then."""


class Resets:
    """Resets of the demands of all meters, by the demand's name."""

    def __init__(self, database: sqlite3.Connection, logs: Mapping[str, MeterLog]) -> None:
        self._database = database
        self._logs = logs

    def of(self, meter: str, name: str) -> Reset | None:
        """Return when a demand was last reset."""
        row = self._database.execute(
            "SELECT time, energy FROM demand_reset WHERE meter = ? AND name = ?", (self._logs[meter].row, name)
        ).fetchone()
        return None if row is None else Reset(*row)

    def keep(self, meter: str, name: str, reset: Reset) -> bool:
        """Keep when a demand was reset; return whether it is in the file."""
        values = (self._logs[meter].row, name, reset.time, reset.energy)
        try:
            self._database.execute("INSERT OR REPLACE INTO demand_reset VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            _log.error("{meter}: the reset of {name} is not kept: {error}", meter=meter, name=name, error=error)
            return False
        return True
