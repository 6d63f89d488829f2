"""Where nodes sit on the low-voltage network, and what is left of a signal between two of them.

A star of feeders from one busbar; a node sits so many metres along its feeder, at the end of a branch, on one
phase. Every figure here is a model parameter (C): real lines differ by ten decibels from one street to the next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import msgspec

from flexmap.model.error import LocalError


class LineModel(msgspec.Struct, frozen=True):
    """Attenuation and levels of a band on this line, in dB."""

    budget_db: float = 50.0
    """SNR beside the transmitter: its level above the noise floor."""
    per_metre_db: float = 0.06
    """Along feeders and branches; 0.03 to 0.1 in CENELEC-A, more in FCC."""
    per_tap_db: float = 0.15
    """Each house connection between two nodes."""
    busbar_db: float = 8.0
    """From one feeder to another, through the busbar's low impedance."""
    phase_db: float = 8.0
    """From one phase to another, by coupling between the conductors."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a node is connected."""

    feeder: str = ""
    metres: float = 0.0
    """Along the feeder, from the busbar."""
    branch: float = 0.0
    """Metres from the feeder to the node."""
    phase: int = 0
    """0 L1, 1 L2, 2 L3, 3 all of them (as a coordinator's coupler at the transformer may be)."""


ALL_PHASES = 3


class Feeder:
    """The taps of a feeder in order, and where it is cut."""

    __slots__ = ("cuts", "taps")

    def __init__(self) -> None:
        self.taps: list[float] = []
        self.cuts: list[float] = []

    def dark(self, metres: float) -> bool:
        """Return whether a place this far out is behind a cut."""
        return bool(self.cuts) and min(self.cuts) <= metres

    def between(self, one: float, other: float) -> int:
        """Return how many taps lie strictly between two distances from the busbar."""
        low, high = (one, other) if one < other else (other, one)
        return max(0, bisect_left(self.taps, high) - bisect_right(self.taps, low))


class Line:
    """Feeders on one busbar."""

    __slots__ = ("_feeders", "model")

    def __init__(self, model: LineModel | None = None) -> None:
        self.model = model or LineModel()
        self._feeders: dict[str, Feeder] = {}

    def connect(self, place: Place) -> None:
        """Add a tap; raises :class:`LocalError` for a place that is not on any line."""
        if not (0 <= place.metres < 1e6 and 0 <= place.branch < 1e6 and 0 <= place.phase <= ALL_PHASES):
            raise LocalError(f"{place} is no place on a line")
        insort(self._feeders.setdefault(place.feeder, Feeder()).taps, place.metres)

    def cut(self, feeder: str, metres: float) -> None:
        """Open the circuit of a feeder; raises :class:`LocalError` for a feeder that is not there."""
        self._feeder(feeder).cuts.append(metres)

    def mend(self, feeder: str) -> None:
        """Close the circuit of a feeder again."""
        self._feeder(feeder).cuts.clear()

    def dark(self, place: Place) -> bool:
        """Return whether a place has lost its supply."""
        return self._feeder(place.feeder).dark(place.metres)

    def attenuation(self, one: Place, other: Place) -> float:
        """Return the loss in dB between two places, the circuit being closed."""
        model = self.model
        if one.feeder == other.feeder:
            metres = abs(one.metres - other.metres)
            loss = self._feeder(one.feeder).between(one.metres, other.metres) * model.per_tap_db
        else:
            metres = one.metres + other.metres
            taps = self._feeder(one.feeder).between(-1.0, one.metres)
            taps += self._feeder(other.feeder).between(-1.0, other.metres)
            loss = model.busbar_db + taps * model.per_tap_db
        if one.phase != other.phase and ALL_PHASES not in (one.phase, other.phase):
            loss += model.phase_db
        return loss + (metres + one.branch + other.branch) * model.per_metre_db

    def reach(self, budget: float) -> float:
        """Return beyond how many metres nothing arrives with ``budget`` dB."""
        return budget / self.model.per_metre_db if self.model.per_metre_db > 0 else float("inf")

    def _feeder(self, name: str) -> Feeder:
        try:
            return self._feeders[name]
        except KeyError:
            raise LocalError(f"There is no feeder {name!r}") from None
