"""States of meters' objects, and alarms on their way to a head-end: in the file as soon as they are given."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from flexmap.model import LocalError
from flexmap.store.meterlog import MeterLog
from flexmap.store.schema import File


class StoredLetter(NamedTuple):
    """Something to be delivered."""

    id: int
    """Never comes twice."""
    octets: bytes


class ObjectStates:
    """What objects of all meters keep over a restart; a process that is killed loses nothing of it."""

    def __init__(self, file: File, logs: Mapping[str, MeterLog]) -> None:
        self._file = file
        self._database = file.database
        self._logs = logs

    def read(self, meter: str, name: str) -> bytes | None:
        """Return what was kept of a meter's object, None if nothing was; raises LocalError."""
        try:
            row = self._database.execute(
                "SELECT data FROM kept WHERE meter = ? AND name = ?", (self._logs[meter].row, name)
            ).fetchone()
        except sqlite3.Error as error:
            raise LocalError(f"{self._file.path}: {error}") from None
        return None if row is None else bytes(row[0])

    def keep(self, meter: str, name: str, octets: bytes) -> None:
        """Keep the state of a meter's object; raises LocalError."""
        values = (self._logs[meter].row, name, octets)
        try:
            self._database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", values)
        except sqlite3.Error as error:
            raise LocalError(f"{self._file.path}: {error}") from None

    def post(self, meter: str, octets: bytes) -> int:
        """Keep a letter until it is delivered; return its id. Raises LocalError."""
        try:
            cursor = self._database.execute(
                "INSERT INTO letter (meter, data) VALUES (?, ?)", (self._logs[meter].row, octets)
            )
        except sqlite3.Error as error:
            raise LocalError(f"{self._file.path}: {error}") from None
        return int(cursor.lastrowid or 0)

    def letters(self, meter: str) -> list[StoredLetter]:
        """Return the letters of a meter that are not delivered, the oldest first; raises LocalError."""
        try:
            rows = self._database.execute(
                "SELECT id, data FROM letter WHERE meter = ? ORDER BY id", (self._logs[meter].row,)
            ).fetchall()
        except sqlite3.Error as error:
            raise LocalError(f"{self._file.path}: {error}") from None
        return [StoredLetter(number, bytes(data)) for number, data in rows]

    def delivered(self, number: int) -> None:
        """Forget a letter; raises LocalError."""
        try:
            self._database.execute("DELETE FROM letter WHERE id = ?", (number,))
        except sqlite3.Error as error:
            raise LocalError(f"{self._file.path}: {error}") from None
