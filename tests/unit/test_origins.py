"""Events of a breaker say who had it moved."""

import pytest

from flexmap.gateway.origins import Origins
from flexmap.model import Command, Event, EventCode, EventLog
from flexmap.model.sample import BREAKER, CONTROL_MODE

NOW = 1_800_000_000


@pytest.fixture
def origins():
    made = Origins(lambda: NOW, 8.0)
    made.give(Command(1, "SM1", BREAKER, False, "DLMS client management (1)"))
    made.give(Command(2, "SM1", BREAKER, False, "limiter 0-0:17.0.0", local=True))
    made.give(Command(3, "SM2", BREAKER, True, "mms 127.0.0.1 orCat 2"))
    made.give(Command(4, "SM3", CONTROL_MODE, 1, "DLMS client management (1)"))
    return made


@pytest.mark.parametrize(
    ("meter", "code", "text"),
    [
        ("SM1", EventCode.REMOTE_DISCONNECTION, "by DLMS client management (1)"),
        ("SM1", EventCode.LOCAL_DISCONNECTION, "by limiter 0-0:17.0.0"),
        ("SM2", EventCode.REMOTE_CONNECTION, "by mms 127.0.0.1 orCat 2"),
        ("SM2", EventCode.READY_FOR_RECONNECTION, "by mms 127.0.0.1 orCat 2"),
        ("SM2", EventCode.REMOTE_DISCONNECTION, ""),
        ("SM3", EventCode.REMOTE_CONNECTION, ""),
        ("SM3", EventCode.MANUAL_DISCONNECTION, "by hand at the meter"),
    ],
)
def test_the_event_names_who_it_was(origins, meter, code, text):
    event = Event(meter, NOW * 1000 + 400, EventLog.DISCONNECT, code)
    assert origins.named(event).text == text


def test_a_command_of_another_time_or_an_event_of_another_log_is_not_named(origins):
    late = Event("SM1", NOW * 1000 + 14_000, EventLog.DISCONNECT, EventCode.REMOTE_DISCONNECTION)
    early = Event("SM1", NOW * 1000 - 6_000, EventLog.DISCONNECT, EventCode.REMOTE_DISCONNECTION)
    other = Event("SM1", NOW * 1000, EventLog.FRAUD, EventCode.TERMINAL_COVER_OPENED, "as it was")
    assert [origins.named(each) for each in (late, early, other)] == [late, early, other]
