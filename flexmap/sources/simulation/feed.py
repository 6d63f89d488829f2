"""The simulated site as the world around STCOMET meters: what flows at each one's terminals, by the second."""

from __future__ import annotations

from flexmap.model import Event
from flexmap.model.breaker import State as BreakerState
from flexmap.model.breaker import Trigger
from flexmap.sources.simulation.site import SiteModel
from flexmap.stcomet.metrology import Reading
from flexmap.stcomet.record import State, Status, mode_bits


class SiteFeed:
    """Steps the model once for each second, however many meters ask for it."""

    def __init__(self, model: SiteModel) -> None:
        self.model = model
        self._second = -1

    def meter(self, meter: str) -> MeterFeed:
        """Return what one meter sees (implements flexmap.stcomet.metrology.Feed)."""
        return MeterFeed(self, meter)

    def step(self, second: int) -> None:
        """Run the model up to a second that is still to come."""
        if second > self._second:
            self._second = second
            self.model.step(second)


class MeterFeed:
    """One meter's terminals, breaker and tamper inputs."""

    def __init__(self, site: SiteFeed, meter: str) -> None:
        self._site = site
        self._meter = site.model.meters[meter]

    def measure(self, second: int) -> Reading:
        """Return the second that begins here."""
        self._site.step(second)
        return Reading(self._meter.frequency, self._meter.measured)

    def registers(self) -> list[list[int]]:
        """Return the counts in mW·s with which a meter begins."""
        return [list(part) for part in self._meter.registers]

    def state(self) -> State:
        """Return breaker and cover."""
        breaker = self._meter.breaker
        status = Status(0)
        if breaker.closed:
            status |= Status.BREAKER_CLOSED
        elif breaker.state is BreakerState.READY:
            status |= Status.BREAKER_READY
        if self._meter.cover_open:
            status |= Status.COVER_OPEN
        return State(int(status) | mode_bits(breaker.mode), breaker.operations, self._meter.cover_openings)

    def operate(self, trigger: Trigger, time: int) -> bool:
        """Act on the breaker; raises LocalError with the cause if it cannot be."""
        return self._site.model.operate(self._meter.id, trigger, time)

    def set_mode(self, mode: int, time: int) -> bool:
        """Set the breaker's control mode; raises LocalError if there is none such."""
        return self._meter.set_mode(mode, time)

    def take_events(self) -> list[Event]:
        """Return what has happened since the last call."""
        taken = list(self._meter.events)
        self._meter.events.clear()
        return taken
