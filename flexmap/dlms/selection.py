"""Selective access to a buffer (IEC 62056-6-2, Profile generic: range_descriptor and entry_descriptor)."""

from __future__ import annotations

import msgspec

from flexmap.dlms import axdr, cosem_time
from flexmap.dlms.axdr import AxdrError, Value

BY_RANGE, BY_ENTRY = 1, 2
"""Access selectors of a Profile generic buffer."""
_LAST_SECOND = 0xFFFF_FFFF


class CaptureObject(msgspec.Struct, frozen=True):
    """A column of a profile: one attribute of one object."""

    class_id: int
    logical_name: bytes
    attribute: int
    data_index: int = 0

    def encode(self) -> bytes:
        """Return the capture_object_definition."""
        return axdr.structure(
            axdr.encode("long-unsigned", self.class_id),
            axdr.octet_string(self.logical_name),
            axdr.encode("integer", self.attribute),
            axdr.encode("long-unsigned", self.data_index),
        )


class RangeSelection(msgspec.Struct, frozen=True):
    """Rows whose restricting column lies between two values, both included."""

    restricting: CaptureObject
    from_value: Value
    to_value: Value
    columns: tuple[CaptureObject, ...] = ()
    """Columns asked for, in that order; empty is all."""

    def period(self, default_deviation: int = 0) -> tuple[int | None, int | None]:
        """Return both ends in epoch milliseconds, both included; ``None`` is open.

        Takes date-times and, as unsigned numbers, Unix seconds. The upper end covers the whole of the smallest
        unit given. Raises CosemTimeError or AxdrError for anything else.
        """
        return (
            _instant(self.from_value, default_deviation, upper=False),
            _instant(self.to_value, default_deviation, upper=True),
        )

    def encode(self, *, as_date_time: bool = False) -> bytes:
        """Return the range_descriptor; octet ends are written as octet-string (or date-time)."""

        def end(value: Value) -> bytes:
            if isinstance(value, bytes):
                return axdr.encode("date-time", value) if as_date_time else axdr.octet_string(value)
            return axdr.encode("double-long-unsigned", value)

        columns = axdr.array([column.encode() for column in self.columns])
        return axdr.structure(self.restricting.encode(), end(self.from_value), end(self.to_value), columns)


class EntrySelection(msgspec.Struct, frozen=True):
    """Rows by number, from 1, both ends included; 0 as an upper end is the highest there is."""

    first_row: int
    last_row: int = 0
    first_column: int = 1
    last_column: int = 0

    def rows(self, count: int) -> range:
        """Return the zero-based indexes of the rows chosen among ``count``."""
        last = min(self.last_row or count, count)
        return range(max(self.first_row, 1) - 1, max(last, 0))

    def columns(self, count: int) -> range:
        """Return the zero-based indexes of the columns chosen among ``count``."""
        last = min(self.last_column or count, count)
        return range(max(self.first_column, 1) - 1, max(last, 0))

    def encode(self) -> bytes:
        """Return the entry_descriptor."""
        return axdr.structure(
            axdr.encode("double-long-unsigned", self.first_row),
            axdr.encode("double-long-unsigned", self.last_row),
            axdr.encode("long-unsigned", self.first_column),
            axdr.encode("long-unsigned", self.last_column),
        )


Selection = RangeSelection | EntrySelection


def _instant(value: Value, default_deviation: int, *, upper: bool) -> int | None:
    if isinstance(value, bytes):
        if value == cosem_time.NOT_SPECIFIED:
            return None
        fields = cosem_time.decode(value)
        instant = fields.epoch_ms(default_deviation)
        if not upper:
            return instant
        return instant + (59_999 if fields.second is None else 999 if fields.hundredths is None else 9)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND:
        return value * 1000 + (999 if upper else 0)
    if value is None:
        return None
    raise AxdrError(f"{value!r} is no end of a period")


def _capture_object(value: Value) -> CaptureObject:
    match value:
        case (int(class_id), bytes(name), int(attribute), int(data_index)) if len(name) == 6:
            return CaptureObject(class_id, name, attribute, data_index)
    raise AxdrError("capture object expected")


def decode_capture_objects(octets: bytes) -> tuple[CaptureObject, ...]:
    """Return the columns that an encoded capture_objects names; raises AxdrError."""
    value = axdr.decode(octets)
    if not isinstance(value, list):
        raise AxdrError("array of capture objects expected")
    return tuple(_capture_object(each) for each in value)


def decode(selector: int, parameters: bytes) -> Selection:
    """Return the selection that an access selector and its parameters describe; raises AxdrError."""
    value = axdr.decode(parameters)
    match selector, value:
        case 1, (restricting, from_value, to_value, list(columns)):
            return RangeSelection(
                _capture_object(restricting),
                from_value,
                to_value,
                tuple(_capture_object(column) for column in columns),
            )
        case 2, (int(first), int(last), int(first_column), int(last_column)):
            return EntrySelection(first, last, first_column, last_column)
    raise AxdrError(f"access selector {selector} with {type(value).__name__}")


OBJECT_SELECTORS = (1, 2, 3, 4)
"""Access selectors of an association's object_list: all, by classes, by objects, one object."""


def choose_objects(listed: bytes, selector: int, parameters: bytes) -> bytes:
    """Return what a selector leaves of an encoded object_list (Association LN); raises AxdrError."""
    chosen: set[tuple[int, bytes]] = set()
    classes: set[int] = set()
    match selector, axdr.decode(parameters):
        case 1, None:
            return listed
        case 2, list(numbers) if all(isinstance(number, int) for number in numbers):
            classes.update(numbers)
        case 3, list(objects):
            chosen.update(_object_id(each) for each in objects)
        case 4, one:
            chosen.add(_object_id(one))
        case _:
            raise AxdrError(f"access selector {selector} of an object_list")
    count, at = axdr.decode_length(listed, 1)
    kept = []
    for _ in range(count):
        element, at = axdr.take_value(listed, at)
        # structure of 4: class_id (long-unsigned), version (unsigned), logical_name (octet-string of 6), …
        class_id, name = int.from_bytes(element[3:5], "big"), element[9:15]
        if class_id in classes or (class_id, name) in chosen:
            kept.append(element)
    return axdr.array(kept)


def _object_id(value: Value) -> tuple[int, bytes]:
    match value:
        case (int(class_id), bytes(name)):
            return class_id, name
    raise AxdrError("object_id expected")
