"""A PAN in virtual time: meters on feeders join, routes are found, the coordinator reads one after the other."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from flexmap.g3.bootstrap import State
from flexmap.g3.formed import form
from flexmap.g3.interface import COORDINATOR, Random
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.pan import Psks
from flexmap.g3.phy import Band, Modulation
from flexmap.g3.poll import Answerer, Poller, Read
from flexmap.g3.topology import CABLES, COORDINATOR_SPOT, Spot, network
from flexmap.g3.traffic import Traffic

PAN_ID = 0x781D
_COORDINATOR_EUI64 = bytes.fromhex("781d00fffe000000")
_STEP = 5.0
"""Seconds between looks at who has joined."""
_EVERY, _ALL_WITHIN = 3.0, 900.0
_MOST_HOPS = 15


class Settings(msgspec.Struct, frozen=True):
    """What to simulate; times in seconds, sizes in octets of UDP payload."""

    meters: int
    band: Band
    duration: float
    fastest: Modulation = Modulation.D8PSK
    formed: bool = False
    """Begin with a PAN that is formed already (:mod:`flexmap.g3.formed`)."""
    request: int = 23
    """With the compressed headers of IPv6 and UDP 29 octets behind the MAC header …"""
    reply: int = 94
    """… and 100."""
    parallel: int = 1
    """Reads under way at a time."""
    timeout: float = 20.0
    """Longest wait for a reply."""
    switch_on: float | None = None
    """Meters are switched on at random within so many seconds; 0: all at the same instant, as when the power comes
    back to a district. ``None``: one every 3 s on average, all within 15 minutes."""
    tone_map_minutes: int = 10
    """macTMRTTL of all nodes."""


class MeterReport(msgspec.Struct, frozen=True):
    """How one meter has fared."""

    name: str
    eui64: str
    short_address: int | None
    join_seconds: float | None
    """From being switched on."""
    hops: int | None
    """Of the route that the coordinator has, else of the one the meter has."""
    next_hop: int | None
    """The coordinator's side of its first link: an index of the report's meters, -1 the coordinator."""
    lqi: int | None
    """Of that link, as the meter hears it."""
    reads: int
    answered: int
    x: float
    y: float


class Spread(msgspec.Struct, frozen=True):
    """Figures in seconds."""

    least: float
    median: float
    p95: float
    most: float


class Report(msgspec.Struct, frozen=True):
    """What a simulation has shown."""

    meters: int
    joined: int
    seconds: float
    band: str
    all_joined_at: float | None
    join_seconds: Spread | None
    hops: dict[int, int]
    """Meters by hops."""
    reads: int
    answered: int
    reads_per_minute: float
    read_seconds: Spread | None
    read_seconds_by_hops: dict[int, float]
    """Medians."""
    airtime_joining: float
    """Share of the time on the air until polling began, all transmissions added (above 1 where feeders send at the
    same time)."""
    airtime_polling: float
    airtime_by_kind: dict[str, dict[str, float]]
    """The same shares by ``joining`` and ``polling``, then by kind of frame, the largest first."""
    round_minutes: tuple[float, ...]
    """How long each whole round of reads took, every meter once."""
    frames: int
    collisions: int
    losses: int
    discoveries: int
    failed_discoveries: int
    refusals: dict[str, int]
    each: tuple[MeterReport, ...]


def spread_of(values: list[float]) -> Spread | None:
    """Return least, median, 95th percentile and most of some figures."""
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(ordered[0], ordered[last // 2], ordered[round(last * 0.95)], ordered[last])


class Simulation:
    """One run: :meth:`run`, then :meth:`report`."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self.settings = settings
        self.time = VirtualTime()
        self._random = random
        self.medium = Medium(self.time, random, settings.band, Line(CABLES[settings.band.name]))
        psk = random.randbytes(16)
        at = Connection(COORDINATOR_SPOT.place)
        self.coordinator = Node.coordinator(self.medium, _COORDINATOR_EUI64, random, Psks(psk), at=at)
        self.spots = network(settings.meters, random)
        self.devices = [self._device(index, spot, psk) for index, spot in enumerate(self.spots, start=1)]
        for node in (self.coordinator, *self.devices):
            node.limit_modulation(settings.fastest)
            # As field profiles do: the way up needs no discovery, broadcasts keep apart.
            node.set("adpDefaultCoordRouteEnabled", 1)
            node.set("macBroadcastMaxCWEnable", 1)
        self.poller = Poller(self.coordinator, self.time, settings.request, settings.timeout)
        self.traffic = Traffic()
        for node in (self.coordinator, *self.devices):
            node.watch_traffic(self.traffic.tap)
            node.set("macTMRTTL", settings.tone_map_minutes)
        self.all_joined_at: float | None = None
        self._polling_from: float | None = None
        self._airtime_before = 0.0
        self._traffic_before: dict[str, float] = {}

    def _device(self, index: int, spot: Spot, psk: bytes) -> Node:
        eui64 = _COORDINATOR_EUI64[:5] + index.to_bytes(3, "big")
        node = Node.device(self.medium, eui64, self._random, psk, at=Connection(spot.place))
        Answerer(node, self.settings.reply)
        return node

    def joined(self) -> list[Node]:
        """Return the meters that are members."""
        return [device for device in self.devices if device.boot.state is State.JOINED]

    def run(self) -> None:
        """Run for the whole duration; reads begin when all have joined, or after half of it."""
        self.begin()
        self.poll()
        self.time.run(self.settings.duration)

    def begin(self) -> None:
        """Let all join, for half of the duration at most; or have a PAN that is formed, at once."""
        if self.settings.formed:
            form(self.medium, self.coordinator, self.devices, PAN_ID, self._random.randbytes(16))
            self.all_joined_at = 0.0
        else:
            self._join(self.settings.duration / 2)

    def _join(self, limit: float) -> None:
        s = self.settings
        self.coordinator.manager.start(PAN_ID)
        spread = min(_EVERY * s.meters, _ALL_WITHIN, limit / 2) if s.switch_on is None else s.switch_on
        for device in self.devices:
            self.time.callLater(spread * self._random.random(), device.boot.start)
        while self.time.seconds() < limit and self.all_joined_at is None:
            self.time.run(min(self.time.seconds() + _STEP, limit))
            if len(self.joined()) == s.meters:
                self.all_joined_at = max(device.boot.joined_at for device in self.devices)

    def poll(self) -> None:
        """Begin to read the meters that have joined."""
        self._polling_from = self.time.seconds()
        self._airtime_before = self.medium.statistics.airtime
        self._traffic_before = dict(self.traffic.seconds)
        self.poller.start([device.short_address for device in self.joined()], self.settings.parallel)

    # The report

    def way(self, device: Node) -> list[Node] | None:
        """Return the nodes between the coordinator and a meter, the meter last: the way down, else the way up."""
        nodes = {node.short_address: node for node in (self.coordinator, *self.joined())}
        down = self._follow(self.coordinator, device.short_address, nodes)
        if down is not None:
            return down[1:]
        up = self._follow(device, COORDINATOR, nodes)
        return None if up is None else up[-2::-1]

    def _follow(self, node: Node, target: int, nodes: dict[int, Node]) -> list[Node] | None:
        way = [node]
        while way[-1].short_address != target:
            route = way[-1].adp.loadng.route(target)
            following = None if route is None else nodes.get(route.next_hop)
            if following is None or len(way) > _MOST_HOPS:
                return None
            way.append(following)
        return way

    def _meter(self, index: int, device: Node, reads: list[Read]) -> MeterReport:
        member = device.boot.state is State.JOINED
        way = self.way(device) if member else None
        before = way[-2] if way is not None and len(way) > 1 else self.coordinator
        link = device.link_to(before.short_address) if way is not None else None
        spot = self.spots[index]
        return MeterReport(
            name=f"M{index + 1}",
            eui64=device.eui64.hex(),
            short_address=device.short_address if member else None,
            join_seconds=device.boot.joined_at - device.boot.started_at if member else None,
            hops=None if way is None else len(way),
            next_hop=None if way is None else -1 if before is self.coordinator else self.devices.index(before),
            lqi=None if link is None else link.lqi,
            reads=len(reads),
            answered=sum(read.seconds is not None for read in reads),
            x=spot.x,
            y=spot.y,
        )

    def _by_kind(self, began: float, now: float) -> dict[str, dict[str, float]]:
        """Return shares of the time by phase and kind; acknowledgements are what frames leave of the airtime."""
        polling = self.medium.statistics.airtime - self._airtime_before
        phases = {
            "joining": (self._traffic_before, self._airtime_before, began),
            "polling": (self.traffic.since(self._traffic_before), polling, now - began),
        }
        return {
            name: _shares({**seconds, "ACK": airtime - sum(seconds.values())}, length)
            for name, (seconds, airtime, length) in phases.items()
            if length > 0
        }

    def report(self) -> Report:
        """Return what has come of it until now."""
        by_meter: dict[int, list[Read]] = {}
        for read in self.poller.reads:
            by_meter.setdefault(read.short_address, []).append(read)
        each = tuple(
            self._meter(index, device, by_meter.get(device.short_address, []))
            for index, device in enumerate(self.devices)
        )
        now = self.time.seconds()
        began = now if self._polling_from is None else self._polling_from
        answered = [read.seconds for read in self.poller.reads if read.seconds is not None]
        statistics = self.medium.statistics
        nodes = (self.coordinator, *self.devices)
        joins = [meter.join_seconds for meter in each if meter.join_seconds is not None]
        return Report(
            meters=len(each),
            joined=len(joins),
            seconds=now,
            band=self.settings.band.name,
            all_joined_at=self.all_joined_at,
            join_seconds=None if self.settings.formed else spread_of(joins),
            hops=_count([meter.hops for meter in each]),
            reads=len(self.poller.reads),
            answered=len(answered),
            reads_per_minute=60 * len(answered) / (now - began) if now > began else 0.0,
            read_seconds=spread_of(answered),
            read_seconds_by_hops=_by_hops(each, by_meter),
            airtime_joining=self._airtime_before / began if began else 0.0,
            airtime_polling=(statistics.airtime - self._airtime_before) / (now - began) if now > began else 0.0,
            airtime_by_kind=self._by_kind(began, now),
            round_minutes=_rounds(self.poller.reads, began, len(joins)),
            frames=statistics.frames,
            collisions=statistics.collisions,
            losses=statistics.losses,
            discoveries=sum(node.adp.loadng.counters.discoveries for node in nodes),
            failed_discoveries=sum(node.adp.loadng.counters.failed_discoveries for node in nodes),
            refusals={name: n for name, n in self.coordinator.manager.counters.all().items() if n},
            each=each,
        )


def _shares(seconds: dict[str, float], length: float) -> dict[str, float]:
    ordered = sorted(seconds.items(), key=lambda pair: -pair[1])
    return {kind: spent / length for kind, spent in ordered if spent > 0}


def _rounds(reads: list[Read], began: float, meters: int) -> tuple[float, ...]:
    """Return the minutes of each whole round; without members there is none."""
    ends = [
        reads[last].start + (reads[last].seconds or 0.0) for last in range(meters - 1, len(reads), meters or 1)
    ]
    return tuple((end - start) / 60 for start, end in pairwise([began, *ends])) if meters else ()


def _count(hops: list[int | None]) -> dict[int, int]:
    known = [hop for hop in hops if hop is not None]
    return {hop: known.count(hop) for hop in sorted(set(known))}


def _by_hops(each: tuple[MeterReport, ...], by_meter: dict[int, list[Read]]) -> dict[int, float]:
    """Return the median time of a read by the hops of its meter."""
    seconds: dict[int, list[float]] = {}
    for meter in each:
        if meter.hops is not None and meter.short_address is not None:
            reads = by_meter.get(meter.short_address, [])
            seconds.setdefault(meter.hops, []).extend(read.seconds for read in reads if read.seconds is not None)
    medians = {hops: spread_of(values) for hops, values in sorted(seconds.items())}
    return {hops: spread.median for hops, spread in medians.items() if spread is not None}
