"""Local time on the DLMS face: what clocks, capture times and profile rows show, and what selections mean."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import msgspec

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.axdr import Value
from flexmap.dlms.objects import ObjectDefinition, Schema, SlotValue, Stored
from flexmap.dlms.selection import RangeSelection
from flexmap.mapping.quality import CLOCK_DAYLIGHT_SAVING
from flexmap.mapping.zone import Change, Zone

ZONE, BEGIN, END, DEVIATION, ENABLED = 3, 5, 6, 7, 8
"""Attributes of a Clock that depend on the zone: time_zone, daylight_savings_begin, _end, _deviation, _enabled."""
OF_ZONE = (ZONE, BEGIN, END, DEVIATION, ENABLED)


class LocalTime:
    """Date-times of a zone: time stamps in ms since 1970 UTC, statuses as the meter told them."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    def value(self, time: int, status: int = 0) -> bytes:
        """Return a time stamp as Clock and capture_time have it, encoded."""
        second = time // 1000
        return classes.time_value(time, self.zone.deviation(second), self.zone.clock_status(second, status))

    def status(self, time: int, status: int) -> bytes:
        """Return the clock status, encoded."""
        return axdr.encode("unsigned", self.zone.clock_status(time // 1000, status))

    def clock(self, *, settable: bool = False) -> ObjectDefinition:
        """Return the Clock object. Slots: 2 time, 4 status and, but in UTC, those of OF_ZONE."""
        return classes.clock(time_zone=0 if self.zone.is_utc else None, settable=settable)

    def slots(self, schema: Schema, now: Callable[[], int]) -> list[tuple[int, SlotValue]]:
        """Return what stands in the slots of OF_ZONE of a schema's clock; ``now`` tells the time that it shows."""
        indexes = () if self.zone.is_utc else OF_ZONE
        return [
            (schema.slot(classes.CLOCK, classes.CLOCK_LN, index), partial(self._of_zone, now, index))
            for index in indexes
        ]

    def _of_zone(self, now: Callable[[], int], index: int) -> Stored:
        time = now()
        if time <= 0:
            return DataAccessResult.TEMPORARY_FAILURE
        second = time // 1000
        changes = self.zone.changes(second)
        if index == ZONE:
            return axdr.encode("long", self.zone.normal(second))
        if index == ENABLED:
            return axdr.encode("boolean", changes is not None)
        if index == DEVIATION:
            return axdr.encode("integer", changes[0].deviation - changes[1].deviation if changes else 0)
        if changes is None:
            return axdr.octet_string(cosem_time.NOT_SPECIFIED)
        return axdr.octet_string(_change(changes[index - BEGIN], daylight=index == END))

    def period(self, selection: RangeSelection) -> tuple[int | None, int | None]:
        """Return both ends of a selection in ms, both included; None is open.

        An end without deviation is local time: in the hour that comes twice the lower end is the first one, the
        upper end the last one, unless the end's clock status says which. Raises CosemTimeError or AxdrError.
        """
        return msgspec.structs.replace(
            selection,
            from_value=self._with_deviation(selection.from_value, last=False),
            to_value=self._with_deviation(selection.to_value, last=True),
        ).period()

    def instant(self, octets: bytes) -> int:
        """Return the instant in ms that a date-time names; without deviation it is local time.

        In the hour that comes twice it is the first one, unless its clock status says which.
        Raises CosemTimeError.
        """
        found = self._with_deviation(octets, last=False)
        return cosem_time.to_epoch_ms(found if isinstance(found, bytes) else octets)

    def _with_deviation(self, end: Value, *, last: bool) -> Value:
        if not isinstance(end, bytes) or end == cosem_time.NOT_SPECIFIED or self.zone.is_utc:
            return end
        fields = cosem_time.decode(end)
        if fields.deviation is not None:
            return end
        local = fields.epoch_ms() // 1000
        daylight = None if fields.status is None else bool(fields.status & CLOCK_DAYLIGHT_SAVING)
        second = self.zone.of_local(local, last=last, daylight=daylight)
        return cosem_time.encode_fields(msgspec.structs.replace(fields, deviation=(second - local) // 60))


def _change(change: Change, *, daylight: bool) -> bytes:
    local: dt.datetime = change.local
    return cosem_time.encode_fields(
        cosem_time.DateTime(
            year=local.year,
            month=local.month,
            day=local.day,
            day_of_week=local.isoweekday(),
            hour=local.hour,
            minute=local.minute,
            second=local.second,
            hundredths=0,
            deviation=change.deviation,
            status=CLOCK_DAYLIGHT_SAVING if daylight else 0,
        )
    )
