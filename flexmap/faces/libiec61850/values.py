"""From samples to attributes: which attributes of the model carry a meter's points, and how they are written.

The time stamp is set before the value and the quality, all under one model lock for each meter, so that a report
carries the three of the same instant. A value that triggers reports goes through the library's update functions
only if it changed and stands in a data set; everything else is a plain write.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flexmap.faces.libiec61850.ctypes_api import Pointer
from flexmap.faces.libiec61850.model import BuiltDevice, Leaf
from flexmap.mapping import cdc
from flexmap.mapping.quality import time_quality
from flexmap.model import ConfigurationError, Meter, Point, Reference, Sample, Site, Value, quality

_CHANNEL_SILENT = 10.0
"""Seconds without a sample after which LCCH.ChLiv goes false."""


class _Kind(NamedTuple):
    update: str
    write: str
    convert: Callable[[bool | float], bool | float]


def _double_point(value: bool | float) -> int:
    return int(value) if not isinstance(value, bool) else cdc.DPC_ON if value else cdc.DPC_OFF


_KINDS = {
    "FLOAT32": _Kind("IedServer_updateFloatAttributeValue", "MmsValue_setFloat", float),
    "INT64": _Kind("IedServer_updateInt64AttributeValue", "MmsValue_setInt64", int),
    "INT32": _Kind("IedServer_updateInt32AttributeValue", "MmsValue_setInt32", int),
    "Enum": _Kind("IedServer_updateInt32AttributeValue", "MmsValue_setInt32", int),
    "BOOLEAN": _Kind("IedServer_updateBooleanAttributeValue", "MmsValue_setBoolean", bool),
    "Dbpos": _Kind("IedServer_updateDbposValue", "MmsValue_setBitStringFromIntegerBigEndian", _double_point),
}


class _Target:
    """One data object that shows a point: value, ``q`` and ``t``."""

    __slots__ = ("_convert", "_quality", "_set_quality", "_set_time", "_set_value", "_value")

    def __init__(self, library: ctypes.CDLL, server: Pointer, value: Leaf, q: Leaf, t: Leaf) -> None:
        kind = _KINDS[value.basic_type]
        self._convert = kind.convert
        self._value: Value = None
        self._quality = -1
        self._set_value = _writer(library, server, value, kind.update, kind.write)
        self._set_quality = _writer(
            library, server, q, "IedServer_updateQuality", "MmsValue_setBitStringFromInteger"
        )
        time = library.IedServer_getAttributeValue(server, t.pointer)
        self._set_time = functools.partial(library.MmsValue_setUtcTimeMsEx, time)

    def write(self, value: Value, value_quality: int, time: int, clock: int) -> None:
        """Write one reading; a missing or invalid value leaves the last one in place."""
        self._set_time(time, clock)
        if value_quality != self._quality:
            self._quality = value_quality
            self._set_quality(value_quality)
        if (
            value != self._value
            and value is not None
            and not isinstance(value, str)
            and quality.validity(value_quality) != quality.INVALID
        ):
            self._value = value
            self._set_value(self._convert(value))


def _writer(
    library: ctypes.CDLL, server: Pointer, leaf: Leaf, update: str, write: str
) -> Callable[[bool | float], None]:
    if leaf.reported:
        return functools.partial(getattr(library, update), server, leaf.pointer)
    return functools.partial(getattr(library, write), library.IedServer_getAttributeValue(server, leaf.pointer))


class Values:
    """Writes samples into a running server's model."""

    def __init__(self, library: ctypes.CDLL, server: Pointer, site: Site, devices: dict[str, BuiltDevice]) -> None:
        """Resolve every point of every meter, and mark each as never read.

        Raises ConfigurationError naming the point if the SCL document does not have it.
        """
        self._library = library
        self._server = server
        self._rows: dict[str, list[tuple[_Target, ...]]] = {}
        self._last: dict[str, Sample] = {}
        self._index = {meter.id: site.type_of(meter).index for meter in site.meters}
        self.points = 0
        self.samples = 0
        self.skipped = 0
        for meter in site.meters:
            device = devices.get(meter.ld)
            if device is None:
                raise _missing(meter, f"logical device {meter.ld}")
            self._rows[meter.id] = [
                tuple(self._targets(meter, point, device)) for point in site.type_of(meter).points
            ]
        self._channels = self._find_channels(site, devices)

    def _targets(self, meter: Meter, point: Point, device: BuiltDevice) -> Iterator[_Target]:
        yield self._target(meter, point.reference_for(meter.direction), device)
        if point.control is not None:
            yield self._target(meter, point.control, device)

    def _target(self, meter: Meter, reference: Reference, device: BuiltDevice) -> _Target:
        place = cdc.place(reference)
        path = f"{reference.ln}.{reference.do}"
        leaves = [device.leaves.get(f"{path}.{name}") for name in (place.attribute, "q", "t")]
        value, q, t = leaves
        if value is None or q is None or t is None:
            raise _missing(meter, f"{path} with {place.attribute}, q and t")
        if value.basic_type not in _KINDS:
            raise _missing(meter, f"{path}.{place.attribute} of a type for values, not {value.basic_type}")
        target = _Target(self._library, self._server, value, q, t)
        target.write(None, quality.NEVER_READ, 0, quality.ACCURACY_MILLISECOND)
        return target

    def _find_channels(self, site: Site, devices: dict[str, BuiltDevice]) -> dict[str, list[_Channel]]:
        """Return the LCCH.ChLiv that tell whether samples arrive, by meter id; ``""`` is the gateway's own."""
        by_device = {meter.ld: meter.id for meter in site.meters}
        channels: dict[str, list[_Channel]] = {}
        for inst, device in devices.items():
            for path, leaf in device.leaves.items():
                if path.startswith("LCCH") and path.endswith(".ChLiv.stVal"):
                    base = path.removesuffix("stVal")
                    target = _Target(
                        self._library, self._server, leaf, device.leaves[base + "q"], device.leaves[base + "t"]
                    )
                    channels.setdefault(by_device.get(inst, ""), []).append(_Channel(target))
        return channels

    def apply(self, sample: Sample, now: float) -> None:
        """Write one sample; ``now`` is a monotonic clock in seconds."""
        row = self._rows.get(sample.meter)
        if row is None or not len(row) == len(sample.values) == len(sample.quality):
            self.skipped += 1
            return
        clock = time_quality(sample.clock_status)
        time = sample.time
        self._library.IedServer_lockDataModel(self._server)
        try:
            for targets, value, value_quality in zip(row, sample.values, sample.quality, strict=True):
                for target in targets:
                    target.write(value, value_quality, time, clock)
            for channel in (*self._channels.get(sample.meter, ()), *self._channels.get("", ())):
                channel.heard(now, time, clock)
        finally:
            self._library.IedServer_unlockDataModel(self._server)
        self._last[sample.meter] = sample
        self.points += len(row)
        self.samples += 1

    def tick(self, now: float, time: int) -> None:
        """Mark channels that have gone silent; ``time`` is the wall clock in milliseconds."""
        silent = [c for channels in self._channels.values() for c in channels if c.is_silent(now)]
        if silent:
            self._library.IedServer_lockDataModel(self._server)
            try:
                for channel in silent:
                    channel.silence(time)
            finally:
                self._library.IedServer_unlockDataModel(self._server)

    def last(self, meter: str, point: str) -> Value:
        """Return the last known good value of a point, None if there is none."""
        sample = self._last.get(meter)
        if sample is None:
            return None
        position = self._index[meter][point]
        good = quality.validity(sample.quality[position]) == quality.GOOD
        return sample.values[position] if good else None


class _Channel:
    """One LCCH.ChLiv: true while samples arrive."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._heard: float | None = None

    def heard(self, now: float, time: int, clock: int) -> None:
        if self._heard is None:
            self._target.write(True, quality.GOOD, time, clock)
        self._heard = now

    def is_silent(self, now: float) -> bool:
        return self._heard is not None and now - self._heard > _CHANNEL_SILENT

    def silence(self, time: int) -> None:
        self._heard = None
        self._target.write(False, quality.GOOD, time, quality.ACCURACY_MILLISECOND)


def stamp_unmapped(library: ctypes.CDLL, server: Pointer, devices: dict[str, BuiltDevice], time: int) -> None:
    """Set every ``t`` of status and measurands to the start of the server; points overwrite theirs."""
    for device in devices.values():
        for path, leaf in device.leaves.items():
            if leaf.basic_type == "Timestamp" and leaf.fc in {"ST", "MX"} and path.endswith(".t"):
                stored = library.IedServer_getAttributeValue(server, leaf.pointer)
                library.MmsValue_setUtcTimeMsEx(stored, time, quality.ACCURACY_MILLISECOND)


def _missing(meter: Meter, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the SCL document has no {what}",
        where=f"meter {meter.id}, logical device {meter.ld}",
        remedy="generate the CID from this configuration: flexmap scl export CONFIG -o FILE.cid",
    )
