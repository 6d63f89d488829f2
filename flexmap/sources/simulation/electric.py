"""Phase quantities of one second: from power and voltage to current, apparent power, phasors and components.

Powers are integers in mW, mvar and mVA, so that energies are sums of integers; voltages and currents are floats
in V and A.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import NamedTuple

ANGLES = tuple(-2 * math.pi * number / 3 for number in range(3))
"""Angles of L1, L2 and L3 in rad, where they are symmetrical."""


class Phase(NamedTuple):
    """One phase as a meter sees it."""

    active: int
    reactive: int
    apparent: int
    voltage: float
    current: float
    angle: float = 0.0
    """Of the voltage, in rad."""


class Line(NamedTuple):
    """How a meter's phase hangs on the grid."""

    resistance: float = 0.0
    """Ohm of the service line, go and return: gives voltage drop and technical loss."""
    distortion: float = 0.0
    """Harmonic current relative to the fundamental one (THD)."""


def phase(active: int, reactive: int, grid_voltage: float, line: Line, angle: float = 0.0) -> tuple[Phase, int]:
    """Return the phase at the meter, and the loss on its service line in mW.

    S = V·I with I from the fundamental and the harmonics, so S ≥ √(P² + Q²).
    """
    if grid_voltage <= 0 or not (active or reactive):
        return Phase(0, 0, 0, max(grid_voltage, 0.0), 0.0, angle), 0
    fundamental = math.hypot(active, reactive) / 1000
    drop = line.resistance * fundamental / grid_voltage
    voltage = grid_voltage - drop if active > 0 else grid_voltage + drop
    current = fundamental / voltage * math.sqrt(1 + line.distortion**2)
    # Rounded up: never below the hypotenuse of P and Q that it is made from.
    apparent = math.ceil(voltage * current * 1000)
    loss = int(line.resistance * current * current * 1000)
    return Phase(active, reactive, apparent, voltage, current, angle), loss


def power_factor(active: int, apparent: int) -> float:
    """Return P/S; 1 where nothing flows."""
    return active / apparent if apparent else 1.0


def voltage_phasors(phases: Sequence[Phase]) -> tuple[complex, ...]:
    """Return the voltages of L1, L2, L3."""
    return tuple(cmath.rect(each.voltage, each.angle) for each in phases)


def current_phasors(phases: Sequence[Phase]) -> tuple[complex, ...]:
    """Return the currents of L1, L2, L3, each turned back by the angle of its power."""
    return tuple(
        cmath.rect(each.current, each.angle - math.atan2(each.reactive, each.active)) if each.current else 0j
        for each in phases
    )
