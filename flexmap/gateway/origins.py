"""Who had a breaker moved: the text of events that meters tell of without saying so."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.model import Command, Event, EventCode, EventLog
from flexmap.model.sample import BREAKER

SLACK = 5_000
"""Milliseconds that a meter's clock may be off, and that it may take to answer beyond the limit."""
_MOST = 8
"""Commands of a meter that are remembered."""
_ACTS = {
    EventCode.REMOTE_DISCONNECTION: (False, False),
    EventCode.REMOTE_CONNECTION: (True, False),
    EventCode.READY_FOR_RECONNECTION: (True, False),
    EventCode.LOCAL_DISCONNECTION: (False, True),
    EventCode.LOCAL_CONNECTION: (True, True),
}
"""What was asked for, and whether locally, of each event that commands lead to."""
_BY_HAND = {EventCode.MANUAL_DISCONNECTION, EventCode.MANUAL_CONNECTION}


class _Given(msgspec.Struct, frozen=True):
    close: bool
    local: bool
    origin: str
    time: int


class Origins:
    """Commands given of late, by meter."""

    def __init__(self, now: Callable[[], float], limit: float) -> None:
        """``limit``: seconds that a meter has to answer."""
        self._now = now
        self._limit = int(limit * 1000)
        self._given: dict[str, list[_Given]] = {}

    def give(self, command: Command) -> None:
        """Remember a command."""
        if command.point == BREAKER:
            given = _Given(bool(command.value), command.local, command.origin, int(self._now() * 1000))
            self._given[command.meter] = [*self._given.get(command.meter, [])[1 - _MOST :], given]

    def named(self, event: Event) -> Event:
        """Return an event of a breaker with the text that says who asked for it; others as they are."""
        if event.log is not EventLog.DISCONNECT:
            return event
        if event.code in _BY_HAND:
            return msgspec.structs.replace(event, text="by hand at the meter")
        act = _ACTS.get(event.code)
        found = [
            given.origin
            for given in self._given.get(event.meter, [])
            if (given.close, given.local) == act
            and given.time - SLACK <= event.time <= given.time + self._limit + SLACK
        ]
        return msgspec.structs.replace(event, text=f"by {found[-1]}") if found else event
