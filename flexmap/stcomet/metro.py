"""The LEGAL binary: the METRO task. Stores a record each second, answers X_METRO_GET_DATA, drives the LCD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from flexmap.model import Event, EventCode, EventLog
from flexmap.stcomet.app import Data, Datagram
from flexmap.stcomet.display import Display
from flexmap.stcomet.metrology import Feed, Metrology
from flexmap.stcomet.payload import (
    DATAGRAM,
    Events,
    EventsRequest,
    Identity,
    IdentityRequest,
    MeterEvent,
    Origin,
    ReadRequest,
)
from flexmap.stcomet.record import Record
from flexmap.stcomet.rtos import Message, MessageId, Rtos, Task

EVENT_DEPTH = 256
"""Events that the log holds."""
_MOST_RECORDS = 8 * DATAGRAM // 2
"""More records than a reply can hold: one takes two bits or more."""
_EVENT_SIZE = 10
_EVENTS_HEAD = 10


class MeterIdentity(msgspec.Struct, frozen=True):
    """Who the meter says that it is."""

    serial: str
    name: str = ""
    firmware: str = ""


class EventLogState(msgspec.Struct, frozen=True, array_like=True):
    """An event log as it is kept over a restart."""

    first: int = 0
    """Number of the oldest event that is still there."""
    events: tuple[MeterEvent, ...] = ()


class Metro:
    """METRO task."""

    def __init__(
        self,
        rtos: Rtos,
        metrology: Metrology,
        feed: Feed,
        identity: MeterIdentity,
        clock: Callable[[], int],
        *,
        log: EventLogState,
    ) -> None:
        """``clock`` gives the meter's time in ms."""
        self._send = rtos.send
        self.metrology = metrology
        self._feed = feed
        self._identity = identity
        self._clock = clock
        self.display = Display(metrology.layout)
        self.events = list(log.events)
        self.first_event = log.first
        """Number of the oldest event that is still there."""

    @property
    def event_log(self) -> EventLogState:
        """The log, to be kept."""
        return EventLogState(self.first_event, tuple(self.events))

    @property
    def next_event(self) -> int:
        """Number of the event to come."""
        return self.first_event + len(self.events)

    def __call__(self, message: Message) -> None:
        """Take a message."""
        if message.id is MessageId.X_METRO_TIMER:
            self._second(*message.payload)
        elif message.id is MessageId.X_METRO_GET_DATA:
            self._get(*message.payload)
        elif message.id is MessageId.X_METRO_BUTTON:
            self.display.press(message.payload)

    def _second(self, second: int, times: Sequence[int], flags: int, off: int) -> None:
        """Measure a second; ``times`` are what its records bear; the clock is ``off`` ms."""
        record = self.metrology.second(second, times, flags)
        if record is not None:
            self.display.refresh(record)
        self.collect(off)

    def collect(self, off: int = 0) -> None:
        """Take the feed's events into the log, their times put on by ``off`` ms, and tell APP."""
        for event in self._feed.take_events():
            self.log(msgspec.structs.replace(event, time=max(event.time + off, 0)))

    def log(self, event: Event) -> None:
        """Write an event down, and tell APP."""
        number = self.next_event
        noted = MeterEvent(event.time, int(event.log), int(event.code))
        self.events.append(noted)
        if len(self.events) > EVENT_DEPTH:
            del self.events[0]
            self.first_event += 1
        self._send(Task.APP, MessageId.X_APP_METRO_EVENT, Events(number & 0xFFFF, number, (noted,), unasked=True))

    def log_clock(self, before: int, after: int) -> None:
        """Write down that the clock was set from one time to another, in ms."""
        for time, code in ((before, EventCode.CLOCK_ADJUSTED_OLD), (after, EventCode.CLOCK_ADJUSTED_NEW)):
            self.log(Event("", time, EventLog.STANDARD, code))

    def _get(self, datagram: Datagram, request: ReadRequest | EventsRequest | IdentityRequest) -> None:
        if isinstance(request, ReadRequest):
            records, lost = self._read(request)
            answer = Data(datagram, request, self.metrology.layout, records, lost, self.next_event)
            self._send(Task.APP, MessageId.X_METRO_SET_DATA, answer)
            return
        reply = self._events(request) if isinstance(request, EventsRequest) else self._who(request)
        self._send(Task.APP, MessageId.X_METRO_SET_DATA, (datagram, reply))

    def _read(self, request: ReadRequest) -> tuple[tuple[Record, ...], bool]:
        ring = self.metrology.ring
        oldest, latest = ring.oldest(), ring.latest()
        if oldest is None or latest is None:
            return (), False
        start: int | None = request.start
        lost = False
        if request.origin is Origin.LATEST:
            return (latest,), False
        if request.origin is Origin.TIME:
            start = ring.find(request.start)
            lost = start == oldest.sequence > 0 and oldest.time > request.start
        elif request.origin is Origin.SEQUENCE:
            lost = request.start < oldest.sequence
        else:
            before = ring.overwritten
            ring.release(request.start)
            tail = ring.at_tail()
            start = None if tail is None else tail.sequence
            lost = before > 0 and start is not None and request.start < start
        if start is None:
            return (), lost
        return tuple(islice(ring.since(start), min(request.count, _MOST_RECORDS))), lost

    def _events(self, request: EventsRequest) -> Events:
        start = max(request.start, self.first_event)
        most = min(max((min(request.octets, DATAGRAM) - _EVENTS_HEAD) // _EVENT_SIZE, 1), 255)
        events = tuple(self.events[start - self.first_event :])
        return Events(request.id, start, events[:most], more=len(events) > most)

    def _who(self, request: IdentityRequest) -> Identity:
        ring, metrology = self.metrology.ring, self.metrology
        oldest = ring.oldest()
        return Identity(
            request.id,
            metrology.layout,
            ring.depth,
            metrology.next_sequence if oldest is None else oldest.sequence,
            metrology.next_sequence,
            self.next_event,
            self._clock(),
            self._identity.serial,
            self._identity.name,
            self._identity.firmware,
        )
