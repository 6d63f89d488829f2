"""ACSE (ISO/IEC 8650-1): opening and closing an association, with the password mechanism."""

from __future__ import annotations

import enum

import msgspec

from flexmap.mms import ber
from flexmap.mms.ber import BerError

MMS_CONTEXT = bytes.fromhex("28ca220203")
"""Application context name of MMS: {1 0 9506 2 3}."""
PASSWORD = bytes.fromhex("520301")
"""Authentication mechanism name of passwords: {2 2 3 1}."""

AARQ, AARE, RLRQ, RLRE, ABRT = 0x60, 0x61, 0x62, 0x63, 0x64


class Diagnostic(enum.IntEnum):
    """Why the ACSE service user refuses."""

    NULL = 0
    NO_REASON = 1
    APPLICATION_CONTEXT_NOT_SUPPORTED = 2
    MECHANISM_NOT_RECOGNIZED = 11
    AUTHENTICATION_FAILURE = 13
    AUTHENTICATION_REQUIRED = 14


class Aarq(msgspec.Struct, frozen=True):
    """An association request."""

    application_context: bytes
    mechanism: bytes | None
    """Authentication mechanism name, if the client authenticates itself."""
    value: bytes
    """Its authentication value: the password."""
    user: bytes
    """The MMS initiate request."""


def decode_request(apdu: bytes) -> Aarq:
    """Return an AARQ; raises BerError."""
    begin, end = ber.expect(apdu, 0, len(apdu), AARQ)
    name, mechanism, value, user = b"", None, b"", b""
    for tag, start, stop in ber.elements(apdu, begin, end):
        if tag == 0xA1:
            first, last = ber.expect(apdu, start, stop, 0x06)
            name = apdu[first:last]
        elif tag == 0x8B:
            mechanism = apdu[start:stop]
        elif tag == 0xAC:
            kind, first, last = ber.element(apdu, start, stop)
            value = apdu[first:last] if kind == 0x80 else b""
        elif tag == 0xBE:
            user = external(apdu, start, stop)
    return Aarq(name, mechanism, value, user)


def external(apdu: bytes, at: int, end: int) -> bytes:
    """Return the single ASN.1 value of an EXTERNAL (user information); raises BerError."""
    begin, stop = ber.expect(apdu, at, end, 0x28)
    for tag, first, last in ber.elements(apdu, begin, stop):
        if tag == 0xA0:
            return apdu[first:last]
    raise BerError("user information without a value")


def user_information(context: int, value: bytes) -> bytes:
    """Return the user information of an APDU: a value in a presentation context."""
    return ber.tlv(0xBE, ber.tlv(0x28, bytes((0x02, 1, context)), ber.tlv(0xA0, value)))


def accept(context: int, user: bytes) -> bytes:
    """Return an AARE that accepts, with the MMS initiate response in its context."""
    return _aare(0, Diagnostic.NULL, user_information(context, user))


def reject(diagnostic: Diagnostic, user: bytes = b"") -> bytes:
    """Return an AARE that rejects for good; ``user`` is a complete user information or nothing."""
    return _aare(1, diagnostic, user)


def _aare(result: int, diagnostic: Diagnostic, user: bytes) -> bytes:
    return ber.tlv(
        AARE,
        ber.tlv(0xA1, ber.tlv(0x06, MMS_CONTEXT)),
        ber.tlv(0xA2, bytes((0x02, 1, result))),
        ber.tlv(0xA3, ber.tlv(0xA1, bytes((0x02, 1, diagnostic)))),
        user,
    )


def decode_response(apdu: bytes) -> bytes:
    """Return the user information of an AARE that accepts; raises BerError, naming why another one refuses."""
    begin, end = ber.expect(apdu, 0, len(apdu), AARE)
    result, diagnostic, user = -1, 0, b""
    for tag, start, stop in ber.elements(apdu, begin, end):
        if tag == 0xA2:
            first, last = ber.expect(apdu, start, stop, 0x02)
            result = ber.integer(apdu[first:last])
        elif tag == 0xA3:
            _, inner, _ = ber.element(apdu, start, stop)
            first, last = ber.expect(apdu, inner, stop, 0x02)
            diagnostic = ber.integer(apdu[first:last])
        elif tag == 0xBE:
            user = external(apdu, start, stop)
    if result:
        known = diagnostic in Diagnostic.__members__.values()
        why = Diagnostic(diagnostic).name.lower().replace("_", "-") if known else f"diagnostic {diagnostic}"
        raise BerError(f"the server refuses the association: {why}")
    return user


def release_response() -> bytes:
    """Return an RLRE: released normally."""
    return ber.tlv(RLRE, b"\x80\x01\x00")


def abort(source: int = 1) -> bytes:
    """Return an ABRT by the user (0) or the provider (1)."""
    return ber.tlv(ABRT, bytes((0x80, 1, source)))


def request(context: int, user: bytes, password: bytes | None = None) -> bytes:
    """Return an AARQ with the MMS initiate request in its context."""
    proof = b""
    if password is not None:
        proof = b"\x8a\x02\x07\x80" + ber.tlv(0x8B, PASSWORD) + ber.tlv(0xAC, ber.tlv(0x80, password))
    return ber.tlv(AARQ, ber.tlv(0xA1, ber.tlv(0x06, MMS_CONTEXT)), proof, user_information(context, user))
