"""Re-keying a whole PAN: a new group master key to every device, then its activation, then the end of the old one.

While it lasts, devices hold both keys (index 0 and 1) and take frames under either, so traffic goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from flexmap.g3.coordinator import Coordinator
from flexmap.g3.lbp import Parameters

SETTLING = 5.0
"""Seconds between the last device's answer and the first activation (ours): until the last message of its exchange
has arrived, with which it takes the key, nobody on the way there may send under it."""
Step = Callable[[bytes, Callable[[bool], object]], object]
"""Does something with the device of an EUI-64 and calls back whether it succeeded."""


class Report(msgspec.Struct, frozen=True):
    """How a re-keying ended."""

    rekeyed: tuple[bytes, ...]
    """EUI-64 of the devices that use the new key."""
    lost: tuple[bytes, ...]
    """EUI-64 of those that do not answer under it and have to join again."""


class Rekeying:
    """One re-keying; begins at once and calls back with a :class:`Report`."""

    __slots__ = ("_coordinator", "_done", "_parallel", "_to")

    def __init__(
        self, coordinator: Coordinator, key: bytes, done: Callable[[Report], object], *, parallel: int = 2
    ) -> None:
        self._coordinator = coordinator
        self._done = done
        self._parallel = parallel
        self._to = 1 - coordinator.active_key
        coordinator.add_key(self._to, key)
        give = Parameters(keys=((self._to, key),))
        self._round(lambda eui64, taken: coordinator.distribute(eui64, give, taken), self._settle)

    def _settle(self, took: list[bytes]) -> None:
        if took:
            self._coordinator.later(SETTLING, self._activate)
        else:
            self._activate()

    def _activate(self) -> None:
        # Also devices that were not reached are asked again: those that joined meanwhile hold both keys.
        c = self._coordinator
        use = Parameters(activate=self._to)
        self._round(lambda eui64, taken: c.configure(eui64, use, taken), self._switch)

    def _switch(self, took: list[bytes]) -> None:
        old = self._coordinator.active_key
        self._coordinator.switch_key(self._to)
        self._coordinator.registry.release_spent()
        drop = Parameters(remove=old)
        c = self._coordinator
        self._round(
            lambda eui64, taken: c.configure(eui64, drop, taken), lambda _removed: self._finish(old, took), took
        )

    def _finish(self, old: int, took: list[bytes]) -> None:
        self._coordinator.drop_key(old)
        now = {device.eui64 for device in self._coordinator.registry.devices()}
        rekeyed = tuple(eui64 for eui64 in took if eui64 in now)
        for _ in rekeyed:
            self._coordinator.counters.count("rekeyed")
        lost = tuple(sorted(now.difference(rekeyed)))
        for eui64 in lost:
            # Who has both keys and sends with the old one reads this; the others find out (flexmap.g3.watch).
            self._coordinator.recall(eui64)
        self._done(Report(rekeyed, lost))

    def _round(
        self, step: Step, after: Callable[[list[bytes]], object], devices: list[bytes] | None = None
    ) -> None:
        if devices is None:
            devices = [device.eui64 for device in self._coordinator.registry.devices()]
        _Round(step, after, devices, self._parallel)


class _Round:
    """Does a step with every device, some at a time; then goes on with the list of those where it succeeded."""

    __slots__ = ("_after", "_limit", "_pending", "_running", "_starting", "_step", "_took")

    def __init__(
        self, step: Step, after: Callable[[list[bytes]], object], devices: list[bytes], limit: int
    ) -> None:
        self._step = step
        self._after = after
        self._limit = limit
        self._pending = list(reversed(devices))
        self._took: list[bytes] = []
        self._running = 0
        self._starting = False
        self._more()

    def _more(self) -> None:
        self._starting = True
        while self._pending and self._running < self._limit:
            self._running += 1
            eui64 = self._pending.pop()
            self._step(eui64, partial(self._finished, eui64))
        self._starting = False
        if not self._pending and not self._running:
            self._after(self._took)

    def _finished(self, eui64: bytes, success: bool) -> None:
        self._running -= 1
        if success:
            self._took.append(eui64)
        if not self._starting:  # a step may end at once, inside the loop above
            self._more()
