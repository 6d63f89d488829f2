"""What of one meter is not yet in the file: samples of open blocks and the running profile periods."""

from __future__ import annotations

from flexmap.model import LocalError, MeterType, Sample
from flexmap.store.periods import PeriodLog
from flexmap.store.settings import StoreSettings

SLOT = 60
"""Seconds of a block; a constant of the file's layout."""
MOST_SLOTS = 120
"""Blocks kept in memory for one meter while the file cannot be written."""


def slot_of(row: int, second: int) -> int:
    """Return the slot that a second belongs to, of the meter with that id in the file.

    Meters end their blocks at different seconds of the minute, so that packing is spread evenly.
    """
    return (second + row * 7 % SLOT) // SLOT


class MeterLog:
    """Sorts samples into slots of a minute, each second once, whatever order they come in."""

    def __init__(self, meter: str, row: int, meter_type: MeterType, settings: StoreSettings) -> None:
        self.meter = meter
        self.row = row
        """Id of the meter in the file."""
        self.points = tuple(point.name for point in meter_type.points)
        self.profile_points = tuple(name for name in settings.profile_points if name in meter_type.index)
        self.columns = tuple(meter_type.index[name] for name in self.profile_points)
        self.layout = 0
        self.open: dict[int, dict[int, Sample]] = {}
        """Samples by slot and second that are not in the file."""
        self.newest: Sample | None = None
        self.stored_slot = -1
        """The last slot that the file has."""
        self.revision = 0
        """Rises when a row of load profile 1 is written."""
        self.resuming = False
        """Whether the next sample in order ends the gap since the last run."""
        self.periods = [
            PeriodLog(profile, period, settings.sample_interval, self.columns)
            for profile, period in settings.periods.items()
        ]

    def slot(self, second: int) -> int:
        """Return the slot that a second belongs to."""
        return slot_of(self.row, second)

    def start_of(self, slot: int) -> int:
        """Return the first second of a slot."""
        return slot * SLOT - self.row * 7 % SLOT

    def add(self, sample: Sample) -> bool:
        """Take a sample; the first one of a second stays. Return whether it was taken."""
        if len(sample.values) != len(self.points):
            raise LocalError(
                f"sample of '{self.meter}' has {len(sample.values)} values, its type has {len(self.points)} points"
            )
        second = sample.time // 1000
        seconds = self.open.setdefault(self.slot(second), {})
        if seconds.setdefault(second, sample) is not sample:
            return False
        if self.newest is not None and second <= self.newest.time // 1000:
            for late in self.periods:
                late.touch(second)
        else:
            self.newest = sample
            for period in self.periods:
                period.add(second, sample)
        return True

    def resume(self, newest: Sample) -> None:
        """Go on after the newest sample that the blocks of an earlier run have."""
        self.newest = newest
        self.stored_slot = self.slot(newest.time // 1000)
        for period in self.periods:
            period.touch(newest.time // 1000)

    def sealed(self) -> list[int]:
        """Return the slots that wait for nothing: full, or with a newer slot begun."""
        if self.newest is None or not self.open:
            return []
        present = self.slot(self.newest.time // 1000)
        return sorted(slot for slot, seconds in self.open.items() if slot < present or len(seconds) >= SLOT)

    def drop_oldest(self) -> int:
        """Forget the oldest slots above MOST_SLOTS; return how many samples are lost."""
        lost = 0
        while len(self.open) > MOST_SLOTS:
            lost += len(self.open.pop(min(self.open)))
        return lost
