"""The concentrator as a process: PAN coordinator and shell; behind it simulated meters on a simulated line."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from flexmap.g3.pan import AccessList, PanState, Psks
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES, COORDINATOR_SPOT
from flexmap.gateway.g3_pan import G3Pan
from flexmap.gateway.run import begin_log
from flexmap.gateway.street import COUNTER_MARGIN, Frame, Street
from flexmap.model import ConfigurationError, FlexmapError, Meter, MeterType
from flexmap.sources.concentrator.port import Port, TerminalTransport, offer
from flexmap.sources.load import LoadProfile
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.metrology import DEPTH
from flexmap.stcomet.pan import Access
from flexmap.stcomet.shell import Shell

log = Logger(namespace="flexmap.concentrator")

COORDINATOR_EUI64 = bytes.fromhex("02464d00000000ff")
SAVE_SECONDS = 5.0
SLEEP_MOST = 1.0
MOST_UNREAD = 1 << 18
"""Octets that may wait for a terminal nobody reads; what comes after is dropped."""
_LENGTH = struct.Struct(">I")


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


class Memory(msgspec.Struct, frozen=True):
    """What the coordinator keeps over a restart. Holds keys."""

    pan: PanState
    psk: bytes
    frame_counter: int
    access: Access
    names: dict[str, str]
    read_up_to: dict[str, int]


class Files:
    """The state folder: ``pan.msgpack`` of the coordinator, ``meters-N.bin`` of the simulated meters."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make: {error.strerror}", where=f"{folder}: --state", remedy="choose another folder"
            ) from None
        self._folder = folder
        self._pan = folder / "pan.msgpack"

    def memory(self) -> Memory | None:
        """Return what was kept; None at the first start."""
        try:
            return msgspec.msgpack.decode(self._pan.read_bytes(), type=Memory)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"cannot be read: {error}", where=str(self._pan), remedy="remove the folder: a new PAN begins"
            ) from None

    def keep(self, memory: Memory) -> None:
        """Write, so that either the old or the new file is there whenever the process ends."""
        new = self._pan.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor of mode 0600)
            file.write(msgspec.msgpack.encode(memory))
        new.replace(self._pan)

    def frames(self) -> list[Frame]:
        """Return the meters' frames, the oldest first, as far as they are whole."""
        return [frame for path in self._logs() for frame in _frames(path)]

    def add(self, frame: Frame) -> None:
        """Append a frame; files beyond the ring buffer's depth go."""
        number = frame.second // DEPTH
        octets = msgspec.msgpack.encode(frame)
        path = self._folder / f"meters-{number}.bin"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "ab") as file:  # noqa: PTH123 (a descriptor of mode 0600)
            file.write(_LENGTH.pack(len(octets)) + octets)
        for old in self._logs():
            if _number(old) < number - 1:
                old.unlink(missing_ok=True)

    def tidy(self, frames: Sequence[Frame]) -> None:
        """Write what is whole anew, so that nothing is appended behind a torn frame."""
        for path in self._logs():
            path.unlink()
        for frame in frames:
            self.add(frame)

    def _logs(self) -> list[Path]:
        return sorted(self._folder.glob("meters-[0-9]*.bin"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("meters-"))


def _frames(path: Path) -> Iterator[Frame]:
    octets, place = path.read_bytes(), 0
    while place + _LENGTH.size <= len(octets):
        (length,) = _LENGTH.unpack_from(octets, place)
        place += _LENGTH.size
        try:
            yield msgspec.msgpack.decode(octets[place : place + length], type=Frame)
        except msgspec.DecodeError:
            return  # torn: the process ended while it wrote
        place += length


class RealTime:
    """Moves virtual time with the real one: whatever is due is called in its order, however late."""

    def __init__(self, reactor: Any, virtual: VirtualTime) -> None:
        self._reactor = reactor
        self._virtual = virtual
        self._offset = reactor.seconds() - time.monotonic()
        self._call: Any = None

    def catch_up(self) -> None:
        """Make the calls that are due."""
        self._virtual.run(time.monotonic() + self._offset)

    def go_on(self) -> None:
        """Catch up, and come back for the next call."""
        self.catch_up()
        if self._call is not None and self._call.active():
            self._call.cancel()
        due = self._virtual.next_time()
        wait = SLEEP_MOST if due is None else due - self._virtual.seconds()
        self._call = self._reactor.callLater(min(max(wait, 0.0), SLEEP_MOST), self.go_on)

    def stop(self) -> None:
        """Come back no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


class _Session(Protocol):
    """A shell on a transport."""

    def __init__(self, concentrator: Concentrator, clock: RealTime) -> None:
        self._concentrator = concentrator
        self._clock = clock
        self._shell: Shell | None = None

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's name)
        self._shell = Shell(self._concentrator, self._write)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 (Twisted's name)
        self._clock.catch_up()
        if self._shell is not None:
            self._shell.feed(data)
        self._clock.go_on()

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002, N802 (Twisted's)
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def _write(self, octets: bytes) -> None:
        transport: Any = self.transport
        waiting = len(getattr(transport, "dataBuffer", b"")) + getattr(transport, "_tempDataLen", 0)
        if waiting < MOST_UNREAD:
            transport.write(octets)


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
        self._psk = memory.psk if memory else random.randbytes(16)
        counter = memory.frame_counter + COUNTER_MARGIN if memory else 0
        at = Connection(COORDINATOR_SPOT.place, frame_counter=counter)
        access = _access_list(memory.access) if memory else None
        psks = Psks(self._psk)
        self._node = Node.coordinator(medium, COORDINATOR_EUI64, random, psks, access=access, at=at)
        self._pan = G3Pan(self._node, random.randbytes)
        names = memory.names if memory else None
        self.core = Concentrator(self._pan, self._time, random.randrange(0x10000), names=names)
        self._pan.attach(self.core)
        if memory:
            self.core.read_up_to.update(memory.read_up_to)
        self.street = Street(
            meters, medium, self._time, self._psk, load=load, settings=options.settings, kept=frames
        )
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
        self._time.run(self._reactor.seconds())
        clock = RealTime(self._reactor, self._time)
        self._pan.changed = lambda: self._reactor.callLater(0, self._keep_coordinator)
        self.save()
        places = []
        for port in self._options.ports:
            place, stop = offer(self._reactor, port, lambda: _Session(self.core, clock))
            places.append(place)
            self._stops.append(stop)
        clock.go_on()
        saving = LoopingCall(self.save)
        saving.clock = self._reactor
        saving.start(SAVE_SECONDS, now=False).addErrback(self._failed)
        self._stops += [saving.stop, clock.stop, self.save]
        return places

    def summary(self) -> str:
        """Return who is in the PAN, for people to read."""
        routes = [self._pan.route(member.short_address) for member in self._pan.members()]
        hops = Counter(route.hops for route in routes if route is not None)
        away = ", ".join(f"{count} at {number} hop{'s' * (number > 1)}" for number, count in sorted(hops.items()))
        return f"{len(routes)} of {len(self.street.nodes)} meters in the PAN" + (f": {away}" if away else "")

    def stop(self) -> None:
        """Stop, and keep what there is."""
        while self._stops:
            with contextlib.suppress(AssertionError):  # the looping call has ended by a fault
                self._stops.pop(0)()

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
    process = Process(reactor, meters, load, options)
    failures: list[FlexmapError] = []

    def begin() -> None:
        try:
            places = process.start()
            ready(places, process.summary())
            if options.attached:
                TerminalTransport(reactor, _Attachment(reactor), 0)
        except FlexmapError as error:
            failures.append(error)
            cast("Any", reactor).stop()

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", process.stop)
    reactor.run()
    if failures:
        raise failures[0]
