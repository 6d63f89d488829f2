"""The adaptation layer of a G3-PLC node (ITU-T G.9903 clause 9): IPv6 and LBP over a mesh of MAC links.

Joins 6LoWPAN, LOADng and the transport of LBP above a :class:`flexmap.g3.interface.Mac`; what leaves waits in an
:class:`flexmap.g3.outbox.Outbox`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexmap.g3 import iphc, ipv6, sixlowpan
from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.information import ADP_TABLES
from flexmap.g3.interface import (
    BROADCAST,
    COORDINATOR,
    RC_COORD_UNKNOWN,
    Address,
    Confirm,
    LbpUser,
    Link,
    Mac,
    MacIndication,
    Random,
    Scheduler,
    SecurityFailure,
)
from flexmap.g3.lbp import is_first_joining
from flexmap.g3.loadng import Loadng
from flexmap.g3.outbox import AdpCounters, AdpStatus, Done, Job, Outbox, tell
from flexmap.g3.routing import COORDINATOR_TABLE_SIZE, Blacklist, RoutingTable
from flexmap.g3.uplink import Uplink, Way
from flexmap.model.error import LocalError, RemoteError

__all__ = ["RC_COORD_UNKNOWN", "Adp", "AdpConfirm", "AdpCounters", "AdpStatus"]

BROADCAST_LOG_SIZE = 256
BROADCAST_JITTER = 0.5
"""Seconds; the longest a broadcast waits before it is passed on (C)."""
_MULTICAST_BITS = 0x1FFF


AdpConfirm = Callable[[AdpStatus], object]


class Adp:
    """The ADP of one node; a :class:`flexmap.g3.interface.MacUser` and :class:`flexmap.g3.interface.LbpLink`."""

    __slots__ = (
        "_broadcast_log",
        "_broadcast_sequence",
        "_context_pan",
        "_mac",
        "_outbox",
        "_random",
        "_reassembler",
        "_scheduler",
        "_tag",
        "answers_scans",
        "contexts",
        "counters",
        "lbp_user",
        "loadng",
        "on_coordinator",
        "on_fragment",
        "on_ipv6",
        "on_refused",
        "pib",
        "uplink",
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
        self.on_fragment: Callable[[Address], object] = lambda _originator: None
        """Called with the originator of every fragment of an IPv6 packet that is not yet whole."""
        self.on_coordinator: Callable[[], object] = lambda: None
        """Called with every protected frame that comes from the coordinator and is for this node."""
        self.on_refused: Callable[[SecurityFailure], object] = lambda _failure: None
        """Called with every frame that the MAC has refused."""
        self.lbp_user: LbpUser | None = None
        self.answers_scans: Callable[[], bool] = lambda: True
        """Asked before a beacon is sent."""
        self.contexts: list[iphc.Context | None] = []
        """adpContextInformationTable; entry 0 is the PAN's own, set from its id."""
        self._context_pan: int | None = None
        self._reassembler = sixlowpan.Reassembler(scheduler.seconds)
        self._broadcast_log: dict[tuple[Address, int | None], float] = {}
        self._broadcast_sequence = random.randrange(0x100)
        self._tag = random.randrange(0x10000)
        self.uplink = Uplink(mac, self.loadng, scheduler, random)
        self._outbox = Outbox(mac, scheduler, self.loadng, self.pib, self.counters, self.uplink.discover)

    # What the layer above asks

    @property
    def short_address(self) -> int:
        """Short address, 0xFFFF while the node has none."""
        return self._mac.short_address

    @property
    def routes(self) -> RoutingTable:
        """The routing table."""
        return self.loadng.table

    @property
    def blacklist(self) -> Blacklist:
        """Neighbours that do not hear this node."""
        return self.loadng.blacklist

    @property
    def broadcasts(self) -> dict[tuple[Address, int | None], float]:
        """Originator and sequence number of broadcasts seen, and until when they are remembered."""
        return self._broadcast_log

    def get(self, name: str) -> object:
        """Return an attribute or the rows of a table; :class:`LocalError` if there is none of this name."""
        table = ADP_TABLES.get(name)
        return self.pib.get(name) if table is None else table(self, self._scheduler.seconds())

    def send_ipv6(self, packet: bytes, confirm: AdpConfirm | None = None, *, priority: bool = False) -> None:
        """ADPD-DATA.request: send an IPv6 packet of at most 1,280 octets to a node of the PAN or to a group.

        ``confirm`` learns what became of it up to the next hop. With ``priority`` it passes what else waits and
        uses the channel's high-priority window.
        """
        done: Done | None = None if confirm is None else lambda status, _mac_status: confirm(status)
        own = self._mac.short_address
        destination = packet[24:40]
        multicast = destination[:1] == b"\xff"
        final = self._group(destination) if multicast else ipv6.short_address_of(destination, self._mac.pan_id)
        if own in {BROADCAST, final}:
            tell(done, AdpStatus.INVALID_REQUEST)
            return
        if final is None:
            tell(done, AdpStatus.INVALID_IPV6_FRAME)
            return
        try:
            payloads = self._encode(packet, own, final, broadcast=multicast)
        except LocalError:
            tell(done, AdpStatus.INVALID_IPV6_FRAME)
            return
        job = Job(payloads, final=final, next_hop=BROADCAST if multicast else None, done=done)
        job.priority = job.urgent = priority
        job.secured = bool(self.pib.security_level)
        self.counters.packets_sent += 1
        self._outbox.enqueue(job)

    def send_lbp(self, destination: Address, message: bytes, confirm: Confirm) -> None:
        """Send an LBP message, see :class:`flexmap.g3.interface.LbpLink`."""
        direct = isinstance(destination, bytes) or self._mac.short_address == BROADCAST
        payload = sixlowpan.escape(sixlowpan.COMMAND_LBP, message)
        done: Done = lambda _status, mac_status: confirm(mac_status)  # noqa: E731
        job = Job([payload], next_hop=destination if direct else None, done=done)
        if isinstance(destination, int):
            job.final = destination
        job.secured = not direct and bool(self.pib.security_level)
        job.urgent = True
        if is_first_joining(message):
            # One of many tries: not worth more than the MAC's own repetitions.
            job.resent = job.repaired = not direct
        self._outbox.enqueue(job)

    def joined(self, ways: Sequence[Way], min_lqi: int = 0) -> None:
        """Take note that the node has joined through the first of these ways to the coordinator.

        With adpDefaultCoordRouteEnabled its route is known, and told along the way: no flood.
        """
        if self.pib.default_coordinator_route:
            self.uplink.joined(ways, min_lqi)

    def reset(self) -> None:
        """Forget routes, queues and whatever is under way, as when leaving a PAN; waiting calls learn FAILED."""
        self._broadcast_log.clear()
        self._reassembler.clear()
        self._outbox.clear()
        self.uplink.clear()
        self.loadng.clear()

    # What LOADng asks

    def link(self, neighbour: int) -> Link | None:
        """Return what the MAC knows of a neighbour."""
        return self._mac.link(neighbour)

    def send_loadng(self, neighbour: int, message: bytes, confirm: Confirm | None) -> None:
        """Send a LOADng message one hop far."""
        done: Done | None = None if confirm is None else lambda _status, mac_status: confirm(mac_status)
        if self._mac.short_address == BROADCAST:
            tell(done, AdpStatus.INVALID_REQUEST)
            return
        job = Job([sixlowpan.escape(sixlowpan.COMMAND_LOADNG, message)], next_hop=neighbour, done=done)
        job.urgent = True
        job.secured = bool(self.pib.security_level)
        self._outbox.enqueue(job)

    # What the MAC tells

    def mac_beacon_request(self) -> int | None:
        """Return the route cost to the coordinator for a beacon, ``None`` outside a PAN."""
        own = self._mac.short_address
        if own in {BROADCAST, COORDINATOR}:
            return COORDINATOR if own == COORDINATOR else None
        if not self.answers_scans():
            return None
        route = self.loadng.route(COORDINATOR)
        return RC_COORD_UNKNOWN if route is None else min(route.cost, RC_COORD_UNKNOWN)

    def mac_security_failure(self, source: Address, failure: SecurityFailure) -> None:  # noqa: ARG002 (the seam's)
        """Count a frame that failed its protection."""
        self.counters.security_failures += 1
        self.on_refused(failure)

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
            self._forward(indication, originator, final, headers.hops_left)
        else:
            raise RemoteError("6LoWPAN: a mesh frame between EUI-64s")

    def _deliver(self, indication: MacIndication, originator: Address, final: int, payload: bytes) -> None:
        if originator == COORDINATOR and indication.secured:
            self.on_coordinator()
        if payload[0] == sixlowpan.DISPATCH_ESC:
            self._command(indication, originator, payload)
            return
        if originator == COORDINATOR and indication.secured:
            # A packet, which wants an answer: not LBP, which an agent passes on in the crowd of a join.
            self.uplink.heard()
        link = self._link(originator, final)
        if sixlowpan.is_fragment(payload):
            packet = self._reassembler.add(payload, link)
        else:
            packet = sixlowpan.decode(payload, link)
        if packet is None:
            self.on_fragment(originator)
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
            alone = indication.destination != BROADCAST
            self.loadng.message(originator, indication.lqi, payload[2:], alone=alone)
        else:
            raise RemoteError(f"6LoWPAN: unknown command {command}")

    # Passing on

    def _forward(self, indication: MacIndication, originator: int, final: int, hops_left: int) -> None:
        remaining = min(hops_left, self.pib.max_hops) - 1
        if remaining <= 0:
            self.counters.dropped_hops += 1
            self.loadng.report_error(originator, final, 1)
            return
        job = Job([sixlowpan.one_hop_less(indication.msdu, remaining)], final=final)
        job.originator = originator
        # No header of the mesh says how urgent a packet is: it goes on with the priority its frame came with.
        job.priority = job.urgent = indication.priority
        job.secured = bool(self.pib.security_level)
        self.counters.forwarded += 1
        self._outbox.enqueue(job)

    def _broadcast(self, indication: MacIndication, headers: sixlowpan.Headers, originator: Address) -> None:
        key = (originator, headers.sequence)
        if not self._first_time(key):
            self.counters.broadcasts_repeated += 1
            return
        remaining = min(headers.hops_left, self.pib.max_hops) - 1
        if remaining > 0:
            job = Job([sixlowpan.one_hop_less(indication.msdu, remaining)], next_hop=BROADCAST)
            job.priority = job.urgent = indication.priority
            job.secured = bool(self.pib.security_level)
            self.counters.broadcasts_forwarded += 1
            self._scheduler.callLater(BROADCAST_JITTER * self._random.random(), self._outbox.enqueue, job)
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


def _ignore(_packet: bytes) -> None:
    pass
