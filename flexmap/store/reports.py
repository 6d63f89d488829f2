"""Entries of buffered report control blocks: written before their report leaves, so that a restart loses none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from flexmap.mms.report_buffer import Entry, Kept
from flexmap.model import LocalError
from flexmap.store.schema import File

_encode = msgspec.msgpack.Encoder().encode
_kept = msgspec.msgpack.Decoder(Kept).decode
_entry = msgspec.msgpack.Decoder(Entry).decode

_KEEP = "INSERT INTO report_block (name, data) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET data = excluded.data"
_APPEND = "INSERT INTO report_entry SELECT id, ?, ? FROM report_block WHERE name = ?"
_DROP = "DELETE FROM report_entry WHERE block = (SELECT id FROM report_block WHERE name = ?) AND number <= ?"
_MOST_WAITING = 100_000
"""Statements that wait for a file that cannot be written."""


class ReportEntries:
    """EntryStore in the store's file."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._database = file.database
        self._waiting: list[tuple[str, tuple[object, ...]]] = []

    def load(self) -> Iterable[tuple[str, Kept, list[Entry]]]:
        """Return what is kept: name of the block, settings, entries in their order."""
        blocks = self._database.execute("SELECT id, name, data FROM report_block ORDER BY id").fetchall()
        for number, name, kept in blocks:
            rows = self._database.execute(
                "SELECT data FROM report_entry WHERE block = ? ORDER BY number", (number,)
            )
            yield name, _kept(kept), [_entry(row[0]) for row in rows]

    def keep(self, block: str, kept: Kept) -> None:
        """Keep a block's settings."""
        self._waiting.append((_KEEP, (block, _encode(kept))))

    def append(self, block: str, entry: Entry) -> None:
        """Keep an entry of a block whose settings are kept."""
        self._waiting.append((_APPEND, (entry.number, _encode(entry), block)))

    def drop(self, block: str, upto: int) -> None:
        """Forget entries with numbers up to this one."""
        self._waiting.append((_DROP, (block, upto)))

    def forget(self, block: str) -> None:
        """Forget a block and all its entries."""
        self.drop(block, 2**63 - 1)
        self._waiting.append(("DELETE FROM report_block WHERE name = ?", (block,)))

    def commit(self) -> None:
        """Write everything since the last commit, or nothing; raises LocalError and tries again next time."""
        if not self._waiting:
            return
        try:
            with self._file.transaction():
                for statement, values in self._waiting:
                    self._database.execute(statement, values)
        except sqlite3.Error as error:
            del self._waiting[:-_MOST_WAITING]
            raise LocalError(f"the store cannot keep buffered reports: {error}") from error
        self._waiting.clear()
