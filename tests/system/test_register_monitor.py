"""A register monitor of a meter, written by Gurux's client, acts through scripts and holds over a kill."""

import pytest
from mms_harness import until
from remote import RemoteFailure
from test_breaker_paths import BREAKER, LOCAL_OFF, LOG, SCRIPTS, SECONDS, Running, opened_and_named
from test_dlms_push import HeadEnd, decoded_by_cosem

from flexmap.dlms import axdr

MONITOR, POWER, VOLTAGE = "0.0.16.0.0.255", "1.0.16.7.0.255", "1.0.32.7.0.255"
FILTERS = ("0.0.97.98.10.255", "0.0.97.98.11.255")
PUSH_SCRIPTS = "0.0.10.0.108.255"
ALARM_SETUP = bytes((0, 4, 25, 9, 0, 255))
EXCEEDED, OK, NEVER = (70, 72), (71, 73), 2**31 - 1
NOTHING, PUSH_ALARMS = (SCRIPTS, 0), (PUSH_SCRIPTS, 4)


@pytest.fixture
def site(tmp_path):
    head_end = HeadEnd()
    running = Running(tmp_path, head_end.port)
    running.head_end = head_end
    yield running
    running.gateway.close()
    head_end.close()


def codes(client):
    """Codes of the disconnector's log that are of the monitor."""
    return [row[1] for row in client.rows_by_entry(LOG, 1, 1000) or [] if 70 <= row[1] <= 75]


QUIET = 10
"""Seconds without a push after which none is waiting: more than two repetitions."""


def pushed_by_the_meter(head_end, seconds):
    """The next notification of the meter; raises TimeoutError when nothing comes."""
    head_end.socket.settimeout(seconds)
    while True:
        if head_end.connection is not None:
            head_end.connection.settimeout(seconds)
        frame = head_end.frame()
        if frame[2:4] == (1001).to_bytes(2, "big"):
            return frame[8:]


def octets(name):
    return bytes(map(int, name.split(".")))


def test_a_monitor_opens_the_breaker_holds_over_a_kill_and_pushes(site):
    head = site.client(1, "management")
    assert (21, MONITOR) in head.objects()
    assert not any(head.get(21, MONITOR, index) for index in (2, 4))
    assert head.get(21, MONITOR, 3)[1:] == [octets(POWER), 2]
    head.set_monitor(MONITOR, actions=[((SCRIPTS, 1), NOTHING), (NOTHING, NOTHING)], thresholds=[0, NEVER])
    opened_and_named(site, head, LOCAL_OFF, "by register monitor 0-0:16.0.0")
    until(lambda: codes(head) == [EXCEEDED[0], OK[0]], SECONDS)  # without a load there is no power
    head.close()

    site.gateway.kill()
    site.begin()
    head = site.client(1, "management")
    assert head.get(21, MONITOR, 2) == [0, NEVER]
    assert head.get(21, MONITOR, 4)[0] == [[octets(SCRIPTS), 1], [octets(SCRIPTS), 0]]
    assert head.get(70, BREAKER, 2) is False

    for name in FILTERS:  # from now on nothing but the monitor's script pushes
        head.set_number(1, name, 2, 0, 32)
    site.head_end.listen()
    with pytest.raises(TimeoutError):
        while pushed_by_the_meter(site.head_end, QUIET):
            pass
    site.head_end.hang_up()
    head.set_monitor(MONITOR, value=(4, VOLTAGE, 2), actions=[(PUSH_ALARMS, NOTHING)], thresholds=[1])
    until(lambda: codes(head)[2:] == [EXCEEDED[0]], SECONDS)
    assert head.get(21, MONITOR, 3) == [4, octets(VOLTAGE), 2]
    assert axdr.decode(decoded_by_cosem(pushed_by_the_meter(site.head_end, SECONDS)))[0] == ALARM_SETUP
    assert head.get_object(21, MONITOR) == {
        1: MONITOR,
        2: [1],
        3: {"objectType": 4, "logicalName": VOLTAGE, "attributeIndex": 2},
        4: [{"actionUp": list(PUSH_ALARMS), "actionDown": list(NOTHING)}],
    }
    head.close()


def test_what_a_monitor_does_not_have_is_refused_and_changes_nothing(site):
    head = site.client(1, "management")
    before = [head.get(21, MONITOR, index) for index in (2, 3, 4)]
    for code, wrong in (
        (250, {"thresholds": [1, 2, 3, 4]}),
        (250, {"value": (3, "1.0.99.7.0.255", 2)}),
        (250, {"actions": [((SCRIPTS, 3), NOTHING)]}),
        (250, {"actions": [(("0.0.10.0.0.255", 1), NOTHING)]}),
        (12, {"thresholds": [b"1"]}),
    ):
        with pytest.raises(RemoteFailure, match=rf"error {code}$"):
            head.set_monitor(MONITOR, **wrong)
    head.close()
    reader = site.client(2, "reader")
    with pytest.raises(RemoteFailure, match=r"error 3$"):
        reader.set_monitor(MONITOR, thresholds=[1])
    assert [reader.get(21, MONITOR, index) for index in (2, 3, 4)] == before
    reader.close()
