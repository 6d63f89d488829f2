"""The routing table, the blacklist and the counters of LOADng in G3-PLC."""

from __future__ import annotations

from collections.abc import Iterator

TABLE_SIZE = 300
"""Routes of a device (ours; real stacks hold 100 to 300)."""
COORDINATOR_TABLE_SIZE = 4096
BLACKLIST_SIZE = 32
STALE = 256
"""Sequence numbers up to so far back are old news; further back, the node has started anew (ours).

G.9903 wants the number kept over a restart and takes half the circle for old: a node that has lost its number, as
all of a cleared table, would go unheard for adpRoutingTableEntryTTL.
"""


def newer(sequence: int, than: int) -> bool:
    """Return whether a 16-bit sequence number comes after another, across the wrap and over a restart."""
    return (than - sequence) & 0xFFFF >= STALE


class Counters:
    """What has been sent and what went wrong."""

    __slots__ = (
        "discoveries",
        "failed_discoveries",
        "malformed",
        "rerr",
        "rrep",
        "rreq",
        "rreq_forwarded",
        "rreq_spared",
    )

    def __init__(self) -> None:
        self.discoveries = self.failed_discoveries = self.malformed = 0
        self.rerr = self.rrep = self.rreq = self.rreq_forwarded = self.rreq_spared = 0


class Route:
    """The way to a destination."""

    __slots__ = ("bidirectional", "cost", "destination", "expires", "hops", "next_hop", "sequence", "weak_links")

    def __init__(self, destination: int) -> None:
        self.destination = destination
        self.next_hop = destination
        self.cost = 0xFFFF
        self.hops = 1
        self.weak_links = 15
        self.sequence: int | None = None
        """Of the message that made it, ``None`` for a neighbour a message came through."""
        self.bidirectional = False
        """Whether a message has gone over it: only then it carries data."""
        self.expires = 0.0
        """In seconds of the scheduler."""


class RoutingTable:
    """Routes by destination: bounded, with a time to live."""

    __slots__ = ("_routes", "size")

    def __init__(self, size: int = TABLE_SIZE) -> None:
        self._routes: dict[int, Route] = {}
        self.size = size

    def __len__(self) -> int:
        """Return how many routes there are, stale ones included."""
        return len(self._routes)

    def __iter__(self) -> Iterator[Route]:
        """Return the routes, the one unchanged for longest first."""
        return iter(list(self._routes.values()))

    def find(self, destination: int, now: float, *, bidirectional: bool = True) -> Route | None:
        """Return the route to a destination, by default only one that carries data."""
        route = self._routes.get(destination)
        if route is None or route.expires <= now or (bidirectional and not route.bidirectional):
            return None
        return route

    def offer(self, offered: Route, now: float) -> bool:
        """Take a route if it is better than the one there is; return whether it was.

        Better (A): a newer sequence number; with the same one fewer weak links, then lower cost, then fewer hops.
        """
        known = self.find(offered.destination, now, bidirectional=False)
        if known is not None and known.sequence is not None:
            if offered.sequence is None:
                return False
            if offered.sequence == known.sequence:
                if _rank(offered) >= _rank(known):
                    return False
            elif not newer(offered.sequence, known.sequence):
                return False
        if known is not None:
            # A destination once reached goes on being served; should the new way not carry, repair finds another.
            offered.bidirectional |= known.bidirectional
        self._put(offered, now)
        return True

    def neighbour(
        self, address: int, cost: int, *, weak: bool, bidirectional: bool, expires: float, now: float
    ) -> None:
        """Know the neighbour a message came through, unless there is a route to it already."""
        known = self.find(address, now, bidirectional=False)
        if known is None or (bidirectional and not known.bidirectional):
            route = Route(address)
            route.cost = cost
            route.weak_links = int(weak)
            route.bidirectional = bidirectional
            route.expires = expires
            self._put(route, now)

    def remove(self, destination: int) -> None:
        """Forget the route to a destination."""
        self._routes.pop(destination, None)

    def clear(self) -> None:
        """Forget every route."""
        self._routes.clear()

    def _put(self, route: Route, now: float) -> None:
        # Taken out first: what changes moves to the end, so that the dictionary stays in order of age.
        self._routes.pop(route.destination, None)
        if len(self._routes) >= self.size:
            self._make_room(now)
        self._routes[route.destination] = route

    def _make_room(self, now: float) -> None:
        """Give up what is stale, else the oldest that carries nothing, else the oldest."""
        stale = [destination for destination, route in self._routes.items() if route.expires <= now]
        idle = (destination for destination, route in self._routes.items() if not route.bidirectional)
        for destination in stale or [next(idle, next(iter(self._routes)))]:
            del self._routes[destination]


def _rank(route: Route) -> tuple[int, int, int]:
    return route.weak_links, route.cost, route.hops


class Blacklist:
    """Neighbours that are heard but do not hear (RREP unacknowledged)."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def __len__(self) -> int:
        """Return how many neighbours are listed, past ones included."""
        return len(self._until)

    def listed(self, now: float) -> dict[int, float]:
        """Return the neighbours listed now, and until when."""
        return {address: until for address, until in self._until.items() if until > now}

    def add(self, address: int, until: float) -> None:
        """List a neighbour up to a time in seconds."""
        self._until.pop(address, None)
        if len(self._until) >= BLACKLIST_SIZE:
            del self._until[next(iter(self._until))]
        self._until[address] = until

    def holds(self, address: int, now: float) -> bool:
        """Return whether a neighbour is listed."""
        if not self._until:
            return False
        return self._until.get(address, now) > now

    def clear(self) -> None:
        """Forget every neighbour."""
        self._until.clear()
