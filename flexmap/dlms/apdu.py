"""xDLMS APDUs (IEC 62056-5-3 clause 8): codes, initiate services, what responses are made of."""

from __future__ import annotations

import enum

import msgspec

from flexmap.dlms.axdr import encode_length, take_octet_string, take_octets
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
    READ_REQUEST = 0x05
    WRITE_REQUEST = 0x06
    READ_RESPONSE = 0x0C
    WRITE_RESPONSE = 0x0D
    DATA_NOTIFICATION = 0x0F
    UNCONFIRMED_WRITE_REQUEST = 0x16
    INFORMATION_REPORT_REQUEST = 0x18
    GET_REQUEST = 0xC0
    SET_REQUEST = 0xC1
    EVENT_NOTIFICATION_REQUEST = 0xC2
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
    ACCESS_REQUEST = 0xD9
    ACCESS_RESPONSE = 0xDA
    GENERAL_GLO_CIPHERING = 0xDB
    GENERAL_DED_CIPHERING = 0xDC
    GENERAL_CIPHERING = 0xDD
    GENERAL_SIGNING = 0xDF
    GENERAL_BLOCK_TRANSFER = 0xE0


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
    GENERAL_BLOCK_TRANSFER = 1 << 21
    READ = 1 << 20
    WRITE = 1 << 19
    UNCONFIRMED_WRITE = 1 << 18
    ATTRIBUTE_0_WITH_SET = 1 << 15
    PRIORITY_MANAGEMENT = 1 << 14
    ATTRIBUTE_0_WITH_GET = 1 << 13
    BLOCK_TRANSFER_WITH_GET = 1 << 12
    BLOCK_TRANSFER_WITH_SET = 1 << 11
    BLOCK_TRANSFER_WITH_ACTION = 1 << 10
    MULTIPLE_REFERENCES = 1 << 9
    INFORMATION_REPORT = 1 << 8
    DATA_NOTIFICATION = 1 << 7
    ACCESS = 1 << 6
    PARAMETERISED_ACCESS = 1 << 5
    GET = 1 << 4
    SET = 1 << 3
    SELECTIVE_ACCESS = 1 << 2
    EVENT_NOTIFICATION = 1 << 1
    ACTION = 1 << 0


CONFORMANCE_LN = (
    Conformance.GENERAL_PROTECTION
    | Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.ATTRIBUTE_0_WITH_SET
    | Conformance.PRIORITY_MANAGEMENT
    | Conformance.ATTRIBUTE_0_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_SET
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.ACCESS
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.ACTION
)
"""What this server does with logical names; nothing else is ever negotiated."""
CONFORMANCE_SN = (
    Conformance.GENERAL_PROTECTION
    | Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.READ
    | Conformance.WRITE
    | Conformance.UNCONFIRMED_WRITE
    | Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_SET
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.PARAMETERISED_ACCESS
)
"""What it does with short names."""


DLMS_VERSION = 6
VAA_NAME_LN, VAA_NAME_SN = 7, 0xFA00
"""vaa-name of a server with logical and with short name referencing."""
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
    vaa_name: int = VAA_NAME_LN


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
    finish(octets, at)
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
    finish(octets, at)
    return InitiateResponse(conformance=conformance, max_pdu=int.from_bytes(size, "big"), version=version[0])


def encode_initiate_response(response: InitiateResponse) -> bytes:
    """Return the InitiateResponse."""
    return b"".join(
        (
            b"\x08\x00",
            bytes((response.version,)),
            _CONFORMANCE_HEADER,
            response.conformance.to_bytes(3, "big"),
            response.max_pdu.to_bytes(2, "big"),
            response.vaa_name.to_bytes(2, "big"),
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


def finish(octets: bytes, at: int) -> None:
    """Raise ApduError if anything stands behind ``at``."""
    if at != len(octets):
        raise ApduError(f"{len(octets) - at} octets behind the APDU")


# --- responses as a server writes them --------------------------------------------------------------------

NORMAL, WITH_LIST = 1, 3
"""Choices of a request or response, GET and ACTION; SET has its own list."""
GET_NEXT = 2
SET_WITH_LIST, SET_LIST_FIRST_BLOCK = 4, 5
ACTION_NEXT, ACTION_LIST_FIRST_BLOCK = 2, 5


class Block(msgspec.Struct, frozen=True):
    """One block of a long value."""

    last: bool
    number: int
    raw: bytes


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
