"""Notifications: what a server sends without being asked (IEC 62056-5-3 clauses 9.3.10 to 9.3.12, 9.3.18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flexmap.dlms import cosem_time
from flexmap.dlms.apdu import Tag
from flexmap.dlms.axdr import encode_length, structure
from flexmap.dlms.requests import Cursor
from flexmap.dlms.security import Ciphering

CONFIRMED = 1 << 30
"""Service class in Long-Invoke-Id-And-Priority."""
_INVOKE_IDS = 0xFF_FFFF


class Change(NamedTuple):
    """An attribute with a new value, of which clients are told."""

    key: bytes
    """Nine octets that name the attribute."""
    value: bytes
    """Encoded."""
    time: bytes
    """When it happened: a date-time of twelve octets."""


def event_notification(change: Change) -> bytes:
    """Return an event-notification-request."""
    head = bytes((Tag.EVENT_NOTIFICATION_REQUEST, 1)) + encode_length(len(change.time)) + change.time
    return head + change.key + change.value


def information_report(variables: Sequence[tuple[int, bytes]]) -> bytes:
    """Return an information-report-request: short names and their encoded values.

    Its optional current-time is left out: decoders do not agree on how it begins.
    """
    count = encode_length(len(variables))
    names = b"".join(b"\x02" + name.to_bytes(2, "big") for name, _ in variables)
    values = b"".join(value for _, value in variables)
    return bytes((Tag.INFORMATION_REPORT_REQUEST, 0)) + count + names + count + values


def data_notification(invoke: int, epoch_ms: int, values: list[bytes]) -> bytes:
    """Return a data-notification: a structure of encoded values, with the time of sending."""
    time = cosem_time.encode(epoch_ms)
    head = bytes((Tag.DATA_NOTIFICATION,)) + invoke.to_bytes(4, "big")
    return head + encode_length(len(time)) + time + structure(*values)


def confirmed_invoke(apdu: bytes) -> int:
    """Return the invoke-id that a data-notification-confirm is for; raises ApduError or AxdrError."""
    cursor = Cursor(apdu, 1)
    return cursor.number() & _INVOKE_IDS


def general_glo(ciphering: Ciphering, control: int, apdu: bytes) -> bytes:
    """Return an APDU within general-glo-ciphering."""
    body = ciphering.protect(control, apdu)
    head = bytes((Tag.GENERAL_GLO_CIPHERING, len(ciphering.title))) + ciphering.title
    return head + encode_length(len(body)) + body
