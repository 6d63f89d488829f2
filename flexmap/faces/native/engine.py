"""The engine behind the MMS face: builds the variables, listens, writes samples, tells how it is doing."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from flexmap.faces.interface import OnCommand
from flexmap.faces.mms import EngineSettings, MmsLimits, MmsStatus, TlsSettings
from flexmap.faces.native import model
from flexmap.faces.native.clock import ReactorClock
from flexmap.faces.native.control import Desk, install_all
from flexmap.faces.native.folder import Folder
from flexmap.faces.native.listener import MmsFactory, TlsFactory
from flexmap.faces.native.tls import TlsContext
from flexmap.faces.native.values import Values
from flexmap.faces.tcp import Gate
from flexmap.faces.throttle import Throttle
from flexmap.mms.files import Files
from flexmap.mms.reports import Reports
from flexmap.mms.server import Limits, Server
from flexmap.mms.variables import Change, Device
from flexmap.model import ConfigurationError, Sample, Site
from flexmap.scl import served
from flexmap.scl.abilities import DYNAMIC_DATA_SETS, NATIVE

log = Logger(namespace="flexmap.mms")

_TICK = 1.0


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do not look for garbage while millions of objects are made that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class NativeEngine:
    """MmsEngine in the core process."""

    NAME: ClassVar[str] = NATIVE.engine

    def __init__(
        self,
        reactor: ReactorBase | None = None,
        settings: EngineSettings | None = None,
        *,
        command_timeout: float = 10.0,
    ) -> None:
        self._settings = settings or EngineSettings()
        self._reactor = cast("Any", reactor or global_reactor)
        self._limits = self._settings.limits or MmsLimits()
        self._gate = Gate(
            self._reactor,
            most=self._limits.max_connections,
            most_per_address=self._limits.max_connections_per_address,
        )
        self._tell = Throttle(self._reactor)
        self._host, self._port = "", 0
        self._listening: list[Any] = []
        self._server: Server | None = None
        self._values: Values | None = None
        self._reports: Reports | None = None
        self._desk: Desk | None = None
        self._command_timeout = command_timeout
        self._early: list[Sample] = []
        """Samples that came before the engine was started."""
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = self._reactor
        self._rate = 0.0
        self._counted = (0, 0.0)
        self._error = ""

    @property
    def status(self) -> MmsStatus:
        """Return how the engine is doing now."""
        values = self._values
        return MmsStatus(
            engine=self.NAME,
            serving=bool(self._listening),
            host=self._host,
            port=self._port,
            clients=len(self._server.associations) if self._server else 0,
            max_clients=self._limits.max_connections,
            samples=values.samples if values else 0,
            points=values.points if values else 0,
            points_per_second=self._rate,
            skipped=values.skipped if values else 0,
            commands=self._desk.count if self._desk else 0,
            error=self._error,
        )

    def start(self, site: Site, scl: bytes, address: tuple[str, int], on_command: OnCommand) -> Deferred[int]:
        """Serve a site on (host, port); see MmsEngine."""
        return maybeDeferred(self._start, site, scl, address, on_command)

    def _start(self, site: Site, scl: bytes, address: tuple[str, int], on_command: OnCommand) -> int:
        with _no_collection():
            ied = served.parse(scl, site.ied)
            built = model.build(ied, time.time_ns() // 1_000_000)
            self._values = Values(site, built, self._changed)
        lists, members = DYNAMIC_DATA_SETS
        self._server = Server(
            built.variables,
            identity=(ied.vendor, ied.type, ied.revision),
            limits=Limits(max_lists=lists, max_members=members),
            on_event=self._told,
        )
        files = self._settings.files
        if files is not None:
            Files(self._server, Folder(Path(files.folder), deletable=files.deletable))
        clock = ReactorClock(self._reactor)
        self._desk = Desk(on_command, self._values.last, clock, self._command_timeout)
        install_all(site, built, self._desk, clock, self._changed)
        self._reports = Reports(
            self._server,
            clock,
            store=self._settings.store,
            settable=ied.settable_report_fields,
            on_error=self._not_kept,
        )
        told = self._reports.told_times()
        self._values.begin_after({meter.id: told.get(built.devices[meter.ld].device, 0) for meter in site.meters})
        host, port = address
        if self._settings.plain:
            factory = MmsFactory(
                self._server, self._reactor, gate=self._gate, idle_timeout=self._limits.idle_timeout
            )
            self._listen(host, port, factory, "[mms] listen")
        tls = self._settings.tls
        if tls is not None:
            self._listen(tls.host, tls.port, self._secured(tls), "[mms.tls] listen")
        self._host, self._port = host, int(self._listening[0].getHost().port)
        self._ticks.start(_TICK, now=False).addErrback(self._failed)
        early, self._early = self._early, []
        self.update(early)
        log.info("MMS on {host}:{port} (native engine)", host=host, port=self._port)
        return self._port

    def _secured(self, tls: TlsSettings) -> TLSMemoryBIOFactory:
        """Return the factory of the TLS port; raises ConfigurationError."""
        context = TlsContext(tls, lambda text: log.error("{text}", text=text))
        factory = TlsFactory(
            self._server,
            self._reactor,
            gate=self._gate,
            idle_timeout=self._limits.idle_timeout,
            session=tls.session,
        )
        return TLSMemoryBIOFactory(cast("Any", context), isClient=False, wrappedFactory=cast("Any", factory))

    def _listen(self, host: str, port: int, factory: Any, where: str) -> None:
        try:
            self._listening.append(self._reactor.listenTCP(port, factory, interface=host))
        except CannotListenError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.socketError}",
                where=where,
                remedy="stop what listens there or choose another address",
            ) from None

    def update(self, samples: Iterable[Sample]) -> None:
        """Take new samples."""
        values = self._values
        if values is None:
            self._early += samples
            return
        now = self._reactor.seconds()
        for sample in samples:
            values.apply(sample, now)

    def identity(self, meter: str, point: str, text: str) -> None:
        """Show a new value of an identity point of a meter."""
        if self._values is not None:
            self._values.identify(meter, point, text)

    def stop(self) -> Deferred[None]:
        """Stop serving; fires when every connection is closed."""
        if self._ticks.running:
            self._ticks.stop()
        listening, self._listening = self._listening, []
        stopped = gatherResults([maybeDeferred(each.stopListening) for each in listening])
        self._gate.close()
        if self._reports is not None:
            self._reports.close()
        return stopped.addCallback(lambda _: None)

    def _tick(self) -> None:
        values = self._values
        if values is None:
            return
        now = self._reactor.seconds()
        values.tick(now, time.time_ns() // 1_000_000)
        points, then = self._counted
        if then and now > then:
            self._rate = (values.points - points) / (now - then)
        self._counted = (values.points, now)

    def _changed(self, device: Device, changes: list[Change]) -> None:
        """Take changed values: what reports are made from."""
        if self._reports is not None:
            self._reports.changed(device, changes)

    def _not_kept(self, error: str) -> None:
        self._error = error
        log.error("buffered reports are not kept: {error}", error=error)

    def _failed(self, failure: Failure) -> None:
        self._error = str(failure.value)
        log.failure("MMS engine's clock ended", failure)

    def _told(self, peer: str, text: str) -> None:
        self._tell(log.info, "MMS client {peer}: {what}", peer=peer, what=text)
