"""Schedule (class 10, IEC 62056-6-2): scripts at times of days of the week, special days and a span of dates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from flexmap.dlms import axdr, security
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.dlms.tariff_classes import check_date, is_number, second_of, time_of

SCHEDULE = 10
ENABLE, INSERT, DELETE = 1, 2, 3
"""Methods."""
MOST = 200
ANY_TIME = 0xFFFF
"""A validity_window without an end."""
_OPEN_YEAR, _OPEN = 0xFFFF, 0xFF
_WEEK = 7
"""Bits of exec_weekdays; there are clients that fill the octet up and count the filling too."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """schedule_table_entry."""

    index: int
    enable: bool
    table: bytes
    """Logical name of the script table."""
    script: int
    second: int
    """Of the local day."""
    window: int
    """Minutes for which it is made up for after a standstill."""
    weekdays: str
    """A bit for each day from Monday on."""
    special: str
    """A bit for each day_id of the special days from 1 on."""
    begin: bytes
    """Dates, parts open, from which and up to which it holds, both included."""
    end: bytes

    def on(self, day: dt.date, special: int | None) -> bool:
        """Return whether it is executed on a local day, whose day_id is ``special`` if it is a special day."""
        if not self.enable or not _date(self.begin, dt.date.min) <= day <= _date(self.end, dt.date.max):
            return False
        if special is not None and 0 < special <= len(self.special):
            return self.special[special - 1] == "1"
        return self.weekdays[day.weekday()] == "1"

    def encode(self) -> bytes:
        """Return it as a structure."""
        return axdr.structure(
            axdr.encode("long-unsigned", self.index),
            axdr.encode("boolean", self.enable),
            axdr.octet_string(self.table),
            axdr.encode("long-unsigned", self.script),
            axdr.octet_string(time_of(self.second)),
            axdr.encode("long-unsigned", self.window),
            axdr.encode("bit-string", self.weekdays),
            axdr.encode("bit-string", self.special),
            axdr.octet_string(self.begin),
            axdr.octet_string(self.end),
        )


@lru_cache
def schedule_table(logical_name: bytes) -> ObjectDefinition:
    """Return a Schedule (class 10 version 0). Slot: 2 entries."""
    methods = tuple(Method(index, protection=security.AUTHENTICATED) for index in (ENABLE, INSERT, DELETE))
    return ObjectDefinition(SCHEDULE, 0, logical_name, (Attribute(2, AUTHENTICATED, Role.MANAGEMENT),), methods)


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """Return the entries, encoded."""
    return axdr.array([entry.encode() for entry in entries])


def decode_entries(data: bytes) -> tuple[Entry, ...]:
    """Return the entries in the order of their indexes; raises AxdrError."""
    value = axdr.decode(data)
    if not isinstance(value, list) or len(value) > MOST:
        raise AxdrError(f"an array of up to {MOST} entries expected")
    found = {entry.index: entry for entry in map(_entry, value)}
    return tuple(found[index] for index in sorted(found))


def decode_entry(data: bytes | None) -> Entry:
    """Return the parameter of ``insert``; raises AxdrError."""
    return _entry(axdr.decode(data or axdr.NULL))


def decode_ranges(data: bytes | None) -> tuple[int, ...]:
    """Return the indexes that are the parameter of ``enable_disable`` (four) or ``delete`` (two)."""
    value = axdr.decode(data or axdr.NULL)
    if not isinstance(value, tuple) or not all(is_number(each) for each in value):
        raise AxdrError("a structure of first and last indexes expected")
    return tuple(int(each) for each in value if isinstance(each, int))


def _entry(value: Any) -> Entry:
    match value:
        case (index, bool(enable), bytes(table), script, bytes(time), window, *rest) if (
            len(table) == 6 and len(time) == 4 and all(is_number(each) for each in (index, script, window))
        ):
            match rest:
                case [axdr.Bits() as week, axdr.Bits() as special, bytes(begin), bytes(end)] if (
                    len(week) in (_WEEK, _WEEK + 1) and len(special) <= 0xFF and len(begin) == len(end) == 5
                ):
                    for date in (begin, end):
                        check_date(date)
                        _date(date, dt.date.min)
                    times = (second_of(time), window)
                    return Entry(index, enable, table, script, *times, str(week[:_WEEK]), str(special), begin, end)
    raise AxdrError("schedule_table_entry expected")


def _date(date: bytes, default: dt.date) -> dt.date:
    """Return a date; ``default`` where parts of it are open."""
    year = int.from_bytes(date[:2], "big")
    if year == _OPEN_YEAR or _OPEN in date[2:4]:
        return default
    try:
        return dt.date(year, date[2], date[3])
    except ValueError:
        raise AxdrError("no such date") from None
