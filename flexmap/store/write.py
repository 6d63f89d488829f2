"""Writing the store's file: what is buffered goes into it in one transaction, or waits in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from twisted.logger import Logger

from flexmap.model import Event, EventLog, Sample
from flexmap.store.meterlog import MeterLog
from flexmap.store.pack import pack
from flexmap.store.periods import PeriodLog
from flexmap.store.profile import LoadProfile, ProfileRow
from flexmap.store.read import Reader
from flexmap.store.schema import File

_log = Logger()

REBUILT = 3600
"""Seconds of profile rows that are made from stored samples in one flush, so that a flush stays short."""

Due = tuple[MeterLog, PeriodLog, int]
"""A period that has ended and whose row must be made: meter, profile, end."""


class Writer:
    """Blocks, profile rows, events and the tail of all meters.

    ``samples`` iterates over the samples of a meter from a time to another (ms), in the file or not.
    """

    def __init__(
        self,
        file: File,
        reader: Reader,
        logs: Mapping[str, MeterLog],
        samples: Callable[[str, int, int], Iterable[Sample]],
    ) -> None:
        self.events: list[Event] = []
        """Events that are not in the file."""
        self.fresh: list[Sample] = []
        """Samples that came since the last write."""
        self.failing = ""
        """Why the last write failed, empty if it did not; the records then wait in memory."""
        self._file = file
        self._database = file.database
        self._reader = reader
        self._logs = logs
        self._samples = samples
        self._tail: dict[int, set[tuple[str, int]]] = {}
        # Rows of the tail: (meter, slot) of the open blocks that they hold samples of.

    def take_tail(self) -> None:
        """Fill the open blocks again from what the last run had flushed of them."""
        for number, layout, samples in self._reader.tail():
            keys = self._tail.setdefault(number, set())
            for sample in samples:
                log = self._logs.get(sample.meter)
                if log is not None:
                    log.add(*self._reader.fitted(log, layout, [sample]))
                    keys.add((sample.meter, log.slot(sample.time // 1000)))

    def write(
        self, choose: Callable[[MeterLog], list[int]], rebuild: Iterable[MeterLog], most: int | None
    ) -> None:
        """Write the chosen slots and all that has ended; make up to ``most`` seconds of dirty rows again."""
        events = list(self.events)
        slots = [(log, slot) for log in self._logs.values() for slot in choose(log)]
        ended = [
            (log, each, list(each.ended)) for log in self._logs.values() for each in log.periods if each.ended
        ]
        due = _first(
            [(log, each, end) for log in rebuild for each in log.periods for end in each.due(log.newest)], most
        )
        fresh = len(self.fresh)
        if not (events or slots or ended or due or fresh):
            return
        closed = {(log.meter, slot) for log, slot in slots}
        try:
            with self._file.transaction():
                self._insert_events(events)
                for log, slot in slots:
                    self._write_block(log, slot)
                for log, each, captures in ended:
                    for capture in captures:
                        self._write_row(log, each, capture.row(True, self._codes(log, each, capture.end)))
                for log, each, end in due:
                    self._rebuild(log, each, end)
                tail = self._write_tail(closed)
        except sqlite3.Error as error:
            self.failed(error)
            return
        self.failing = ""
        self._tail = tail
        del self.fresh[:fresh]
        del self.events[: len(events)]
        for log, slot in slots:
            del log.open[slot]
            log.stored_slot = max(log.stored_slot, slot)
        for _, each, captures in ended:
            del each.ended[: len(captures)]
        for _, each, end in due:
            each.dirty.discard(end)

    def failed(self, error: sqlite3.Error) -> None:
        """Note that the file cannot be written; what has waited for too long is lost."""
        if not self.failing:
            _log.error("the store cannot write: {error}; records wait in memory", error=error)
        self.failing = str(error)
        self.fresh.clear()  # the open blocks hold them; the tail must not grow meanwhile
        lost = sum(log.drop_oldest() for log in self._logs.values())
        if lost:
            _log.error("the store lost {lost} samples: it could not write for too long", lost=lost)

    def _insert_events(self, events: Sequence[Event]) -> None:
        self._database.executemany(
            "INSERT OR IGNORE INTO event (meter, log, time, code, text) VALUES (?, ?, ?, ?, ?)",
            (
                (self._logs[event.meter].row, int(event.log), event.time, int(event.code), event.text)
                for event in events
            ),
        )

    def _write_block(self, log: MeterLog, slot: int) -> None:
        seconds = log.open[slot]
        if slot <= log.stored_slot:
            seconds = {**seconds, **self._reader.block(log, slot)}
        samples = [seconds[second] for second in sorted(seconds)]
        self._database.execute(
            "INSERT OR REPLACE INTO block (meter, slot, layout, data) VALUES (?, ?, ?, ?)",
            (log.row, slot, log.layout, pack(samples)),
        )

    def _write_tail(self, closed: set[tuple[str, int]]) -> dict[int, set[tuple[str, int]]]:
        """Add what is new in open blocks, delete rows whose blocks are all closed; return the rows that stay."""
        groups: dict[int, list[Sample]] = {}
        keys = set()
        for sample in self.fresh:
            log = self._logs[sample.meter]
            key = (sample.meter, log.slot(sample.time // 1000))
            if key not in closed and key[1] in log.open:
                groups.setdefault(log.layout, []).append(sample)
                keys.add(key)
        tail = {
            number: held
            for number, held in self._tail.items()
            if any(self._is_open(*key) for key in held if key not in closed)
        }
        gone = self._tail.keys() - tail.keys()
        self._database.executemany("DELETE FROM tail WHERE id = ?", ((number,) for number in gone))
        if groups:
            data = msgspec.msgpack.encode(list(groups.items()))
            number = self._database.execute("INSERT INTO tail (data) VALUES (?)", (data,)).lastrowid
            tail[int(number or 0)] = keys
        return tail

    def _is_open(self, meter: str, slot: int) -> bool:
        return slot in self._logs[meter].open

    def _codes(self, log: MeterLog, period: PeriodLog, end: int) -> list[int]:
        start = end - period.period
        rows = self._database.execute(
            "SELECT DISTINCT code FROM event WHERE meter = ? AND log = ? AND time > ? AND time <= ?",
            (log.row, int(EventLog.STANDARD), start * 1000, end * 1000),
        )
        return [code for (code,) in rows]

    def _rebuild(self, log: MeterLog, period: PeriodLog, end: int) -> None:
        start = end - period.period
        capture = period.gather(end, list(self._samples(log.meter, start * 1000 + 1000, end * 1000 + 999)))
        self._write_row(log, period, capture.row(period.complete(capture), self._codes(log, period, end)))

    def _write_row(self, log: MeterLog, period: PeriodLog, row: ProfileRow | None) -> None:
        table = period.profile
        log.revision += period.profile is LoadProfile.FIRST
        if row is not None:
            self._database.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET status = excluded.status, clock_status = excluded.clock_status, layout = excluded.layout,"
                " data = excluded.data"
                # A complete row stays: its samples may be deleted already.
                f" WHERE {table}.status & 16 OR NOT excluded.status & 16",
                (
                    log.row,
                    row.time,
                    row.status,
                    row.clock_status,
                    period.layout,
                    msgspec.msgpack.encode(row.values),
                ),
            )


def _first(due: list[Due], most: int | None) -> list[Due]:
    """Return those periods that have ``most`` seconds together, at least one."""
    if most is None:
        return due
    taken: list[Due] = []
    for item in due:
        if taken and most < item[1].period:
            break
        most -= item[1].period
        taken.append(item)
    return taken
