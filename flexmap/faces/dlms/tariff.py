"""Objects of a meter's tariff: activity calendar, special days, register activation, tariff script table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from flexmap.dlms import axdr, cosem_time, scripts
from flexmap.dlms import tariff_classes as kinds
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.cosem_time import CosemTimeError
from flexmap.dlms.objects import ObjectDefinition, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.scripts import ScriptName
from flexmap.faces.dlms.billing_definitions import END_OF_PERIOD, SCRIPTS_LN
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.due import Due, Runner
from flexmap.faces.dlms.live import LiveObject
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.schedule import ScheduleTable
from flexmap.faces.dlms.scripts import ScriptTable
from flexmap.faces.dlms.tariff_definitions import (
    ACTIVATION_LN,
    CALENDAR_LN,
    SCHEDULE_TABLE_LN,
    SPECIAL_DAYS_LN,
    execution,
    tariff_scripts,
    tariff_table,
)
from flexmap.faces.dlms.turns import Spread, at_once
from flexmap.mapping.tariff import TARIFF_SCRIPTS, Calendar, Mask, Program, TariffSetup, mask_name
from flexmap.mapping.zone import Zone
from flexmap.store import Store
from flexmap.store.rates import Rates

_MOST_MASKS = 64


def tariff_objects(
    store: Store,
    meter: str,
    objects: MeterObjects,
    device: MeterDevice,
    *,
    reactor: Any,
    spread: Spread = at_once,
) -> list[LiveObject]:
    """Return the live objects of a meter; ``spread`` carries out what calendar and schedule execute."""
    rates, tariff = store.rates(meter), objects.meter_type.tariff
    if rates is None or tariff is None:
        return []
    now, zone = partial(_now, reactor), objects.local.zone

    def execute(script: ScriptName, by: str) -> None:
        client = ClientProfile(sap=0, name=by, role=Role.MANAGEMENT)
        spread(partial(device.perform, execution(script), client))

    def executions(after: int, upto: int) -> Iterator[Due]:
        setup = rates.setup
        for second, action in Program(setup.active, setup.special, zone).executions(after, upto):
            yield second, (action.table, action.script)

    run = partial(execute, by="activity calendar")
    runner = Runner(meter, "calendar", executions, run, keeper=store.kept, clock=reactor)
    allowed = {*((TARIFF_SCRIPTS, rate) for rate in range(1, tariff.rates + 1)), (SCRIPTS_LN, END_OF_PERIOD)}
    return [
        ActivityCalendar(rates, now, zone, frozenset(allowed), runner),
        SpecialDays(rates, now, runner),
        RegisterActivation(rates, now, objects.assigned, tariff.rates),
        ScriptTable(TARIFF_SCRIPTS, tariff_scripts(tariff), device.perform, tariff_table(tariff)),
        ScheduleTable(
            meter,
            SCHEDULE_TABLE_LN,
            allowed=frozenset(allowed),
            execute=partial(execute, by="schedule"),
            special=lambda: rates.setup.special,
            keeper=store.kept,
            clock=reactor,
            zone=zone,
        ),
    ]


def _now(reactor: Any) -> int:
    return int(reactor.seconds())


class _TariffObject:
    """What the objects have in common (implements flexmap.faces.dlms.live.LiveObject, but for ``slots``)."""

    def __init__(self, definition: ObjectDefinition, rates: Rates, now: Callable[[], int]) -> None:
        self.definition = definition
        self._rates = rates
        self._now = now

    def begin(self) -> None:
        """Do nothing: the store follows the calendar."""

    def stop(self) -> None:
        """Do nothing."""

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Refuse: nothing can be written."""
        del attribute, data
        return DataAccessResult.READ_WRITE_DENIED

    @property
    def _setup(self) -> TariffSetup:
        self._rates.look(self._now())
        return self._rates.setup

    def _change(self, **fields: Any) -> bool:
        return self._rates.change(msgspec.structs.replace(self._setup, **fields), self._now())

    def _written(self, **fields: Any) -> DataAccessResult:
        return DataAccessResult.SUCCESS if self._change(**fields) else DataAccessResult.TEMPORARY_FAILURE

    def _done(self, **fields: Any) -> ActionResult:
        return ActionResult.SUCCESS if self._change(**fields) else ActionResult.TEMPORARY_FAILURE


class ActivityCalendar(_TariffObject):
    """Class 20."""

    def __init__(
        self, rates: Rates, now: Callable[[], int], zone: Zone, allowed: frozenset[ScriptName], runner: Runner
    ) -> None:
        """Set up; ``allowed``: the scripts that days may name."""
        super().__init__(kinds.activity_calendar(CALENDAR_LN), rates, now)
        self._zone = zone
        self._allowed = allowed
        self._runner = runner

    def begin(self) -> None:
        """Follow what the calendar executes beside the tariff's scripts."""
        self._runner.begin()

    def stop(self) -> None:
        """Follow it no more."""
        self._runner.stop()

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode both calendars and the activation time."""
        return {index: partial(self._shown, index) for index in range(kinds.NAME, kinds.ACTIVATION_TIME + 1)}

    def _shown(self, index: int) -> bytes:
        setup = self._setup
        if index == kinds.ACTIVATION_TIME:
            return axdr.octet_string(setup.activation)
        passive = index > kinds.DAYS
        calendar = setup.passive if passive else setup.active
        return kinds.calendar_values(calendar, kinds.NAME + kinds.PASSIVE * passive)[index]

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write a part of the passive calendar, or when it is activated."""
        try:
            if attribute == kinds.ACTIVATION_TIME:
                return self._write_time(data)
            passive = self._changed(self._setup.passive, attribute - kinds.PASSIVE, data)
        except (AxdrError, CosemTimeError):
            return DataAccessResult.TYPE_UNMATCHED
        if passive is None:
            return DataAccessResult.READ_WRITE_DENIED
        if {(each.table, each.script) for day in passive.days for each in day.actions} - self._allowed:
            return DataAccessResult.OTHER_REASON
        return self._written(passive=passive)

    def _changed(self, passive: Calendar, part: int, data: bytes) -> Calendar | None:
        match part:
            case kinds.NAME:
                return msgspec.structs.replace(passive, name=kinds.decode_name(data))
            case kinds.SEASONS:
                return msgspec.structs.replace(passive, seasons=kinds.decode_seasons(data))
            case kinds.WEEKS:
                return msgspec.structs.replace(passive, weeks=kinds.decode_weeks(data))
            case kinds.DAYS:
                return msgspec.structs.replace(passive, days=kinds.decode_days(data))
        return None

    def _write_time(self, data: bytes) -> DataAccessResult:
        value = axdr.decode(data)
        if not isinstance(value, bytes) or len(value) != 12:
            raise AxdrError("a date-time expected")
        fields = cosem_time.decode(value)
        if fields.year is None:  # not specified: never
            return self._written(activation=value, activate_at=0)
        local = msgspec.structs.replace(fields, deviation=0).epoch_ms() // 1000
        at = self._zone.of_local(local, last=False) if fields.deviation is None else local + fields.deviation * 60
        if self._setup.passive.fault():
            return DataAccessResult.OTHER_REASON
        result = self._written(activation=value, activate_at=at)
        self._rates.look(self._now())
        self._runner.restart()
        return result

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Activate the passive calendar."""
        del data, client
        setup = self._setup
        if method != 1:
            return ActionResult.OBJECT_UNDEFINED
        if setup.passive.fault():
            return ActionResult.OTHER_REASON
        done = self._rates.change(setup.activated(), self._now())
        self._runner.restart()
        return ActionResult.SUCCESS if done else ActionResult.TEMPORARY_FAILURE


class SpecialDays(_TariffObject):
    """Class 11."""

    def __init__(self, rates: Rates, now: Callable[[], int], runner: Runner) -> None:
        super().__init__(kinds.special_days_table(SPECIAL_DAYS_LN), rates, now)
        self._runner = runner

    def slots(self) -> Mapping[int, SlotValue]:
        """Return a function that encodes the entries."""
        return {2: lambda: kinds.special_days(self._setup.special)}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write all entries."""
        try:
            entries = kinds.decode_special_days(data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if attribute != 2:
            return DataAccessResult.READ_WRITE_DENIED
        result = self._written(special=entries)
        self._runner.restart()
        return result

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Insert an entry, in place of one with its index, or delete the one with an index."""
        del client
        entries = {each.index: each for each in self._setup.special}
        try:
            if method == kinds.INSERT:
                entry = kinds.decode_special_day(data)
                entries[entry.index] = entry
            else:
                index = scripts.script_identifier(data)
                if index not in entries:
                    return ActionResult.OTHER_REASON
                del entries[index]
        except AxdrError:
            return ActionResult.TYPE_UNMATCHED
        if len(entries) > kinds.MOST_SPECIAL:
            return ActionResult.OTHER_REASON
        result = self._done(special=tuple(entries[index] for index in sorted(entries)))
        self._runner.restart()
        return result


class RegisterActivation(_TariffObject):
    """Class 6: which registers count. A mask has each quantity in one rate: nothing counts twice, or is lost."""

    def __init__(
        self, rates: Rates, now: Callable[[], int], registers: list[tuple[int, bytes]], count: int
    ) -> None:
        """Set up; ``registers``: what can be activated, ``count`` rates of each quantity."""
        super().__init__(kinds.register_activation(ACTIVATION_LN), rates, now)
        self._registers = registers
        self._count = count

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode registers, masks and the active mask."""
        return {
            2: kinds.assignment(self._registers),
            3: lambda: kinds.mask_list([(each.name, self._places(each)) for each in self._setup.masks]),
            kinds.ACTIVE_MASK: lambda: axdr.octet_string(self._rates.active(self._now())),
        }

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Make a mask active."""
        try:
            name = kinds.decode_name(data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if attribute != kinds.ACTIVE_MASK:
            return DataAccessResult.READ_WRITE_DENIED
        mask = self._setup.mask(name)
        if mask is None:
            return DataAccessResult.OTHER_REASON
        switched = self._rates.switch(mask, self._now())
        return DataAccessResult.SUCCESS if switched else DataAccessResult.TEMPORARY_FAILURE

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Add a mask, in place of one of its name, or delete one; all registers that there are are assigned."""
        del client
        try:
            match method:
                case kinds.ADD_REGISTER:
                    known = kinds.decode_register(data) in self._registers
                    return ActionResult.SUCCESS if known else ActionResult.OTHER_REASON
                case kinds.ADD_MASK:
                    return self._add(*kinds.decode_mask(data))
                case _:
                    return self._delete(kinds.decode_name(data or axdr.NULL))
        except AxdrError:
            return ActionResult.TYPE_UNMATCHED

    def _places(self, mask: Mask) -> list[int]:
        return [quantity * self._count + rate for quantity, rate in enumerate(mask.rates)]

    def _add(self, name: bytes, places: list[int]) -> ActionResult:
        quantities = self._rates.quantities
        chosen = {(place - 1) // self._count: (place - 1) % self._count + 1 for place in places}
        if sorted(chosen) != list(range(quantities)) or len(places) != quantities:
            return ActionResult.OTHER_REASON
        mask = Mask(name, tuple(chosen[quantity] for quantity in range(quantities)))
        masks = {each.name: each for each in self._setup.masks} | {name: mask}
        if len(masks) > _MOST_MASKS:
            return ActionResult.OTHER_REASON
        return self._done(masks=tuple(masks.values()))

    def _delete(self, name: bytes) -> ActionResult:
        """Delete a mask that is neither active nor chosen by a script."""
        setup = self._setup
        scripted = {mask_name(rate) for rate in range(1, self._count + 1)}
        if setup.mask(name) is None or name in scripted or name == self._rates.active(self._now()):
            return ActionResult.OTHER_REASON
        return self._done(masks=tuple(each for each in setup.masks if each.name != name))
