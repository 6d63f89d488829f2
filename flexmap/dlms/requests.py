"""Requests with logical name referencing as a server reads them (IEC 62056-5-3 clause 8).

Values stay encoded (A-XDR ``bytes``): they are cut out of a request, not decoded.
"""

from __future__ import annotations

import msgspec

from flexmap.dlms.apdu import ApduError, Block, Tag, finish
from flexmap.dlms.axdr import decode_length, take_octet_string, take_octets, take_value


class Target(msgspec.Struct, frozen=True):
    """An attribute or method, as a request names it."""

    key: bytes
    """Nine octets: class id (2), logical name (6), attribute or method (1)."""
    selector: int = 0
    """Access selector; 0 is none."""
    parameters: bytes = b""
    """Access parameters, encoded."""

    @property
    def class_id(self) -> int:
        """Interface class."""
        return int.from_bytes(self.key[:2], "big")

    @property
    def logical_name(self) -> bytes:
        """Six octets."""
        return self.key[2:8]

    @property
    def index(self) -> int:
        """Attribute or method number, signed (IEC 62056-5-3: Integer8)."""
        return int.from_bytes(self.key[8:], "big", signed=True)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A GET, SET or ACTION request."""

    service: int
    """GET_REQUEST, SET_REQUEST or ACTION_REQUEST."""
    kind: int
    """The choice within the service, as on the wire."""
    invoke: int
    """Invoke-id and priority."""
    targets: tuple[Target, ...] = ()
    values: tuple[bytes | None, ...] = ()
    """One encoded value (SET) or parameter (ACTION, ``None`` without) for each target."""
    block: Block | None = None
    number: int = 0
    """Block number that a request for the next block acknowledges."""

    @property
    def confirmed(self) -> bool:
        """The service class asks for a response."""
        return bool(self.invoke & 0x40)

    @property
    def urgent(self) -> bool:
        """It has high priority."""
        return bool(self.invoke & 0x80)


class Cursor:
    """Reads the fields of one APDU in order; raises AxdrError or ApduError."""

    __slots__ = ("at", "octets")

    def __init__(self, octets: bytes, at: int) -> None:
        self.octets = octets
        self.at = at

    def finish(self) -> None:
        """Raise ApduError if anything is left."""
        finish(self.octets, self.at)

    def take(self, count: int) -> bytes:
        """Return so many octets."""
        taken, self.at = take_octets(self.octets, self.at, count)
        return taken

    def count(self) -> int:
        """Return a count of elements, of which each has an octet at least."""
        count, self.at = decode_length(self.octets, self.at)
        if count > len(self.octets) - self.at:
            raise ApduError(f"{count} elements announced, {len(self.octets) - self.at} octets there")
        return count

    def value(self) -> bytes:
        """Return one encoded value."""
        value, self.at = take_value(self.octets, self.at)
        return value

    def attribute(self) -> Target:
        """Return an attribute descriptor with its access selection."""
        key = self.take(9)
        if self.take(1) == b"\x00":
            return Target(key)
        return Target(key, self.take(1)[0], self.value())

    def method(self) -> Target:
        """Return a method descriptor."""
        return Target(self.take(9))

    def parameter(self) -> bytes | None:
        """Return an optional value."""
        return None if self.take(1) == b"\x00" else self.value()

    def number(self) -> int:
        """Return a block number."""
        return int.from_bytes(self.take(4), "big")

    def block(self) -> Block:
        """Return DataBlock-SA."""
        last = self.take(1) != b"\x00"
        number = self.number()
        raw, self.at = take_octet_string(self.octets, self.at)
        return Block(last, number, raw)

    def attributes(self) -> tuple[Target, ...]:
        """Return a list of attributes."""
        return tuple(self.attribute() for _ in range(self.count()))

    def methods(self) -> tuple[Target, ...]:
        """Return a list of methods."""
        return tuple(self.method() for _ in range(self.count()))

    def values(self) -> tuple[bytes, ...]:
        """Return a list of values."""
        return tuple(self.value() for _ in range(self.count()))


def decode_request(apdu: bytes) -> Request:
    """Return the fields of a GET, SET or ACTION request; raises ApduError or AxdrError."""
    if len(apdu) < 3:
        raise ApduError(f"request of {len(apdu)} octets")
    service, kind, invoke = apdu[:3]
    cursor = Cursor(apdu, 3)
    targets: tuple[Target, ...] = ()
    values: tuple[bytes | None, ...] | None = None
    block: Block | None = None
    number = 0
    match service, kind:
        case Tag.GET_REQUEST, 1:
            targets = (cursor.attribute(),)
        case (Tag.GET_REQUEST, 2) | (Tag.ACTION_REQUEST, 2):
            number = cursor.number()
        case Tag.GET_REQUEST, 3:
            targets = cursor.attributes()
        case Tag.SET_REQUEST, 1:
            targets, values = (cursor.attribute(),), (cursor.value(),)
        case Tag.SET_REQUEST, 2:
            targets, block = (cursor.attribute(),), cursor.block()
        case (Tag.SET_REQUEST, 3) | (Tag.ACTION_REQUEST, 6):
            block = cursor.block()
        case Tag.SET_REQUEST, 4:
            targets, values = cursor.attributes(), cursor.values()
        case Tag.SET_REQUEST, 5:
            targets, block = cursor.attributes(), cursor.block()
        case Tag.ACTION_REQUEST, 1:
            targets, values = (cursor.method(),), (cursor.parameter(),)
        case Tag.ACTION_REQUEST, 3:
            targets, values = cursor.methods(), cursor.values()
        case Tag.ACTION_REQUEST, 4:
            targets, block = (cursor.method(),), cursor.block()
        case Tag.ACTION_REQUEST, 5:
            targets, block = cursor.methods(), cursor.block()
        case _:
            raise ApduError(f"unknown request {service:#04x} {kind}")
    cursor.finish()
    if values is not None and len(values) != len(targets):
        raise ApduError(f"{len(targets)} targets, {len(values)} values")
    return Request(
        service=service,
        kind=kind,
        invoke=invoke,
        targets=targets,
        values=values or (),
        block=block,
        number=number,
    )
