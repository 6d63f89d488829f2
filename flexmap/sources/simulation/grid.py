"""The low-voltage grid that all meters share: its frequency and its three phase voltages."""

from __future__ import annotations

import math

from flexmap.sources.load import MISSING, LoadProfile
from flexmap.sources.simulation import electric
from flexmap.sources.simulation.noise import Wander
from flexmap.sources.simulation.shape import spread

NOMINAL = 230.0
_TOLERANCE = 0.1
_BAND = 0.05


class Grid:
    """Frequency 50 ± 0.05 Hz, voltages within 230 V ± 10 %, both slow AR(1) values.

    The voltages wander around the measured one (around 230 V where none was ever measured).
    """

    def __init__(self, load: LoadProfile, seed: int, utc_offset: int) -> None:
        self._load = load
        self._offset = utc_offset
        self._frequency = Wander(f"{seed}/frequency", 0.02, 0.995)
        self._phases = tuple(Wander(f"{seed}/voltage/{number}", 0.8, 0.99) for number in range(3))
        self._angles = tuple(Wander(f"{seed}/angle/{number}", math.radians(0.15), 0.995) for number in (1, 2))
        self._flat = (1.0,) * load.step
        self._start = -1
        self._measured: list[int] = []

    def frequency(self, second: int) -> float:
        """Return the frequency in Hz."""
        return 50 + min(max(self._frequency.at(second), -_BAND), _BAND)

    def voltages(self, second: int) -> tuple[float, ...]:
        """Return the voltages of L1, L2, L3 against neutral in V."""
        centre = self._centre(second + self._offset)
        low, high = NOMINAL * (1 - _TOLERANCE), NOMINAL * (1 + _TOLERANCE)
        return tuple(min(max(centre + phase.at(second), low), high) for phase in self._phases)

    def angles(self, second: int) -> tuple[float, ...]:
        """Return the angles of L1, L2, L3 in rad: unequal loads turn L2 and L3 a little against L1."""
        first, *others = electric.ANGLES
        return (first, *(angle + own.at(second) for angle, own in zip(others, self._angles, strict=True)))

    def _centre(self, local: int) -> float:
        start = local - local % self._load.step
        if start != self._start:
            step = self._load.step
            row = self._row(start)
            self._measured = spread(self._row(start - step), row, self._row(start + step), self._flat)
            self._start = start
        return self._measured[local - start] / 1000

    def _row(self, local: int) -> int:
        row = self._load.row(local)
        for candidate in range(row, max(row - self._load.rows_per_day, -1), -1):
            if self._load.voltage[candidate] != MISSING:
                return self._load.voltage[candidate]
        return int(NOMINAL * 1000)
