"""The limiter of a meter: evaluated on samples as they come, acts through the disconnect script table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr, classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.cosem_time import CosemTimeError
from flexmap.dlms.limiter import (
    RETRY,
    Act,
    Emergency,
    Progress,
    ScriptItem,
    Settings,
    is_long_unsigned,
    limiter,
    monitored_value,
    take_monitored_value,
    take_script_item,
)
from flexmap.dlms.objects import ActionReply, ObjectDefinition, Pending, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.scripts import ScriptAction, Scripts, Service
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.pushing import Keeper
from flexmap.faces.dlms.scripts import ScriptTable
from flexmap.mapping import value as values
from flexmap.model import (
    Event,
    EventCode,
    EventLog,
    Kind,
    LocalError,
    MeterType,
    Part,
    Point,
    Sample,
    obis,
    quality,
)

log = Logger(namespace="flexmap.dlms")

DISCONNECT_SCRIPTS_LN = obis.parse("0-0:10.0.106")
DISCONNECT, RECONNECT = 1, 2
"""Scripts of the disconnect script table."""
_KEPT, _KEPT_PROGRESS = "limiter", "limiter-progress"
_CLIENT = ClientProfile(sap=0, name="limiter 0-0:17.0.0", role=Role.MANAGEMENT)
_POWER = "active-power"
_MOST_GROUPS = 32
_UINT32 = range(1 << 32)
_THRESHOLDS = {4: "normal", 5: "emergency"}
_DURATIONS = {6: "over", 7: "under"}


class Watched(NamedTuple):
    """Where a sample has a register's value."""

    place: int
    point: Point
    part: Part


def disconnect_scripts(breaker: bytes) -> Scripts:
    """Return the disconnect script table of a meter with that breaker."""
    nothing = axdr.encode("integer", 0)
    return {
        number: (ScriptAction(Service.EXECUTE, classes.DISCONNECT_CONTROL, breaker, method, nothing),)
        for number, method in ((DISCONNECT, classes.REMOTE_DISCONNECT), (RECONNECT, classes.REMOTE_RECONNECT))
    }


@lru_cache
def monitored(meter_type: MeterType) -> Mapping[CaptureObject, Watched]:
    """Return the registers that a limiter or register monitor of the type can watch; all its meters share them."""
    return {
        CaptureObject(register.class_id, obis.parse(register.obis), register.attribute): Watched(
            place, point, register.part
        )
        for place, point in enumerate(meter_type.points)
        if point.kind in (Kind.INSTANTANEOUS, Kind.ENERGY)
        for register in point.registers
    }


def active_power(registers: Mapping[CaptureObject, Watched]) -> CaptureObject:
    """Return the register of active power, of import where that is apart, the first one where there is none."""
    found = (
        column
        for column, each in registers.items()
        if each.point.name == _POWER and each.part in (Part.PLUS, Part.NET)
    )
    return next(found, next(iter(registers)))


def number_in(sample: Sample, watched: Watched) -> int | None:
    """Return a register's value in a sample, None if it has none that is valid."""
    if quality.validity(sample.quality[watched.place]) == quality.INVALID:
        return None
    try:
        return values.raw(watched.point, sample.values[watched.place], watched.part)
    except (TypeError, OverflowError):
        return None


class Limiter:
    """Class 71 (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(
        self,
        meter: str,
        registers: Mapping[CaptureObject, Watched],
        table: ScriptTable,
        *,
        keeper: Keeper,
        local: LocalTime,
        on_event: Callable[[Event], object],
        now: Callable[[], float],
    ) -> None:
        self.definition: ObjectDefinition = limiter()
        self._meter = meter
        self._registers = registers
        self._table = table
        self._keeper = keeper
        self._local = local
        self._on_event = on_event
        self._now = now
        script = ScriptItem(table.definition.logical_name)
        usual = Settings(monitored=active_power(registers), on_over=script, on_under=script)
        self._settings = self._read(_KEPT, Settings, usual)
        self._progress = self._read(_KEPT_PROGRESS, Progress, Progress())
        self._again: tuple[Act, int] | None = None
        """An action that has failed, and when (ms) it is tried again."""
        self._acting = False

    def _read(self, name: str, kind: Any, otherwise: Any) -> Any:
        try:
            octets = self._keeper.read(self._meter, name)
            found = otherwise if octets is None else msgspec.msgpack.decode(octets, type=kind)
        except (LocalError, msgspec.DecodeError) as error:
            log.warn("{meter}: {name}: {error}; as new", meter=self._meter, name=name, error=str(error))
            return otherwise
        return otherwise if kind is Settings and found.monitored not in self._registers else found

    @property
    def active(self) -> bool:
        """Whether samples matter."""
        return bool(self._settings.limits or self._progress.exceeded)

    def begin(self) -> None:
        """Do nothing: samples come."""

    def stop(self) -> None:
        """Do nothing: samples come."""

    # Samples

    def observe(self, sample: Sample) -> None:
        """Look at a sample."""
        number = number_in(sample, self._registers[self._settings.monitored])
        if number is None:
            return
        before = self._progress
        self._progress, act = before.sample(self._settings, sample.time, number)
        if act is not None or self._progress.since != before.since:
            self._keep(_KEPT_PROGRESS, self._progress)
        if act is not None:
            code = EventCode.LIMITER_EXCEEDED if act is Act.OVER else EventCode.LIMITER_OK
            self._tell(code, sample.time, f"{number} against {self._settings.threshold(sample.time)}")
            self._execute(act, sample.time)
        elif self._again is not None and sample.time >= self._again[1] and not self._acting:
            self._execute(self._again[0], sample.time)

    def _execute(self, act: Act, time: int) -> None:
        self._again = None
        item = self._settings.on_over if act is Act.OVER else self._settings.on_under
        if not item.script:
            return
        self._acting = True
        answer = self._table.execute(item.script, _CLIENT)
        if isinstance(answer, Pending):
            answer.then(partial(self._done, act, time))
        else:
            self._done(act, time, ActionReply(answer))

    def _done(self, act: Act, time: int, reply: ActionReply) -> None:
        self._acting = False
        if reply.result is not ActionResult.SUCCESS:
            self._again = act, time + RETRY

    def _tell(self, code: EventCode, time: int, text: str) -> None:
        self._on_event(Event(self._meter, time, EventLog.DISCONNECT, code, text))

    def _keep(self, name: str, state: Any) -> bool:
        try:
            self._keeper.keep(self._meter, name, msgspec.msgpack.encode(state))
        except LocalError as error:
            log.warn("{meter}: {name} is not kept: {error}", meter=self._meter, name=name, error=str(error))
            return False
        return True

    # What clients see and write

    def slots(self) -> Mapping[int, SlotValue]:
        """Return how each attribute is shown."""
        return {index: partial(self._shown, index) for index in range(2, 12)}

    def _shown(self, index: int) -> bytes:
        its, now = self._settings, self._progress.last
        match index:
            case 2:
                return monitored_value(its.monitored)
            case 3:
                return _number(its.threshold(now))
            case 4 | 5:
                return _number(getattr(its, _THRESHOLDS[index]))
            case 6 | 7:
                return _number(getattr(its, _DURATIONS[index]))
            case 8:
                profile = its.profile
                time = self._local.value(profile.activation) if profile.activation else axdr.octet_string(_OPEN)
                return axdr.structure(axdr.encode("long-unsigned", profile.id), time, _number(profile.duration))
            case 9:
                return axdr.array([axdr.encode("long-unsigned", each) for each in its.groups])
            case 10:
                return axdr.encode("boolean", its.emergency_at(now))
            case _:
                return axdr.structure(its.on_over.encode(), its.on_under.encode())

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write an attribute: it is kept before it is answered."""
        try:
            change = self._change(attribute, axdr.decode(data))
        except (AxdrError, CosemTimeError, ValueError):
            return DataAccessResult.TYPE_UNMATCHED
        if change is None:
            return DataAccessResult.OTHER_REASON
        settings = msgspec.structs.replace(self._settings, **change)
        if not self._keep(_KEPT, settings):
            return DataAccessResult.TEMPORARY_FAILURE
        self._settings = settings
        if attribute in (2, 4, 5):
            self._tell(EventCode.LIMITER_CHANGED, int(self._now() * 1000), "")
        return DataAccessResult.SUCCESS

    def _change(self, attribute: int, value: Any) -> dict[str, Any] | None:
        """Return what an attribute changes, None for what this meter does not have; raises AxdrError."""
        if attribute in _THRESHOLDS or attribute in _DURATIONS:
            if type(value) is not int or value not in _UINT32:
                raise AxdrError("double-long-unsigned expected")
            return {(_THRESHOLDS | _DURATIONS)[attribute]: value}
        match attribute, value:
            case 2, _:
                column = take_monitored_value(value)
                return {"monitored": column} if column in self._registers else None
            case 8, (number, bytes(time), duration) if (
                is_long_unsigned(number) and type(duration) is int and duration in _UINT32
            ):
                activation = 0 if set(time) <= {0xFF, 0} else self._local.instant(time)
                return {"profile": Emergency(number, activation, duration)}
            case 9, list(groups) if len(groups) <= _MOST_GROUPS and all(map(is_long_unsigned, groups)):
                return {"groups": tuple(groups)}
            case 11, (first, second):
                over, under = take_script_item(first), take_script_item(second)
                table = self._table.definition.logical_name
                scripts = {over.script, under.script}
                if {over.table, under.table} != {table} or not scripts <= {0, DISCONNECT, RECONNECT}:
                    return None
                return {"on_over": over, "on_under": under}
        raise AxdrError(f"attribute {attribute} is something else")

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Refuse: there are no methods."""
        del method, data, client
        return ActionResult.READ_WRITE_DENIED


_OPEN = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00\xff"
"""A date-time that is not given."""


def _number(value: int) -> bytes:
    return axdr.encode("double-long-unsigned", value)
