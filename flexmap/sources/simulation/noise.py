"""Randomness that is a pure function of seed and time: any second can be computed again, in any order."""

from __future__ import annotations

from random import Random

BLOCK = 60
"""Seconds of one stretch of wandering values."""


def generator(*keys: object) -> Random:
    """Return a generator that is the same for the same keys, in every process."""
    return Random("/".join(str(key) for key in keys))  # noqa: S311 - a model, no secret


class Wander:
    """A slow AR(1) value around 0, one a second, continuous over its blocks.

    Each block runs an AR(1) chain from its own seeded start and is bent so that it meets the next block's start.
    """

    def __init__(self, key: str, sigma: float, phi: float) -> None:
        self._key = key
        self._sigma = sigma
        self._phi = phi
        self._number = -1
        self._values: list[float] = []

    def at(self, second: int) -> float:
        """Return the value at a second since 1970."""
        number, position = divmod(second, BLOCK)
        if number != self._number:
            self._values = self._block(number)
            self._number = number
        return self._values[position]

    def _block(self, number: int) -> list[float]:
        random = generator(self._key, number)
        value = random.gauss(0, self._sigma)
        step = self._sigma * (1 - self._phi**2) ** 0.5
        chain = []
        for _ in range(BLOCK):
            chain.append(value)
            value = self._phi * value + random.gauss(0, step)
        end = generator(self._key, number + 1).gauss(0, self._sigma)
        bend = (end - value) / BLOCK
        return [value + bend * position for position, value in enumerate(chain)]
