"""Path discovery: which nodes packets pass on their way to a destination and back (ITU-T G.9903; layout B)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import Confirm, Scheduler, Timer
from flexmap.g3.loadng_message import Kind, PathHop, PathMessage
from flexmap.g3.routing import Route

MAX_PATH = 30
"""Nodes in a message: fifteen there, fifteen back."""
PathFound = Callable[[PathMessage | None], object]


class Host(Protocol):
    """Who sends for it."""

    @property
    def short_address(self) -> int:
        """Short address, 0xFFFF while the node has none."""

    def send_loadng(self, neighbour: int, message: bytes, confirm: Confirm | None) -> None:
        """Send a message one hop far, or to all neighbours (0xFFFF)."""


class Paths:
    """Paths asked for by one node, and its part in those of others."""

    __slots__ = ("_asked", "_host", "_pib", "_route", "_scheduler")

    def __init__(
        self, host: Host, pib: AdpPib, scheduler: Scheduler, route: Callable[[int], Route | None]
    ) -> None:
        self._host = host
        self._pib = pib
        self._scheduler = scheduler
        self._route = route
        self._asked: dict[int, tuple[PathFound, Timer]] = {}

    def clear(self) -> None:
        """Forget what was asked; who waits gets ``None``."""
        asked = list(self._asked.values())
        self._asked.clear()
        for done, timer in asked:
            timer.cancel()
            done(None)

    def discover(self, destination: int, done: PathFound) -> None:
        """Ask for a path.

        ``done`` gets the reply, hops there first, then hops back; ``None`` if none comes within
        adpPathDiscoveryTime, there is no route, or one is being asked for.
        """
        route = self._route(destination)
        if route is None or destination in self._asked:
            done(None)
            return
        timer = self._scheduler.callLater(self._pib.path_discovery_time, self._lost, destination)
        self._asked[destination] = (done, timer)
        own, metric = self._host.short_address, self._pib.metric_type
        message = PathMessage(Kind.PATH_REQUEST, destination, own, metric=metric)
        self._host.send_loadng(route.next_hop, message.encode(), None)

    def _lost(self, destination: int) -> None:
        done, _ = self._asked.pop(destination)
        done(None)

    def message(self, message: PathMessage, cost: int) -> None:
        """Take a request or reply that came over a link of this cost: enter this node, pass on, answer."""
        own = self._host.short_address
        supported = message.metric == self._pib.metric_type
        hops = (*message.hops, PathHop(own, min(cost, 0xFF) if supported else 0, supported))
        if len(hops) > MAX_PATH:
            return
        message = msgspec.structs.replace(message, hops=hops)
        route = self._route(message.destination)
        if message.kind == Kind.PATH_REQUEST and (message.destination == own or route is None):
            seeker = message.originator
            message = PathMessage(Kind.PATH_REPLY, seeker, own, message.destination, message.metric, hops)
            route = self._route(seeker)
        elif message.destination == own:
            self._found(message)
            return
        if route is not None:
            self._host.send_loadng(route.next_hop, message.encode(), None)

    def _found(self, message: PathMessage) -> None:
        waiting = None if message.expected is None else self._asked.pop(message.expected, None)
        if waiting is not None:
            done, timer = waiting
            timer.cancel()
            done(message)
