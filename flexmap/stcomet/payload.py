"""The FLEXMETER message: what concentrator and meter say to each other in a UDP datagram.

The seed document leaves it open; this is flexmap's own definition, version 2, with a byte table in
docs/flexmeter-payload.md. Numbers are big-endian. Each request carries an id that its reply repeats; reads move
nothing, and a command that comes twice acts once, so every request may be sent again.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence

import msgspec

from flexmap.model import RemoteError
from flexmap.model.breaker import MOST_MODE
from flexmap.stcomet import codec
from flexmap.stcomet.record import Layout, Record

VERSION = 2
HEADER = struct.Struct(">BBH")
"""Type, version (high nibble) and operation (low nibble), request id."""
ROBO_FRAME = 98
"""Octets of UDP payload that one CENELEC-A ROBO frame carries over several hops: see docs/flexmeter-payload.md."""
DATAGRAM = 1200
"""Octets of the largest message: what IPv6's least MTU of 1280 leaves."""


class UdpType(enum.IntEnum):
    """First octet of a datagram to the meter: which application takes it (names of the seed; values ours)."""

    FWUP_REQUEST = 0x01
    FWUP_REPLY = 0x02
    TEST_REQUEST = 0x03
    TEST_REPLY = 0x04
    FLEXMETER_ID1 = 0x10


class PayloadError(RemoteError):
    """Octets are no message of this version."""


class Operation(enum.IntEnum):
    """Low nibble of the second octet; a reply is its request's operation with bit 3 set."""

    IDENTITY = 1
    READ = 2
    EVENTS = 3
    BREAKER = 4
    CLOCK = 5
    NOTIFY = 6
    """From the meter, unasked: an event has happened."""
    REFUSAL = 15


_REPLY = 8


class Origin(enum.IntEnum):
    """Where a read begins."""

    LATEST = 0
    """The newest record alone; ``start`` and ``count`` are not looked at."""
    TIME = 1
    """The first record of ``start`` (seconds) or later."""
    SEQUENCE = 2
    TAIL = 3
    """The oldest unread record. Those before ``start`` count as read from now on: so the tail moves, and a request
    that is sent again finds it where it was."""


class Result(enum.IntEnum):
    """What became of a command."""

    DONE = 0
    UNCHANGED = 1
    """It stood there already."""
    REFUSED = 2


class Reason(enum.IntEnum):
    """Why a request was refused."""

    VERSION = 1
    OPERATION = 2
    FORM = 3


class IdentityRequest(msgspec.Struct, frozen=True):
    """Ask who the meter is."""

    id: int


class ReadRequest(msgspec.Struct, frozen=True):
    """Ask for records."""

    id: int
    origin: Origin = Origin.LATEST
    start: int = 0
    count: int = 1
    octets: int = DATAGRAM
    """The longest reply that is wanted."""


class EventsRequest(msgspec.Struct, frozen=True):
    """Ask for events from a number on."""

    id: int
    start: int
    octets: int = DATAGRAM


class BreakerRequest(msgspec.Struct, frozen=True):
    """Open or close the line breaker, or set its control mode."""

    id: int
    close: bool
    valid_until: int = 0
    """Seconds since 1970; a meter whose clock is later refuses: a command must not act when nobody waits any more.
    0 is for ever."""
    local: bool = False
    """By a function of the metering system such as a limiter: a local disconnection, not a remote one."""
    mode: int | None = None
    """Control mode to set; then the breaker is left as it is."""


class ClockRequest(msgspec.Struct, frozen=True):
    """Tell how the clock stands, and adjust it."""

    id: int
    base: int = 0
    """How often it was adjusted before, below 65536; if it is not so the adjustment is left undone."""
    adjustment: int = 0
    """Milliseconds, on top of what is still to be slewed; 0 adjusts nothing."""


class Identity(msgspec.Struct, frozen=True):
    """Answer to IdentityRequest."""

    id: int
    layout: Layout
    depth: int
    """Records that the ring buffer holds."""
    oldest: int
    """Sequence number of the oldest record; ``next`` if there is none."""
    next: int
    """Sequence number of the record to come."""
    next_event: int
    time: int
    """The meter's clock, in ms."""
    serial: str
    name: str
    firmware: str


class Records(msgspec.Struct, frozen=True):
    """Answer to ReadRequest."""

    id: int
    layout: Layout
    records: tuple[Record, ...]
    """Contiguous: sequence numbers rise by one."""
    more: bool = False
    """There are records after these, within what was asked for."""
    lost: bool = False
    """What was asked for has begun with records that are overwritten."""
    next_event: int = 0
    """The low 16 bits of the number of the event to come: tells of events without asking."""


class MeterEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event in the meter's log."""

    time: int
    """Milliseconds since 1970."""
    log: int
    """flexmap.model.EventLog"""
    code: int
    """flexmap.model.EventCode"""


class Events(msgspec.Struct, frozen=True):
    """Answer to EventsRequest: events numbered from ``first`` on; also sent unasked (Operation.NOTIFY)."""

    id: int
    first: int
    events: tuple[MeterEvent, ...]
    more: bool = False
    unasked: bool = False


class CommandReply(msgspec.Struct, frozen=True):
    """Answer to BreakerRequest."""

    id: int
    result: Result
    cause: str = ""


class ClockReply(msgspec.Struct, frozen=True):
    """Answer to ClockRequest: the clock as it stands when the reply leaves."""

    id: int
    result: Result
    time: int
    """Milliseconds since 1970."""
    pending: int
    """What is still to be slewed, in ms."""
    adjustments: int
    """How often it was adjusted, below 65536."""


class Refusal(msgspec.Struct, frozen=True):
    """The request was not understood."""

    id: int
    reason: Reason


Request = IdentityRequest | ReadRequest | EventsRequest | BreakerRequest | ClockRequest
Reply = Identity | Records | Events | CommandReply | ClockReply | Refusal
Message = Request | Reply

_READ = struct.Struct(">BIHH")
_EVENTS = struct.Struct(">IH")
_BREAKER = struct.Struct(">BI")
_IDENTITY = struct.Struct(">BIIIIQ")
_RECORDS = struct.Struct(">BHIH")
_EVENT_LIST = struct.Struct(">BIB")
_EVENT = struct.Struct(">QBB")
_ADJUSTMENT = struct.Struct(">Hq")
_CLOCK = struct.Struct(">BQiH")
_LOCAL, _MODE = 0x20, 0x10
"""First octet of a breaker request: 1 closes, 0 opens; these beside it, or with a control mode instead."""
_MORE, _LOST, _LAYOUT = 0x80, 0x40, 0x0F
RECORDS_HEAD = HEADER.size + _RECORDS.size
"""Octets before the coded records of a reply."""


def encode(message: Message) -> bytes:
    """Return the datagram of a message, from its first octet (the UDP type) on."""
    match message:
        case IdentityRequest():
            return _head(Operation.IDENTITY, message.id)
        case ReadRequest(number, origin, start, count, octets):
            return _head(Operation.READ, number) + _READ.pack(origin, start, count, octets)
        case EventsRequest(number, start, octets):
            return _head(Operation.EVENTS, number) + _EVENTS.pack(start, octets)
        case BreakerRequest(number, close, valid_until, local, mode):
            action = close | _LOCAL * local if mode is None else _MODE | mode
            return _head(Operation.BREAKER, number) + _BREAKER.pack(action, valid_until)
        case ClockRequest(number, base, adjustment):
            return _head(Operation.CLOCK, number) + _ADJUSTMENT.pack(base, adjustment)
        case Identity():
            numbers = (
                message.layout,
                message.depth,
                message.oldest,
                message.next,
                message.next_event,
                message.time,
            )
            texts = (message.serial, message.name, message.firmware)
            return b"".join(
                (_head(Operation.IDENTITY | _REPLY, message.id), _IDENTITY.pack(*numbers), *map(_text, texts))
            )
        case Records():
            return _encode_records(message)
        case Events(number, first, events, more, unasked):
            operation = Operation.NOTIFY if unasked else Operation.EVENTS | _REPLY
            listed = b"".join(_EVENT.pack(*msgspec.structs.astuple(event)) for event in events)
            return _head(operation, number) + _EVENT_LIST.pack(_MORE * more, first, len(events)) + listed
        case CommandReply(number, result, cause):
            return _head(Operation.BREAKER | _REPLY, number) + bytes((result,)) + _text(cause)
        case ClockReply(number, result, time, pending, adjustments):
            return _head(Operation.CLOCK | _REPLY, number) + _CLOCK.pack(result, time, pending, adjustments)
        case Refusal(number, reason):
            return _head(Operation.REFUSAL, number) + bytes((reason,))


def records_reply(
    request: ReadRequest, layout: Layout, records: Sequence[Record], *, lost: bool, next_event: int
) -> bytes:
    """Return the reply with as many of the records as the request's ``octets`` hold.

    It holds at least one record, so that every read goes on, even if ``octets`` is too small for it.
    """
    room = max(min(request.octets, DATAGRAM) - RECORDS_HEAD, 0) * 8
    coded, count = codec.encode(layout, records, room)
    if records and not count:
        coded, count = codec.encode(layout, records[:1], DATAGRAM * 8)
    flags = _MORE * (len(records) > count) | _LOST * lost | layout
    return _records_head(request.id, flags, next_event, records, count) + coded


def _encode_records(message: Records) -> bytes:
    coded, count = codec.encode(message.layout, message.records, 1 << 20)
    flags = _MORE * message.more | _LOST * message.lost | message.layout
    return _records_head(message.id, flags, message.next_event, message.records, count) + coded


def _records_head(number: int, flags: int, next_event: int, records: Sequence[Record], count: int) -> bytes:
    sequence = records[0].sequence if records else 0
    body = _RECORDS.pack(flags, next_event & 0xFFFF, sequence, count)
    return _head(Operation.READ | _REPLY, number) + body


def _head(operation: int, number: int) -> bytes:
    return HEADER.pack(UdpType.FLEXMETER_ID1, VERSION << 4 | operation, number)


def _text(text: str) -> bytes:
    octets = text.encode()[:255]
    while True:  # not in the middle of a character
        try:
            octets.decode()
            break
        except UnicodeDecodeError:
            octets = octets[:-1]
    return bytes((len(octets),)) + octets


def decode(octets: bytes) -> Message:
    """Return the message of a datagram; raises PayloadError.

    Takes exactly what :func:`encode` writes: nothing behind it, no value outside its range.
    """
    operation, number = decode_head(octets)
    body = octets[HEADER.size :]
    try:
        return _DECODERS[operation](number, body)
    except KeyError:
        raise PayloadError(f"operation {operation} is not known") from None
    except (struct.error, ValueError, IndexError) as error:
        raise PayloadError(f"operation {operation}: {error}") from None
    except RemoteError as error:
        raise PayloadError(f"operation {operation}: {error}") from None


def decode_head(octets: bytes) -> tuple[int, int]:
    """Return operation and id; raises PayloadError if these are no FLEXMETER octets of this version."""
    if len(octets) < HEADER.size or octets[0] != UdpType.FLEXMETER_ID1:
        raise PayloadError("no FLEXMETER message")
    _, version, number = HEADER.unpack_from(octets)
    if version >> 4 != VERSION:
        raise PayloadError(f"version {version >> 4}, where {VERSION} is spoken")
    return version & 0x0F, number


def _identity_request(number: int, body: bytes) -> Message:
    _end(body)
    return IdentityRequest(number)


def _read_request(number: int, body: bytes) -> Message:
    origin, start, count, octets = _READ.unpack(body)
    return ReadRequest(number, Origin(origin), start, count, octets)


def _events_request(number: int, body: bytes) -> Message:
    return EventsRequest(number, *_EVENTS.unpack(body))


def _breaker_request(number: int, body: bytes) -> Message:
    action, valid_until = _BREAKER.unpack(body)
    if _MODE <= action <= _MODE | MOST_MODE:
        return BreakerRequest(number, False, valid_until, mode=action & ~_MODE)
    return BreakerRequest(number, _flag(action & ~_LOCAL), valid_until, local=bool(action & _LOCAL))


def _clock_request(number: int, body: bytes) -> Message:
    return ClockRequest(number, *_ADJUSTMENT.unpack(body))


def _identity(number: int, body: bytes) -> Message:
    layout, *numbers = _IDENTITY.unpack_from(body)
    texts, rest = [], body[_IDENTITY.size :]
    for _ in range(3):
        text, rest = _take_text(rest)
        texts.append(text)
    _end(rest)
    return Identity(number, Layout(layout), *numbers, *texts)


def _records_message(number: int, body: bytes) -> Message:
    flags, next_event, sequence, count = _RECORDS.unpack_from(body)
    if flags & ~(_MORE | _LOST | _LAYOUT):
        raise PayloadError("flags that are not defined")
    if count > 8 * len(body) or (not count and sequence):  # a record is at least two bits
        raise PayloadError(f"{count} records in {len(body)} octets")
    layout = Layout(flags & _LAYOUT)
    records = codec.decode(layout, sequence, count, body[_RECORDS.size :])
    return Records(number, layout, tuple(records), bool(flags & _MORE), bool(flags & _LOST), next_event)


def _events(number: int, body: bytes) -> Message:
    more, first, count = _EVENT_LIST.unpack_from(body)
    if more not in {0, _MORE} or len(body) != _EVENT_LIST.size + count * _EVENT.size:
        raise PayloadError(f"{count} events in {len(body)} octets")
    events = tuple(MeterEvent(*fields) for fields in _EVENT.iter_unpack(body[_EVENT_LIST.size :]))
    return Events(number, first, events, bool(more))


def _notify(number: int, body: bytes) -> Message:
    events = _events(number, body)
    return msgspec.structs.replace(events, unasked=True)


def _command_reply(number: int, body: bytes) -> Message:
    cause, rest = _take_text(body[1:])
    _end(rest)
    return CommandReply(number, Result(body[0]), cause)


def _clock_reply(number: int, body: bytes) -> Message:
    result, time, pending, adjustments = _CLOCK.unpack(body)
    return ClockReply(number, Result(result), time, pending, adjustments)


def _refusal(number: int, body: bytes) -> Message:
    _end(body[1:])
    return Refusal(number, Reason(body[0]))


_DECODERS = {
    Operation.IDENTITY: _identity_request,
    Operation.READ: _read_request,
    Operation.EVENTS: _events_request,
    Operation.BREAKER: _breaker_request,
    Operation.CLOCK: _clock_request,
    Operation.NOTIFY: _notify,
    Operation.IDENTITY | _REPLY: _identity,
    Operation.READ | _REPLY: _records_message,
    Operation.EVENTS | _REPLY: _events,
    Operation.BREAKER | _REPLY: _command_reply,
    Operation.CLOCK | _REPLY: _clock_reply,
    Operation.REFUSAL: _refusal,
}


def _take_text(octets: bytes) -> tuple[str, bytes]:
    length = octets[0]
    if len(octets) <= length:
        raise PayloadError("a text longer than the message")
    return octets[1 : length + 1].decode(), octets[length + 1 :]


def _flag(octet: int) -> bool:
    if octet > 1:
        raise PayloadError(f"{octet} is neither 0 nor 1")
    return bool(octet)


def _end(rest: bytes) -> None:
    if rest:
        raise PayloadError(f"{len(rest)} octets too many")
