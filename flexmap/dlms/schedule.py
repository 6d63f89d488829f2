"""When a schedule is due: times and dates with parts left open (IEC 62056-6-2 clause 4.1.6.1)."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from flexmap.dlms import axdr
from flexmap.dlms.axdr import AxdrError

_OPEN, _OPEN_YEAR = 0xFF, 0xFFFF
_LAST_DAY, _SECOND_LAST_DAY = 0xFE, 0xFD
_DAYS_AHEAD = 366 * 9
"""How far ahead to look where a date's parts are open: nine years have a 29 February in any case."""


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """execution_time_date: hour, minute and second are given, parts of the date may be open."""

    time: bytes
    """hour, minute, second, hundredths"""
    date: bytes
    """year (2), month, day of month, day of week"""

    def encode(self) -> bytes:
        """Return it as a structure."""
        return axdr.structure(axdr.octet_string(self.time), axdr.octet_string(self.date))

    def on(self, day: dt.date) -> bool:
        """Return whether the date names this day."""
        year, (month, number, weekday) = int.from_bytes(self.date[:2], "big"), self.date[2:]
        last = calendar.monthrange(day.year, day.month)[1]
        number = {_LAST_DAY: last, _SECOND_LAST_DAY: last - 1}.get(number, number)
        return (
            year in (_OPEN_YEAR, day.year)
            and month in (_OPEN, day.month)
            and number in (_OPEN, day.day)
            and weekday in (_OPEN, day.isoweekday())
        )

    def seconds(self) -> int:
        """Return its time in seconds since midnight."""
        hour, minute, second, _ = self.time
        return (hour * 60 + minute) * 60 + second

    def following(self, after: int) -> int | None:
        """Return the first time after ``after``, in s since 1970 (UTC); ``None`` if there is none."""
        start = dt.datetime.fromtimestamp(after, dt.UTC).date()
        year = int.from_bytes(self.date[:2], "big")
        if year != _OPEN_YEAR:
            start = max(start, dt.date(year, 1, 1))
        for ahead in range(_DAYS_AHEAD):
            day = start + dt.timedelta(ahead)
            midnight = calendar.timegm(day.timetuple())
            if self.on(day) and midnight + self.seconds() > after:
                return midnight + self.seconds()
            if year < day.year:
                break
        return None


def decode_executions(data: bytes) -> tuple[Execution, ...]:
    """Return execution_time of a schedule of type 1: no or one time. Raises AxdrError."""
    value = axdr.decode(data)
    if not isinstance(value, list) or len(value) > 1:
        raise AxdrError("execution_time is an array of at most one time and date")
    return tuple(_execution(each) for each in value)


def _execution(value: object) -> Execution:
    if not isinstance(value, tuple) or [len(x) for x in value if isinstance(x, bytes)] != [4, 5]:
        raise AxdrError("execution_time_date is a structure of time and date")
    execution = Execution(*value)
    hour, minute, second, hundredths = execution.time
    month, day, weekday = execution.date[2:]
    year = int.from_bytes(execution.date[:2], "big")
    timely = hour < 24 and minute < 60 and second < 60 and hundredths in (0, _OPEN)
    dated = (
        (1970 <= year <= 9000 or year == _OPEN_YEAR)
        and month in {*range(1, 13), _OPEN}
        and day in {*range(1, 32), _SECOND_LAST_DAY, _LAST_DAY, _OPEN}
        and weekday in {*range(1, 8), _OPEN}
    )
    if not timely or not dated:
        raise AxdrError("no such time, or date")
    return execution


def following(executions: Sequence[Execution], after: int) -> int | None:
    """Return when the next of them is due after ``after``, in s since 1970; ``None`` if none is."""
    return _following(tuple(executions), after)


@lru_cache(256)  # the schedules of all meters are mostly the same
def _following(executions: tuple[Execution, ...], after: int) -> int | None:
    times = [at for at in (each.following(after) for each in executions) if at is not None]
    return min(times, default=None)
