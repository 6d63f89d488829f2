"""Breaker commands over MMS: all four control models, answered only when the meter has answered."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mms_harness import Rust, core, until
from mms_site import T0, sample

CLIENTS = Path(__file__).parents[1] / "clients"
ANSWER_AFTER = 0.4
DIRECT, SBO = "FMTESTM1/XSWI1.Pos", "FMTESTM1/CSWI1.Pos"
OBJECTS = {1: "FMTESTM1/XSWI2.Pos", 2: "FMTESTM1/CSWI2.Pos", 3: DIRECT, 4: SBO}
"""Control object by control model; 1 and 2 act on the point ``relay`` (off), 3 and 4 on ``breaker`` (on)."""


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def engine(tmp_path_factory, request):
    with core(tmp_path_factory.mktemp("core"), engine=request.param, command_timeout=1.5) as running:
        running.update(sample("SM_1"))
        running.wait(lambda status: status["samples"] == 1)
        yield running


class Libiec:
    """A command by libiec61850's own client."""

    def __init__(self, engine, reference, value):
        arguments = ["127.0.0.1", str(engine.port), reference, str(value).lower()]
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENTS / "libiec_control.py"), *arguments], stdout=subprocess.PIPE
        )

    def outcome(self):
        return json.loads(self.process.communicate(timeout=15)[0])


def answer(engine, done, cause=""):
    """Answer the open command as the meter would, after a while; returns the command."""
    command = engine.hear("command")
    time.sleep(ANSWER_AFTER)
    engine.say(result=[command[0], done, cause])
    return command


@pytest.mark.parametrize("model", [1, 2, 3, 4])
def test_a_command_is_done_when_the_meter_says_so(engine, model):
    value = model < 3
    client = Libiec(engine, OBJECTS[model], value)
    _id, meter, point, wanted, origin, *_ = answer(engine, done=True)
    assert (meter, point, wanted) == ("SM_1", "relay" if model < 3 else "breaker", value)
    assert origin.startswith("mms 127.0.0.1:")
    outcome = client.outcome()
    assert outcome["model"] == model
    assert outcome["operate"] is True
    assert outcome["add_cause"] == 0
    assert outcome["termination"] == (0 if model > 2 else None)
    assert outcome["seconds"] >= ANSWER_AFTER


@pytest.mark.parametrize("model", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("cause", "add_cause"), [("blocked-by-interlocking", 10), ("cover open", 9)], ids=["named", "free text"]
)
def test_a_meters_refusal_reaches_the_client_with_its_cause(engine, model, cause, add_cause):
    client = Libiec(engine, OBJECTS[model], model < 3)
    answer(engine, done=False, cause=cause)
    outcome = client.outcome()
    assert outcome["add_cause"] == add_cause
    assert outcome["operate"] is (model > 2)
    assert outcome["termination"] == (add_cause if model > 2 else None)


@pytest.mark.parametrize("model", [1, 2, 3, 4])
def test_a_position_already_reached_is_refused_at_once(engine, model):
    outcome = Libiec(engine, OBJECTS[model], model > 2).outcome()
    assert outcome["add_cause"] == 5
    assert not outcome["operate"]
    assert engine.said["command"].empty()


@pytest.mark.parametrize("model", [1, 3])
def test_a_meter_that_never_answers_is_a_time_limit_over(engine, model):
    client = Libiec(engine, OBJECTS[model], model < 3)
    engine.hear("command")
    outcome = client.outcome()
    assert outcome["add_cause"] == 16
    assert 1.4 < outcome["seconds"] < 2.5


def test_a_control_object_of_no_point_is_not_supported(engine):
    assert Libiec(engine, "FMTESTM1/CSWI9.Pos", value=True).outcome()["add_cause"] == 1


def test_a_second_command_through_the_other_object_waits_for_the_first(engine):
    first = Libiec(engine, DIRECT, value=False)
    command = engine.hear("command")
    second = Libiec(engine, SBO, value=False).outcome()
    assert second["add_cause"] == 12
    engine.say(result=[command[0], True, ""])
    assert first.outcome()["termination"] == 0


def test_the_rust_client_selects_and_operates(engine):
    with Rust(engine.port) as client:
        for action, model, ref in (("select_with_value", "sbo-enhanced", SBO), (None, "direct-enhanced", DIRECT)):
            if action:
                assert client.control(ref=ref, model=model, action=action, value=False)["success"]
            asked = time.monotonic()
            client.ask("control", ref=ref, model=model, action="operate", value=False)
            answer(engine, done=True)
            assert client.hear(10) == {"success": True, "cause": None}
            assert time.monotonic() - asked >= ANSWER_AFTER


def test_only_the_client_that_selected_may_operate(engine):
    with Rust(engine.port) as owner, Rust(engine.port) as other:
        select = {"ref": SBO, "model": "sbo-enhanced", "action": "select_with_value", "value": False}
        assert owner.control(**select)["success"]
        assert not other.control(**select)["success"]
        assert not other.control(**(select | {"action": "operate"}))["success"]
        assert owner.control(**(select | {"action": "cancel"}))["success"]
        assert other.control(**select)["success"]
        assert other.control(**(select | {"action": "cancel"}))["success"]
    assert engine.said["command"].empty()


def test_a_command_marked_as_test_moves_nothing(engine):
    with Rust(engine.port) as client:
        outcome = client.control(ref=DIRECT, model="direct-enhanced", action="operate", value=False, test=True)
    assert not outcome["success"]
    assert engine.said["command"].empty()


def test_a_client_that_leaves_while_its_command_runs_harms_nobody(engine):
    with Rust(engine.port) as client:
        client.ask("control", ref=DIRECT, model="direct-enhanced", action="operate", value=False)
        command = engine.hear("command")
        client.kill()
    time.sleep(0.2)
    engine.say(result=[command[0], True, ""])
    time.sleep(0.2)
    later = Libiec(engine, DIRECT, value=False)
    answer(engine, done=True)
    assert later.outcome()["termination"] == 0
    assert engine.status()["restarts"] == 0


def test_the_new_position_is_reported_by_the_next_sample(engine):
    report = "FMTESTM1/LLN0.RP.urAll02"
    with Rust(engine.port) as client:
        client.enable(ref=report)
        engine.update(sample("SM_1", time=T0 + 5000, breaker=False))
        (entry,) = until(lambda: client.poll(milliseconds=200))
        changed = [value for value in entry["values"] if value is not None]
        assert [value[2:5] for value in changed] == [["40", "0000", "684ee1851f7ced0a"]] * 2
    engine.update(sample("SM_1", time=T0 + 6000))
    with Rust(engine.port) as client:
        until(lambda: client.read(ref=DIRECT, fc="ST")[2] == "80")
