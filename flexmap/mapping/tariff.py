"""Which rate is in force when: activity calendar and special days in local time (IEC 62056-6-2, classes 20, 11).

A calendar says for each local day which scripts are executed at which times of the day. Which rate is in force is
a function of local time: the last one named at or before it, on that day or on one before. So in the hour that
comes twice both passes have the rates of that hour, and what is named in the hour that is left out begins where
the clock is put forward. A second belongs to what was in force when it began: a switch at 22:00:00 comes after
the register of 22:00:00, as the ends of profile periods have it.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from flexmap.mapping.zone import Zone
from flexmap.model import Tariff, obis

TARIFF_SCRIPTS = obis.parse("0-0:10.0.100")
"""Logical name of the tariff script table: script n puts rate n in force."""
NOT_SPECIFIED = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00\xff"
"""A date-time without any part."""
_OPEN, _OPEN_YEAR = 0xFF, 0xFFFF
_LAST_DAY, _SECOND_LAST_DAY = 0xFE, 0xFD
_SAVING_BEGINS, _SAVING_ENDS = 0xFE, 0xFD
"""As a month: the day on which daylight saving begins, ends."""
_DAY = 86_400
_DAYS_AHEAD = 400
"""How far ahead to look for the next switch; a calendar without one until then is looked at again."""
_DAYS_BACK = 10
"""How far back to look for the rate that a day without an action goes on with."""


class DayAction(msgspec.Struct, frozen=True, array_like=True):
    """day_profile_action: a script at a time of the day."""

    second: int
    """Since local midnight, as the clock shows it."""
    table: bytes
    """Logical name of the script table."""
    script: int


class Day(msgspec.Struct, frozen=True, array_like=True):
    """day_profile."""

    id: int
    actions: tuple[DayAction, ...]


class Week(msgspec.Struct, frozen=True, array_like=True):
    """week_profile: ids of days, from Monday on."""

    name: bytes
    days: tuple[int, ...]


class Season(msgspec.Struct, frozen=True, array_like=True):
    """season: from the beginning of a date on, until the next one begins."""

    name: bytes
    start: bytes
    """season_start: a date-time whose date may have open parts, of every year; its time is midnight."""
    week: bytes


class Calendar(msgspec.Struct, frozen=True, array_like=True):
    """What an activity calendar has twice, as active and as passive one."""

    name: bytes = b""
    seasons: tuple[Season, ...] = ()
    weeks: tuple[Week, ...] = ()
    days: tuple[Day, ...] = ()

    def fault(self) -> str:
        """Return why it cannot be followed: a name or id twice, one that is not there; empty if it can."""
        days, weeks = {each.id for each in self.days}, {each.name for each in self.weeks}
        if len(days) < len(self.days) or len(weeks) < len(self.weeks):
            return "a day or a week stands in it twice"
        if not self.seasons or {each.week for each in self.seasons} - weeks:
            return "no season, or one of a week that is not there"
        if {day for week in self.weeks for day in week.days} - days:
            return "a week of a day that is not there"
        return ""


class SpecialDay(msgspec.Struct, frozen=True, array_like=True):
    """spec_day_entry: a date, parts open, that has a day of its own."""

    index: int
    date: bytes
    day: int


class Program(msgspec.Struct, frozen=True):
    """A calendar with its special days in a zone; the tariff scripts choose what is in force."""

    calendar: Calendar
    special: tuple[SpecialDay, ...]
    zone: Zone

    def at(self, second: int) -> int | None:
        """Return the script in force in the second that begins at ``second``, s since 1970; None without one."""
        local = second - self.zone.deviation(second) * 60
        return self._of_local(local)

    def following(self, after: int) -> tuple[int, int] | None:
        """Return the first second > ``after`` at which a script comes into force, and the script."""
        if all(action.table != TARIFF_SCRIPTS for each in self.calendar.days for action in each.actions):
            return None
        day = self._date(after)
        for ahead in range(_DAYS_AHEAD):
            found = next((each for each in _switches(self, day + dt.timedelta(ahead)) if each[0] > after), None)
            if found is not None:
                return found
        return None

    def executions(self, after: int, upto: int) -> Iterator[tuple[int, DayAction]]:
        """Iterate over the actions of other tables with after < second ≤ upto, each once, in order."""
        if all(action.table == TARIFF_SCRIPTS for day in self.calendar.days for action in day.actions):
            return
        day, last = self._date(after), self._date(upto)
        while day <= last:
            midnight = calendar.timegm(day.timetuple())
            for action in self.actions(day):
                second = self.zone.of_local(midnight + action.second, last=False)
                if action.table != TARIFF_SCRIPTS and after < second <= upto:
                    yield second, action
            day += dt.timedelta(1)

    def actions(self, day: dt.date) -> tuple[DayAction, ...]:
        """Return the actions of a local day, in order."""
        special = special_day(self.special, day, self.zone)
        number = self._ordinary(day) if special is None else special
        found = next((each.actions for each in self.calendar.days if each.id == number), ())
        return tuple(sorted(found, key=_second))

    def _ordinary(self, day: dt.date) -> int | None:
        starts = [
            (start, season) for season in self.calendar.seasons if (start := _last_start(season, day, self.zone))
        ]
        name = max(starts, key=lambda each: each[0])[1].week if starts else None
        week = next((each for each in self.calendar.weeks if each.name == name), None)
        return None if week is None else week.days[day.weekday()]

    def _of_local(self, local: int) -> int | None:
        day = dt.datetime.fromtimestamp(local, dt.UTC).date()
        within = local % _DAY
        for back in range(_DAYS_BACK):
            for action in reversed(self.actions(day - dt.timedelta(back))):
                if action.table == TARIFF_SCRIPTS and (back or action.second <= within):
                    return action.script
        return None

    def _date(self, second: int) -> dt.date:
        return self.zone.date(second)


def special_day(entries: Iterable[SpecialDay], day: dt.date, zone: Zone) -> int | None:
    """Return the day_id of a special day; None of another. Of two entries the one with the lower index counts."""
    found = [each for each in entries if _matches(each.date, day, zone)]
    return min(found, key=_index).day if found else None


@lru_cache(maxsize=512)
def _switches(program: Program, day: dt.date) -> tuple[tuple[int, int], ...]:
    """Return when scripts come into force on a local day, and which, in order of time."""
    zone = program.zone
    midnight = calendar.timegm(day.timetuple())
    begin, end = zone.of_local(midnight, last=False), zone.of_local(midnight + _DAY, last=False)
    found: dict[int, int] = {}
    for action in program.actions(day):
        if action.table == TARIFF_SCRIPTS:
            for last in (False, True):
                second = zone.of_local(midnight + action.second, last=last)
                if begin <= second < end and second - zone.deviation(second) * 60 == midnight + action.second:
                    found[second] = action.script
    for change in zone.changes(begin) or ():
        if begin < change.second < end:
            now = program.at(change.second)
            if now is not None and now != program.at(change.second - 1):
                found[change.second] = now
    return tuple(sorted(found.items()))


def _matches(date: bytes, day: dt.date, zone: Zone) -> bool:
    """Return whether a date with open parts names a day."""
    year, (month, number, weekday) = int.from_bytes(date[:2], "big"), date[2:5]
    if year not in (_OPEN_YEAR, day.year):
        return False
    if month in (_SAVING_BEGINS, _SAVING_ENDS):
        changes = zone.changes(calendar.timegm(day.timetuple()))
        return changes is not None and day == changes[month == _SAVING_ENDS].local.date()
    last = calendar.monthrange(day.year, day.month)[1]
    if month not in (_OPEN, day.month) or weekday not in (_OPEN, day.isoweekday()):
        return False
    if weekday != _OPEN and number in (_LAST_DAY, _SECOND_LAST_DAY):
        back = 7 * (number == _SECOND_LAST_DAY)  # the last, second last such day of the week in the month
        return last - back - 7 < day.day <= last - back
    if _OPEN not in (weekday, number):
        return number <= day.day < number + 7  # the first such day of the week on or after the number
    number = {_LAST_DAY: last, _SECOND_LAST_DAY: last - 1}.get(number, number)
    return number in (_OPEN, day.day)


def _last_start(season: Season, day: dt.date, zone: Zone) -> dt.date | None:
    """Return the last day not after ``day`` on which a season begins."""
    if season.start[:4] == b"\xff\xff\xff\xff":  # at no date: it holds whenever no other does
        return dt.date.min
    for year in (day.year, day.year - 1):
        found = [start for start in _starts(season.start[:5], year, zone) if start <= day]
        if found:
            return found[-1]
    return None


@lru_cache(maxsize=1024)
def _starts(date: bytes, year: int, zone: Zone) -> tuple[dt.date, ...]:
    """Return the days of a year that a date with open parts names."""
    first = dt.date(year, 1, 1)
    days = (first + dt.timedelta(ahead) for ahead in range(365 + calendar.isleap(year)))
    return tuple(day for day in days if _matches(date, day, zone))


def _index(special: SpecialDay) -> int:
    return special.index


def _second(action: DayAction) -> int:
    return action.second


class Mask(msgspec.Struct, frozen=True, array_like=True):
    """What counts while a mask is active."""

    name: bytes
    rates: tuple[int, ...]
    """Rate of each energy of the tariff, then of each demand that has maxima by rate."""


class TariffSetup(msgspec.Struct, frozen=True, array_like=True):
    """All that head-ends can write of a meter's tariff."""

    active: Calendar
    masks: tuple[Mask, ...]
    passive: Calendar = Calendar()
    activation: bytes = NOT_SPECIFIED
    """activate_passive_calendar_time as it was written."""
    activate_at: int = 0
    """The same in s since 1970; 0: never."""
    special: tuple[SpecialDay, ...] = ()

    def mask(self, name: bytes) -> Mask | None:
        """Return a mask by its name."""
        return next((mask for mask in self.masks if mask.name == name), None)

    def activated(self) -> TariffSetup:
        """Return the setup with the passive calendar as the active one."""
        return msgspec.structs.replace(self, active=self.passive, activation=NOT_SPECIFIED, activate_at=0)


def mask_name(rate: int) -> bytes:
    """Return the name of the mask that script ``rate`` of the tariff script table makes active."""
    return b"RATE%d" % rate


@lru_cache
def default_setup(tariff: Tariff, quantities: int) -> TariffSetup:
    """Return what holds until a head-end writes something else: one day for ever, a mask for each rate."""
    actions = tuple(DayAction(second, TARIFF_SCRIPTS, rate) for second, rate in tariff.day)
    everyday = Calendar(
        name=b"DEFAULT",
        seasons=(Season(b"1", NOT_SPECIFIED, b"1"),),
        weeks=(Week(b"1", (1,) * 7),),
        days=(Day(1, actions),),
    )
    masks = tuple(Mask(mask_name(rate), (rate,) * quantities) for rate in range(1, tariff.rates + 1))
    return TariffSetup(everyday, masks)
