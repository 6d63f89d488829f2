"""Route discoveries of one node: which are under way, which wait, and whom to leave alone for how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import Scheduler, Timer
from flexmap.g3.routing import Counters, Route

ABREAST = 4
"""Discoveries of one node under way at the same time (ours); the others wait for their turn."""
APART = 2.0
"""Seconds between the RREQs of two of them (ours): one that the next overtakes on its way is out of date there."""
WAITING = 256
RREP_GRACE = 2.0
"""Seconds an RREP has to reach its first hop (ours)."""
MAX_BACKOFF = 480.0
"""Seconds; the longest a destination that was not found is taken for unreachable (ours)."""

Found = Callable[[bool], object]


class Router(Protocol):
    """Whom a discovery asks, and what becomes of it."""

    def route(self, destination: int) -> Route | None:
        """Return the route data can take to a destination."""

    def answering(self, destination: int) -> bool:
        """Return whether an RREP to a destination is due: it has just asked for this node."""

    def ask(self, destination: int, *, unicast: bool, repair: bool = False) -> None:
        """Send an RREQ."""


class _Discovery:
    __slots__ = ("destination", "repair", "retries", "timer", "waiting")

    def __init__(self, destination: int, retries: int) -> None:
        self.destination = destination
        self.repair = False
        self.retries = retries
        self.timer: Timer | None = None
        self.waiting: list[Found] = []


class Discoveries:
    """Discoveries under way and waiting."""

    __slots__ = (
        "_active",
        "_counters",
        "_failures",
        "_free",
        "_last_rreq",
        "_pib",
        "_queue",
        "_router",
        "_scheduler",
    )

    def __init__(self, router: Router, pib: AdpPib, scheduler: Scheduler, counters: Counters) -> None:
        self._router = router
        self._pib = pib
        self._scheduler = scheduler
        self._counters = counters
        self._active: dict[int, _Discovery] = {}
        self._queue: deque[_Discovery] = deque()
        self._last_rreq: dict[int, float] = {}
        self._free = float("-inf")
        """From when on another RREQ may follow the one before."""
        self._failures: dict[int, tuple[int, float]] = {}
        """Discoveries in a row that failed, and until when there is no other."""

    def clear(self) -> None:
        """Forget everything; who waits gets ``False``."""
        discoveries = [*self._active.values(), *self._queue]
        for discovery in discoveries:
            cancel(discovery.timer)
        for table in (self._active, self._last_rreq, self._failures):
            table.clear()
        self._queue.clear()
        self._free = float("-inf")
        for discovery in discoveries:
            _tell(discovery, found=False)

    def discover(self, destination: int, done: Found, *, repair: bool = False) -> None:
        """Look for a route; ``done`` learns whether one was found, after at most as long as the retries take.

        For adpRREQWait after a discovery has failed, twice as long after each further one, it is no at once.
        """
        if self._failures.get(destination, (0, 0.0))[1] > self._scheduler.seconds():
            done(False)
            return
        discovery = self._active.get(destination)
        if discovery is None:
            discovery = next((entry for entry in self._queue if entry.destination == destination), None)
        if discovery is None:
            if len(self._queue) >= WAITING:
                done(False)
                return
            discovery = _Discovery(destination, self._pib.rreq_retries)
            self._queue.append(discovery)
        discovery.waiting.append(done)
        discovery.repair |= repair
        self._next()

    def reached(self, destination: int) -> None:
        """Take note that there is a route now."""
        discovery = self._active.get(destination)
        if discovery is not None:
            self._end(discovery, found=True)

    def _next(self) -> None:
        while self._queue and len(self._active) < ABREAST:
            discovery = self._queue.popleft()
            if self._router.route(discovery.destination) is not None:
                _tell(discovery, found=True)
                continue
            self._active[discovery.destination] = discovery
            self._counters.discoveries += 1
            now = self._scheduler.seconds()
            wait = self._last_rreq.get(discovery.destination, float("-inf")) + self._pib.rreq_wait - now
            self._free = max(self._free, now)
            wait = max(wait, self._free - now)
            self._free += APART
            if self._router.answering(discovery.destination):
                # The RREP will show whether the way of its RREQ carries.
                wait = max(wait, self._pib.rrep_wait + RREP_GRACE)
            if wait > 0:
                discovery.timer = self._scheduler.callLater(wait, self._request, discovery, self._pib.unicast_rreq)
            else:
                self._request(discovery, unicast=self._pib.unicast_rreq)

    def _request(self, discovery: _Discovery, unicast: bool) -> None:
        if self._router.route(discovery.destination) is not None:
            self._end(discovery, found=True)
            return
        now = self._scheduler.seconds()
        if len(self._last_rreq) > WAITING:
            horizon = now - self._pib.rreq_wait
            self._last_rreq = {key: at for key, at in self._last_rreq.items() if at > horizon}
        self._last_rreq[discovery.destination] = now
        discovery.timer = self._scheduler.callLater(2 * self._pib.net_traversal_time, self._unanswered, discovery)
        # A repair must not follow routes that may lead through the broken link.
        # Nor after a failure: routes that are known on the way may lead nowhere.
        unicast = unicast and not discovery.repair and discovery.destination not in self._failures
        self._router.ask(discovery.destination, unicast=unicast, repair=discovery.repair)

    def _unanswered(self, discovery: _Discovery) -> None:
        if discovery.retries:
            discovery.retries -= 1
            self._request(discovery, unicast=False)
            return
        self._counters.failed_discoveries += 1
        self._failed(discovery.destination)
        self._end(discovery, found=False)

    def _failed(self, destination: int) -> None:
        now = self._scheduler.seconds()
        count = self._failures.pop(destination, (0, 0.0))[0] + 1
        if len(self._failures) >= WAITING:
            del self._failures[next(iter(self._failures))]
        backoff = min(self._pib.rreq_wait * 2.0 ** min(count - 1, 8), MAX_BACKOFF)
        self._failures[destination] = (count, now + backoff)

    def _end(self, discovery: _Discovery, *, found: bool) -> None:
        cancel(discovery.timer)
        if found:
            self._failures.pop(discovery.destination, None)
        self._active.pop(discovery.destination, None)
        _tell(discovery, found=found)
        self._next()


def cancel(timer: Timer | None) -> None:
    """Cancel a timer that may be none, or done."""
    if timer is not None and timer.active():
        timer.cancel()


def _tell(discovery: _Discovery, *, found: bool) -> None:
    waiting, discovery.waiting = discovery.waiting, []
    for done in waiting:
        done(found)
