"""Where nodes sit on the low-voltage network, and what is left of a signal between two of them.

A star of feeders from one busbar; a node sits so many metres along its feeder, at the end of a branch, on one
phase. Every figure here is a model parameter (C): real lines differ by ten decibels from one street to the next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

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


class Tap:
    """A place on the line, with how many taps of its feeder lie before it and up to it."""

    __slots__ = ("before", "branch_db", "feeder", "metres", "phase", "upto")

    def __init__(self, place: Place, branch_db: float) -> None:
        self.feeder = place.feeder
        self.metres = place.metres
        self.phase = place.phase
        self.branch_db = branch_db
        self.before = self.upto = 0


class Line:
    """Feeders on one busbar."""

    __slots__ = ("_cuts", "_feeders", "_settled", "model")

    def __init__(self, model: LineModel | None = None) -> None:
        self.model = model or LineModel()
        self._feeders: dict[str, list[Tap]] = {}
        self._cuts: dict[str, float] = {}
        self._settled = True

    def connect(self, place: Place) -> Tap:
        """Add a tap; raises :class:`LocalError` for a place that is not on any line."""
        if not (0 <= place.metres < 1e6 and 0 <= place.branch < 1e6 and 0 <= place.phase <= ALL_PHASES):
            raise LocalError(f"{place} is no place on a line")
        tap = Tap(place, place.branch * self.model.per_metre_db)
        self._feeders.setdefault(place.feeder, []).append(tap)
        self._settled = False
        return tap

    def cut(self, feeder: str, metres: float) -> None:
        """Open the circuit of a feeder; raises :class:`LocalError` for a feeder that is not there."""
        self._known(feeder)
        self._cuts[feeder] = min(metres, self._cuts.get(feeder, metres))

    def mend(self, feeder: str) -> None:
        """Close the circuit of a feeder again; raises :class:`LocalError` for a feeder that is not there."""
        self._known(feeder)
        self._cuts.pop(feeder, None)

    def dark(self, tap: Tap) -> bool:
        """Return whether a tap has lost its supply."""
        cut = self._cuts.get(tap.feeder)
        return cut is not None and tap.metres >= cut

    def attenuation(self, one: Tap, other: Tap) -> float:
        """Return the loss in dB between two taps, the circuit being closed."""
        if not self._settled:
            self._settle()
        model = self.model
        loss = one.branch_db + other.branch_db
        if one.feeder == other.feeder:
            near, far = (one, other) if one.metres < other.metres else (other, one)
            loss += (far.metres - near.metres) * model.per_metre_db
            if far.before > near.upto:
                loss += (far.before - near.upto) * model.per_tap_db
        else:
            loss += model.busbar_db + (one.metres + other.metres) * model.per_metre_db
            loss += (one.before + other.before) * model.per_tap_db
        if one.phase != other.phase and ALL_PHASES not in (one.phase, other.phase):
            loss += model.phase_db
        return loss

    def within(self, tap: Tap, budget: float) -> dict[str, tuple[float, float]]:
        """Return, by feeder, between which metres a signal with ``budget`` dB can arrive at best."""
        per_metre, busbar = self.model.per_metre_db, self.model.busbar_db
        spans = {}
        for name in self._feeders:
            if per_metre <= 0:
                spans[name] = (0.0, float("inf"))
            elif name == tap.feeder:
                spans[name] = (tap.metres - budget / per_metre, tap.metres + budget / per_metre)
            else:
                spans[name] = (0.0, (budget - busbar) / per_metre - tap.metres)
        return spans

    def _settle(self) -> None:
        """Count, for each tap, those nearer to the busbar."""
        for taps in self._feeders.values():
            metres = sorted(tap.metres for tap in taps)
            for tap in taps:
                tap.before, tap.upto = bisect_left(metres, tap.metres), bisect_right(metres, tap.metres)
        self._settled = True

    def _known(self, feeder: str) -> None:
        if feeder not in self._feeders:
            raise LocalError(f"There is no feeder {feeder!r}")
