"""The end of a billing period: its profile, the script that ends a period, and the schedule that calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import SlotValue
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.schedule import Execution
from flexmap.faces.dlms.billing_definitions import (
    CAPTURE,
    END_OF_PERIOD,
    SCHEDULE_LN,
    SCRIPTS_LN,
)
from flexmap.faces.dlms.buffers import Buffer, cell
from flexmap.faces.dlms.demand import maxima_of
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.live import LiveObject
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.pushing import Keeper
from flexmap.faces.dlms.scripts import ActionSchedule, ScriptTable
from flexmap.faces.dlms.turns import Call, Spread, Turns, at_once
from flexmap.model import Meter, Value, rate_name
from flexmap.store import DemandOf, ProfileRow, Store

MONTHLY = (Execution(bytes(4), b"\xff\xff\xff\x01\xff"),)
"""0:00 on the first of every month."""

_encode_demand = axdr.encoder("double-long-unsigned")


def billing_objects(
    store: Store,
    meter: Meter,
    objects: MeterObjects,
    device: MeterDevice,
    *,
    keeper: Keeper | None,
    reactor: Any,
    spread: Spread = at_once,
) -> list[LiveObject]:
    """Return the live objects of a meter; ``keeper`` has the schedule. Raises LocalError if it cannot be read.

    ``spread`` carries out what the schedule executes.
    """
    table = ScriptTable(SCRIPTS_LN, objects.billing.scripts, device.perform, objects.billing.table)
    schedule = ActionSchedule(
        meter.id,
        SCHEDULE_LN,
        (table, END_OF_PERIOD),
        keeper,
        reactor,
        zone=objects.local.zone,
        default=MONTHLY,
        spread=spread,
    )
    return [BillingProfile(store, meter.id, objects), table, schedule]


def at_closing(store: Store, meter: str, turns: Turns) -> Spread:
    """Return what carries out a call in a turn of its own, with the end of the period where the meter is now."""

    def spread(call: Call) -> None:
        store.hold(meter)
        turns.add(lambda: _released(store, meter, call))

    return spread


def _released(store: Store, meter: str, call: Call) -> None:
    try:
        call()
    finally:
        store.release(meter)


class BillingProfile:
    """Class 7: registers and maxima at ends of periods (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(self, store: Store, meter: str, objects: MeterObjects) -> None:
        self.definition = objects.billing.profile
        self._store = store
        self._meter = meter
        self._local = objects.local
        self._encoders = objects.profile_encoders
        self._energies = store.profile_points(meter)
        meter_type = objects.meter_type
        self._rates = store.rates(meter)
        self._rate_encoders = objects.rate_encoders
        self._demands: dict[str, DemandOf] = {}
        for demand in meter_type.demands:
            total, *of_rates = maxima_of(store, meter, meter_type, demand)
            self._demands[demand.name] = total
            self._demands.update((rate_name(demand.name, rate), each) for rate, each in enumerate(of_rates, 1))
        maxima = [f"{name}{part}" for name in self._demands for part in ("", "-time")]
        names = (*self._energies, *(point.name for point in meter_type.rates), *maxima)
        self._rows = store.billing(meter, names)
        self._buffer = Buffer[ProfileRow](
            objects.billing.columns,
            self._cells,
            self._rows.count,
            self._rows.rows,
            self._rows.entries,
            local=objects.local,
        )

    def begin(self) -> None:
        """Do nothing: rows are captured by the script."""

    def stop(self) -> None:
        """Do nothing."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return the buffer and how many rows it has."""
        return {2: self._buffer, 7: lambda: _encode_demand(self._rows.count())}

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Refuse: nothing can be written."""
        del attribute, data
        return DataAccessResult.READ_WRITE_DENIED

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Capture the registers where the period ends, at the meter's newest sample; once for each time stamp."""
        del data, client
        newest = self._store.closing(self._meter)
        if method != CAPTURE:
            return ActionResult.OBJECT_UNDEFINED
        if newest is None:
            return ActionResult.TEMPORARY_FAILURE
        values: list[Value] = [self._store.value_of(newest, name) for name in self._energies]
        if self._rates is not None:
            values += self._rates.sample(newest).values
        for demand in self._demands.values():
            maximum = demand.maximum(newest.time // 1000)
            values += (None, None) if maximum is None else (maximum.value, maximum.end * 1000)
        kept = self._rows.keep(newest.time, 0, newest.clock_status, values)
        return ActionResult.SUCCESS if kept else ActionResult.TEMPORARY_FAILURE

    def _cells(self, row: ProfileRow) -> list[bytes]:
        encoders = (*self._encoders, *self._rate_encoders)
        registers, maxima = row.values[: len(encoders)], row.values[len(encoders) :]
        cells = [self._local.value(row.time, row.clock_status)]
        cells += [cell(encoder, value) for encoder, value in zip(encoders, registers, strict=True)]
        for value, time in zip(maxima[::2], maxima[1::2], strict=True):
            cells += [cell(_encode_demand, value), self._local.value(time) if isinstance(time, int) else axdr.NULL]
        return cells
