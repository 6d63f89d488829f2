"""The register monitor of a meter: evaluated on samples as they come, acts through scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.limiter import (
    RETRY,
    ScriptItem,
    monitored_value,
    take_monitored_value,
    take_script_item,
)
from flexmap.dlms.objects import ActionReply, ObjectDefinition, Pending, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.register_monitor import (
    ACTIONS,
    MONITORED_VALUE,
    MOST_THRESHOLDS,
    THRESHOLDS,
    ActionSet,
    Crossing,
    Monitor,
    register_monitor,
    take_thresholds,
)
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms.limits import Watched, active_power, number_in
from flexmap.faces.dlms.pushing import Keeper
from flexmap.faces.dlms.scripts import ScriptTable
from flexmap.model import Event, EventCode, EventLog, LocalError, Sample

log = Logger(namespace="flexmap.dlms")

DEFINITION = register_monitor()
_KEPT = "register-monitor"
_CLIENT = ClientProfile(sap=0, name="register monitor 0-0:16.0.0", role=Role.MANAGEMENT)


class RegisterMonitor:
    """Class 21 (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(
        self,
        meter: str,
        registers: Mapping[CaptureObject, Watched],
        tables: Mapping[bytes, ScriptTable],
        keeper: Keeper,
        on_event: Callable[[Event], object],
    ) -> None:
        """``tables``: what actions may name, by logical name."""
        self.definition: ObjectDefinition = DEFINITION
        self._meter = meter
        self._registers = registers
        self._tables = tables
        self._keeper = keeper
        self._on_event = on_event
        self._monitor = self._kept()
        self._again: dict[int, int] = {}
        """Places of thresholds whose action was not answered, and when (ms) it is tried again."""

    def _kept(self) -> Monitor:
        usual = Monitor(monitored=active_power(self._registers))
        try:
            octets = self._keeper.read(self._meter, _KEPT)
            found = usual if octets is None else msgspec.msgpack.decode(octets, type=Monitor)
        except (LocalError, msgspec.DecodeError) as error:
            log.warn("{meter}: register monitor: {error}; as new", meter=self._meter, error=str(error))
            return usual
        return found if found.monitored in self._registers else usual

    @property
    def active(self) -> bool:
        """Whether samples matter."""
        return bool(self._monitor.thresholds)

    def begin(self) -> None:
        """Do nothing: samples come."""

    def stop(self) -> None:
        """Do nothing: samples come."""

    def observe(self, sample: Sample) -> None:
        """Look at a sample."""
        number = number_in(sample, self._registers[self._monitor.monitored])
        if number is None:
            return
        self._monitor, crossed = self._monitor.sample(sample.time, number)
        if crossed:
            self._keep(self._monitor)
        for each in crossed:
            self._tell(each, sample.time, number)
            self._execute(each.place, sample.time)
        for place in [place for place, due in self._again.items() if sample.time >= due]:
            self._execute(place, sample.time)

    def _tell(self, crossing: Crossing, time: int, number: int) -> None:
        code = EventCode(EventCode.SUPERVISION_1_EXCEEDED + 2 * crossing.place + (not crossing.up))
        text = f"{number} against {crossing.threshold}"
        self._on_event(Event(self._meter, time, EventLog.DISCONNECT, code, text))

    def _execute(self, place: int, time: int) -> None:
        self._again.pop(place, None)
        item = self._monitor.script(place)
        table = None if item is None else self._tables.get(item.table)
        if item is None or not item.script or table is None:
            return
        answer = table.execute(item.script, _CLIENT)
        if isinstance(answer, Pending):
            answer.then(partial(self._done, place, item, time))
        else:
            self._done(place, item, time, ActionReply(answer))

    def _done(self, place: int, item: ScriptItem, time: int, reply: ActionReply) -> None:
        if reply.result is ActionResult.TEMPORARY_FAILURE and self._monitor.script(place) is item:
            self._again[place] = time + RETRY

    def _keep(self, monitor: Monitor) -> bool:
        try:
            self._keeper.keep(self._meter, _KEPT, msgspec.msgpack.encode(monitor))
        except LocalError as error:
            log.warn("{meter}: register monitor is not kept: {error}", meter=self._meter, error=str(error))
            return False
        return True

    # What clients see and write

    def slots(self) -> Mapping[int, SlotValue]:
        """Return how each attribute is shown."""
        return {
            THRESHOLDS: lambda: axdr.array(self._monitor.thresholds),
            MONITORED_VALUE: lambda: monitored_value(self._monitor.monitored),
            ACTIONS: lambda: axdr.array([each.encode() for each in self._monitor.actions]),
        }

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write an attribute: it is kept before it is answered."""
        try:
            changed = self._changed(attribute, data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if changed is None:
            return DataAccessResult.OTHER_REASON
        if not self._keep(changed):
            return DataAccessResult.TEMPORARY_FAILURE
        self._monitor = changed
        self._again.clear()
        return DataAccessResult.SUCCESS

    def _changed(self, attribute: int, data: bytes) -> Monitor | None:
        """Return the monitor with an attribute written, None for what this meter has not; raises AxdrError."""
        its = self._monitor
        if attribute == THRESHOLDS:
            thresholds = take_thresholds(data)
            return its.watching(its.monitored, thresholds) if len(thresholds) <= MOST_THRESHOLDS else None
        if attribute == MONITORED_VALUE:
            column = take_monitored_value(axdr.decode(data))
            return its.watching(column, its.thresholds) if column in self._registers else None
        actions = axdr.decode(data)
        if not isinstance(actions, list | tuple):  # some clients write a structure of action sets
            raise AxdrError("array of action sets expected")
        found = tuple(_action_set(each) for each in actions)
        known = all(self._knows(item) for each in found for item in (each.up, each.down))
        return msgspec.structs.replace(its, actions=found) if known and len(found) <= MOST_THRESHOLDS else None

    def _knows(self, item: ScriptItem) -> bool:
        """Tell whether a script is there; 0 of any table does nothing."""
        table = self._tables.get(item.table)
        return not item.script or (table is not None and table.has(item.script))

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Refuse: there are no methods."""
        del method, data, client
        return ActionResult.READ_WRITE_DENIED


def _action_set(value: Any) -> ActionSet:
    match value:
        case (up, down):
            return ActionSet(take_script_item(up), take_script_item(down))
    raise AxdrError("structure of two action items expected")
