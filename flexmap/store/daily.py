"""The daily profile: rows of load profile 1 that stand at local midnight, with the status of their whole day.

Nothing is stored twice: a row that is made again or pruned in load profile 1 is so here too.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from flexmap.mapping.zone import Zone
from flexmap.store.meterlog import MeterLog
from flexmap.store.profile import AmrStatus, LoadProfile, ProfileRow
from flexmap.store.read import Reader
from flexmap.store.settings import StoreSettings

_PROFILE = LoadProfile.FIRST


class DailyRows:
    """The daily rows of one meter, oldest first; times in ms."""

    def __init__(self, reader: Reader, log: MeterLog, settings: StoreSettings) -> None:
        self._reader = reader
        self._log = log
        self._zone = Zone(settings.time_zone)
        self._period = settings.profile_period

    def count(self, start: int | None = None, end: int | None = None) -> int:
        """Return how many rows have start ≤ time ≤ end."""
        return sum(1 for _ in self._times(start, end))

    def rows(self, start: int | None = None, end: int | None = None) -> Iterator[ProfileRow]:
        """Iterate over the rows with start ≤ time ≤ end."""
        return self._filled(self._times(start, end))

    def entries(self, first: int, last: int) -> Iterator[ProfileRow]:
        """Iterate over rows by number: from 1, the oldest, to ``last`` with it; 0 is the newest."""
        numbered = enumerate(self._times(None, None), 1)
        return self._filled(time for number, time in numbered if number >= first and (not last or number <= last))

    def _times(self, start: int | None, end: int | None) -> Iterator[int]:
        """Iterate over the midnights that have a row: each is one look-up in the index."""
        span = self._reader.profile_span(self._log, _PROFILE)
        if span is None:
            return
        first = max(span[0], span[0] if start is None else start)
        last = min(span[1], span[1] if end is None else end)
        midnight = self._zone.next_midnight(-(-first // 1000) - 1)
        while midnight * 1000 <= last:
            if self._reader.profile_count(self._log, _PROFILE, midnight * 1000, midnight * 1000):
                yield midnight * 1000
            midnight = self._zone.next_midnight(midnight)

    def _filled(self, times: Iterator[int]) -> Iterator[ProfileRow]:
        for time in times:
            for row in self._reader.profile_rows(self._log, _PROFILE, time, time):
                yield self._of_day(row)

    def _of_day(self, row: ProfileRow) -> ProfileRow:
        begin = self._zone.midnight(row.time // 1000 - 1) * 1000
        count, status = self._reader.profile_status(self._log, _PROFILE, begin, row.time)
        if count * self._period * 1000 < row.time - begin:
            status |= AmrStatus.INCOMPLETE
        return msgspec.structs.replace(row, status=status)
