"""Energies split over rates, to the watt-hour, out of nothing but registers at the seconds of switches.

A rate counts what the register rose by while the rate was in force. So all rates together are the register at any
time, however a switch has come about: the register at a switch is added to the rate before and taken from the rate
after. It is that of the last stored sample up to the switch. Where samples are missing there, what the register
rose by in the gap counts for the rate after it, and is moved when late samples tell better; until then, for a
day, the rates that are in doubt are questionable. A switch is told by its time, not by when it is heard of:
samples that come late, or after a restart, find the rate that was in force at their time stamps.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from twisted.logger import Logger

from flexmap.mapping.quality import never_read
from flexmap.mapping.tariff import NOT_SPECIFIED, Mask, Program, TariffSetup, default_setup, mask_name
from flexmap.mapping.zone import Zone
from flexmap.model import LocalError, MeterType, Sample, quality

if TYPE_CHECKING:
    from flexmap.store.store import Store

_log = Logger()

_WAIT = 86_400
"""Seconds for which samples around a switch are waited for."""
_LOOK_BACK = (60, 3600, 86_400)
"""Seconds before a switch in which its register is looked for, one after the other."""
_FOREVER = 300 * 86_400
"""Seconds after which a calendar without a switch is looked at again."""
_SETUP = "tariff"

Registers = tuple[int, ...]


class Switch(msgspec.Struct, frozen=True, array_like=True):
    """A change of what is in force, with the registers then."""

    time: int
    """Second since 1970 up to which, with it, the switch before holds."""
    mask: bytes
    """Name of the mask that is active from then on."""
    rates: tuple[int, ...]
    """Rate of each quantity (Mask.rates) from then on."""
    at: int
    """Second of the sample that the registers are of; ``time`` if they are known to be those of that second."""
    energies: Registers
    counted: tuple[Registers, ...]
    """Of each energy, what each rate has counted up to then."""
    base: bool = False
    """Whether counting begins here: with all that the register had, in rate 1."""

    def upto(self, energies: Registers) -> tuple[Registers, ...]:
        """Return what each rate has counted once the registers are these, with no switch between."""
        return tuple(
            tuple(counted + (now - then if rate == active else 0) for rate, counted in enumerate(rates, 1))
            for rates, active, now, then in zip(self.counted, self.rates, energies, self.energies, strict=False)
        )


class Rates:
    """The rates of one meter."""

    def __init__(
        self, store: Store, meter: str, row: int, meter_type: MeterType, database: sqlite3.Connection
    ) -> None:
        """``row``: id of the meter in the file. The meter's type has a tariff."""
        tariff = meter_type.tariff
        if tariff is None:
            raise ValueError(meter_type.id)
        self.dirty: dict[int, Switch] = {}
        """Switches that are not in the file, by time."""
        self._store, self._database = store, database
        self._meter, self._row = meter, row
        self._count = tariff.rates
        self._columns = [meter_type.index[name] for name in tariff.energies]
        self._zone = Zone(store.settings.time_zone)
        self.names = tuple(point.name for point in meter_type.rates)
        self.quantities = len(tariff.energies) + sum(bool(demand.rates) for demand in meter_type.demands)
        self.setup = self._kept() or default_setup(tariff, self.quantities)
        self._program = self._made()
        self._last: tuple[int, Registers] | None = None
        self._rows: list[Switch] = self._recent()
        self._next = self._following(self._rows[-1].time) if self._rows else (0, None)

    # What comes in

    def resume(self, newest: Sample) -> None:
        """Go on after what the file has: make up for switches that are not in it, look at those in doubt again."""
        energies = self._energies(newest)
        if energies is None:
            return
        second = newest.time // 1000
        if self._rows:
            for place, switch in enumerate(self._rows):
                lost = any(then > now for then, now in zip(switch.energies, energies, strict=True))
                if switch.base or (switch.at == switch.time and not lost):
                    continue
                found = self._stored(switch.time)
                if lost and place:  # its sample was not in the file when the last run was killed
                    before = self._rows[place - 1]
                    at, known = found or (before.at, before.energies)
                    self._rows[place] = msgspec.structs.replace(switch, at=at, energies=known)
                    self._count_from(place)
                elif found is not None and found[0] > switch.at:
                    self._refine(place, *found)
        self._advance(second, energies)
        self._last = (second, energies)

    def take(self, sample: Sample) -> None:
        """Take a sample that the store has taken, late or not."""
        energies = self._energies(sample)
        if energies is None:
            return
        second = sample.time // 1000
        late = self._last is not None and second <= self._last[0]
        if not late:
            self._advance(second, energies)
        if late or second <= self._rows[-1].time:
            for place, switch in enumerate(self._rows):
                if switch.at < second <= switch.time and not switch.base:
                    self._refine(place, second, energies)
        if not late:
            self._last = (second, energies)
            self._settle(second, energies)

    def switch(self, mask: Mask, second: int) -> bool:
        """Make a mask active from a second on, not before what is known already; return whether it is in the file.

        A meter that was never read has no rates yet.
        """
        self.active(second)
        if not self._rows:
            return False
        self._insert(mask, max(second, self._rows[-1].time, self._last[0] if self._last else 0))
        try:
            self.write()
        except sqlite3.Error as error:
            _log.error("{meter}: the switch is not kept: {error}", meter=self._meter, error=error)
            return False
        return True

    def change(self, setup: TariffSetup, second: int) -> bool:
        """Let another setup hold from a second on; return whether it could be kept."""
        self.active(second)
        try:
            self._store.kept.keep(self._meter, _SETUP, msgspec.msgpack.encode(setup))
        except LocalError as error:
            _log.error("{error}", error=str(error))
            return False
        before, self.setup = self.setup, setup
        self._program = self._made()
        second = max(second, self._rows[-1].time if self._rows else 0)
        if (before.active, before.special) != (setup.active, setup.special):
            mask = self._chosen(second)
        else:
            mask = setup.mask(self.active(second)) if before.masks != setup.masks else None
        if (
            mask is not None
            and self._rows
            and (mask.name, mask.rates) != (self._rows[-1].mask, self._rows[-1].rates)
        ):
            self.switch(mask, second)
        self._next = self._following(second)
        return True

    def look(self, second: int) -> None:
        """Activate the passive calendar if its time has come."""
        at = self.setup.activate_at
        if at and second >= at:
            setup = self.setup.activated()
            if self.setup.passive.fault():
                _log.warn("{meter}: the passive calendar cannot be followed: it stays so", meter=self._meter)
                setup = msgspec.structs.replace(self.setup, activation=NOT_SPECIFIED, activate_at=0)
            self.setup = msgspec.structs.replace(self.setup, activate_at=0)
            self.change(setup, at)

    # What is shown

    def active(self, second: int) -> bytes:
        """Return the name of the mask that is active at a second, by what is known."""
        self.look(second)
        if self._last is not None:
            self._advance(second, self._last[1])
        if self._rows:
            return self._rows[-1].mask
        mask = self._chosen(second)
        return b"" if mask is None else mask.name

    def sample(self, sample: Sample) -> Sample:
        """Return what the rates have counted at a sample, with the quality of its energies."""
        energies = self._energies(sample, valid=False)
        if energies is None or not self._rows:
            return never_read(sample.meter, len(self.names), rates=True)
        counted = self._in_force(sample.time // 1000).upto(energies)
        doubts = self._doubts()
        marks: list[int] = []
        for column, doubt in zip(self._columns, doubts, strict=True):
            mark = sample.quality[column]
            if doubt and quality.validity(mark) == quality.GOOD:
                mark |= quality.QUESTIONABLE
            marks += [mark] * self._count
        values = tuple(value for rates in counted for value in rates)
        return Sample(sample.meter, sample.time, values, tuple(marks), sample.clock_status, rates=True)

    def history(self, start: int) -> RateHistory:
        """Return which rates were in force from a second on."""
        found = {
            switch.time: switch
            for switch in (
                *self._read("time <= ? ORDER BY time DESC LIMIT 1", start),
                *self._read("time > ?", start),
            )
        }
        found.update((switch.time, switch) for switch in self._rows)
        return RateHistory(found.values())

    def write(self) -> None:
        """Write what is not in the file yet; within a transaction."""
        self._database.executemany(
            "INSERT OR REPLACE INTO tariff_switch VALUES (?, ?, ?)",
            ((self._row, each.time, msgspec.msgpack.encode(each)) for each in self.dirty.values()),
        )

    # Inside

    def _energies(self, sample: Sample, *, valid: bool = True) -> Registers | None:
        """Return the registers of a sample; None where one is missing, or not valid."""
        found = []
        for column in self._columns:
            value = sample.values[column]
            if not isinstance(value, int) or (
                valid and quality.validity(sample.quality[column]) == quality.INVALID
            ):
                return None
            found.append(value)
        return tuple(found)

    def _advance(self, second: int, energies: Registers) -> None:
        """Come to a second: begin, or follow the calendar up to it."""
        if not self._rows:
            self._begin(second, energies)
            return
        if any(now < then for now, then in zip(energies, self._rows[-1].energies, strict=True)):
            if second > self._rows[-1].time:
                _log.warn("{meter}: a register began anew; its rates do too", meter=self._meter)
                self._begin(second, energies)
            return
        while True:
            at = self.setup.activate_at
            if at and at < second and at <= self._next[0]:
                self.look(at)
                continue
            time, script = self._next
            if time >= second:
                return
            mask = None if script is None else self.setup.mask(mask_name(script))
            if mask is not None and (mask.name, mask.rates) != (self._rows[-1].mask, self._rows[-1].rates):
                self._insert(mask, time)
            self._next = self._following(time)

    def _begin(self, second: int, energies: Registers) -> None:
        mask = self._chosen(second)
        rates = (1,) * self.quantities if mask is None else mask.rates
        name = b"" if mask is None else mask.name
        counted = tuple((energy, *(0,) * (self._count - 1)) for energy in energies)
        self._rows = [Switch(second, name, rates, second, energies, counted, base=True)]
        self.dirty[second] = self._rows[0]
        self._next = self._following(second)

    def _insert(self, mask: Mask, time: int) -> None:
        """Add a switch behind all others, with the registers of the last sample up to it."""
        before = self._rows[-1]
        known = self._last if self._last is not None and self._last[0] <= time else self._stored(time)
        if (
            known is None
            or known[0] <= before.at
            or any(now < then for now, then in zip(known[1], before.energies, strict=True))
        ):
            known = (before.at, before.energies)
        made = Switch(time, mask.name, mask.rates, known[0], known[1], before.upto(known[1]))
        if before.time == time:  # the same second again: what was in force for no time does not count
            made = msgspec.structs.replace(before, mask=mask.name, rates=mask.rates)
            self._rows.pop()
        self._rows.append(made)
        self.dirty[time] = made
        self._forget(time)
        self._next = self._following(time)

    def _refine(self, place: int, second: int, energies: Registers) -> None:
        """Take the registers of a sample that is nearer to a switch than what is known, and count again."""
        lower = self._rows[place - 1].energies if place else energies
        behind = self._rows[place + 1 :]
        upper = next((each.energies for each in behind if each.at >= second), None)
        if upper is None and self._last is not None and self._last[0] >= second:
            upper = self._last[1]
        if any(now < low for now, low in zip(energies, lower, strict=True)) or (
            upper is not None and any(now > high for now, high in zip(energies, upper, strict=True))
        ):
            return  # the clock was set: it is not the register of that second
        self._rows[place] = msgspec.structs.replace(self._rows[place], at=second, energies=energies)
        self._count_from(place)

    def _count_from(self, place: int) -> None:
        for at in range(max(place, 1), len(self._rows)):
            before, switch = self._rows[at - 1], self._rows[at]
            if not switch.base:
                self._rows[at] = msgspec.structs.replace(switch, counted=before.upto(switch.energies))
            self.dirty[switch.time] = self._rows[at]

    def _settle(self, second: int, energies: Registers) -> None:
        """Note switches since which nothing has been counted: nothing is in doubt there."""
        for place, switch in enumerate(self._rows):
            if switch.at < switch.time < second and switch.energies == energies:
                self._rows[place] = self.dirty[switch.time] = msgspec.structs.replace(switch, at=switch.time)

    def _forget(self, time: int) -> None:
        """Keep in memory what can still change, and the switch before."""
        first = next(
            (place for place, each in enumerate(self._rows) if each.at < each.time and each.time > time - _WAIT),
            len(self._rows),
        )
        del self._rows[: max(min(first - 1, len(self._rows) - 2), 0)]

    def _doubts(self) -> list[bool]:
        """Return of each energy whether something counted may belong to another rate."""
        found = [False] * len(self._columns)
        if self._last is None:
            return found
        second, energies = self._last
        for place, switch in enumerate(self._rows):
            if switch.at == switch.time or not second - _WAIT < switch.time < second:
                continue
            after = self._rows[place + 1].energies if place + 1 < len(self._rows) else energies
            for column, (then, now) in enumerate(zip(switch.energies, after, strict=True)):
                found[column] |= now > then
        return found

    def _in_force(self, second: int) -> Switch:
        return next((each for each in reversed(self._rows) if each.time < second), self._rows[0])

    def _chosen(self, second: int) -> Mask | None:
        script = self._program.at(second)
        return None if script is None else self.setup.mask(mask_name(script))

    def _following(self, second: int) -> tuple[int, int | None]:
        return self._program.following(second) or (second + _FOREVER, None)

    def _made(self) -> Program:
        return Program(self.setup.active, self.setup.special, self._zone)

    def _stored(self, second: int) -> tuple[int, Registers] | None:
        """Return second and registers of the last stored sample up to a second."""
        for back in _LOOK_BACK:
            for sample in reversed(
                list(self._store.samples(self._meter, (second - back) * 1000, second * 1000 + 999))
            ):
                energies = self._energies(sample)
                if energies is not None:
                    return sample.time // 1000, energies
        return None

    def _kept(self) -> TariffSetup | None:
        octets = self._store.kept.read(self._meter, _SETUP)
        setup = None if octets is None else msgspec.msgpack.decode(octets, type=TariffSetup)
        fits = setup is not None and all(
            len(mask.rates) == self.quantities and max(mask.rates) <= self._count for mask in setup.masks
        )
        return setup if fits else None  # the map has other rates, or energies, by now

    def _recent(self) -> list[Switch]:
        """Return the switches of the last day, and the one before them."""
        newest = next(self._read("1 ORDER BY time DESC LIMIT 1"), None)
        if newest is None:
            return []
        found = [
            *self._read("time <= ? ORDER BY time DESC LIMIT 1", newest.time - _WAIT),
            *self._read("time > ? ORDER BY time", newest.time - _WAIT),
        ]
        begin = max((place for place, each in enumerate(found) if each.base), default=0)
        return found[begin:]

    def _read(self, where: str, *values: int) -> Iterator[Switch]:
        rows = self._database.execute(
            f"SELECT data FROM tariff_switch WHERE meter = ? AND {where}", (self._row, *values)
        )
        for (data,) in rows.fetchall():
            switch = msgspec.msgpack.decode(data, type=Switch)
            if len(switch.energies) == len(self._columns) and len(switch.rates) == self.quantities:
                yield switch


class RateHistory:
    """Which rates were in force when."""

    def __init__(self, switches: Iterable[Switch]) -> None:
        self._switches = sorted(switches, key=lambda each: each.time)
        self._times = [each.time for each in self._switches]

    def rate(self, second: int, quantity: int) -> int:
        """Return the rate of a quantity in the second that ends at ``second``; 1 before all that is known."""
        place = bisect_left(self._times, second) - 1
        return self._switches[place].rates[quantity] if place >= 0 else 1


def write(database: sqlite3.Connection, all_rates: Sequence[Rates]) -> None:
    """Write the switches of all meters in one transaction; where that fails they wait in memory."""
    waiting = [rates for rates in all_rates if rates.dirty]
    if not waiting:
        return
    try:
        database.execute("BEGIN IMMEDIATE")
        for rates in waiting:
            rates.write()
        database.execute("COMMIT")
    except sqlite3.Error as error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        _log.error("switches of rates are not written yet: {error}", error=error)
        return
    for rates in waiting:
        rates.dirty.clear()
