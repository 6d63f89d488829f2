"""Script table (class 9) and single action schedule (class 22), IEC 62056-6-2."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from flexmap.dlms import axdr, security
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role

SCRIPT_TABLE, SINGLE_ACTION_SCHEDULE = 9, 22
EXECUTE = 1
"""Method of a script table."""
EXECUTION_TIME = 4
"""Attribute of a single action schedule."""


class Service(enum.IntEnum):
    """What an action of a script does."""

    WRITE = 1
    EXECUTE = 2


class ScriptAction(msgspec.Struct, frozen=True):
    """action_specification: one attribute written, or one method called."""

    service: Service
    class_id: int
    logical_name: bytes
    index: int
    parameter: bytes
    """Encoded."""

    def encode(self) -> bytes:
        """Return the action_specification."""
        return axdr.structure(
            axdr.encode("enum", self.service),
            axdr.encode("long-unsigned", self.class_id),
            axdr.octet_string(self.logical_name),
            axdr.encode("integer", self.index),
            self.parameter,
        )


Scripts = Mapping[int, Sequence[ScriptAction]]
"""Actions by script_identifier, 1 to 65535."""


ScriptName = tuple[bytes, int]
"""Logical name of a script table, and a script of it."""


def script_table(logical_name: bytes, scripts: Scripts) -> ObjectDefinition:
    """Return a Script table (class 9 version 0) whose scripts are fixed; no slots.

    ``execute`` asks for authenticated requests.
    """
    encoded = [
        axdr.structure(axdr.encode("long-unsigned", number), axdr.array([action.encode() for action in actions]))
        for number, actions in scripts.items()
    ]
    attributes = (Attribute(2, AUTHENTICATED, value=axdr.array(encoded)),)
    methods = (Method(EXECUTE, protection=security.AUTHENTICATED),)
    return ObjectDefinition(SCRIPT_TABLE, 0, logical_name, attributes, methods)


def script_identifier(data: bytes | None) -> int:
    """Return the parameter of ``execute``; raises AxdrError."""
    number = axdr.decode(data or axdr.NULL)
    if type(number) is int:
        return number
    raise AxdrError("execute takes a script_identifier")


def single_action_schedule(logical_name: bytes, table: bytes, script: int) -> ObjectDefinition:
    """Return a Single action schedule (class 22 version 0) of one script. Slot: 4 execution_time.

    Type 1: one time, of whose date parts may be left open.
    """
    executed = axdr.structure(axdr.octet_string(table), axdr.encode("long-unsigned", script))
    attributes = (
        Attribute(2, AUTHENTICATED, value=executed),
        Attribute(3, AUTHENTICATED, value=axdr.encode("enum", 1)),
        Attribute(EXECUTION_TIME, AUTHENTICATED, Role.MANAGEMENT),
    )
    return ObjectDefinition(SINGLE_ACTION_SCHEDULE, 0, logical_name, attributes)
