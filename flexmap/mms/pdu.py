"""MMS PDUs (ISO 9506-2): what is in front of every service, and what says that one failed."""

from __future__ import annotations

import enum

import msgspec

from flexmap.mms import ber
from flexmap.mms.ber import BerError
from flexmap.model.error import RemoteError

CONFIRMED_REQUEST, CONFIRMED_RESPONSE, CONFIRMED_ERROR, UNCONFIRMED, REJECT = 0xA0, 0xA1, 0xA2, 0xA3, 0xA4
CANCEL_REQUEST, CANCEL_RESPONSE, CANCEL_ERROR = 0x85, 0x86, 0xA7
INITIATE_REQUEST, INITIATE_RESPONSE, INITIATE_ERROR = 0xA8, 0xA9, 0xAA
CONCLUDE_REQUEST, CONCLUDE_RESPONSE = 0x8B, 0x8C


class Service(enum.IntEnum):
    """Confirmed services, by tag."""

    STATUS = 0x80
    GET_NAME_LIST = 0xA1
    IDENTIFY = 0x82
    READ = 0xA4
    WRITE = 0xA5
    GET_VARIABLE_ACCESS_ATTRIBUTES = 0xA6
    DEFINE_NAMED_VARIABLE_LIST = 0xAB
    GET_NAMED_VARIABLE_LIST_ATTRIBUTES = 0xAC
    DELETE_NAMED_VARIABLE_LIST = 0xAD
    READ_JOURNAL = 0xBF41
    INITIALIZE_JOURNAL = 0xBF43
    FILE_OPEN = 0xBF48
    FILE_READ = 0x9F49
    FILE_CLOSE = 0x9F4A
    FILE_RENAME = 0xBF4B
    FILE_DELETE = 0xBF4C
    FILE_DIRECTORY = 0xBF4D

    @property
    def bit(self) -> int:
        """Position in the string of supported services."""
        return self & 0x1F if self <= 0xFF else self & 0x7F


INFORMATION_REPORT_BIT, CONCLUDE_BIT, CANCEL_BIT = 79, 83, 84
_SERVICE_BITS = 85


class ErrorClass(enum.IntEnum):
    """Classes of service errors."""

    VMD_STATE = 0
    APPLICATION_REFERENCE = 1
    DEFINITION = 2
    RESOURCE = 3
    SERVICE = 4
    ACCESS = 7
    INITIATE = 8
    CANCEL = 10
    FILE = 11
    OTHERS = 12


class ServiceError(RemoteError):
    """A confirmed request that gets an error: its class and its code within the class."""

    def __init__(self, error_class: ErrorClass, code: int, what: str = "") -> None:
        super().__init__(what or f"{error_class.name.lower()} {code}")
        self.error_class = error_class
        self.code = code


def no_such_object(what: str) -> ServiceError:
    """Return access / object-non-existent."""
    return ServiceError(ErrorClass.ACCESS, 2, f"no {what}")


def access_unsupported(what: str) -> ServiceError:
    """Return access / object-access-unsupported."""
    return ServiceError(ErrorClass.ACCESS, 1, what)


def access_denied(what: str) -> ServiceError:
    """Return access / object-access-denied."""
    return ServiceError(ErrorClass.ACCESS, 3, what)


class RejectReason(enum.Enum):
    """Reasons of a reject PDU: which PDU (tag) and code."""

    OTHER = (0x81, 0)
    UNRECOGNIZED_SERVICE = (0x81, 1)
    INVALID_ARGUMENT = (0x81, 4)
    TOO_MANY_OUTSTANDING = (0x81, 6)
    VALUE_OUT_OF_RANGE = (0x81, 9)
    UNKNOWN_PDU = (0x85, 0)
    INVALID_PDU = (0x85, 1)


class RejectError(RemoteError):
    """A PDU that is answered by a reject PDU."""

    def __init__(self, reason: RejectReason, what: str = "") -> None:
        super().__init__(what or reason.name.lower())
        self.reason = reason


def reject(reason: RejectReason, invoke: bytes | None) -> bytes:
    """Return a reject PDU, with the invoke identifier's contents if there was one."""
    tag, code = reason.value
    original = b"" if invoke is None else ber.tlv(0x80, invoke)
    return ber.tlv(REJECT, original, bytes((tag, 1, code)))


def service_error(error: ServiceError) -> bytes:
    """Return the contents of a ServiceError."""
    return ber.tlv(0xA0, bytes((0x80 | error.error_class, 1, error.code)))


def confirmed_error(invoke: bytes, error: ServiceError) -> bytes:
    """Return a confirmed error PDU."""
    return ber.tlv(CONFIRMED_ERROR, ber.tlv(0x80, invoke), ber.tlv(0xA2, service_error(error)))


def confirmed_response(invoke: bytes, service: bytes) -> bytes:
    """Return a confirmed response PDU: the invoke identifier's contents as they came, the service's element."""
    return ber.tlv(CONFIRMED_RESPONSE, ber.tlv(0x02, invoke), service)


class Initiate(msgspec.Struct, frozen=True):
    """What a client proposes, or what was negotiated."""

    max_pdu: int
    calling: int
    """Requests that the client may have outstanding at the server (negotiated: max serv outstanding calling)."""
    called: int
    nesting: int


def decode_initiate(pdu: bytes, kind: int = INITIATE_REQUEST) -> Initiate:
    """Return an initiate request, or response; raises BerError. A client that names no PDU size gets ours."""
    begin, end = ber.expect(pdu, 0, len(pdu), kind)
    numbers = {0x80: 0xFFFFFFFF, 0x81: 1, 0x82: 1, 0x83: 0}
    detail = False
    for tag, start, stop in ber.elements(pdu, begin, end):
        if tag in numbers:
            numbers[tag] = ber.unsigned(pdu[start:stop])
        detail = detail or tag == 0xA4
    if not detail:
        raise BerError("an initiate PDU without detail")
    return Initiate(numbers[0x80], numbers[0x81], numbers[0x82], numbers[0x83])


PARAMETER_CBB = bytes.fromhex("8103") + b"\x05\xf1\x00"
"""Conformance building blocks: str1, str2, vnam, valt, vlis (IEC 61850-8-1)."""


def encode_initiate(negotiated: Initiate, services: bytes) -> bytes:
    """Return the initiate response; ``services`` as :func:`supported` gives them."""
    return ber.tlv(INITIATE_RESPONSE, _initiate(negotiated, services))


def initiate_request(proposed: Initiate, services: bytes) -> bytes:
    """Return an initiate request; ``services`` as :func:`supported` gives them."""
    return ber.tlv(INITIATE_REQUEST, _initiate(proposed, services))


def _initiate(numbers: Initiate, services: bytes) -> bytes:
    number = ber.integer_octets
    return b"".join(
        (
            ber.tlv(0x80, number(numbers.max_pdu)),
            ber.tlv(0x81, number(numbers.calling)),
            ber.tlv(0x82, number(numbers.called)),
            ber.tlv(0x83, number(numbers.nesting)),
            ber.tlv(0xA4, b"\x80\x01\x01", PARAMETER_CBB, services),
        )
    )


def supported(bits: set[int]) -> bytes:
    """Return the string of supported services, as element 2 of the initiate detail."""
    octets = bytearray((_SERVICE_BITS + 7) // 8)
    for bit in bits:
        octets[bit // 8] |= 0x80 >> bit % 8
    return ber.tlv(0x82, bytes((-_SERVICE_BITS % 8,)), bytes(octets))


Name = tuple[str | None, str]
"""Domain and item; domain None: VMD-specific, :data:`ASSOCIATION`: of the association alone."""
ASSOCIATION = "@"


def object_name(pdu: bytes, at: int, end: int) -> Name:
    """Return the ObjectName that is the element at ``at``; raises BerError."""
    tag, begin, stop = ber.element(pdu, at, end)
    if tag == 0xA1:
        start, middle = ber.expect(pdu, begin, stop, 0x1A)
        domain = ber.text(pdu[start:middle])
        start, last = ber.expect(pdu, middle, stop, 0x1A)
        return domain, ber.text(pdu[start:last])
    if tag == 0x80:
        return None, ber.text(pdu[begin:stop])
    if tag == 0x82:
        return ASSOCIATION, ber.text(pdu[begin:stop])
    raise BerError(f"object name {tag:#04x}")


def object_names(pdu: bytes, at: int, end: int) -> list[Name]:
    """Return a sequence of ObjectNames; raises BerError."""
    names = []
    while at < end:
        _, _, after = ber.element(pdu, at, end)
        names.append(object_name(pdu, at, after))
        at = after
    return names


def encode_name(name: Name) -> bytes:
    """Return an ObjectName."""
    domain, item = name
    if domain is None:
        return ber.tlv(0x80, item.encode())
    if domain == ASSOCIATION:
        return ber.tlv(0x82, item.encode())
    return ber.tlv(0xA1, ber.tlv(0x1A, domain.encode()), ber.tlv(0x1A, item.encode()))


def information_report(name: Name, results: bytes) -> bytes:
    """Return an information report on a named variable list; ``results`` are its access results, joined."""
    specification = ber.tlv(0xA1, encode_name(name))
    return ber.tlv(UNCONFIRMED, ber.tlv(0xA0, specification, ber.tlv(0xA0, results)))


def variables_report(names: list[Name], results: bytes) -> bytes:
    """Return an information report on single variables: LastApplError and command termination."""
    variables = b"".join(ber.tlv(0x30, ber.tlv(0xA0, encode_name(name))) for name in names)
    return ber.tlv(UNCONFIRMED, ber.tlv(0xA0, ber.tlv(0xA0, variables), ber.tlv(0xA0, results)))
