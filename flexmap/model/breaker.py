"""Words of the disconnect control (class 70, IEC 62056-6-2 clause 4.5.8): states, and who acts to which end."""

from __future__ import annotations

import enum

MOST_MODE = 6
"""The highest control mode (class 70 attribute 4); 0 is the lowest."""

BLOCKED_BY_MODE = "blocked-by-mode"
"""The control mode does not allow it. As the next one a name of AddCause (IEC 61850-7-2) that a meter's cause of a
refused command begins with, followed by a colon and a text."""
BLOCKED_BY_HIERARCHY = "blocked-by-switching-hierarchy"
"""Only somebody at the meter can act now."""


class State(enum.IntEnum):
    """Control state (class 70 attribute 3)."""

    DISCONNECTED = 0
    CONNECTED = 1
    READY = 2


class Trigger(enum.StrEnum):
    """Who acts, and to which end."""

    REMOTE_DISCONNECT = "remote disconnect"
    REMOTE_RECONNECT = "remote reconnect"
    MANUAL_DISCONNECT = "manual disconnect"
    MANUAL_RECONNECT = "manual reconnect"
    LOCAL_DISCONNECT = "local disconnect"
    LOCAL_RECONNECT = "local reconnect"


def trigger(*, close: bool, local: bool) -> Trigger:
    """Return what a command triggers: from afar, or by a function of the metering system such as a limiter."""
    if local:
        return Trigger.LOCAL_RECONNECT if close else Trigger.LOCAL_DISCONNECT
    return Trigger.REMOTE_RECONNECT if close else Trigger.REMOTE_DISCONNECT
