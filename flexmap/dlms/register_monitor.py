"""Register monitor (class 21, IEC 62056-6-2): when a value crosses thresholds. Sans-io, in its own time."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from flexmap.dlms import axdr
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.limiter import ScriptItem
from flexmap.dlms.objects import Attribute, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.dlms.selection import CaptureObject

REGISTER_MONITOR = 21
REGISTER_MONITOR_LN = bytes((0, 0, 16, 0, 0, 255))
THRESHOLDS, MONITORED_VALUE, ACTIONS = 2, 3, 4
MOST_THRESHOLDS = 3


def register_monitor(name: bytes = REGISTER_MONITOR_LN) -> ObjectDefinition:
    """Return a Register monitor (class 21 version 0). Slots: 2 to 4; all can be written."""
    attributes = tuple(
        Attribute(index, AUTHENTICATED, Role.MANAGEMENT) for index in (THRESHOLDS, MONITORED_VALUE, ACTIONS)
    )
    return ObjectDefinition(REGISTER_MONITOR, 0, name, attributes)


class ActionSet(msgspec.Struct, frozen=True, array_like=True):
    """action_set: what is done when the value rises over a threshold, and when it falls to it or below."""

    up: ScriptItem
    down: ScriptItem

    def encode(self) -> bytes:
        """Return the structure."""
        return axdr.structure(self.up.encode(), self.down.encode())


class Crossing(NamedTuple):
    """A threshold that a value has crossed."""

    place: int
    """Of the threshold in its array, from 0."""
    up: bool
    threshold: int


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """What a head-end has written, and where the value was last; kept over a restart."""

    monitored: CaptureObject
    thresholds: tuple[bytes, ...] = ()
    """Encoded as they were written; in units of the register."""
    actions: tuple[ActionSet, ...] = ()
    """By the place of the threshold; one without does nothing."""
    exceeded: tuple[bool, ...] = ()
    """Whether the value was over each threshold: never, before the first sample."""
    last: int = 0
    """The newest sample that was looked at, ms."""

    def script(self, place: int) -> ScriptItem | None:
        """Return what the side that the value is on asks for."""
        if place >= min(len(self.actions), len(self.exceeded)):
            return None
        action = self.actions[place]
        return action.up if self.exceeded[place] else action.down

    def sample(self, time: int, value: int) -> tuple[Monitor, list[Crossing]]:
        """Return the monitor behind a sample and what was crossed; one older than the newest changes nothing."""
        if time <= self.last:
            return self, []
        limits = [int.from_bytes(each[1:], "big", signed=each[0] in _SIGNED) for each in self.thresholds]
        exceeded = tuple(value > limit for limit in limits)
        crossed = [
            Crossing(place, now, limits[place])
            for place, (was, now) in enumerate(zip(self.exceeded, exceeded, strict=True))
            if was is not now
        ]
        return msgspec.structs.replace(self, exceeded=exceeded, last=time), crossed

    def watching(self, monitored: CaptureObject, thresholds: tuple[bytes, ...]) -> Monitor:
        """Return a monitor of another value, or with other thresholds: none is exceeded yet."""
        exceeded = (False,) * len(thresholds)
        return msgspec.structs.replace(self, monitored=monitored, thresholds=thresholds, exceeded=exceeded)


_SIGNED = {axdr.Tag.INTEGER, axdr.Tag.LONG, axdr.Tag.DOUBLE_LONG, axdr.Tag.LONG64}


def take_thresholds(data: bytes) -> tuple[bytes, ...]:
    """Return the elements of an array of whole numbers, each left encoded; raises AxdrError."""
    numbers = axdr.decode(data)
    if not isinstance(numbers, list) or any(type(each) is not int for each in numbers):
        raise AxdrError("array of whole numbers expected")
    return tuple(axdr.elements_of(bytes((axdr.Tag.STRUCTURE,)) + data[1:]))  # the two differ in their tag alone
