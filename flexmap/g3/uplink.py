"""A node's way to the coordinator: through its agent, others it has heard, or those it looks around for.

With adpDefaultCoordRouteEnabled a node that has joined has a route through its agent without a discovery. When
that way fails, the recommendation repairs it with a flood of RREQs; on a crowded line such floods, each of them a
frame from every node, are what jams it. A node here tries the other agents of its scan first, then scans anew as
for a join, one beacon request and a few beacons; it floods only where three scans have shown nobody. Each way is
proven by an RREQ sent along it, which also shows the coordinator the way back. All of it ours (C).

A node that the coordinator has spoken to since is one whose answers are waited for: it repairs as the
recommendation has it, which takes seconds where looking around takes minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from flexmap.g3.bootstrap import KH, path_cost
from flexmap.g3.discovery import Found, cancel
from flexmap.g3.interface import (
    BROADCAST,
    COORDINATOR,
    RC_COORD_UNKNOWN,
    Beacon,
    Mac,
    Random,
    Scheduler,
    Timer,
)
from flexmap.g3.loadng import Loadng

SCAN = 12.0
"""Seconds of listening, as for a join."""
PROOF = 20.0
"""Seconds for the coordinator's RREP: adpRREPWait, and the way there and back on a busy line."""
WAIT = 60.0
"""Seconds between scans, half to one and a half times, doubled by each …"""
WAIT_MOST = 960.0
"""… up to this."""
SCANS = 3
"""Scans for nodes nearer to the coordinator than this one was; after so many any node will do, or a flood."""
MOST_WAYS = 4


class Way(msgspec.Struct, frozen=True):
    """A neighbour towards the coordinator."""

    next_hop: int
    cost: int
    """Of the whole route, estimated."""


def ways(beacons: Sequence[Beacon], pan_id: int, below: int, min_lqi: int) -> list[Way]:
    """Return the best ways through nodes of a PAN whose own route costs less than ``below``, the best first.

    Who is nearer to the coordinator than this node was does not reach it through this node: no circles.
    """
    found = [
        Way(beacon.source, round(path_cost(beacon)))
        for beacon in beacons
        if isinstance(beacon.source, int)
        and beacon.pan_id == pan_id
        and beacon.lqi >= min_lqi
        and beacon.rc_coord < below
    ]
    return sorted(found, key=lambda way: way.cost)[:MOST_WAYS]


class Uplink:
    """The way up of one node; a node that has not told of any (:meth:`joined`) leaves all to LOADng."""

    __slots__ = (
        "_cost",
        "_fruitless",
        "_heard",
        "_joined",
        "_loadng",
        "_mac",
        "_min_lqi",
        "_random",
        "_scanning",
        "_scheduler",
        "_timer",
        "_waiting",
        "_ways",
    )

    def __init__(self, mac: Mac, loadng: Loadng, scheduler: Scheduler, random: Random) -> None:
        self._mac = mac
        self._loadng = loadng
        self._scheduler = scheduler
        self._random = random
        self._joined = self._scanning = False
        self._ways: list[Way] = []
        self._heard = False
        """Whether the coordinator has been heard since the last way was taken."""
        self._cost = self._min_lqi = 0
        self._fruitless = 0
        """Scans since a way was proven."""
        self._waiting: list[Found] = []
        self._timer: Timer | None = None
        loadng.on_lost = self._route_lost

    def clear(self) -> None:
        """Forget everything, as when leaving a PAN; the owner clears what waits."""
        cancel(self._timer)
        self._timer = None
        self._joined = self._scanning = self._heard = False
        self._ways = []
        self._waiting = []
        self._fruitless = 0

    def joined(self, found: Sequence[Way], min_lqi: int) -> None:
        """Begin with the ways that the scan before the join has shown, the agent's first."""
        self.resume(RC_COORD_UNKNOWN, min_lqi)
        self._ways = list(found)
        self._take()

    def resume(self, cost: int, min_lqi: int) -> None:
        """Begin with a route that is known from elsewhere and costs so much, or with none."""
        self._joined = True
        self._cost = cost
        self._min_lqi = min_lqi

    def heard(self) -> None:
        """Take note of a frame that the coordinator has sent to this node."""
        self._heard = True
        self._fruitless = 0

    def discover(self, destination: int, done: Found, *, repair: bool = False) -> None:
        """Look for a route: to the coordinator as above, to others by LOADng; ``done`` learns if there is one."""
        if destination != COORDINATOR or not self._joined:
            self._loadng.discover(destination, done, repair=repair)
        elif self._heard:
            self._loadng.discover(destination, partial(self._repaired, done), repair=repair)
        elif self._loadng.route(COORDINATOR) is not None or self._seek():
            done(True)
        elif self._scanning:
            self._waiting.append(done)
        else:
            done(False)

    def _repaired(self, done: Found, found: bool) -> None:
        self._heard &= found
        done(found)

    def _route_lost(self, destination: int) -> None:
        if destination == COORDINATOR and self._joined and not self._heard:
            self._seek()

    def _seek(self) -> bool:
        """Take the next way; without one prepare to scan. Return whether there is a way now."""
        if self._take():
            return True
        if not self._scanning and not (self._timer is not None and self._timer.active()):
            wait = min(WAIT * 2.0 ** min(self._fruitless, 16), WAIT_MOST) if self._fruitless else 0.0
            self._timer = self._scheduler.callLater(wait * (0.5 + self._random.random()), self._scan)
        return False

    def _take(self) -> bool:
        if not self._ways:
            return False
        way = self._ways.pop(0)
        self._heard = False
        self._cost = way.cost
        near = way.next_hop == COORDINATOR
        self._loadng.add_route(COORDINATOR, way.next_hop, way.cost, 1 if near else 2)
        if not near:
            self._loadng.add_route(way.next_hop, way.next_hop, KH, 1)
        self._loadng.announce(COORDINATOR)
        cancel(self._timer)
        self._timer = self._scheduler.callLater(PROOF, self._judge)
        return True

    def _judge(self) -> None:
        """Keep a way whose RREQ the coordinator has answered, else try the next."""
        route = self._loadng.route(COORDINATOR)
        if self._heard:
            return
        if route is None:
            self._seek()
        elif route.sequence is None:
            self._loadng.link_failed(COORDINATOR, route.next_hop)
        else:
            self._fruitless = 0

    def _scan(self) -> None:
        if self._mac.short_address == BROADCAST or self._loadng.route(COORDINATOR) is not None:
            return
        self._scanning = True
        self._fruitless += 1
        self._mac.scan(SCAN, self._scanned)

    def _scanned(self, beacons: list[Beacon]) -> None:
        if not self._scanning:
            return
        self._scanning = False
        patient = self._fruitless < SCANS
        below = self._cost if patient else RC_COORD_UNKNOWN
        self._ways = ways(beacons, self._mac.pan_id, below, self._min_lqi)
        waiting, self._waiting = self._waiting, []
        found = self._loadng.route(COORDINATOR) is not None or self._seek()
        for done in waiting:
            done(found)
        if not found and not patient:
            self._loadng.discover(COORDINATOR, lambda _found: None)
