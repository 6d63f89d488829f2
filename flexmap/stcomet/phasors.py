"""Phasors of a three-phase meter, from what a record holds: neutral current and symmetrical components.

L1's voltage is the reference; L2's and L3's come behind it by the lags that the meter's main core takes between
zero crossings. A current stands behind its voltage by the angle of its power, ``atan2(Q, P)``.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

from flexmap.stcomet.record import ACTIVE, CURRENT, LAG_L2, LAG_L3, PHASE_VALUES, REACTIVE, VOLTAGE

STEP = 8e-6
"""Seconds of one count of the timer that captures zero crossings: the step of the STPM34's mains period."""
THIRD = 12_000
"""A third of a turn in 0.01°: what L2 lags where no crossing was seen."""
_TURN = 36_000
_SHIFTS = (0, PHASE_VALUES, 2 * PHASE_VALUES)
_A = cmath.rect(1, 2 * math.pi / 3)


def crossing(angle: float, frequency: float) -> float:
    """Return when, in s from the beginning of a period on, a voltage of an angle in rad crosses zero upwards."""
    return -angle / (2 * math.pi) % 1 / frequency


def lag(own: float, other: float, frequency: float) -> int:
    """Return by how much one voltage comes behind another, in 0.01°, from their crossings in s.

    The crossings of half a second are counted in the timer's steps and added up: the mains are not in step with
    the timer, so that the sum is finer than a single count.
    """
    periods = max(int(frequency / 2), 1)
    counts = round((other - own) % (1 / frequency) * periods / STEP)
    return round(counts * STEP * frequency * _TURN / periods) % _TURN


def voltages(measured: Sequence[int]) -> tuple[complex, complex, complex]:
    """Return the voltages of L1, L2, L3 in V, from the measured values of a three-phase record."""
    first, second, third = (
        cmath.rect(measured[VOLTAGE + shift] / 10, angle)
        for shift, angle in zip(_SHIFTS, _angles(measured), strict=True)
    )
    return first, second, third


def currents(measured: Sequence[int]) -> tuple[complex, complex, complex]:
    """Return the currents of L1, L2, L3 in A; their sum is the neutral's."""
    first, second, third = (
        cmath.rect(
            measured[CURRENT + shift] / 100,
            angle - math.atan2(measured[REACTIVE + shift], measured[ACTIVE + shift]),
        )
        for shift, angle in zip(_SHIFTS, _angles(measured), strict=True)
    )
    return first, second, third


def _angles(measured: Sequence[int]) -> tuple[float, float, float]:
    step = 2 * math.pi / _TURN
    return 0.0, -measured[LAG_L2] * step, -measured[LAG_L3] * step


def components(phasors: Sequence[complex]) -> tuple[float, float, float]:
    """Return the magnitudes of the positive, negative and zero sequence (Fortescue) of L1, L2, L3."""
    first, second, third = phasors
    back = _A.conjugate()
    return (
        abs(first + _A * second + back * third) / 3,
        abs(first + back * second + _A * third) / 3,
        abs(first + second + third) / 3,
    )
