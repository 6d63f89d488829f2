"""Bootstrap of a G3 device: discovery, choice of an agent, join, re-key, kick and leave; agent for others.

A state machine over the MAC (scan, keys, addresses) and an :class:`LbpLink`. ITU-T G.9903 leaves the choice of the
agent and the back-offs to the stack; values here are those of field profiles, with their confidence.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from flexmap.g3 import lbp
from flexmap.g3.agent import Agent
from flexmap.g3.eap_psk import AuthenticationError, EapError
from flexmap.g3.exchange import PeerExchange, check_parameters, is_eap_success
from flexmap.g3.interface import (
    COORDINATOR,
    RC_COORD_UNKNOWN,
    Address,
    Beacon,
    LbpLink,
    Mac,
    MacStatus,
    Random,
    Scheduler,
    Timer,
)
from flexmap.g3.lbp import Kind, Message, Outcome, ParameterError, ParameterResult, Parameters

UNASSIGNED = 0xFFFF
KICK_WAIT = 1.0  # seconds between KICK and reset, so that the MAC still acknowledges it (confidence C)
# Estimate of the last link's cost from its LQI, for the choice of an agent: Kq, Kh of LOADng (A), span of LQI (C).
KQ, KH, LQI_LOW, LQI_HIGH = 10, 4, 52, 108


class Settings(msgspec.Struct, frozen=True):
    """How a device looks for a PAN and joins; times in seconds."""

    pan_id: int | None = None
    """The only PAN to join, ``None`` for any."""
    scan: float = 12.0
    """Beacon scan window (A)."""
    discovery_wait: tuple[float, float] = (1.0, 5.0)
    """Random wait before a scan, doubled by each fruitless one (A: field profiles) …"""
    discovery_wait_most: tuple[float, float] = (20.0, 100.0)
    """… up to this …"""
    crowded_wait_most: tuple[float, float] = (60.0, 300.0)
    """… or to this, once the coordinator has left an attempt without an answer (ours: hundreds may be waiting)."""
    join_wait: tuple[float, float] = (0.1, 2.5)
    """Random wait before JOINING, doubled by each failed attempt (A: field profiles) …"""
    join_wait_most: tuple[float, float] = (2.0, 10.0)
    """… up to this."""
    max_join_wait: float = 90.0
    """adpMaxJoinWaitTime (A: 90 s in field profiles, 20 s by default): silence that fails an attempt."""
    min_lqi: int = 53
    """Least link quality of an agent (A: field profiles) …"""
    first_lqi: int = 80
    """… which in the first scan is this (B: field profile) …"""
    lqi_step: int = 10
    """… and so much less in each further one (C: field profiles have 4 and 5 with shorter scans). Weak links fail
    when others are heard besides, and nearer agents may join soon."""
    attempts_per_scan: int = 3
    """Attempts before looking around anew (C)."""
    failures_per_agent: int = 2
    """Failed attempts after which an agent is left alone for ``agent_ttl`` (C)."""
    agent_ttl: float = 600.0
    """adpBlacklistTableEntryTTL (A)."""
    lost_after: float = 600.0
    """Silence of the coordinator after which a device that hears frames it cannot open looks for it, and joins
    again if it is not found (ours; see :mod:`flexmap.g3.watch`) …"""
    silence: float = 14_400.0
    """… and after which it does so in any case."""


class State(enum.Enum):
    """Where a device stands."""

    IDLE = "idle"
    DISCOVERY = "discovery"
    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"


class Membership(msgspec.Struct, frozen=True):
    """What a joined device keeps over a loss of power; holds keys."""

    pan_id: int
    short_address: int
    keys: tuple[tuple[int, bytes], ...]
    """Group master keys: index 0 or 1, and 16 octets."""
    active: int


class DeviceCounters:
    """What the bootstrap of a device has seen."""

    __slots__ = (
        "attempts",
        "authentication_failures",
        "declined",
        "kicked",
        "lost",
        "malformed",
        "scans",
        "unexpected",
    )

    def __init__(self) -> None:
        self.attempts = self.authentication_failures = self.declined = self.kicked = self.lost = 0
        self.malformed = self.scans = self.unexpected = 0


def path_cost(beacon: Beacon) -> float:
    """Return the estimated route cost to the coordinator through the node that sent a beacon."""
    badness = min(max((LQI_HIGH - beacon.lqi) / (LQI_HIGH - LQI_LOW), 0.0), 1.0)
    return beacon.rc_coord + KH + KQ * badness


def back_off(least: tuple[float, float], most: tuple[float, float], failures: int, random: Random) -> float:
    """Return a random wait from a window that doubles with each failure up to ``most``."""
    growth = 2.0 ** min(failures, 16)
    low, high = min(least[0] * growth, most[0]), min(least[1] * growth, most[1])
    return low + (high - low) * random.random()


class Device:
    """Bootstrap of one device (LBD), and agent (LBA) for others once it has joined."""

    __slots__ = (
        "_active",
        "_agent",
        "_attempts",
        "_blacklist",
        "_candidates",
        "_crowded",
        "_declined",
        "_exchange",
        "_failures",
        "_fruitless",
        "_keys",
        "_link",
        "_mac",
        "_psk",
        "_random",
        "_round",
        "_scheduler",
        "_timer",
        "agent",
        "counters",
        "joined_at",
        "on_joined",
        "on_left",
        "on_reset",
        "on_resumed",
        "settings",
        "started_at",
        "state",
    )

    def __init__(  # noqa: PLR0917 (the seams, then what is the device's own)
        self,
        mac: Mac,
        link: LbpLink,
        scheduler: Scheduler,
        random: Random,
        psk: bytes,
        settings: Settings | None = None,
    ) -> None:
        self._mac = mac
        self._link = link
        self._scheduler = scheduler
        self._random = random
        self._psk = psk
        self.settings = settings or Settings()
        self.state = State.IDLE
        self.counters = DeviceCounters()
        self.started_at = self.joined_at = 0.0
        self.on_joined: Callable[[], object] = lambda: None
        """Called when the device has joined."""
        self.on_left: Callable[[str], object] = lambda _reason: None
        """Called with ``kicked`` or ``left``."""
        self.on_reset: Callable[[], object] = lambda: None
        """Called when the MAC has been reset: what stands above it has to forget too."""
        self.on_resumed: Callable[[], object] = lambda: None
        """Called when the device is a member again without a join."""
        self._timer: Timer | None = None
        self._exchange: PeerExchange | None = None
        self._blacklist: dict[tuple[int, Address], float] = {}
        self._declined: set[int] = set()
        self._candidates: list[Beacon] = []
        self._failures: dict[tuple[int, Address], int] = {}
        self._agent: Beacon | None = None
        self._keys: dict[int, bytes] = {}
        self._active: int | None = None
        self._attempts = self._fruitless = self._round = 0
        self._crowded = False
        self.agent = Agent(link, scheduler, random)
        """Its part in the joins of others."""

    def _forget(self) -> None:
        """Return to nothing known of any PAN; what is still under way is of an earlier round."""
        self._candidates = []
        self._failures.clear()
        self._agent = None
        self._keys.clear()
        self._active = None
        self._attempts = self._fruitless = 0
        self._crowded = False
        self.agent.clear()
        self._round += 1
        self._exchange = None

    # What the owner asks

    def start(self) -> None:
        """Look for a PAN and join it."""
        if self.state is State.IDLE:
            self.started_at = self._scheduler.seconds()
            self._discover()

    def leave(self) -> None:
        """Tell the coordinator and forget the PAN; :meth:`start` begins anew."""
        if self.state is not State.JOINED:
            self._reset(State.IDLE)
            return
        self.state = State.LEAVING
        octets = Message(Kind.LEAVE, self._mac.eui64).encode()
        self._link.send_lbp(COORDINATOR, octets, lambda _status: self._gone("left", State.IDLE))

    def membership(self) -> Membership | None:
        """Return what to keep for :meth:`resume`, ``None`` outside a PAN. Keep the MAC's frame counter with it."""
        if self.state is not State.JOINED or self._active is None:
            return None
        mac = self._mac
        return Membership(mac.pan_id, mac.short_address, tuple(sorted(self._keys.items())), self._active)

    def resume(self, kept: Membership) -> None:
        """Be a member again after a loss of power, without a join."""
        self._reset(State.IDLE)
        self._mac.pan_id = kept.pan_id
        self._install(Parameters(kept.short_address, kept.keys, kept.active))
        self.state = State.JOINED
        self.started_at = self.joined_at = self._scheduler.seconds()
        self.on_resumed()

    def heard(self) -> list[Beacon]:
        """Return the agent of the join, and the others that its scan has shown."""
        agent = self._agent
        if agent is None:
            return []
        others = [b for b in self._candidates if b.pan_id == agent.pan_id and b.source != agent.source]
        return [agent, *others]

    def rejoin(self) -> None:
        """Forget the PAN and look for one again, as when its key does not fit any more."""
        self._reset(State.IDLE)
        self.start()

    # Discovery

    def _arm(self, delay: float, call: Callable[..., object], *args: object) -> None:
        self._disarm()
        self._timer = self._scheduler.callLater(delay, call, *args)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _discover(self) -> None:
        s = self.settings
        self.state = State.DISCOVERY
        self._agent = None
        self._attempts = 0
        most = s.crowded_wait_most if self._crowded else s.discovery_wait_most
        wait = back_off(s.discovery_wait, most, self._fruitless, self._random)
        self._arm(wait, self._scan)

    def _scan(self) -> None:
        self._fruitless += 1
        self.counters.scans += 1
        self._mac.pan_id = UNASSIGNED
        round_ = self._round
        self._mac.scan(self.settings.scan, lambda beacons: self._scanned(beacons, round_))

    def _scanned(self, beacons: list[Beacon], round_: int) -> None:
        if round_ != self._round or self.state is not State.DISCOVERY:
            return
        s, least = self.settings, self._least_lqi()
        self._candidates = [
            beacon
            for beacon in beacons
            if beacon.lqi >= least and beacon.rc_coord < RC_COORD_UNKNOWN and s.pan_id in (None, beacon.pan_id)
        ]
        self._next_agent()

    def _least_lqi(self) -> int:
        s = self.settings
        return max(s.min_lqi, s.first_lqi - s.lqi_step * (self._fruitless - 1))

    def _choose(self) -> Beacon | None:
        """Return the agent with the least estimated cost; those of PANs that have declined come last.

        Agents that are left alone come in only when there is none else down to the least quality: who has a single
        neighbour has to try it again.
        """
        now = self._scheduler.seconds()
        open_ = [b for b in self._candidates if self._blacklist.get((b.pan_id, b.source), now) <= now]
        if not open_ and self._least_lqi() == self.settings.min_lqi:
            open_ = self._candidates
        return min(open_, key=lambda b: (b.pan_id in self._declined, path_cost(b), -b.lqi), default=None)

    def _next_agent(self) -> None:
        s = self.settings
        agent = self._choose() if self._attempts < s.attempts_per_scan else None
        if agent is None:
            self._discover()
            return
        self._arm(back_off(s.join_wait, s.join_wait_most, self._attempts, self._random), self._join, agent)

    # Join

    def _join(self, agent: Beacon) -> None:
        self.state = State.JOINING
        self._agent = agent
        self._attempts += 1
        self._round += 1
        self.counters.attempts += 1
        self._mac.pan_id = agent.pan_id
        self._exchange = PeerExchange(self._psk, self._mac.eui64, self._random)
        self._answer(agent.source, b"")

    def _answer(self, destination: Address, data: bytes) -> None:
        """Send JOINING; while joining, wait for what follows and give the attempt up if it cannot be sent."""
        round_ = self._round

        def confirm(status: MacStatus) -> None:
            if status is not MacStatus.SUCCESS and round_ == self._round and self.state is State.JOINING:
                self._failed()

        if self.state is State.JOINING:
            self._arm(self.settings.max_join_wait, self._silence)
        self._link.send_lbp(destination, Message(Kind.JOINING, self._mac.eui64, data).encode(), confirm)

    def _silence(self) -> None:
        """Give an attempt up that was left without an answer; no other agent could do better now."""
        self._crowded = True
        self._attempts = self.settings.attempts_per_scan
        self._failed()

    def _failed(self) -> None:
        """Give an attempt up."""
        self._disarm()
        self._exchange = None
        self._round += 1
        agent = self._agent
        if agent is not None:
            key = (agent.pan_id, agent.source)
            self._failures[key] = self._failures.get(key, 0) + 1
            if self._failures[key] >= self.settings.failures_per_agent:
                self._failures[key] = 0
                self._blacklist[key] = self._scheduler.seconds() + self.settings.agent_ttl
        self.state = State.DISCOVERY
        self._next_agent()

    # What arrives

    def lbp_message(self, source: Address, message: bytes, *, secured: bool) -> None:
        """Take an LBP message: for this device, or to relay."""
        try:
            parsed = lbp.parse(message)
        except lbp.LbpError:
            self.counters.malformed += 1
            return
        if parsed.eui64 != self._mac.eui64:
            if self.state is State.JOINED and not self.agent.relay(source, parsed, message, secured=secured):
                self.counters.unexpected += 1
        elif self._trusted(source, secured):
            self._mine(source, parsed)
        else:
            self.counters.unexpected += 1

    def _trusted(self, source: Address, secured: bool) -> bool:
        """Return whether it comes from the attempt's agent or, once joined, protected from the coordinator."""
        if self.state is State.JOINED:
            return secured and source == COORDINATOR
        return self.state is State.JOINING and self._agent is not None and source == self._agent.source

    def _mine(self, source: Address, message: Message) -> None:
        if message.kind is Kind.CHALLENGE:
            self._challenged(source, message.data)
        elif message.kind is Kind.ACCEPTED:
            self._accepted(source, message.data)
        elif message.kind is Kind.DECLINE and self.state is State.JOINING:
            self.counters.declined += 1
            if self._agent is not None:
                self._declined.add(self._agent.pan_id)
            self._round += 1
            self._discover()
        elif message.kind is Kind.KICK and self.state is State.JOINED:
            self.counters.kicked += 1
            self._arm(KICK_WAIT, self._gone, "kicked", State.DISCOVERY)
        else:
            self.counters.unexpected += 1

    def _challenged(self, source: Address, request: bytes) -> None:
        if self._exchange is None:
            self._exchange = PeerExchange(self._psk, self._mac.eui64, self._random)
        try:
            reply = self._exchange.answer(request, self._check)
        except AuthenticationError:
            self.counters.authentication_failures += 1
        except EapError:
            self.counters.malformed += 1
        else:
            self._answer(source, reply)

    def _check(self, parameters: Parameters) -> None:
        check_parameters(parameters, joined=self.state is State.JOINED, held=set(self._keys), active=self._active)

    def _accepted(self, source: Address, data: bytes) -> None:
        """Take the end of an exchange, or (when joined) configuration parameters under the group's key."""
        if not is_eap_success(data):
            self._configured(source, data)
            return
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.staged is None:
            self.counters.unexpected += 1
            return
        self._install(exchange.staged)
        if self.state is State.JOINING:
            self._joined()

    def _configured(self, source: Address, data: bytes) -> None:
        if self.state is not State.JOINED:
            self.counters.malformed += 1
            return
        try:
            parameters = lbp.parse_parameters(data)
            self._check(parameters)
        except ParameterError as error:
            outcome = Outcome(error.result, error.parameter)
        else:
            self._install(parameters)
            outcome = Outcome(ParameterResult.SUCCESS)
        self._answer(source, Parameters(outcome=outcome).encode())

    def _install(self, parameters: Parameters) -> None:
        for index, key in parameters.keys:
            self._mac.set_key(index, key)
            self._keys[index] = key
        if parameters.activate is not None:
            self._mac.activate_key(parameters.activate)
            self._active = parameters.activate
        if parameters.remove is not None and self._keys.pop(parameters.remove, None) is not None:
            self._mac.remove_key(parameters.remove)
        if parameters.short_address is not None:
            self._mac.short_address = parameters.short_address

    def _joined(self) -> None:
        self._disarm()
        self.state = State.JOINED
        self.joined_at = self._scheduler.seconds()
        self._fruitless = 0
        self._declined.clear()
        self._failures.clear()
        self.on_joined()

    # The end

    def _gone(self, reason: str, then: State) -> None:
        self._reset(then)
        self.on_left(reason)

    def _reset(self, then: State) -> None:
        self._disarm()
        self._mac.reset()
        self.on_reset()
        self._forget()
        self.state = State.IDLE
        if then is State.DISCOVERY:
            self.start()
