"""Limiter (class 71, IEC 62056-6-2): when a value is over its threshold for too long. Sans-io, in its own time."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from flexmap.dlms import axdr
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import Attribute, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.dlms.selection import CaptureObject

LIMITER = 71
LIMITER_LN = bytes((0, 0, 17, 0, 0, 255))
NO_LIMIT = 0xFFFF_FFFF
"""A threshold that no register exceeds."""
ACTIVE_THRESHOLD, EMERGENCY_ACTIVE = 3, 10
RETRY = 60_000
"""Milliseconds after which an action that has failed is tried again."""


def limiter(name: bytes = LIMITER_LN) -> ObjectDefinition:
    """Return a Limiter (class 71 version 0). Slots: 2 to 11; all but 3 and 10 can be written."""
    attributes = tuple(
        Attribute(
            index,
            AUTHENTICATED,
            Role.NOBODY if index in (ACTIVE_THRESHOLD, EMERGENCY_ACTIVE) else Role.MANAGEMENT,
        )
        for index in range(2, 12)
    )
    return ObjectDefinition(LIMITER, 0, name, attributes)


def monitored_value(column: CaptureObject) -> bytes:
    """Return the value_definition of an attribute."""
    return axdr.structure(
        axdr.encode("long-unsigned", column.class_id),
        axdr.octet_string(column.logical_name),
        axdr.encode("integer", column.attribute),
    )


def take_monitored_value(value: Any) -> CaptureObject:
    """Return the attribute that a decoded value_definition names; raises AxdrError."""
    match value:
        case (class_id, bytes(name), index) if is_long_unsigned(class_id) and type(index) is int:
            return CaptureObject(class_id, name, index)
    raise AxdrError("structure of class, logical name and attribute expected")


def is_long_unsigned(value: Any) -> bool:
    """Tell whether a decoded value is a number, no boolean or enum, that a long-unsigned holds."""
    return type(value) is int and 0 <= value <= 0xFFFF


class ScriptItem(msgspec.Struct, frozen=True, array_like=True):
    """action_item: a script of a script table; 0 does nothing."""

    table: bytes
    script: int = 0

    def encode(self) -> bytes:
        """Return the structure."""
        return axdr.structure(axdr.octet_string(self.table), axdr.encode("long-unsigned", self.script))


def take_script_item(value: Any) -> ScriptItem:
    """Return a decoded action_item; raises AxdrError."""
    match value:
        case (bytes(table), script) if len(table) == len(LIMITER_LN) and is_long_unsigned(script):
            return ScriptItem(table, script)
    raise AxdrError("structure of a logical name and a script selector expected")


class Emergency(msgspec.Struct, frozen=True, array_like=True):
    """emergency_profile."""

    id: int = 0
    activation: int = 0
    """Epoch ms; 0: never."""
    duration: int = 0
    """Seconds."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a head-end writes."""

    monitored: CaptureObject
    normal: int = NO_LIMIT
    """In units of the register, as is the other threshold."""
    emergency: int = NO_LIMIT
    over: int = 0
    """Seconds that the value must be over the threshold until the action."""
    under: int = 0
    profile: Emergency = Emergency()
    groups: tuple[int, ...] = ()
    """Ids of emergency profiles that this limiter follows."""
    on_over: ScriptItem
    on_under: ScriptItem

    @property
    def limits(self) -> bool:
        """Whether there is a threshold that can be exceeded."""
        return self.normal != NO_LIMIT or self.emergency != NO_LIMIT

    def emergency_at(self, time: int) -> bool:
        """Tell whether the emergency profile is active at a time in ms."""
        profile = self.profile
        if not profile.activation or profile.id not in self.groups:
            return False
        return profile.activation <= time < profile.activation + profile.duration * 1000

    def threshold(self, time: int) -> int:
        """Return threshold_active at a time in ms."""
        return self.emergency if self.emergency_at(time) else self.normal


class Act(enum.Enum):
    """What is to be done now."""

    OVER = "over"
    UNDER = "under"


class Progress(msgspec.Struct, frozen=True):
    """How far a limiter has come; kept over a restart."""

    exceeded: bool = False
    """The threshold was exceeded for long enough, and has not been kept to for long enough since."""
    since: int | None = None
    """Since when, ms, the value is on the other side of the threshold than ``exceeded`` says."""
    last: int = 0
    """The newest sample that was looked at, ms."""

    def sample(self, settings: Settings, time: int, value: int) -> tuple[Progress, Act | None]:
        """Return the progress behind a sample and what is to be done.

        A sample older than the newest one only shows that the value has crossed in between: then the wait begins
        anew, so that nobody is cut off for what he has not done.
        """
        over = value > settings.threshold(time)
        crossed = over is not self.exceeded
        if time <= self.last:
            if not crossed and self.since is not None and time > self.since:
                return msgspec.structs.replace(self, since=self.last), None
            return self, None
        if not crossed:
            return msgspec.structs.replace(self, since=None, last=time), None
        since = time if self.since is None else self.since
        wait = settings.over if over else settings.under
        if time - since < wait * 1000:
            return msgspec.structs.replace(self, since=since, last=time), None
        return Progress(over, None, time), Act.OVER if over else Act.UNDER
