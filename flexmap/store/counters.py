"""Durable counters, such as the invocation counters of DLMS: they never fall, whatever happens."""

from __future__ import annotations

import sqlite3

from flexmap.model import LocalError
from flexmap.store.schema import File

_RAISE = "INSERT INTO counter VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"


class Counters:
    """The file's counters by name."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._database = file.database

    def value(self, name: str) -> int:
        """Return the value of a counter, 0 if it was never reserved."""
        row = self._database.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def reserve(self, name: str, upto: int) -> None:
        """Raise a counter to ``upto``; it never falls. On disk, also after a power cut, when the call returns.

        Raises LocalError if the file cannot be written.
        """
        self._database.execute("PRAGMA synchronous=FULL")
        try:
            self._database.execute(_RAISE, (name, upto))
        except sqlite3.Error as error:
            raise LocalError(f"the store cannot keep counter '{name}': {error}") from error
        finally:
            self._database.execute("PRAGMA synchronous=NORMAL")

    def merge(self, prefix: str, into: str, most: int) -> None:
        """Keep at most ``most`` counters whose names begin with a prefix; raise ``into`` to those forgotten.

        The lowest are forgotten first. Raises LocalError if the file cannot be written.
        """
        try:
            with self._file.transaction():
                self._merge(prefix, into, most)
        except sqlite3.Error as error:
            raise LocalError(f"the store cannot keep counter '{into}': {error}") from error

    def _merge(self, prefix: str, into: str, most: int) -> None:
        # "\x7f" is behind every character that such a name goes on with.
        span = (prefix, f"{prefix}\x7f")
        (count,) = self._database.execute(
            "SELECT count(*) FROM counter WHERE name BETWEEN ? AND ?", span
        ).fetchone()
        lowest = self._database.execute(
            "SELECT name, value FROM counter WHERE name BETWEEN ? AND ? ORDER BY value LIMIT ?",
            (*span, max(0, count - most)),
        ).fetchall()
        for name, value in lowest:
            self._database.execute(_RAISE, (into, value))
            self._database.execute("DELETE FROM counter WHERE name = ?", (name,))
