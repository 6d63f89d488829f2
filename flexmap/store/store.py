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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

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
from flexmap.store import rates, retention
from flexmap.store.billing import BillingRows
from flexmap.store.captures import Captures
from flexmap.store.counters import Counters
from flexmap.store.daily import DailyRows
from flexmap.store.kept import Kept
from flexmap.store.letters import Letters
from flexmap.store.meterlog import MeterLog
from flexmap.store.profile import LoadProfile, ProfileRow, period_end
from flexmap.store.rates import Rates
from flexmap.store.read import Reader
from flexmap.store.reports import ReportEntries
from flexmap.store.resets import Resets
from flexmap.store.schema import File, damaged
from flexmap.store.settings import StoreSettings
from flexmap.store.write import REBUILT, Writer

_log = Logger()

_NO_METER = MeterType(id="", title="", product="", points=(), identity=())
"""The gateway's own type: it has events, no points."""


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
        self.clean = True
        """Whether the run before closed the store."""
        self._filled = filled
        self._file = File(path)
        self._database = self._file.database
        self._logs: dict[str, MeterLog] = {}
        self._rates: dict[str, Rates] = {}
        self._held: dict[str, Sample] = {}
        self._reader = Reader(self._database)
        self._writer = Writer(self._file, self._reader, self._logs, self.samples)
        self.counters = Counters(self._file)
        self.resets = Resets(self._database, self._logs)
        self.kept = Kept(self._database, self._logs)
        self.letters = Letters(self._file, self._logs)
        self.captures = Captures(self._file, self._reader, self._logs, self.settings)
        self.reports = ReportEntries(self._file)
        try:
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
                self._writer.fresh.append(sample)
                split = self._rates.get(sample.meter)
                if split is not None:
                    split.take(sample)

    def event(self, event: Event) -> None:
        """Keep an event; the same one delivered twice is one."""
        self._log_of(event.meter)
        self._writer.events.append(event)

    def flush(self) -> None:
        """Write what has ended. If the file cannot be written the records stay in memory, up to two hours."""
        self._writer.write(MeterLog.sealed, self._logs.values(), REBUILT)
        self._write_rates()

    def prune(self, now: int) -> bool:
        """Delete what is older than the retention at a time in ms; return whether there is more to delete."""
        try:
            with self._file.transaction():
                more = retention.prune(self._database, self.settings, now)
            retention.free_pages(self._database)
        except sqlite3.Error as error:
            self._writer.failed(error)
            return False
        return more

    def close(self) -> None:
        """Write everything, open blocks too, and close the file."""
        self._writer.write(lambda log: sorted(log.open), self._logs.values(), None)
        self._write_rates()
        if not self.failing:
            self._database.execute("UPDATE state SET value = 1 WHERE name = 'clean'")
        self._file.close()

    @property
    def failing(self) -> str:
        """Why the last flush failed, empty if it did not; the records then wait in memory."""
        return self._writer.failing

    # Reading

    def last_samples(self) -> dict[str, Sample]:
        """Return the newest sample of each meter that has one."""
        return {meter: log.newest for meter, log in self._logs.items() if log.newest is not None}

    def newest(self, meter: str) -> Sample | None:
        """Return the newest sample of a meter."""
        return self._log_of(meter).newest

    def hold(self, meter: str) -> None:
        """Note the newest sample as that at which a billing period ends, until :meth:`release`."""
        newest = self.newest(meter)
        if newest is not None:
            self._held.setdefault(meter, newest)

    def release(self, meter: str) -> None:
        """Forget it."""
        self._held.pop(meter, None)

    def closing(self, meter: str) -> Sample | None:
        """Return the sample at which a billing period ends: the one held, or the newest."""
        return self._held.get(meter) or self.newest(meter)

    def value_of(self, sample: Sample, point: str) -> Value:
        """Return a point's value in a sample of its meter; None if it was not valid."""
        place = self._log_of(sample.meter).points.index(point)
        valid = quality.validity(sample.quality[place]) != quality.INVALID
        return sample.values[place] if valid else None

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

    def profile_revision(self, meter: str) -> int:
        """Return a number that rises when load profile 1 of the meter changes."""
        return self._written(meter).revision

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
        names: Sequence[str] | None = None,
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows with start ≤ time ≤ end (ms), oldest first, a page at a time.

        Values are in the order of ``names``, else of ``profile_points``.
        """
        return self._reader.profile_rows(self._written(meter), profile, start, end, names=names)

    def profile_entries(
        self,
        meter: str,
        first: int,
        last: int,
        profile: LoadProfile = LoadProfile.FIRST,
        names: Sequence[str] | None = None,
    ) -> Iterator[ProfileRow]:
        """Iterate over profile rows by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        return self._reader.profile_entries(self._written(meter), profile, first, last, names)

    def profile_newest(self, meter: str, profile: LoadProfile = LoadProfile.FIRST) -> ProfileRow | None:
        """Return the newest profile row."""
        return self._reader.profile_newest(self._written(meter), profile)

    def profile_before(self, meter: str, time: int) -> int | None:
        """Return the time (ms) of the last row of load profile 1 before a time."""
        return self._reader.profile_before(self._written(meter), LoadProfile.FIRST, time)

    def daily(self, meter: str) -> DailyRows:
        """Return the daily profile of a meter."""
        return DailyRows(self._reader, self._written(meter), self.settings)

    def billing(self, meter: str, names: Sequence[str]) -> BillingRows:
        """Return the ends of a meter's billing periods, with their values in the order of ``names``."""
        return BillingRows(self._database, self._reader, self._log_of(meter), names)

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

    def rates(self, meter: str) -> Rates | None:
        """Return what splits the energies of a meter over rates; None if its type has no tariff."""
        return self._rates.get(meter)

    # Inside

    def _write_rates(self) -> None:
        """Write switches of rates, after the samples whose registers they have."""
        if not self.failing:
            rates.write(self._database, list(self._rates.values()))

    def _log_of(self, meter: str) -> MeterLog:
        try:
            return self._logs[meter]
        except KeyError:
            raise LocalError(f"meter '{meter}' is not one of the site's") from None

    def _written(self, meter: str) -> MeterLog:
        """Return the meter's log with all its profile rows and events in the file."""
        log = self._log_of(meter)
        if self._writer.events or any(each.ended or each.due(log.newest) for each in log.periods):
            self._writer.write(MeterLog.sealed, [log], REBUILT)
        return log

    def _begin(self, site: Site) -> None:
        row = self._database.execute("SELECT value FROM state WHERE name = 'clean'").fetchone()
        self.clean = bool(row[0])
        with self._file.transaction():
            self._database.execute("UPDATE state SET value = 0 WHERE name = 'clean'")
            for meter in site.meters:
                self._database.execute("INSERT OR IGNORE INTO meter (name) VALUES (?)", (meter.id,))
                (number,) = self._database.execute("SELECT id FROM meter WHERE name = ?", (meter.id,)).fetchone()
                log = self._logs[meter.id] = MeterLog(meter.id, number, site.type_of(meter), self.settings)
                log.layout = self._reader.layouts.number(log.points)
                for period in log.periods:
                    period.layout = self._reader.layouts.number(log.profile_points)
            # Last, so that the numbers of meters are the same with and without it.
            self._database.execute("INSERT OR IGNORE INTO meter (name) VALUES (?)", (GATEWAY,))
            (number,) = self._database.execute("SELECT id FROM meter WHERE name = ?", (GATEWAY,)).fetchone()
            self._logs[GATEWAY] = MeterLog(GATEWAY, number, _NO_METER, self.settings)
        self.captures.resume()
        for log in self._logs.values():
            newest = self._reader.newest(log)
            if newest is not None:
                log.resume(newest)
                if not self.clean:
                    self._find_missing_rows(log, newest.time)
        self._writer.take_tail()
        for meter in site.meters:
            self._begin_rates(self._logs[meter.id], site.type_of(meter))
        for log in self._logs.values():
            log.resuming = log.newest is not None and log.meter not in self._filled
        if not self.clean:
            _log.warn(
                "the last run did not end cleanly: samples after its last flush are missing"
                " ({count} meters, newest {newest} ms)",
                count=len(site.meters),
                newest=max((sample.time for sample in self.last_samples().values()), default=0),
            )

    def _begin_rates(self, log: MeterLog, meter_type: MeterType) -> None:
        if meter_type.tariff is not None:
            made = self._rates[log.meter] = Rates(self, log.meter, log.row, meter_type, self._database)
            if log.newest is not None:
                made.resume(log.newest)

    def _find_missing_rows(self, log: MeterLog, newest: int) -> None:
        """Mark the periods of the last day that have no complete row, to make it from the stored samples."""
        oldest = max(self._reader.oldest_second(log), newest // 1000 - 86_400)
        for each in log.periods:
            rows = self._reader.profile_times(log, each.profile, oldest * 1000)
            step = each.period
            ends = range(period_end(oldest, step), period_end(newest // 1000, step) + 1, step)
            each.dirty.update(end for end in ends if end > each.since and end * 1000 not in rows)

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
        self._writer.events.append(Event(log.meter, first, EventLog.STANDARD, EventCode.DATA_GAP, text))
        _log.warn("{meter}: {text}", meter=log.meter, text=text)


def _between(seconds: Mapping[int, Sample], start: int | None, end: int | None) -> Iterator[Sample]:
    for second in sorted(seconds):
        sample = seconds[second]
        if (start is None or sample.time >= start) and (end is None or sample.time <= end):
            yield sample
