"""What waits in the ADP for the MAC: queues, frames one at a time, and packets that wait for a route.

Frames wait in two bounded queues, urgent ones (LOADng, LBP, packets with priority) before the others; a packet
without a route waits apart until LOADng has found one.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from flexmap.g3 import sixlowpan
from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import BROADCAST, Address, Mac, MacStatus, Scheduler
from flexmap.g3.loadng import Loadng

QUEUE_LIMIT = 64
"""Frames or packets in each queue, and packets waiting for routes (ours)."""
URGENT_RUN = 4
"""Urgent jobs in a row while others wait (ours): joins and route requests alone must not stop the reading."""
CONFIRM_WAIT = 120.0
"""Seconds; longer than any frame takes with all its retries (ours)."""


class AdpStatus(enum.IntEnum):
    """Status of an ADPD-DATA.confirm; values as in a vendor's public header (B)."""

    SUCCESS = 0x00
    INVALID_REQUEST = 0xA1
    FAILED = 0xA2
    INVALID_IPV6_FRAME = 0xA3
    ROUTE_ERROR = 0xA5
    NO_BUFFERS = 0xB4


class AdpCounters:
    """What the ADP has done and what went wrong since it began."""

    __slots__ = (
        "broadcasts_forwarded",
        "broadcasts_repeated",
        "dropped_full",
        "dropped_hops",
        "failed",
        "forwarded",
        "malformed",
        "packets_received",
        "packets_sent",
        "repairs",
        "route_errors",
        "security_failures",
        "unsecured",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    broadcasts_forwarded: int
    broadcasts_repeated: int
    dropped_full: int
    """Frames to forward and packets to send for which no queue had room."""
    dropped_hops: int
    """Frames that had no hops left or had come round in a circle."""
    failed: int
    """Frames and packets the MAC could not deliver."""
    forwarded: int
    malformed: int
    packets_received: int
    packets_sent: int
    repairs: int
    """Routes looked for anew because a neighbour did not acknowledge."""
    route_errors: int
    """Frames and packets given up for want of a route."""
    security_failures: int
    """Frames whose protection the MAC refused."""
    unsecured: int
    """Frames dropped because they came without protection."""


Done = Callable[[AdpStatus, MacStatus], object]


class Discover(Protocol):
    """Looks for a route."""

    def __call__(self, destination: int, done: Callable[[bool], object], *, repair: bool = False) -> None:
        """Look for a route to a destination; ``done`` learns whether there is one."""


class Job:
    """Frames that go the same way one after the other: the fragments of a packet, or a single frame."""

    __slots__ = (
        "done",
        "final",
        "index",
        "next_hop",
        "originator",
        "payloads",
        "priority",
        "repaired",
        "resent",
        "secured",
        "urgent",
    )

    def __init__(
        self,
        payloads: list[bytes],
        *,
        final: int = BROADCAST,
        next_hop: Address | None = None,
        done: Done | None = None,
    ) -> None:
        self.payloads = payloads
        self.index = 0
        self.final = final
        self.next_hop = next_hop
        """Set where no route is needed."""
        self.originator: int | None = None
        """Of a frame that is passed on, which has its mesh header already."""
        self.done = done
        self.priority = self.urgent = self.resent = self.repaired = False
        self.secured = True


class Outbox:
    """The way of one node's frames to its MAC."""

    __slots__ = (
        "_counters",
        "_current",
        "_discover",
        "_given",
        "_loadng",
        "_mac",
        "_parked",
        "_parked_count",
        "_passed",
        "_pib",
        "_pumping",
        "_queue",
        "_scheduler",
        "_urgent",
    )

    def __init__(  # noqa: PLR0917 (the parts of the node it works between)
        self,
        mac: Mac,
        scheduler: Scheduler,
        loadng: Loadng,
        pib: AdpPib,
        counters: AdpCounters,
        discover: Discover,
    ) -> None:
        self._mac = mac
        self._scheduler = scheduler
        self._loadng = loadng
        self._discover = discover
        self._pib = pib
        self._counters = counters
        self._urgent: deque[Job] = deque()
        self._queue: deque[Job] = deque()
        self._parked: dict[int, list[Job]] = {}
        self._parked_count = 0
        self._current: Job | None = None
        self._given = (0.0, BROADCAST)
        """When the MAC got the current frame, and which short address the node had."""
        self._passed = 0
        """Urgent jobs since the last one of the others."""
        self._pumping = False

    def clear(self) -> None:
        """Forget everything; who waits learns FAILED."""
        parked = [job for jobs in self._parked.values() for job in jobs]
        jobs = [*self._urgent, *self._queue, *parked]
        if self._current is not None:
            jobs.append(self._current)
        self._current = None
        self._urgent.clear()
        self._queue.clear()
        self._parked.clear()
        self._parked_count = 0
        for job in jobs:
            tell(job.done, AdpStatus.FAILED)

    def enqueue(self, job: Job) -> None:
        """Take frames to send; a full queue refuses them with NO_BUFFERS."""
        queue = self._urgent if job.urgent else self._queue
        if len(queue) >= QUEUE_LIMIT:
            self._counters.dropped_full += 1
            tell(job.done, AdpStatus.NO_BUFFERS, MacStatus.DENIED)
            return
        queue.append(job)
        self._pump()

    def _pump(self) -> None:
        """Give the MAC the next frame, if it has none."""
        if self._pumping:
            return
        self._pumping = True
        self._give_up_lost()
        while self._current is None and (self._urgent or self._queue):
            job = self._next()
            next_hop = job.next_hop
            if next_hop is None:
                route = self._loadng.route(job.final)
                if route is None:
                    self._park(job)
                    continue
                next_hop = route.next_hop
            self._current = job
            self._given = (self._scheduler.seconds(), self._mac.short_address)
            confirm = partial(self._confirmed, job, next_hop)
            self._mac.data(
                next_hop, self._frame(job, next_hop), confirm, priority=job.priority, secured=job.secured
            )
        self._pumping = False

    def _next(self) -> Job:
        """Return the next job: urgent ones first, but after some of them another that waits."""
        if self._urgent and not (self._queue and self._passed >= URGENT_RUN):
            self._passed += 1
            return self._urgent.popleft()
        self._passed = 0
        return self._queue.popleft()

    def _give_up_lost(self) -> None:
        """Stop waiting for a confirm that will not come: a MAC that was reset forgets what it had."""
        job, (at, as_address) = self._current, self._given
        if job is not None and (
            self._mac.short_address != as_address or self._scheduler.seconds() - at > CONFIRM_WAIT
        ):
            self._current = None
            self._counters.failed += 1
            tell(job.done, AdpStatus.FAILED)

    def _frame(self, job: Job, next_hop: Address) -> bytes:
        payload = job.payloads[job.index]
        if job.originator is not None or job.next_hop is not None or next_hop == job.final:
            return payload
        return sixlowpan.mesh_header(self._pib.max_hops, self._mac.short_address, job.final) + payload

    def _confirmed(self, job: Job, next_hop: Address, status: MacStatus) -> None:
        if job is not self._current:
            return
        self._current = None
        if status is MacStatus.SUCCESS:
            job.index += 1
            if job.index < len(job.payloads):
                (self._urgent if job.urgent else self._queue).appendleft(job)
            else:
                tell(job.done, AdpStatus.SUCCESS, status)
        elif status is MacStatus.NO_ACK and job.next_hop is None and isinstance(next_hop, int):
            self._repair(job, next_hop)
        else:
            self._counters.failed += 1
            tell(job.done, AdpStatus.FAILED, status)
        self._pump()

    # Packets without a route

    def _repair(self, job: Job, next_hop: int) -> None:
        """Send once more the same way, then look for another: once for each packet.

        A crowded line loses frames with all their retries; had each its flood of RREQs, more would be lost (ours).
        """
        if not job.resent:
            job.resent = True
            (self._urgent if job.urgent else self._queue).append(job)
            return
        self._loadng.link_failed(job.final, next_hop)
        if job.repaired:
            self._give_up(job)
            return
        job.repaired = True
        self._counters.repairs += 1
        self._park(job)

    def _park(self, job: Job) -> None:
        if self._parked_count >= QUEUE_LIMIT:
            self._counters.dropped_full += 1
            tell(job.done, AdpStatus.NO_BUFFERS, MacStatus.DENIED)
            return
        jobs = self._parked.setdefault(job.final, [])
        jobs.append(job)
        self._parked_count += 1
        if len(jobs) == 1:
            self._discover(job.final, partial(self._discovered, job.final), repair=job.repaired)

    def _discovered(self, final: int, found: bool) -> None:
        jobs = self._parked.pop(final, [])
        self._parked_count -= len(jobs)
        for job in jobs:
            if found:
                (self._urgent if job.urgent else self._queue).append(job)
            else:
                self._give_up(job)
        self._pump()

    def _give_up(self, job: Job) -> None:
        self._counters.route_errors += 1
        if job.originator is not None:
            self._loadng.report_error(job.originator, job.final)
        tell(job.done, AdpStatus.ROUTE_ERROR, MacStatus.NO_ACK)


def tell(done: Done | None, status: AdpStatus, mac_status: MacStatus = MacStatus.DENIED) -> None:
    """Tell who waits, if anyone, what became of it."""
    if done is not None:
        done(status, mac_status)
