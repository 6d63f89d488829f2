from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from flexmap.mapping.table import load_builtin
from flexmap.mapping.value import quantise
from flexmap.model import ConfigurationError, EventCode, Kind, LocalError, Meter, MeterType, Sample, quality
from flexmap.sources.load import DAY, MISSING, sample_load
from flexmap.sources.simulation.breaker import Breaker, State, Trigger
from flexmap.sources.simulation.electric import Line, phase
from flexmap.sources.simulation.settings import Connection, SimulationSettings
from flexmap.sources.simulation.shape import spread
from flexmap.sources.simulation.site import SiteModel, replay
from flexmap.stcomet.phasors import components

TYPES = load_builtin()
LOAD = sample_load()
START = 1_795_392_000  # midnight UTC
TOTALS = tuple(point.name for point in TYPES["single-phase"].points if point.kind is Kind.ENERGY)


def meter(name: str, type_id: str = "single-phase") -> tuple[Meter, MeterType]:
    return Meter(id=name, type=type_id, ld=name, sap=16), TYPES[type_id]


def site(count: int = 6, *, last=None, load=LOAD, **settings) -> SiteModel:
    meters = [meter("SUB", "three-phase"), *(meter(f"M{number}") for number in range(count))]
    return SiteModel(meters, load, SimulationSettings(substation="SUB", **settings), last)


def named(sample: Sample) -> dict:
    points = TYPES["three-phase" if len(sample.values) > 20 else "single-phase"].index
    return dict(zip(points, sample.values, strict=True))


def test_modelled_current_agrees_with_the_measured_one():
    model = SiteModel([meter("A")], LOAD, SimulationSettings(connections={"A": Connection()}))
    differences = []
    for minute in range(0, 1440, 7):
        start = 13545 * DAY + minute * 60
        average = sum(named(model.step(start + second)[0])["current"] for second in range(60)) / 60
        differences.append(average - LOAD.current[minute] / 1000)
    # The data set's current has steps of 0.2 A, and its own P, Q and V·I differ by up to 3 A in single minutes.
    assert abs(sum(differences) / len(differences)) < 0.15


def test_same_seed_same_samples_and_another_seed_others():
    one = [site(seed=7).step(START) for _ in range(2)]
    assert one[0] == one[1]
    assert site(seed=8).step(START) != one[0]


def test_power_does_not_depend_on_where_the_replay_begins():
    long = site()
    for _ in replay(long, START, START + 200):
        pass
    instantaneous = [
        [
            value
            for point, value in zip(TYPES["single-phase"].points, sample.values, strict=True)
            if point.kind is Kind.INSTANTANEOUS
        ]
        for sample in (long.step(START + 200)[1], site().step(START + 200)[1])
    ]
    assert instantaneous[0] == instantaneous[1]


def test_samples_are_on_the_register_grid_and_physically_consistent():
    model = site(count=12, seed=5)
    types = {"SUB": TYPES["three-phase"]}
    exported = reactive_exported = False
    for samples in replay(model, START + 12 * 3600, START + 12 * 3600 + 120):
        for sample in samples:
            meter_type = types.get(sample.meter, TYPES["single-phase"])
            assert sample.quality == (quality.GOOD,) * len(meter_type.points)
            for point, value in zip(meter_type.points, sample.values, strict=True):
                expected = {Kind.ENERGY: int, Kind.COUNTER: int, Kind.INSTANTANEOUS: float}.get(point.kind)
                assert expected is None or type(value) is expected, point.name
                if point.kind in {Kind.ENERGY, Kind.INSTANTANEOUS}:
                    assert quantise(point, value) == value
            values = named(sample)
            assert 49.95 <= values["frequency"] <= 50.05
            p, q, s = (values[f"{name}-power"] for name in ("active", "reactive", "apparent"))
            assert s >= math.hypot(p, q) - 1.5
            assert -1 <= values["power-factor"] <= 1
            if sample.meter != "SUB":
                assert 207 <= values["voltage"] <= 253
                assert s == pytest.approx(values["voltage"] * values["current"], abs=3)
                exported |= p < 0
                reactive_exported |= q < 0
            else:
                assert p == pytest.approx(sum(values[f"active-power-l{n}"] for n in (1, 2, 3)), abs=2)
                assert values["current-neutral"] == pytest.approx(3 * values["current-zero-sequence"], abs=0.03)
                assert values["voltage-positive-sequence"] == pytest.approx(
                    sum(values[f"voltage-l{n}"] for n in (1, 2, 3)) / 3, abs=0.1
                )
    assert exported
    assert reactive_exported


def test_energies_never_fall_and_a_restart_goes_on_from_the_last_sample():
    model = site(seed=2)
    samples = list(replay(model, START, START + 400))
    for earlier, later in pairwise(samples):
        for a, b in zip(earlier, later, strict=True):
            assert all(named(b)[name] >= named(a)[name] for name in TOTALS)
    model.operate("M1", Trigger.REMOTE_DISCONNECT, START * 1000)
    last = {sample.meter: sample for sample in model.step(START + 400)}
    again = site(seed=99, last=last)
    first = {sample.meter: sample for sample in again.step(START + 1000)}
    for name in last:
        for register in TOTALS:
            assert named(first[name])[register] == named(last[name])[register]
    assert named(first["M1"])["breaker"] is False
    assert named(first["M1"])["breaker-operations"] == 1
    codes = [(event.code, event.time) for event in again.take_events() if event.meter == "M0"]
    assert codes == [(EventCode.POWER_DOWN, (START + 400) * 1000), (EventCode.POWER_UP, (START + 1000) * 1000)]


def test_an_open_breaker_stops_power_and_energy_but_not_voltage():
    model = site(seed=2)
    model.step(START)
    assert model.operate("M0", Trigger.REMOTE_DISCONNECT, START * 1000) is True
    assert model.operate("M0", Trigger.REMOTE_DISCONNECT, START * 1000) is False
    opened = [named(model.step(second)[1]) for second in range(START + 1, START + 100)]
    assert {(v["active-power"], v["reactive-power"], v["current"]) for v in opened} == {(0.0, 0.0, 0.0)}
    assert min(v["voltage"] for v in opened) > 207
    assert len({tuple(v[name] for name in TOTALS) for v in opened}) == 1
    assert (opened[0]["breaker"], opened[0]["breaker-control-state"]) == (False, 0)
    assert model.operate("M0", Trigger.REMOTE_RECONNECT, START * 1000) is True
    closed = named(model.step(START + 100)[1])
    assert closed["current"] > 0
    assert closed["breaker-operations"] == 2
    codes = [event.code for event in model.take_events() if event.meter == "M0"]
    assert codes == [EventCode.POWER_UP, EventCode.REMOTE_DISCONNECTION, EventCode.REMOTE_CONNECTION]


def test_opening_the_substation_takes_the_supply_of_all_meters():
    model = site()
    model.step(START)
    model.take_events()
    model.operate("SUB", Trigger.REMOTE_DISCONNECT, START * 1000)
    substation, *others = (named(sample) for sample in model.step(START + 1))
    assert substation["voltage-l1"] > 207
    assert substation["active-power"] == 0
    assert {(each["voltage"], each["active-power"], each["frequency"]) for each in others} == {(0.0, 0.0, None)}
    down = [event for event in model.take_events() if event.code is EventCode.POWER_DOWN]
    assert len(down) == len(others)


def test_missing_load_is_missing_in_the_samples_never_zero():
    holed = sample_load()
    for row in range(1440):
        holed.active[row] = MISSING
    settings = SimulationSettings(substation="SUB", connections={"M0": Connection()})
    model = SiteModel([meter("SUB", "three-phase"), meter("M0")], holed, settings)
    batches = [model.step(13545 * DAY + second) for second in range(3)]
    for sample in batches[-1]:
        values = named(sample)
        marks = dict(zip(values, sample.quality, strict=True))
        assert values["active-power"] is None
        assert marks["active-power"] == quality.NEVER_READ
        assert quality.validity(marks["energy-active-import"]) == quality.QUESTIONABLE
        assert marks["breaker"] == quality.GOOD
    assert batches[0][1].values == batches[-1][1].values


def test_tampering_by_hand_and_by_seed():
    model = site()
    model.step(START)
    model.meters["M0"].force_cover(True)
    assert (named(model.step(START + 1)[1])["tamper"], named(model.step(START + 2)[1])["tamper-count"]) == (
        True,
        1,
    )
    model.meters["M0"].force_cover(False)
    assert named(model.step(START + 3)[1])["tamper"] is False
    codes = [event.code - 40 for event in model.take_events() if event.meter == "M0"][1:]
    assert codes in ([0, 1], [4, 5])
    often = SiteModel([meter("A")], LOAD, SimulationSettings(connections={"A": Connection(tampers_per_day=1)}))
    start, stop, _ = often.meters["A"]._plan_tamper(START // DAY)
    assert START <= start < stop < START + DAY
    shown = [named(often.step(second)[0])["tamper"] for second in range(start - 2, stop + 2)]
    assert shown == [False] * 2 + [True] * (stop - start) + [False] * 2
    assert [event.time // 1000 for event in often.take_events() if event.code >= 40] == [start, stop]


def test_a_three_phase_meter_of_its_own_splits_the_load_exactly():
    three = SiteModel([meter("T", "three-phase")], LOAD, SimulationSettings(connections={"T": Connection()}))
    single = SiteModel([meter("S")], LOAD, SimulationSettings(connections={"S": Connection()}))
    before = [
        [list(part) for part in model.meters[name].registers] for model, name in ((three, "T"), (single, "S"))
    ]
    for second in range(START, START + 600):
        three.step(second)
        single.step(second)
    total, *phases = (now[0] - then[0] for now, then in zip(three.meters["T"].registers, before[0], strict=True))
    assert sum(phases) == total == single.meters["S"].registers[0][0] - before[1][0][0]
    assert all(abs(phase - total / 3) < total / 300 for phase in phases)


def test_a_custom_type_gets_the_points_it_names_and_the_rest_stays_never_read():
    base = {point.name: point for point in TYPES["single-phase"].points}
    odd = structs.replace(base["voltage"], name="colour")
    custom = MeterType(
        id="custom",
        title="",
        product="X",
        points=(base["current"], odd, base["energy-active-import"]),
        identity=(),
    )
    model = SiteModel([(Meter(id="A", type="custom", ld="A", sap=16), custom)], LOAD, SimulationSettings())
    sample = model.step(START)[0]
    assert isinstance(sample.values[0], float)
    assert sample.values[1] is None
    assert sample.quality == (quality.GOOD, quality.NEVER_READ, quality.GOOD)
    with pytest.raises(LocalError, match="no breaker"):
        model.operate("A", Trigger.REMOTE_DISCONNECT, 0)


def test_substation_must_be_a_three_phase_meter_of_the_site():
    for name in ("M0", "NONE"):
        with pytest.raises(ConfigurationError, match=name):
            SiteModel([meter("M0")], LOAD, SimulationSettings(substation=name))


REMOTE = {
    # mode: state after remote disconnect, after remote reconnect, whether manual disconnect works
    1: (State.READY, True),
    2: (State.CONNECTED, True),
    3: (State.READY, False),
    4: (State.CONNECTED, False),
    5: (State.READY, True),
    6: (State.READY, False),
}


@pytest.mark.parametrize("mode", range(1, 7))
def test_control_modes(mode):
    after_reconnect, manual = REMOTE[mode]
    breaker = Breaker(mode)
    assert breaker.trigger(Trigger.REMOTE_DISCONNECT) is EventCode.REMOTE_DISCONNECTION
    assert breaker.state is State.DISCONNECTED
    breaker.trigger(Trigger.REMOTE_RECONNECT)
    assert breaker.state is after_reconnect
    if after_reconnect is State.READY:
        with pytest.raises(LocalError, match="push button"):
            breaker.trigger(Trigger.REMOTE_RECONNECT)
        assert breaker.trigger(Trigger.MANUAL_RECONNECT) is EventCode.MANUAL_CONNECTION
    assert breaker.operations == 2
    if manual:
        assert breaker.trigger(Trigger.MANUAL_DISCONNECT) is EventCode.MANUAL_DISCONNECTION
        breaker.trigger(Trigger.MANUAL_RECONNECT)
    else:
        with pytest.raises(LocalError, match=f"control mode {mode}"):
            breaker.trigger(Trigger.MANUAL_DISCONNECT)
    assert breaker.trigger(Trigger.LOCAL_DISCONNECT) is EventCode.LOCAL_DISCONNECTION
    if mode in {5, 6}:
        breaker.trigger(Trigger.LOCAL_RECONNECT)
        assert breaker.closed
    else:
        with pytest.raises(LocalError):
            breaker.trigger(Trigger.LOCAL_RECONNECT)


def test_control_mode_0_is_always_connected():
    breaker = Breaker(0, State.DISCONNECTED)
    assert breaker.closed
    with pytest.raises(LocalError, match="always connected"):
        breaker.trigger(Trigger.REMOTE_DISCONNECT)
    with pytest.raises(LocalError):
        Breaker(7)


WATTS = st.integers(-20_000_000, 20_000_000)


@settings(deadline=None)
@given(WATTS, WATTS, WATTS, st.lists(st.floats(0.9, 1.1), min_size=1, max_size=120))
def test_spreading_a_row_keeps_its_energy(before, here, after, ripple):
    seconds = spread(before, here, after, ripple)
    assert len(seconds) == len(ripple)
    assert sum(seconds) == here * len(ripple)
    assert all(second * here >= 0 for second in seconds)


@settings(deadline=None)
@given(WATTS, WATTS, st.floats(200, 253), st.floats(0, 0.3), st.floats(0, 0.3))
def test_a_phase_is_consistent(active, reactive, volts, ohms, distortion):
    result, loss = phase(active, reactive, volts, Line(ohms, distortion))
    assert result.apparent >= math.hypot(active, reactive) * (1 - 1e-12)
    assert result.apparent == pytest.approx(result.voltage * result.current * 1000, abs=1.5)
    assert loss >= 0


def test_components_of_known_systems():
    a = complex(-0.5, math.sqrt(3) / 2)
    assert components((230, 230 * a * a, 230 * a)) == pytest.approx((230, 0, 0), abs=1e-9)
    assert components((230, 230 * a, 230 * a * a)) == pytest.approx((0, 230, 0), abs=1e-9)
    assert components((10, 10, 10)) == pytest.approx((0, 0, 10), abs=1e-9)
