"""Measured load: rows of average power, one a minute (or any step that divides a day), from a CSV file.

The columns are named in the first line, separated by semicolons or commas::

    date;time;active_power_kw;reactive_power_kvar;voltage_v;current_a
    1/2/2007;00:00:00;0.326;0.128;243.150;1.400

``date`` is day/month/year or ISO 8601; one column ``datetime`` (ISO 8601, without zone) may take the place of
``date`` and ``time``. Times are local and ascending; a row is the average from its own time to the next one's.
``?`` or nothing is a missing value: it stays a gap and never becomes zero. So does a row that is not there.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec

from flexmap.mapping.data import data_folder
from flexmap.model import ConfigurationError

DAY = 86_400
MISSING = -(2**63)
"""Stands in a column where nothing was measured."""

_EPOCH = date(1970, 1, 1).toordinal()
_COLUMNS = {"active_power_kw": 6, "reactive_power_kvar": 6, "voltage_v": 3, "current_a": 3}
"""Column → decimal places kept: rows hold integers in mW, mvar, mV, mA."""
_REMEDY = "docs/configuration.md, 'Load data', describes the form"


class LoadProfile(msgspec.Struct, frozen=True):
    """Whole days of measured load, in columns of integers; MISSING where nothing was measured."""

    days: dict[int, int]
    """Local date (days since 1970-01-01) → number of the day in the columns, ascending."""
    step: int
    """Seconds from one row to the next; divides a day."""
    active: array[int]
    """Active power in mW."""
    reactive: array[int]
    """Reactive power in mvar."""
    voltage: array[int]
    """Voltage in mV."""
    current: array[int]
    """Current in mA."""

    @property
    def rows_per_day(self) -> int:
        """Rows of one day."""
        return DAY // self.step

    def row(self, second: int) -> int:
        """Return the row that covers a local time (seconds since 1970-01-01T00:00:00 local).

        A date of the file plays as it was measured; any other date plays one of the file's days in turn, so
        the time of day is always kept.
        """
        day, rest = divmod(second, DAY)
        number = self.days.get(day)
        if number is None:
            number = day % len(self.days)
        return number * self.rows_per_day + rest // self.step


def sample_load() -> LoadProfile:
    """Return the load data that come with flexmap (their notice and licence stand beside them)."""
    return read_load(data_folder("data") / "household-2007-02.csv")


def read_load(path: Path) -> LoadProfile:
    """Return the load of a CSV file, read line by line.

    Raises ConfigurationError naming file, line, field and the way out.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            separator = ";" if ";" in head else ","
            return _Reader(str(path), next(csv.reader([head], delimiter=separator), [])).read(
                csv.reader(file, delimiter=separator)
            )
    except OSError as error:
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=_REMEDY) from None
    except UnicodeDecodeError:
        raise ConfigurationError("is not UTF-8 text", where=str(path), remedy=_REMEDY) from None
    except csv.Error as error:
        raise ConfigurationError(f"is not a CSV file: {error}", where=str(path), remedy=_REMEDY) from None


class _Reader:
    """Reads the rows of one file."""

    def __init__(self, file: str, head: list[str]) -> None:
        self._file = file
        self._line = 1
        self._index = {name.strip().lower(): position for position, name in enumerate(head)}
        if "datetime" not in self._index and not {"date", "time"} <= self._index.keys():
            raise self._error("date", "no columns 'date' and 'time', nor 'datetime', in the first line", _REMEDY)
        for name in ("active_power_kw", "reactive_power_kvar"):
            if name not in self._index:
                raise self._error(name, "no such column in the first line", _REMEDY)
        self._columns = {name: array("q") for name in _COLUMNS}
        self._times = array("q")
        self._dates: dict[str, int] = {}

    def read(self, rows: Iterator[list[str]]) -> LoadProfile:
        for line, row in enumerate(rows, start=2):
            if row:
                self._line = line
                self._add(row)
        if not self._times:
            raise self._error("date", "no rows below the first line", "give at least one day of load")
        step = self._step()
        return self._whole_days(step)

    def _error(self, field: str, what: str, remedy: str) -> ConfigurationError:
        where = f"{self._file}: line {self._line}, field '{field}'"
        return ConfigurationError(what, where=where, remedy=remedy)

    def _add(self, row: list[str]) -> None:
        if len(row) != len(self._index):
            what = f"{len(row)} values, where the first line names {len(self._index)} columns"
            raise self._error("row", what, "separate the values as in the first line")
        time = self._time(row)
        if self._times and time <= self._times[-1]:
            raise self._error(
                "time",
                "is not after the row before",
                "sort the rows by time; write the hour that occurs twice in autumn in standard time",
            )
        self._times.append(time)
        for name, decimals in _COLUMNS.items():
            position = self._index.get(name)
            text = "?" if position is None else row[position].strip()
            self._columns[name].append(self._number(name, text, decimals))

    def _time(self, row: list[str]) -> int:
        if "datetime" in self._index:
            text = row[self._index["datetime"]].strip()
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise self._error("datetime", f"'{text}' is no time", "write 2007-02-01T00:00:00") from None
            if moment.tzinfo is not None:
                raise self._error("datetime", f"'{text}' names a zone", "write local time without a zone")
            return (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)  # noqa: DTZ001 - local by definition
        text = row[self._index["time"]].strip()
        try:
            hour, minute, second = (int(part) for part in (*text.split(":"), "0")[:3])
        except ValueError:
            hour = minute = second = -1
        if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
            raise self._error("time", f"'{text}' is no time of day", "write 23:59:00")
        return self._date(row[self._index["date"]].strip()) * DAY + hour * 3600 + minute * 60 + second

    def _date(self, text: str) -> int:
        known = self._dates.get(text)
        if known is None:
            try:
                if "/" in text:
                    day, month, year = (int(part) for part in text.split("/"))
                    moment = date(year, month, day)
                else:
                    moment = date.fromisoformat(text)
            except ValueError:
                remedy = "write day/month/year (1/2/2007) or 2007-02-01"
                raise self._error("date", f"'{text}' is no date", remedy) from None
            known = self._dates[text] = moment.toordinal() - _EPOCH
        return known

    def _number(self, name: str, text: str, decimals: int) -> int:
        if text in {"?", ""}:
            return MISSING
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > 1e9:
            remedy = "write a number with a decimal point, or ? where nothing was measured"
            raise self._error(name, f"'{text}' is no number", remedy)
        return round(number * int(10**decimals))

    def _step(self) -> int:
        step = min((later - earlier for earlier, later in pairwise(self._times)), default=DAY)
        if DAY % step or any(time % step for time in self._times):
            what = f"the smallest step is {step} s, but the rows do not stand on whole steps of a day"
            raise self._error("time", what, "give rows at a regular step that divides a day, such as 60 or 900 s")
        return step

    def _whole_days(self, step: int) -> LoadProfile:
        days: dict[int, int] = {}
        for time in self._times:
            days.setdefault(time // DAY, len(days))
        rows = DAY // step
        columns = {name: array("q", [MISSING]) * (rows * len(days)) for name in _COLUMNS}
        for position, time in enumerate(self._times):
            day, rest = divmod(time, DAY)
            row = days[day] * rows + rest // step
            for name, column in self._columns.items():
                columns[name][row] = column[position]
        return LoadProfile(
            days,
            step,
            columns["active_power_kw"],
            columns["reactive_power_kvar"],
            columns["voltage_v"],
            columns["current_a"],
        )
