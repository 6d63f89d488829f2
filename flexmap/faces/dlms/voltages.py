"""Power quality of a meter: thresholds as registers, events of sags, swells and interruptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr, classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import ObjectDefinition, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.voltage import Level, Phase, Thresholds
from flexmap.faces.dlms.pushing import Keeper
from flexmap.model import Event, EventCode, EventLog, LocalError, MeterType, Sample, obis

log = Logger(namespace="flexmap.dlms")

_KEPT = "voltage-thresholds"
_VOLT, _SECOND = 35, 7
FIELDS = {
    "sag": ("1-0:12.31.0", _VOLT),
    "swell": ("1-0:12.35.0", _VOLT),
    "cut": ("1-0:12.39.0", _VOLT),
    "sag_time": ("1-0:12.43.0", _SECOND),
    "swell_time": ("1-0:12.44.0", _SECOND),
    "cut_time": ("1-0:12.45.0", _SECOND),
}
"""Thresholds of sag, swell and interruption (voltage cut), and for how long: registers and their units."""
DEFINITIONS = {
    field: classes.register(obis.parse(code), 0, unit, write=Role.MANAGEMENT)
    for field, (code, unit) in FIELDS.items()
}
_FIRST = {
    Level.UNDER: EventCode.UNDERVOLTAGE_L1,
    Level.OVER: EventCode.OVERVOLTAGE_L1,
    Level.MISSING: EventCode.MISSING_VOLTAGE_L1,
    Level.NORMAL: EventCode.NORMAL_VOLTAGE_L1,
}


def voltage_places(meter_type: MeterType) -> tuple[int, ...]:
    """Return where a sample has the voltages of its phases."""
    names = ("voltage",) if "voltage" in meter_type.index else ("voltage-l1", "voltage-l2", "voltage-l3")
    return tuple(meter_type.index[name] for name in names if name in meter_type.index)


class PowerQuality:
    """The voltages of one meter."""

    def __init__(
        self,
        meter: str,
        places: tuple[int, ...],
        levels: tuple[Level, ...],
        keeper: Keeper,
        on_event: Callable[[Event], object],
    ) -> None:
        """``levels``: how the voltages were when flexmap ended."""
        self._meter = meter
        self._phases = [(place, Phase(level)) for place, level in zip(places, levels, strict=True)]
        self._keeper = keeper
        self._on_event = on_event
        self._last = 0
        self.thresholds = Thresholds()
        try:
            octets = keeper.read(meter, _KEPT)
            if octets is not None:
                self.thresholds = msgspec.msgpack.decode(octets, type=Thresholds)
        except (LocalError, msgspec.DecodeError) as error:
            log.warn("{meter}: thresholds of voltages: {error}; as new", meter=meter, error=str(error))

    def objects(self) -> list[Threshold]:
        """Return the registers of the thresholds."""
        return [Threshold(self, field) for field in FIELDS]

    def observe(self, sample: Sample) -> None:
        """Look at the voltages of a sample; older ones than the newest change nothing."""
        if sample.time <= self._last:
            return
        self._last = sample.time
        for number, (place, phase) in enumerate(self._phases):
            volts = sample.values[place]
            if isinstance(volts, int | float):
                level = phase.sample(self.thresholds, sample.time, volts)
                if level is not None:
                    code = EventCode(_FIRST[level] + number)
                    text = f"{volts:.1f} V"
                    self._on_event(Event(self._meter, sample.time, EventLog.POWER_QUALITY, code, text))

    def change(self, thresholds: Thresholds) -> bool:
        """Let other thresholds hold; return whether they could be kept."""
        try:
            self._keeper.keep(self._meter, _KEPT, msgspec.msgpack.encode(thresholds))
        except LocalError as error:
            log.warn("{meter}: thresholds are not kept: {error}", meter=self._meter, error=str(error))
            return False
        self.thresholds = thresholds
        return True


class Threshold:
    """One threshold (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(self, voltages: PowerQuality, field: str) -> None:
        self.definition: ObjectDefinition = DEFINITIONS[field]
        self._voltages = voltages
        self._field = field

    def begin(self) -> None:
        """Do nothing: samples come."""

    def stop(self) -> None:
        """Do nothing: samples come."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return how the value is shown."""
        return {2: lambda: axdr.encode("long-unsigned", getattr(self._voltages.thresholds, self._field))}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write the value."""
        del attribute
        if data[0] != axdr.Tag.LONG_UNSIGNED:
            return DataAccessResult.TYPE_UNMATCHED
        changed = {self._field: int.from_bytes(data[1:], "big")}
        after = msgspec.structs.replace(self._voltages.thresholds, **changed)
        if not after.cut <= after.sag < after.swell:
            return DataAccessResult.OTHER_REASON
        return DataAccessResult.SUCCESS if self._voltages.change(after) else DataAccessResult.TEMPORARY_FAILURE

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Refuse: there are no methods."""
        del method, data, client
        return ActionResult.READ_WRITE_DENIED
