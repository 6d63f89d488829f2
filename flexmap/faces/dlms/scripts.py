"""Scripts of a meter's logical device, and what calls them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr, scripts
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.image_transfer import ACTIVATE, IMAGE_TRANSFER, IMAGE_TRANSFER_LN
from flexmap.dlms.objects import ActionReply, ObjectDefinition, Pending, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.schedule import Execution, decode_executions, following
from flexmap.dlms.scripts import ScriptAction, Scripts, Service
from flexmap.faces.dlms.pushing import Keeper
from flexmap.faces.dlms.turns import Spread, at_once
from flexmap.mapping.zone import UTC, Zone
from flexmap.model import LocalError, obis

log = Logger(namespace="flexmap.dlms")

IMAGE_SCRIPTS_LN = obis.parse("0-0:10.0.107")
IMAGE_SCHEDULE_LN = obis.parse("0-0:15.0.2")
ACTIVATE_IMAGE = 1
"""The only script of the image activation script table."""
IMAGE_SCRIPTS: Scripts = {
    ACTIVATE_IMAGE: (
        ScriptAction(Service.EXECUTE, IMAGE_TRANSFER, IMAGE_TRANSFER_LN, ACTIVATE, axdr.encode("integer", 0)),
    )
}
_LONGEST_WAIT = 3600.0
"""Seconds until the clock is looked at again: it may be set meanwhile."""

_RETRY = 10.0
"""Seconds until a schedule that is due is tried again, where the disk has refused."""

Perform = Callable[[ScriptAction, ClientProfile], ActionResult | ActionReply | Pending]
"""Carries out one action on the logical device."""


class ScriptTable:
    """Class 9 (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(
        self, logical_name: bytes, table: Scripts, perform: Perform, definition: ObjectDefinition | None = None
    ) -> None:
        """``definition``: the object's, where it has been made for another meter."""
        self.definition: ObjectDefinition = definition or scripts.script_table(logical_name, table)
        self._table = table
        self._perform = perform

    def begin(self) -> None:
        """Do nothing: scripts are called."""

    def stop(self) -> None:
        """Do nothing: scripts are called."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return nothing: the scripts are fixed."""
        return {}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Refuse: the scripts are fixed."""
        del attribute, data
        return DataAccessResult.READ_WRITE_DENIED

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult | Pending:
        """Execute a script."""
        del method
        try:
            return self.execute(scripts.script_identifier(data), client)
        except AxdrError:
            return ActionResult.TYPE_UNMATCHED

    def has(self, number: int) -> bool:
        """Tell whether there is a script of that number."""
        return number in self._table

    def execute(self, number: int, client: ClientProfile) -> ActionResult | Pending:
        """Carry out a script's actions, each when the one before has been answered; the first failure counts."""
        if number not in self._table:
            return ActionResult.OTHER_REASON
        done = Pending()
        self._go_on(iter(self._table[number]), client, done, ActionResult.SUCCESS)
        return done if done.reply is None else done.reply.result

    def _go_on(
        self, rest: Iterator[ScriptAction], client: ClientProfile, done: Pending, first: ActionResult
    ) -> None:
        for action in rest:
            answer = self._perform(action, client)
            if isinstance(answer, Pending):
                if answer.reply is None:
                    answer.then(partial(self._answered, rest, client, done, first))
                    return
                answer = answer.reply
            first = first or (answer if isinstance(answer, ActionResult) else answer.result)
        done.answer(first)

    def _answered(
        self,
        rest: Iterator[ScriptAction],
        client: ClientProfile,
        done: Pending,
        first: ActionResult,
        reply: ActionReply,
    ) -> None:
        self._go_on(rest, client, done, first or reply.result)


class _Kept(msgspec.Struct, frozen=True):
    executions: tuple[Execution, ...] = ()
    since: int = 0
    """Seconds since 1970 up to which the schedule has been followed."""


class ActionSchedule:
    """Class 22 (implements flexmap.faces.dlms.live.LiveObject): executes a script of a table.

    What was due while flexmap stood still is made up for, once. ``clock`` is a reactor, times are local ones.
    """

    def __init__(
        self,
        meter: str,
        logical_name: bytes,
        script: tuple[ScriptTable, int],
        keeper: Keeper | None,
        clock: Any,
        *,
        zone: Zone = UTC,
        default: tuple[Execution, ...] = (),
        spread: Spread = at_once,
    ) -> None:
        """Set up; raises LocalError if what was kept cannot be read.

        Without ``keeper`` what head-ends write is forgotten at the end. ``default`` holds until they write.
        ``spread`` carries out what is due.
        """
        self._spread = spread
        self._meter = meter
        self._table, self._script = script
        table_name = self._table.definition.logical_name
        self.definition: ObjectDefinition = _definition(logical_name, table_name, self._script)
        self._keeper = keeper
        self._zone = zone
        self._file = f"schedule-{logical_name.hex()}"
        self._clock = clock
        self._call: Any = None
        self._client = _client(logical_name)
        octets = None if keeper is None else keeper.read(meter, self._file)
        try:
            self._state = msgspec.msgpack.decode(octets, type=_Kept) if octets else _Kept(default)
        except msgspec.DecodeError as error:
            raise LocalError(f"{self._file} of {meter} is damaged: {error}") from None

    def begin(self) -> None:
        """Follow the schedule."""
        if self._state.executions and not self._state.since:
            self._keep(_Kept(self._state.executions, int(self._clock.seconds())))
        self._wait()

    def stop(self) -> None:
        """Follow it no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def slots(self) -> Mapping[int, SlotValue]:
        """Return a function that encodes execution_time."""
        return {scripts.EXECUTION_TIME: lambda: axdr.array([each.encode() for each in self._state.executions])}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write execution_time, the only attribute that can be written."""
        try:
            executions = decode_executions(data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if attribute != scripts.EXECUTION_TIME:
            return DataAccessResult.READ_WRITE_DENIED
        if not self._keep(_Kept(executions, int(self._clock.seconds()))):
            return DataAccessResult.TEMPORARY_FAILURE
        self.stop()
        self._wait()
        return DataAccessResult.SUCCESS

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Refuse: the class has no methods."""
        del method, data, client
        return ActionResult.OBJECT_UNDEFINED

    def _wait(self, least: float = 0.0) -> None:
        at = self._following(self._state.since)
        if at is not None:
            wait = min(max(at - self._clock.seconds(), least), _LONGEST_WAIT)
            self._call = self._clock.callLater(wait, self._look, at)

    def _following(self, since: int) -> int | None:
        """Return when it is due next: parts of dates and times are local."""
        at = following(self._state.executions, since - self._zone.deviation(since) * 60)
        return None if at is None else max(self._zone.of_local(at, last=False), since + 1)

    def _look(self, at: int) -> None:
        if self._clock.seconds() >= at:
            self._spread(partial(self._execute, self._state))
        else:
            self._wait(_RETRY)

    def _execute(self, state: _Kept) -> None:
        if state is not self._state or self._call is None:
            return  # written, or stopped, meanwhile
        kept = self._keep(_Kept(state.executions, int(self._clock.seconds())))
        if kept:
            log.info("{meter}: {schedule} is due", meter=self._meter, schedule=self._client.name)
            self._table.execute(self._script, self._client)
        self._wait(0.0 if kept else _RETRY)

    def _keep(self, state: _Kept) -> bool:
        try:
            if self._keeper is not None:
                self._keeper.keep(self._meter, self._file, msgspec.msgpack.encode(state))
        except LocalError as error:
            log.warn("{file} of {meter}: {error}", file=self._file, meter=self._meter, error=error)
            return False
        self._state = state
        return True


@lru_cache(256)
def _definition(logical_name: bytes, table: bytes, script: int) -> ObjectDefinition:
    return scripts.single_action_schedule(logical_name, table, script)


@lru_cache(256)
def _client(logical_name: bytes) -> ClientProfile:
    """Return who the schedule acts as."""
    return ClientProfile(sap=0, name=f"schedule {obis.text(logical_name)}", role=Role.MANAGEMENT)
