"""Alarms on their way to a head-end: in the file as soon as they are given."""

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


class Letters:
    """Alarms of all meters until they are delivered; a process that is killed loses none."""

    def __init__(self, file: File, logs: Mapping[str, MeterLog]) -> None:
        self._file = file
        self._database = file.database
        self._logs = logs

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
