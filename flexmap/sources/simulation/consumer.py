"""The load behind one meter: measured rows turned into the power of each second."""

from __future__ import annotations

import math
from array import array

from flexmap.sources.load import DAY, MISSING, LoadProfile
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.settings import Connection
from flexmap.sources.simulation.shape import spread

_SUNRISE = 7.5 * 3600
_SUNSET = 17.5 * 3600


class Consumer:
    """Net power at the meter's terminals: the load's share, less what photovoltaics give.

    A pure function of seed and time. The seconds of a row add up to the row's average times its length, exactly.
    """

    def __init__(self, load: LoadProfile, connection: Connection, seed: int, meter: str, utc_offset: int) -> None:
        self._load = load
        self._connection = connection
        self._key = f"{seed}/{meter}"
        self._delay = connection.shift - utc_offset
        self._utc_offset = utc_offset
        self._start = -1
        self._block: tuple[list[int], list[int]] | None = None

    def flow(self, second: int) -> tuple[int, int] | None:
        """Return active power in mW and reactive power in mvar, None where the load was not measured."""
        played = second - self._delay
        start = played - played % self._load.step
        if start != self._start:
            self._block = self._make(start)
            self._start = start
        if self._block is None:
            return None
        active, reactive = self._block
        return active[played - start], reactive[played - start]

    def _make(self, start: int) -> tuple[list[int], list[int]] | None:
        load, connection = self._load, self._connection
        step = load.step
        rows = (load.row(start - step), load.row(start), load.row(start + step))
        if MISSING in (load.active[rows[1]], load.reactive[rows[1]]):
            return None
        ripple = self._ripple(start)
        active = spread(*self._scaled(load.active, rows), ripple)
        reactive = spread(*self._scaled(load.reactive, rows), ripple)
        if connection.capacitor:
            reactive = [value - connection.capacitor * 1000 for value in reactive]
        if connection.pv_peak:
            around = (self._sun(start - step), self._sun(start), self._sun(start + step))
            generated = spread(*around, ripple)
            active = [value - given for value, given in zip(active, generated, strict=True)]
        return active, reactive

    def _scaled(self, column: array[int], rows: tuple[int, int, int]) -> tuple[int, int, int]:
        here = column[rows[1]]
        before, here, after = (column[row] if column[row] != MISSING else here for row in rows)
        scale = self._connection.scale
        return before * scale // 1000, here * scale // 1000, after * scale // 1000

    def _ripple(self, start: int) -> tuple[float, ...] | list[float]:
        if not self._connection.ripple:
            return (1.0,) * self._load.step
        random = generator(self._key, "ripple", start)
        return [1 + random.uniform(-1, 1) * self._connection.ripple for _ in range(self._load.step)]

    def _sun(self, start: int) -> int:
        """Photovoltaic power in mW of a row: the sun's half wave, dimmed by the day's and the row's clouds."""
        local = start + self._delay + self._utc_offset
        day, second = divmod(local, DAY)
        if not _SUNRISE < second < _SUNSET:
            return 0
        height = math.sin(math.pi * (second - _SUNRISE) / (_SUNSET - _SUNRISE))
        clear = generator(self._key, "day", day).uniform(0.25, 1)
        cloud = generator(self._key, "cloud", local // 300).uniform(0.6, 1)
        return int(self._connection.pv_peak * 1000 * height * clear * cloud)
