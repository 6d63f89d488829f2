"""Which meter's clock to measure next, and how far each was found to be off. Sans-io; time is passed in.

Meters' crystals are some 20 millionths off: 0.14 s in two hours. One clock is measured at a time, so that this
takes next to nothing of the line.
"""

from __future__ import annotations

import zlib

INTERVAL = 2 * 3600.0
"""Seconds between two measurements of a meter's clock."""
FIRST = 3600
"""Seconds within which all clocks are measured once, spread evenly."""
AGAIN = 300.0
"""Seconds until a measurement that failed or was too coarse is made again; doubled by each, up to INTERVAL."""
SOON = 10.0
"""Seconds until one is tried again that did not get to the power line."""
SETTLING = 60.0
"""Seconds after a measurement in which records of before may still come."""
SPARING = 30.0
"""Seconds between two measurements while there is a backlog to fetch: those of a whole new site are many."""
COARSE = 500
"""Milliseconds of round trip beyond which a measurement is too coarse: it may be wrong by half of it."""


class Clocks:
    """Turns of the meters' clocks."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._poor: dict[str, int] = {}
        self._ordered: dict[str, None] = {}
        self._busy = False
        self._last = 0.0
        self._measured: dict[str, float] = {}
        self.offsets: dict[str, int] = {}
        """How far clocks were found to be off last, in ms; ahead is positive."""

    def add(self, meter: str, now: float) -> None:
        """Give a meter turns."""
        self._due.setdefault(meter, now + zlib.crc32(meter.encode()) % FIRST)

    def remove(self, meter: str) -> None:
        """Give it no more."""
        self._due.pop(meter, None)
        self._ordered.pop(meter, None)

    def order(self, meter: str) -> None:
        """Take note that somebody waits for a clock to be set: it is next, whatever there is to do."""
        self._ordered[meter] = None

    def urgent(self, meter: str, shown: float, now: float) -> None:
        """Take note that a clock was never set, or is plainly wrong, when it has shown a time: it is next.

        That does not hold for what it has shown before it was measured, nor after attempts that failed.
        """
        measured = self._measured.get(meter)
        late = measured is not None and measured <= now - SETTLING
        if meter in self._due and not self._poor.get(meter) and (measured is None or (late and shown > measured)):
            self._due[meter] = min(self._due[meter], now)

    def again(self, meter: str, now: float) -> None:
        """Take note that a clock is to be measured once more: what it is kept at has changed."""
        if meter in self._due:
            self._due[meter] = now

    def next(self, now: float, *, sparing: bool = False, ordered: bool = False) -> str | None:
        """Return the meter whose clock is to be measured, None if none is due or one is being measured.

        ``sparing`` tells that the line has much to do, ``ordered`` that there is time for nothing but orders.
        """
        if self._busy:
            return None
        if self._ordered:
            meter = next(iter(self._ordered))
            del self._ordered[meter]
            self._busy = True
            return meter
        if ordered or not self._due or (sparing and now < self._last + SPARING):
            return None
        due, meter = min((due, meter) for meter, due in self._due.items())
        if due > now:
            return None
        self._busy = True
        self._last = now
        return meter

    def answered(self, meter: str, offset_ms: int, round_trip_ms: int, now: float) -> None:
        """Take note of a measurement."""
        self.offsets[meter] = offset_ms
        self._measured[meter] = now
        self._ended(meter, now, poor=round_trip_ms > COARSE)

    def failed(self, meter: str, now: float) -> None:
        """Take note that there was none."""
        self._ended(meter, now, poor=True)

    def postponed(self, meter: str, now: float) -> None:
        """Take note that the power line was not even asked."""
        self._busy = False
        if meter in self._due:
            self._due[meter] = now + SOON

    def _ended(self, meter: str, now: float, *, poor: bool) -> None:
        self._busy = False
        poors = self._poor[meter] = self._poor.get(meter, 0) + 1 if poor else 0
        if meter in self._due:
            self._due[meter] = now + (min(AGAIN * 2.0 ** min(poors - 1, 16), INTERVAL) if poor else INTERVAL)
