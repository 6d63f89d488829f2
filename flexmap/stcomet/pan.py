"""What the concentrator needs of the PAN below it: the seam to G3-PLC, in octets and short addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Do not call."""

    def active(self) -> bool:
        """Return whether the call is still to come."""


class Scheduler(Protocol):
    """Time in seconds since 1970, and timers."""

    def seconds(self) -> float:
        """Return the time."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> Timer:  # noqa: A002, N802 (Twisted's names)
        """Call after ``delay`` seconds."""


class Member(msgspec.Struct, frozen=True):
    """A device that has joined."""

    eui64: str
    """16 hexadecimal digits."""
    short_address: int
    joined_at: int
    """Seconds since 1970."""


class Route(msgspec.Struct, frozen=True):
    """The way to a device."""

    hops: int
    next_hop: int
    cost: int
    lqi: int | None
    """Of the link to the next hop, 0 to 255, as this node hears it."""
    reverse_lqi: int | None = None
    """The same as the next hop hears this node, if it has told lately."""


class Hop(msgspec.Struct, frozen=True):
    """A node that a packet passes."""

    short_address: int
    cost: int
    """Of the link over which it comes there."""


class Path(msgspec.Struct, frozen=True):
    """The nodes on the way to a device and back."""

    there: tuple[Hop, ...]
    back: tuple[Hop, ...]
    reached: bool
    """Whether the way there leads to the device; if not, it ends at its last node."""


class Access(msgspec.Struct, frozen=True):
    """Who may join, by EUI-64 in hexadecimal digits."""

    black: tuple[str, ...]
    white: tuple[str, ...] | None
    """None: everyone who is not on the black list."""


class Rekeyed(msgspec.Struct, frozen=True):
    """How a re-keying ended; devices by EUI-64."""

    rekeyed: tuple[str, ...]
    lost: tuple[str, ...]
    """Those that have to join again."""


class PanUser(Protocol):
    """What the PAN calls."""

    def joined(self, member: Member) -> None:
        """Take note of a device that has joined, or joined again."""

    def left(self, member: Member, reason: str) -> None:
        """Take note of a device that has gone."""

    def datagram(self, short_address: int, octets: bytes) -> None:
        """Take the payload of a UDP datagram."""

    def fragment(self, short_address: int) -> None:
        """Take note that a part of a datagram has come, and more is to follow."""


class Pan(Protocol):
    """What the concentrator calls; refusals are :class:`flexmap.model.FlexmapError`."""

    def members(self) -> Sequence[Member]:
        """Return the devices of the PAN."""

    def send(
        self, short_address: int, octets: bytes, confirm: Callable[[bool], object], *, priority: bool
    ) -> None:
        """Send a UDP datagram; ``confirm`` learns once whether it has left for its next hop."""

    def route(self, short_address: int) -> Route | None:
        """Return the way to a device, None while there is none."""

    def path(self, short_address: int, done: Callable[[Path | None], object]) -> None:
        """Ask the nodes themselves which way packets go; ``done`` gets None if no answer comes."""

    def kick(self, eui64: str) -> None:
        """Put a device out of the PAN, and tell it."""

    def remove(self, eui64: str) -> None:
        """Strike a device off the PAN without telling it."""

    def rekey(self, done: Callable[[Rekeyed], object]) -> None:
        """Begin to give all devices a new group master key; refused while another re-keying lasts."""

    def access(self) -> Access:
        """Return who may join."""

    def set_access(self, access: Access) -> None:
        """Say who may join; devices on the black list are put out."""

    def names(self) -> Sequence[str]:
        """Return the attributes of the coordinator's information base."""

    def get(self, name: str) -> object:
        """Return an attribute; a table as a list of its rows, each a dictionary."""

    def set(self, name: str, value: int) -> None:
        """Write an attribute."""

    def counters(self) -> dict[str, int]:
        """Return counters of PAN management."""
