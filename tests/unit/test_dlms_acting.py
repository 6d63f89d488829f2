"""Limiter, register monitor, alarms and voltages: their machines, in the meter's own time."""

import msgspec
import pytest

from flexmap.dlms import axdr
from flexmap.dlms.alarms import BREAKER_FAILURE, FRAUD, MISSING_VOLTAGE, Alarms
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.limiter import Act, Emergency, Progress, ScriptItem, Settings
from flexmap.dlms.register_monitor import ActionSet, Monitor, take_thresholds
from flexmap.dlms.selection import CaptureObject
from flexmap.dlms.voltage import Level, Phase, Thresholds
from flexmap.model import EventCode

NOTHING = ScriptItem(bytes(6))
POWER = CaptureObject(4, bytes((1, 0, 1, 7, 0, 255)), 2)
SETTINGS = Settings(monitored=POWER, normal=3000, over=5, under=3, on_over=NOTHING, on_under=NOTHING)


def run(settings, samples, progress=None):
    progress, acts = progress or Progress(), []
    for second, value in samples:
        progress, act = progress.sample(settings, second * 1000, value)
        if act is not None:
            acts.append((second, act))
    return progress, acts


def test_the_limiter_acts_when_the_value_was_over_for_long_enough_and_again_when_it_was_under():
    samples = [(second, 3001) for second in range(100, 110)] + [(second, 3000) for second in range(110, 120)]
    _, acts = run(SETTINGS, samples)
    assert acts == [(105, Act.OVER), (113, Act.UNDER)]


def test_a_dip_begins_the_wait_anew():
    samples = [(100, 4000), (104, 4000), (105, 100), (106, 4000), (110, 4000), (111, 4000)]
    assert run(SETTINGS, samples)[1] == [(111, Act.OVER)]


def test_samples_that_come_late_and_seldom_count_in_their_own_time():
    assert run(SETTINGS, [(100, 4000), (110, 4000)])[1] == [(110, Act.OVER)]
    # The latest record comes first, then what was missed: in between the value was under the threshold.
    assert run(SETTINGS, [(100, 4000), (104, 4000), (102, 100), (106, 4000)])[1] == []
    assert run(SETTINGS, [(100, 4000), (104, 4000), (102, 100), (106, 4000), (109, 4000)])[1] == [(109, Act.OVER)]


def test_a_restart_in_between_changes_nothing():
    progress, acts = run(SETTINGS, [(100, 4000), (102, 4000)])
    assert not acts
    assert run(SETTINGS, [(105, 4000)], progress)[1] == [(105, Act.OVER)]


def test_the_emergency_profile_has_its_time_and_its_groups():
    profile = Emergency(7, 200_000, 60)
    urgent = msgspec.structs.replace(SETTINGS, emergency=500, profile=profile, groups=(7, 9))
    assert [urgent.threshold(second * 1000) for second in (199, 200, 259, 260)] == [3000, 500, 500, 3000]
    assert run(urgent, [(second, 600) for second in range(190, 270)])[1] == [(205, Act.OVER), (263, Act.UNDER)]
    other = msgspec.structs.replace(urgent, groups=(8,))
    assert run(other, [(second, 600) for second in range(190, 270)])[1] == []


def test_alarms_rise_once_and_go_into_the_descriptor_through_the_filter():
    opened = Alarms().event(EventCode.METER_COVER_OPENED)
    assert opened.registers == opened.descriptors == (1 << FRAUD.number, 0)
    assert opened.event(EventCode.METER_COVER_OPENED) == opened
    assert opened.event(EventCode.METER_COVER_CLOSED) == opened, "fraud stays until it is cleared"
    assert opened.cleared("registers", 0, 1) is None
    cleared = opened.cleared("registers", 0, 0)
    assert (cleared.registers, cleared.descriptors) == ((0, 0), opened.descriptors)
    silent = Alarms().filtered(0, 0).event(EventCode.METER_COVER_OPENED)
    assert silent.descriptors == (0, 0)
    assert silent.registers == opened.registers


def test_what_ends_is_cleared_in_the_register_and_stays_in_the_descriptor():
    missing = Alarms().event(EventCode.MISSING_VOLTAGE_L1)
    again = missing.event(EventCode.NORMAL_VOLTAGE_L1)
    assert missing.registers[1] & 1 << MISSING_VOLTAGE[0].number
    assert not again.registers[1] & 1 << MISSING_VOLTAGE[0].number
    assert again.descriptors[1] == 1 << MISSING_VOLTAGE[0].number
    failed = Alarms().event(EventCode.DISCONNECT_FAILURE)
    assert failed.registers[1] == 1 << BREAKER_FAILURE.number
    assert failed.event(EventCode.REMOTE_DISCONNECTION).registers == (0, 0)


@pytest.mark.parametrize(
    ("volts", "found"),
    [
        ([230] * 3 + [200] * 31 + [230], [(33, Level.UNDER), (34, Level.NORMAL)]),
        ([230] * 3 + [200] * 30 + [230] * 5, []),
        ([260] * 40, [(30, Level.OVER)]),
        ([230, 0, 0, 0, 230], [(2, Level.MISSING), (4, Level.NORMAL)]),
        ([230, 0, 230], []),
    ],
)
def test_voltages(volts, found):
    phase, thresholds = Phase(), Thresholds()
    levels = [(second, phase.sample(thresholds, second * 1000, each)) for second, each in enumerate(volts)]
    assert [(second, level) for second, level in levels if level is not None] == found


def numbers(*limits):
    return tuple(axdr.encode("double-long", each) for each in limits)


def test_a_register_monitor_tells_of_each_threshold_that_is_crossed_and_never_twice():
    watching = Monitor(monitored=POWER).watching(POWER, numbers(-50, 100))
    crossed = []
    for second, value in enumerate([-60, -50, -49, 100, 101, 300, -51, -51], start=1):
        watching, found = watching.sample(second * 1000, value)
        crossed += [(second, *each) for each in found]
    assert crossed == [(3, 0, True, -50), (5, 1, True, 100), (7, 0, False, -50), (7, 1, False, 100)]


def test_a_register_monitor_ignores_what_comes_late_and_asks_for_the_script_of_its_side():
    up, down = ScriptItem(bytes(6), 1), ScriptItem(bytes(6), 2)
    watching = Monitor(monitored=POWER, actions=(ActionSet(up, down),)).watching(POWER, numbers(100, 200))
    watching, crossed = watching.sample(9000, 250)
    assert len(crossed) == 2
    assert watching.sample(8000, 0) == (watching, [])
    assert (watching.script(0), watching.script(1), watching.script(2)) == (up, None, None)
    assert watching.sample(10_000, 0)[0].script(0) is down


@pytest.mark.parametrize(
    "data",
    [
        axdr.encode("double-long", 5),
        axdr.structure(*numbers(5)),
        axdr.array([axdr.encode("boolean", True)]),
        axdr.array([axdr.encode("enum", 1)]),
        axdr.array([axdr.octet_string(b"1")]),
    ],
)
def test_thresholds_are_whole_numbers(data):
    assert take_thresholds(axdr.array(numbers(1, -1))) == numbers(1, -1)
    with pytest.raises(AxdrError):
        take_thresholds(data)
