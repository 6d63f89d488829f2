"""What a PAN coordinator knows: its state to keep across restarts, access lists, pre-shared keys, counters."""

from __future__ import annotations

import msgspec

from flexmap.model.error import ConfigurationError

FIRST_SHORT_ADDRESS = 0x0001  # 0x0000 is the coordinator
LAST_SHORT_ADDRESS = (
    0x7FFF  # above: multicast (mesh final 0x8001) and broadcast (RFC 4944 clause 12, confidence A)
)
MOST_PROMISED = 256
"""Devices that have begun to join, and whose short addresses are kept for them: the last ones."""


class Registered(msgspec.Struct, frozen=True):
    """A device of the PAN."""

    eui64: bytes
    short_address: int
    joined_at: float
    """Seconds of the coordinator's scheduler."""


class PanState(msgspec.Struct, frozen=True):
    """Everything a coordinator needs to go on with its PAN; holds keys, so it belongs in a file of mode 0600."""

    pan_id: int
    keys: tuple[tuple[int, bytes], ...]
    """Group master keys: index 0 or 1, and 16 octets."""
    active: int
    """Index of the key in use."""
    devices: tuple[Registered, ...] = ()
    spent: tuple[int, ...] = ()
    """Short addresses of devices that have gone. Neighbours still hold their frame counters, so an address is
    given again only after the next re-keying."""


class Psks(msgspec.Struct, frozen=True):
    """Pre-shared keys: one per EUI-64, else the common one."""

    common: bytes | None = None
    devices: dict[bytes, bytes] = {}

    def __post_init__(self) -> None:
        """Refuse keys and names of a wrong length."""
        keys = list(self.devices.values()) + ([] if self.common is None else [self.common])
        if any(len(key) != 16 for key in keys) or any(len(eui64) != 8 for eui64 in self.devices):
            raise ConfigurationError("a PSK has 16 octets and belongs to an EUI-64 of 8 octets")

    def find(self, eui64: bytes) -> bytes | None:
        """Return the PSK of a device."""
        return self.devices.get(eui64, self.common)


class AccessList:
    """Who may join: nobody on the black list; with a white list, nobody but those on it."""

    __slots__ = ("black", "white")

    def __init__(self, black: set[bytes] | None = None, white: set[bytes] | None = None) -> None:
        self.black = set() if black is None else black
        self.white = white

    def refusal(self, eui64: bytes) -> str | None:
        """Return the counter of the refusal, ``None`` if the device may join."""
        if eui64 in self.black:
            return "declined_black"
        if self.white is not None and eui64 not in self.white:
            return "declined_white"
        return None


class Counters:
    """What the PAN management has done and refused."""

    __slots__ = (
        "authentication_failures",
        "declined_black",
        "declined_full",
        "declined_no_psk",
        "declined_white",
        "joined",
        "kicked",
        "left",
        "malformed",
        "parameter_refusals",
        "postponed",
        "rejoined",
        "rekeyed",
        "removed",
        "timeouts",
        "unexpected",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def count(self, name: str) -> None:
        """Add one."""
        setattr(self, name, getattr(self, name) + 1)

    def all(self) -> dict[str, int]:
        """Return name and count."""
        return {name: getattr(self, name) for name in self.__slots__}


class Registry:
    """The devices of a PAN by EUI-64 and by short address; gives short addresses."""

    __slots__ = ("_by_eui64", "_by_short", "_next", "_promised", "_spent")

    def __init__(self, devices: tuple[Registered, ...] = (), spent: tuple[int, ...] = ()) -> None:
        self._by_eui64 = {device.eui64: device for device in devices}
        self._by_short = {device.short_address: device for device in devices}
        self._promised: dict[bytes, int] = {}
        self._spent = set(spent)
        self._next = FIRST_SHORT_ADDRESS

    def __len__(self) -> int:
        return len(self._by_eui64)

    def devices(self) -> tuple[Registered, ...]:
        """Return all devices."""
        return tuple(self._by_eui64.values())

    def spent(self) -> tuple[int, ...]:
        """Return the short addresses that must wait for a re-keying."""
        return tuple(sorted(self._spent))

    def by_eui64(self, eui64: bytes) -> Registered | None:
        """Return a device."""
        return self._by_eui64.get(eui64)

    def by_short(self, short_address: int) -> Registered | None:
        """Return a device."""
        return self._by_short.get(short_address)

    def promise(self, eui64: bytes) -> int | None:
        """Return the short address a device has or will have, ``None`` if there is none left."""
        known = self._by_eui64.get(eui64)
        if known is not None:
            return known.short_address
        if eui64 in self._promised:
            self._promised[eui64] = self._promised.pop(eui64)  # the last one now
            return self._promised[eui64]
        if len(self._promised) >= MOST_PROMISED:
            del self._promised[next(iter(self._promised))]
        taken = (
            self._spent.union(self._by_short, self._promised.values()) if self._next > LAST_SHORT_ADDRESS else None
        )
        if taken is None:
            short = self._following()
        else:
            short = next((a for a in range(FIRST_SHORT_ADDRESS, LAST_SHORT_ADDRESS + 1) if a not in taken), None)
        if short is not None:
            self._promised[eui64] = short
        return short

    def _following(self) -> int | None:
        """Return the next address above all given ones."""
        while self._next in self._by_short or self._next in self._spent:
            self._next += 1
        if self._next > LAST_SHORT_ADDRESS:
            return None
        self._next += 1
        return self._next - 1

    def register(self, device: Registered) -> None:
        """Enter a device that has joined."""
        self._promised.pop(device.eui64, None)
        self._by_eui64[device.eui64] = device
        self._by_short[device.short_address] = device

    def remove(self, eui64: bytes) -> Registered | None:
        """Take a device out; its address is spent."""
        device = self._by_eui64.pop(eui64, None)
        if device is not None:
            del self._by_short[device.short_address]
            self._spent.add(device.short_address)
        return device

    def release_spent(self) -> None:
        """Make spent addresses free again: the PAN has a new key, so old frame counters are void."""
        self._spent.clear()
