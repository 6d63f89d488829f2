"""A meter type as COSEM objects: one schema for all meters of the type, and how a sample fills its slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from flexmap.dlms import axdr, classes
from flexmap.dlms.objects import ObjectDefinition, Schema
from flexmap.dlms.profile import EVERYONE
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms.billing_definitions import Billing
from flexmap.faces.dlms.demand import demand_definitions
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.tariff_definitions import assigned, tariff_definitions
from flexmap.mapping import value as values
from flexmap.mapping.zone import UTC, Zone
from flexmap.model import EventLog, Kind, LocalError, MeterType, Part, Point, Register, Value, obis

EVENT_ENTRIES = 10_000


class ProfileObject(msgspec.Struct, frozen=True):
    """A load profile as an object, and where its status stands."""

    logical_name: bytes
    status_name: bytes
    period: int
    """Seconds."""
    entries: int


PROFILE = ProfileObject(obis.parse("1-0:99.1.0"), obis.parse("0-0:96.10.1"), 900, 400 * 96)
PROFILE_2 = ProfileObject(obis.parse("1-0:99.2.0"), obis.parse("0-0:96.10.2"), 60, 10 * 1440)
DAILY = ProfileObject(obis.parse("0-0:98.2.0"), obis.parse("0-0:96.10.3"), 86_400, 400)
PROFILES = (PROFILE, PROFILE_2, DAILY)
"""Load profile 1, load profile 2 and the daily profile (data of billing period 2 in IEC 62056-6-1)."""
PROFILE_LN = PROFILE.logical_name
COMPACT_LN = obis.parse("0-0:66.0.1")
TEMPLATE = 1
"""Template of the compact data that have the last row of load profile 1."""

CLOCK_COLUMN = CaptureObject(classes.CLOCK, classes.CLOCK_LN, 2)


METER_LOGS = tuple(log for log in EventLog if log != EventLog.SECURITY)
"""Event logs that each meter has."""


CAUSE_LN = obis.parse("0-0:96.128.2")
"""Who has moved the breaker last, as text (a manufacturer's code)."""


@lru_cache
def event_log_name(log: EventLog) -> bytes:
    """Return the logical name of an event log, ``0-0:99.98.e``."""
    return obis.parse(f"0-0:99.98.{log.value}")


@lru_cache
def event_code_name(log: EventLog) -> bytes:
    """Return the logical name of a log's event code, ``0-0:96.11.e``."""
    return obis.parse(f"0-0:96.11.{log.value}")


class RegisterSlots(msgspec.Struct, frozen=True):
    """Where one register of a point stands, and how its value is encoded."""

    value: int
    """Slot of the value attribute."""
    encode: Callable[[Value], bytes]


class PointSlots(msgspec.Struct, frozen=True):
    """Where all of a point stands in a device's values."""

    registers: tuple[RegisterSlots, ...]
    status: tuple[int, ...]
    """Slots of status (class 4)."""
    capture_time: tuple[int, ...]
    """Slots of capture_time (class 4)."""


class MeterObjects:
    """The COSEM objects of a meter type: shared by all its meters."""

    def __init__(
        self,
        meter_type: MeterType,
        profile_points: Sequence[str],
        association_version: int = 1,
        live: Sequence[ObjectDefinition] = (),
        zone: Zone = UTC,
        *,
        settable_clock: bool = False,
    ) -> None:
        """``live``: objects that the meters have beside what their type tells (flexmap.faces.dlms.live)."""
        self.meter_type = meter_type
        captured = [
            meter_type.points[meter_type.index[name]] for name in profile_points if name in meter_type.index
        ]
        self.local = LocalTime(zone)
        self.captured = tuple(_column(point) for point in captured)
        """Capture objects of the profiles, behind clock and status."""
        self.profile_encoders = tuple(_encoder(point, point.registers[0].part) for point in captured)
        """How the values of a profile row are encoded, in the order of the profile's points."""
        clock = self.local.clock(settable=settable_clock)
        self.capturable = _capturable(meter_type)
        """What load profiles can capture beside clock and status."""
        self.billing = Billing(meter_type, (CLOCK_COLUMN, *self.captured))
        types = [axdr.Tag[point.type.upper().replace("-", "_")] for point in captured]
        self.columns = profile_columns(PROFILE, self.captured)
        """What load profile 1 captures until a head-end changes it."""
        self.compact = classes.compact_data(
            COMPACT_LN, TEMPLATE, self.columns, (axdr.Tag.OCTET_STRING, axdr.Tag.UNSIGNED, *types)
        )
        """The last row of load profile 1 as compact data."""
        self.schema = Schema(
            [
                *_definitions(meter_type, association_version, self.captured, clock, self.billing),
                self.compact,
                *live,
            ]
        )
        self.points = tuple(self._slots(point) for point in meter_type.points)
        self.rate_encoders = tuple(_encoder(point, point.registers[0].part) for point in meter_type.rates)
        """How the values of the rates are encoded in a billing row."""
        self.assigned = assigned(meter_type)
        """Class and logical name of what the masks of the tariff activate."""
        self.rates = tuple(self._slots(point) for point in meter_type.rates)
        self.channel = tuple(self._slots(point) for point in meter_type.channel)
        slot = self.schema.slot
        self.time = None if settable_clock else slot(classes.CLOCK, classes.CLOCK_LN, 2)
        """Where the time of the last sample stands; a clock that can be set tells its time itself."""
        self.clock_status = slot(classes.CLOCK, classes.CLOCK_LN, 4)
        self.commands = {
            obis.parse(point.registers[0].obis): point.name
            for point in meter_type.points
            if point.registers[0].class_id == classes.DISCONNECT_CONTROL and point.control is not None
        }
        """Point to act on, by the logical name of its Disconnect control."""

    def identity(self, identity: dict[str, str]) -> list[tuple[int, bytes]]:
        """Return slot and value of each identity point."""
        return [
            (self._slot(point.registers[0]), _text_encoder(point.type)(identity.get(point.name, "")))
            for point in self.meter_type.identity
        ]

    def _slot(self, register: Register) -> int:
        return self.schema.slot(register.class_id, obis.parse(register.obis), register.attribute)

    def _slots(self, point: Point) -> PointSlots:
        extended = [
            obis.parse(register.obis)
            for register in point.registers
            if register.class_id == classes.EXTENDED_REGISTER
        ]
        return PointSlots(
            tuple(
                RegisterSlots(self._slot(register), _encoder(point, register.part)) for register in point.registers
            ),
            tuple(self.schema.slot(classes.EXTENDED_REGISTER, name, 4) for name in extended),
            tuple(self.schema.slot(classes.EXTENDED_REGISTER, name, 5) for name in extended),
        )


class Captured(NamedTuple):
    """The point behind a column of a load profile, and how its value is encoded."""

    point: str
    encode: Callable[[Value], bytes]


def _capturable(meter_type: MeterType) -> Mapping[CaptureObject, Captured]:
    return {
        CaptureObject(register.class_id, obis.parse(register.obis), register.attribute): Captured(
            point.name, _encoder(point, register.part)
        )
        for point in meter_type.points
        for register in point.registers
    }


def _column(point: Point) -> CaptureObject:
    register = point.registers[0]
    return CaptureObject(register.class_id, obis.parse(register.obis), register.attribute)


@lru_cache
def event_columns(log: EventLog) -> tuple[CaptureObject, ...]:
    """Return the capture objects of an event log: clock, event code, and of the breaker's who it was."""
    columns = (CLOCK_COLUMN, CaptureObject(classes.DATA, event_code_name(log), 2))
    return (*columns, CaptureObject(classes.DATA, CAUSE_LN, 2)) if log is EventLog.DISCONNECT else columns


def status_column(profile: ProfileObject) -> CaptureObject:
    """Return the capture object of a profile's status."""
    return CaptureObject(classes.DATA, profile.status_name, 2)


def profile_columns(profile: ProfileObject, captured: Sequence[CaptureObject]) -> tuple[CaptureObject, ...]:
    """Return the capture objects of a profile: clock, its status, registers."""
    return (CLOCK_COLUMN, status_column(profile), *captured)


def _definitions(
    meter_type: MeterType,
    association_version: int,
    captured: Sequence[CaptureObject],
    clock: ObjectDefinition,
    billing: Billing,
) -> list[ObjectDefinition]:
    found = [
        classes.association_ln(association_version),
        classes.security_setup(),
        clock,
    ]
    for profile in PROFILES:
        columns = profile_columns(profile, captured)
        found.append(classes.data(profile.status_name))
        found.append(
            classes.profile_generic(
                profile.logical_name,
                columns,
                capture_period=profile.period,
                entries=profile.entries,
                changeable=profile is not DAILY,
            )
        )
    for log in METER_LOGS:
        found.append(classes.data(event_code_name(log)))
        if log is EventLog.DISCONNECT:
            found.append(classes.data(CAUSE_LN))
        found.append(
            classes.profile_generic(
                event_log_name(log), event_columns(log), capture_period=0, entries=EVENT_ENTRIES
            )
        )
    found += [classes.data(obis.parse(point.registers[0].obis), read=EVERYONE) for point in meter_type.identity]
    named: dict[tuple[int, str], ObjectDefinition] = {}
    for point in meter_type.served:
        for register in point.registers:
            named.setdefault((register.class_id, register.obis), _definition(point, register))
    return [
        *found,
        *named.values(),
        *demand_definitions(meter_type, PROFILE.period),
        *billing.definitions,
        *tariff_definitions(meter_type),
    ]


def _definition(point: Point, register: Register) -> ObjectDefinition:
    name = obis.parse(register.obis)
    match register.class_id:
        case classes.DATA:
            return classes.data(name)
        case classes.REGISTER:
            return classes.register(name, point.scaler, point.unit)
        case classes.EXTENDED_REGISTER:
            return classes.extended_register(name, point.scaler, point.unit)
        case classes.DISCONNECT_CONTROL:
            return classes.disconnect_control(name)
    raise LocalError(f"point {point.name}: class {register.class_id} cannot be served as a point")


def _encoder(point: Point, part: Part) -> Callable[[Value], bytes]:
    encode = axdr.encoder(point.type)
    if point.type == "boolean":
        return lambda number: encode(bool(number))
    if point.kind is Kind.ENERGY and part is Part.NET:  # as it stands in its register: profiles have millions
        return lambda number: encode(number if type(number) is int else values.raw(point, number, part))
    return lambda number: encode(values.raw(point, number, part))


def _text_encoder(type_name: str) -> Callable[[str], bytes]:
    encode: Callable[[Any], bytes] = axdr.encoder(type_name)
    if type_name == "octet-string":
        return lambda text: encode(text.encode())
    return encode
