"""A simulated power line, as the shell's LINE commands ask for it: what a tester does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Spot(msgspec.Struct, frozen=True):
    """Where a meter stands."""

    meter: str
    feeder: str
    metres: float
    """Along the feeder, from the transformer."""
    phase: str
    """L1, L2, L3, or all."""
    live: bool
    """Whether the circuit is closed up to it."""


class PowerLine(Protocol):
    """Feeders and the meters on them; each call names a meter that has a spot."""

    def spots(self) -> Sequence[Spot]:
        """Return where meters stand, feeder by feeder and outwards."""

    def cut(self, meter: str) -> None:
        """Open the circuit just before a meter: it and what is behind it neither sends nor hears."""

    def mend(self, meter: str) -> None:
        """Close the circuit of a meter's feeder."""

    def press(self, meter: str, *, close: bool) -> None:
        """Press the breaker's button at a meter; raises LocalError with the cause if that does nothing."""

    def cover(self, meter: str, *, opened: bool) -> None:
        """Open or close a meter's cover."""

    def noise(self, meter: str, level_db: float, seconds: float) -> None:
        """Raise the noise at all receivers on a meter's feeder."""
