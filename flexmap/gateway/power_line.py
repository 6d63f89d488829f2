"""The simulated power line behind a concentrator, as its shell asks for it (implements PowerLine)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from flexmap.g3.line import ALL_PHASES
from flexmap.g3.medium import Medium
from flexmap.g3.node import Node
from flexmap.stcomet.line import Spot


class Hands(Protocol):
    """What somebody does who stands at a meter."""

    def press(self, meter: str, *, close: bool) -> None:
        """Press the breaker's button; raises LocalError with the cause if that does nothing."""

    def cover(self, meter: str, *, opened: bool) -> None:
        """Open or close the cover."""


class SimulatedLine:
    """The medium and the nodes of the meters on it."""

    def __init__(self, medium: Medium, nodes: Mapping[str, Node], hands: Hands) -> None:
        """``nodes`` by the meters' names."""
        self._medium = medium
        self._nodes = nodes
        self._hands = hands

    def spots(self) -> Sequence[Spot]:
        """Return where meters stand, feeder by feeder and outwards."""
        spots = []
        for name, node in self._nodes.items():
            place = node.line.place
            phase = "all" if place.phase == ALL_PHASES else f"L{place.phase + 1}"
            spots.append(Spot(name, place.feeder, place.metres, phase, node.line.live))
        return sorted(spots, key=lambda spot: (spot.feeder, spot.metres))

    def cut(self, meter: str) -> None:
        """Open the circuit just before a meter."""
        place = self._nodes[meter].line.place
        self._medium.cut(place.feeder, place.metres)

    def mend(self, meter: str) -> None:
        """Close the circuit of a meter's feeder."""
        self._medium.mend(self._nodes[meter].line.place.feeder)

    def press(self, meter: str, *, close: bool) -> None:
        """Press the breaker's button at a meter; raises LocalError with the cause if that does nothing."""
        self._hands.press(meter, close=close)

    def cover(self, meter: str, *, opened: bool) -> None:
        """Open or close a meter's cover."""
        self._hands.cover(meter, opened=opened)

    def noise(self, meter: str, level_db: float, seconds: float) -> None:
        """Raise the noise at all receivers on a meter's feeder."""
        self._medium.burst(seconds, level_db, self._nodes[meter].line.place.feeder)
