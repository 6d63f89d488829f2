"""The store: buffers in memory what the sources deliver, and writes it in one transaction every few seconds.

All calls come from one thread. ``append`` and ``event`` only buffer; ``flush`` (the gateway calls it every two
seconds) writes blocks of ended minutes, rows of ended profile periods, events, and as the ``tail`` what has come
for the blocks that are still open. If the process is killed, what is missing is what came since the last flush;
the next run says so with an event DATA_GAP for each meter, unless its source goes on without a gap, or is one
that fetches what is missing and tells itself what it cannot get. What is read is whole at any time: buffered
records are part of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from twisted.logger import Logger

from flexmap.model import (
    GATEWAY,
    ConfigurationError,
    Event,
    EventCode,
    EventLog,
    LocalError,
    MeterType,
    Sample,
    Site,
    Value,
    quality,
)
from flexmap.store.daily import DailyRows
from flexmap.store.demand import Reset
from flexmap.store.meterlog import MeterLog, slot_of
from flexmap.store.pack import pack
from flexmap.store.periods import PeriodLog
from flexmap.store.profile import LoadProfile, ProfileRow, period_end
from flexmap.store.read import Reader
from flexmap.store.schema import File, damaged
from flexmap.store.settings import StoreSettings

_log = Logger()

_REBUILT = 3600
"""Seconds of profile rows that are made from stored samples in one flush, so that a flush stays short."""
_PRUNED = 500
"""Blocks deleted of one meter in one call of prune."""
_DAY_MS = 86_400_000
_NO_METER = MeterType(id="", title="", product="", points=(), identity=())
"""The gateway's own type: it has events, no points."""
_RAISE = "INSERT INTO counter VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"


Due = tuple[MeterLog, PeriodLog, int]
"""A period that has ended and whose row must be made: meter, profile, end."""


class Store:
    """1 Hz samples, load profile, events and counters of a site's meters."""

    def __init__(
        self,
        path: Path,
        site: Site,
        settings: StoreSettings | None = None,
        *,
        filled: Collection[str] = (),
    ) -> None:
        """Open or create the file; sources of meters in ``filled`` fetch what is missing and tell what stays so.

        Raises ConfigurationError, naming the way out, if it cannot be written, is in use, is damaged or is newer.
        """
        self.settings = settings or StoreSettings()
        for profile, period in self.settings.periods.items():
            if 86_400 % period:
                raise ConfigurationError(
                    f"a profile period of {period} s does not divide a day",
                    where=f"field '{profile}_period'",
                    remedy="set 900 (15 minutes) or another divisor of 86400",
                )
        self.failing = ""
        """Why the last flush failed, empty if it did not; the records then wait in memory."""
        self.clean = True
        """Whether the run before closed the store."""
        self._filled = filled
        self._file = File(path)
        self._database = self._file.database
        self._events: list[Event] = []
        self._fresh: list[Sample] = []
        self._tail: dict[int, set[tuple[str, int]]] = {}
        # Rows of the tail: (meter, slot) of the open blocks that they hold samples of.
        self._logs: dict[str, MeterLog] = {}
        try:
            self._reader = Reader(self._database)
            self._begin(site)
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise damaged(path, error) from None

    # Writing

    def append(self, samples: Iterable[Sample]) -> None:
        """Keep samples, in any order; a second that a meter already has is not taken again.

        Raises LocalError if a sample does not fit its meter.
        """
        for sample in samples:
            log = self._log_of(sample.meter)
            if log.resuming:
                self._note_gap(log, sample)
            if log.add(sample):
                self._fresh.append(sample)

    def event(self, event: Event) -> None:
        """Keep an event; the same one delivered twice is one."""
        self._log_of(event.meter)
        self._events.append(event)

    def flush(self) -> None:
        """Write what has ended. If the file cannot be written the records stay in memory, up to two hours."""
        self._write(MeterLog.sealed, self._logs.values(), _REBUILT)

    def prune(self, now: int) -> bool:
        """Delete what is older than the retention at a time in ms; return whether there is more to delete."""
        try:
            with self._transaction():
                # Meters that the site no longer has are pruned too.
                meters = self._database.execute("SELECT id FROM meter").fetchall()
                more = sum(self._prune_meter(meter, now) for (meter,) in meters) > 0
            # As a script: it steps the statement to its end, where ``execute`` would free a single page.
            self._database.executescript("PRAGMA incremental_vacuum(1000);")
        except sqlite3.Error as error:
            self._failed(error)
            return False
        return more

    def close(self) -> None:
        """Write everything, open blocks too, and close the file."""
        self._write(lambda log: sorted(log.open), self._logs.values(), None)
        if not self.failing:
            self._database.execute("UPDATE state SET value = 1 WHERE name = 'clean'")
        self._file.close()

    # Reading

    def last_samples(self) -> dict[str, Sample]:
        """Return the newest sample of each meter that has one."""
        return {meter: log.newest for meter, log in self._logs.items() if log.newest is not None}

    def samples(self, meter: str, start: int | None = None, end: int | None = None) -> Iterator[Sample]:
        """Iterate over samples with start ≤ time ≤ end (ms), oldest first, in the meter's present points.

        Points that a stored block did not have are missing (never read).
        """
        log = self._log_of(meter)
        first = None if start is None else log.slot(start // 1000)
        last = None if end is None else log.slot(end // 1000)
        waiting = {
            slot: dict(seconds)
            for slot, seconds in log.open.items()
            if (first is None or slot >= first) and (last is None or slot <= last)
        }
        for slot, stored in self._reader.blocks(log, first, last):
            for earlier in sorted(other for other in waiting if other < slot):
                yield from _between(waiting.pop(earlier), start, end)
            yield from _between({**waiting.pop(slot, {}), **stored}, start, end)
        for slot in sorted(waiting):
            yield from _between(waiting.pop(slot), start, end)

    def profile_points(self, meter: str) -> tuple[str, ...]:
        """Return the names of the points in a profile row of the meter."""
        return self._log_of(meter).profile_points

    def profile_count(
        self,
        meter: str,
        start: int | None = None,
        end: int | None = None,
        profile: LoadProfile = LoadProfile.FIRST,
    ) -> int:
        """Return how many profile rows have start ≤ time ≤ end (ms)."""
        return self._reader.profile_count(self._written(meter), profile, start, end)

    def profile_rows(
        self,
        meter: str,
        start: int | None = None,
        end: int | None = None,
        profile: LoadProfile = LoadProfile.FIRST,
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows with start ≤ time ≤ end (ms), oldest first, a page at a time."""
        return self._reader.profile_rows(self._written(meter), profile, start, end)

    def profile_entries(
        self, meter: str, first: int, last: int, profile: LoadProfile = LoadProfile.FIRST
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        return self._reader.profile_entries(self._written(meter), profile, first, last)

    def profile_before(self, meter: str, time: int) -> int | None:
        """Return the time (ms) of the last row of load profile 1 before a time."""
        return self._reader.profile_before(self._written(meter), LoadProfile.FIRST, time)

    def daily(self, meter: str) -> DailyRows:
        """Return the daily profile of a meter."""
        return DailyRows(self._reader, self._written(meter), self.settings)

    def event_count(
        self, meter: str, event_log: EventLog | None = None, start: int | None = None, end: int | None = None
    ) -> int:
        """Return how many events with start ≤ time ≤ end (ms) a log of the meter has; all logs if None."""
        return self._reader.event_count(self._written(meter), event_log, start, end)

    def events(
        self, meter: str, event_log: EventLog | None = None, start: int | None = None, end: int | None = None
    ) -> Iterator[Event]:
        """Iterate over events with start ≤ time ≤ end (ms), oldest first, a page at a time."""
        return self._reader.events(self._written(meter), event_log, start, end)

    def event_entries(self, meter: str, event_log: EventLog | None, first: int, last: int) -> Iterator[Event]:
        """Iterate over events by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        return self._reader.event_entries(self._written(meter), event_log, first, last)

    # Demand

    def newest(self, meter: str) -> Sample | None:
        """Return the newest sample of a meter."""
        return self._log_of(meter).newest

    def value_of(self, sample: Sample, point: str) -> Value:
        """Return a point's value in a sample of its meter; None if it was not valid."""
        place = self._log_of(sample.meter).points.index(point)
        valid = quality.validity(sample.quality[place]) != quality.INVALID
        return sample.values[place] if valid else None

    def revision(self, meter: str) -> int:
        """Return a number that rises when load profile 1 of the meter changes."""
        return self._written(meter).revision

    def reset_of(self, meter: str, name: str) -> Reset | None:
        """Return when a demand was last reset."""
        row = self._database.execute(
            "SELECT time, energy FROM demand_reset WHERE meter = ? AND name = ?", (self._log_of(meter).row, name)
        ).fetchone()
        return None if row is None else Reset(*row)

    def keep_reset(self, meter: str, name: str, reset: Reset) -> bool:
        """Keep when a demand was reset; return whether it is in the file."""
        values = (self._log_of(meter).row, name, reset.time, reset.energy)
        try:
            self._database.execute("INSERT OR REPLACE INTO demand_reset VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            _log.error("{meter}: the reset of {name} is not kept: {error}", meter=meter, name=name, error=error)
            return False
        return True

    # Billing

    def keep_billing(self, row: ProfileRow, names: Sequence[str]) -> bool:
        """Keep the end of a billing period, one for each time stamp; return whether it is in the file."""
        log = self._log_of(row.meter)
        data = msgspec.msgpack.encode(row.values)
        try:
            self._database.execute(
                "INSERT OR IGNORE INTO billing VALUES (?, ?, ?, ?, ?, ?)",
                (log.row, row.time, row.status, row.clock_status, self._layout(tuple(names)), data),
            )
        except sqlite3.Error as error:
            _log.error("{meter}: the end of a billing period is not kept: {error}", meter=row.meter, error=error)
            return False
        return True

    def billing_count(self, meter: str, start: int | None, end: int | None) -> int:
        """Return how many billing periods have ended with start ≤ time ≤ end (ms)."""
        return self._reader.profile_count(self._log_of(meter), LoadProfile.BILLING, start, end)

    def billing_rows(
        self, meter: str, names: Sequence[str], start: int | None, end: int | None
    ) -> Iterator[ProfileRow]:
        """Iterate over the ends of billing periods, oldest first; values in the order of ``names``."""
        return self._reader.profile_rows(self._log_of(meter), LoadProfile.BILLING, start, end, names=names)

    def billing_entries(self, meter: str, names: Sequence[str], first: int, last: int) -> Iterator[ProfileRow]:
        """Iterate over them by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        return self._reader.profile_entries(self._log_of(meter), LoadProfile.BILLING, first, last, names)

    # Counters

    def counter(self, name: str) -> int:
        """Return the value of a durable counter, 0 if it was never reserved."""
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

    def merge_counters(self, prefix: str, into: str, most: int) -> None:
        """Keep at most ``most`` counters whose names begin with a prefix; raise ``into`` to those forgotten.

        The lowest are forgotten first. Raises LocalError if the file cannot be written.
        """
        try:
            with self._transaction():
                self._merge_counters(prefix, into, most)
        except sqlite3.Error as error:
            raise LocalError(f"the store cannot keep counter '{into}': {error}") from error

    # Inside

    def _merge_counters(self, prefix: str, into: str, most: int) -> None:
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

    def _log_of(self, meter: str) -> MeterLog:
        try:
            return self._logs[meter]
        except KeyError:
            raise LocalError(f"meter '{meter}' is not one of the site's") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _written(self, meter: str) -> MeterLog:
        """Return the meter's log with all its profile rows and events in the file."""
        log = self._log_of(meter)
        if self._events or any(each.ended or each.due(log.newest) for each in log.periods):
            self._write(MeterLog.sealed, [log], _REBUILT)
        return log

    def _begin(self, site: Site) -> None:
        row = self._database.execute("SELECT value FROM state WHERE name = 'clean'").fetchone()
        self.clean = bool(row[0])
        with self._transaction():
            self._database.execute("UPDATE state SET value = 0 WHERE name = 'clean'")
            for meter in site.meters:
                self._database.execute("INSERT OR IGNORE INTO meter (name) VALUES (?)", (meter.id,))
                (number,) = self._database.execute("SELECT id FROM meter WHERE name = ?", (meter.id,)).fetchone()
                log = self._logs[meter.id] = MeterLog(meter.id, number, site.type_of(meter), self.settings)
                log.layout = self._layout(log.points)
                log.profile_layout = self._layout(log.profile_points)
            # Last, so that the numbers of meters are the same with and without it.
            self._database.execute("INSERT OR IGNORE INTO meter (name) VALUES (?)", (GATEWAY,))
            (number,) = self._database.execute("SELECT id FROM meter WHERE name = ?", (GATEWAY,)).fetchone()
            self._logs[GATEWAY] = MeterLog(GATEWAY, number, _NO_METER, self.settings)
        for log in self._logs.values():
            newest = self._reader.newest(log)
            if newest is not None:
                log.resume(newest)
                if not self.clean:
                    self._find_missing_rows(log, newest.time)
        self._take_tail()
        if not self.clean:
            _log.warn(
                "the last run did not end cleanly: samples after its last flush are missing"
                " ({count} meters, newest {newest} ms)",
                count=len(site.meters),
                newest=max((sample.time for sample in self.last_samples().values()), default=0),
            )

    def _take_tail(self) -> None:
        """Fill the open blocks again from what the last run had flushed of them."""
        for number, layout, samples in self._reader.tail():
            keys = self._tail.setdefault(number, set())
            for sample in samples:
                log = self._logs.get(sample.meter)
                if log is not None:
                    log.add(*self._reader.fitted(log, layout, [sample]))
                    keys.add((sample.meter, log.slot(sample.time // 1000)))
        for log in self._logs.values():
            log.resuming = log.newest is not None and log.meter not in self._filled

    def _find_missing_rows(self, log: MeterLog, newest: int) -> None:
        """Mark the periods of the last day that have no complete row, to make it from the stored samples."""
        oldest = max(self._reader.oldest_second(log), newest // 1000 - 86_400)
        for each in log.periods:
            rows = self._reader.profile_times(log, each.profile, oldest * 1000)
            step = each.period
            ends = range(period_end(oldest, step), period_end(newest // 1000, step) + 1, step)
            each.dirty.update(end for end in ends if end * 1000 not in rows)

    def _layout(self, points: tuple[str, ...]) -> int:
        text = msgspec.json.encode(points).decode()
        self._database.execute("INSERT OR IGNORE INTO layout (points) VALUES (?)", (text,))
        (number,) = self._database.execute("SELECT id FROM layout WHERE points = ?", (text,)).fetchone()
        return int(number)

    def _note_gap(self, log: MeterLog, sample: Sample) -> None:
        """Record what is missing between the last run's newest sample and this run's first one."""
        if log.newest is None or sample.time <= log.newest.time:
            return
        log.resuming = False
        first = (log.newest.time // 1000 + self.settings.sample_interval) * 1000
        last = (sample.time // 1000 - self.settings.sample_interval) * 1000
        if last < first:
            return
        why = "stopped" if self.clean else "unclean end"
        text = f"from {first} to {last} ms: {(last - first) // 1000 + 1} s missing ({why})"
        self._events.append(Event(log.meter, first, EventLog.STANDARD, EventCode.DATA_GAP, text))
        _log.warn("{meter}: {text}", meter=log.meter, text=text)

    def _write(
        self, choose: Callable[[MeterLog], list[int]], rebuild: Iterable[MeterLog], most: int | None
    ) -> None:
        """Write the chosen slots and all that has ended; make up to ``most`` seconds of dirty rows again."""
        events = list(self._events)
        slots = [(log, slot) for log in self._logs.values() for slot in choose(log)]
        ended = [
            (log, each, list(each.ended)) for log in self._logs.values() for each in log.periods if each.ended
        ]
        due = _first(
            [(log, each, end) for log in rebuild for each in log.periods for end in each.due(log.newest)], most
        )
        fresh = len(self._fresh)
        if not (events or slots or ended or due or fresh):
            return
        closed = {(log.meter, slot) for log, slot in slots}
        try:
            with self._transaction():
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
            self._failed(error)
            return
        self.failing = ""
        self._tail = tail
        del self._fresh[:fresh]
        del self._events[: len(events)]
        for log, slot in slots:
            del log.open[slot]
            log.stored_slot = max(log.stored_slot, slot)
        for _, each, captures in ended:
            del each.ended[: len(captures)]
        for _, each, end in due:
            each.dirty.discard(end)

    def _failed(self, error: sqlite3.Error) -> None:
        if not self.failing:
            _log.error("the store cannot write: {error}; records wait in memory", error=error)
        self.failing = str(error)
        self._fresh.clear()  # the open blocks hold them; the tail must not grow meanwhile
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
        for sample in self._fresh:
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
        capture = period.gather(end, list(self.samples(log.meter, start * 1000 + 1000, end * 1000 + 999)))
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
                    log.profile_layout,
                    msgspec.msgpack.encode(row.values),
                ),
            )

    def _prune_meter(self, meter: int, now: int) -> bool:
        kept = [*self.settings.days.items(), ("event", self.settings.events_days)]
        for table, days in kept:
            if days:
                self._database.execute(
                    f"DELETE FROM {table} WHERE meter = ? AND time < ?",
                    (meter, int(now - days * _DAY_MS)),
                )
        if not self.settings.samples_days:
            return False
        return self._delete_blocks(meter, int(now - self.settings.samples_days * _DAY_MS))

    def _delete_blocks(self, meter: int, cut: int) -> bool:
        cursor = self._database.execute(
            "DELETE FROM block WHERE rowid IN (SELECT rowid FROM block WHERE meter = ? AND slot < ? LIMIT ?)",
            (meter, slot_of(meter, cut // 1000), _PRUNED),
        )
        return cursor.rowcount == _PRUNED


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


def _between(seconds: Mapping[int, Sample], start: int | None, end: int | None) -> Iterator[Sample]:
    for second in sorted(seconds):
        sample = seconds[second]
        if (start is None or sample.time >= start) and (end is None or sample.time <= end):
            yield sample
