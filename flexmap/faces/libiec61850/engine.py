"""The core's side of the engine: starts the worker process, supervises it, gives it all it needs after a restart.

The first restart follows at once, further ones with a growing delay. A worker that shows no sign of life for some
seconds is killed. While there is no worker, samples are only remembered: the last one of every meter is what the
next worker starts from.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable
from typing import ClassVar, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.bus import frames
from flexmap.bus.process import Child, Restarts
from flexmap.bus.protocol import CoreProtocol
from flexmap.faces.interface import OnCommand
from flexmap.faces.libiec61850 import limits
from flexmap.faces.mms import MmsStatus
from flexmap.model import CommandResult, ConfigurationError, LocalError, Sample, SamplePart, Site

log = Logger(namespace="flexmap.mms")

_MODULE = "flexmap.faces.libiec61850"
_BUS_FD = 3
_LEVELS = {"info": log.info, "warn": log.warn, "error": log.error}


class LibIec61850Engine:
    """MmsEngine on a supervised libiec61850 worker process."""

    NAME: ClassVar[str] = limits.ENGINE
    START_LIMIT: ClassVar[float] = 30.0
    """Seconds a worker may take from its start to its first status: it builds the model meanwhile."""
    START_TRIES: ClassVar[int] = 2
    """Restarts of a worker that has never served before start() fails."""
    SILENCE_LIMIT: ClassVar[float] = 6.0
    """Seconds without a status after which a serving worker is killed."""
    STOP_LIMIT: ClassVar[float] = 5.0
    """Seconds a worker may take to end."""

    def __init__(self, reactor: PosixReactorBase | None = None, command_timeout: float = 10.0) -> None:
        self._reactor = cast("PosixReactorBase", reactor or global_reactor)
        self._command_timeout = command_timeout
        self._last: dict[tuple[str, SamplePart], Sample] = {}
        """The last sample by meter, and by the part of its type that it carries."""
        self._identities: dict[tuple[str, str], frames.Identity] = {}
        self._worker: _Worker | None = None
        self._started: Deferred[int] | None = None
        self._stopping: Deferred[None] | None = None
        self._restarts = Restarts(self._reactor, self._spawn)
        self._ids = itertools.count(1)
        self._error = ""
        self._site: Site | None = None
        self._scl = b""
        self._host, self._port = "", 0
        self._on_command: OnCommand | None = None

    @property
    def status(self) -> MmsStatus:
        """Return how the engine is doing now."""
        worker = self._worker
        state = worker.status if worker is not None and worker.serving else None
        return MmsStatus(
            engine=self.NAME,
            serving=worker is not None and worker.serving,
            host=self._host,
            port=self._port,
            clients=state.clients if state else 0,
            max_clients=limits.MAX_CLIENTS,
            restarts=self._restarts.count,
            samples=state.samples if state else 0,
            points=state.points if state else 0,
            points_per_second=worker.rate if worker else 0.0,
            skipped=state.skipped if state else 0,
            commands=state.commands if state else 0,
            error=self._error,
        )

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self._worker.pid if self._worker is not None else None

    def start(self, site: Site, scl: bytes, address: tuple[str, int], on_command: OnCommand) -> Deferred[int]:
        """Serve a site on (host, port); see MmsEngine."""
        started: Deferred[int] = Deferred()
        try:
            limits.check_limits(site)
        except ConfigurationError:
            started.errback(Failure())
            return started
        self._site, self._scl, self._on_command = site, scl, on_command
        self._host, self._port = address
        self._started = started
        self._spawn()
        return started

    def update(self, samples: Iterable[Sample]) -> None:
        """Take new samples."""
        batch = tuple(samples)
        for sample in batch:
            self._last[sample.meter, sample.part] = sample
        if batch and self._worker is not None and self._worker.modelled:
            self._worker.send(frames.Samples(batch))

    def identity(self, meter: str, point: str, text: str) -> None:
        """Show a new value of an identity point of a meter."""
        self._identities[meter, point] = frame = frames.Identity(meter, point, text)
        if self._worker is not None and self._worker.modelled:
            self._worker.send(frame)

    def stop(self) -> Deferred[None]:
        """Stop the worker; fires when its process has ended."""
        stopped: Deferred[None] = Deferred()
        self._restarts.stop()
        if self._worker is None:
            stopped.callback(None)
        else:
            self._stopping = stopped
            self._worker.stop()
        return stopped

    def _spawn(self) -> None:
        self._worker = _Worker(self, self._reactor)

    def greeted(self, worker: _Worker) -> None:
        """Give a new worker its model and the whole state."""
        assert self._site is not None  # noqa: S101 - start() has set it
        worker.send(frames.Model(self._site, self._scl, self._host, self._port, self._command_timeout))
        worker.modelled = True
        if self._last:
            worker.send(frames.Samples(tuple(self._last.values())))
        for frame in self._identities.values():
            worker.send(frame)

    def received(self, worker: _Worker, frame: frames.ToCore) -> None:
        """Take a frame of the worker."""
        match frame:
            case frames.Status():
                pass
            case frames.Serving():
                self._serving(worker, frame.port)
            case frames.CommandFrame():
                self._command(worker, frame)
            case frames.Log():
                _LEVELS.get(frame.level, log.info)("MMS worker {pid}: {text}", pid=worker.pid, text=frame.text)
            case frames.Failed():
                self._refused(worker, frame)
            case frames.Hello():
                worker.kill("greeted twice")

    def _serving(self, worker: _Worker, port: int) -> None:
        self._port = port
        log.info("MMS on {host}:{port} (libiec61850, pid {pid})", host=self._host, port=port, pid=worker.pid)
        if self._started is not None:
            started, self._started = self._started, None
            started.callback(port)

    def _refused(self, worker: _Worker, frame: frames.Failed) -> None:
        error: Exception = (
            ConfigurationError(frame.what, where=frame.where, remedy=frame.remedy)
            if frame.where
            else LocalError(frame.what)
        )
        self._error = str(error)
        if self._started is None:
            log.error("MMS worker cannot serve: {error}", error=self._error)
            # It has served before, so the address may come back: keep trying, with the growing delay.
            worker.kill(self._error)
            return
        started, self._started = self._started, None
        self._stopping = Deferred()
        self._stopping.addCallback(lambda _: started.errback(error))
        worker.stop()

    def _command(self, worker: _Worker, frame: frames.CommandFrame) -> None:
        assert self._on_command is not None  # noqa: S101 - start() has set it
        asked = frame.command.id
        # Numbered anew: a restarted worker counts from one again.
        command = type(frame.command)(
            next(self._ids),
            frame.command.meter,
            frame.command.point,
            frame.command.value,
            frame.command.origin,
        )

        def failed(failure: Failure) -> CommandResult:
            log.failure("command {id} failed", failure, id=command.id)
            return CommandResult(command.id, done=False, cause=str(failure.value))

        def answer(result: CommandResult) -> None:
            if self._worker is worker:
                worker.send(frames.ResultFrame(CommandResult(asked, result.done, result.cause)))

        self._on_command(command).addErrback(failed).addCallback(answer)

    def ended(self, worker: _Worker, reason: str) -> None:
        """Restart a worker that ended without being told to."""
        self._worker = None
        if self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)
            if self._started is not None:
                started, self._started = self._started, None
                started.errback(LocalError("the MMS engine was stopped before it served"))
            return
        if self._started is not None and self._restarts.count >= self.START_TRIES:
            started, self._started = self._started, None
            started.errback(LocalError(f"the MMS worker does not start: {reason}"))
            return
        delay = self._restarts.again(worker.served_for())
        self._error = f"worker {worker.pid} ended: {reason}"
        log.error("MMS {error}; restart in {delay} s", error=self._error, delay=delay)


class _Worker(Child):
    """One worker process: its bus connection, its life signs."""

    def __init__(self, engine: LibIec61850Engine, reactor: PosixReactorBase) -> None:
        super().__init__(reactor, "MMS worker", log)
        self._engine = engine
        self.modelled = False
        self.status: frames.Status | None = None
        self.rate = 0.0
        self._status_time = 0.0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            factory = ServerFactory()
            self._bus = CoreProtocol(self._greeted, self._received, self._lost)
            factory.buildProtocol = lambda _: self._bus  # type: ignore[method-assign,assignment]
            reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
            self.spawn(["-m", _MODULE], {0: "w", 1: "r", 2: "r", _BUS_FD: theirs.fileno()}, engine.START_LIMIT)

    def send(self, frame: frames.ToWorker) -> None:
        """Send a frame."""
        self._bus.send(frame)

    def stop(self) -> None:
        """Ask the process to end, and see that it does."""
        self.send(frames.Stop())
        self.watch(self._engine.STOP_LIMIT, "did not stop in time")

    def _greeted(self, _hello: frames.Hello) -> None:
        self._engine.greeted(self)

    def _received(self, frame: frames.ToCore) -> None:
        if isinstance(frame, frames.Serving):
            self.served()
        if isinstance(frame, frames.Status):
            self._count(frame)
        if isinstance(frame, frames.Status | frames.Serving):
            self.watch(self._engine.SILENCE_LIMIT, f"no sign of life for {self._engine.SILENCE_LIMIT:g} s")
        self._engine.received(self, frame)

    def _count(self, status: frames.Status) -> None:
        now = self._reactor.seconds()
        if self.status is not None and now > self._status_time:
            self.rate = (status.points - self.status.points) / (now - self._status_time)
        self.status, self._status_time = status, now

    def _lost(self, reason: Exception) -> None:
        # The process ends by itself when the bus ends; one that cannot is killed.
        if not self._reason:
            self._reason = str(reason)
        if self.unwatch():
            self.watch(self._engine.STOP_LIMIT, self._reason)

    def ended(self, reason: str) -> None:
        """Tell the engine."""
        self._bus.close()
        self._engine.ended(self, reason)
