"""Noise that comes and goes on the line: bursts at random times, seeded (a model, C)."""

from __future__ import annotations

import math

import msgspec

from flexmap.g3.interface import Random, Timer
from flexmap.g3.medium import Medium
from flexmap.model.error import LocalError


class BurstModel(msgspec.Struct, frozen=True):
    """How often noise bursts come, how long they last and how loud they are."""

    per_hour: float
    """Mean number in an hour; they come independently of each other."""
    seconds: float
    """Mean length, exponentially distributed."""
    level_db: float
    """Above the noise floor."""
    feeder: str | None = None
    """Where; ``None`` for the whole line."""


class Bursts:
    """Makes bursts on a line until it is stopped."""

    __slots__ = ("_medium", "_model", "_random", "_timer", "count")

    def __init__(self, medium: Medium, random: Random, model: BurstModel) -> None:
        """Start; raises :class:`LocalError` for a model without rate or length."""
        if not (model.per_hour > 0 and model.seconds > 0):
            raise LocalError(f"{model} makes no bursts")
        self._medium = medium
        self._random = random
        self._model = model
        self.count = 0
        self._timer: Timer = self._later()

    def stop(self) -> None:
        """Make no more."""
        self._timer.cancel()

    def _later(self) -> Timer:
        return self._medium.scheduler.callLater(self._exponential(3600 / self._model.per_hour), self._burst)

    def _burst(self) -> None:
        self.count += 1
        self._medium.burst(self._exponential(self._model.seconds), self._model.level_db, self._model.feeder)
        self._timer = self._later()

    def _exponential(self, mean: float) -> float:
        return -mean * math.log(1 - self._random.random())
