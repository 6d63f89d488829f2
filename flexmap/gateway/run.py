"""Runs a configured site: builds the parts, starts them in order, stops them in the other order."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from flexmap.faces import mms_engines
from flexmap.faces.dlms.face import DlmsFace
from flexmap.faces.dlms.updates import Updates
from flexmap.faces.interface import Face
from flexmap.faces.mms import EngineSettings, TlsSettings
from flexmap.faces.mms_face import MmsFace
from flexmap.gateway.clocks import ClockDesk
from flexmap.gateway.config import Config
from flexmap.gateway.dlms_face import METER_FILES, dlms_settings
from flexmap.gateway.engineered import Picks, apply
from flexmap.gateway.firmware import FirmwareDesk
from flexmap.gateway.history import StoreHistory
from flexmap.gateway.metrics import Metrics
from flexmap.gateway.mms_tls import tls_settings
from flexmap.gateway.secrets import Secret
from flexmap.gateway.sections import ConcentratorSection, SimulationSection, SourceSection
from flexmap.gateway.service import Gateway
from flexmap.gateway.web import make_site
from flexmap.model import ConfigurationError, FlexmapError, Meter, MeterType, Site
from flexmap.scl.communication import Address
from flexmap.scl.engineered import Engineered
from flexmap.scl.generate import FileKind, generate
from flexmap.sources.concentrator.port import parse_port
from flexmap.sources.concentrator.source import ConcentratorSource
from flexmap.sources.concentrator.source import Settings as ConcentratorSettings
from flexmap.sources.interface import Source
from flexmap.sources.load import read_load, sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.sources.simulation.source import SimulationSource
from flexmap.store import Store, StoreSettings
from flexmap.store.files import MeterFiles

log = Logger(namespace="flexmap.gateway")

DATABASE = "flexmap.sqlite"
FLUSH_SECONDS = 2.0
PRUNE_SECONDS = 600.0
LAG_SECONDS = 1.0


def run(
    config: Config,
    secrets: Mapping[str, Secret],
    *,
    log_level: str = "info",
    json_log: bool = False,
    beside: Companion | None = None,
    engineered: Engineered | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve until interrupted, and run what is ``beside``; ``ready`` is called once clients can connect.

    With a file that was ``engineered``, MMS serves the site under its names, at its address.

    Raises FlexmapError if the site cannot be served.
    """
    begin_log(log_level, as_json=json_log)
    reactor = cast("PosixReactorBase", global_reactor)
    failures: list[BaseException] = []
    service = Service(reactor, config, secrets, beside, engineered=engineered)

    def failed(failure: Failure) -> None:
        if service.stopping:
            return  # interrupted while it started
        if failure.value is not None:
            failures.append(failure.value)
        if not failure.check(FlexmapError):
            log.failure("cannot start", failure)
        if reactor.running:
            reactor.stop()

    def begin() -> None:
        started = Deferred.fromCoroutine(service.start())
        if ready is not None:
            started.addCallback(lambda _: ready())
        started.addErrback(failed)

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(service.stop()))
    reactor.run()
    if failures:
        raise failures[0]


def begin_log(level: str, *, as_json: bool) -> None:
    """Write events of a level and above to standard error, as text or as JSON."""
    observer: Any = jsonFileLogObserver(sys.stderr, "") if as_json else textFileLogObserver(sys.stderr)
    least: Any = LogLevelFilterPredicate(defaultLogLevel=LogLevel.lookupByName(level))
    if level != "debug":
        least.setLogLevelForNamespace("twisted", LogLevel.warn)  # "Main loop terminated." tells users nothing
    chosen: Any = FilteringLogObserver(observer, [least])
    globalLogBeginner.beginLoggingTo([chosen], redirectStandardIO=False)


class Companion(Protocol):
    """What runs beside the site, such as the concentrator that a source reads."""

    def start(self) -> Deferred[None]:
        """Start; fires when sources can use it, fails with FlexmapError if it cannot start."""

    def stop(self) -> Deferred[None]:
        """Stop; fires when it has ended."""


@contextmanager
def _no_collector() -> Iterator[None]:
    """Build what stays to the end: the collector of reference cycles never looks through it.

    With thousands of meters it would take two thirds of the start, and hold up answers later on.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


class _Served(NamedTuple):
    """What the MMS face serves."""

    site: Site
    scl: bytes
    address: tuple[str, int]
    picks: Picks | None


class Service:
    """All parts of a running site."""

    def __init__(
        self,
        reactor: PosixReactorBase,
        config: Config,
        secrets: Mapping[str, Secret],
        beside: Companion | None = None,
        *,
        engineered: Engineered | None = None,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._secrets = secrets
        self._beside = beside
        self._engineered = engineered
        self.metrics = Metrics()
        self._stops: list[Callable[[], object]] = []
        """What undoes each step of the start, in its order."""
        self._faces: dict[str, Face] = {}
        self._store: Store | None = None
        self.stopping = False
        """Whether the end has begun."""

    async def start(self) -> None:
        """Start every part; fires when clients can connect, fails with FlexmapError if one cannot start."""
        config = self._config
        served = self._served()
        mms_engines.check_limits(config.mms.engine, served.site)
        tls = tls_settings(config)
        store = self._store = self._open_store()
        companion = self._begin_beside()
        gateway = Gateway(self._reactor, config.site, store, self.metrics)
        last = store.last_samples()
        gateway.resume(list(last.values()))
        for section in config.sources:
            gateway.add_source(section.name, self._source(section, last, store), section.max_age)
        files = MeterFiles(config.resolve(config.store.folder) / METER_FILES)
        firmware = FirmwareDesk(gateway, config.site, files)
        head_end = frozenset(section.name for section in config.sources if section.clock == "head-end")
        clocks = ClockDesk(self._reactor, gateway, config.site, files, head_end)
        with _no_collector():
            dlms = DlmsFace(
                self._reactor,
                config.site,
                dlms_settings(config, self._secrets),
                store=store,
                on_command=gateway.command,
                updates=Updates(firmware, files),
                clocks=clocks,
                on_event=gateway.event,
            )
        gateway.on_samples = dlms.observe
        engine = mms_engines.engine(config.mms.engine, self._engine_settings(store, tls))
        mms = MmsFace(engine, served.site, served.scl, served.address, gateway.command, picks=served.picks)
        self._faces = {"dlms": dlms, "mms": mms}
        for face in self._faces.values():
            gateway.add_face(face)
            self._stops.append(face.stop)
            await face.start()
        firmware.resume()
        clocks.resume()
        self._serve_web()
        await companion
        gateway.start()
        self._stops.append(gateway.stop)
        for source in gateway.sources:
            self._stops.append(source.stop)
            source.start(gateway)
        self._repeat(LAG_SECONDS, self._lag_meter())

    def _served(self) -> _Served:
        """Return what the MMS face serves: the site as it is configured, or as a file names it."""
        config, file = self._config, self._engineered
        address = (config.mms.host, config.mms.port)
        if file is None:
            place = Address(host=config.mms.host, port=config.mms.port)
            scl = generate(config.site, FileKind.CID, address=place, abilities=config.mms.abilities)
            return _Served(config.site, scl, address, None)
        named = apply(config.site, file)
        for inst in named.unused:
            log.warn(
                "logical device {inst} of {file} is served without values: no meter has it",
                inst=inst,
                file=file.where,
            )
        if file.address is not None:
            address = (file.address.host, file.address.port)
        return _Served(named.site, file.scl, address, named.picks)

    async def stop(self) -> None:
        """Stop every part that was started, the last one first."""
        self.stopping = True
        while self._stops:
            stop = self._stops.pop()
            try:
                await maybeDeferred(stop)
            except Exception:  # noqa: BLE001 (the other parts must stop too)
                log.failure("while stopping")

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every face serves, and its figures."""
        faces = {name: face.health() for name, face in self._faces.items()}
        failing = self._store.failing if self._store else "not open"
        parts = {name: {"healthy": well, **figures} for name, (well, figures) in faces.items()}
        parts["store"] = {"healthy": not failing, "error": failing}
        return all(part["healthy"] for part in parts.values()) and not self.stopping, parts

    def _engine_settings(self, store: Store, tls: TlsSettings | None) -> EngineSettings:
        section, files = self._config.mms, self._config.mms.files
        if files is not None:
            files = msgspec.structs.replace(files, folder=str(self._config.resolve(files.folder)))
        return EngineSettings(
            limits=section.limits, files=files, store=store.reports, tls=tls, plain=section.plain
        )

    def _begin_beside(self) -> Deferred[None]:
        """Start what runs beside the site: after the store has made sure that nobody else serves it."""
        if self._beside is None:
            return succeed(None)
        self._stops.append(self._beside.stop)
        return self._beside.start()

    def _open_store(self) -> Store:
        section = self._config.store
        folder = self._config.resolve(section.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            remedy = "choose another folder"
            raise ConfigurationError(
                f"cannot make: {error.strerror}", where=f"{folder}: [store] folder", remedy=remedy
            ) from None
        retention = section.retention
        settings = StoreSettings(
            samples_days=retention.samples_days,
            profile_days=retention.profile_days,
            profile_2_days=retention.profile_2_days,
            events_days=retention.events_days,
            time_zone=self._config.site.time_zone,
        )
        concentrators = {each.name for each in self._config.sources if isinstance(each, ConcentratorSection)}
        filled = {meter.id for meter in self._config.site.meters if meter.source in concentrators}
        store = Store(folder / DATABASE, self._config.site, settings, filled=filled)
        self._stops.append(store.close)
        self._repeat(FLUSH_SECONDS, store.flush)
        self._repeat(PRUNE_SECONDS, lambda: store.prune(int(self._reactor.seconds() * 1000)))
        return store

    def _source(self, section: SourceSection, last: Mapping[str, Any], store: Store) -> Source:
        site = self._config.site
        meters = [(meter, site.type_of(meter)) for meter in site.meters if meter.source == section.name]
        if isinstance(section, ConcentratorSection):
            port = parse_port(section.port, "port")
            if port.path:
                port = msgspec.structs.replace(port, path=str(self._config.resolve(port.path)))
            password = self._secrets.get(section.name, Secret()).password
            settings = ConcentratorSettings(port, section.interval, section.depth, password)
            source = ConcentratorSource(section.name, meters, settings, self._reactor, StoreHistory(store))
            self.metrics.add_concentrator(section.name, source.figures)
            return source
        return self._simulation(section, meters, last)

    def _simulation(
        self, section: SimulationSection, meters: Sequence[tuple[Meter, MeterType]], last: Mapping[str, Any]
    ) -> Source:
        load = read_load(self._config.resolve(section.load)) if section.load else sample_load()
        settings = SimulationSettings(
            seed=section.seed,
            substation=section.substation or None,
            utc_offset=section.utc_offset,
            pv_share=section.pv_share,
            tampers_per_day=section.tampers_per_day,
        )
        where = f"{self._config.path}: [[source]] '{section.name}'"
        try:
            model = SiteModel(meters, load, settings, last)
        except ConfigurationError as error:
            raise ConfigurationError(error.what, where=f"{where} {error.where}", remedy=error.remedy) from None
        return SimulationSource(section.name, model, self._reactor, seed=section.seed)

    def _serve_web(self) -> None:
        endpoint = self._config.web.endpoint
        self.metrics.add_health(self.health)
        try:
            port: Any = self._reactor.listenTCP(
                endpoint.port, make_site(self.metrics.registry, self.health), interface=endpoint.host
            )
        except CannotListenError as error:
            raise ConfigurationError(
                f"cannot listen on {endpoint}: {error.socketError}",
                where="[web] listen",
                remedy="stop what listens there or choose another port",
            ) from None
        self._stops.append(port.stopListening)

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
        loop = LoopingCall(call)
        loop.clock = cast("IReactorTime", self._reactor)
        loop.start(seconds, now=False).addErrback(lambda failure: log.failure("repeated call ended", failure))
        self._stops.append(loop.stop)

    def _lag_meter(self) -> Callable[[], None]:
        expected = self._reactor.seconds() + LAG_SECONDS

        def measure() -> None:
            nonlocal expected
            now = self._reactor.seconds()
            self.metrics.tick.observe(max(0.0, now - expected))
            expected = now + LAG_SECONDS

        return measure
