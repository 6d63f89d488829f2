"""ACCESS: a list of reads, writes and method calls in one request (IEC 62056-5-3 clause 9.3.9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from flexmap.dlms.apdu import ApduError, Tag
from flexmap.dlms.axdr import encode_length, take_octet_string
from flexmap.dlms.requests import Cursor, Target

GET, SET, ACTION = 1, 2, 3
_GET_WITH_SELECTION, _SET_WITH_SELECTION = 4, 5
_SELF_DESCRIPTIVE, _BREAK_ON_ERROR, _CONFIRMED, _URGENT = 1 << 28, 1 << 29, 1 << 30, 1 << 31
_NO_TIME = b"\x00"


class AccessItem(msgspec.Struct, frozen=True):
    """One access."""

    kind: int
    """GET, SET or ACTION."""
    target: Target
    value: bytes


class AccessRequest(msgspec.Struct, frozen=True):
    """An access-request."""

    invoke: int
    """Long-Invoke-Id-And-Priority."""
    items: tuple[AccessItem, ...]
    specifications: bytes
    """As they came, with their count."""

    @property
    def confirmed(self) -> bool:
        """A response is asked for."""
        return bool(self.invoke & _CONFIRMED)

    @property
    def urgent(self) -> bool:
        """It has high priority."""
        return bool(self.invoke & _URGENT)

    @property
    def break_on_error(self) -> bool:
        """Nothing behind an access that fails is to be carried out."""
        return bool(self.invoke & _BREAK_ON_ERROR)


def decode_request(apdu: bytes) -> AccessRequest:
    """Return the fields of an access-request; raises ApduError or AxdrError."""
    cursor = Cursor(apdu, 1)
    invoke = cursor.number()
    _, cursor.at = take_octet_string(apdu, cursor.at)  # when it was sent: nothing depends on it
    start = cursor.at
    named = [_specification(cursor) for _ in range(cursor.count())]
    specifications = apdu[start : cursor.at]
    values = cursor.values()
    cursor.finish()
    if len(values) != len(named):
        raise ApduError(f"{len(named)} accesses, {len(values)} values")
    items = tuple(AccessItem(kind, target, value) for (kind, target), value in zip(named, values, strict=True))
    return AccessRequest(invoke, items, specifications)


def _specification(cursor: Cursor) -> tuple[int, Target]:
    choice, key = cursor.take(1)[0], cursor.take(9)
    if choice in (GET, SET, ACTION):
        return choice, Target(key)
    if choice in (_GET_WITH_SELECTION, _SET_WITH_SELECTION):
        return choice - 3, Target(key, cursor.take(1)[0], cursor.value())
    raise ApduError(f"access specification {choice}")


def response(
    request: AccessRequest, data: Sequence[bytes | Iterator[bytes]], results: Sequence[int]
) -> tuple[bytes, Iterator[bytes]]:
    """Return head and, in chunks, the rest of an access-response: data and result of each access."""
    head = bytes((Tag.ACCESS_RESPONSE,)) + request.invoke.to_bytes(4, "big") + _NO_TIME
    head += b"\x01" + request.specifications if request.invoke & _SELF_DESCRIPTIVE else b"\x00"
    return head + encode_length(len(data)), _body(request, data, results)


def _body(
    request: AccessRequest, data: Sequence[bytes | Iterator[bytes]], results: Sequence[int]
) -> Iterator[bytes]:
    for each in data:
        if isinstance(each, bytes):
            yield each
        else:
            yield from each
    kinds = (item.kind for item in request.items)
    yield encode_length(len(results)) + bytes(octet for pair in zip(kinds, results, strict=True) for octet in pair)
