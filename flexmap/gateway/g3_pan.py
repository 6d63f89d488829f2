"""The PAN of a G3-PLC coordinator, as the concentrator asks for it (implements flexmap.stcomet.pan.Pan)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexmap.g3.adp import AdpStatus
from flexmap.g3.interface import Address
from flexmap.g3.loadng_message import PathMessage
from flexmap.g3.node import Node
from flexmap.g3.pan import Registered
from flexmap.g3.rekey import Rekeying, Report
from flexmap.model import LocalError
from flexmap.stcomet.app import DATA_PORT
from flexmap.stcomet.pan import Access, Hop, Member, PanUser, Path, Rekeyed, Route

KEY_OCTETS = 16


class G3Pan:
    """Devices of a coordinator node, and datagrams to and from their data port."""

    def __init__(self, node: Node, randbytes: Callable[[int], bytes]) -> None:
        """``randbytes`` gives new keys."""
        self._node = node
        self._randbytes = randbytes
        self._rekeying = False
        self._user: PanUser | None = None
        self.changed: Callable[[], object] = lambda: None
        """Called when there is something to keep."""

    def attach(self, user: PanUser) -> None:
        """Tell a user of devices that come and go, and of their datagrams."""
        self._user = user
        self._node.udp.bind(DATA_PORT, lambda short, _port, octets: user.datagram(short, octets))
        self._node.adp.on_fragment = self._fragment
        self._node.manager.on_joined = self._joined
        self._node.manager.on_left = self._left

    def members(self) -> Sequence[Member]:
        """Return the devices of the PAN by short address."""
        devices = self._node.manager.registry.devices()
        return sorted(map(_member, devices), key=lambda member: member.short_address)

    def send(
        self, short_address: int, octets: bytes, confirm: Callable[[bool], object], *, priority: bool
    ) -> None:
        """Send a datagram to a meter's data port."""

        def confirmed(status: AdpStatus) -> None:
            confirm(status is AdpStatus.SUCCESS)

        self._node.udp.send(short_address, DATA_PORT, DATA_PORT, octets, confirmed, priority=priority)

    def route(self, short_address: int) -> Route | None:
        """Return what the routing table and the neighbour table know."""
        route = self._node.adp.loadng.route(short_address)
        if route is None:
            return None
        link = self._node.adp.link(route.next_hop)
        if link is None:
            return Route(route.hops, route.next_hop, route.cost, None)
        return Route(route.hops, route.next_hop, route.cost, link.lqi, link.reverse_lqi)

    def path(self, short_address: int, done: Callable[[Path | None], object]) -> None:
        """Ask for a path (ADPM-PATH-DISCOVERY)."""

        def found(reply: PathMessage | None) -> None:
            done(None if reply is None else _path(reply))

        self._node.adp.loadng.discover_path(short_address, found)

    def kick(self, eui64: str) -> None:
        """Put a device out of the PAN."""
        self._node.manager.kick(bytes.fromhex(eui64))

    def remove(self, eui64: str) -> None:
        """Strike a device off the PAN without telling it."""
        self._node.manager.remove(bytes.fromhex(eui64))

    def rekey(self, done: Callable[[Rekeyed], object]) -> None:
        """Give all devices a new group master key; refused while that is under way."""
        if self._rekeying:
            raise LocalError("a re-keying is under way: see PLC REKEY_STATUS")
        self._rekeying = True

        def finished(report: Report) -> None:
            self._rekeying = False
            self.changed()
            done(Rekeyed(_hex(report.rekeyed), _hex(report.lost)))

        Rekeying(self._node.manager, self._randbytes(KEY_OCTETS), finished)
        self.changed()

    def access(self) -> Access:
        """Return the lists."""
        lists = self._node.manager.access
        white = None if lists.white is None else tuple(sorted(eui64.hex() for eui64 in lists.white))
        return Access(tuple(sorted(eui64.hex() for eui64 in lists.black)), white)

    def set_access(self, access: Access) -> None:
        """Take over the lists."""
        manager = self._node.manager
        manager.access.white = None if access.white is None else set(map(bytes.fromhex, access.white))
        manager.access.black.clear()
        for eui64 in access.black:
            manager.ban(bytes.fromhex(eui64))
        self.changed()

    def names(self) -> Sequence[str]:
        """Return the attributes of the information base."""
        return self._node.names()

    def get(self, name: str) -> object:
        """Return an attribute."""
        return self._node.get(name)

    def set(self, name: str, value: int) -> None:
        """Write an attribute."""
        if name not in self._node.names():
            raise LocalError(f"there is no attribute {name}")
        self._node.set(name, value)

    def counters(self) -> dict[str, int]:
        """Return what PAN management has counted, the frames refused, by cause, and the time on the air."""
        sent = {"airtime_ms": int(self._node.line.airtime * 1000)}
        return self._node.manager.counters.all() | self._node.refused() | sent

    def _fragment(self, originator: Address) -> None:
        if self._user is not None and isinstance(originator, int):
            self._user.fragment(originator)

    def _joined(self, device: Registered) -> None:
        self.changed()
        if self._user is not None:
            self._user.joined(_member(device))

    def _left(self, device: Registered, reason: str) -> None:
        self.changed()
        if self._user is not None:
            self._user.left(_member(device), reason)


def _hex(devices: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(sorted(eui64.hex() for eui64 in devices))


def _path(reply: PathMessage) -> Path:
    hops = tuple(Hop(hop.address, hop.link_cost) for hop in reply.hops)
    turn = next((place for place, hop in enumerate(hops, 1) if hop.short_address == reply.originator), len(hops))
    return Path(hops[:turn], hops[turn:], reply.originator == reply.expected)


def _member(device: Registered) -> Member:
    return Member(device.eui64.hex(), device.short_address, int(device.joined_at))
