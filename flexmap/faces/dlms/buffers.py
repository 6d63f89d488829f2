"""Buffers of Profile generic objects, row by row from the store: no buffer is ever held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from flexmap.dlms import axdr
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.cosem_time import CosemTimeError
from flexmap.dlms.objects import Rows, RowSource, SelectionError
from flexmap.dlms.selection import CaptureObject, EntrySelection, RangeSelection, Selection
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.objects import (
    CLOCK_COLUMN,
    event_columns,
)
from flexmap.model import Event, EventLog, LocalError, Value
from flexmap.store import Store

Row = TypeVar("Row")
_UNSIGNED = axdr.encoder("unsigned")


class Buffer(Generic[Row]):
    """A RowSource from functions that count rows, give those of a period and give those by number."""

    def __init__(
        self,
        columns: Sequence[CaptureObject],
        encode: Callable[[Row], Sequence[bytes]],
        count: Callable[[int | None, int | None], int],
        by_time: Callable[[int | None, int | None], Iterator[Row]],
        by_number: Callable[[int, int], Iterator[Row]],
        *,
        local: LocalTime,
    ) -> None:
        self._columns = columns
        self._encode = encode
        self._count = count
        self._by_time = by_time
        self._by_number = by_number
        self._local = local

    def select(self, selection: Selection | None) -> Rows:
        """Return the chosen rows (implements flexmap.dlms.objects.RowSource)."""
        if isinstance(selection, EntrySelection):
            return self._entries(selection)
        start, end, columns = None, None, range(len(self._columns))
        chosen: Sequence[int] = columns
        if isinstance(selection, RangeSelection):
            start, end = self._period(selection)
            chosen = [self._column(column) for column in selection.columns] or columns
        count = self._count(start, end)
        return Rows(count, self._rows(islice(self._by_time(start, end), count), chosen))

    def _entries(self, selection: EntrySelection) -> Rows:
        numbers = selection.rows(self._count(None, None))
        rows = self._by_number(numbers.start + 1, numbers.stop) if numbers else iter(())
        return Rows(len(numbers), self._rows(islice(rows, len(numbers)), selection.columns(len(self._columns))))

    def _rows(self, rows: Iterator[Row], chosen: Sequence[int]) -> Iterator[bytes]:
        whole = list(chosen) == list(range(len(self._columns)))
        head = axdr.structure_head(len(chosen))
        for row in rows:
            cells = self._encode(row)
            yield head + b"".join(cells if whole else [cells[column] for column in chosen])

    def _period(self, selection: RangeSelection) -> tuple[int | None, int | None]:
        restricting = selection.restricting
        if (restricting.class_id, restricting.logical_name) != (CLOCK_COLUMN.class_id, CLOCK_COLUMN.logical_name):
            raise SelectionError("rows can be selected by their clock only")
        try:
            return self._local.period(selection)
        except (CosemTimeError, AxdrError) as error:
            raise SelectionError(str(error)) from None

    def _column(self, column: CaptureObject) -> int:
        for position, known in enumerate(self._columns):
            if (known.class_id, known.logical_name, known.attribute) == (
                column.class_id,
                column.logical_name,
                column.attribute,
            ):
                return position
        raise SelectionError("a column that is not captured")


UNENCODABLE = (OverflowError, ValueError, TypeError, LocalError)
"""Raised where a value is no number, or one too large for its register."""


def cell(encoder: Callable[[Value], bytes], value: Value) -> bytes:
    """Return a register's value in a row; null-data where it is missing."""
    if value is None:
        return axdr.NULL
    try:
        return encoder(value)
    except UNENCODABLE:
        return axdr.NULL


def event_rows(store: Store, meter: str, event_log: EventLog, local: LocalTime) -> RowSource:
    """Return the rows of an event log: clock, code, and of the breaker's who it was."""

    def encode(event: Event) -> list[bytes]:
        row = [local.value(event.time), _UNSIGNED(event.code)]
        return [*row, axdr.octet_string(event.text.encode())] if event_log is EventLog.DISCONNECT else row

    return Buffer(
        event_columns(event_log),
        encode,
        lambda start, end: store.event_count(meter, event_log, start, end),
        lambda start, end: store.events(meter, event_log, start, end),
        lambda first, last: store.event_entries(meter, event_log, first, last),
        local=local,
    )
