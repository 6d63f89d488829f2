"""The presentation layer (ISO/IEC 8823-1), kernel in normal mode: contexts are numbered as the client chose."""

from __future__ import annotations

import msgspec

from flexmap.mms import ber
from flexmap.mms.ber import BerError

ACSE = bytes.fromhex("52010001")
"""Abstract syntax of ACSE: {2 2 1 0 1}."""
MMS = bytes.fromhex("28ca220201")
"""Abstract syntax of MMS: {1 0 9506 2 1}."""
BER = bytes.fromhex("5101")
"""Transfer syntax: basic encoding rules."""

_NORMAL = bytes.fromhex("a003800101")
_MAX_CONTEXTS = 16


class Connect(msgspec.Struct, frozen=True):
    """A presentation connect (CP) PDU."""

    acse: int
    """Context identifier of ACSE."""
    mms: int
    results: bytes
    """The answer to the proposed contexts, in their order."""
    called: bytes
    """The presentation selector that was called."""
    data: bytes
    """The ACSE APDU."""


def decode_connect(data: bytes) -> Connect:
    """Return a connect PDU; raises BerError, also if it does not propose ACSE and MMS in BER."""
    begin, end = ber.expect(data, 0, len(data), 0x31)
    contexts: list[tuple[int, bytes, bool]] = []
    called, values = b"", b""
    for tag, start, stop in ber.elements(data, begin, end):
        if tag == 0xA2:
            for inner, first, last in ber.elements(data, start, stop):
                if inner == 0xA4:
                    contexts = _contexts(data, first, last)
                elif inner == 0x82:
                    called = data[first:last]
                elif inner == 0x61:
                    values = data[first:last]
    results, numbers = b"", {}
    for number, abstract, understood in contexts:
        if abstract in {ACSE, MMS} and understood:
            numbers[abstract] = number
            results += ber.tlv(0x30, b"\x80\x01\x00", ber.tlv(0x81, BER))
        else:
            reason = b"\x02" if abstract in {ACSE, MMS} else b"\x01"
            results += ber.tlv(0x30, b"\x80\x01\x02", ber.tlv(0x82, reason))
    if len(numbers) != 2:
        raise BerError("no presentation contexts for ACSE and MMS in BER")
    context, content = pdv(values, 0, len(values))
    if context != numbers[ACSE]:
        raise BerError("connect data outside of the context of ACSE")
    return Connect(numbers[ACSE], numbers[MMS], results, called, content)


def _contexts(data: bytes, at: int, end: int) -> list[tuple[int, bytes, bool]]:
    """Return identifier, abstract syntax, and whether BER is offered, of each proposed context."""
    found: list[tuple[int, bytes, bool]] = []
    for tag, start, stop in ber.elements(data, at, end):
        if tag != 0x30 or len(found) == _MAX_CONTEXTS:
            raise BerError("presentation context definition list")
        number, abstract, understood = 0, b"", False
        for inner, first, last in ber.elements(data, start, stop):
            if inner == 0x02:
                number = ber.unsigned(data[first:last])
            elif inner == 0x06:
                abstract = data[first:last]
            elif inner == 0x30:
                understood = any(data[a:b] == BER for _, a, b in ber.elements(data, first, last))
        if not 0 < number < 0x80:
            raise BerError(f"presentation context identifier {number}")
        found.append((number, abstract, understood))
    return found


def pdv(data: bytes, at: int, end: int) -> tuple[int, bytes]:
    """Return context identifier and value of the one PDV list of fully encoded data; raises BerError."""
    begin, stop = ber.expect(data, at, end, 0x30)
    if stop != end:
        raise BerError("more than one presentation data value")
    context = 0
    for tag, first, last in ber.elements(data, begin, stop):
        if tag == 0x02:
            context = ber.unsigned(data[first:last])
        elif tag in {0xA0, 0x81}:
            return context, data[first:last]
        elif tag != 0x06:
            raise BerError(f"presentation data values of encoding {tag:#04x}")
    raise BerError("a presentation data value list without values")


def decode_data(data: bytes) -> tuple[int, bytes]:
    """Return context identifier and value of user data (once connected); raises BerError."""
    begin, end = ber.expect(data, 0, len(data), 0x61)
    return pdv(data, begin, end)


def encode_data(context: int, value: bytes) -> bytes:
    """Return user data with one value."""
    return ber.tlv(0x61, ber.tlv(0x30, bytes((0x02, 1, context)), ber.tlv(0xA0, value)))


def accept(connect: Connect, acse: bytes) -> bytes:
    """Return the connect accept (CPA) PDU."""
    selector = ber.tlv(0x83, connect.called) if connect.called else b""
    body = selector + ber.tlv(0xA5, connect.results) + encode_data(connect.acse, acse)
    return ber.tlv(0x31, _NORMAL, ber.tlv(0xA2, body))


def reject(connect: Connect | None, acse: bytes = b"") -> bytes:
    """Return the connect reject (CPR) PDU: by the user, with an ACSE APDU, or by the provider."""
    if connect is None:
        return ber.tlv(0x30, b"\x8a\x01\x00")
    return ber.tlv(0x30, ber.tlv(0xA5, connect.results), encode_data(connect.acse, acse))


def abort(context: int, acse: bytes) -> bytes:
    """Return the abort PDU by the user (ARU)."""
    identifiers = ber.tlv(0x30, bytes((0x02, 1, context)), b"\x06\x02\x51\x01")
    return ber.tlv(0xA0, ber.tlv(0xA0, identifiers), encode_data(context, acse))


def connect(acse: bytes, *, acse_context: int, mms_context: int, calling: bytes, called: bytes) -> bytes:
    """Return a connect PDU that proposes ACSE and MMS under these context identifiers."""
    contexts = b"".join(
        ber.tlv(0x30, bytes((0x02, 1, number)), ber.tlv(0x06, syntax), ber.tlv(0x30, ber.tlv(0x06, BER)))
        for number, syntax in ((acse_context, ACSE), (mms_context, MMS))
    )
    body = ber.tlv(0x81, calling) + ber.tlv(0x82, called) + ber.tlv(0xA4, contexts)
    return ber.tlv(0x31, _NORMAL, ber.tlv(0xA2, body, encode_data(acse_context, acse)))


def decode_accept(data: bytes) -> bytes:
    """Return the ACSE APDU of a connect accept (CPA) or reject (CPR) PDU; raises BerError."""
    tag, begin, end = ber.element(data, 0, len(data))
    if tag == 0x31:
        for inner, start, stop in ber.elements(data, begin, end):
            if inner == 0xA2:
                begin, end = start, stop
    for inner, start, stop in ber.elements(data, begin, end):
        if inner == 0x61:
            return pdv(data, start, stop)[1]
    raise BerError("an answer to the presentation connect without data")
