"""Reading the store's file in pages: an iteration holds one page in memory, however long it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec
from twisted.logger import Logger

from flexmap.model import Event, EventCode, EventLog, LocalError, Sample, quality
from flexmap.store.layouts import Layouts, fit
from flexmap.store.meterlog import MeterLog
from flexmap.store.pack import unpack
from flexmap.store.profile import LoadProfile, ProfileRow

_log = Logger()

_BLOCKS = 16
_ROWS = 256
_ALWAYS = 2**63 - 1


class Reader:
    """Queries on the file alone; what is buffered in memory is the store's part."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.layouts = Layouts(database)

    def newest(self, log: MeterLog) -> Sample | None:
        """Return the newest stored sample of a meter."""
        rows = self._database.execute(
            "SELECT layout, data FROM block WHERE meter = ? ORDER BY slot DESC LIMIT 2", (log.row,)
        ).fetchall()
        return next((samples[-1] for row in rows if (samples := self._unpack(log, *row))), None)

    def oldest_second(self, log: MeterLog) -> int:
        """Return the second at which the first stored slot of a meter begins; 0 if there is none."""
        (slot,) = self._database.execute("SELECT min(slot) FROM block WHERE meter = ?", (log.row,)).fetchone()
        return 0 if slot is None else log.start_of(int(slot))

    def tail(self) -> list[tuple[int, int, list[Sample]]]:
        """Return (row id, layout, samples in that layout) of all blocks that were open, oldest first."""
        rows = self._database.execute("SELECT id, data FROM tail ORDER BY id").fetchall()
        parts = [
            (number, msgspec.msgpack.decode(data, type=list[tuple[int, list[Sample]]])) for number, data in rows
        ]
        return [(number, layout, samples) for number, groups in parts for layout, samples in groups]

    def block(self, log: MeterLog, slot: int) -> dict[int, Sample]:
        """Return the stored samples of a slot by second."""
        return dict(self.blocks(log, slot, slot)).get(slot, {})

    def blocks(
        self, log: MeterLog, first: int | None, last: int | None
    ) -> Iterator[tuple[int, dict[int, Sample]]]:
        """Iterate over stored slots and their samples by second."""
        slot = -_ALWAYS if first is None else first
        while True:
            rows = self._database.execute(
                "SELECT slot, layout, data FROM block"
                " WHERE meter = ? AND slot BETWEEN ? AND ? ORDER BY slot LIMIT ?",
                (log.row, slot, _ALWAYS if last is None else last, _BLOCKS),
            ).fetchall()
            for slot, layout, data in rows:
                yield slot, {sample.time // 1000: sample for sample in self._unpack(log, layout, data)}
            if len(rows) < _BLOCKS:
                return
            slot += 1

    def profile_times(self, log: MeterLog, profile: LoadProfile, start: int) -> set[int]:
        """Return the times of the complete profile rows from a time on."""
        rows = self._database.execute(
            f"SELECT time FROM {profile} WHERE meter = ? AND time >= ? AND status & 16 = 0", (log.row, start)
        )
        return {time for (time,) in rows}

    def profile_count(self, log: MeterLog, profile: LoadProfile, start: int | None, end: int | None) -> int:
        """Count profile rows."""
        row = self._database.execute(
            f"SELECT count(*) FROM {profile} WHERE meter = ? AND time BETWEEN ? AND ?",
            (log.row, *_span(start, end)),
        ).fetchone()
        return int(row[0])

    def profile_span(self, log: MeterLog, profile: LoadProfile) -> tuple[int, int] | None:
        """Return the times of the oldest and the newest row; None if there is none."""
        row = self._database.execute(f"SELECT min(time) FROM {profile} WHERE meter = ?", (log.row,)).fetchone()
        newest = self._database.execute(f"SELECT max(time) FROM {profile} WHERE meter = ?", (log.row,)).fetchone()
        return None if row[0] is None else (row[0], newest[0])

    def profile_newest(self, log: MeterLog, profile: LoadProfile) -> ProfileRow | None:
        """Return the newest row, None if there is none."""
        span = self.profile_span(log, profile)
        return None if span is None else next(self.profile_rows(log, profile, span[1], span[1]), None)

    def profile_before(self, log: MeterLog, profile: LoadProfile, time: int) -> int | None:
        """Return the time of the last row before a time; None if there is none."""
        (found,) = self._database.execute(
            f"SELECT max(time) FROM {profile} WHERE meter = ? AND time < ?", (log.row, time)
        ).fetchone()
        return found if found is None else int(found)

    def profile_status(self, log: MeterLog, profile: LoadProfile, after: int, upto: int) -> tuple[int, int]:
        """Return how many rows there are with after < time ≤ upto, and the status bits that any of them has."""
        statuses = self._database.execute(
            f"SELECT status, count(*) FROM {profile} WHERE meter = ? AND time > ? AND time <= ? GROUP BY status",
            (log.row, after, upto),
        ).fetchall()
        count = bits = 0
        for status, rows in statuses:
            count += rows
            bits |= status
        return count, bits

    def profile_rows(
        self,
        log: MeterLog,
        profile: LoadProfile,
        start: int | None,
        end: int | None,
        *,
        most: int = _ALWAYS,
        names: Sequence[str] | None = None,
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows, ``most`` of them at most; values in the order of ``names``."""
        wanted = log.profile_points if names is None else names
        after, upto = _span(start, end)
        while most > 0:
            rows = self._database.execute(
                f"SELECT time, status, clock_status, layout, data FROM {profile}"
                " WHERE meter = ? AND time BETWEEN ? AND ? ORDER BY time LIMIT ?",
                (log.row, after, upto, min(_ROWS, most)),
            ).fetchall()
            for time, status, clock_status, layout, data in rows:
                values = fit(self.layouts.names(layout), wanted, msgspec.msgpack.decode(data), None)
                yield ProfileRow(log.meter, time, status, clock_status, values)
            if len(rows) < _ROWS:
                return
            most -= len(rows)
            after = rows[-1][0] + 1

    def profile_entries(
        self,
        log: MeterLog,
        profile: LoadProfile,
        first: int,
        last: int,
        names: Sequence[str] | None = None,
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows by number."""
        most = last - first + 1 if last else _ALWAYS
        row = self._database.execute(
            f"SELECT time FROM {profile} WHERE meter = ? ORDER BY time LIMIT 1 OFFSET ?",
            (log.row, max(first, 1) - 1),
        ).fetchone()
        return self.profile_rows(log, profile, row[0], None, most=most, names=names) if row else iter(())

    def event_count(self, log: MeterLog, event_log: EventLog | None, start: int | None, end: int | None) -> int:
        """Count events."""
        row = self._database.execute(
            "SELECT count(*) FROM event WHERE meter = ? AND log BETWEEN ? AND ? AND time BETWEEN ? AND ?",
            (log.row, *_logs(event_log), *_span(start, end)),
        ).fetchone()
        return int(row[0])

    def events(
        self, log: MeterLog, event_log: EventLog | None, start: int | None, end: int | None
    ) -> Iterator[Event]:
        """Iterate over events."""
        after, upto = _span(start, end)
        return self._events(log, event_log, (after, 0), upto, _ALWAYS)

    def event_entries(self, log: MeterLog, event_log: EventLog | None, first: int, last: int) -> Iterator[Event]:
        """Iterate over events by number."""
        row = self._database.execute(
            "SELECT time, id FROM event"
            " WHERE meter = ? AND log BETWEEN ? AND ? ORDER BY time, id LIMIT 1 OFFSET ?",
            (log.row, *_logs(event_log), max(first, 1) - 1),
        ).fetchone()
        if row is None:
            return iter(())
        return self._events(log, event_log, row, _ALWAYS, last - first + 1 if last else _ALWAYS)

    def _events(
        self, log: MeterLog, event_log: EventLog | None, key: tuple[int, int], upto: int, most: int
    ) -> Iterator[Event]:
        while most > 0:
            rows = self._database.execute(
                "SELECT time, id, log, code, text FROM event WHERE meter = ? AND log BETWEEN ? AND ?"
                " AND (time, id) >= (?, ?) AND time <= ? ORDER BY time, id LIMIT ?",
                (log.row, *_logs(event_log), *key, upto, min(_ROWS, most)),
            ).fetchall()
            for time, _, number, code, text in rows:
                yield Event(log.meter, time, EventLog(number), EventCode(code), text)
            if len(rows) < _ROWS:
                return
            most -= len(rows)
            key = (rows[-1][0], rows[-1][1] + 1)

    def _unpack(self, log: MeterLog, layout: int, data: bytes) -> list[Sample]:
        try:
            samples = unpack(log.meter, data)
        except LocalError as error:
            _log.error("{error}; it is left out", error=error)
            return []
        return self.fitted(log, layout, samples)

    def fitted(self, log: MeterLog, layout: int, samples: list[Sample]) -> list[Sample]:
        """Return samples of a stored layout in the meter's present points."""
        if layout == log.layout:
            return samples
        names = self.layouts.names(layout)
        return [
            Sample(
                log.meter,
                sample.time,
                fit(names, log.points, sample.values, None),
                fit(names, log.points, sample.quality, quality.NEVER_READ),
                sample.clock_status,
            )
            for sample in samples
        ]


def _span(start: int | None, end: int | None) -> tuple[int, int]:
    return (-_ALWAYS if start is None else start, _ALWAYS if end is None else end)


def _logs(event_log: EventLog | None) -> tuple[int, int]:
    return (0, 255) if event_log is None else (int(event_log), int(event_log))
