"""Load profiles that head-ends may change (class 7): what is captured and how often, reset and capture.

A change begins an empty buffer (IEC 62056-6-2, Profile generic: reset). The meter's own load profile goes on
beside it: demands, billing and the daily profile do not depend on what a head-end captures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from twisted.logger import Logger

from flexmap.dlms import axdr, classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import ObjectDefinition, Rows, RowSource, SlotValue
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.selection import CaptureObject, Selection, decode_capture_objects
from flexmap.faces.dlms.buffers import UNENCODABLE, Buffer, cell, event_rows
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.objects import (
    CLOCK_COLUMN,
    DAILY,
    METER_LOGS,
    PROFILE,
    PROFILE_2,
    MeterObjects,
    ProfileObject,
    event_log_name,
    profile_columns,
    status_column,
)
from flexmap.model import Meter
from flexmap.store import AmrStatus, CaptureSetup, LoadProfile, ProfileRow, Store
from flexmap.store.captures import CHANGED

log = Logger(namespace="flexmap.dlms")

COLUMNS, PERIOD, ENTRIES = 3, 4, 8
"""Attributes: capture_objects, capture_period, profile_entries."""
RESET, CAPTURE = 1, 2
"""Methods."""
MOST_COLUMNS = 64
LEAST_PERIOD = 60
_HOUR = 3600
_DAYLIGHT = int(AmrStatus.DAYLIGHT_SAVING)
_UNSIGNED = axdr.encoder("unsigned")
_LONG = axdr.encoder("double-long-unsigned")


class LoadProfileObject:
    """One load profile of a meter (implements RowSource and flexmap.faces.dlms.live.LiveObject)."""

    def __init__(self, profile: ProfileObject, store: Store, meter: str, objects: MeterObjects) -> None:
        default = profile_columns(profile, objects.captured)
        self.definition: ObjectDefinition = _definition(profile, default)
        self._profile = profile
        self._own = LoadProfile.FIRST if profile is PROFILE else LoadProfile.SECOND
        self._store = store
        self._meter = meter
        self._objects = objects
        self._default = default
        self._show()

    def begin(self) -> None:
        """Do nothing: the store captures."""

    def stop(self) -> None:
        """Do nothing."""

    def select(self, selection: Selection | None) -> Rows:
        """Return the chosen rows."""
        return self._buffer.select(selection)

    def last_status(self) -> bytes:
        """Return the status of the newest row, encoded; 0 if there is none."""
        row = self._store.profile_newest(self._meter, self._table)
        return _UNSIGNED(0 if row is None else shown_status(row, self._objects.local))

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode what is captured, how often, and how many rows are kept."""
        return {
            COLUMNS: lambda: classes.capture_objects(self._columns),
            PERIOD: lambda: _LONG(self._period),
            ENTRIES: lambda: _LONG(self._profile.entries * self._profile.period // (self._period or LEAST_PERIOD)),
        }

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Capture something else, or at another period: the buffer is empty then."""
        columns, period = self._columns, self._period
        try:
            if attribute == COLUMNS:
                columns = decode_capture_objects(data)
            elif attribute == PERIOD:
                period = _period(data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        cause = self._why_not(columns, period)
        if cause:
            log.info(
                "{meter}: profile {name} is not changed: {cause}", meter=self._meter, name=self._own, cause=cause
            )
            return DataAccessResult.OTHER_REASON
        return DataAccessResult.SUCCESS if self._change(columns, period) else DataAccessResult.TEMPORARY_FAILURE

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Empty the buffer, or capture a row of the meter's newest sample."""
        del data, client
        if method == RESET:
            done = self._change(self._columns, self._period)
        elif method == CAPTURE:
            # Rows that the meter has not made by itself stand in the head-end's own buffer.
            changed = self._store.captures.of(self._meter, self._own) is not None
            done = (
                changed or self._change(self._columns, self._period, keep=True)
            ) and self._store.captures.capture(self._meter, self._own)
        else:
            return ActionResult.OBJECT_UNDEFINED
        return ActionResult.SUCCESS if done else ActionResult.TEMPORARY_FAILURE

    def _why_not(self, columns: Sequence[CaptureObject], period: int) -> str:
        """Return why these columns cannot be captured, empty if they can."""
        known = {CLOCK_COLUMN, status_column(self._profile), *self._objects.capturable}
        strange = next((column for column in columns if column not in known), None)
        if strange is not None:
            return f"{strange} cannot be captured"
        if CLOCK_COLUMN not in columns or len(set(columns)) < len(columns) or len(columns) > MOST_COLUMNS:
            return f"the clock must be captured, nothing twice, {MOST_COLUMNS} columns at most"
        if period and not (LEAST_PERIOD <= period <= _HOUR and _HOUR % period == 0):
            return f"a period of {period} s does not divide an hour, or is less than a minute"
        return ""

    def _change(self, columns: Sequence[CaptureObject], period: int, *, keep: bool = False) -> bool:
        newest = self._store.newest(self._meter)
        since = 0 if newest is None else newest.time // 1000
        names, _ = row_encoder(columns, self._profile, self._objects)
        setup = CaptureSetup(names, period, since, classes.capture_objects(columns))
        done = self._store.captures.change(self._meter, self._own, setup, keep=keep)
        if done:
            self._show()
        return done

    def _show(self) -> None:
        """Show the buffer as it is captured now."""
        setup = self._store.captures.of(self._meter, self._own)
        self._columns: tuple[CaptureObject, ...] = self._default
        self._period, self._table = self._profile.period, self._own
        if setup is not None:
            self._table, self._period = CHANGED[self._own], setup.period
            self._columns = self._kept(setup.objects)
        names, encode = row_encoder(self._columns, self._profile, self._objects)
        store, meter, table = self._store, self._meter, self._table
        self._buffer = Buffer[ProfileRow](
            self._columns,
            encode,
            lambda start, end: store.profile_count(meter, start, end, table),
            lambda start, end: store.profile_rows(meter, start, end, table, names),
            lambda first, last: store.profile_entries(meter, first, last, table, names),
            local=self._objects.local,
        )

    def _kept(self, octets: bytes) -> tuple[CaptureObject, ...]:
        """Return the columns that were kept, but for those of points that the meter no longer has."""
        known = {CLOCK_COLUMN, status_column(self._profile), *self._objects.capturable}
        return tuple(column for column in decode_capture_objects(octets) if column in known)


@lru_cache(256)
def _definition(profile: ProfileObject, columns: tuple[CaptureObject, ...]) -> ObjectDefinition:
    return classes.profile_generic(
        profile.logical_name, columns, capture_period=profile.period, entries=profile.entries, changeable=True
    )


@lru_cache(256)  # nearly all meters of a type have the same
def row_encoder(
    columns: tuple[CaptureObject, ...], profile: ProfileObject, objects: MeterObjects
) -> tuple[tuple[str, ...], Callable[[ProfileRow], list[bytes]]]:
    """Return the points that a profile's rows must have, in their order, and what encodes a row's columns."""
    local, status = objects.local, status_column(profile)
    captured = {column: objects.capturable[column] for column in columns if column in objects.capturable}
    names = tuple(dict.fromkeys(each.point for each in captured.values()))
    own = {
        CLOCK_COLUMN: lambda row: local.value(row.time, row.clock_status),
        status: lambda row: _UNSIGNED(shown_status(row, local)),
    }
    plan: list[tuple[Callable[[Any], bytes], int | None]] = [
        (captured[column].encode, names.index(captured[column].point))
        if column in captured
        else (own[column], None)
        for column in columns
    ]

    def encode(row: ProfileRow) -> list[bytes]:
        values = row.values
        try:
            if None not in values:
                return [each(row if place is None else values[place]) for each, place in plan]
        except UNENCODABLE:
            pass
        return [each(row) if place is None else cell(each, values[place]) for each, place in plan]

    return names, encode


def shown_status(row: ProfileRow, local: LocalTime) -> int:
    """Return the status with daylight saving as the zone has it; in UTC as the meter had it."""
    zone = local.zone
    if zone.is_utc:
        return row.status
    return row.status & ~_DAYLIGHT | (_DAYLIGHT if zone.daylight(row.time // 1000) else 0)


def _period(data: bytes) -> int:
    value = axdr.decode(data)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise AxdrError("seconds expected")
    return value


def make_buffers(store: Store, meter: Meter, objects: MeterObjects) -> dict[bytes, RowSource]:
    """Return the buffers of a meter's load profiles, daily profile and event logs, by logical name."""
    buffers: dict[bytes, RowSource] = {
        profile.logical_name: LoadProfileObject(profile, store, meter.id, objects)
        for profile in (PROFILE, PROFILE_2)
    }
    buffers[DAILY.logical_name] = _daily(store, meter.id, objects)
    for event_log in METER_LOGS:
        buffers[event_log_name(event_log)] = event_rows(store, meter.id, event_log, objects.local)
    return buffers


def _daily(store: Store, meter: str, objects: MeterObjects) -> RowSource:
    columns = profile_columns(DAILY, objects.captured)
    _, encode = row_encoder(columns, DAILY, objects)
    return Buffer[ProfileRow](
        columns,
        encode,
        lambda start, end: store.daily(meter).count(start, end),
        lambda start, end: store.daily(meter).rows(start, end),
        lambda first, last: store.daily(meter).entries(first, last),
        local=objects.local,
    )
