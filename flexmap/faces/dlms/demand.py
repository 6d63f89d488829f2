"""Demand registers (class 5) and the Extended registers of their maxima, both with their reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from flexmap.dlms import axdr, classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import ObjectDefinition, SlotValue, Stored
from flexmap.dlms.profile import ClientProfile
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.status import status_value
from flexmap.model import Demand, LocalError, MeterType, obis, quality, rate_name
from flexmap.store import AmrStatus, Average, DemandOf, Store

TYPE = "double-long-unsigned"
RESET = 1
"""Method of both classes."""
_DOUBTFUL = AmrStatus.CRITICAL_ERROR | AmrStatus.CLOCK_INVALID | AmrStatus.DATA_INVALID | AmrStatus.INCOMPLETE
_encode = axdr.encoder(TYPE)


def demand_definitions(meter_type: MeterType, period: int) -> list[ObjectDefinition]:
    """Return the objects of the demands of a meter type; ``period``: seconds of load profile 1."""
    return [
        definition
        for demand in meter_type.demands
        for definition in (
            _register(demand, period),
            *(_maximum(demand, code) for code in (demand.maximum, *demand.rates)),
        )
    ]


def demand_objects(
    store: Store, meter: str, meter_type: MeterType, local: LocalTime
) -> Sequence[DemandRegister | MaximumDemand]:
    """Return the live objects of a meter's demands."""
    found: list[DemandRegister | MaximumDemand] = []
    for demand in meter_type.demands:
        if demand.energy not in store.profile_points(meter):
            continue
        found.append(
            DemandRegister(demand, DemandOf(store, meter, demand.energy, demand.name, demand.periods), local)
        )
        codes = (demand.maximum, *demand.rates)
        maxima = maxima_of(store, meter, meter_type, demand)
        found += [MaximumDemand(demand, code, each, local) for code, each in zip(codes, maxima, strict=True)]
    return found


def maxima_of(store: Store, meter: str, meter_type: MeterType, demand: Demand) -> list[DemandOf]:
    """Return the maximum of a demand, then that of each rate; they share one look at the profile."""
    split = [each.name for each in meter_type.demands if each.rates]
    energies = () if meter_type.tariff is None else meter_type.tariff.energies
    quantity = len(energies) + split.index(demand.name) if demand.rates else None
    total = DemandOf(store, meter, demand.energy, demand.maximum_name, demand.periods, quantity=quantity)
    return [
        total,
        *(
            DemandOf(
                store,
                meter,
                demand.energy,
                rate_name(demand.maximum_name, rate),
                demand.periods,
                rate=rate,
                shared=total,
            )
            for rate in range(1, len(demand.rates) + 1)
        ),
    ]


class _Demand:
    """What both have in common (implements flexmap.faces.dlms.live.LiveObject, but for ``slots``)."""

    def __init__(self, definition: ObjectDefinition, demand: DemandOf, local: LocalTime) -> None:
        self.definition = definition
        self._demand = demand
        self._local = local

    def begin(self) -> None:
        """Do nothing: values are made when they are read."""

    def stop(self) -> None:
        """Do nothing."""

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Refuse: nothing can be written."""
        del attribute, data
        return DataAccessResult.READ_WRITE_DENIED

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Reset."""
        del data, client
        if method != RESET:
            return ActionResult.OBJECT_UNDEFINED
        return ActionResult.SUCCESS if self._demand.reset() else ActionResult.TEMPORARY_FAILURE

    def _end(self, average: Average) -> bytes:
        return self._local.value(average.end * 1000)

    def _start(self, average: Average) -> bytes:
        return self._local.value(average.start * 1000)


class _Shown:
    """Encodes what an attribute shows of an average: smaller than a closure, for a meter has many."""

    __slots__ = ("_average", "_encode")

    def __init__(self, average: Callable[[], Average | None], encode: Callable[[Average], bytes]) -> None:
        self._average = average
        self._encode = encode

    def __call__(self) -> Stored:
        found = self._average()
        try:
            return DataAccessResult.TEMPORARY_FAILURE if found is None else self._encode(found)
        except LocalError:  # too large for the register
            return DataAccessResult.OTHER_REASON


class DemandRegister(_Demand):
    """Class 5: the running average and that of the last period."""

    def __init__(self, demand: Demand, averages: DemandOf, local: LocalTime) -> None:
        super().__init__(_register(demand, averages.period), averages, local)

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode the averages and their times."""
        running, last = self._demand.running, self._demand.last
        return {
            2: _Shown(running, _value),
            3: _Shown(last, _value),
            5: _Shown(last, _status),
            6: _Shown(last, self._end),
            7: _Shown(running, self._start),
        }


class MaximumDemand(_Demand):
    """Class 4: the highest average since the reset, and when it was captured."""

    def __init__(self, demand: Demand, code: str, averages: DemandOf, local: LocalTime) -> None:
        super().__init__(_maximum(demand, code), averages, local)

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode the maximum and its time."""
        maximum = self._demand.maximum
        return {
            2: _Shown(maximum, _value),
            4: _Shown(maximum, _status),
            5: _Shown(maximum, self._end),
        }


def _value(average: Average) -> bytes:
    return _encode(average.value)


def _status(average: Average) -> bytes:
    return status_value(quality.QUESTIONABLE if average.status & _DOUBTFUL else quality.GOOD)


@lru_cache(256)
def _register(demand: Demand, period: int) -> ObjectDefinition:
    name = obis.parse(demand.obis)
    return classes.demand_register(
        name, demand.scaler, demand.unit, period=period, number_of_periods=demand.periods
    )


@lru_cache(256)
def _maximum(demand: Demand, code: str) -> ObjectDefinition:
    return classes.extended_register(obis.parse(code), demand.scaler, demand.unit, reset=True)
