"""What acts by itself in a logical device: alarms, limiter, monitor, power quality; follows samples and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from flexmap.dlms import axdr, classes, scripts
from flexmap.dlms.alarms import BAD_VOLTAGE, MISSING_VOLTAGE, PHASES, Alarms, Bit
from flexmap.dlms.limiter import limiter
from flexmap.dlms.objects import ObjectDefinition
from flexmap.dlms.push_setup import ALARM_SETUP_LN, PUSH_SETUP, PUSH_SETUP_LN
from flexmap.dlms.scripts import ScriptAction, Scripts, Service
from flexmap.dlms.voltage import Level
from flexmap.faces.dlms import alarms, monitors, voltages
from flexmap.faces.dlms.alarms import MeterAlarms
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.limits import DISCONNECT_SCRIPTS_LN, Limiter, disconnect_scripts, monitored
from flexmap.faces.dlms.live import LiveObject
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.monitors import RegisterMonitor
from flexmap.faces.dlms.pushing import Keeper
from flexmap.faces.dlms.scripts import ScriptTable
from flexmap.faces.dlms.voltages import PowerQuality, voltage_places
from flexmap.model import Event, Meter, MeterType, Sample, obis

PUSH_SCRIPTS_LN = obis.parse("0-0:10.0.108")
_PUSH = axdr.encode("integer", 0)
PUSH_SCRIPTS: Scripts = {
    number: (ScriptAction(Service.EXECUTE, PUSH_SETUP, name, 1, _PUSH),)
    for number, name in ((1, PUSH_SETUP_LN), (4, ALARM_SETUP_LN))
}
"""Push script table (IDIS): 1 pushes as at an interval, 4 alarms."""


class Acting(msgspec.Struct, frozen=True):
    """What the objects need."""

    keeper: Keeper
    on_event: Callable[[Event], object]
    """Takes an event that is seen here."""
    now: Callable[[], float]


def breaker_of(meter_type: MeterType) -> bytes | None:
    """Return the logical name of a type's breaker, None if it has none that takes commands."""
    for point in meter_type.points:
        if point.control is not None and point.registers[0].class_id == classes.DISCONNECT_CONTROL:
            return obis.parse(point.registers[0].obis)
    return None


def acting_definitions(meter_type: MeterType, *, pushes: bool) -> list[ObjectDefinition]:
    """Return the objects that meters of a type have."""
    found = list(alarms.DEFINITIONS.values())
    if voltage_places(meter_type):
        found += voltages.DEFINITIONS.values()
    breaker = breaker_of(meter_type)
    if breaker is not None:
        found += [limiter(), scripts.script_table(DISCONNECT_SCRIPTS_LN, disconnect_scripts(breaker))]
    if pushes:
        found.append(scripts.script_table(PUSH_SCRIPTS_LN, PUSH_SCRIPTS))
    if monitored(meter_type):
        found.append(monitors.DEFINITION)
    return found


class MeterActs:
    """All that acts in one meter's logical device."""

    def __init__(
        self,
        meter: Meter,
        meter_type: MeterType,
        device: MeterDevice,
        acting: Acting,
        local: LocalTime,
        *,
        pushes: bool,
    ) -> None:
        self.push: Callable[[], object] = lambda: None
        """Pushes alarms, where there is somebody to push them to."""
        keeper, on_event, now = acting.keeper, acting.on_event, acting.now
        self._alarms = MeterAlarms(meter.id, keeper, self._push, on_event, now)
        live: list[LiveObject] = list(self._alarms.objects())
        places = voltage_places(meter_type)
        self._quality: PowerQuality | None = None
        if places:
            levels = _levels(self._alarms.state, len(places))
            self._quality = PowerQuality(meter.id, places, levels, keeper, on_event)
            live += self._quality.objects()
        self._limiter: Limiter | None = None
        registers = monitored(meter_type)
        tables = []
        breaker = breaker_of(meter_type)
        if breaker is not None:
            table = ScriptTable(DISCONNECT_SCRIPTS_LN, disconnect_scripts(breaker), device.perform)
            self._limiter = Limiter(
                meter.id, registers, table, keeper=keeper, local=local, on_event=on_event, now=now
            )
            live.append(self._limiter)
            tables.append(table)
        if pushes:
            tables.append(ScriptTable(PUSH_SCRIPTS_LN, PUSH_SCRIPTS, device.perform))
        live += tables
        self._monitor: RegisterMonitor | None = None
        if registers:
            by_name = {table.definition.logical_name: table for table in tables}
            self._monitor = RegisterMonitor(meter.id, registers, by_name, keeper, on_event)
            live.append(self._monitor)
        self.live: Sequence[LiveObject] = live

    def _push(self) -> None:
        self.push()

    def event(self, event: Event) -> None:
        """Take an event."""
        self._alarms.event(event)

    def observe(self, sample: Sample) -> None:
        """Look at a sample of the meter."""
        self._alarms.observe(sample)
        if self._quality is not None:
            self._quality.observe(sample)
        if self._limiter is not None and self._limiter.active:
            self._limiter.observe(sample)
        if self._monitor is not None and self._monitor.active:
            self._monitor.observe(sample)


def _levels(state: Alarms, phases: int) -> tuple[Level, ...]:
    """Return how the voltages were, as far as alarms say."""

    def is_set(bit: Bit) -> bool:
        return bool(state.registers[bit.register] & 1 << bit.number)

    found = []
    for phase in PHASES[:phases]:
        bad = Level.UNDER if is_set(BAD_VOLTAGE[phase]) else Level.NORMAL
        found.append(Level.MISSING if is_set(MISSING_VOLTAGE[phase]) else bad)
    return tuple(found)
