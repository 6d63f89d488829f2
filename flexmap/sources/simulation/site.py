"""All simulated meters of a site, second by second: the grid, the loads and the substation that feeds them.

The substation meter measures the sum, phase by phase, of what flows through the other meters, and of the losses
on their service lines. If its breaker opens, the meters behind it are without supply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from flexmap.model import ConfigurationError, Event, EventCode, EventLog, LocalError, Meter, MeterType, Sample
from flexmap.sources.load import LoadProfile
from flexmap.sources.simulation import electric
from flexmap.sources.simulation.breaker import Trigger
from flexmap.sources.simulation.consumer import Consumer
from flexmap.sources.simulation.electric import Line, Phase
from flexmap.sources.simulation.grid import Grid
from flexmap.sources.simulation.meter import MeterModel
from flexmap.sources.simulation.settings import SimulationSettings, connection

_BUSBAR = Line(0.0, 0.04)


class SiteModel:
    """The model: deterministic by seed; time is passed in, each second once and in order."""

    def __init__(
        self,
        meters: Sequence[tuple[Meter, MeterType]],
        load: LoadProfile,
        settings: SimulationSettings,
        last: Mapping[str, Sample] | None = None,
    ) -> None:
        """Set up the meters; ``last`` holds the last stored samples, from which the registers go on.

        Raises ConfigurationError if the substation is not one of the meters or is not three-phase.
        """
        self._grid = Grid(load, settings.seed, settings.utc_offset)
        ids = {meter.id for meter, _ in meters}
        self._last = {name: sample for name, sample in (last or {}).items() if name in ids}
        self._started = False
        self._meters: dict[str, MeterModel] = {}
        self._consumers: dict[str, Consumer] = {}
        self._lines: dict[str, Line] = {}
        self.losses = [0, 0, 0]
        """Technical losses on L1, L2, L3 since the start, in mW·s."""
        for meter, meter_type in meters:
            own = connection(settings, meter.id)
            last_sample = self._last.get(meter.id)
            self._meters[meter.id] = MeterModel(meter, meter_type, own, settings.seed, last_sample)
            if meter.id != settings.substation:
                self._consumers[meter.id] = Consumer(load, own, settings.seed, meter.id, settings.utc_offset)
                self._lines[meter.id] = Line(own.resistance, own.distortion)
        self._substation = self._find_substation(settings.substation)

    @property
    def meters(self) -> Mapping[str, MeterModel]:
        """The meters by id."""
        return self._meters

    @property
    def resume_second(self) -> int | None:
        """Second to begin with so that no energy is missed after the last samples; None if there are none.

        The registers of a sample do not yet hold the second that begins there, so it is run again.
        """
        return max((sample.time // 1000 for sample in self._last.values()), default=None)

    def clock_was_ahead(self, meter: str, seconds: int) -> None:
        """Take note, before the first step, that the clock by which a meter's last sample is stamped was ahead."""
        last = self._last.get(meter)
        if last is not None:
            self._last[meter] = structs.replace(last, time=last.time - 1000 * seconds)

    def step(self, second: int) -> list[Sample]:
        """Return the samples of a second (since 1970, UTC), in the order of the meters, and count its energy."""
        if not self._started:
            self._power_up(second)
        substation = self._substation
        voltages = self._grid.voltages(second)
        frequency, angles = self._grid.frequency(second), self._grid.angles(second)
        fed = voltages if substation is None or substation.breaker.closed else (0.0, 0.0, 0.0)
        active, reactive = [0, 0, 0], [0, 0, 0]
        known = True
        readings: dict[str, Sample] = {}
        for meter, consumer in self._consumers.items():
            model = self._meters[meter]
            flow = consumer.flow(second) if model.breaker.closed and fed[0] else (0, 0)
            if flow is None:
                known = False
                readings[meter] = model.read(second, frequency, None)
                continue
            phases = []
            for number, phase_active, phase_reactive in model.phases(flow):
                phase, loss = electric.phase(
                    phase_active, phase_reactive, fed[number], self._lines[meter], angles[number]
                )
                phases.append(phase)
                active[number] += phase_active + loss
                reactive[number] += phase_reactive
                self.losses[number] += loss
            readings[meter] = model.read(second, frequency, phases)
        if substation is not None:
            sums = _busbar(active, reactive, voltages, angles) if known else None
            readings[substation.id] = substation.read(second, frequency, sums)
        return [readings[meter] for meter in self._meters]

    def operate(self, meter: str, trigger: Trigger, time: int) -> bool:
        """Act on a meter's breaker at a time in ms; return whether its state has changed.

        Raises LocalError with the cause if it cannot be.
        """
        model = self._meters.get(meter)
        if model is None:
            raise LocalError(f"meter '{meter}' is not simulated here")
        if not model.has_breaker:
            raise LocalError(f"meter '{meter}' has no breaker")
        return model.operate(trigger, time)

    def clock_adjusted(self, before: int, after: int) -> None:
        """Note at every meter that the clock was set, from one time to another (in ms)."""
        for meter, model in self._meters.items():
            model.events.append(Event(meter, before, EventLog.STANDARD, EventCode.CLOCK_ADJUSTED_OLD))
            model.events.append(Event(meter, after, EventLog.STANDARD, EventCode.CLOCK_ADJUSTED_NEW))

    def take_events(self) -> list[Event]:
        """Return the events since the last call, by meter and in order."""
        taken: list[Event] = []
        for model in self._meters.values():
            if model.events:
                taken += model.events
                model.events.clear()
        return taken

    def _find_substation(self, meter: str | None) -> MeterModel | None:
        if meter is None:
            return None
        model = self._meters.get(meter)
        if model is None or not model.three_phase:
            what = "is no three-phase meter of the site" if model else "is no meter of the site"
            raise ConfigurationError(
                f"'{meter}' {what}", where="substation", remedy="name the id of a three-phase meter"
            )
        return model

    def _power_up(self, second: int) -> None:
        """Note meters that stood still since their last sample, and those that begin."""
        self._started = True
        for meter, model in self._meters.items():
            last = self._last.get(meter)
            if last is not None:
                if last.time >= (second - 1) * 1000:
                    continue
                model.events.append(Event(meter, last.time, EventLog.STANDARD, EventCode.POWER_DOWN))
            model.events.append(Event(meter, second * 1000, EventLog.STANDARD, EventCode.POWER_UP))


def _busbar(
    active: Sequence[int], reactive: Sequence[int], voltages: Sequence[float], angles: Sequence[float]
) -> list[Phase]:
    return [
        electric.phase(active[number], reactive[number], voltages[number], _BUSBAR, angles[number])[0]
        for number in range(3)
    ]


def replay(model: SiteModel, start: int, stop: int) -> Iterator[list[Sample]]:
    """Run the model in virtual time: the samples of each second from ``start`` to before ``stop``."""
    for second in range(start, stop):
        yield model.step(second)
