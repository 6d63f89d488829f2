"""LBP, the LoWPAN bootstrapping protocol (ITU-T G.9903, commissioning): messages and configuration parameters.

A message travels behind the ESC octets ``40 02``: type and code in the high nibble of the first octet, twelve
bits of zero, the EUI-64 of the device it is about, then EAP packets or configuration parameters (layouts:
confidence A).
"""

from __future__ import annotations

import enum

import msgspec

from flexmap.model.error import RemoteError

HEADER_SIZE = 10


class LbpError(RemoteError):
    """A peer sent an LBP message that does not parse."""


class Kind(enum.IntEnum):
    """Type and code of a message; 8 and above come from the coordinator."""

    JOINING = 0x1
    LEAVE = 0x4
    """KICK by the device: it leaves."""
    ACCEPTED = 0x9
    CHALLENGE = 0xA
    DECLINE = 0xB
    KICK = 0xC
    """KICK by the coordinator."""

    @property
    def to_device(self) -> bool:
        """Whether the coordinator sends it."""
        return self >= 8


class Message(msgspec.Struct, frozen=True):
    """An LBP message about one device."""

    kind: Kind
    eui64: bytes
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the octets behind the ESC command."""
        return bytes((self.kind << 4, 0)) + self.eui64 + self.data


def is_first_joining(octets: bytes) -> bool:
    """Return whether a message is a JOINING that begins an attempt."""
    return len(octets) == HEADER_SIZE and octets[0] >> 4 == Kind.JOINING


_KINDS = {int(kind): kind for kind in Kind}


def parse(octets: bytes) -> Message:
    """Return a message; raise :class:`LbpError`."""
    if len(octets) < HEADER_SIZE:
        raise LbpError(f"LBP message of {len(octets)} octets")
    kind = _KINDS.get(octets[0] >> 4)
    if kind is None or octets[0] & 0x0F or octets[1]:
        raise LbpError(f"LBP type and code {octets[:2].hex()}")
    return Message(kind, octets[2:HEADER_SIZE], octets[HEADER_SIZE:])


class ParameterId(enum.IntEnum):
    """Identifier of a configuration parameter as it stands on the wire: attribute << 2 | M << 1 | 1."""

    SHORT_ADDRESS = 0x1D
    GMK = 0x27
    GMK_ACTIVATION = 0x2B
    GMK_REMOVAL = 0x2F
    RESULT = 0x31


class ParameterResult(enum.IntEnum):
    """What a device made of the parameters."""

    SUCCESS = 0
    MISSING = 1
    INVALID = 2
    UNKNOWN = 3


class ParameterError(LbpError):
    """A parameter is missing, invalid or unknown; carries what the RESULT parameter says."""

    def __init__(self, result: ParameterResult, parameter: int) -> None:
        super().__init__(f"configuration parameter 0x{parameter:02X}: {result.name.lower()}")
        self.result = result
        self.parameter = parameter


class Outcome(msgspec.Struct, frozen=True):
    """The RESULT parameter."""

    result: ParameterResult
    parameter: int = 0
    """The parameter it is about, 0 if all went well."""


class Parameters(msgspec.Struct, frozen=True):
    """Configuration parameters of one message; ``None`` and empty where absent."""

    short_address: int | None = None
    keys: tuple[tuple[int, bytes], ...] = ()
    """GMK: index 0 or 1, and 16 octets."""
    activate: int | None = None
    remove: int | None = None
    outcome: Outcome | None = None

    def encode(self) -> bytes:
        """Return identifier, length, value of each parameter."""
        out = bytearray()
        if self.short_address is not None:
            out += bytes((ParameterId.SHORT_ADDRESS, 2)) + self.short_address.to_bytes(2, "big")
        for index, key in self.keys:
            out += bytes((ParameterId.GMK, 17, index)) + key
        if self.activate is not None:
            out += bytes((ParameterId.GMK_ACTIVATION, 1, self.activate))
        if self.remove is not None:
            out += bytes((ParameterId.GMK_REMOVAL, 1, self.remove))
        if self.outcome is not None:
            out += bytes((ParameterId.RESULT, 2, self.outcome.result, self.outcome.parameter))
        return bytes(out)


_LENGTHS = {
    ParameterId.SHORT_ADDRESS: 2,
    ParameterId.GMK: 17,
    ParameterId.GMK_ACTIVATION: 1,
    ParameterId.GMK_REMOVAL: 1,
    ParameterId.RESULT: 2,
}


def _check(identifier: int, value: bytes) -> None:
    if identifier not in _LENGTHS:
        raise ParameterError(ParameterResult.UNKNOWN, identifier)
    if len(value) != _LENGTHS[ParameterId(identifier)]:
        raise ParameterError(ParameterResult.INVALID, identifier)
    # The first octet of a key parameter is an index, 0 or 1; of a result, a ParameterResult.
    most = {ParameterId.SHORT_ADDRESS: 0xFF, ParameterId.RESULT: ParameterResult.UNKNOWN}.get(
        ParameterId(identifier), 1
    )
    if value[0] > most:
        raise ParameterError(ParameterResult.INVALID, identifier)


def _split(octets: bytes) -> list[tuple[int, bytes]]:
    """Return identifier and checked value of each parameter."""
    found = []
    offset = 0
    while offset < len(octets):
        identifier = octets[offset]
        if offset + 2 > len(octets) or offset + 2 + octets[offset + 1] > len(octets):
            raise ParameterError(ParameterResult.INVALID, identifier)
        end = offset + 2 + octets[offset + 1]
        value = octets[offset + 2 : end]
        _check(identifier, value)
        found.append((identifier, value))
        offset = end
    return found


def parse_parameters(octets: bytes) -> Parameters:
    """Return configuration parameters; raise :class:`ParameterError` (unknown, invalid, cut short, twice)."""
    single: dict[int, bytes] = {}
    keys: dict[int, bytes] = {}
    for identifier, value in _split(octets):
        if identifier in single or (identifier == ParameterId.GMK and value[0] in keys):
            raise ParameterError(ParameterResult.INVALID, identifier)
        if identifier == ParameterId.GMK:
            keys[value[0]] = value[1:]
        else:
            single[identifier] = value
    short = single.get(ParameterId.SHORT_ADDRESS)
    activate = single.get(ParameterId.GMK_ACTIVATION)
    remove = single.get(ParameterId.GMK_REMOVAL)
    outcome = single.get(ParameterId.RESULT)
    return Parameters(
        short_address=None if short is None else int.from_bytes(short, "big"),
        keys=tuple(keys.items()),
        activate=None if activate is None else activate[0],
        remove=None if remove is None else remove[0],
        outcome=None if outcome is None else Outcome(ParameterResult(outcome[0]), outcome[1]),
    )
