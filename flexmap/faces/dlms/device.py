"""Logical devices: one for each meter, and the management logical device at server address 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger

import flexmap
from flexmap.dlms import axdr, classes, g3_classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.notification import Change
from flexmap.dlms.objects import LogicalDevice, Pending, RowSource, Schema, attribute_key
from flexmap.dlms.profile import EVERYONE, ClientProfile, Role
from flexmap.dlms.scripts import ScriptAction, Service
from flexmap.dlms.selection import EntrySelection
from flexmap.faces.dlms.live import LiveObject
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.objects import (
    CAUSE_LN,
    METER_LOGS,
    PROFILES,
    MeterObjects,
    PointSlots,
    event_code_name,
)
from flexmap.faces.dlms.ports import PortObject
from flexmap.faces.dlms.profiles import LoadProfileObject
from flexmap.faces.dlms.security_log import security_log_objects
from flexmap.faces.dlms.status import status_value
from flexmap.faces.interface import OnCommand
from flexmap.mapping.zone import Zone
from flexmap.model import (
    Command,
    CommandResult,
    Event,
    EventLog,
    LocalError,
    Meter,
    Sample,
    SamplePart,
    Site,
    Value,
    obis,
    quality,
)
from flexmap.model.breaker import BLOCKED_BY_HIERARCHY, BLOCKED_BY_MODE, MOST_MODE
from flexmap.model.plc import Coordinator
from flexmap.model.sample import CONTROL_MODE

MANAGEMENT_SAP = 1
FIRMWARE_LN = obis.parse("0-0:0.2.0")

log = Logger(namespace="flexmap.dlms")
_command_ids = count(1)


class MeterDevice(LogicalDevice):
    """One meter's logical device. A value is encoded when it changes, not when it is read."""

    __slots__ = ("_last", "_live", "_meter", "_objects", "_on_command", "_parts")

    def __init__(
        self, meter: Meter, objects: MeterObjects, buffers: Mapping[bytes, RowSource], on_command: OnCommand
    ) -> None:
        self._live: dict[tuple[int, bytes], LiveObject] = {}
        super().__init__(meter.sap, objects.schema)
        self._meter = meter
        self._objects = objects
        self._on_command = on_command
        self._last = Sample(meter.id, -1, (), ())
        self._parts = dict.fromkeys((SamplePart.CHANNEL, SamplePart.RATES), self._last)
        for slot, value in objects.identity(meter.identity):
            self.values[slot] = value
        for name, rows in buffers.items():
            self.values[self.schema.slot(classes.PROFILE_GENERIC, name, 2)] = rows
            self.values[self.schema.slot(classes.PROFILE_GENERIC, name, 7)] = _entries_in_use(rows)
        for event_log in METER_LOGS:
            slot = self.schema.slot(classes.DATA, event_code_name(event_log), 2)
            self.values[slot] = axdr.encode("unsigned", 0)
        self.values[self.schema.slot(classes.DATA, CAUSE_LN, 2)] = axdr.octet_string(b"")
        for profile in PROFILES:
            slot = self.schema.slot(classes.DATA, profile.status_name, 2)
            rows = buffers[profile.logical_name]
            told = rows.last_status if isinstance(rows, LoadProfileObject) else partial(_last_status, rows)
            self.values[slot] = told
        self.serve(rows for rows in buffers.values() if isinstance(rows, LoadProfileObject))
        for place, shown in objects.local.slots(self.schema, lambda: self._last.time):
            self.values[place] = shown

    def serve(self, live: Iterable[LiveObject]) -> None:
        """Serve objects that the schema has beside those of the meter's type."""
        for each in live:
            class_id, name = each.definition.class_id, each.definition.logical_name
            self._live[class_id, name] = each
            for attribute, value in each.slots().items():
                self.values[self.schema.slot(class_id, name, attribute)] = value

    def identity(self, name: str, text: str) -> None:
        """Show a new value of an identity point."""
        for slot, value in self._objects.identity({**self._meter.identity, name: text}):
            self.values[slot] = value

    def update(self, sample: Sample) -> None:
        """Serve a sample of the meter, its rates or its channel from now on."""
        if sample.part is not SamplePart.METER:
            points = self._objects.channel if sample.channel else self._objects.rates
            self._show(points, sample, self._parts[sample.part])
            self._parts[sample.part] = sample
            return
        last, objects = self._last, self._objects
        self._show(objects.points, sample, last)
        if sample.time != last.time or sample.clock_status != last.clock_status:
            if objects.time is not None:
                self.values[objects.time] = self._time_value(sample)
            self.values[objects.clock_status] = objects.local.status(sample.time, sample.clock_status)
        self._last = sample

    def _show(self, points: Sequence[PointSlots], sample: Sample, last: Sample) -> None:
        """Put what has changed into the slots of the points that the sample is of."""
        time = self._time_value(sample)
        new_time = sample.time != last.time or sample.clock_status != last.clock_status
        first = len(last.values) != len(sample.values)
        for position, point in enumerate(points):
            value, value_quality = sample.values[position], sample.quality[position]
            if first or value != last.values[position] or value_quality != last.quality[position]:
                self._put(point, value, value_quality)
            if new_time:
                for slot in point.capture_time:
                    self.values[slot] = time

    def event(self, event: Event) -> Change | None:
        """Show the code of its log's last event, and return the change; logs that no meter has are not shown."""
        if event.log not in METER_LOGS:
            return None
        if event.log is EventLog.DISCONNECT:
            self.values[self.schema.slot(classes.DATA, CAUSE_LN, 2)] = axdr.octet_string(event.text.encode())
        name, value = event_code_name(event.log), axdr.encode("unsigned", event.code)
        self.values[self.schema.slot(classes.DATA, name, 2)] = value
        time, _ = axdr.take_octet_string(self._objects.local.value(event.time), 1)
        return Change(attribute_key(classes.DATA, name, 2), value, time)

    def on_set(
        self, class_id: int, logical_name: bytes, attribute: int, data: bytes, client: ClientProfile
    ) -> DataAccessResult | Pending:
        """Write an attribute of a live object, or the control mode of the breaker."""
        live = self._live.get((class_id, logical_name))
        if live is not None:
            return live.write(attribute, data)
        if (class_id, attribute) != (classes.DISCONNECT_CONTROL, classes.CONTROL_MODE):
            return DataAccessResult.READ_WRITE_DENIED
        mode = data[1] if data[0] == axdr.Tag.ENUM else MOST_MODE + 1
        if mode > MOST_MODE:
            return DataAccessResult.TYPE_UNMATCHED
        return self._command(CONTROL_MODE, mode, client)

    def perform(self, action: ScriptAction, client: ClientProfile) -> ActionResult | Pending:
        """Carry out an action of a script."""
        if action.service is Service.EXECUTE:
            return self.on_action(action.class_id, action.logical_name, action.index, action.parameter, client)
        result = self.on_set(action.class_id, action.logical_name, action.index, action.parameter, client)
        return result if isinstance(result, Pending) else ActionResult(result)

    def on_action(
        self, class_id: int, logical_name: bytes, method: int, data: bytes | None, client: ClientProfile
    ) -> ActionResult | Pending:
        """Call a method of a live object, or open or close the breaker.

        The breaker (class 70 methods 1 and 2, with an integer(0) without meaning) is answered when the meter has
        answered.
        """
        live = self._live.get((class_id, logical_name))
        if live is not None:
            return live.act(method, data, client)
        point = self._objects.commands.get(logical_name)
        if class_id != classes.DISCONNECT_CONTROL or point is None:
            return ActionResult.OBJECT_UNDEFINED
        return self._command(point, method == classes.REMOTE_RECONNECT, client)

    def _command(self, point: str, value: bool | int, client: ClientProfile) -> Pending:
        """Pass a command to the meter; a client without an address is a function of its own, such as a limiter."""
        local = client.sap == 0
        origin = client.name if local else f"DLMS client {client.name} ({client.sap})"
        pending = Pending()
        command = Command(next(_command_ids), self._meter.id, point, value, origin, local)
        _relay(self._on_command(command), pending)
        return pending

    def _time_value(self, sample: Sample) -> bytes | DataAccessResult:
        if sample.time <= 0:
            return DataAccessResult.TEMPORARY_FAILURE
        return self._objects.local.value(sample.time, sample.clock_status)

    def _put(self, point: PointSlots, value: Value, value_quality: int) -> None:
        missing = value is None or quality.validity(value_quality) == quality.INVALID
        for register in point.registers:
            try:
                encoded = DataAccessResult.TEMPORARY_FAILURE if missing else register.encode(value)
            except (OverflowError, ValueError, TypeError, LocalError) as error:  # no number, or one too large
                log.warn("{meter}: {error}", meter=self._meter.id, error=error)
                encoded = DataAccessResult.OTHER_REASON
            self.values[register.value] = encoded
        for slot in point.status:
            self.values[slot] = status_value(value_quality)


def _last_status(rows: RowSource) -> bytes:
    """Return the status of the newest row of a profile, 0 if there is none."""
    total = rows.select(None).total
    newest = next(rows.select(EntrySelection(total, total, 2, 2)).rows, None) if total else None
    return axdr.encode("unsigned", 0) if newest is None else newest[2:]


_REFUSALS = {BLOCKED_BY_MODE: ActionResult.READ_WRITE_DENIED, BLOCKED_BY_HIERARCHY: ActionResult.OTHER_REASON}
"""What a meter's refusal is, by the name its cause begins with: trying again does not help.

All else, above all that no answer has come, is a temporary failure.
"""


def _relay(answer: Deferred[CommandResult], pending: Pending) -> None:
    def done(result: CommandResult) -> None:
        refused = _REFUSALS.get(result.cause.partition(":")[0], ActionResult.TEMPORARY_FAILURE)
        pending.answer(ActionResult.SUCCESS if result.done else refused)

    def failed(failure: object) -> None:
        log.error("command failed: {failure}", failure=failure)
        pending.answer(ActionResult.HARDWARE_FAULT)

    answer.addCallbacks(done, failed)


def _entries_in_use(rows: RowSource) -> Callable[[], bytes]:
    return lambda: axdr.encode("double-long-unsigned", rows.select(None).total)


class ManagementDevice(LogicalDevice):
    """The gateway's own logical device; of each concentrator it has the objects of its PAN coordinator."""

    __slots__ = ("_channels",)

    def __init__(self, sap: int, schema: Schema, channels: Mapping[str, int]) -> None:
        """``channels``: group B of the logical names of each concentrator's objects, by its source."""
        super().__init__(sap, schema)
        self._channels = channels

    def coordinator(self, told: Coordinator) -> None:
        """Serve what a coordinator says of itself."""
        channel = self._channels.get(told.source)
        if channel is not None:
            for attribute, value in g3_classes.values(channel, told):
                self.values[self.schema.slot(*attribute)] = value


def management_device(
    site: Site,
    system_title: bytes,
    now_ms: Callable[[], int],
    ports: Sequence[PortObject] = (),
    *,
    clients: Sequence[int] = (),
    association_version: int = 1,
) -> ManagementDevice:
    """Return the gateway's own logical device: clock, identity, the SAP assignment of all meters, coordinators.

    ``clients``: SAPs of those whose security setup the managing client can change here.
    """
    local = LocalTime(Zone(site.time_zone))
    far = dict.fromkeys(meter.source for meter in site.meters if site.type_of(meter).channel)
    channels = {source: channel for channel, source in enumerate(far)}
    definitions = [
        classes.association_ln(association_version),
        classes.security_setup(),
        *(classes.security_setup(sap, read=Role.MANAGEMENT) for sap in clients if 0 < sap < 256),
        *security_log_objects(),
        local.clock(),
        classes.data(classes.LOGICAL_DEVICE_NAME_LN, read=EVERYONE),
        classes.data(FIRMWARE_LN, read=EVERYONE),
        classes.sap_assignment(),
        *(port.definition for port in ports),
        *(definition for channel in channels.values() for definition in g3_classes.definitions(channel)),
    ]
    device = ManagementDevice(MANAGEMENT_SAP, Schema(definitions), channels)
    slot = device.schema.slot
    name = f"FMX{system_title[3:].hex().upper()}".encode()
    device.values[slot(classes.CLOCK, classes.CLOCK_LN, 2)] = lambda: local.value(now_ms())
    device.values[slot(classes.CLOCK, classes.CLOCK_LN, 4)] = lambda: local.status(now_ms(), 0)
    for place, value in local.slots(device.schema, now_ms):
        device.values[place] = value
    device.values[slot(classes.DATA, classes.LOGICAL_DEVICE_NAME_LN, 2)] = axdr.octet_string(name)
    device.values[slot(classes.DATA, FIRMWARE_LN, 2)] = axdr.octet_string(flexmap.__version__.encode())
    device.values[slot(classes.SAP_ASSIGNMENT, classes.SAP_ASSIGNMENT_LN, 2)] = classes.sap_list(
        _logical_devices(site, name)
    )
    for definition, values in ports:
        for attribute, value in values.items():
            device.values[slot(definition.class_id, definition.logical_name, attribute)] = value
    return device


def _logical_devices(site: Site, management_name: bytes) -> Iterable[tuple[int, bytes]]:
    yield MANAGEMENT_SAP, management_name
    for meter in site.meters:
        yield meter.sap, meter.identity.get("device-name", meter.id).encode()
