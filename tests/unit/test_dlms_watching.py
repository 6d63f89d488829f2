"""What head-ends write into limiter and register monitor: all of it can be kept and shown again, or is refused."""

import pytest

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import Pending
from flexmap.faces.dlms.limits import DISCONNECT_SCRIPTS_LN, Limiter, disconnect_scripts, monitored
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.monitors import RegisterMonitor
from flexmap.faces.dlms.scripts import ScriptTable
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import UTC
from flexmap.model import EventCode, Sample

TYPE = load_builtin()["single-phase"]
REGISTERS = monitored(TYPE)
WRONG, UNKNOWN, GOOD = DataAccessResult.TYPE_UNMATCHED, DataAccessResult.OTHER_REASON, DataAccessResult.SUCCESS


class Kept(dict):
    """What is kept, in memory."""

    def read(self, meter, name):
        return self.get((meter, name))

    def keep(self, meter, name, octets):
        self[meter, name] = octets


class Meter:
    """Both objects of a meter, and what they do."""

    def __init__(self, kept=None):
        self.kept = Kept() if kept is None else kept
        self.events, self.performed = [], []
        table = ScriptTable(DISCONNECT_SCRIPTS_LN, disconnect_scripts(bytes(6)), self.perform)
        self.monitor = RegisterMonitor(
            "M", REGISTERS, {DISCONNECT_SCRIPTS_LN: table}, self.kept, self.events.append
        )
        self.limiter = Limiter(
            "M",
            REGISTERS,
            table,
            keeper=self.kept,
            local=LocalTime(UTC),
            on_event=self.events.append,
            now=lambda: 0.0,
        )

    def perform(self, action, _client):
        self.performed.append((action.index, Pending()))
        return self.performed[-1][1]

    def volts(self, second, volts):
        sample = Sample("M", second * 1000, (volts,) * len(TYPE.points), (0,) * len(TYPE.points))
        self.monitor.observe(sample)

    def shown(self):
        return [[slot() for slot in each.slots().values()] for each in (self.monitor, self.limiter)]


def number(value, kind="long-unsigned"):
    return axdr.encode(kind, value)


def item(script, table=DISCONNECT_SCRIPTS_LN):
    return axdr.structure(axdr.octet_string(table), script)


def monitored_value(class_id, index):
    return axdr.structure(class_id, axdr.octet_string(bytes((1, 0, 32, 7, 0, 255))), index)


TRUE, ENUM, HUGE = number(True, "boolean"), number(4, "enum"), number(1 << 40, "long64-unsigned")
NOTHING = item(number(0))
ATTRIBUTE = number(2, "integer")


@pytest.mark.parametrize(
    ("name", "attribute", "data", "result"),
    [
        ("monitor", 3, monitored_value(number(4), ATTRIBUTE), GOOD),
        ("monitor", 3, monitored_value(ENUM, ATTRIBUTE), WRONG),
        ("monitor", 3, monitored_value(number(4), number(2, "enum")), WRONG),
        ("monitor", 3, monitored_value(number(4), number(3, "integer")), UNKNOWN),
        ("monitor", 4, axdr.array([axdr.structure(item(number(1)), NOTHING)]), GOOD),
        ("monitor", 4, axdr.array([axdr.structure(item(TRUE), NOTHING)]), WRONG),
        ("monitor", 4, axdr.array([axdr.structure(item(HUGE), NOTHING)]), WRONG),
        ("monitor", 4, axdr.array([axdr.structure(item(number(1), b"short"), NOTHING)]), WRONG),
        ("monitor", 4, axdr.array([axdr.structure(item(number(3)), NOTHING)]), UNKNOWN),
        ("monitor", 2, axdr.array([number(-5, "integer"), HUGE]), GOOD),
        ("limiter", 2, monitored_value(number(4), ATTRIBUTE), GOOD),
        ("limiter", 2, monitored_value(ENUM, ATTRIBUTE), WRONG),
        ("limiter", 8, axdr.structure(number(1), axdr.octet_string(b"\xff" * 12), number(5)), GOOD),
        ("limiter", 8, axdr.structure(HUGE, axdr.octet_string(b"\xff" * 12), number(5)), WRONG),
        ("limiter", 8, axdr.structure(number(1), axdr.octet_string(b"\xff" * 12), TRUE), WRONG),
        ("limiter", 9, axdr.array([number(7)]), GOOD),
        ("limiter", 9, axdr.array([HUGE]), WRONG),
        ("limiter", 11, axdr.structure(item(number(1)), item(number(2))), GOOD),
        ("limiter", 11, axdr.structure(item(TRUE), item(number(2))), WRONG),
        ("limiter", 11, axdr.structure(item(number(3)), item(number(2))), UNKNOWN),
    ],
)
def test_what_is_written_is_shown_after_a_restart_or_refused(name, attribute, data, result):
    meter = Meter()
    before = meter.shown()
    assert getattr(meter, name).write(attribute, data) is result
    assert (meter.shown() == before) is (result is not GOOD)
    assert Meter(meter.kept).shown() == meter.shown()
    if result is GOOD and attribute != 8:
        assert getattr(meter, name).slots()[attribute]() == data


def test_an_action_that_is_not_answered_is_tried_again_and_one_that_is_refused_is_not():
    meter = Meter()
    voltage = monitored_value(number(4), ATTRIBUTE)
    actions = axdr.array([axdr.structure(item(number(1)), item(number(2)))])
    for attribute, data in ((3, voltage), (4, actions), (2, axdr.array([number(2400)]))):
        assert meter.monitor.write(attribute, data) is GOOD
    meter.volts(100, 230.0)
    meter.volts(101, 250.0)
    meter.volts(102, 251.0)
    assert [(event.code, event.time) for event in meter.events] == [(EventCode.SUPERVISION_1_EXCEEDED, 101_000)]
    (method, answer) = meter.performed.pop()
    assert method == 1
    answer.answer(ActionResult.TEMPORARY_FAILURE)
    meter.volts(160, 251.0)
    assert not meter.performed
    meter.volts(161, 251.0)
    meter.performed.pop()[1].answer(ActionResult.READ_WRITE_DENIED)
    meter.volts(300, 251.0)
    assert not meter.performed
    meter.volts(301, 240.0)
    assert meter.performed.pop()[0] == 2
    again = Meter(meter.kept)
    again.volts(302, 250.0)
    assert again.performed[0][0] == 1
    again.volts(303, 230.0)  # crosses back before the first is answered
    again.performed[0][1].answer(ActionResult.TEMPORARY_FAILURE)
    again.performed[1][1].answer(ActionResult.SUCCESS)
    again.volts(400, 230.0)
    assert [each for each, _ in again.performed] == [1, 2]
