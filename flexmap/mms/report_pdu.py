"""Reports on the wire (IEC 61850-8-1 clause 17): information reports on the list ``RPT``, segmented if need be."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from flexmap.mms import ber, data, pdu
from flexmap.mms.data import DataAccessError
from flexmap.mms.report_buffer import Entry

SEQUENCE, TIME, REASON, DATA_SET, REFERENCE, OVERFLOW, ENTRY, REVISION, SEGMENTS = (
    1 << bit for bit in range(8, -1, -1)
)
"""Bits of OptFlds as a number of 10 bits, the first bit the highest."""
OPTIONS_WIDTH = 10
_OF_BUFFERED = OVERFLOW | ENTRY
_REPORT = (None, "RPT")
_SHORT = 960
"""Bits of a string whose length takes one octet."""
_HEAD = 24
"""Octets of an information report around its access results, at most."""


def trigger_bits(options: int) -> int:
    """Return trigger options, or reasons: those of SCL (dchg 1, qchg 2, …) as the number of 6 bits on the wire.

    It is its own inverse.
    """
    return sum(1 << (4 - bit) for bit in range(5) if options >> bit & 1)


REASONS = [data.bit_string(trigger_bits(reasons), 6) for reasons in range(32)]
"""Reason codes, encoded, by trigger options as SCL numbers them."""


class Header(msgspec.Struct, frozen=True):
    """What stands in every report of an enabled block."""

    report_id: bytes
    """Encoded, as are the others."""
    data_set: bytes
    revision: bytes
    options: int
    buffered: bool
    names: tuple[bytes, ...]
    """References of the members, encoded."""
    most: int
    """Octets of a PDU, as negotiated."""


def encode(header: Header, entry: Entry, sequence: int, *, overflow: bool) -> Iterator[bytes]:
    """Yield the PDUs that tell an entry: one, or segments that fit the negotiated size."""
    options = header.options & ~SEGMENTS
    if not header.buffered:
        options &= ~_OF_BUFFERED
    whole = _report(header, entry, options, (sequence, overflow), (entry.members, b""))
    if len(whole) <= header.most:
        yield whole
        return
    options |= SEGMENTS
    parts = list(_split(header, entry, options, (sequence, overflow)))
    for number, part in enumerate(parts):
        more = number + 1 < len(parts)
        segment = data.unsigned(number) + data.boolean(more)
        yield _report(header, entry, options, (sequence, overflow), (part, segment))


_Member = tuple[int, int, bytes]
_State = tuple[int, bool]
"""SqNum and BufOvfl."""
_Part = tuple[tuple[_Member, ...], bytes]
"""Members, and the numbers of a segment."""


def _split(header: Header, entry: Entry, options: int, state: _State) -> Iterator[tuple[_Member, ...]]:
    """Yield the members of each segment."""
    around = len(_report(header, entry, options, state, ((), data.unsigned(0xFFFF) + data.TRUE))) + _HEAD
    room = header.most - around
    part: list[_Member] = []
    left = room
    for index, reason, told in entry.members:
        value = told
        beside = len(header.names[index]) * bool(options & REFERENCE) + len(REASONS[0]) * bool(options & REASON)
        if len(value) + beside > room:
            # No segment has room for it: the client learns that it is there.
            value = data.failure(DataAccessError.TEMPORARILY_UNAVAILABLE)
        if len(value) + beside > left and part:
            yield tuple(part)
            part, left = [], room
        part.append((index, reason, value))
        left -= len(value) + beside
    yield tuple(part)


def _report(header: Header, entry: Entry, options: int, state: _State, part: _Part) -> bytes:
    sequence, overflow = state
    members, segment = part
    width = len(header.names)
    included = 0
    for index, _, _ in members:
        included |= 1 << (width - 1 - index)
    results = [header.report_id, data.bit_string(options, OPTIONS_WIDTH)]
    if options & SEQUENCE:
        results.append(data.unsigned(sequence))
    if options & TIME:
        results.append(data.binary_time(entry.time))
    if options & DATA_SET:
        results.append(header.data_set)
    if options & OVERFLOW:
        results.append(data.boolean(overflow))
    if options & ENTRY:
        results.append(entry_id(entry.number))
    if options & REVISION:
        results.append(header.revision)
    results.append(segment)
    results.append(_bits(included, width))
    if options & REFERENCE:
        results += [header.names[index] for index, _, _ in members]
    results += [value for _, _, value in members]
    if options & REASON:
        results += [REASONS[reason] for _, reason, _ in members]
    return pdu.information_report(_REPORT, b"".join(results))


def _bits(value: int, width: int) -> bytes:
    """Return a bit string of any width."""
    if width <= _SHORT:
        return data.bit_string(value, width)
    padding = -width % 8
    octets = (value << padding).to_bytes((width + padding) // 8, "big")
    return ber.tlv(data.BIT_STRING, bytes((padding,)), octets)


def entry_id(number: int) -> bytes:
    """Return an EntryID, encoded."""
    return data.octet_string(number.to_bytes(8, "big"))
