"""The face itself: a server core, its devices, its TCP and UDP ports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from twisted.internet import tcp, udp
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from flexmap.dlms.objects import LogicalDevice
from flexmap.dlms.profile import AssociationEvent, ClientProfile, EventKind
from flexmap.dlms.server import Server
from flexmap.faces.dlms.buffers import make_buffers
from flexmap.faces.dlms.counters import StoredCounters
from flexmap.faces.dlms.device import MeterDevice, management_device
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.throttle import Throttle
from flexmap.faces.dlms.transport import WrapperDatagrams, WrapperFactory
from flexmap.faces.interface import OnCommand
from flexmap.model import ConfigurationError, Event, Sample, Site
from flexmap.model.plc import Coordinator
from flexmap.store import Store

log = Logger(namespace="flexmap.dlms")
_TROUBLE = frozenset({EventKind.REFUSED, EventKind.SECURITY_FAILURE, EventKind.PROTOCOL_ERROR})


class DlmsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the face listens and whom it lets in."""

    host: str
    port: int
    system_title: bytes
    clients: tuple[ClientProfile, ...]
    idle_timeout: float = 180.0
    max_connections: int = 1000


class DlmsFace:
    """Serves every meter of a site over the wrapper, on TCP and UDP; profiles and counters are the store's."""

    def __init__(
        self,
        reactor: PosixReactorBase,
        site: Site,
        settings: DlmsSettings,
        *,
        store: Store,
        on_command: OnCommand,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._events: Counter[str] = Counter()
        points = store.settings.profile_points
        objects = {name: MeterObjects(kind, settings.system_title, points) for name, kind in site.types.items()}
        self._meters = {}
        for meter in site.meters:
            buffers = make_buffers(store, meter, objects[meter.type])
            self._meters[meter.id] = MeterDevice(meter, objects[meter.type], buffers, on_command)
        management = management_device(site, settings.system_title, lambda: int(reactor.seconds() * 1000))
        self._management = management
        devices: dict[int, LogicalDevice] = {management.sap: management}
        devices.update((device.sap, device) for device in self._meters.values())
        self.server = Server(
            devices,
            {client.sap: client for client in settings.clients},
            title=settings.system_title,
            counters=StoredCounters(store),
            random=os.urandom,
            on_event=self._happened,
            now=reactor.seconds,
        )
        self._tell = Throttle(reactor)
        self._factory = WrapperFactory(
            self.server,
            reactor,
            self._tell,
            idle_timeout=settings.idle_timeout,
            max_connections=settings.max_connections,
        )
        self._datagrams = WrapperDatagrams(self.server, self._tell)
        self._tcp: tcp.Port | None = None
        self._udp: udp.Port | None = None

    @property
    def port(self) -> int:
        """The port listened on, TCP and UDP."""
        return int(self._tcp.getHost().port) if self._tcp else self._settings.port

    def start(self) -> Deferred[None]:
        """Listen; fires at once. Raises ConfigurationError if the address cannot be had."""
        host, port = self._settings.host, self._settings.port
        try:
            self._tcp = cast("tcp.Port", self._reactor.listenTCP(port, self._factory, interface=host))
            self._udp = cast("udp.Port", self._reactor.listenUDP(self.port, self._datagrams, host, 65535))
        except CannotListenError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.socketError}",
                where="[dlms] listen",
                remedy="stop what listens there or choose another port",
            ) from None
        log.info("DLMS on {host}:{port}, TCP and UDP", host=host, port=self.port)
        return succeed(None)

    def update(self, samples: Sequence[Sample]) -> None:
        """Serve these samples from now on."""
        for sample in samples:
            self._meters[sample.meter].update(sample)

    def event(self, event: Event) -> None:
        """Show an event's code."""
        self._meters[event.meter].event(event)

    def coordinator(self, told: Coordinator) -> None:
        """Show what a PAN coordinator says of itself."""
        self._management.coordinator(told)

    def stop(self) -> Deferred[None]:
        """Close every connection and listen no more."""
        ports = [port for port in (self._tcp, self._udp) if port is not None]
        self._factory.close()
        self._datagrams.close()
        stopped: Deferred[Any] = gatherResults([maybeDeferred(port.stopListening) for port in ports])
        stopped.addCallback(lambda _: None)
        return stopped

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the face listens, and figures to show."""
        figures = {
            "address": f"{self._settings.host}:{self.port}",
            "connections": len(self._factory.open),
            "connections_accepted": self._factory.accepted,
            "connections_refused": self._factory.refused,
            **{f"associations_{kind.value}".replace("-", "_"): self._events[kind] for kind in EventKind},
        }
        return self._tcp is not None, figures

    def _happened(self, event: AssociationEvent) -> None:
        self._events[event.kind] += 1
        self._tell(
            log.warn if event.kind in _TROUBLE else log.info,
            "association {kind}: client {client}, server {server} {reason}",
            kind=event.kind.value,
            client=event.client_sap,
            server=event.server_sap,
            reason=event.reason,
        )
