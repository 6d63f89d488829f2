"""From samples to attributes: which attributes of the model carry a meter's points, and how they are written.

Time stamps are set before values and qualities, all under one model lock for each meter, so that a report carries
the three of the same instant. Only a changed attribute that stands in a data set goes through the library's update
functions, which look for reports to make; everything else is a plain write.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from flexmap.faces.libiec61850.ctypes_api import Pointer
from flexmap.faces.libiec61850.model import BuiltDevice, BuiltModel, Leaf
from flexmap.faces.libiec61850.reports import Awaited
from flexmap.mapping import cdc
from flexmap.mapping.quality import time_quality
from flexmap.model import ConfigurationError, Meter, Point, Reference, Sample, SamplePart, Site, Value, quality
from flexmap.scl.nodes import ROOT_LD

T = TypeVar("T")

_CHANNEL_SILENT = 60.0
"""Seconds without any sample after which the gateway's own LCCH1.ChLiv goes false.

A few meters behind a slow line give one every ten seconds or so.
"""


class _Kind(NamedTuple):
    update: str
    write: str
    convert: Callable[[bool | float], bool | float]
    low: float = -math.inf
    high: float = math.inf
    """What the type can hold; ctypes would cut off the rest without a word."""


def _double_point(value: bool | float) -> int:
    return int(value) if not isinstance(value, bool) else cdc.DPC_ON if value else cdc.DPC_OFF


_INT32 = ("IedServer_updateInt32AttributeValue", "MmsValue_setInt32", int, -(2**31), 2**31 - 1)
_INT64 = ("IedServer_updateInt64AttributeValue", "MmsValue_setInt64", int, -(2**63), 2**63 - 1)
_KINDS = {
    "FLOAT32": _Kind("IedServer_updateFloatAttributeValue", "MmsValue_setFloat", float),
    "INT64": _Kind(*_INT64),
    "INT32": _Kind(*_INT32),
    "Enum": _Kind(*_INT32),
    "BOOLEAN": _Kind("IedServer_updateBooleanAttributeValue", "MmsValue_setBoolean", bool),
    "Dbpos": _Kind("IedServer_updateDbposValue", "MmsValue_setBitStringFromIntegerBigEndian", _double_point, 0, 3),
}


class _Attribute:
    """One basic attribute, written without a word or so that the library looks for reports to make."""

    __slots__ = ("members", "silent", "trigger")

    def __init__(self, library: ctypes.CDLL, server: Pointer, leaf: Leaf, functions: tuple[str, str]) -> None:
        update, write = functions
        stored = library.IedServer_getAttributeValue(server, leaf.pointer)
        self.silent = functools.partial(getattr(library, write), stored)
        self.trigger = functools.partial(getattr(library, update), server, leaf.pointer)
        self.members = leaf.members


class _Changes:
    """Changes of one sample, written so that every data set member triggers once, with all of its new values.

    The library closes a report when one of its members changes for a second time, and takes over a member's
    values when that member triggers. So everything is written silently first, but for the last change within
    each member.
    """

    def __init__(self, awaited: Awaited) -> None:
        self._awaited = awaited
        self._values: list[tuple[_Attribute, bool | float]] = []
        self._qualities: list[tuple[_Attribute, int]] = []

    def value(self, attribute: _Attribute, value: bool | float) -> None:
        """Take a new value."""
        if self._awaited.value(attribute.members):
            self._values.append((attribute, value))
        else:
            attribute.silent(value)

    def quality(self, attribute: _Attribute, value: int) -> None:
        """Take a new quality."""
        if self._awaited.quality(attribute.members):
            self._qualities.append((attribute, value))
        else:
            attribute.silent(value)

    def write(self) -> None:
        """Write what was taken."""
        triggers = [*_write_silently(self._qualities), *_write_silently(self._values)]
        for attribute, value in triggers:
            attribute.trigger(value)


def _write_silently(changes: Sequence[tuple[_Attribute, T]]) -> list[tuple[_Attribute, T]]:
    """Write all changes but the last one of each data set member; return those."""
    covered: set[int] = set()
    triggers = []
    for attribute, value in reversed(changes):
        if covered.issuperset(attribute.members):
            attribute.silent(value)
        else:
            covered.update(attribute.members)
            triggers.append((attribute, value))
    return triggers


class _Target:
    """One data object that shows a point: value, ``q`` and ``t``."""

    __slots__ = ("_kind", "_last", "_last_quality", "_quality", "_set_time", "_value")

    def __init__(self, library: ctypes.CDLL, server: Pointer, value: Leaf, q: Leaf, t: Leaf) -> None:
        self._kind = _KINDS[value.basic_type]
        self._last: Value = None
        self._last_quality = -1
        self._value = _Attribute(library, server, value, (self._kind.update, self._kind.write))
        self._quality = _Attribute(
            library, server, q, ("IedServer_updateQuality", "MmsValue_setBitStringFromInteger")
        )
        time = library.IedServer_getAttributeValue(server, t.pointer)
        self._set_time = functools.partial(library.MmsValue_setUtcTimeMsEx, time)

    def write(self, changes: _Changes, reading: tuple[Value, int], time: int, clock: int) -> None:
        """Write one reading; a missing, invalid or too large value leaves the last one in place."""
        value, value_quality = reading
        new: bool | float | None = None
        if value is not None and value != self._last and not isinstance(value, str):
            if self._kind.low <= value <= self._kind.high or math.isnan(value):
                new = value
            else:
                value_quality = quality.INVALID | quality.OVERFLOW
        self._set_time(time, clock)
        if value_quality != self._last_quality:
            self._last_quality = value_quality
            changes.quality(self._quality, value_quality)
        if new is not None and quality.validity(value_quality) != quality.INVALID:
            self._last = new
            changes.value(self._value, self._kind.convert(new))


class Values:
    """Writes samples into a running server's model."""

    def __init__(self, library: ctypes.CDLL, server: Pointer, site: Site, built: BuiltModel) -> None:
        """Resolve every point of every meter, and mark each as never read.

        Raises ConfigurationError naming the point if the SCL document does not have it.
        """
        self._library = library
        self._server = server
        self._awaited = Awaited(library, server, built.reports)
        self._rows: dict[tuple[str, SamplePart], list[tuple[_Target, ...]]] = {}
        """Where the values of a sample go, by meter and part."""
        self._last: dict[str, Sample] = {}
        self._identities: dict[tuple[str, str], Leaf] = {}
        """Attributes of the name plates, by meter and identity point."""
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
                self._rows[meter.id, part] = [
                    tuple(self._targets(meter, point, device)) for point in meter_type.of_part(part)
                ]
            for point in meter_type.identity:
                leaf = device.leaves.get(_attribute_path(point.reference))
                if leaf is not None:
                    self._identities[meter.id, point.name] = leaf
        self._channel = self._gateway_channel(built.devices.get(ROOT_LD))

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
        changes = _Changes(self._awaited)
        target.write(changes, (None, quality.NEVER_READ), 0, quality.ACCURACY_MILLISECOND)
        changes.write()
        return target

    def _gateway_channel(self, root: BuiltDevice | None) -> _Channel | None:
        """Return the gateway's own LCCH1.ChLiv, which tells whether any samples arrive."""
        leaves = {} if root is None else root.leaves
        value, q, t = (leaves.get(f"LCCH1.ChLiv.{name}") for name in ("stVal", "q", "t"))
        if value is None or q is None or t is None:
            return None
        return _Channel(_Target(self._library, self._server, value, q, t))

    def apply(self, sample: Sample, now: float) -> None:
        """Write one sample; ``now`` is a monotonic clock in seconds."""
        row = self._rows.get((sample.meter, sample.part))
        if row is None or not len(row) == len(sample.values) == len(sample.quality):
            self.skipped += 1
            return
        clock = time_quality(sample.clock_status)
        time = sample.time
        changes = _Changes(self._awaited)
        self._library.IedServer_lockDataModel(self._server)
        try:
            readings = zip(sample.values, sample.quality, strict=True)
            for targets, reading in zip(row, readings, strict=True):
                for target in targets:
                    target.write(changes, reading, time, clock)
            if self._channel is not None and self._is_new(sample):
                self._channel.heard(changes, now, time, clock)
            changes.write()
        finally:
            self._library.IedServer_unlockDataModel(self._server)
        if sample.part is SamplePart.METER:
            self._last[sample.meter] = sample
        self.points += len(row)
        self.samples += 1

    def identify(self, meter: str, point: str, text: str) -> None:
        """Write a new value of an identity point."""
        leaf = self._identities.get((meter, point))
        if leaf is not None:
            self._library.IedServer_lockDataModel(self._server)
            self._library.IedServer_updateVisibleStringAttributeValue(
                self._server, leaf.pointer, text.encode("ascii", "replace")
            )
            self._library.IedServer_unlockDataModel(self._server)

    def _is_new(self, sample: Sample) -> bool:
        """Tell whether a meter has spoken: neither never read, nor the last sample again with another quality."""
        last = self._last.get(sample.meter)
        return sample.part is SamplePart.METER and sample.time > (0 if last is None else last.time)

    def tick(self, now: float, time: int) -> None:
        """Mark the gateway's channel if nothing comes any more, forget reports whose client has gone.

        ``now`` is a monotonic clock in seconds, ``time`` the wall clock in milliseconds.
        """
        self._awaited.refresh()
        if self._channel is not None and self._channel.is_silent(now):
            changes = _Changes(self._awaited)
            self._library.IedServer_lockDataModel(self._server)
            try:
                self._channel.silence(changes, time)
                changes.write()
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

    def heard(self, changes: _Changes, now: float, time: int, clock: int) -> None:
        if self._heard is None:
            self._target.write(changes, (True, quality.GOOD), time, clock)
        self._heard = now

    def is_silent(self, now: float) -> bool:
        return self._heard is not None and now - self._heard > _CHANNEL_SILENT

    def silence(self, changes: _Changes, time: int) -> None:
        self._heard = None
        self._target.write(changes, (False, quality.GOOD), time, quality.ACCURACY_MILLISECOND)


def stamp_unmapped(library: ctypes.CDLL, server: Pointer, devices: dict[str, BuiltDevice], time: int) -> None:
    """Set every ``t`` of status and measurands to the start of the server; points overwrite theirs."""
    for device in devices.values():
        for path, leaf in device.leaves.items():
            if leaf.basic_type == "Timestamp" and leaf.fc in {"ST", "MX"} and path.endswith(".t"):
                stored = library.IedServer_getAttributeValue(server, leaf.pointer)
                library.MmsValue_setUtcTimeMsEx(stored, time, quality.ACCURACY_MILLISECOND)


def _attribute_path(reference: Reference) -> str:
    return f"{reference.ln}.{cdc.data_object(reference)}.{cdc.place(reference).attribute}"


def _missing(meter: Meter, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the SCL document has no {what}",
        where=f"meter {meter.id}, logical device {meter.ld}",
        remedy="generate the CID from this configuration: flexmap scl export CONFIG -o FILE.cid",
    )
