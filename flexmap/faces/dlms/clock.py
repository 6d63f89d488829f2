"""The Clock of a meter whose clock head-ends may set (class 8): every setting reaches the meter.

A time without deviation is local time, in the hour that comes twice its first one unless the clock status of the
time says which; unspecified seconds and hundredths are 0 (IEC 62056-6-2 clauses 4.1.6.1 and 4.5.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.cosem_time import CosemTimeError
from flexmap.dlms.objects import ObjectDefinition, Pending, SlotValue, Stored
from flexmap.dlms.profile import ClientProfile
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.interface import ClockWay

log = Logger(namespace="flexmap.dlms")

TIME = 2
QUARTER, MEASURING_PERIOD, MINUTE, TO_PRESET, PRESET, SHIFT = 1, 2, 3, 4, 5, 6
"""Methods."""
MOST_SHIFT = 900
"""Seconds of shift_time."""
FARTHEST = 86_400_000
"""Milliseconds that a clock may be set off flexmap's own: beyond, history would be deleted or never be."""


class _Preset(msgspec.Struct, frozen=True):
    time: int
    start: int
    end: int


class MeterClock:
    """Class 8 (implements flexmap.faces.dlms.live.LiveObject). Times are ms since 1970 UTC."""

    def __init__(self, meter: str, local: LocalTime, way: ClockWay, period: int) -> None:
        """``period``: seconds of a measuring period."""
        self.definition: ObjectDefinition = local.clock(settable=True)
        self._meter = meter
        self._local = local
        self._way = way
        self._steps = {QUARTER: 900_000, MEASURING_PERIOD: period * 1000, MINUTE: 60_000}
        self._preset: _Preset | None = None

    def begin(self) -> None:
        """Do nothing: the source keeps the clock."""

    def stop(self) -> None:
        """Do nothing."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return a function that encodes what the clock shows."""
        return {TIME: self._time}

    def write(self, attribute: int, data: bytes) -> DataAccessResult | Pending:
        """Set the time."""
        if attribute != TIME:
            return DataAccessResult.READ_WRITE_DENIED
        try:
            time = self._instant(axdr.decode(data))
        except (AxdrError, CosemTimeError):
            return DataAccessResult.TYPE_UNMATCHED
        answer = self._set(time, "SET of its time")
        return answer if isinstance(answer, Pending) else DataAccessResult(answer)

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult | Pending:
        """Adjust to a quarter, a measuring period, a minute or the preset time, preset one, or shift."""
        now = self._way.shown(self._meter)
        if now is None:
            return ActionResult.TEMPORARY_FAILURE
        origin = f"method {method} of client {client.name} ({client.sap})"
        if method in self._steps:
            step = self._steps[method]
            return self._set((now + step // 2) // step * step, origin)
        if method == TO_PRESET:
            preset = self._preset
            if preset is None or not preset.start <= now <= preset.end:
                return ActionResult.OTHER_REASON
            return self._set(preset.time, origin)
        try:
            value = axdr.decode(data or axdr.NULL)
            if method == PRESET:
                return self._keep_preset(value)
        except (AxdrError, CosemTimeError):
            return ActionResult.TYPE_UNMATCHED
        if not isinstance(value, int) or isinstance(value, bool):
            return ActionResult.TYPE_UNMATCHED
        if abs(value) > MOST_SHIFT:
            return ActionResult.OTHER_REASON
        return self._set(now + value * 1000, origin)

    def _keep_preset(self, value: axdr.Value) -> ActionResult:
        match value:
            case (time, start, end):
                self._preset = _Preset(self._instant(time), self._instant(start), self._instant(end))
                return ActionResult.SUCCESS
        return ActionResult.TYPE_UNMATCHED

    def _instant(self, value: axdr.Value) -> int:
        """Return the instant that a date-time names; raises AxdrError or CosemTimeError."""
        if not isinstance(value, bytes):
            raise AxdrError("date-time expected")
        return self._local.instant(value)

    def _set(self, time: int, origin: str) -> ActionResult | Pending:
        off = self._way.distance(time)
        if abs(off) > FARTHEST:
            log.warn("clock of {meter} is not set: {off} ms are more than a day", meter=self._meter, off=off)
            return ActionResult.OTHER_REASON
        pending = Pending()

        def done(cause: str) -> None:
            pending.answer(ActionResult.TEMPORARY_FAILURE if cause else ActionResult.SUCCESS)

        def failed(failure: Failure) -> None:
            log.failure("clock of {meter}", failure, meter=self._meter)
            pending.answer(ActionResult.HARDWARE_FAULT)

        self._way.set(self._meter, time, origin).addCallbacks(done, failed)
        return pending

    def _time(self) -> Stored:
        shown = self._way.shown(self._meter)
        return DataAccessResult.TEMPORARY_FAILURE if shown is None else self._local.value(shown)
