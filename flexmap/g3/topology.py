"""Low-voltage networks to simulate: meters along feeders, and where they stand on a picture."""

from __future__ import annotations

import math

import msgspec

from flexmap.g3.interface import Random
from flexmap.g3.line import ALL_PHASES, LineModel, Place

PER_FEEDER = 60
"""Meters of a feeder before there is another one, up to :data:`MOST_FEEDERS` (a common European network)."""
MOST_FEEDERS = 8
FEW, FEW_PER_FEEDER = 4, 10
"""Up to so many feeders there are anyway, with no fewer meters than this."""
LENGTH = (750.0, 1100.0)
"""Shortest and longest feeder in metres."""
BRANCH = (4.0, 25.0)
"""Metres from the feeder to a meter."""


DRAWN = 3.0
"""How much longer branches are drawn than they are."""
CABLES = {
    "CENELEC-A": LineModel(budget_db=50.0, per_metre_db=0.08, per_tap_db=0.25, busbar_db=16.0, phase_db=10.0),
    "FCC": LineModel(budget_db=50.0, per_metre_db=0.1, per_tap_db=0.3, busbar_db=18.0, phase_db=8.0),
}
"""Losses of the line by band: with feeders of this length two or three hops, four with hundreds of meters (C)."""


class Spot(msgspec.Struct, frozen=True):
    """A node's connection to the line, and its place on a picture in metres from the transformer."""

    place: Place
    x: float
    y: float


COORDINATOR_SPOT = Spot(Place("1", 0.0, 0.0, ALL_PHASES), 0.0, 0.0)
"""At the busbar, coupled to all three phases."""


def network(meters: int, random: Random) -> list[Spot]:
    """Return the spots of so many meters, feeder by feeder and outwards; phases and branches are drawn."""
    full, few = math.ceil(meters / PER_FEEDER), math.ceil(meters / FEW_PER_FEEDER)
    count = max(1, min(MOST_FEEDERS, full), min(FEW, few))
    spots = []
    for feeder in range(count):
        on_it = meters // count + (feeder < meters % count)
        length = LENGTH[0] + (LENGTH[1] - LENGTH[0]) * random.random()
        bend = random.random() * 2 - 1
        for index in range(on_it):
            metres = length * (index + 0.5 + 0.4 * (random.random() - 0.5)) / on_it
            branch = BRANCH[0] + (BRANCH[1] - BRANCH[0]) * random.random()
            place = Place(str(feeder + 1), metres, branch, random.randrange(3))
            spots.append(_spot(place, 2 * math.pi * feeder / count, bend, random.random() < 0.5))
    return spots


def _spot(place: Place, angle: float, bend: float, left: bool) -> Spot:
    """Return the place on a picture: the feeder bends a little, branches go to either side, drawn longer."""
    course = angle + bend * place.metres / 1200
    side = course + (math.pi / 2 if left else -math.pi / 2)
    x = place.metres * math.cos(course) + DRAWN * place.branch * math.cos(side)
    y = place.metres * math.sin(course) + DRAWN * place.branch * math.sin(side)
    return Spot(place, x, y)
