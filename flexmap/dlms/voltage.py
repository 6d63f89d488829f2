"""Sags, swells and interruptions of a voltage, from samples: how they are told apart. Sans-io."""

from __future__ import annotations

import enum

import msgspec


class Level(enum.IntEnum):
    """How a phase's voltage is."""

    NORMAL = 0
    UNDER = 1
    OVER = 2
    MISSING = 3


class Thresholds(msgspec.Struct, frozen=True, array_like=True):
    """When a voltage is not normal: volts, and the seconds for which it must be so."""

    sag: int = 207
    sag_time: int = 30
    swell: int = 253
    swell_time: int = 30
    cut: int = 115
    cut_time: int = 1

    def level(self, volts: float) -> Level:
        """Return the level of a voltage."""
        if volts < self.cut:
            return Level.MISSING
        if volts < self.sag:
            return Level.UNDER
        return Level.OVER if volts > self.swell else Level.NORMAL

    def wait(self, level: Level) -> int:
        """Return for how many seconds a voltage must be on a level until it counts."""
        return (0, self.sag_time, self.swell_time, self.cut_time)[level]


class Phase:
    """The voltage of one phase."""

    __slots__ = ("_candidate", "_since", "level")

    def __init__(self, level: Level = Level.NORMAL) -> None:
        self.level = level
        """The level that counts now."""
        self._candidate = level
        self._since = 0

    def sample(self, thresholds: Thresholds, time: int, volts: float) -> Level | None:
        """Return the level that counts from this sample (ms) on, None if it is the one before."""
        level = thresholds.level(volts)
        if level is self.level:
            self._candidate = level
            return None
        if level is not self._candidate:
            self._candidate, self._since = level, time
        if time - self._since < thresholds.wait(level) * 1000:
            return None
        self.level = level
        return level
