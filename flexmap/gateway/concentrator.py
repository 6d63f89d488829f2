"""The concentrator as a process: PAN coordinator and shell; behind it simulated meters on a simulated line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any, cast

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.pan import AccessList, Psks
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES, COORDINATOR_SPOT
from flexmap.gateway.concentrator_config import Secrets, check_ports
from flexmap.gateway.concentrator_files import Files, Memory
from flexmap.gateway.concentrator_session import Full, RealTime, Session, Soon
from flexmap.gateway.g3_pan import G3Pan
from flexmap.gateway.power_line import SimulatedLine
from flexmap.gateway.run import begin_log
from flexmap.gateway.street import COUNTER_MARGIN, Street
from flexmap.lines.terminal import TerminalTransport
from flexmap.model import Meter, MeterType
from flexmap.sources.concentrator.port import Port, offer
from flexmap.sources.load import LoadProfile
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.images import Shelf
from flexmap.stcomet.login import Guard
from flexmap.stcomet.pan import Access

log = Logger(namespace="flexmap.concentrator")

COORDINATOR_EUI64 = bytes.fromhex("02464d00000000ff")
SAVE_SECONDS = 5.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags of `flexmap concentrator` say."""

    ports: tuple[Port, ...]
    """Where shells are, each for one user at a time (TCP: for many)."""
    state: Path
    settings: SimulationSettings
    band: str = "CENELEC-A"
    settle: float = 0.0
    """Seconds before the start since which a new PAN has been there."""
    attached: bool = False
    """End when standard input does."""
    secrets: Secrets = Secrets()
    sessions: int = 8
    """TCP sessions at a time, of one port."""


class _Attachment(Protocol):
    """Ends this process with the one that holds the other end of standard input."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002, N802 (Twisted's)
        if self._reactor.running:
            self._reactor.stop()


class Process:
    """Everything that `flexmap concentrator` runs."""

    def __init__(
        self, reactor: Any, meters: Sequence[tuple[Meter, MeterType]], load: LoadProfile, options: Options
    ) -> None:
        check_ports(options.ports, options.secrets)
        self._reactor = reactor
        self._options = options
        self._files = Files(options.state)
        memory = self._files.memory()
        frames = self._files.frames() if memory else []
        now = reactor.seconds()
        self._time = VirtualTime(now if memory else now - options.settle)
        random = SystemRandom()
        medium = Medium(
            self._time,
            generator(options.settings.seed, "medium"),
            BANDS[options.band],
            Line(CABLES[options.band]),
        )
        self._psk = options.secrets.psk or (memory.psk if memory else random.randbytes(16))
        counter = memory.frame_counter + COUNTER_MARGIN if memory else 0
        at = Connection(COORDINATOR_SPOT.place, frame_counter=counter)
        access = _access_list(memory.access) if memory else None
        psks = Psks(self._psk)
        self._node = Node.coordinator(medium, COORDINATOR_EUI64, random, psks, access=access, at=at)
        self._pan = G3Pan(self._node, random.randbytes)
        names = memory.names if memory else None
        shelf = Shelf(self._files.images())
        shelf.changed = lambda name: self._files.keep_image(name, shelf.get(name))
        self.core = Concentrator(self._pan, self._time, random.randrange(0x10000), names=names, shelf=shelf)
        self._pan.attach(self.core)
        if memory:
            self.core.read_up_to.update(memory.read_up_to)
        self.street = Street(
            meters, medium, self._time, self._psk, load=load, settings=options.settings, kept=frames
        )
        self.core.line = SimulatedLine(medium, self.street.nodes, self.street)
        self._frames = frames
        self._memory = memory
        self._random = random
        self._stops: list[Callable[[], Any]] = []

    def start(self) -> list[str]:
        """Form the PAN or go on with it, offer the shells; return where they are."""
        if self._memory:
            self._node.manager.resume(self._memory.pan)
            self._files.tidy(self._frames)
        else:
            self._node.manager.start(self._random.randrange(0xFFFF))
        self.street.begin(self._frames[-1].meters if self._frames else {})
        self._frames = []
        self.core.begin()
        self.core.updates.resume(self._memory.updates if self._memory else ())
        self._time.run(self._reactor.seconds())
        clock = RealTime(self._reactor, self._time)
        self._pan.changed = self.core.changed = Soon(self._reactor, self._keep_coordinator)
        self.street.changed = Soon(self._reactor, self.save)
        self.save()
        places = []
        for port in self._options.ports:
            place, stop = offer(self._reactor, port, self._sessions(port, clock), Full, self._options.sessions)
            places.append(place)
            self._stops.append(stop)
        clock.go_on()
        saving = LoopingCall(self.save)
        saving.clock = self._reactor
        saving.start(SAVE_SECONDS, now=False).addErrback(self._failed)
        self._stops += [saving.stop, clock.stop, self.save]
        return places

    def _sessions(self, port: Port, clock: RealTime) -> Callable[[], Session]:
        password = self._options.secrets.password if port.kind == "tcp" else ""
        guard = Guard(password, self._reactor.seconds, self._random.randbytes) if password else None
        return lambda: Session(self._reactor, self.core, clock, guard)

    def summary(self) -> str:
        """Return who is in the PAN, for people to read."""
        routes = [self._pan.route(member.short_address) for member in self._pan.members()]
        hops = Counter(route.hops for route in routes if route is not None)
        away = ", ".join(f"{count} at {number} hop{'s' * (number > 1)}" for number, count in sorted(hops.items()))
        return f"{len(routes)} of {len(self.street.nodes)} meters in the PAN" + (f": {away}" if away else "")

    def stop(self) -> None:
        """Stop, and keep what there is."""
        while self._stops:
            try:
                self._stops.pop(0)()
            except Exception:  # noqa: BLE001 (the other parts must stop too)
                log.failure("while stopping")

    def save(self) -> None:
        """Keep the coordinator's state and what the meters have measured."""
        frame = self.street.frame()
        if frame is not None:
            self._files.add(frame)
        self._keep_coordinator()

    def _keep_coordinator(self) -> None:
        manager = self._node.manager
        self._files.keep(
            Memory(
                manager.state(),
                self._psk,
                self._node.frame_counter,
                self._pan.access(),
                self.core.names,
                self.core.read_up_to,
                self.core.updates.kept(),
            )
        )

    def _failed(self, failure: Failure) -> None:
        log.failure("cannot keep the state", failure)
        self._reactor.stop()


def _access_list(access: Access) -> AccessList:
    white = None if access.white is None else set(map(bytes.fromhex, access.white))
    return AccessList(set(map(bytes.fromhex, access.black)), white)


def run(
    meters: Sequence[tuple[Meter, MeterType]],
    load: LoadProfile,
    options: Options,
    *,
    log_level: str = "warn",
    json_log: bool = False,
    ready: Callable[[Sequence[str], str], object] = lambda _places, _summary: None,
) -> None:
    """Serve until interrupted; ``ready`` learns where the shells are, and who is in the PAN.

    Raises FlexmapError if it cannot begin.
    """
    begin_log(log_level, as_json=json_log)
    reactor = cast("PosixReactorBase", global_reactor)
    Files(options.state).lock()
    process = Process(reactor, meters, load, options)
    failures: list[Exception] = []

    def begin() -> None:
        try:
            places = process.start()
            ready(places, process.summary())
            if options.attached:
                TerminalTransport(reactor, _Attachment(reactor), 0)
        except Exception as error:  # noqa: BLE001 (a process that cannot begin must end, whatever the cause)
            failures.append(error)
            cast("Any", reactor).stop()

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", process.stop)
    reactor.run()
    if failures:
        raise failures[0]
