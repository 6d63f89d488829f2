"""Demand: energy per time, from the registers that load profile 1 has at the ends of its periods, in integers.

A demand in the register's own scale is energy × 3600 / (period × periods): exact, for an hour is a multiple of
that time. Where the meter's clock was put forward over the end of a period, the next period has the energy since
the last row; after a gap in the data nothing is known of a period without its begin. So, but for gaps, the demands
of all periods together are the register's difference. Nothing but the last reset is kept: a restart, or a period
that is made again, changes nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from flexmap.model import ConfigurationError, Sample
from flexmap.store.profile import AmrStatus
from flexmap.store.resets import Reset

if TYPE_CHECKING:
    from flexmap.store.rates import RateHistory
    from flexmap.store.store import Store

_HOUR = 3600
_ADJUSTED = int(AmrStatus.CLOCK_ADJUSTED)


class Average(msgspec.Struct, frozen=True):
    """An average over a time, in the register's scale: W for Wh."""

    value: int
    start: int
    """Second since 1970 from which it counts."""
    end: int
    """Second up to which it counts."""
    status: int
    """AmrStatus of the periods."""


class DemandOf:
    """The demand of one energy of a meter, over ``periods`` periods of load profile 1."""

    def __init__(
        self,
        store: Store,
        meter: str,
        point: str,
        name: str,
        periods: int = 1,
        *,
        quantity: int | None = None,
        rate: int = 0,
        shared: DemandOf | None = None,
    ) -> None:
        """``name``: what its reset is kept under. Raises ConfigurationError if an average would not be exact.

        ``quantity``: its place in the masks of the tariff. ``rate``: of what periods the maximum is, 0: of all.
        ``shared``: a demand of the same energy and periods, whose look at the profile serves this one too.
        """
        self._quantity = quantity
        self._rate = rate
        self._shared = shared
        self.period = store.settings.profile_period
        self.periods = periods
        self._span = self.period * periods
        if _HOUR % self._span:
            what = f"demand '{name}': {periods} periods of {self.period} s do not divide an hour"
            raise ConfigurationError(what, remedy="choose a number of periods that does")
        self._store = store
        self._meter = meter
        self._column = store.profile_points(meter).index(point)
        self._point = point
        self._name = name
        self._cached: tuple[object, dict[int, Average]] = (None, {})

    def running(self) -> Average | None:
        """Return the average since the start of the current period; None if that is not known."""
        newest = self._store.newest(self._meter)
        energy = self._energy(newest)
        if newest is None or energy is None:
            return None
        second = newest.time // 1000
        return self._average(self._begin(second) - self._span + self.period, second, energy, 0)

    def last(self) -> Average | None:
        """Return the average of the last period that has a row; None if there is none, 0 since a reset.

        If that is not the period before the running one, it is marked as incomplete.
        """
        newest = self._store.newest(self._meter)
        if newest is None:
            return None
        begin = self._begin(newest.time // 1000)
        end, row = self._before(begin + 1)
        reset = self.reset_at
        if reset is not None and end <= reset.time:
            return Average(0, reset.time, reset.time, 0)
        if row is None:
            return None
        energy, status = row
        return self._average(end - self._span, end, energy, status | (AmrStatus.INCOMPLETE if end < begin else 0))

    def maximum(self, upto: int | None = None) -> Average | None:
        """Return the highest average of the periods that have ended since the reset, up to a second.

        None if none is known. In a rate those count at whose end it was in force.
        """
        reset = self.reset_at
        found = (self._shared or self).highest(reset, upto).get(self._rate)
        return Average(0, reset.time, reset.time, 0) if found is None and reset is not None else found

    @property
    def reset_at(self) -> Reset | None:
        """The last reset."""
        return self._store.resets.of(self._meter, self._name)

    def reset(self) -> bool:
        """Begin anew at the newest sample, or where a billing period ends; return whether it could be kept."""
        newest = self._store.closing(self._meter)
        energy = self._energy(newest)
        if newest is None or energy is None:
            return False
        return self._store.resets.keep(self._meter, self._name, Reset(newest.time // 1000, energy))

    def highest(self, reset: Reset | None, upto: int | None) -> dict[int, Average]:
        """Return the highest average since a reset: of all periods as 0, and of those in each rate."""
        key = (self._store.profile_revision(self._meter), reset, upto)
        if self._cached[0] != key:
            self._cached = (key, self._highest(reset, upto))
        return self._cached[1]

    def _highest(self, reset: Reset | None, upto: int | None) -> dict[int, Average]:
        found: dict[int, Average] = {}
        rates = None if self._quantity is None else self._store.rates(self._meter)
        history: RateHistory | None = None
        for value, start, end, status in self._averages(reset):
            if upto is not None and end > upto:
                break
            owners = [0]
            if rates is not None and self._quantity is not None:
                history = history or rates.history(start)
                owners.append(history.rate(end, self._quantity))
            for owner in owners:
                best = found.get(owner)
                if best is None or value > best.value:
                    found[owner] = Average(value, start, end, status)
        return found

    def _averages(self, reset: Reset | None) -> Iterator[tuple[int, int, int, int]]:
        """Iterate over value, start, end and status of all periods since a reset that are known."""
        start = None if reset is None else reset.time * 1000 + 1
        column, span = self._column, self._span
        recent: deque[tuple[int, int]] = deque(maxlen=self.periods + 1)
        if reset is not None:
            recent.append((reset.time, reset.energy))
        for row in self._store.profile_rows(self._meter, start):
            energy, end = row.values[column], row.time // 1000
            if not isinstance(energy, int):
                continue
            recent.append((end, energy))
            first = recent[0] if recent[0][0] == end - span else self._first(recent, row.status, reset)
            if first is not None and end > first[0] and energy >= first[1]:
                yield (energy - first[1]) * _HOUR // span, first[0], end, row.status

    def _first(
        self, recent: Sequence[tuple[int, int]], status: int, reset: Reset | None
    ) -> tuple[int, int] | None:
        """Return end and register from which a window of another length counts; None if that is not known."""
        begin = recent[-1][0] - self._span
        if status & _ADJUSTED:
            window = [item for item in recent if item[0] >= begin]
            return window[0] if window[0][0] == begin else recent[0]
        first = next(item for item in recent if item[0] >= begin)
        return first if first[0] == begin or (reset is not None and first[0] == reset.time) else None

    def _begin(self, second: int) -> int:
        """Return the end of the last period: a period owns its end."""
        return second // self.period * self.period

    def _average(self, start: int, end: int, energy: int, status: int) -> Average | None:
        reset = self.reset_at
        if reset is not None and start < reset.time:
            start, before = reset.time, reset.energy
        else:
            row = self._at(start)
            if row is None and status & AmrStatus.CLOCK_ADJUSTED:
                start, row = self._before(start)
            if row is None:
                return None
            before = row[0]
        if energy < before:
            return None  # another register: the meter was replaced, or began anew
        return Average((energy - before) * _HOUR // self._span, start, end, status)

    def _at(self, second: int) -> tuple[int, int] | None:
        """Return register and status at the end of a period."""
        row = next(self._store.profile_rows(self._meter, second * 1000, second * 1000), None)
        energy = None if row is None else row.values[self._column]
        return (energy, row.status) if row is not None and isinstance(energy, int) else None

    def _before(self, second: int) -> tuple[int, tuple[int, int] | None]:
        """Return the last end of a period before a second that has a row, and what :meth:`_at` tells of it."""
        time = self._store.profile_before(self._meter, second * 1000)
        return (second, None) if time is None else (time // 1000, self._at(time // 1000))

    def _energy(self, newest: Sample | None) -> int | None:
        value = None if newest is None else self._store.value_of(newest, self._point)
        return value if isinstance(value, int) else None
