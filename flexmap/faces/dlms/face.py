"""The face itself: a server core, its devices, its ports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from flexmap.dlms.identity import Identity
from flexmap.dlms.objects import LogicalDevice
from flexmap.dlms.profile import AssociationEvent, ClientProfile, EventKind
from flexmap.dlms.push_setup import ALARM_SETUP_LN, PUSH_SETUP_LN, push_setup
from flexmap.dlms.server import Server
from flexmap.dlms.setup import Forgetful, Keystore
from flexmap.faces.dlms.acting import Acting, MeterActs, acting_definitions
from flexmap.faces.dlms.billing import at_closing, billing_objects
from flexmap.faces.dlms.certificate_watch import CertificateWatch
from flexmap.faces.dlms.clock import MeterClock
from flexmap.faces.dlms.compact import CompactRow
from flexmap.faces.dlms.counters import StoredCounters
from flexmap.faces.dlms.demand import demand_objects
from flexmap.faces.dlms.device import MeterDevice, management_device
from flexmap.faces.dlms.images import ImageTransfer
from flexmap.faces.dlms.live import LiveObject
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.objects import PROFILE, MeterObjects
from flexmap.faces.dlms.ports import Ports, PortSettings
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.faces.dlms.push import Post
from flexmap.faces.dlms.pushing import Keeper, PushObject, PushSettings, Way
from flexmap.faces.dlms.security_log import SecurityLog
from flexmap.faces.dlms.tariff import tariff_objects
from flexmap.faces.dlms.turns import Turns
from flexmap.faces.dlms.updates import Updates, update_definitions, update_objects
from flexmap.faces.interface import ClockWay, OnCommand
from flexmap.faces.throttle import Throttle
from flexmap.mapping.zone import Zone
from flexmap.model import Event, Sample, Site
from flexmap.model.firmware import FirmwareReport
from flexmap.model.plc import Coordinator
from flexmap.store import Store

log = Logger(namespace="flexmap.dlms")
_TROUBLE = frozenset({EventKind.REFUSED, EventKind.DENIED, EventKind.SECURITY_FAILURE, EventKind.PROTOCOL_ERROR})


class DlmsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the face listens and whom it lets in."""

    ports: tuple[PortSettings, ...]
    system_title: bytes
    clients: tuple[ClientProfile, ...]
    identity: Identity = Identity()
    """Key pairs of the server and certificates."""
    keystore: Keystore = Forgetful()
    """Keeps what clients change of the security."""
    certificate_tolerance: float = 0.0
    """Seconds for which certificates are valid before and behind their period."""
    association_version: int = 1
    """Version of class 15."""
    idle_timeout: float = 180.0
    """Seconds after which a TCP connection without an answer is closed."""
    max_connections: int = 1000
    max_connections_per_address: int = 500
    push: PushSettings | None = None
    """Push setups of the meters; without it they have none."""
    keeper: Keeper | None = None
    """Keeps what head-ends write of push setups."""


class DlmsFace:
    """Serves every meter of a site on all ports; profiles and counters are the store's."""

    def __init__(
        self,
        reactor: PosixReactorBase,
        site: Site,
        settings: DlmsSettings,
        *,
        store: Store,
        on_command: OnCommand,
        updates: Updates | None = None,
        clocks: ClockWay | None = None,
        on_event: Callable[[Event], object] = lambda _event: None,
    ) -> None:
        """Set up; ``updates`` is the way for firmware, ``clocks`` that for clocks, where there is one.

        ``on_event`` takes events that are seen here.
        """
        self._events: Counter[str] = Counter()
        self._live: list[LiveObject] = []
        self._images: dict[str, ImageTransfer] = {}
        push = settings.push
        names = (PUSH_SETUP_LN, ALARM_SETUP_LN)
        pushing = [] if push is None else [push_setup(push.version, push.client, name) for name in names]
        live = {name: () if updates is None else update_definitions(kind) for name, kind in site.types.items()}
        zone = Zone(site.time_zone)
        settable = {meter.id: clocks is not None and clocks.settable(meter.id) for meter in site.meters}
        shared = {
            (name, clock): MeterObjects(
                site.types[name],
                store.settings.profile_points,
                settings.association_version,
                (*live[name], *pushing, *acting_definitions(site.types[name], pushes=push is not None)),
                zone,
                settable_clock=clock,
            )
            for name, clock in dict.fromkeys((meter.type, settable[meter.id]) for meter in site.meters)
        }
        self._meters = {}
        turns = Turns(reactor)
        self._acts: dict[str, MeterActs] = {}
        acting = Acting(store.kept, on_event, reactor.seconds)
        for meter in site.meters:
            objects = shared[meter.type, settable[meter.id]]
            buffers = make_buffers(store, meter, objects)
            device = MeterDevice(meter, objects, buffers, on_command)
            self._meters[meter.id] = device
            if clocks is not None and settable[meter.id]:
                device.serve([MeterClock(meter.id, objects.local, clocks, PROFILE.period)])
            device.serve([CompactRow(store, meter.id, objects)])
            device.serve(demand_objects(store, meter.id, site.type_of(meter), objects.local))
            keeper = settings.keeper if updates is None else updates.files
            spread = at_closing(store, meter.id, turns)
            billing = billing_objects(store, meter, objects, device, keeper=keeper, reactor=reactor, spread=spread)
            tariff = tariff_objects(store, meter.id, objects, device, reactor=reactor, spread=spread)
            self._live += (*billing, *tariff)
            device.serve((*billing, *tariff))
            pushes = push is not None
            acts = MeterActs(meter, site.type_of(meter), device, acting, objects.local, pushes=pushes)
            self._acts[meter.id] = acts
            device.serve(acts.live)
            if updates is not None and live[meter.type]:
                made = update_objects(meter.id, device, updates, reactor, zone)
                self._images[meter.id] = made.images
                self._live += made
                device.serve(made)
        self._ports = Ports(
            reactor,
            settings.ports,
            idle_timeout=settings.idle_timeout,
            max_connections=settings.max_connections,
            max_connections_per_address=settings.max_connections_per_address,
        )
        management = management_device(
            site,
            settings.system_title,
            lambda: int(reactor.seconds() * 1000),
            self._ports.objects(),
            clients=[client.sap for client in settings.clients if client.keys is not None],
            association_version=settings.association_version,
        )
        self._security = SecurityLog(store, management, reactor.seconds, LocalTime(zone))
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
            identity=settings.identity,
            keystore=settings.keystore,
            now=reactor.seconds,
            tolerance=settings.certificate_tolerance,
        )
        self._certificates = CertificateWatch(reactor, self.server.clients)
        self._tell = Throttle(reactor)
        self._post = Post(reactor, self._tell)
        if push is not None:
            self._serve_push(push, Way(reactor, self.server, self._post, settings.keeper, store.letters))

    def _serve_push(self, push: PushSettings, way: Way) -> None:
        """Serve the push setups of all meters."""
        for name, device in self._meters.items():
            setup = PushObject(name, device, push, way)
            alarms = PushObject(name, device, push.for_alarms(), way)
            self._acts[name].push = alarms.push
            self._live += [setup, alarms]
            device.serve([setup, alarms])

    def start(self) -> Deferred[None]:
        """Listen; fires at once. Raises ConfigurationError if a port cannot be had."""
        self._ports.open(self.server, self._tell)
        for live in self._live:
            live.begin()
        self._certificates.begin()
        return succeed(None)

    def update(self, samples: Sequence[Sample]) -> None:
        """Serve these samples from now on."""
        for sample in samples:
            self._meters[sample.meter].update(sample)

    def observe(self, samples: Sequence[Sample]) -> None:
        """Look at all samples of meters, those of the past too."""
        for sample in samples:
            self._acts[sample.meter].observe(sample)

    def event(self, event: Event) -> None:
        """Show an event's code, tell the clients that listen, raise alarms."""
        self._acts[event.meter].event(event)
        device = self._meters[event.meter]
        change = device.event(event)
        if change is not None:
            self.server.audience.tell(device.sap, change)

    def coordinator(self, told: Coordinator) -> None:
        """Show what a PAN coordinator says of itself."""
        self._management.coordinator(told)

    def firmware(self, report: FirmwareReport) -> None:
        """Show how far a meter's firmware has come."""
        images = self._images.get(report.meter)
        if images is not None:
            images.report(report)

    def identity(self, meter: str, name: str, text: str) -> None:
        """Show a new value of an identity point of a meter."""
        self._meters[meter].identity(name, text)

    def stop(self) -> Deferred[None]:
        """Close every connection and listen no more."""
        for live in self._live:
            live.stop()
        self._certificates.stop()
        self._post.close()
        stopped = self._ports.close()
        stopped.addCallback(lambda _: None)
        return stopped

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the face listens, and figures to show."""
        gate = self._ports.gate
        figures = {
            "addresses": self._ports.addresses,
            "connections": len(gate.open),
            "connections_accepted": gate.accepted,
            "connections_refused": gate.refused,
            "push_sent": self._post.sent,
            "push_waiting": self._post.waiting,
            "push_lost": self._post.lost,
            "notifications_told": self.server.audience.told,
            "notifications_left_out": self.server.audience.left_out,
            **{f"associations_{kind.value}".replace("-", "_"): self._events[kind] for kind in EventKind},
        }
        return self._ports.listening and not self._ports.gone, figures

    def _happened(self, event: AssociationEvent) -> None:
        self._events[event.kind] += 1
        self._security.take(event)
        self._tell(
            log.warn if event.kind in _TROUBLE else log.info,
            "association {kind}: client {client}, server {server} {reason}",
            kind=event.kind.value,
            client=event.client_sap,
            server=event.server_sap,
            reason=event.reason,
        )
