"""What head-ends write of a meter's objects, kept in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from flexmap.model import LocalError
from flexmap.store.meterlog import MeterLog


class Kept:
    """Octets by meter and name (implements flexmap.faces.dlms.pushing.Keeper)."""

    def __init__(self, database: sqlite3.Connection, logs: Mapping[str, MeterLog]) -> None:
        self._database = database
        self._logs = logs

    def read(self, meter: str, name: str) -> bytes | None:
        """Return what was kept, ``None`` if nothing was; raises LocalError."""
        try:
            row = self._database.execute(
                "SELECT data FROM kept WHERE meter = ? AND name = ?", (self._logs[meter].row, name)
            ).fetchone()
        except sqlite3.Error as error:
            raise LocalError(f"{name} of {meter} cannot be read: {error}") from None
        return None if row is None else bytes(row[0])

    def keep(self, meter: str, name: str, octets: bytes) -> None:
        """Keep it; raises LocalError."""
        try:
            self._database.execute(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (self._logs[meter].row, name, octets)
            )
        except sqlite3.Error as error:
            raise LocalError(f"{name} of {meter} is not kept: {error}") from None
