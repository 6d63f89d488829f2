"""The session layer (ISO/IEC 8327-1): the kernel and duplex functional units, as MMS uses them."""

from __future__ import annotations

import enum

import msgspec

from flexmap.model.error import RemoteError

DATA = b"\x01\x00\x01\x00"
"""GIVE TOKENS and DATA TRANSFER: what stands in front of every presentation PDU once connected."""

_CONNECT_ITEM, _OPTIONS, _VERSION, _REQUIREMENTS = 5, 19, 22, 20
_CALLING, _CALLED, _USER_DATA, _EXTENDED_USER_DATA, _REASON, _DISCONNECT = 51, 52, 193, 194, 50, 17
_DUPLEX = b"\x00\x02"
_LONG = 0xFF


class SessionError(RemoteError):
    """Octets that are no SPDU, or not one that may come now."""


class Kind(enum.IntEnum):
    """SPDU identifiers."""

    DATA = 1
    FINISH = 9
    DISCONNECT = 10
    REFUSE = 12
    CONNECT = 13
    ACCEPT = 14
    ABORT = 25
    ABORT_ACCEPT = 26


class Spdu(msgspec.Struct, frozen=True):
    """One SPDU."""

    kind: Kind
    user_data: bytes
    calling: bytes = b""
    called: bytes = b""
    """Session selectors of a CONNECT."""


def decode(unit: bytes) -> Spdu:
    """Return the SPDU of a transport service data unit; raises SessionError."""
    if unit[:4] == DATA:
        return Spdu(Kind.DATA, unit[4:])
    if not unit:
        raise SessionError("an empty unit")
    try:
        kind = Kind(unit[0])
    except ValueError:
        raise SessionError(f"SPDU {unit[0]:#04x}") from None
    if kind is Kind.DATA:
        # Category 0 in front of the data: GIVE TOKENS, or with parameters of its own.
        begin, end = _sized(unit, 1)
        if end < len(unit) and unit[end] == Kind.DATA:
            begin, end = _sized(unit, end + 1)
        return Spdu(Kind.DATA, unit[end:])
    begin, end = _sized(unit, 1)
    parameters = _parameters(unit, begin, end)
    data = parameters.get(_USER_DATA) or parameters.get(_EXTENDED_USER_DATA) or b""
    if kind is Kind.REFUSE:
        data = parameters.get(_REASON, b"")[1:]  # behind the reason: the called user's own
    return Spdu(kind, data, parameters.get(_CALLING, b""), parameters.get(_CALLED, b""))


def accept(user_data: bytes, responding: bytes) -> bytes:
    """Return the ACCEPT SPDU to a CONNECT that called the session selector ``responding``."""
    item = _parameter(_OPTIONS, b"\x00") + _parameter(_VERSION, b"\x02")
    body = _parameter(_CONNECT_ITEM, item) + _parameter(_REQUIREMENTS, _DUPLEX)
    if responding:
        body += _parameter(_CALLED, responding)
    return _spdu(Kind.ACCEPT, body + _parameter(_USER_DATA, user_data))


def refuse(user_data: bytes = b"") -> bytes:
    """Return a REFUSE SPDU: by the called user with its data, or for lack of a selector or an answer."""
    reason = b"\x02" + user_data if user_data else b"\x81"
    return _spdu(Kind.REFUSE, _parameter(_DISCONNECT, b"\x01") + _parameter(_REASON, reason))


def disconnect(user_data: bytes) -> bytes:
    """Return the DISCONNECT SPDU that answers FINISH."""
    return _spdu(Kind.DISCONNECT, _parameter(_USER_DATA, user_data))


def abort(user_data: bytes) -> bytes:
    """Return an ABORT SPDU by the user; the transport connection is released."""
    return _spdu(Kind.ABORT, _parameter(_DISCONNECT, b"\x0b") + _parameter(_USER_DATA, user_data))


def connect(user_data: bytes, calling: bytes, called: bytes) -> bytes:
    """Return a CONNECT SPDU."""
    item = _parameter(_OPTIONS, b"\x00") + _parameter(_VERSION, b"\x02")
    body = _parameter(_CONNECT_ITEM, item) + _parameter(_REQUIREMENTS, _DUPLEX)
    body += _parameter(_CALLING, calling) + _parameter(_CALLED, called)
    return _spdu(Kind.CONNECT, body + _parameter(_USER_DATA, user_data))


def _spdu(kind: Kind, body: bytes) -> bytes:
    return bytes((kind,)) + _length(len(body)) + body


def _parameter(identifier: int, value: bytes) -> bytes:
    return bytes((identifier,)) + _length(len(value)) + value


def _length(size: int) -> bytes:
    return bytes((size,)) if size < _LONG else b"\xff" + size.to_bytes(2, "big")


def _sized(unit: bytes, at: int) -> tuple[int, int]:
    """Return begin and end of what a length indicator at ``at`` covers; raises SessionError."""
    if at >= len(unit):
        raise SessionError("ends before a length")
    size, begin = unit[at], at + 1
    if size == _LONG:
        size, begin = int.from_bytes(unit[at + 1 : at + 3], "big"), at + 3
    if begin + size > len(unit):
        raise SessionError(f"a parameter of {size} octets, {max(0, len(unit) - begin)} are there")
    return begin, begin + size


def _parameters(unit: bytes, at: int, end: int) -> dict[int, bytes]:
    """Return parameters by identifier, in whatever order they came; the connect item's beside the others."""
    found: dict[int, bytes] = {}
    while at < end:
        identifier = unit[at]
        begin, at = _sized(unit, at + 1)
        if at > end:
            raise SessionError("a parameter that ends behind its SPDU")
        if identifier == _CONNECT_ITEM:
            found |= _parameters(unit, begin, at)
        found[identifier] = unit[begin:at]
    return found
