"""Register activation, schedule, special days table, activity calendar (classes 6, 10, 11, 20; IEC 62056-6-2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from flexmap.dlms import axdr, security
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.mapping.tariff import Calendar, Day, DayAction, Season, SpecialDay, Week

REGISTER_ACTIVATION, SPECIAL_DAYS, ACTIVITY_CALENDAR = 6, 11, 20
ACTIVE_MASK = 4
"""Attribute of a register activation."""
ADD_REGISTER, ADD_MASK, DELETE_MASK = 1, 2, 3
INSERT, DELETE = 1, 2
"""Methods of a special days table."""
NAME, SEASONS, WEEKS, DAYS, PASSIVE = 2, 3, 4, 5, 4
"""Attributes of the active calendar; those of the passive one stand PASSIVE behind them."""
ACTIVATION_TIME = 10
MOST = 64
"""Seasons, weeks, days, actions of a day that a calendar may have."""
MOST_SPECIAL = 512
MOST_NAME = 32
_OPEN = 0xFF


@lru_cache
def register_activation(logical_name: bytes) -> ObjectDefinition:
    """Return a Register activation (class 6). Slots: 2 register_assignment, 3 mask_list, 4 active_mask."""
    attributes = (
        Attribute(2, AUTHENTICATED),
        Attribute(3, AUTHENTICATED),
        Attribute(ACTIVE_MASK, AUTHENTICATED, Role.MANAGEMENT),
    )
    return ObjectDefinition(REGISTER_ACTIVATION, 0, logical_name, attributes, _methods(3))


@lru_cache
def special_days_table(logical_name: bytes) -> ObjectDefinition:
    """Return a Special days table (class 11 version 0). Slot: 2 entries."""
    return ObjectDefinition(
        SPECIAL_DAYS, 0, logical_name, (Attribute(2, AUTHENTICATED, Role.MANAGEMENT),), _methods(2)
    )


@lru_cache
def activity_calendar(logical_name: bytes) -> ObjectDefinition:
    """Return an Activity calendar (class 20 version 0). Slots: all; the passive calendar can be written."""
    attributes = [
        Attribute(index, AUTHENTICATED, Role.NOBODY if index <= DAYS else Role.MANAGEMENT)
        for index in range(NAME, ACTIVATION_TIME + 1)
    ]
    return ObjectDefinition(ACTIVITY_CALENDAR, 0, logical_name, tuple(attributes), _methods(1))


def _methods(count: int) -> tuple[Method, ...]:
    return tuple(Method(index, protection=security.AUTHENTICATED) for index in range(1, count + 1))


# --- the calendar


def calendar_values(calendar: Calendar, first: int = NAME) -> dict[int, bytes]:
    """Return the four attributes of a calendar, encoded, the first one at a number."""
    parts = (
        axdr.octet_string(calendar.name),
        axdr.array([_season(each) for each in calendar.seasons]),
        axdr.array([_week(each) for each in calendar.weeks]),
        axdr.array([_day(each) for each in calendar.days]),
    )
    return dict(enumerate(parts, first))


def _season(season: Season) -> bytes:
    return axdr.structure(*(axdr.octet_string(each) for each in (season.name, season.start, season.week)))


def _week(week: Week) -> bytes:
    return axdr.structure(axdr.octet_string(week.name), *(axdr.encode("unsigned", day) for day in week.days))


def _day(day: Day) -> bytes:
    actions = [
        axdr.structure(
            axdr.octet_string(time_of(action.second)),
            axdr.octet_string(action.table),
            axdr.encode("long-unsigned", action.script),
        )
        for action in day.actions
    ]
    return axdr.structure(axdr.encode("unsigned", day.id), axdr.array(actions))


def decode_name(data: bytes) -> bytes:
    """Return a calendar_name; raises AxdrError."""
    match axdr.decode(data):
        case bytes(name) if len(name) <= MOST_NAME:
            return name
    raise AxdrError(f"an octet-string of up to {MOST_NAME} octets expected")


def decode_seasons(data: bytes) -> tuple[Season, ...]:
    """Return a season_profile; raises AxdrError."""
    found = []
    for each in _rows(data, MOST):
        match each:
            case (bytes(name), bytes(start), bytes(week)) if len(start) == 12 and len(name) <= MOST_NAME >= len(
                week
            ):
                found.append(Season(name, _beginning(start), week))
            case _:
                raise AxdrError("a season is a structure of name, start and week")
    return tuple(found)


def decode_weeks(data: bytes) -> tuple[Week, ...]:
    """Return a week_profile_table; raises AxdrError."""
    found = []
    for each in _rows(data, MOST):
        match each:
            case (bytes(name), *days) if len(name) <= MOST_NAME and len(days) == 7 and _are_numbers(days):
                found.append(Week(name, tuple(days)))
            case _:
                raise AxdrError("a week is a structure of name and seven days")
    return tuple(found)


def decode_days(data: bytes) -> tuple[Day, ...]:
    """Return a day_profile_table; raises AxdrError."""
    found = []
    for each in _rows(data, MOST):
        match each:
            case (number, [*actions]) if len(actions) <= MOST and is_number(number, 0xFF):
                found.append(Day(number, tuple(_action(action) for action in actions)))
            case _:
                raise AxdrError("a day is a structure of id and actions")
    return tuple(found)


def _action(action: Any) -> DayAction:
    match action:
        case (bytes(time), bytes(table), script) if len(time) == 4 and len(table) == 6 and is_number(script):
            return DayAction(second_of(time), table, script)
    raise AxdrError("an action is a structure of time, script table and script")


def _beginning(start: bytes) -> bytes:
    """Return a season_start; its time is midnight, or open."""
    check_date(start[:5])
    if any(part not in (0, _OPEN) for part in start[5:9]):
        raise AxdrError("a season begins at midnight")
    return start


# --- special days


def special_days(entries: Sequence[SpecialDay]) -> bytes:
    """Return the entries of a special days table, encoded."""
    return axdr.array(
        [
            axdr.structure(
                axdr.encode("long-unsigned", each.index),
                axdr.octet_string(each.date),
                axdr.encode("unsigned", each.day),
            )
            for each in entries
        ]
    )


def decode_special_days(data: bytes) -> tuple[SpecialDay, ...]:
    """Return the entries, in the order of their indexes; raises AxdrError."""
    found = {each.index: each for each in map(_special_day, _rows(data, MOST_SPECIAL))}
    return tuple(found[index] for index in sorted(found))


def decode_special_day(data: bytes | None) -> SpecialDay:
    """Return an entry; raises AxdrError."""
    return _special_day(axdr.decode(data or axdr.NULL))


def _special_day(entry: Any) -> SpecialDay:
    match entry:
        case (index, bytes(date), day) if len(date) == 5 and is_number(index) and is_number(day, 0xFF):
            check_date(date)
            return SpecialDay(index, date, day)
    raise AxdrError("a special day is a structure of index, date and day")


# --- masks


def assignment(registers: Sequence[tuple[int, bytes]]) -> bytes:
    """Return register_assignment of classes and logical names, encoded."""
    return axdr.array(
        [axdr.structure(axdr.encode("long-unsigned", kind), axdr.octet_string(name)) for kind, name in registers]
    )


def mask_list(masks: Sequence[tuple[bytes, Sequence[int]]]) -> bytes:
    """Return mask_list of names and places in the assignment, encoded."""
    return axdr.array(
        [
            axdr.structure(
                axdr.octet_string(name), axdr.array([axdr.encode("unsigned", place) for place in places])
            )
            for name, places in masks
        ]
    )


def decode_mask(data: bytes | None) -> tuple[bytes, list[int]]:
    """Return name and places of a mask; raises AxdrError."""
    match axdr.decode(data or axdr.NULL):
        case (bytes(name), [*places]) if 0 < len(name) <= MOST_NAME and _are_numbers(places):
            return name, places
    raise AxdrError("a mask is a structure of name and places in the assignment")


def decode_register(data: bytes | None) -> tuple[int, bytes]:
    """Return class and logical name; raises AxdrError."""
    match axdr.decode(data or axdr.NULL):
        case (kind, bytes(name)) if len(name) == 6 and is_number(kind):
            return kind, name
    raise AxdrError("a register is a structure of class and logical name")


# --- parts


def time_of(second: int) -> bytes:
    """Return a second of the day as a time: hour, minute, second, hundredths."""
    return bytes((second // 3600, second // 60 % 60, second % 60, 0))


def second_of(time: bytes) -> int:
    """Return the second of the day of a time whose hour and minute are given; raises AxdrError."""
    hour, minute, second, hundredths = time
    second = 0 if second == _OPEN else second
    if hour > 23 or minute > 59 or second > 59 or not (hundredths < 100 or hundredths == _OPEN):
        raise AxdrError("no such time")
    return hour * 3600 + minute * 60 + second


def check_date(date: bytes) -> None:
    """Check a date whose parts may be open; raises AxdrError."""
    month, day, weekday = date[2:5]
    if not (1 <= month <= 12 or month >= 0xFD) or not (1 <= day <= 31 or day >= 0xFD):
        raise AxdrError("no such date")
    if not (1 <= weekday <= 7 or weekday == _OPEN):
        raise AxdrError("no such day of the week")


def _rows(data: bytes, most: int) -> list[Any]:
    value = axdr.decode(data)
    if not isinstance(value, list) or len(value) > most:
        raise AxdrError(f"an array of up to {most} entries expected")
    return value


def is_number(value: Any, most: int = 0xFFFF) -> bool:
    """Return whether a value is an integer, neither boolean nor enumerated, from 0 to ``most``."""
    return type(value) is int and 0 <= value <= most


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(is_number(value, 0xFF) for value in values)
