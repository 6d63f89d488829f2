"""The last row of load profile 1 as Compact data (class 62, IEC 62056-6-2): its values without their types.

The meter captures it at the end of each period, from the row of its own, whatever a head-end has made of load
profile 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import ObjectDefinition, SlotValue, Stored
from flexmap.dlms.profile import ClientProfile
from flexmap.faces.dlms.objects import PROFILE, TEMPLATE, MeterObjects
from flexmap.faces.dlms.profiles import row_encoder
from flexmap.store import ProfileRow, Store

RESET, CAPTURE = 1, 2
"""Methods."""


class CompactRow:
    """The compact data of one meter (implements flexmap.faces.dlms.live.LiveObject)."""

    __slots__ = ("_held", "_meter", "_objects", "_store")

    def __init__(self, store: Store, meter: str, objects: MeterObjects) -> None:
        self._store = store
        self._meter = meter
        self._objects = objects
        self._held: tuple[int, bytes] | None = None
        """What a method has left, and its time (ms): it stands until there is a newer row."""

    @property
    def definition(self) -> ObjectDefinition:
        """The object as the schema has it."""
        return self._objects.compact

    def slots(self) -> Mapping[int, SlotValue]:
        """Return the function that encodes the buffer."""
        return {2: self._buffer}

    def begin(self) -> None:
        """Do nothing: the store captures."""

    def stop(self) -> None:
        """Do nothing."""

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Refuse: nothing can be written."""
        del attribute, data
        return DataAccessResult.READ_WRITE_DENIED

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Empty the buffer, or capture the meter's newest sample; until flexmap ends or there is a newer row."""
        del data, client
        row = self._store.profile_newest(self._meter)
        if method == RESET:
            self._held = (0 if row is None else row.time, axdr.octet_string(b""))
            return ActionResult.SUCCESS
        if method != CAPTURE:
            return ActionResult.OBJECT_UNDEFINED
        newest = self._store.newest(self._meter)
        if newest is None:
            return ActionResult.TEMPORARY_FAILURE
        names = self._store.profile_points(self._meter)
        values = tuple(self._store.value_of(newest, name) for name in names)
        status = 0 if row is None else row.status
        now = ProfileRow(self._meter, newest.time, status, newest.clock_status, values)
        captured = self._compact(now)
        if isinstance(captured, DataAccessResult):
            return ActionResult.TEMPORARY_FAILURE
        self._held = (newest.time, captured)
        return ActionResult.SUCCESS

    def _buffer(self) -> Stored:
        row = self._store.profile_newest(self._meter)
        if self._held is not None and (row is None or row.time <= self._held[0]):
            return self._held[1]
        return DataAccessResult.TEMPORARY_FAILURE if row is None else self._compact(row)

    def _compact(self, row: ProfileRow) -> bytes | DataAccessResult:
        """Return a row without its types; a value that is missing has no place in a template."""
        _, encode = row_encoder(self._objects.columns, PROFILE, self._objects)
        cells = encode(row)
        if axdr.NULL in cells:
            return DataAccessResult.TEMPORARY_FAILURE
        return axdr.octet_string(bytes((TEMPLATE,)) + b"".join(each[1:] for each in cells))
