"""The adaptation layer of a G3-PLC node (ITU-T G.9903 clause 9): IPv6 and LBP over a mesh of MAC links.

Joins 6LoWPAN, LOADng and the transport of LBP above a :class:`flexmap.g3.interface.Mac`. Frames wait in two
bounded queues, urgent ones (LOADng, LBP, packets with priority) before the others, and go to the MAC one by one;
a packet without a route waits apart until LOADng has found one.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from functools import partial

from flexmap.g3 import iphc, ipv6, sixlowpan
from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import (
    BROADCAST,
    COORDINATOR,
    Address,
    Confirm,
    LbpUser,
    Link,
    Mac,
    MacIndication,
    MacStatus,
    Random,
    Scheduler,
)
from flexmap.g3.loadng import Loadng
from flexmap.g3.routing import COORDINATOR_TABLE_SIZE, RoutingTable
from flexmap.model.error import LocalError, RemoteError

QUEUE_LIMIT = 64
"""Frames or packets in each queue, and packets waiting for routes (ours)."""
BROADCAST_LOG_SIZE = 256
CONFIRM_WAIT = 120.0
"""Seconds; longer than any frame takes with all its retries (ours)."""
BROADCAST_JITTER = 0.5
"""Seconds; the longest a broadcast waits before it is passed on (C)."""
RC_COORD_UNKNOWN = 0x7FFF
"""Joined, but without a route to the coordinator yet (A)."""
_MULTICAST_BITS = 0x1FFF


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


AdpConfirm = Callable[[AdpStatus], object]
_Done = Callable[[AdpStatus, MacStatus], object]


class _Job:
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
        "secured",
        "urgent",
    )

    def __init__(
        self,
        payloads: list[bytes],
        *,
        final: int = BROADCAST,
        next_hop: Address | None = None,
        done: _Done | None = None,
    ) -> None:
        self.payloads = payloads
        self.index = 0
        self.final = final
        self.next_hop = next_hop
        """Set where no route is needed."""
        self.originator: int | None = None
        """Of a frame that is passed on, which has its mesh header already."""
        self.done = done
        self.priority = self.urgent = self.repaired = False
        self.secured = True


class Adp:
    """The ADP of one node; a :class:`flexmap.g3.interface.MacUser` and :class:`flexmap.g3.interface.LbpLink`."""

    __slots__ = (
        "_broadcast_log",
        "_broadcast_sequence",
        "_context_pan",
        "_current",
        "_given",
        "_mac",
        "_parked",
        "_parked_count",
        "_pumping",
        "_queue",
        "_random",
        "_reassembler",
        "_scheduler",
        "_tag",
        "_urgent",
        "contexts",
        "counters",
        "lbp_user",
        "loadng",
        "on_ipv6",
        "pib",
    )

    def __init__(
        self,
        mac: Mac,
        scheduler: Scheduler,
        random: Random,
        *,
        pib: AdpPib | None = None,
        coordinator: bool = False,
    ) -> None:
        self._mac = mac
        self._scheduler = scheduler
        self._random = random
        self.pib = pib or AdpPib()
        self.counters = AdpCounters()
        table = RoutingTable(COORDINATOR_TABLE_SIZE) if coordinator else RoutingTable()
        self.loadng = Loadng(self, self.pib, scheduler, random, table)
        self.on_ipv6: Callable[[bytes], object] = _ignore
        """Called with every IPv6 packet that has arrived whole."""
        self.lbp_user: LbpUser | None = None
        self.contexts: list[iphc.Context | None] = []
        """adpContextInformationTable; entry 0 is the PAN's own, set from its id."""
        self._context_pan: int | None = None
        self._reassembler = sixlowpan.Reassembler(scheduler.seconds)
        self._broadcast_log: dict[tuple[Address, int | None], float] = {}
        self._broadcast_sequence = random.randrange(0x100)
        self._tag = random.randrange(0x10000)
        self._urgent: deque[_Job] = deque()
        self._queue: deque[_Job] = deque()
        self._parked: dict[int, list[_Job]] = {}
        self._parked_count = 0
        self._current: _Job | None = None
        self._given = (0.0, BROADCAST)
        """When the MAC got the current frame, and which short address the node had."""
        self._pumping = False

    # What the layer above asks

    @property
    def short_address(self) -> int:
        """Short address, 0xFFFF while the node has none."""
        return self._mac.short_address

    def send_ipv6(self, packet: bytes, confirm: AdpConfirm | None = None, *, priority: bool = False) -> None:
        """ADPD-DATA.request: send an IPv6 packet of at most 1,280 octets to a node of the PAN or to a group.

        ``confirm`` learns what became of it up to the next hop. With ``priority`` it passes what else waits and
        uses the channel's high-priority window.
        """
        done: _Done | None = None if confirm is None else lambda status, _mac_status: confirm(status)
        own = self._mac.short_address
        destination = packet[24:40]
        multicast = destination[:1] == b"\xff"
        final = self._group(destination) if multicast else ipv6.short_address_of(destination, self._mac.pan_id)
        if own in {BROADCAST, final}:
            _tell(done, AdpStatus.INVALID_REQUEST)
            return
        if final is None:
            _tell(done, AdpStatus.INVALID_IPV6_FRAME)
            return
        try:
            payloads = self._encode(packet, own, final, broadcast=multicast)
        except LocalError:
            _tell(done, AdpStatus.INVALID_IPV6_FRAME)
            return
        job = _Job(payloads, final=final, next_hop=BROADCAST if multicast else None, done=done)
        job.priority = job.urgent = priority
        job.secured = bool(self.pib.security_level)
        self.counters.packets_sent += 1
        self._enqueue(job)

    def send_lbp(self, destination: Address, message: bytes, confirm: Confirm) -> None:
        """Send an LBP message, see :class:`flexmap.g3.interface.LbpLink`."""
        direct = isinstance(destination, bytes) or self._mac.short_address == BROADCAST
        payload = sixlowpan.escape(sixlowpan.COMMAND_LBP, message)
        done: _Done = lambda _status, mac_status: confirm(mac_status)  # noqa: E731
        job = _Job([payload], next_hop=destination if direct else None, done=done)
        if isinstance(destination, int):
            job.final = destination
        job.secured = not direct and bool(self.pib.security_level)
        job.urgent = True
        self._enqueue(job)

    def joined(self, agent: int) -> None:
        """Take note that the node has joined through an agent.

        With adpDefaultCoordRouteEnabled its route to the coordinator is known, and told along the way: no flood.
        """
        if not self.pib.default_coordinator_route:
            return
        near = agent == COORDINATOR
        cost = self.pib.kh if near else RC_COORD_UNKNOWN
        self.loadng.add_route(COORDINATOR, agent, cost, 1 if near else 2)
        if not near:
            self.loadng.add_route(agent, agent, self.pib.kh, 1)
        self.loadng.announce(COORDINATOR)

    def reset(self) -> None:
        """Forget routes, queues and whatever is under way, as when leaving a PAN; waiting calls learn FAILED."""
        parked = [job for jobs in self._parked.values() for job in jobs]
        jobs = [*self._urgent, *self._queue, *parked]
        if self._current is not None:
            jobs.append(self._current)
        self._current = None
        self._urgent.clear()
        self._queue.clear()
        self._parked.clear()
        self._parked_count = 0
        self._broadcast_log.clear()
        self._reassembler.clear()
        for job in jobs:
            _tell(job.done, AdpStatus.FAILED)
        self.loadng.clear()

    # What LOADng asks

    def link(self, neighbour: int) -> Link | None:
        """Return what the MAC knows of a neighbour."""
        return self._mac.link(neighbour)

    def send_loadng(self, neighbour: int, message: bytes, confirm: Confirm | None) -> None:
        """Send a LOADng message one hop far."""
        done: _Done | None = None if confirm is None else lambda _status, mac_status: confirm(mac_status)
        if self._mac.short_address == BROADCAST:
            _tell(done, AdpStatus.INVALID_REQUEST)
            return
        job = _Job([sixlowpan.escape(sixlowpan.COMMAND_LOADNG, message)], next_hop=neighbour, done=done)
        job.urgent = True
        job.secured = bool(self.pib.security_level)
        self._enqueue(job)

    # What the MAC tells

    def mac_beacon_request(self) -> int | None:
        """Return the route cost to the coordinator for a beacon, ``None`` outside a PAN."""
        own = self._mac.short_address
        if own in {BROADCAST, COORDINATOR}:
            return COORDINATOR if own == COORDINATOR else None
        route = self.loadng.route(COORDINATOR)
        return RC_COORD_UNKNOWN if route is None else min(route.cost, RC_COORD_UNKNOWN)

    def mac_security_failure(self, source: Address, reason: str) -> None:  # noqa: ARG002 (the seam's signature)
        """Count a frame that failed its protection."""
        self.counters.security_failures += 1

    def mac_data(self, indication: MacIndication) -> None:
        """Take a frame: deliver it, pass it on, or drop and count it."""
        try:
            self._take(indication)
        except RemoteError:
            self.counters.malformed += 1

    def _take(self, indication: MacIndication) -> None:
        msdu = indication.msdu
        lbp = msdu[:2] == b"\x40\x02"
        if not lbp and not indication.secured and self.pib.security_level:
            self.counters.unsecured += 1
            return
        own = self._mac.short_address
        if own == BROADCAST and not lbp:
            return
        headers = sixlowpan.parse_headers(msdu)
        originator, final = headers.originator, headers.final
        if originator is None or final is None:
            self._deliver(indication, indication.source, own, msdu)
        elif originator == own:
            self.counters.dropped_hops += 1
        elif headers.sequence is not None:
            self._broadcast(indication, headers, originator)
        elif final == own:
            self._deliver(indication, originator, own, msdu[headers.offset :])
        elif isinstance(final, int) and isinstance(originator, int):
            self._forward(msdu, originator, final, headers.hops_left)
        else:
            raise RemoteError("6LoWPAN: a mesh frame between EUI-64s")

    def _deliver(self, indication: MacIndication, originator: Address, final: int, payload: bytes) -> None:
        if payload[0] == sixlowpan.DISPATCH_ESC:
            self._command(indication, originator, payload)
            return
        link = self._link(originator, final)
        if sixlowpan.is_fragment(payload):
            packet = self._reassembler.add(payload, link)
        else:
            packet = sixlowpan.decode(payload, link)
        if packet is None:
            return
        self.counters.packets_received += 1
        reply = ipv6.echo_reply(packet) if packet[6] == ipv6.NEXT_HEADER_ICMPV6 else None
        if reply is None:
            self.on_ipv6(packet)
        else:
            self.send_ipv6(reply)

    def _command(self, indication: MacIndication, originator: Address, payload: bytes) -> None:
        command = payload[1] if len(payload) > 1 else -1
        if command == sixlowpan.COMMAND_LBP:
            if self.lbp_user is not None:
                self.lbp_user.lbp_message(originator, payload[2:], secured=indication.secured)
        elif command == sixlowpan.COMMAND_LOADNG:
            # One hop far: costs are those of the link it came over, so a mesh header has no place here.
            if originator is not indication.source or not isinstance(originator, int):
                raise RemoteError("LOADng: not from a neighbour")
            self.loadng.message(originator, indication.lqi, payload[2:])
        else:
            raise RemoteError(f"6LoWPAN: unknown command {command}")

    # Passing on

    def _forward(self, msdu: bytes, originator: int, final: int, hops_left: int) -> None:
        remaining = min(hops_left, self.pib.max_hops) - 1
        if remaining <= 0:
            self.counters.dropped_hops += 1
            self.loadng.report_error(originator, final, 1)
            return
        job = _Job([sixlowpan.one_hop_less(msdu, remaining)], final=final)
        job.originator = originator
        job.secured = bool(self.pib.security_level)
        self.counters.forwarded += 1
        self._enqueue(job)

    def _broadcast(self, indication: MacIndication, headers: sixlowpan.Headers, originator: Address) -> None:
        key = (originator, headers.sequence)
        if not self._first_time(key):
            self.counters.broadcasts_repeated += 1
            return
        remaining = min(headers.hops_left, self.pib.max_hops) - 1
        if remaining > 0:
            job = _Job([sixlowpan.one_hop_less(indication.msdu, remaining)], next_hop=BROADCAST)
            job.secured = bool(self.pib.security_level)
            self.counters.broadcasts_forwarded += 1
            self._scheduler.callLater(BROADCAST_JITTER * self._random.random(), self._enqueue, job)
        final = headers.final
        if isinstance(final, int) and final in self.pib.groups:
            self._deliver(indication, originator, final, indication.msdu[headers.offset :])

    def _first_time(self, key: tuple[Address, int | None]) -> bool:
        """Enter a broadcast into the log; return whether it was not there."""
        log = self._broadcast_log
        now = self._scheduler.seconds()
        expires = log.get(key)
        if expires is not None and expires > now:
            return False
        log.pop(key, None)
        while log and (len(log) >= BROADCAST_LOG_SIZE or next(iter(log.values())) <= now):
            del log[next(iter(log))]
        log[key] = now + 60 * self.pib.broadcast_log_ttl
        return True

    # Packets to frames

    def _link(self, source: Address, destination: Address) -> iphc.Link:
        pan_id = self._mac.pan_id
        if self._context_pan != pan_id:
            self._context_pan = pan_id
            self.contexts[:1] = [iphc.pan_context(pan_id)]
        return iphc.Link(source, destination, pan_id, self.contexts)

    def _encode(self, packet: bytes, own: int, final: int, *, broadcast: bool) -> list[bytes]:
        """Return the frames of a packet: a broadcast's are complete, others have room for a mesh header."""
        self._tag = (self._tag + 1) & 0xFFFF
        limit = sixlowpan.MAX_MSDU - sixlowpan.MESH_LENGTH - (sixlowpan.BC0_LENGTH if broadcast else 0)
        payloads = sixlowpan.encode(packet, self._link(own, final), self._tag, limit)
        if not broadcast:
            return payloads
        mesh = sixlowpan.mesh_header(self.pib.max_hops, own, final)
        return [mesh + self._next_broadcast() + payload for payload in payloads]

    def _next_broadcast(self) -> bytes:
        self._broadcast_sequence = (self._broadcast_sequence + 1) & 0xFF
        return sixlowpan.broadcast_header(self._broadcast_sequence)

    @staticmethod
    def _group(address: bytes) -> int:
        """Return the mesh address of a multicast group (RFC 4944 clause 9): ff02::1 is 0x8001."""
        return 0x8000 | int.from_bytes(address[14:], "big") & _MULTICAST_BITS

    # Frames to the MAC

    def _enqueue(self, job: _Job) -> None:
        queue = self._urgent if job.urgent else self._queue
        if len(queue) >= QUEUE_LIMIT:
            self.counters.dropped_full += 1
            _tell(job.done, AdpStatus.NO_BUFFERS, MacStatus.DENIED)
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
            job = (self._urgent or self._queue).popleft()
            next_hop = job.next_hop
            if next_hop is None:
                route = self.loadng.route(job.final)
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

    def _give_up_lost(self) -> None:
        """Stop waiting for a confirm that will not come: a MAC that was reset forgets what it had."""
        job, (at, as_address) = self._current, self._given
        if job is not None and (
            self._mac.short_address != as_address or self._scheduler.seconds() - at > CONFIRM_WAIT
        ):
            self._current = None
            self.counters.failed += 1
            _tell(job.done, AdpStatus.FAILED)

    def _frame(self, job: _Job, next_hop: Address) -> bytes:
        payload = job.payloads[job.index]
        if job.originator is not None or job.next_hop is not None or next_hop == job.final:
            return payload
        return sixlowpan.mesh_header(self.pib.max_hops, self._mac.short_address, job.final) + payload

    def _confirmed(self, job: _Job, next_hop: Address, status: MacStatus) -> None:
        if job is not self._current:
            return
        self._current = None
        if status is MacStatus.SUCCESS:
            job.index += 1
            if job.index < len(job.payloads):
                (self._urgent if job.urgent else self._queue).appendleft(job)
            else:
                _tell(job.done, AdpStatus.SUCCESS, status)
        elif status is MacStatus.NO_ACK and job.next_hop is None and isinstance(next_hop, int):
            self._repair(job, next_hop)
        else:
            self.counters.failed += 1
            _tell(job.done, AdpStatus.FAILED, status)
        self._pump()

    # Packets without a route

    def _repair(self, job: _Job, next_hop: int) -> None:
        """Look for another way where the next hop did not acknowledge: once for each packet."""
        self.loadng.link_failed(job.final, next_hop)
        if job.repaired:
            self._give_up(job)
            return
        job.repaired = True
        self.counters.repairs += 1
        self._park(job)

    def _park(self, job: _Job) -> None:
        if self._parked_count >= QUEUE_LIMIT:
            self.counters.dropped_full += 1
            _tell(job.done, AdpStatus.NO_BUFFERS, MacStatus.DENIED)
            return
        jobs = self._parked.setdefault(job.final, [])
        jobs.append(job)
        self._parked_count += 1
        if len(jobs) == 1:
            self.loadng.discover(job.final, partial(self._discovered, job.final), repair=job.repaired)

    def _discovered(self, final: int, found: bool) -> None:
        jobs = self._parked.pop(final, [])
        self._parked_count -= len(jobs)
        for job in jobs:
            if found:
                (self._urgent if job.urgent else self._queue).append(job)
            else:
                self._give_up(job)
        self._pump()

    def _give_up(self, job: _Job) -> None:
        self.counters.route_errors += 1
        if job.originator is not None:
            self.loadng.report_error(job.originator, job.final)
        _tell(job.done, AdpStatus.ROUTE_ERROR, MacStatus.NO_ACK)


def _tell(done: _Done | None, status: AdpStatus, mac_status: MacStatus = MacStatus.DENIED) -> None:
    if done is not None:
        done(status, mac_status)


def _ignore(_packet: bytes) -> None:
    pass
