"""What of one profile of a meter is not yet in the file: the running period, rows to be written or made again."""

from __future__ import annotations

from collections.abc import Sequence

from flexmap.model import Sample
from flexmap.store.profile import Capture, LoadProfile, period_end


class PeriodLog:
    """Captures the samples of one profile, period by period."""

    def __init__(
        self, profile: LoadProfile, period: int, sample_interval: int, columns: Sequence[int], since: int = 0
    ) -> None:
        """``columns``: places in samples of what is captured; ``since``: only periods that end later have rows."""
        self.profile = profile
        self.period = period
        """Seconds."""
        self.since = since
        self.layout = 0
        """Number of the list of points that is captured."""
        self.ended: list[Capture] = []
        """Complete periods whose rows are not in the file."""
        self.dirty: set[int] = set()
        """Ends of periods whose rows must be made from the stored samples."""
        self._columns = columns
        self._full = period // sample_interval
        self._capture: Capture | None = None

    def add(self, second: int, sample: Sample) -> None:
        """Take a sample that is newer than all before."""
        capture = self._capture
        if capture is None or second > capture.end:
            if capture is not None:
                self.touch(capture.end)
            capture = self._capture = Capture(period_end(second, self.period), self._columns)
        capture.add(sample)
        if second == capture.end:
            self._capture = None
            if second <= self.since:
                return
            if self.complete(capture) and second not in self.dirty:
                self.ended.append(capture)
            else:
                self.dirty.add(second)

    def touch(self, second: int) -> None:
        """Note that the period of a second must be made from the stored samples."""
        end = period_end(second, self.period)
        if end > self.since:
            self.dirty.add(end)

    def due(self, newest: Sample | None) -> list[int]:
        """Return the dirty periods that have ended, newest first: what is asked for most."""
        if newest is None or not self.dirty:
            return []
        return sorted((end for end in self.dirty if end * 1000 <= newest.time), reverse=True)

    def gather(self, end: int, samples: Sequence[Sample]) -> Capture:
        """Capture a period from its samples in order of time."""
        capture = Capture(end, self._columns)
        for sample in samples:
            capture.add(sample)
        return capture

    def complete(self, capture: Capture) -> bool:
        """Tell whether a period has all its samples."""
        return capture.count >= self._full
