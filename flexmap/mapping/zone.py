"""Local time of a site: deviation from UTC, daylight saving and midnights, as both faces and the store need them.

Time stamps are UTC everywhere; local time decides what a clock shows and where a day ends. COSEM counts the
deviation from local time to UTC (IEC 62056-6-2 clause 4.1.6.1): UTC+1 is −60.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

from flexmap.mapping.quality import CLOCK_DAYLIGHT_SAVING
from flexmap.model import ConfigurationError

_DAY = 86_400
_QUARTER = 900
"""Seconds at whose multiples local times change."""
_FIRST, _LAST = (
    int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) // _QUARTER for year in (2, dt.MAXYEAR - 1)
)
"""Quarters that the calendar has for sure; before and after them nothing changes."""


class Change(msgspec.Struct, frozen=True):
    """A change from or to daylight saving."""

    second: int
    """First second of the new deviation, since 1970 UTC."""
    local: dt.datetime
    """What the clock shows at that instant, before it is put forward or back."""
    deviation: int
    """Deviation before the change."""


class Zone(msgspec.Struct, frozen=True, dict=True):
    """A time zone of the IANA database."""

    name: str = "UTC"

    def __post_init__(self) -> None:
        """Raise ConfigurationError if there is no such zone."""
        try:
            _zone(self.name)
        except (OSError, ValueError, KeyError):
            remedy = "write a name of the IANA time zone database, such as Europe/Vienna, or UTC"
            raise ConfigurationError(f"'{self.name}' is not a time zone", remedy=remedy) from None

    @cached_property
    def is_utc(self) -> bool:
        """Whether local time is UTC."""
        return self.name == "UTC"

    def deviation(self, second: int) -> int:
        """Return the minutes from local time to UTC at a second since 1970."""
        return 0 if self.is_utc else _state(self.name, _quarter(second))[0]

    def normal(self, second: int) -> int:
        """Return the deviation without daylight saving, in the year of that second."""
        return 0 if self.is_utc else -_normal(self.name, self._year(second))

    def daylight(self, second: int) -> bool:
        """Return whether daylight saving is active."""
        return not self.is_utc and _state(self.name, _quarter(second))[1]

    def clock_status(self, second: int, status: int) -> int:
        """Return a meter's clock status as a clock of this zone shows it; in UTC the meter's own."""
        if self.is_utc:
            return status
        daylight = CLOCK_DAYLIGHT_SAVING if self.daylight(second) else 0
        return status & ~CLOCK_DAYLIGHT_SAVING | daylight

    def of_local(self, local: int, *, last: bool, daylight: bool | None = None) -> int:
        """Return the second at which a clock of this zone shows ``local``, counted as if it were UTC.

        In the hour that comes twice it is the last one or the first one, unless ``daylight`` says which.
        """
        if self.is_utc:
            return local
        found = sorted(
            {second for second in self._candidates(local) if second - self.deviation(second) * 60 == local}
        )
        if daylight is not None:
            found = [second for second in found if self.daylight(second) == daylight] or found
        if found:
            return found[-1 if last else 0]
        return local + self.normal(local) * 60  # the hour that is left out

    def midnight(self, second: int) -> int:
        """Return the last local midnight not after a second."""
        day = (second - self.deviation(second) * 60) // _DAY * _DAY
        return self.of_local(day, last=False)

    def next_midnight(self, second: int) -> int:
        """Return the first local midnight after a second."""
        day = (second - self.deviation(second) * 60) // _DAY * _DAY
        return self.of_local(day + _DAY, last=False)

    def date(self, second: int) -> dt.date:
        """Return the local date."""
        return dt.datetime.fromtimestamp(second - self.deviation(second) * 60, dt.UTC).date()

    def changes(self, second: int) -> tuple[Change, Change] | None:
        """Return begin and end of daylight saving in the local year of a second; None if there is none."""
        found = None if self.is_utc else _changes(self.name, self._year(second))
        return found if found is None or len(found) == 2 else None

    def _year(self, second: int) -> int:
        return dt.datetime.fromtimestamp(_quarter(second) * _QUARTER, dt.UTC).year

    def _candidates(self, local: int) -> tuple[int, int]:
        return (local + self.deviation(local - _DAY) * 60, local + self.deviation(local + _DAY) * 60)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _quarter(second: int) -> int:
    return min(max(second // _QUARTER, _FIRST), _LAST)


def _offset(name: str, quarter: int) -> int:
    offset = dt.datetime.fromtimestamp(quarter * _QUARTER, _zone(name)).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() / 60)


@lru_cache(maxsize=1 << 16)
def _state(name: str, quarter: int) -> tuple[int, bool]:
    """Return the deviation, and whether daylight saving is active."""
    offset = _offset(name, quarter)
    return -offset, offset > _normal(name, dt.datetime.fromtimestamp(quarter * _QUARTER, dt.UTC).year)


@lru_cache(maxsize=1024)
def _normal(name: str, year: int) -> int:
    """Return the least offset of a year: that of its months' first days, of which some are without saving."""
    return min(_offset(name, _first_of(year, month) // _QUARTER) for month in range(1, 13))


@lru_cache(maxsize=1024)
def _changes(name: str, year: int) -> tuple[Change, ...]:
    """Return the changes of a year: begin of daylight saving first."""
    quarters = [_first_of(year, month) // _QUARTER for month in range(1, 13)]
    quarters.append(_first_of(year + 1, 1) // _QUARTER)
    found = [
        _change(name, low, high) for low, high in pairwise(quarters) if _offset(name, low) != _offset(name, high)
    ]
    normal = -_normal(name, year)
    return tuple(sorted(found, key=lambda change: change.deviation != normal))


def _change(name: str, low: int, high: int) -> Change:
    before = _offset(name, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(name, middle) == before else (low, middle)
    second = high * _QUARTER
    return Change(second, dt.datetime.fromtimestamp(second + before * 60, dt.UTC), -before)


def _first_of(year: int, month: int) -> int:
    return int(dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp())


UTC = Zone()
