"""Push setup (class 40 version 0 to 2, IEC 62056-6-2): what is pushed, where to, when, how often it is tried."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from flexmap.dlms import axdr, cosem_time
from flexmap.dlms.axdr import AxdrError, Value
from flexmap.dlms.cosem_time import CosemTimeError, DateTime
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.dlms.selection import CaptureObject

PUSH_SETUP = 40
PUSH_SETUP_LN = bytes((0, 0, 25, 9, 0, 255))
ALARM_SETUP_LN = bytes((0, 4, 25, 9, 0, 255))
"""Push of alarms (IDIS)."""
_WRITABLE = {0: (2, 3, 4, 5, 6, 7), 1: (2, 3, 4, 5, 6, 7), 2: (2, 3, 4, 5, 6, 7, 11)}
_LAST_ATTRIBUTE = {0: 7, 1: 10, 2: 13}
_MOST_OBJECTS, _MOST_WINDOWS = 64, 16
_PROFILE, _BUFFER = 7, 2
_A_XDR = 0
_MANAGEMENT_ALONE = Role.MANAGEMENT


class Transport(enum.IntEnum):
    """transport_service_type: what is there of it."""

    TCP = 0
    UDP = 1
    HDLC = 5


class Destination(NamedTuple):
    """Where notifications go."""

    transport: int
    host: str
    port: int

    @property
    def address(self) -> str:
        """As attribute 3 has it: ``HOST:PORT``, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Window(NamedTuple):
    """A communication window: two date-times of twelve octets, in which any field may be left open."""

    start: bytes
    end: bytes


class PushSetup(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of one push setup."""

    objects: tuple[CaptureObject, ...]
    destination: Destination
    windows: tuple[Window, ...] = ()
    """When it may be sent; empty: always."""
    randomisation: int = 0
    """Seconds, at most, that the first attempt is put off by."""
    retries: int = 3
    """Attempts beyond the first."""
    delay: int = 60
    """Seconds from an attempt to the next."""
    delay_exponent: int = 100
    """Growth of the delay with each attempt, in hundredths (version 2)."""
    most_delay: int = 65535
    confirmed: bool = False
    """Sent again until the head-end has confirmed it (version 2)."""

    def repetition(self, attempt: int) -> float:
        """Return the seconds from attempt ``attempt`` (from 1) to the next."""
        return min(self.delay * (self.delay_exponent / 100) ** (attempt - 1), self.most_delay)

    def open_at(self, epoch_ms: int) -> bool:
        """Tell whether the communication windows let something be sent at that time (UTC)."""
        return not self.windows or any(_within(window, epoch_ms) for window in self.windows)


def push_setup(
    version: int, client: int, name: bytes = PUSH_SETUP_LN, *, read: Role = AUTHENTICATED
) -> ObjectDefinition:
    """Return a Push setup (class 40). Slots: those of :func:`values`; ``client``: SAP that notifications go to."""
    computed: dict[int, bytes] = {
        8: axdr.octet_string(b""),
        9: axdr.encode("integer", (client + 128) % 256 - 128),
        10: axdr.array([]),
    }
    attributes = tuple(
        Attribute(
            index,
            read,
            _MANAGEMENT_ALONE if index in _WRITABLE[version] else Role.NOBODY,
            value=computed.get(index),
        )
        for index in range(2, _LAST_ATTRIBUTE[version] + 1)
    )
    return ObjectDefinition(PUSH_SETUP, version, name, attributes, (Method(1, _MANAGEMENT_ALONE),))


def values(setup: PushSetup, version: int, confirmed_at: int | None = None) -> dict[int, bytes]:
    """Return what stands in the slots, by attribute; ``confirmed_at``: last confirmation, epoch ms."""
    found = {
        2: axdr.array([_push_object(column, version) for column in setup.objects]),
        3: axdr.structure(
            axdr.encode("enum", setup.destination.transport),
            axdr.octet_string(setup.destination.address.encode()),
            axdr.encode("enum", _A_XDR),
        ),
        4: axdr.array([axdr.structure(*map(axdr.octet_string, window)) for window in setup.windows]),
        5: axdr.encode("long-unsigned", setup.randomisation),
        6: axdr.encode("unsigned", setup.retries),
        7: axdr.encode("long-unsigned", setup.delay),
    }
    if version == 2:
        delays = (setup.delay, setup.delay_exponent, setup.most_delay)
        found[7] = axdr.structure(*(axdr.encode("long-unsigned", each) for each in delays))
        found[11] = axdr.encode("enum", 2 if setup.confirmed else 0)
        unspecified = cosem_time.NOT_SPECIFIED
        found[12] = axdr.structure(axdr.encode("date-time", unspecified), axdr.encode("double-long-unsigned", 0))
        last = unspecified if confirmed_at is None else cosem_time.encode(confirmed_at)
        found[13] = axdr.encode("date-time", last)
    return found


def _push_object(column: CaptureObject, version: int) -> bytes:
    if version < 2:
        return column.encode()
    unrestricted = axdr.structure(axdr.encode("enum", 0), axdr.NULL)
    return axdr.structure(
        axdr.encode("long-unsigned", column.class_id),
        axdr.octet_string(column.logical_name),
        axdr.encode("integer", column.attribute),
        axdr.encode("long-unsigned", column.data_index),
        unrestricted,
        axdr.array([]),
    )


# --- writing


def changed(setup: PushSetup, attribute: int, octets: bytes) -> PushSetup:
    """Return the setup with an attribute written; raises AxdrError for what the attribute cannot be."""
    change = _CHANGES.get(attribute)
    if change is None:
        raise AxdrError(f"attribute {attribute} cannot be written")
    return msgspec.structs.replace(setup, **change(axdr.decode(octets)))


def _objects(value: Value) -> dict[str, Any]:
    if not isinstance(value, list) or len(value) > _MOST_OBJECTS:
        raise AxdrError(f"an array of at most {_MOST_OBJECTS} objects expected")
    return {"objects": tuple(_column(each) for each in value)}


def _column(value: Any) -> CaptureObject:
    match value:
        case (int(class_id), bytes(name), int(attribute), int(index)) if len(name) == 6:
            column = CaptureObject(class_id, name, attribute, index)
        case (int(class_id), bytes(name), int(attribute), int(index), (0, None), []) if len(name) == 6:
            column = CaptureObject(class_id, name, attribute, index)
        case _:
            raise AxdrError("push object without restriction expected")
    buffer = column.class_id == _PROFILE and column.attribute in (0, _BUFFER)
    if column.attribute < 0 or column.data_index or buffer:
        raise AxdrError("parts of attributes and buffers are not pushed")
    return column


def _destination(value: Value) -> dict[str, Any]:
    match value:
        case (int(transport), bytes(address), int(message)) if message == _A_XDR:
            return {"destination": parse_destination(transport, address.decode("ascii", "replace"))}
    raise AxdrError("send_destination_and_method with A-XDR expected")


def parse_destination(transport: int, text: str) -> Destination:
    """Return the destination of ``HOST:PORT``; raises AxdrError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if transport not in list(Transport) or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AxdrError("TCP, UDP or HDLC to HOST:PORT expected")
    return Destination(int(transport), host, int(port))


def _windows(value: Value) -> dict[str, Any]:
    if not isinstance(value, list) or len(value) > _MOST_WINDOWS:
        raise AxdrError(f"an array of at most {_MOST_WINDOWS} windows expected")
    windows = []
    for each in value:
        match each:
            case (bytes(start), bytes(end)) if len(start) == len(end) == 12:
                windows.append(Window(start, end))
            case _:
                raise AxdrError("start and end of a window expected")
    return {"windows": tuple(windows)}


def _number(name: str, most: int) -> Callable[[Value], dict[str, Any]]:
    def take(value: Value) -> dict[str, Any]:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise AxdrError(f"a number up to {most} expected")
        return {name: int(value)}

    return take


def _delay(value: Value) -> dict[str, Any]:
    match value:
        case (int(least), int(exponent), int(most)) if 0 <= least <= most <= 0xFFFF and 100 <= exponent <= 1000:
            return {"delay": least, "delay_exponent": exponent, "most_delay": most}
    return _number("delay", 0xFFFF)(value)


def _method(value: Value) -> dict[str, Any]:
    if value not in (0, 2):
        raise AxdrError("unconfirmed (0) or confirmed (2) expected")
    return {"confirmed": value == 2}


_CHANGES: dict[int, Callable[[Value], dict[str, Any]]] = {
    2: _objects,
    3: _destination,
    4: _windows,
    5: _number("randomisation", 0xFFFF),
    6: _number("retries", 0xFF),
    7: _delay,
    11: _method,
}


# --- windows


def _within(window: Window, epoch_ms: int) -> bool:
    """Tell whether a time lies in a window whose open fields are those of that time."""
    now = dt.datetime.fromtimestamp(epoch_ms / 1000, dt.UTC)
    try:
        start, end = (cosem_time.decode(each) for each in window)
        if any(each.day_of_week not in (None, now.isoweekday()) for each in (start, end)):
            return False
        first, last = _filled(start, now).epoch_ms(), _filled(end, now).epoch_ms()
    except CosemTimeError:
        return False
    if first > last and start.day is None:  # over midnight
        return epoch_ms >= first or epoch_ms < last
    return first <= epoch_ms < last


def _filled(fields: DateTime, now: dt.datetime) -> DateTime:
    given = (fields.year, fields.month, fields.day, fields.hour)
    own = (now.year, now.month, now.day, now.hour)
    year, month, day, hour = (mine if asked is None else asked for asked, mine in zip(given, own, strict=True))
    minute = now.minute if fields.minute is None else fields.minute
    return msgspec.structs.replace(fields, year=year, month=month, day=day, hour=hour, minute=minute)
