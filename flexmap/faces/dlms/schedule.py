"""The schedule of a meter (class 10): executes scripts by time of the day, day of the week and special days."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from twisted.logger import Logger

from flexmap.dlms import schedule_table as kinds
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import ObjectDefinition, SlotValue
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.schedule_table import Entry
from flexmap.dlms.scripts import ScriptName
from flexmap.faces.dlms.due import Due, Runner
from flexmap.faces.dlms.pushing import Keeper
from flexmap.mapping.tariff import SpecialDay, special_day
from flexmap.mapping.zone import Zone
from flexmap.model import LocalError

log = Logger(namespace="flexmap.dlms")

_KEPT = "schedule"


class ScheduleTable:
    """Class 10 (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(
        self,
        meter: str,
        logical_name: bytes,
        *,
        allowed: frozenset[ScriptName],
        execute: Callable[[ScriptName], object],
        special: Callable[[], tuple[SpecialDay, ...]],
        keeper: Keeper,
        clock: Any,
        zone: Zone,
    ) -> None:
        """Set up; ``allowed``: scripts that entries may name; ``clock``: a reactor. Raises LocalError."""
        self.definition: ObjectDefinition = kinds.schedule_table(logical_name)
        self._meter, self._keeper = meter, keeper
        self._allowed, self._special, self._zone = allowed, special, zone
        octets = keeper.read(meter, _KEPT)
        self._entries = msgspec.msgpack.decode(octets, type=tuple[Entry, ...]) if octets else ()
        self._clock = clock
        self._runner = Runner(meter, _KEPT, self._executions, execute, keeper=keeper, clock=clock)

    def begin(self) -> None:
        """Follow the entries."""
        self._runner.begin()

    def stop(self) -> None:
        """Follow them no more."""
        self._runner.stop()

    def slots(self) -> Mapping[int, SlotValue]:
        """Return a function that encodes the entries."""
        return {2: lambda: kinds.encode_entries(self._entries)}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write all entries."""
        try:
            entries = kinds.decode_entries(data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if attribute != 2:
            return DataAccessResult.READ_WRITE_DENIED
        if not all((each.table, each.script) in self._allowed for each in entries):
            return DataAccessResult.OTHER_REASON
        return DataAccessResult.SUCCESS if self._keep(entries) else DataAccessResult.TEMPORARY_FAILURE

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Disable and enable entries, insert one in place of that of its index, delete some."""
        del client
        entries = {each.index: each for each in self._entries}
        try:
            if method == kinds.INSERT:
                entry = kinds.decode_entry(data)
                if (entry.table, entry.script) not in self._allowed:
                    return ActionResult.OTHER_REASON
                entries[entry.index] = entry
            elif method == kinds.DELETE:
                first, last = kinds.decode_ranges(data)
                entries = {index: each for index, each in entries.items() if not first <= index <= last}
            else:
                disable, upto, enable, enable_upto = kinds.decode_ranges(data)
                for first, last, on in ((disable, upto, False), (enable, enable_upto, True)):
                    entries.update(
                        (index, msgspec.structs.replace(each, enable=on))
                        for index, each in entries.items()
                        if first <= index <= last and index
                    )
        except (AxdrError, ValueError):
            return ActionResult.TYPE_UNMATCHED
        if len(entries) > kinds.MOST:
            return ActionResult.OTHER_REASON
        kept = self._keep(tuple(entries[index] for index in sorted(entries)))
        return ActionResult.SUCCESS if kept else ActionResult.TEMPORARY_FAILURE

    def _keep(self, entries: tuple[Entry, ...]) -> bool:
        try:
            self._keeper.keep(self._meter, _KEPT, msgspec.msgpack.encode(entries))
        except LocalError as error:
            log.warn("{error}", error=str(error))
            return False
        self._entries = entries
        self._runner.restart()
        return True

    def _executions(self, after: int, upto: int) -> Iterator[Due]:
        """Iterate over what is due with after < second ≤ upto and has not been missed for too long."""
        if not self._entries:
            return
        now = self._clock.seconds()
        day, last = self._zone.date(after), self._zone.date(upto)
        while day <= last:
            midnight = calendar.timegm(day.timetuple())
            number = special_day(self._special(), day, self._zone)
            for entry in sorted(self._entries, key=lambda each: each.second):
                second = self._zone.of_local(midnight + entry.second, last=False)
                late = entry.window != kinds.ANY_TIME and now - second > entry.window * 60 + 60
                if after < second <= upto and not late and entry.on(day, number):
                    yield second, (entry.table, entry.script)
            day += dt.timedelta(1)
