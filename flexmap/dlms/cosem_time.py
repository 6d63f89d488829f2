"""COSEM date-time: twelve octets (IEC 62056-6-2 clause 4.1.6.1) to and from epoch milliseconds.

Layout: year (2), month, day of month, day of week (1 Monday … 7 Sunday), hour, minute, second, hundredths,
deviation (2, signed), clock status. 0xFF (year 0xFFFF, deviation 0x8000) means not specified. The deviation is
the minutes to *add to local time to get UTC*: Central European Time is −60.
"""

from __future__ import annotations

import datetime as dt
import struct
from functools import lru_cache

import msgspec

from flexmap.model.error import RemoteError

NOT_SPECIFIED = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00\xff"
"""A date-time with no field specified."""

_LAYOUT = struct.Struct(">HBBBBBBBhB")
_DATE, _TIME = struct.Struct(">HBBB"), struct.Struct(">BBBBhB")
"""The same in two parts."""
_DAY = 8_640_000
"""Hundredths of a second."""
_FIRST_DAY = dt.date(1970, 1, 1).toordinal()
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNSPECIFIED_DEVIATION = -0x8000


class CosemTimeError(RemoteError):
    """A date-time is malformed or does not name an instant."""


class DateTime(msgspec.Struct, frozen=True):
    """The fields of a date-time; ``None`` where not specified."""

    year: int | None
    month: int | None
    """1–12; 0xFD daylight saving end, 0xFE daylight saving begin."""
    day: int | None
    """1–31; 0xFE last day of the month, 0xFD second last."""
    day_of_week: int | None
    hour: int | None
    minute: int | None
    second: int | None
    hundredths: int | None
    deviation: int | None
    """Minutes from local time to UTC."""
    status: int | None
    """Clock status bits."""

    def epoch_ms(self, default_deviation: int = 0) -> int:
        """Return milliseconds since 1970-01-01T00:00:00 UTC.

        ``default_deviation`` stands in where none is specified; unspecified seconds and hundredths count as 0.
        Raises CosemTimeError where the date, hour or minute is not specified or impossible.
        """
        if None in (self.year, self.month, self.day, self.hour, self.minute):
            raise CosemTimeError(f"date-time without full date and time: {self}")
        try:
            local = dt.datetime(
                self.year or 0,
                self.month or 0,
                self.day or 0,
                self.hour or 0,
                self.minute or 0,
                self.second or 0,
                (self.hundredths or 0) * 10_000,
                tzinfo=dt.UTC,
            )
        except ValueError as error:
            raise CosemTimeError(f"impossible date-time: {error}") from None
        deviation = default_deviation if self.deviation is None else self.deviation
        return (local - _EPOCH) // dt.timedelta(milliseconds=1) + deviation * 60_000


def decode(octets: bytes) -> DateTime:
    """Return the fields of twelve octets; raises CosemTimeError for another length."""
    if len(octets) != 12:
        raise CosemTimeError(f"a date-time has 12 octets, not {len(octets)}")
    year, *fields, deviation, status = _LAYOUT.unpack(octets)
    month, day, weekday, hour, minute, second, hundredths = (None if f == 0xFF else f for f in fields)
    return DateTime(
        year=None if year == 0xFFFF else year,
        month=month,
        day=day,
        day_of_week=weekday,
        hour=hour,
        minute=minute,
        second=second,
        hundredths=hundredths,
        deviation=None if deviation == _UNSPECIFIED_DEVIATION else deviation,
        status=None if status == 0xFF else status,
    )


def to_epoch_ms(octets: bytes, default_deviation: int = 0) -> int:
    """Return epoch milliseconds of twelve octets; raises CosemTimeError if they do not name an instant."""
    return decode(octets).epoch_ms(default_deviation)


def encode(epoch_ms: int, deviation: int = 0, status: int = 0) -> bytes:
    """Return the twelve octets of an instant as a clock with that deviation (minutes to UTC) shows it.

    Raises CosemTimeError outside the years 1–9999.
    """
    day, of_day = divmod(epoch_ms // 10 - deviation * 6000, _DAY)
    minutes, hundredths = divmod(of_day, 6000)
    return _date(day) + _TIME.pack(
        minutes // 60, minutes % 60, hundredths // 100, hundredths % 100, deviation, status
    )


@lru_cache(maxsize=1024)
def _date(day: int) -> bytes:
    """Return the five octets of the date so many days after 1970-01-01."""
    try:
        date = dt.date.fromordinal(_FIRST_DAY + day)
    except (ValueError, OverflowError):
        raise CosemTimeError(f"day {day} after 1970-01-01 is outside the years 1-9999") from None
    return _DATE.pack(date.year, date.month, date.day, date.isoweekday())


def encode_fields(fields: DateTime) -> bytes:
    """Return the twelve octets of a date-time given by its fields."""
    small = (
        0xFF if field is None else field
        for field in (
            fields.month,
            fields.day,
            fields.day_of_week,
            fields.hour,
            fields.minute,
            fields.second,
            fields.hundredths,
        )
    )
    return _LAYOUT.pack(
        0xFFFF if fields.year is None else fields.year,
        *small,
        _UNSPECIFIED_DEVIATION if fields.deviation is None else fields.deviation,
        0xFF if fields.status is None else fields.status,
    )
