"""LOADng, the routing protocol of G3-PLC (ITU-T G.9903 §9.4; facts, confidence A unless said otherwise).

Who needs a route floods an RREQ; every node on the way learns the way back. The destination waits adpRREPWait for
better copies and answers along the best one with an RREP, from which every node on the way learns the way there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from flexmap.g3 import loadng_message, path_discovery
from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.discovery import Discoveries, Found, cancel
from flexmap.g3.interface import BROADCAST, Link, MacStatus, Random, Scheduler, Timer
from flexmap.g3.link_cost import directional_cost, link_cost
from flexmap.g3.loadng_message import Kind, PathMessage, RouteError, RouteMessage
from flexmap.g3.path_discovery import PathFound, Paths
from flexmap.g3.reverse_cost import ReverseCosts
from flexmap.g3.routing import Blacklist, Counters, Route, RoutingTable, newer

MAX_COST = 0xFFFF
MAX_HOPS = 15
REPAIR_HOPS = 3
"""How far an RREQ goes that mends a route: around the broken link, not through the whole PAN (ours)."""
CROWD = 16
"""Routes from which on a node takes it that many others near by know routes as well (ours)."""
FORWARDS = 32
"""RREQs of different originators waiting to be passed on (ours)."""
FORWARDED = 64
"""Originators whose last RREQ is remembered as passed on (ours)."""


class Host(path_discovery.Host, Protocol):
    """What LOADng needs of the node it runs in."""

    def link(self, neighbour: int) -> Link | None:
        """Return what the MAC knows of a neighbour."""


class _Reply:
    __slots__ = ("repair", "sequence", "timer")

    def __init__(self, sequence: int, timer: Timer, *, repair: bool) -> None:
        self.sequence = sequence
        self.timer = timer
        self.repair = repair


class _Forward:
    __slots__ = ("copies", "message", "timer")

    def __init__(self, message: RouteMessage, timer: Timer) -> None:
        self.message = message
        self.timer = timer
        self.copies = 0
        """Heard over good links since: each a neighbour who has done the work already."""


class Loadng:
    """LOADng of one node."""

    __slots__ = (
        "_discoveries",
        "_forwarded",
        "_forwards",
        "_host",
        "_last_rerr",
        "_paths",
        "_pib",
        "_random",
        "_replies",
        "_scheduler",
        "blacklist",
        "counters",
        "on_lost",
        "reverse",
        "sequence",
        "table",
    )

    def __init__(self, host: Host, pib: AdpPib, scheduler: Scheduler, random: Random, table: RoutingTable) -> None:
        self._host = host
        self._pib = pib
        self._scheduler = scheduler
        self._random = random
        self.table = table
        self.counters = Counters()
        self.sequence = random.randrange(0x10000)
        """Of the next RREQ or RREP. Must go on, never back: others believe the newest."""
        self.blacklist = Blacklist()
        self._discoveries = Discoveries(self, pib, scheduler, self.counters)
        self.reverse = ReverseCosts(host, pib, scheduler)
        self._last_rerr = float("-inf")
        self._replies: dict[int, _Reply] = {}
        self._forwards: dict[tuple[int, int], _Forward] = {}
        """RREQs that are about to be passed on, by originator, which may look for two at a time, and number."""
        self._forwarded: dict[int, int] = {}
        """Sequence number of the last RREQ of an originator that was passed on."""
        self.on_lost: Callable[[int], object] = lambda _destination: None
        """Called with the destination of a route that has been forgotten because it does not carry."""
        self._paths = Paths(host, pib, scheduler, self.route)

    def clear(self) -> None:
        """Forget every route and everything under way, as when leaving a PAN; waiting calls get ``False``."""
        timers = [entry.timer for entry in self._replies.values()]
        timers += [entry.timer for entry in self._forwards.values()]
        for timer in timers:
            cancel(timer)
        self._replies.clear()
        self._forwards.clear()
        self._forwarded.clear()
        self.reverse.clear()
        self.table.clear()
        self.blacklist.clear()
        self._discoveries.clear()
        self._paths.clear()

    # Routes

    def route(self, destination: int) -> Route | None:
        """Return the route data can take to a destination."""
        return self.table.find(destination, self._scheduler.seconds())

    def add_route(self, destination: int, next_hop: int, cost: int, hops: int) -> None:
        """Know a route from elsewhere, such as the one to the coordinator through the agent of the join."""
        route = Route(destination)
        route.next_hop, route.cost, route.hops, route.weak_links = next_hop, cost, hops, 0
        route.bidirectional = True
        route.expires = self._expiry()
        self.table.offer(route, self._scheduler.seconds())

    def announce(self, destination: int) -> None:
        """Send an RREQ along a route that is known: all on the way, and the destination, learn the way back."""
        if self._pib.unicast_rreq and self.route(destination) is not None:
            self.ask(destination, unicast=True)

    def link_failed(self, destination: int, next_hop: int) -> None:
        """Forget the route to a destination if it goes through a neighbour that did not acknowledge."""
        route = self.table.find(destination, self._scheduler.seconds(), bidirectional=False)
        if route is not None and route.next_hop == next_hop:
            self.table.remove(destination)
            self.on_lost(destination)

    # Route discovery

    def discover(self, destination: int, done: Found, *, repair: bool = False) -> None:
        """Look for a route, see :meth:`flexmap.g3.discovery.Discoveries.discover`."""
        self._discoveries.discover(destination, done, repair=repair)

    def answering(self, destination: int) -> bool:
        """Return whether an RREP to a destination is due."""
        return destination in self._replies

    def ask(self, destination: int, *, unicast: bool, repair: bool = False) -> None:
        """Send an RREQ: along routes that are known on the way, or to everyone."""
        message = RouteMessage(
            Kind.RREQ,
            destination,
            self._host.short_address,
            self._next_sequence(),
            hop_limit=min(self._pib.max_hops, REPAIR_HOPS) if repair else self._pib.max_hops,
            repair=repair,
            unicast=unicast,
            metric=self._pib.metric_type,
        )
        self.counters.rreq += 1
        self._pass_on(message)

    # Messages

    def message(self, neighbour: int, lqi: int, octets: bytes, *, alone: bool = False) -> None:
        """Take a message from a neighbour; :class:`flexmap.model.error.RemoteError` if it is none.

        ``alone``: it came to this node only, not as a broadcast.
        """
        message = loadng_message.parse(octets)
        if self._host.short_address == BROADCAST:
            return
        if isinstance(message, RouteMessage):
            message = self._bounded(message, alone=alone)
            self._route_message(message, neighbour, lqi)
        elif isinstance(message, RouteError):
            self._route_error(message, neighbour)
        elif isinstance(message, PathMessage):
            self._paths.message(message, self._cost(neighbour, lqi))
        else:
            self.reverse.message(message, neighbour, directional_cost(self._pib, lqi, self._host.link(neighbour)))

    def _bounded(self, message: RouteMessage, *, alone: bool) -> RouteMessage:
        """Return a message as it may be passed on (ours: a crowded line carries no more)."""
        if message.kind != Kind.RREQ or not message.unicast:
            return message
        if not alone and len(self.table) > CROWD:
            # A hundred neighbours would each follow a route of their own: spread like any flood instead.
            return msgspec.structs.replace(message, unicast=False)
        if alone and message.hop_limit and self.route(message.destination) is None:
            # The route that it follows ends here: learned from, not passed on as a flood.
            return msgspec.structs.replace(message, hop_limit=1)
        return message

    def _route_message(self, message: RouteMessage, neighbour: int, lqi: int) -> None:
        own = self._host.short_address
        now = self._scheduler.seconds()
        request = message.kind == Kind.RREQ
        if message.originator == own or message.hop_limit == 0 or message.hop_count == MAX_HOPS:
            return
        if request and self.blacklist.holds(neighbour, now):
            return
        waiting = self._forwards.get((message.originator, message.sequence))
        if request and waiting is not None:
            waiting.copies += lqi >= self._pib.cluster_min_lqi
        known = self.table.find(message.originator, now, bidirectional=False)
        if (
            known is not None
            and known.sequence is not None
            and message.sequence != known.sequence
            and not newer(message.sequence, known.sequence)
        ):
            return
        if self._in_the_dark(message, neighbour) and self.reverse.hold(
            neighbour, lambda: self._take(message, neighbour, lqi)
        ):
            return
        self._take(message, neighbour, lqi)

    def _in_the_dark(self, message: RouteMessage, neighbour: int) -> bool:
        """Return whether the neighbour is to be asked how it hears this node (adpRLCEnabled)."""
        if not self._pib.rlc_enabled or message.metric != self._pib.metric_type:
            return False
        link = self._host.link(neighbour)
        return link is None or link.reverse_lqi is None

    def _take(self, message: RouteMessage, neighbour: int, lqi: int) -> None:
        """Learn from a route message, and pass it on or answer it if it shows a better way."""
        message = self._over_link(message, neighbour, lqi)
        if not self._learn(message, neighbour, lqi):
            return
        if message.destination != self._host.short_address:
            if message.hop_limit:
                self._forward(message, lqi)
        elif message.kind == Kind.RREQ:
            self._reply_later(message)
        else:
            self._discoveries.reached(message.originator)

    def _over_link(self, message: RouteMessage, neighbour: int, lqi: int) -> RouteMessage:
        """Return the message as it goes on: one hop further, the link it came over added."""
        composite = message.metric == self._pib.metric_type
        cost = message.cost + self._cost(neighbour, lqi) if composite else MAX_COST
        return RouteMessage(
            message.kind,
            message.destination,
            message.originator,
            message.sequence,
            min(cost, MAX_COST),
            message.hop_limit - 1,
            message.hop_count + 1,
            min(message.weak_links + (lqi < self._pib.weak_lqi), MAX_HOPS),
            message.repair,
            message.unicast,
            message.metric if composite else loadng_message.METRIC_HOP_COUNT,
        )

    def _learn(self, message: RouteMessage, neighbour: int, lqi: int) -> bool:
        """Take the route back to the originator; return whether it is a better one."""
        now = self._scheduler.seconds()
        replied = message.kind == Kind.RREP
        route = Route(message.originator)
        route.next_hop = neighbour
        route.cost = message.cost
        route.hops = message.hop_count
        route.weak_links = message.weak_links
        route.sequence = message.sequence
        route.bidirectional = replied
        route.expires = self._expiry()
        if not self.table.offer(route, now):
            return False
        if neighbour != message.originator:
            weak = lqi < self._pib.weak_lqi
            cost = self._cost(neighbour, lqi)
            self.table.neighbour(neighbour, cost, weak=weak, bidirectional=replied, expires=route.expires, now=now)
        return True

    def _cost(self, neighbour: int, lqi: int) -> int:
        load = len(self.table) / self.table.size
        return link_cost(self._pib, lqi, self._host.link(neighbour), load, self.reverse.known(neighbour))

    def _expiry(self) -> float:
        return self._scheduler.seconds() + 60 * self._pib.routing_ttl

    def _next_sequence(self) -> int:
        sequence = self.sequence
        self.sequence = (sequence + 1) & 0xFFFF
        return sequence

    def _forward(self, message: RouteMessage, lqi: int) -> None:
        if message.kind == Kind.RREP:
            self._send_reply(message)
            return
        if self._forwarded.get(message.originator) == message.sequence:
            # Passed on once by each node, with the best copy of the wait before: a flood has an end (ours).
            return
        key = message.originator, message.sequence
        waiting = self._forwards.get(key)
        if waiting is not None:
            waiting.message = message
            return
        if message.unicast and self.route(message.destination) is not None:
            self._pass_on_once(message)
            return
        if len(self._forwards) < FORWARDS:
            timer = self._scheduler.callLater(self._jitter(lqi), self._forward_now, key)
            self._forwards[key] = _Forward(message, timer)

    def _jitter(self, lqi: int) -> float:
        """Return how long to wait with an RREQ: longer over bad links, so that good ways win (rule C)."""
        pib = self._pib
        span = max(pib.jitter_high_lqi - pib.jitter_low_lqi, 1)
        bad = min(max((pib.jitter_high_lqi - lqi) / span, 0.0), 1.0)
        delay = pib.delay_high_lqi + bad * (pib.delay_low_lqi - pib.delay_high_lqi)
        return delay / 1000 * (0.5 + self._random.random())

    def _forward_now(self, key: tuple[int, int]) -> None:
        waiting = self._forwards.pop(key)
        if self._pib.cluster_trickle and waiting.copies >= self._pib.cluster_k:
            self.counters.rreq_spared += 1
            return
        self._pass_on_once(waiting.message)

    def _pass_on_once(self, message: RouteMessage) -> None:
        forwarded = self._forwarded
        forwarded.pop(message.originator, None)
        if len(forwarded) >= FORWARDED:
            del forwarded[next(iter(forwarded))]
        forwarded[message.originator] = message.sequence
        self.counters.rreq_forwarded += 1
        self._pass_on(message)

    def _pass_on(self, message: RouteMessage) -> None:
        """Send an RREQ along a known route where it may, else to everyone."""
        route = self.route(message.destination) if message.unicast else None
        if route is None:
            self._host.send_loadng(BROADCAST, message.encode(), None)
            return
        next_hop = route.next_hop

        def confirm(status: MacStatus) -> None:
            if status is not MacStatus.SUCCESS:
                self.link_failed(message.destination, next_hop)

        self._host.send_loadng(next_hop, message.encode(), confirm)

    # Route reply

    def _reply_later(self, message: RouteMessage) -> None:
        reply = self._replies.get(message.originator)
        if reply is not None and reply.timer.active():
            # The best copy by then is answered: the table holds it.
            reply.sequence, reply.repair = message.sequence, message.repair
            return
        timer = self._scheduler.callLater(self._pib.rrep_wait, self._reply, message.originator)
        self._replies[message.originator] = _Reply(message.sequence, timer, repair=message.repair)

    def _reply(self, originator: int) -> None:
        reply = self._replies.pop(originator)
        message = RouteMessage(
            Kind.RREP,
            originator,
            self._host.short_address,
            self._next_sequence(),
            hop_limit=self._pib.max_hops,
            repair=reply.repair,
            metric=self._pib.metric_type,
        )
        self._send_reply(message)

    def _send_reply(self, message: RouteMessage) -> None:
        """Send an RREP along the way its RREQ came; whether it is acknowledged tells if the way carries."""
        destination = message.destination
        route = self.table.find(destination, self._scheduler.seconds(), bidirectional=False)
        if route is None:
            return
        self.counters.rrep += 1
        next_hop = route.next_hop

        def confirm(status: MacStatus) -> None:
            now = self._scheduler.seconds()
            if status is MacStatus.NO_ACK:
                self.blacklist.add(next_hop, now + 60 * self._pib.blacklist_ttl)
                self.link_failed(destination, next_hop)
            elif status is MacStatus.SUCCESS:
                back = self.table.find(destination, now, bidirectional=False)
                if back is not None and back.next_hop == next_hop:
                    back.bidirectional = True
                    self._discoveries.reached(destination)

        self._host.send_loadng(next_hop, message.encode(), confirm)

    # Route error

    def report_error(self, originator: int, unreachable: int, error: int = 0) -> None:
        """Tell the originator of a packet that its destination cannot be reached from here."""
        now = self._scheduler.seconds()
        route = self.route(originator)
        if route is None or now - self._last_rerr < self._pib.rreq_wait:
            return
        self._last_rerr = now
        self.counters.rerr += 1
        message = RouteError(originator, self._host.short_address, unreachable, error, self._pib.max_hops)
        self._host.send_loadng(route.next_hop, message.encode(), None)

    def _route_error(self, message: RouteError, neighbour: int) -> None:
        own = self._host.short_address
        if message.originator == own or message.hop_limit == 0:
            return
        self.link_failed(message.unreachable, neighbour)
        route = self.route(message.destination)
        if message.destination == own or message.hop_limit == 1 or route is None:
            return
        further = msgspec.structs.replace(message, hop_limit=message.hop_limit - 1)
        self._host.send_loadng(route.next_hop, further.encode(), None)

    # Path discovery

    def discover_path(self, destination: int, done: PathFound) -> None:
        """Ask which nodes packets pass on their way to a destination and back, see :meth:`Paths.discover`."""
        self._paths.discover(destination, done)
