"""The seams between the layers of a G3-PLC node: who calls whom with what.

Every layer is a state machine without sockets or a clock of its own: time comes from a :class:`Scheduler`, which
is virtual in simulations and tests and a Twisted reactor in real time; randomness is a :class:`Random` passed in.

    application (UDP)
    ADP     sixlowpan, loadng, bootstrap        uses Mac, is a MacUser
    MAC     802.15.4 frames, CSMA/CA, security  uses Phy, is a PhyUser
    PHY     the medium                          airtime, attenuation, noise
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

Address = int | bytes
"""A short address (int, 0 to 0xFFFF) or an EUI-64 (eight octets, most significant first)."""

BROADCAST = 0xFFFF
COORDINATOR = 0x0000
"""Short address of the PAN coordinator."""
RC_COORD_UNKNOWN = 0x7FFF
"""Route cost to the coordinator of a node that has joined, but has no route to it yet (A)."""


Row = dict[str, int | str]
"""A row of a table of the information base: fields by name, bit strings as ``0b…``."""


class Timer(Protocol):
    """A call that is still to come (as twisted.internet.interfaces.IDelayedCall)."""

    def cancel(self) -> None:
        """Do not call."""

    def active(self) -> bool:
        """Return whether the call is still to come."""


class Scheduler(Protocol):
    """Time and timers (as twisted.internet.interfaces.IReactorTime)."""

    def seconds(self) -> float:
        """Return the time in seconds."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> Timer:  # noqa: A002, N802 (Twisted's names)
        """Call after ``delay`` seconds."""


class Random(Protocol):
    """Randomness (as random.Random); seeded in simulations."""

    def random(self) -> float:
        """Return a float, 0 ≤ x < 1."""

    def randrange(self, stop: int, /) -> int:
        """Return an integer, 0 ≤ x < stop."""

    def randbytes(self, n: int) -> bytes:
        """Return n octets."""

    def gauss(self, mu: float, sigma: float) -> float:
        """Return a normally distributed float."""


class MacStatus(enum.IntEnum):
    """Status of an MCPS or MLME primitive (IEEE 802.15.4-2006 table 78)."""

    SUCCESS = 0x00
    CHANNEL_ACCESS_FAILURE = 0xE1
    DENIED = 0xE2
    FRAME_TOO_LONG = 0xE5
    UNAVAILABLE_KEY = 0xF3
    INVALID_PARAMETER = 0xE8
    NO_ACK = 0xE9
    NO_BEACON = 0xEA
    NO_SHORT_ADDRESS = 0xEC
    SCAN_IN_PROGRESS = 0xFC
    SECURITY_ERROR = 0xE4


class SecurityFailure(enum.Enum):
    """Why the MAC has refused a protected frame."""

    UNKNOWN_KEY = "unknown key"
    """There is no group master key at its index."""
    WRONG_MIC = "wrong MIC"
    """Another key, or changed on its way."""
    OLD_COUNTER = "old counter"
    """Not above the last one of its sender: a copy."""
    NO_ADDRESS = "no address"
    """Without the short address that its nonce needs."""


class MacIndication(msgspec.Struct, frozen=True):
    """MCPS-DATA.indication: an MSDU that has arrived, whole and checked."""

    source: Address
    destination: Address
    pan_id: int
    msdu: bytes
    lqi: int
    """Link quality 0 to 255: 4 × (SNR in dB + 10)."""
    secured: bool
    key_index: int = 0
    priority: bool = False
    """QualityOfService: the frame came in the high-priority window (CAP of the segment control field)."""


class Beacon(msgspec.Struct, frozen=True):
    """MLME-BEACON-NOTIFY.indication: an answer to a scan."""

    source: Address
    pan_id: int
    lqi: int
    rc_coord: int
    """Route cost to the coordinator: 0 the coordinator, 0x7FFF just joined, 0xFFFF not associated."""


class Link(msgspec.Struct, frozen=True):
    """What the MAC's neighbour table knows of a neighbour, for LOADng's link cost."""

    lqi: int
    modulation: int
    """0 ROBO, 1 DBPSK, 2 DQPSK, 3 D8PSK: what this node sends to it with."""
    robo: bool
    active_tones: int
    max_tones: int
    reverse_lqi: int | None = None
    """LQI at the neighbour of what this node sends, as its tone map response said."""


Confirm = Callable[[MacStatus], object]


class Mac(Protocol):
    """What the MAC gives to the layer above."""

    @property
    def eui64(self) -> bytes:
        """The node's extended address."""

    pan_id: int
    short_address: int
    """0xFFFF while the node has none."""

    def data(
        self, destination: Address, msdu: bytes, confirm: Confirm, *, priority: bool = False, secured: bool = True
    ) -> None:
        """MCPS-DATA.request: send an MSDU of at most 400 octets, acknowledged unless broadcast."""

    def scan(self, seconds: float, done: Callable[[list[Beacon]], object]) -> None:
        """MLME-SCAN.request (active): send a beacon request, collect beacons."""

    def start(self, pan_id: int) -> None:
        """MLME-START.request: become the coordinator of a PAN, with short address 0."""

    def reset(self) -> None:
        """MLME-RESET.request: forget address, keys, neighbours and what waits to be sent."""

    def set_key(self, index: int, key: bytes) -> None:
        """Install a group master key (16 octets) at index 0 or 1; its own frame counter goes on, never back."""

    def remove_key(self, index: int) -> None:
        """Remove a group master key."""

    def activate_key(self, index: int) -> None:
        """Secure what is sent with this key from now on; frames under the other are still taken."""

    def link(self, neighbour: int) -> Link | None:
        """Return what the neighbour table knows of a short address."""


class MacUser(Protocol):
    """What the MAC calls in the layer above."""

    def mac_data(self, indication: MacIndication) -> None:
        """Take an MSDU."""

    def mac_beacon_request(self) -> int | None:
        """Return this node's rc_coord for a beacon, ``None`` to stay silent."""

    def mac_security_failure(self, source: Address, failure: SecurityFailure) -> None:
        """Take note of a frame that failed its protection (it is dropped)."""


class LbpLink(Protocol):
    """What the ADP gives to the bootstrap of a device and to the coordinator's PAN management."""

    def send_lbp(self, destination: Address, message: bytes, confirm: Confirm) -> None:
        """Send an LBP message (the octets behind ``40 02``).

        To a short address: routed and secured once this node has a short address itself, one hop and plain before
        (a joining device and its agent). To an EUI-64: one hop and plain (an agent and its joining device).
        """


class LbpUser(Protocol):
    """What the ADP calls when LBP arrives: a device's bootstrap or the coordinator's PAN management."""

    def lbp_message(self, source: Address, message: bytes, *, secured: bool) -> None:
        """Take an LBP message; ``source`` is the originator (mesh header) or the neighbour it came from."""
