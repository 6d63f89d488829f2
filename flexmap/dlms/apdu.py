"""xDLMS APDUs with logical name referencing (IEC 62056-5-3 clause 8): codes, requests read, responses written.

Values stay encoded (A-XDR ``bytes``): they are cut out of a request, not decoded.
"""

from __future__ import annotations

import enum

import msgspec

from flexmap.dlms.axdr import decode_length, encode_length, take_octet_string, take_octets, take_value
from flexmap.model.error import RemoteError


class ApduError(RemoteError):
    """A peer's octets are not an APDU that can be understood."""


class Tag(enum.IntEnum):
    """First octet of an APDU."""

    INITIATE_REQUEST = 0x01
    INITIATE_RESPONSE = 0x08
    CONFIRMED_SERVICE_ERROR = 0x0E
    GLO_INITIATE_REQUEST = 0x21
    GLO_INITIATE_RESPONSE = 0x28
    GET_REQUEST = 0xC0
    SET_REQUEST = 0xC1
    ACTION_REQUEST = 0xC3
    GET_RESPONSE = 0xC4
    SET_RESPONSE = 0xC5
    ACTION_RESPONSE = 0xC7
    GLO_GET_REQUEST = 0xC8
    GLO_SET_REQUEST = 0xC9
    GLO_ACTION_REQUEST = 0xCB
    GLO_GET_RESPONSE = 0xCC
    GLO_SET_RESPONSE = 0xCD
    GLO_ACTION_RESPONSE = 0xCF
    EXCEPTION_RESPONSE = 0xD8
    GENERAL_GLO_CIPHERING = 0xDB
    GENERAL_DED_CIPHERING = 0xDC
    GENERAL_CIPHERING = 0xDD
    GENERAL_SIGNING = 0xDF


class DataAccessResult(enum.IntEnum):
    """Results of GET and SET."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250


class ActionResult(enum.IntEnum):
    """Results of ACTION."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_ACTION_ABORTED = 15
    NO_LONG_ACTION_IN_PROGRESS = 16
    OTHER_REASON = 250


class StateError(enum.IntEnum):
    """First octet of an exception response."""

    SERVICE_NOT_ALLOWED = 1
    SERVICE_UNKNOWN = 2


class ServiceError(enum.IntEnum):
    """Second octet of an exception response."""

    OPERATION_NOT_POSSIBLE = 1
    SERVICE_NOT_SUPPORTED = 2
    OTHER_REASON = 3
    PDU_TOO_LONG = 4
    DECIPHERING_ERROR = 5
    INVOCATION_COUNTER_ERROR = 6


class InitiateError(enum.IntEnum):
    """Why an initiate request is refused (ServiceError.initiate)."""

    DLMS_VERSION_TOO_LOW = 1
    INCOMPATIBLE_CONFORMANCE = 2
    PDU_SIZE_TOO_SHORT = 3
    REFUSED_BY_THE_VDE_HANDLER = 4


class Conformance(enum.IntFlag):
    """Conformance block: 24 bits, bit 0 of the standard the highest."""

    GENERAL_PROTECTION = 1 << 22
    BLOCK_TRANSFER_WITH_GET = 1 << 12
    BLOCK_TRANSFER_WITH_SET = 1 << 11
    BLOCK_TRANSFER_WITH_ACTION = 1 << 10
    MULTIPLE_REFERENCES = 1 << 9
    GET = 1 << 4
    SET = 1 << 3
    SELECTIVE_ACCESS = 1 << 2
    ACTION = 1 << 0


DLMS_VERSION = 6
VAA_NAME_LN = 7
MIN_PDU = 64
"""Smallest max receive PDU size that a server accepts."""


# --- initiate ---------------------------------------------------------------------------------------------


class InitiateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """xDLMS InitiateRequest."""

    conformance: int
    max_pdu: int
    """Octets the client can receive; 0 is no limit."""
    version: int = DLMS_VERSION
    response_allowed: bool = True
    dedicated_key: bytes | None = None


class InitiateResponse(msgspec.Struct, frozen=True, kw_only=True):
    """xDLMS InitiateResponse."""

    conformance: int
    max_pdu: int
    version: int = DLMS_VERSION


def decode_initiate_request(octets: bytes) -> InitiateRequest:
    """Return the fields of an InitiateRequest; raises ApduError or AxdrError."""
    tag, at = take_octets(octets, 0, 1)
    if tag[0] != Tag.INITIATE_REQUEST:
        raise ApduError("initiate request expected")
    dedicated_key = None
    present, at = take_octets(octets, at, 1)
    if present != b"\x00":
        dedicated_key, at = take_octet_string(octets, at)
    response_allowed = b"\x01"
    present, at = take_octets(octets, at, 1)
    if present != b"\x00":
        response_allowed, at = take_octets(octets, at, 1)
    present, at = take_octets(octets, at, 1)
    if present != b"\x00":
        _, at = take_octets(octets, at, 1)
    version, at = take_octets(octets, at, 1)
    conformance, at = _take_conformance(octets, at)
    size, at = take_octets(octets, at, 2)
    _finish(octets, at)
    return InitiateRequest(
        conformance=conformance,
        max_pdu=int.from_bytes(size, "big"),
        version=version[0],
        response_allowed=response_allowed != b"\x00",
        dedicated_key=dedicated_key,
    )


def encode_initiate_request(request: InitiateRequest) -> bytes:
    """Return the InitiateRequest; response_allowed and quality of service are left at their defaults."""
    key = request.dedicated_key
    return b"".join(
        (
            b"\x01",
            b"\x00" if key is None else b"\x01" + encode_length(len(key)) + key,
            b"\x00\x00",
            bytes((request.version,)),
            _CONFORMANCE_HEADER,
            request.conformance.to_bytes(3, "big"),
            request.max_pdu.to_bytes(2, "big"),
        )
    )


def decode_initiate_response(octets: bytes) -> InitiateResponse:
    """Return the fields of an InitiateResponse; raises ApduError or AxdrError."""
    tag, at = take_octets(octets, 0, 1)
    if tag[0] != Tag.INITIATE_RESPONSE:
        raise ApduError("initiate response expected")
    present, at = take_octets(octets, at, 1)
    if present != b"\x00":
        _, at = take_octets(octets, at, 1)
    version, at = take_octets(octets, at, 1)
    conformance, at = _take_conformance(octets, at)
    size, at = take_octets(octets, at, 2)
    _, at = take_octets(octets, at, 2)
    _finish(octets, at)
    return InitiateResponse(conformance=conformance, max_pdu=int.from_bytes(size, "big"), version=version[0])


def encode_initiate_response(response: InitiateResponse) -> bytes:
    """Return the InitiateResponse of a server with logical name referencing."""
    return b"".join(
        (
            b"\x08\x00",
            bytes((response.version,)),
            _CONFORMANCE_HEADER,
            response.conformance.to_bytes(3, "big"),
            response.max_pdu.to_bytes(2, "big"),
            VAA_NAME_LN.to_bytes(2, "big"),
        )
    )


def encode_initiate_error(error: InitiateError) -> bytes:
    """Return the ConfirmedServiceError that refuses an initiate request."""
    return bytes((Tag.CONFIRMED_SERVICE_ERROR, 1, 6, error))


_CONFORMANCE_HEADER = b"\x5f\x1f\x04\x00"


def _take_conformance(octets: bytes, at: int) -> tuple[int, int]:
    """Read ``[APPLICATION 31] BIT STRING``; some clients leave the second octet of the tag away."""
    header, end = take_octets(octets, at, 4)
    if header != _CONFORMANCE_HEADER:
        header, end = take_octets(octets, at, 3)
        if header != b"\x5f\x04\x00":
            raise ApduError("conformance block expected")
    bits, end = take_octets(octets, end, 3)
    return int.from_bytes(bits, "big"), end


def _finish(octets: bytes, at: int) -> None:
    if at != len(octets):
        raise ApduError(f"{len(octets) - at} octets behind the APDU")


# --- requests as a server reads them ----------------------------------------------------------------------


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


class Block(msgspec.Struct, frozen=True):
    """One block of a long value."""

    last: bool
    number: int
    raw: bytes


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


NORMAL, WITH_LIST = 1, 3
GET_NEXT = 2
SET_LIST_FIRST_BLOCK = 5
ACTION_NEXT, ACTION_LIST_FIRST_BLOCK = 2, 5


class _Cursor:
    """Reads the fields of one request in order."""

    __slots__ = ("at", "octets")

    def __init__(self, octets: bytes, at: int) -> None:
        self.octets = octets
        self.at = at

    def take(self, count: int) -> bytes:
        taken, self.at = take_octets(self.octets, self.at, count)
        return taken

    def count(self) -> int:
        count, self.at = decode_length(self.octets, self.at)
        if count > len(self.octets) - self.at:
            raise ApduError(f"{count} elements announced, {len(self.octets) - self.at} octets there")
        return count

    def value(self) -> bytes:
        value, self.at = take_value(self.octets, self.at)
        return value

    def attribute(self) -> Target:
        key = self.take(9)
        if self.take(1) == b"\x00":
            return Target(key)
        return Target(key, self.take(1)[0], self.value())

    def method(self) -> Target:
        return Target(self.take(9))

    def parameter(self) -> bytes | None:
        return None if self.take(1) == b"\x00" else self.value()

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def block(self) -> Block:
        last = self.take(1) != b"\x00"
        number = self.number()
        raw, self.at = take_octet_string(self.octets, self.at)
        return Block(last, number, raw)

    def attributes(self) -> tuple[Target, ...]:
        return tuple(self.attribute() for _ in range(self.count()))

    def methods(self) -> tuple[Target, ...]:
        return tuple(self.method() for _ in range(self.count()))

    def values(self) -> tuple[bytes, ...]:
        return tuple(self.value() for _ in range(self.count()))


def decode_request(apdu: bytes) -> Request:
    """Return the fields of a GET, SET or ACTION request; raises ApduError or AxdrError."""
    if len(apdu) < 3:
        raise ApduError(f"request of {len(apdu)} octets")
    service, kind, invoke = apdu[:3]
    cursor = _Cursor(apdu, 3)
    targets: tuple[Target, ...] = ()
    values: tuple[bytes | None, ...] = ()
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
    _finish(apdu, cursor.at)
    if values and len(values) != len(targets):
        raise ApduError(f"{len(targets)} targets, {len(values)} values")
    return Request(
        service=service,
        kind=kind,
        invoke=invoke,
        targets=targets,
        values=values,
        block=block,
        number=number,
    )


# --- responses as a server writes them --------------------------------------------------------------------


def exception_response(state: StateError, service: ServiceError, counter: int | None = None) -> bytes:
    """Return an exception response; ``counter`` goes with INVOCATION_COUNTER_ERROR."""
    octets = bytes((Tag.EXCEPTION_RESPONSE, state, service))
    return octets if counter is None else octets + counter.to_bytes(4, "big")


def data_block(*, last: bool, number: int, raw: bytes) -> bytes:
    """Return DataBlock-SA: last-block, block-number, raw-data."""
    return bytes((last,)) + number.to_bytes(4, "big") + encode_length(len(raw)) + raw


def get_block_response(invoke: int, block: Block) -> bytes:
    """Return a GET response with one block of data."""
    number = block.number.to_bytes(4, "big")
    head = bytes((Tag.GET_RESPONSE, 2, invoke, block.last)) + number
    return head + b"\x00" + encode_length(len(block.raw)) + block.raw


def get_block_error(invoke: int, number: int, result: DataAccessResult) -> bytes:
    """Return a GET response that ends a block transfer with a result."""
    return bytes((Tag.GET_RESPONSE, 2, invoke, 1)) + number.to_bytes(4, "big") + bytes((1, result))


def action_item(result: int, returned: bytes | None) -> bytes:
    """Return result and optional return parameters of one method."""
    return bytes((result, 0)) if returned is None else bytes((result, 1, 0)) + returned
