"""Ends of billing periods: a row when one is asked for, kept at once and for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec
from twisted.logger import Logger

from flexmap.model import Value
from flexmap.store.meterlog import MeterLog
from flexmap.store.profile import LoadProfile, ProfileRow
from flexmap.store.read import Reader

_log = Logger()

_INSERT = "INSERT OR IGNORE INTO billing VALUES (?, ?, ?, ?, ?, ?)"


class BillingRows:
    """The billing rows of one meter, oldest first, with their values in the order of ``names``; times in ms."""

    def __init__(self, database: sqlite3.Connection, reader: Reader, log: MeterLog, names: Sequence[str]) -> None:
        self._database = database
        self._reader = reader
        self._log = log
        self._names = tuple(names)

    def keep(self, time: int, status: int, clock_status: int, values: Sequence[Value]) -> bool:
        """Keep the end of a billing period, one for each time stamp; return whether it is in the file."""
        try:
            layout = self._reader.layouts.number(self._names)
            data = msgspec.msgpack.encode(values)
            self._database.execute(_INSERT, (self._log.row, time, status, clock_status, layout, data))
        except sqlite3.Error as error:
            meter = self._log.meter
            _log.error("{meter}: the end of a billing period is not kept: {error}", meter=meter, error=error)
            return False
        return True

    def count(self, start: int | None = None, end: int | None = None) -> int:
        """Return how many rows have start ≤ time ≤ end."""
        return self._reader.profile_count(self._log, LoadProfile.BILLING, start, end)

    def rows(self, start: int | None = None, end: int | None = None) -> Iterator[ProfileRow]:
        """Iterate over the rows with start ≤ time ≤ end."""
        return self._reader.profile_rows(self._log, LoadProfile.BILLING, start, end, names=self._names)

    def entries(self, first: int, last: int) -> Iterator[ProfileRow]:
        """Iterate over rows by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        return self._reader.profile_entries(self._log, LoadProfile.BILLING, first, last, self._names)
