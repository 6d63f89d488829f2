"""Symmetrical components over the meter's own way: zero crossings, lags in records, phasors; against the truth."""

import cmath
import math
import random

import pytest
from stcomet_site import START, TYPES

from flexmap.sources.concentrator.samples import to_sample
from flexmap.sources.simulation import electric
from flexmap.stcomet import codec, phasors
from flexmap.stcomet.metrology import Metrology, Reading
from flexmap.stcomet.phasors import components, crossing, lag
from flexmap.stcomet.record import LAG_L2, LAG_L3, Layout, State


class Terminals:
    """A feed that shows what it is told."""

    def __init__(self):
        self.reading = Reading(50.0, None)

    def measure(self, _second):
        return self.reading

    def state(self):
        return State()


def phase(voltage, current, angle, behind):
    """A sine of voltage and current, the current ``behind`` its voltage (rad)."""
    apparent = voltage * current * 1000
    return electric.Phase(
        round(apparent * math.cos(behind)),
        round(apparent * math.sin(behind)),
        round(apparent),
        voltage,
        current,
        angle,
    )


def shown(phases, frequency=50.0):
    """What a three-phase meter's record gives of phases, coded and decoded on its way."""
    feed = Terminals()
    feed.reading = Reading(frequency, phases)
    metrology = Metrology(Layout.THREE_PHASE, feed)
    record = metrology.second(START)
    octets, _ = codec.encode(Layout.THREE_PHASE, [record], 10_000)
    (record,) = codec.decode(Layout.THREE_PHASE, 0, 1, octets)
    return record.measured


@pytest.mark.parametrize("seed", range(40))
def test_components_of_any_unbalance_are_the_truth(seed):
    """Voltages of 200 to 250 V, up to 12° out of place, currents of 0.5 to 60 A in all four quadrants."""
    draw = random.Random(seed)
    frequency = draw.uniform(49.5, 50.5)
    turned = draw.uniform(-math.pi, math.pi)  # the meter knows no absolute angle
    phases = [
        phase(
            draw.uniform(200, 250),
            draw.uniform(0.5, 60),
            turned + place + draw.uniform(-0.2, 0.2),
            draw.uniform(-math.pi, math.pi),
        )
        for place in electric.ANGLES
    ]
    measured = shown(phases, frequency)
    volts, amperes = electric.voltage_phasors(phases), electric.current_phasors(phases)
    for mine, truth in zip(components(phasors.voltages(measured)), components(volts), strict=True):
        assert mine == pytest.approx(truth, abs=0.1)
    for mine, truth in zip(components(phasors.currents(measured)), components(amperes), strict=True):
        assert mine == pytest.approx(truth, abs=0.02)
    assert abs(sum(phasors.currents(measured))) == pytest.approx(abs(sum(amperes)), abs=0.05)


def test_a_wrong_rotation_shows_as_negative_sequence():
    one, two, three = electric.ANGLES
    measured = shown([phase(230, 10, angle, 0.3) for angle in (one, three, two)])
    positive, negative, zero = components(phasors.voltages(measured))
    assert (positive, zero) == pytest.approx((0, 0), abs=0.05)
    assert negative == pytest.approx(230, abs=0.1)


def test_a_lost_phase():
    phases = [phase(230, 10, angle, 0.0) for angle in electric.ANGLES]
    phases[1] = electric.Phase(0, 0, 0, 0.0, 0.0, 1.0)
    measured = shown(phases)
    assert (measured[LAG_L2], measured[LAG_L3]) == (12_000, 24_000)
    assert components(phasors.voltages(measured)) == pytest.approx((230 * 2 / 3, 230 / 3, 230 / 3), abs=0.05)
    assert components(phasors.currents(measured))[2] == pytest.approx(10 / 3, abs=0.01)
    assert components(phasors.voltages(shown([electric.Phase(0, 0, 0, 0.0, 0.0)] * 3, 0.0))) == (0, 0, 0)


def test_lag_is_finer_than_a_count_of_the_timer():
    count = phasors.STEP * 50 * 36_000  # 14.4 hundredths of a degree
    draw = random.Random(1)
    worst = 0.0
    for _ in range(2000):
        frequency, angle = draw.uniform(45, 55), -draw.uniform(0, 2 * math.pi)
        seen = lag(crossing(0.4, frequency), crossing(0.4 + angle, frequency), frequency)
        off = abs(seen - math.degrees(-angle) * 100)
        worst = max(worst, min(off, 36_000 - off))
    assert worst <= 0.5 + count / 2 / 22
    assert worst < count / 10


def test_components_by_definition():
    a = cmath.rect(1, 2 * math.pi / 3)
    mixed = [
        200 + 30 + 7,
        200 * a**2 + 30 * a + 7,
        200 * a + 30 * a**2 + 7,
    ]
    assert components(mixed) == pytest.approx((200, 30, 7), abs=1e-9)


def test_samples_show_them_on_the_registers_grid():
    feed = Terminals()
    phases = [phase(230 + number, 10 + number, angle, 0.2) for number, angle in enumerate(electric.ANGLES)]
    feed.reading = Reading(50.0, phases)
    record = Metrology(Layout.THREE_PHASE, feed).second(START)
    meter_type = TYPES["three-phase"]
    sample = to_sample("SUB", meter_type, Layout.THREE_PHASE, record)
    values = {point.name: value for point, value in zip(meter_type.points, sample.values, strict=True)}
    assert None not in values.values()
    truth = components(electric.voltage_phasors(phases))
    for name, value in zip(("positive", "negative", "zero"), truth, strict=True):
        assert values[f"voltage-{name}-sequence"] == pytest.approx(value, abs=0.11)
        assert values[f"voltage-{name}-sequence"] == round(values[f"voltage-{name}-sequence"], 1)
    assert values["current-zero-sequence"] == pytest.approx(values["current-neutral"] / 3, abs=0.006)
