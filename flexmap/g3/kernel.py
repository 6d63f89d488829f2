"""Virtual time: the scheduler of simulations and tests."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from flexmap.model.error import LocalError

_TIDY = 4096
"""Cancelled timers are swept out of the heap when this many of them, and more than the living, lie in it."""


class VirtualTimer:
    """A call that is still to come; cancelling is cheap, the heap is swept later."""

    __slots__ = ("_kernel", "args", "call", "order", "time")

    def __init__(
        self, kernel: VirtualTime, time: float, order: int, call: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._kernel = kernel
        self.time = time
        self.order = order
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        """Do not call; a timer that has fired or is cancelled stays as it is."""
        if self.call is not None:
            self.call = None
            self.args = ()
            self._kernel.cancelled()

    def active(self) -> bool:
        """Return whether the call is still to come."""
        return self.call is not None


class VirtualTime:
    """A :class:`flexmap.g3.interface.Scheduler` whose time moves from event to event.

    Calls due at the same time are made in the order in which they were asked for: a run repeats exactly.
    """

    __slots__ = ("_cancelled", "_heap", "_now", "_order", "events")

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = 0
        self._heap: list[tuple[float, int, VirtualTimer]] = []
        self._cancelled = 0
        self.events = 0
        """How many calls have been made."""

    def seconds(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> VirtualTimer:  # noqa: A002, N802 (Twisted's names)
        """Call after ``delay`` seconds.

        Raises :class:`LocalError` for a delay below zero (or not a number).
        """
        if not delay >= 0:
            raise LocalError(f"A call cannot be made {delay} s from now")
        self._order += 1
        timer = VirtualTimer(self, self._now + delay, self._order, callable, args)
        heapq.heappush(self._heap, (timer.time, timer.order, timer))
        return timer

    def run(self, until: float) -> None:
        """Make every call due up to ``until`` (seconds) and leave the time there."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self._step()
        self._now = max(self._now, until)

    def run_all(self, limit: float) -> None:
        """Run until nothing is left to come, at most to the time ``limit``; time stays at the last call made."""
        heap = self._heap
        while heap and heap[0][0] <= limit:
            self._step()

    def next_time(self) -> float | None:
        """Return when the next call is due, ``None`` when nothing is to come: how long a real clock may sleep.

        In real time a shell calls :meth:`run` with its clock whenever this time has come: calls keep their order
        however late they are made, which a timer wheel of the operating system would not promise.
        """
        heap = self._heap
        while heap and heap[0][2].call is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pending(self) -> int:
        """Return how many calls are still to come."""
        return len(self._heap) - self._cancelled

    def cancelled(self) -> None:
        """Take note that a timer in the heap will not call."""
        self._cancelled += 1
        if self._cancelled > _TIDY and self._cancelled * 2 > len(self._heap):
            # In place: run() holds the list.
            self._heap[:] = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _step(self) -> None:
        time, _, timer = heapq.heappop(self._heap)
        call = timer.call
        if call is None:
            self._cancelled -= 1
            return
        self._now = time
        self.events += 1
        timer.call = None
        call(*timer.args)
