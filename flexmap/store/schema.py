"""The store's file: opening, creating and checking it. Every refusal names the way out."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flexmap.model import ConfigurationError

VERSION = 7
"""``PRAGMA user_version``: version of the tables below."""
APPLICATION = 0x464C_584D
"""``PRAGMA application_id``: ``FLXM``."""

_TABLES = """
-- Names of meters; the id also spreads the ends of blocks over the minute.
CREATE TABLE meter (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
-- Lists of point names (JSON): what the columns of a block or the values of a profile row are.
CREATE TABLE layout (id INTEGER PRIMARY KEY, points TEXT NOT NULL UNIQUE);
-- 1 Hz samples: slot = (second + meter id * 7 % 60) / 60; data as flexmap.store.pack describes.
CREATE TABLE block (meter INTEGER NOT NULL, slot INTEGER NOT NULL, layout INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX block_slot ON block (meter, slot);
-- Samples of blocks that are still open, one row a flush: msgpack array of [layout, [sample, ...]].
CREATE TABLE tail (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
-- Load profile 1: time in ms at the end of the period, status as flexmap.store.profile, data a msgpack array.
CREATE TABLE profile (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, status INTEGER NOT NULL, clock_status INTEGER NOT NULL,
  layout INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
-- Events: the same one delivered twice is one.
CREATE TABLE event (
  id INTEGER PRIMARY KEY, meter INTEGER NOT NULL, log INTEGER NOT NULL, time INTEGER NOT NULL,
  code INTEGER NOT NULL, text TEXT NOT NULL
);
CREATE UNIQUE INDEX event_time ON event (meter, log, time, code);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- 'clean': whether the last run closed the store.
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_TABLES_2 = """
-- Load profile 2, as load profile 1.
CREATE TABLE profile_2 (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, status INTEGER NOT NULL, clock_status INTEGER NOT NULL,
  layout INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
"""
_TABLES_3 = """
-- Demand registers: when (s) they were last reset, and the energy register then.
CREATE TABLE demand_reset (
  meter INTEGER NOT NULL, name TEXT NOT NULL, time INTEGER NOT NULL, energy INTEGER NOT NULL,
  PRIMARY KEY (meter, name)
) WITHOUT ROWID;
-- Ends of billing periods: time in ms, data a msgpack array of values in the order of the layout's names.
CREATE TABLE billing (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, status INTEGER NOT NULL, clock_status INTEGER NOT NULL,
  layout INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
"""
_TABLES_4 = """
-- Load profiles that head-ends have changed: what is captured, how often (s), from when on (s); the capture
-- objects as DLMS has them.
CREATE TABLE capture (
  meter INTEGER NOT NULL, profile TEXT NOT NULL, period INTEGER NOT NULL, since INTEGER NOT NULL,
  layout INTEGER NOT NULL, objects BLOB NOT NULL, PRIMARY KEY (meter, profile)
) WITHOUT ROWID;
-- Their rows, as load profile 1.
CREATE TABLE captured (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, status INTEGER NOT NULL, clock_status INTEGER NOT NULL,
  layout INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
CREATE TABLE captured_2 (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, status INTEGER NOT NULL, clock_status INTEGER NOT NULL,
  layout INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
"""
_TABLES_5 = """
-- Buffered report control blocks: settings and entries as flexmap.mms.report_buffer has them, in msgpack.
CREATE TABLE report_block (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE report_entry (
  block INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (block, number)
) WITHOUT ROWID;
"""
_TABLES_6 = """
-- Switches between rates: time in s, data a msgpack array as flexmap.store.rates.Switch.
CREATE TABLE tariff_switch (
  meter INTEGER NOT NULL, time INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, time)
) WITHOUT ROWID;
-- What head-ends have written of a meter's objects, by the object's name.
CREATE TABLE kept (
  meter INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (meter, name)
) WITHOUT ROWID;
"""
_TABLES_7 = """
-- Alarms that no head-end has yet: what is pushed; ids are not used again.
CREATE TABLE letter (id INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX letter_meter ON letter (meter);
"""
_STEPS = (_TABLES, _TABLES_2, _TABLES_3, _TABLES_4, _TABLES_5, _TABLES_6, _TABLES_7)
"""What makes version n + 1 of version n."""


_DAMAGED = (
    "move the file away (a new one is begun) or bring it back from a backup; either way the DLMS invocation"
    " counters are lost: change the keys in the secrets file"
)


def damaged(path: Path, error: sqlite3.Error) -> ConfigurationError:
    """Return the refusal of a file that cannot be read."""
    return ConfigurationError(f"is damaged: {error}", where=str(path), remedy=_DAMAGED)


class File:
    """The open database and the lock that keeps a second process out.

    New files are readable by their owner alone: they tell how people live.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises ConfigurationError if it cannot be written, is in use, is damaged, or is of a newer version.
        """
        self.path = path
        self._lock = self._take_lock()
        try:
            self.database = self._connect()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Close the database and let go of the lock."""
        self.database.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that is written within it, or nothing."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def _error(self, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(what, where=str(self.path), remedy=remedy)

    def _take_lock(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.fdopen(_private(f"{self.path}.lock", os.O_WRONLY | os.O_APPEND), "ab")
        except OSError as error:
            remedy = "make the folder writable or set another one"
            raise self._error(f"cannot write: {error.strerror}", remedy) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            remedy = "stop the other flexmap or set another state folder"
            raise self._error("another process uses this store", remedy) from None
        return lock

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(_private(str(self.path), os.O_RDWR))  # SQLite gives its journal files the same mode
        except OSError as error:
            remedy = "make the file writable or set another folder"
            raise self._error(f"cannot open: {error.strerror}", remedy) from None
        try:
            database = sqlite3.connect(self.path, isolation_level=None)
        except sqlite3.Error as error:
            raise self._error(f"cannot open: {error}", "make the file writable or set another folder") from None
        try:
            self._prepare(database)
        except sqlite3.OperationalError as error:
            database.close()
            raise self._error(f"cannot write: {error}", "make the file writable or set another folder") from None
        except sqlite3.DatabaseError as error:
            database.close()
            raise damaged(self.path, error) from None
        except ConfigurationError:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application not in (0, APPLICATION) or (application == 0 and tables):
            raise self._error("is not a store of flexmap", "set another state folder")
        if version > VERSION:
            what = f"has version {version} of the tables; this flexmap knows versions up to {VERSION}"
            raise self._error(what, "run the newer flexmap, or set another state folder")
        if not version:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        if version < VERSION:
            pragmas = f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};"
            database.executescript(f"BEGIN; {''.join(_STEPS[version:])} {pragmas} COMMIT;")
        # Writing proves that the file is writable.
        database.execute("INSERT OR IGNORE INTO state VALUES ('clean', 1)")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)
