"""Load profiles that head-ends have changed: they are captured beside the meter's own, into tables of their own.

Demands, the daily profile and billing go by the meter's own load profile 1, which goes on as configured.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec
from twisted.logger import Logger

from flexmap.store.meterlog import MeterLog
from flexmap.store.periods import PeriodLog
from flexmap.store.profile import Capture, LoadProfile
from flexmap.store.read import Reader
from flexmap.store.schema import File
from flexmap.store.settings import StoreSettings

_log = Logger()

CHANGED = {LoadProfile.FIRST: LoadProfile.CAPTURED, LoadProfile.SECOND: LoadProfile.CAPTURED_2}
"""Where a load profile stands once it was changed."""


class CaptureSetup(msgspec.Struct, frozen=True):
    """What is captured of a meter, and how often."""

    points: tuple[str, ...]
    period: int
    """Seconds, a divisor of an hour; 0: only when a row is asked for."""
    since: int
    """Second from which on: rows are of periods that end later."""
    objects: bytes = b""
    """The capture objects as DLMS has them."""


class Captures:
    """The changed load profiles of all meters."""

    def __init__(self, file: File, reader: Reader, logs: Mapping[str, MeterLog], settings: StoreSettings) -> None:
        self._file = file
        self._database = file.database
        self._reader = reader
        self._logs = logs
        self._interval = settings.sample_interval
        self._setups: dict[tuple[str, LoadProfile], CaptureSetup] = {}

    def resume(self) -> None:
        """Go on capturing what was changed before; points that the meter no longer has are missing in new rows."""
        meters = {log.row: log for log in self._logs.values()}
        rows = self._database.execute("SELECT meter, profile, period, since, layout, objects FROM capture")
        for number, profile, period, since, layout, objects in rows.fetchall():
            log = meters.get(number)
            if log is not None:
                setup = CaptureSetup(self._reader.layouts.names(layout), period, since, objects)
                self._follow(log, LoadProfile(profile), setup)

    def of(self, meter: str, profile: LoadProfile) -> CaptureSetup | None:
        """Return how a load profile was changed; None if it was not."""
        return self._setups.get((meter, profile))

    def change(self, meter: str, profile: LoadProfile, setup: CaptureSetup, *, keep: bool = False) -> bool:
        """Capture this from now on, into an empty buffer; return whether it is in the file.

        With ``keep`` the buffer begins with all rows of the meter's own load profile.
        """
        log, table = self._logs[meter], CHANGED[profile]
        try:
            with self._file.transaction():
                layout = self._reader.layouts.number(setup.points)
                self._database.execute(
                    "INSERT OR REPLACE INTO capture VALUES (?, ?, ?, ?, ?, ?)",
                    (log.row, str(profile), setup.period, setup.since, layout, setup.objects),
                )
                self._database.execute(f"DELETE FROM {table} WHERE meter = ?", (log.row,))
                if keep:
                    self._database.execute(
                        f"INSERT INTO {table} SELECT * FROM {profile} WHERE meter = ?", (log.row,)
                    )
        except sqlite3.Error as error:
            _log.error(
                "{meter}: the change of {profile} is not kept: {error}", meter=meter, profile=profile, error=error
            )
            return False
        self._follow(log, profile, setup)
        return True

    def capture(self, meter: str, profile: LoadProfile) -> bool:
        """Add a row of the newest sample to a changed profile; return whether it is in the file."""
        log, setup = self._logs[meter], self._setups[meter, profile]
        if log.newest is None:
            return False
        points = self._points(log, setup)
        taken = Capture(0, [log.points.index(name) for name in points])
        taken.add(log.newest)
        row = taken.row(complete=True, events=())
        if row is None:
            return False
        values = msgspec.msgpack.encode(row.values)
        try:
            self._database.execute(
                f"INSERT OR IGNORE INTO {CHANGED[profile]} VALUES (?, ?, ?, ?, ?, ?)",
                (
                    log.row,
                    log.newest.time,
                    row.status,
                    row.clock_status,
                    self._reader.layouts.number(points),
                    values,
                ),
            )
        except sqlite3.Error as error:
            _log.error(
                "{meter}: a row of {profile} is not kept: {error}", meter=meter, profile=profile, error=error
            )
            return False
        return True

    def _follow(self, log: MeterLog, profile: LoadProfile, setup: CaptureSetup) -> None:
        self._setups[log.meter, profile] = setup
        table = CHANGED[profile]
        log.periods = [each for each in log.periods if each.profile is not table]
        if setup.period:
            points = self._points(log, setup)
            columns = [log.points.index(name) for name in points]
            made = PeriodLog(table, setup.period, self._interval, columns, setup.since)
            made.layout = self._reader.layouts.number(points)
            if log.newest is not None:
                made.touch(log.newest.time // 1000)
            log.periods.append(made)

    @staticmethod
    def _points(log: MeterLog, setup: CaptureSetup) -> tuple[str, ...]:
        """Return the points that the meter still has."""
        return tuple(name for name in setup.points if name in log.points)
