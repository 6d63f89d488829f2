"""The disconnect control of a meter: states, control modes and transitions of IEC 62056-6-2 clause 4.5.8."""

from __future__ import annotations

import enum

from flexmap.model import EventCode, LocalError


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


# The standard's transitions by letter: trigger, from, to.
_TRANSITIONS = {
    "a": (Trigger.REMOTE_RECONNECT, State.DISCONNECTED, State.CONNECTED),
    "b": (Trigger.REMOTE_DISCONNECT, State.CONNECTED, State.DISCONNECTED),
    "c": (Trigger.REMOTE_DISCONNECT, State.READY, State.DISCONNECTED),
    "d": (Trigger.REMOTE_RECONNECT, State.DISCONNECTED, State.READY),
    "e": (Trigger.MANUAL_RECONNECT, State.READY, State.CONNECTED),
    "f": (Trigger.MANUAL_DISCONNECT, State.CONNECTED, State.READY),
    "g": (Trigger.LOCAL_DISCONNECT, State.CONNECTED, State.READY),
    "h": (Trigger.LOCAL_RECONNECT, State.READY, State.CONNECTED),
}
# Transitions that each control mode allows (class 70 attribute 4).
_MODES = ("", "bcfgde", "bcfgae", "bcgde", "bcgae", "bcfgdeh", "bcgdeh")

_GOALS = {
    Trigger.REMOTE_DISCONNECT: {State.DISCONNECTED},
    Trigger.REMOTE_RECONNECT: {State.CONNECTED},
    Trigger.MANUAL_DISCONNECT: {State.READY, State.DISCONNECTED},
    Trigger.MANUAL_RECONNECT: {State.CONNECTED},
    Trigger.LOCAL_DISCONNECT: {State.READY, State.DISCONNECTED},
    Trigger.LOCAL_RECONNECT: {State.CONNECTED},
}
_CODES = {
    "a": EventCode.REMOTE_CONNECTION,
    "b": EventCode.REMOTE_DISCONNECTION,
    "c": EventCode.REMOTE_DISCONNECTION,
    "d": EventCode.READY_FOR_RECONNECTION,
    "e": EventCode.MANUAL_CONNECTION,
    "f": EventCode.MANUAL_DISCONNECTION,
    "g": EventCode.LOCAL_DISCONNECTION,
    # Companion specifications number no local connection: the customer's own action counts as manual.
    "h": EventCode.MANUAL_CONNECTION,
}


class Breaker:
    """A breaker with its control state and the count of its operations."""

    def __init__(self, mode: int = 4, state: State = State.CONNECTED, operations: int = 0) -> None:
        if not 0 <= mode < len(_MODES):
            raise LocalError(f"control mode {mode} is none of 0 to {len(_MODES) - 1}")
        self.mode = mode
        self.state = State.CONNECTED if mode == 0 else state
        self.operations = operations
        """How often the contacts have moved."""

    @property
    def closed(self) -> bool:
        """Whether the contacts are closed: the output state (class 70 attribute 2)."""
        return self.state is State.CONNECTED

    def trigger(self, trigger: Trigger) -> EventCode | None:
        """Act on the breaker; return what happened, None if it stood there already.

        Raises LocalError with the cause if the control mode or the state does not allow it.
        """
        if self.mode == 0 and trigger is not Trigger.REMOTE_RECONNECT:
            raise LocalError("control mode 0: the breaker is always connected")
        if self.state in _GOALS[trigger]:
            return None
        for letter in _MODES[self.mode]:
            cause, start, end = _TRANSITIONS[letter]
            if cause is trigger and start is self.state:
                was_closed = self.closed
                self.state = end
                self.operations += was_closed is not self.closed
                return _CODES[letter]
        if trigger is Trigger.REMOTE_RECONNECT and self.state is State.READY:
            raise LocalError("ready for reconnection: waits for the push button at the meter")
        raise LocalError(f"control mode {self.mode} allows no {trigger} from state {self.state.name.lower()}")
