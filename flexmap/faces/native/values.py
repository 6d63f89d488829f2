"""From samples to variables: which attributes carry a meter's points, and how they are encoded, once per change.

A sample's values, qualities and time stamps are all in place before anybody is told of the changes, so that a
report carries the three of the same instant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flexmap.faces.native.model import BuiltDevice, BuiltModel
from flexmap.mapping import cdc
from flexmap.mapping.quality import time_quality
from flexmap.mms import data
from flexmap.mms.variables import DATA_CHANGE, QUALITY_CHANGE, Change, Device
from flexmap.model import ConfigurationError, Meter, Point, Reference, Sample, SamplePart, Site, Value, quality
from flexmap.scl.nodes import ROOT_LD

_CHANNEL_SILENT = 60.0
"""Seconds without any sample after which the gateway's own LCCH1.ChLiv goes false."""

_REPEATED = 600_000
"""Milliseconds for which a sample may be older than what was told; beyond, the meter's clock was set."""

OnChange = Callable[[Device, list[Change]], None]
"""Told of a device's changed positions, once they all stand in the device."""


class _Kind(NamedTuple):
    encode: Callable[[bool | float], bytes]
    low: float = -math.inf
    high: float = math.inf
    """What the type can hold."""


def _double_point(value: bool | float) -> bytes:
    number = int(value) if not isinstance(value, bool) else cdc.DPC_ON if value else cdc.DPC_OFF
    return data.bit_string(number, 2)


_KINDS = {
    "FLOAT32": _Kind(data.float32),
    "INT64": _Kind(lambda value: data.integer(int(value)), -(2**63), 2**63 - 1),
    "INT32": _Kind(lambda value: data.integer(int(value)), -(2**31), 2**31 - 1),
    "Enum": _Kind(lambda value: data.integer(int(value)), -128, 127),
    "BOOLEAN": _Kind(lambda value: data.boolean(bool(value))),
    "Dbpos": _Kind(_double_point, 0, 3),
}

_QUALITIES = [b"\x84\x03\x03" + quality.to_bits(bits) for bits in range(1 << quality.WIDTH)]
"""Every quality, encoded."""


class _Target:
    """One data object that shows a point: positions of value, ``q`` and ``t``."""

    __slots__ = ("_kind", "_last", "_last_quality", "_quality", "_time", "_value")

    def __init__(self, kind: _Kind, value: int, q: int, t: int) -> None:
        self._kind = kind
        self._last: Value = None
        self._last_quality = -1
        self._value, self._quality, self._time = value, q, t

    def write(self, device: Device, reading: tuple[Value, int], stamp: bytes, changes: list[Change]) -> None:
        """Write one reading; a missing, invalid or too large value leaves the last one in place."""
        value, value_quality = reading
        values = device.values
        values[self._time] = stamp
        new: bool | float | None = None
        if value is not None and value != self._last and not isinstance(value, str):
            kind = self._kind
            if kind.low <= value <= kind.high or math.isnan(value):
                new = value
            else:
                value_quality = quality.INVALID | quality.OVERFLOW
        if value_quality != self._last_quality:
            self._last_quality = value_quality
            values[self._quality] = _QUALITIES[value_quality]
            changes.append((self._quality, QUALITY_CHANGE))
        if new is not None and quality.validity(value_quality) != quality.INVALID:
            self._last = new
            if device.set(self._value, self._kind.encode(new)):
                changes.append((self._value, DATA_CHANGE))


class _Row(NamedTuple):
    """Where a sample's values go."""

    device: Device
    targets: list[tuple[_Target, ...]]


class Values:
    """Writes samples into the variables."""

    def __init__(
        self, site: Site, built: BuiltModel, on_change: OnChange = lambda _device, _changes: None
    ) -> None:
        """Resolve every point of every meter, and mark each as never read.

        Raises ConfigurationError naming the point if the SCL document does not have it.
        """
        self._on_change = on_change
        self._rows: dict[tuple[str, SamplePart], _Row] = {}
        """By meter and part."""
        self._places: dict[tuple[int, Reference], tuple[_Kind, int, int, int]] = {}
        """Where the value, ``q`` and ``t`` of a reference stand, by the device's schema."""
        self._last: dict[str, Sample] = {}
        self._identities: dict[tuple[str, str], tuple[Device, int]] = {}
        """Attributes of the name plates, by meter and identity point."""
        self._told: dict[str, int] = {}
        """Time of the newest values that clients were told of before a restart, by meter."""
        self._index = {meter.id: site.type_of(meter).index for meter in site.meters}
        self.points = 0
        self.samples = 0
        self.skipped = 0
        for meter in site.meters:
            device = built.devices.get(meter.ld)
            if device is None:
                raise _missing(meter, f"logical device {meter.ld}")
            meter_type = site.type_of(meter)
            for part in SamplePart:
                targets = [tuple(self._targets(meter, point, device)) for point in meter_type.of_part(part)]
                self._rows[meter.id, part] = _Row(device.device, targets)
            for point in meter_type.identity:
                position = device.position(_attribute_path(point.reference))
                if position is not None:
                    self._identities[meter.id, point.name] = (device.device, position)
        self._channel = self._gateway_channel(built.devices.get(ROOT_LD))

    def _targets(self, meter: Meter, point: Point, device: BuiltDevice) -> Iterator[_Target]:
        yield self._target(meter, point.reference_for(meter.direction), device)
        if point.control is not None:
            yield self._target(meter, point.control, device)

    def _target(self, meter: Meter, reference: Reference, device: BuiltDevice) -> _Target:
        key = (id(device.device.schema), reference)
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = _place(meter, reference, device)
        target = _Target(*found)
        target.write(device.device, (None, quality.NEVER_READ), _NEVER, [])
        return target

    def _gateway_channel(self, root: BuiltDevice | None) -> _Channel | None:
        """Return the gateway's own LCCH1.ChLiv, which tells whether any samples arrive."""
        if root is None:
            return None
        value, q, t = (root.position(f"LCCH1.ChLiv.{name}") for name in ("stVal", "q", "t"))
        if value is None or q is None or t is None:
            return None
        return _Channel(root.device, _Target(_KINDS["BOOLEAN"], value, q, t), self._on_change)

    def apply(self, sample: Sample, now: float) -> None:
        """Write one sample; ``now`` is a monotonic clock in seconds."""
        row = self._rows.get((sample.meter, sample.part))
        if row is None or not len(row.targets) == len(sample.values) == len(sample.quality):
            self.skipped += 1
            return
        if self._told and self._is_told(sample):
            return
        stamp = data.utc_time(sample.time, time_quality(sample.clock_status))
        changes: list[Change] = []
        device = row.device
        for targets, value, value_quality in zip(row.targets, sample.values, sample.quality, strict=True):
            for target in targets:
                target.write(device, (value, value_quality), stamp, changes)
        if changes:
            self._on_change(device, changes)
        if self._channel is not None and self._is_new(sample):
            self._channel.heard(now, stamp)
        if sample.part is SamplePart.METER:
            self._last[sample.meter] = sample
        self.points += len(row.targets)
        self.samples += 1

    def begin_after(self, told: dict[str, int]) -> None:
        """Pass over samples older than these times (ms) by meter: clients were told of newer ones already.

        What a source delivers again after a restart, or the store kept from shortly before, would be told twice.
        """
        self._told = {meter: time for meter, time in told.items() if time}

    def _is_told(self, sample: Sample) -> bool:
        told = self._told.get(sample.meter, 0)
        if told - _REPEATED < sample.time < told:
            return True
        if sample.time >= told and not sample.channel:
            self._told.pop(sample.meter, None)
        return False

    def identify(self, meter: str, point: str, text: str) -> None:
        """Write a new value of an identity point."""
        found = self._identities.get((meter, point))
        if found is not None:
            device, position = found
            if device.set(position, data.visible_string(text)):
                self._on_change(device, [(position, DATA_CHANGE)])

    def _is_new(self, sample: Sample) -> bool:
        """Tell whether a meter has spoken: neither never read, nor the last sample again with another quality."""
        last = self._last.get(sample.meter)
        return sample.part is SamplePart.METER and sample.time > (0 if last is None else last.time)

    def tick(self, now: float, time: int) -> None:
        """Mark the gateway's channel if nothing comes any more.

        ``now`` is a monotonic clock in seconds, ``time`` the wall clock in milliseconds.
        """
        if self._channel is not None and self._channel.is_silent(now):
            self._channel.silence(data.utc_time(time, quality.ACCURACY_MILLISECOND))

    def last(self, meter: str, point: str) -> Value:
        """Return the last known good value of a point, None if there is none."""
        sample = self._last.get(meter)
        if sample is None:
            return None
        position = self._index[meter][point]
        good = quality.validity(sample.quality[position]) == quality.GOOD
        return sample.values[position] if good else None


_NEVER = data.utc_time(0, quality.ACCURACY_MILLISECOND)


class _Channel:
    """One LCCH.ChLiv: true while samples arrive."""

    def __init__(self, device: Device, target: _Target, on_change: OnChange) -> None:
        self._device = device
        self._target = target
        self._on_change = on_change
        self._heard: float | None = None
        target.write(device, (None, quality.NEVER_READ), _NEVER, [])

    def heard(self, now: float, stamp: bytes) -> None:
        if self._heard is None:
            self._write(True, stamp)
        self._heard = now

    def is_silent(self, now: float) -> bool:
        return self._heard is not None and now - self._heard > _CHANNEL_SILENT

    def silence(self, stamp: bytes) -> None:
        self._heard = None
        self._write(False, stamp)

    def _write(self, alive: bool, stamp: bytes) -> None:
        changes: list[Change] = []
        self._target.write(self._device, (alive, quality.GOOD), stamp, changes)
        if changes:
            self._on_change(self._device, changes)


def _place(meter: Meter, reference: Reference, device: BuiltDevice) -> tuple[_Kind, int, int, int]:
    place = cdc.place(reference)
    path = f"{reference.ln}.{reference.do}"
    value, q, t = (device.position(f"{path}.{name}") for name in (place.attribute, "q", "t"))
    found = device.attribute(f"{path}.{place.attribute}")
    if value is None or q is None or t is None or found is None:
        raise _missing(meter, f"{path} with {place.attribute}, q and t")
    kind = _KINDS.get(found.attribute.basic_type)
    if kind is None:
        basic_type = found.attribute.basic_type
        raise _missing(meter, f"{path}.{place.attribute} of a type for values, not {basic_type}")
    return kind, value, q, t


def _attribute_path(reference: Reference) -> str:
    return f"{reference.ln}.{cdc.data_object(reference)}.{cdc.place(reference).attribute}"


def _missing(meter: Meter, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the SCL document has no {what}",
        where=f"meter {meter.id}, logical device {meter.ld}",
        remedy="generate the CID from this configuration: flexmap scl export CONFIG -o FILE.cid",
    )
