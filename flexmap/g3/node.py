"""A G3-PLC node: PHY, MAC, adaptation layer, bootstrap and UDP ports stacked, with one information base.

The access mode says at which layer a user attaches (the seed document's table of access points): in the modes PHY,
MAC and 6LoWPAN only that layer is open, in Boot adaptation layer and bootstrap; the information base always.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from flexmap.g3 import adp_pib, information, ipv6, pib
from flexmap.g3.adp import Adp, AdpConfirm
from flexmap.g3.bootstrap import Device
from flexmap.g3.bootstrap import Settings as DeviceSettings
from flexmap.g3.coordinator import Coordinator
from flexmap.g3.coordinator import Settings as CoordinatorSettings
from flexmap.g3.interface import RC_COORD_UNKNOWN, Link, MacUser, Random
from flexmap.g3.line import Place
from flexmap.g3.mac import Mac
from flexmap.g3.medium import Medium, PhyUser, Port
from flexmap.g3.outgoing import Tap
from flexmap.g3.pan import AccessList, Psks
from flexmap.g3.phy import Modulation
from flexmap.g3.uplink import ways
from flexmap.g3.watch import Watch
from flexmap.model.error import LocalError, RemoteError

T = TypeVar("T")
Boot = Device | Coordinator
Handler = Callable[[int, int, bytes], object]
"""Takes the short address and port a datagram comes from, and its payload."""


class AccessMode(enum.Enum):
    """Which layer a user attaches to."""

    PHY = "phy"
    MAC = "mac"
    SIXLOWPAN = "6lowpan"
    BOOT = "boot"


class Connection(msgspec.Struct, frozen=True):
    """How a node is connected to the line, and where its frame counter goes on."""

    place: Place | None = None
    noise_db: float = 0.0
    frame_counter: int = 0


AT_THE_BUSBAR = Connection()


class Udp:
    """UDP ports of a node: datagrams to and from short addresses of its PAN."""

    __slots__ = ("_adp", "_handlers", "_mac", "dropped")

    def __init__(self, mac: Mac, adp: Adp) -> None:
        self._mac = mac
        self._adp = adp
        self._handlers: dict[int, Handler] = {}
        self.dropped = 0
        """Packets that were no UDP datagram, were damaged, or for a port nobody has bound."""
        adp.on_ipv6 = self._packet

    def bind(self, port: int, handler: Handler) -> None:
        """Take the datagrams to a port; raise :class:`LocalError` if it is taken."""
        if port in self._handlers:
            raise LocalError(f"UDP port {port} is bound already")
        self._handlers[port] = handler

    def release(self, port: int) -> None:
        """Take them no longer."""
        self._handlers.pop(port, None)

    def send(
        self,
        destination: int,
        destination_port: int,
        source_port: int,
        payload: bytes,
        confirm: AdpConfirm | None = None,
        *,
        priority: bool = False,
    ) -> None:
        """Send a datagram to a short address of the PAN; ``confirm`` learns what became of it at the next hop."""
        pan_id = self._mac.pan_id
        here, there = (ipv6.link_local(pan_id, address) for address in (self._mac.short_address, destination))
        packet = ipv6.build_udp(ipv6.Datagram(here, there, source_port, destination_port, payload))
        self._adp.send_ipv6(packet, confirm, priority=priority)

    def _packet(self, packet: bytes) -> None:
        try:
            datagram = ipv6.parse_udp(packet)
        except RemoteError:
            self.dropped += 1
            return
        source = ipv6.short_address_of(datagram.source, self._mac.pan_id)
        handler = self._handlers.get(datagram.destination_port)
        if source is None or handler is None:
            self.dropped += 1
            return
        handler(source, datagram.source_port, datagram.payload)


class Node:
    """One node on a medium; :meth:`device` and :meth:`coordinator` build whole ones, the initialiser any mode."""

    __slots__ = ("_adp", "_boot", "_mac", "_port", "_udp", "eui64", "mode")

    def __init__(
        self,
        medium: Medium,
        eui64: bytes,
        random: Random,
        mode: AccessMode,
        *,
        at: Connection = AT_THE_BUSBAR,
        phy_user: PhyUser | None = None,
        mac_user: MacUser | None = None,
        large: bool = False,
    ) -> None:
        """Build the layers of a mode.

        In the modes PHY and MAC ``phy_user``, ``mac_user`` is what sits on top; ``large`` routes as a coordinator.
        """
        self.eui64 = eui64
        self.mode = mode
        self._mac: Mac | None = None
        self._adp: Adp | None = None
        self._udp: Udp | None = None
        self._boot: Boot | None = None
        if mode is AccessMode.PHY:
            self._port = medium.attach(eui64.hex(), _there(phy_user, "PHY's user"), at.place, at.noise_db)
            return
        mac = self._mac = Mac(
            medium,
            eui64,
            random,
            mac_user,
            place=at.place,
            noise_db=at.noise_db,
            frame_counter=at.frame_counter,
        )
        self._port = mac.port
        if mode is not AccessMode.MAC:
            adp = self._adp = Adp(mac, medium.scheduler, random, coordinator=large)
            mac.user = adp
            self._udp = Udp(mac, adp)

    @classmethod
    def device(
        cls,
        medium: Medium,
        eui64: bytes,
        random: Random,
        psk: bytes,
        *,
        settings: DeviceSettings | None = None,
        at: Connection = AT_THE_BUSBAR,
    ) -> Node:
        """Return a device with bootstrap; ``node.boot.start()`` begins."""
        node = cls(medium, eui64, random, AccessMode.BOOT, at=at)
        mac, adp = _there(node._mac, "MAC"), node.adp
        boot = Device(mac, adp, medium.scheduler, random, psk, settings)
        watch = Watch(boot, adp.loadng, medium.scheduler)

        def joined() -> None:
            agent, *others = boot.heard()
            min_lqi = boot.settings.min_lqi
            first = ways([agent], mac.pan_id, RC_COORD_UNKNOWN, 0)
            adp.joined([*first, *ways(others, mac.pan_id, first[0].cost, min_lqi)], min_lqi)
            watch.begin()

        def reset() -> None:
            watch.end()
            adp.reset()

        boot.on_joined, boot.on_resumed, boot.on_reset = joined, watch.begin, reset
        adp.on_coordinator, adp.on_refused = watch.heard, watch.refused
        adp.lbp_user = node._boot = boot
        adp.answers_scans = boot.agent.open
        return node

    @classmethod
    def coordinator(
        cls,
        medium: Medium,
        eui64: bytes,
        random: Random,
        psks: Psks,
        *,
        access: AccessList | None = None,
        settings: CoordinatorSettings | None = None,
        at: Connection = AT_THE_BUSBAR,
    ) -> Node:
        """Return a PAN coordinator; ``node.manager.start(pan_id)`` or ``resume(state)`` begins."""
        node = cls(medium, eui64, random, AccessMode.BOOT, at=at, large=True)
        mac, adp = _there(node._mac, "MAC"), node.adp
        boot = Coordinator(mac, adp, medium.scheduler, random, psks, access, settings)
        adp.lbp_user = node._boot = boot
        return node

    # Access points

    @property
    def phy(self) -> Port:
        """The PHY's access point, in mode PHY."""
        if self.mode is not AccessMode.PHY:
            raise LocalError(f"the PHY is not open in access mode {self.mode.value}")
        return self._port

    @property
    def mac(self) -> Mac:
        """The MAC's access point, in mode MAC."""
        if self.mode is not AccessMode.MAC:
            raise LocalError(f"the MAC is not open in access mode {self.mode.value}")
        return _there(self._mac, "MAC")

    @property
    def adp(self) -> Adp:
        """The adaptation layer's access point, in the modes 6LoWPAN and Boot."""
        return _there(self._adp, "adaptation layer")

    @property
    def udp(self) -> Udp:
        """UDP ports, in the modes 6LoWPAN and Boot."""
        return _there(self._udp, "adaptation layer")

    @property
    def boot(self) -> Device:
        """The bootstrap of a device, in mode Boot."""
        if not isinstance(self._boot, Device):
            raise LocalError(f"no device bootstrap in access mode {self.mode.value}, or a coordinator")
        return self._boot

    @property
    def manager(self) -> Coordinator:
        """The PAN management of a coordinator, in mode Boot."""
        if not isinstance(self._boot, Coordinator):
            raise LocalError(f"no PAN management in access mode {self.mode.value}, or a device")
        return self._boot

    @property
    def line(self) -> Port:
        """The node's place on the medium, for whoever runs the medium."""
        return self._port

    def link_to(self, short_address: int) -> Link | None:
        """Return what the MAC knows of a neighbour."""
        return None if self._mac is None else self._mac.link(short_address)

    def limit_modulation(self, fastest: Modulation) -> None:
        """Ask neighbours for no faster modulation than this."""
        if self._mac is not None:
            self._mac.fastest = fastest

    def watch_traffic(self, tap: Tap) -> None:
        """Tell of each transmission of this node."""
        if self._mac is not None:
            self._mac.watch_traffic(tap)

    def learn_link(self, short_address: int, snr: float, back: float) -> None:
        """Know a neighbour and its tone map, as after an exchange: SNR in dB here, and of what is sent at it."""
        if self._mac is not None:
            self._mac.learn_link(short_address, snr, back)

    @property
    def short_address(self) -> int:
        """Short address, 0xFFFF while there is none."""
        return 0xFFFF if self._mac is None else self._mac.short_address

    @property
    def frame_counter(self) -> int:
        """The MAC's frame counter: keep it, above a margin, over a restart."""
        return 0 if self._mac is None else self._mac.frame_counter

    # Information base

    def names(self) -> list[str]:
        """Return the names of all attributes of the layers there are."""
        names: list[str] = []
        if self._mac is not None:
            names += pib.ATTRIBUTES
        if self._adp is not None:
            names += (*adp_pib.ATTRIBUTES, *information.ADP_TABLES, *information.FIXED, *self._standing())
        if self._boot is not None:
            names += _BOOT_NAMES[type(self._boot)]
        return [*names, *self._counters()]

    def get(self, name: str) -> object:
        """Return an attribute of the information base; raise :class:`LocalError` if there is none of this name."""
        if self._mac is not None and name in pib.ATTRIBUTES:
            return self._mac.get(name)
        if self._adp is not None and (name in adp_pib.ATTRIBUTES or name in information.ADP_TABLES):
            return self._adp.get(name)
        if self._adp is not None and name in (known := {**information.FIXED, **self._standing()}):
            return known[name]
        counter = self._counters().get(name)
        if counter is not None:
            return getattr(*counter)
        boot = self._bootstrap(name)
        return getattr(boot.settings, _boot_field(boot, name))

    def _counters(self) -> dict[str, tuple[object, str]]:
        """Return where the counters above the MAC stand, by names of ours: adpForwardedCount and so on."""
        adp = self._adp
        holders: dict[str, Any] = {} if adp is None else {"adp": adp.counters, "loadng": adp.loadng.counters}
        if self._boot is not None:
            holders["boot"] = self._boot.counters
        return {
            f"{layer}{_camel(field)}Count": (holder, field)
            for layer, holder in holders.items()
            for field in holder.__slots__
        }

    def refused(self) -> dict[str, int]:
        """Return how many frames MAC and adaptation layer have refused to believe, by cause."""
        mac, adp = _there(self._mac, "MAC").counters, self.adp.counters
        return {
            "unknown_key": mac.unknown_key,
            "wrong_mic": mac.wrong_mic,
            "old_counter": mac.old_counter,
            "unsecured": adp.unsecured,
        }

    def _standing(self) -> dict[str, int]:
        """Return what follows from how the node stands in its PAN."""
        cost = self.adp.mac_beacon_request()
        settings = self._boot.settings if isinstance(self._boot, Device) else DeviceSettings()
        return {
            "macRCCoord": 0xFFFF if cost is None else cost,
            "adpMaxJoinWaitTime": int(settings.max_join_wait),
            "adpActiveKeyIndex": 0 if self._mac is None else self._mac.security.active,
            "adpDeviceType": int(isinstance(self._boot, Coordinator)),
        }

    def set(self, name: str, value: int) -> None:
        """Set an attribute; raise :class:`LocalError` where it does not exist, is read-only or does not fit."""
        if self._mac is not None and name in pib.ATTRIBUTES:
            self._mac.set(name, value)
        elif self._adp is not None and name in adp_pib.ATTRIBUTES:
            self._adp.pib.set(name, value)
        else:
            boot = self._bootstrap(name)
            change = {_boot_field(boot, name): value}
            if value < 0:
                raise LocalError(f"{name} is not negative")
            if isinstance(boot, Device):
                boot.settings = msgspec.structs.replace(boot.settings, **change)
            else:
                boot.settings = msgspec.structs.replace(boot.settings, **change)

    def _bootstrap(self, name: str) -> Boot:
        if self._boot is None:
            raise LocalError(f"no layer of this node has an attribute {name!r}")
        return self._boot


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _boot_names(settings: type[msgspec.Struct]) -> dict[str, str]:
    """Return ``bootMinLqi`` and the like for the numbers among the settings."""
    return {
        f"boot{_camel(field.name)}": field.name
        for field in msgspec.structs.fields(settings)
        if field.type in (int, float)
    }


_BOOT_NAMES: dict[type, dict[str, str]] = {
    Device: _boot_names(DeviceSettings),
    Coordinator: _boot_names(CoordinatorSettings),
}
"""Attributes of the bootstrap, by their names; these are ours, the recommendation has none."""


def _boot_field(boot: Boot, name: str) -> str:
    field = _BOOT_NAMES[type(boot)].get(name)
    if field is None:
        raise LocalError(f"this node has no attribute {name!r}")
    return field


def _there(layer: T | None, name: str) -> T:
    if layer is None:
        raise LocalError(f"the {name} is not open in this access mode")
    return layer
