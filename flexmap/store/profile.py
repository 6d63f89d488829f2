"""The load profile: one row for each ended period, captured from the samples."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import msgspec

from flexmap.mapping.quality import CLOCK_DAYLIGHT_SAVING, CLOCK_INVALID, CLOCK_INVALID_STATUS
from flexmap.model import EventCode, Sample, Value, quality


class AmrStatus(enum.IntFlag):
    """Status word of a profile row, with the bits that companion specifications commonly use (``0-0:96.10.1``)."""

    CRITICAL_ERROR = 1
    CLOCK_INVALID = 2
    DATA_INVALID = 4
    """A register was not valid at the end of the period, or did not count all the time."""
    DAYLIGHT_SAVING = 8
    INCOMPLETE = 16
    """Samples of the period are missing from the store (a spare bit there, flexmap's own use)."""
    CLOCK_ADJUSTED = 32
    POWER_DOWN = 128


class LoadProfile(enum.StrEnum):
    """A profile that is captured period by period; its value names its table."""

    FIRST = "profile"
    """Load profile 1, quarters of an hour."""
    SECOND = "profile_2"
    """Load profile 2, minutes."""
    BILLING = "billing"
    """Ends of billing periods: a row when one is asked for."""
    CAPTURED = "captured"
    """Load profile 1 as a head-end has changed it; FIRST goes on beside it."""
    CAPTURED_2 = "captured_2"
    """Load profile 2 as a head-end has changed it."""


class ProfileRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of a meter's load profile."""

    meter: str
    time: int
    """End of the period, ms since 1970-01-01T00:00:00 UTC."""
    status: int
    """Bits of AmrStatus."""
    clock_status: int
    """COSEM clock status at the capture."""
    values: tuple[Value, ...]
    """Registers at the end of the period, in the order of ``Store.profile_points``; None where missing."""


_OF_EVENT = {
    EventCode.POWER_DOWN: AmrStatus.POWER_DOWN,
    EventCode.POWER_UP: AmrStatus.POWER_DOWN,
    EventCode.CLOCK_ADJUSTED_OLD: AmrStatus.CLOCK_ADJUSTED,
    EventCode.CLOCK_ADJUSTED_NEW: AmrStatus.CLOCK_ADJUSTED,
}


def period_end(second: int, period: int) -> int:
    """Return the end of the period that a second belongs to; an end belongs to the period it ends."""
    return -(-second // period) * period


class Capture:
    """Collects the samples of one period, in order of time."""

    def __init__(self, end: int, columns: Sequence[int]) -> None:
        self.end = end
        """Second at which the period ends."""
        self.count = 0
        self._columns = columns
        self._last: Sample | None = None
        self._status = 0

    def add(self, sample: Sample) -> None:
        """Take the next sample."""
        self.count += 1
        self._last = sample
        if sample.clock_status:
            if sample.clock_status & (CLOCK_INVALID | CLOCK_INVALID_STATUS):
                self._status |= AmrStatus.CLOCK_INVALID
            if sample.clock_status & CLOCK_DAYLIGHT_SAVING:
                self._status |= AmrStatus.DAYLIGHT_SAVING
        if any(sample.quality) and any(
            quality.validity(sample.quality[column]) != quality.GOOD for column in self._columns
        ):
            self._status |= AmrStatus.DATA_INVALID

    def row(self, complete: bool, events: Iterable[int]) -> ProfileRow | None:
        """Return the row, given the codes of the period's events; None if there was no sample."""
        last = self._last
        if last is None:
            return None
        status = self._status if complete else self._status | AmrStatus.INCOMPLETE
        for code in events:
            status |= _OF_EVENT.get(EventCode(code), 0)
        values = tuple(
            last.values[column] if quality.validity(last.quality[column]) != quality.INVALID else None
            for column in self._columns
        )
        return ProfileRow(last.meter, self.end * 1000, int(status), last.clock_status, values)
