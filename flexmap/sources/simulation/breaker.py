"""The disconnect control of a meter: states, control modes and transitions of IEC 62056-6-2 clause 4.5.8."""

from __future__ import annotations

from flexmap.model import EventCode, LocalError
from flexmap.model.breaker import BLOCKED_BY_HIERARCHY, BLOCKED_BY_MODE, MOST_MODE, State, Trigger

__all__ = ["Breaker", "State", "Trigger"]


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
    "h": EventCode.LOCAL_CONNECTION,
}


class Breaker:
    """A breaker with its control state and the count of its operations."""

    def __init__(self, mode: int = 4, state: State = State.CONNECTED, operations: int = 0) -> None:
        if not 0 <= mode <= MOST_MODE:
            raise LocalError(f"control mode {mode} is none of 0 to {MOST_MODE}")
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
            raise LocalError(f"{BLOCKED_BY_MODE}: in control mode 0 the breaker is always connected")
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
            raise LocalError(f"{BLOCKED_BY_HIERARCHY}: ready, waits for the push button at the meter")
        state = self.state.name.lower()
        raise LocalError(f"{BLOCKED_BY_MODE}: control mode {self.mode} allows no {trigger} from state {state}")

    def set_mode(self, mode: int) -> bool:
        """Change the control mode; return whether it was another. Mode 0 closes the contacts.

        Raises LocalError if there is no such mode.
        """
        if not 0 <= mode <= MOST_MODE:
            raise LocalError(f"control mode {mode} is none of 0 to {MOST_MODE}")
        if mode == self.mode:
            return False
        self.mode = mode
        if mode == 0 and self.state is not State.CONNECTED:
            self.state = State.CONNECTED
            self.operations += 1
        return True
