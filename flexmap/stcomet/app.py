"""The NON LEGAL binary: TCPIP, APP and PARSER tasks above the PLC stack (seed document, 6.5 and 7.2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from flexmap.model import LocalError, RemoteError
from flexmap.model.breaker import Trigger, trigger
from flexmap.stcomet import firmware, payload
from flexmap.stcomet.clock import Clock
from flexmap.stcomet.payload import (
    BreakerRequest,
    ClockReply,
    ClockRequest,
    CommandReply,
    Operation,
    PayloadError,
    ReadRequest,
    Reason,
    Refusal,
    Result,
    UdpType,
)
from flexmap.stcomet.record import Layout, Record
from flexmap.stcomet.rtos import Message, MessageId, Rtos, Task

DATA_PORT = 0xF0B0
"""UDP port of FLEXMETER messages; within the four-bit range of RFC 6282, so that a port takes half an octet."""
RESPONDER_PORT = 0xF0BF
"""UDP port of the loopback that conformance tests use (public G3 demonstrations, B)."""
COORDINATOR = 0
_KEPT_REPLIES = 8
"""Replies to commands that are kept, so that a command that comes again acts once."""


class Datagram(msgspec.Struct, frozen=True):
    """A UDP datagram of the meter: who stands at the other end, and its payload."""

    peer: int
    """Short address in the PAN."""
    peer_port: int
    port: int
    octets: bytes
    priority: bool = False


class Data(msgspec.Struct, frozen=True):
    """X_METRO_SET_DATA: METRO's answer to a request."""

    datagram: Datagram
    request: ReadRequest
    layout: Layout
    records: tuple[Record, ...]
    lost: bool
    next_event: int


class Services(Protocol):
    """What the APP task reaches through GENERIC's RunService: drivers, clock, flash memory."""

    firmware: firmware.Firmware

    def operate(self, trigger: Trigger) -> bool:
        """Act on the line breaker; return whether its state has changed. Raises LocalError with the cause."""

    def set_mode(self, mode: int) -> bool:
        """Set the breaker's control mode; return whether it was another. Raises LocalError with the cause."""

    def clock(self) -> int:
        """Return the meter's clock in ms since 1970."""

    @property
    def time(self) -> Clock:
        """The clock itself."""

    def adjust_clock(self, base: int, by: int) -> bool:
        """Adjust the clock by ms, if it was adjusted ``base`` times before; return whether it was done.

        Raises LocalError if it cannot be.
        """


class Tcpip:
    """TCPIP task: between APP and PLC."""

    def __init__(self, rtos: Rtos) -> None:
        self._send = rtos.send

    def __call__(self, message: Message) -> None:
        """Take a message."""
        if message.id is MessageId.X_TCPIP_RX_EVENT:
            self._send(Task.PLC, MessageId.X_PLC_UDPDATAINDPAYLOAD_EVENT, message.payload)
            self._send(Task.APP, MessageId.X_APP_RX_EVENT, message.payload)
        elif message.id is MessageId.X_TCPIP_TX_EVENT:
            self._send(Task.PLC, MessageId.X_PLC_TX_EVENT, message.payload)


class Parser:
    """PARSER task: the host interface; keeps the IP attributes."""

    def __init__(self, rtos: Rtos) -> None:
        self._send = rtos.send
        self.attributes: dict[str, int] = {"loopback": 1}
        self.indications = 0
        """Datagrams told to the host."""

    def __call__(self, message: Message) -> None:
        """Take a message."""
        if message.id is MessageId.X_PARSER_INDICATION:
            self.indications += 1
        elif message.id is MessageId.X_PARSER_SET:
            name, value = message.payload
            if name in self.attributes:
                self.attributes[name] = value
                self._send(Task.APP, MessageId.X_APP_ATTRIBUTE, (name, value))


class App:
    """APP task: takes datagrams by their first octet."""

    def __init__(self, rtos: Rtos, services: Services) -> None:
        self._send = rtos.send
        self._services = services
        self._loopback = True
        self._replies: OrderedDict[tuple[int, int, bytes], bytes] = OrderedDict()
        self.malformed = 0
        """Datagrams that nobody could read."""
        self._udp: dict[int, Callable[[Datagram], object]] = {
            UdpType.FWUP_REQUEST: self._firmware,
            UdpType.TEST_REQUEST: self._test,
            UdpType.TEST_REPLY: lambda _: None,
            UdpType.FWUP_REPLY: lambda _: None,
            UdpType.FLEXMETER_ID1: self._flexmeter,
        }

    def __call__(self, message: Message) -> None:
        """Take a message."""
        if message.id is MessageId.X_APP_RX_EVENT:
            self._received(message.payload)
        elif message.id is MessageId.X_METRO_SET_DATA:
            self._data(message.payload)
        elif message.id is MessageId.X_APP_METRO_EVENT:
            octets = payload.encode(message.payload)
            self._transmit(Datagram(COORDINATOR, DATA_PORT, DATA_PORT, octets, priority=True))
        elif message.id is MessageId.X_APP_ATTRIBUTE:
            name, value = message.payload
            if name == "loopback":
                self._loopback = bool(value)

    def _received(self, datagram: Datagram) -> None:
        if datagram.port == RESPONDER_PORT:
            if self._loopback:
                self._answer(datagram, datagram.octets)
            return
        handler = self._udp.get(datagram.octets[0]) if datagram.octets else None
        if handler is None:
            self.malformed += 1
        else:
            handler(datagram)

    def _answer(self, datagram: Datagram, octets: bytes, *, priority: bool = False) -> None:
        self._transmit(Datagram(datagram.peer, datagram.peer_port, datagram.port, octets, priority))

    def _transmit(self, datagram: Datagram) -> None:
        self._send(Task.TCPIP, MessageId.X_TCPIP_TX_EVENT, datagram)

    def _test(self, datagram: Datagram) -> None:
        self._answer(datagram, bytes((UdpType.TEST_REPLY,)) + datagram.octets[1:])

    def _firmware(self, datagram: Datagram) -> None:
        try:
            request = firmware.decode_request(datagram.octets)
        except RemoteError:
            self.malformed += 1
            return
        reply = self._services.firmware.handle(request)
        self._answer(datagram, firmware.encode_reply(reply))
        if request.operation is firmware.FwUp.ACTIVATE and reply.result is firmware.FwUpResult.DONE:
            self._send(Task.BG, MessageId.X_BG_UPGRADE)

    def _flexmeter(self, datagram: Datagram) -> None:
        try:
            message = payload.decode(datagram.octets)
        except PayloadError:
            self._refuse(datagram)
            return
        if isinstance(message, BreakerRequest):
            self._once(datagram, message)
        elif isinstance(message, ClockRequest):
            self._answer(datagram, payload.encode(self._clock(message)), priority=True)
        elif isinstance(message, payload.Request):
            self._send(Task.METRO, MessageId.X_METRO_GET_DATA, (datagram, message))
        else:
            self.malformed += 1

    def _refuse(self, datagram: Datagram) -> None:
        """Tell why, but only to what looks like a request: two meters must not refuse each other for ever."""
        self.malformed += 1
        octets = datagram.octets
        if len(octets) < payload.HEADER.size:
            return
        _, version, number = payload.HEADER.unpack_from(octets)
        operation = version & 0x0F
        if operation >= Operation.NOTIFY:
            return
        reason = Reason.FORM
        if version >> 4 != payload.VERSION:
            reason = Reason.VERSION
        elif operation not in set(Operation):
            reason = Reason.OPERATION
        self._answer(datagram, payload.encode(Refusal(number, reason)))

    def _once(self, datagram: Datagram, request: BreakerRequest) -> None:
        """Act on a command; one that comes again gets the reply that it got."""
        key = (datagram.peer, datagram.peer_port, datagram.octets)
        octets = self._replies.get(key)
        if octets is None:
            octets = self._replies[key] = payload.encode(self._act(request))
            if len(self._replies) > _KEPT_REPLIES:
                self._replies.popitem(last=False)
        self._answer(datagram, octets, priority=True)

    def _act(self, request: BreakerRequest) -> CommandReply:
        services = self._services
        if request.valid_until and services.clock() > request.valid_until * 1000:
            return CommandReply(request.id, Result.REFUSED, "the command came too late")
        try:
            if request.mode is None:
                moved = services.operate(trigger(close=request.close, local=request.local))
            else:
                moved = services.set_mode(request.mode)
        except LocalError as error:
            return CommandReply(request.id, Result.REFUSED, str(error))
        return CommandReply(request.id, Result.DONE if moved else Result.UNCHANGED)

    def _clock(self, request: ClockRequest) -> ClockReply:
        """Adjust the clock, or not; in any case tell how it stands now, so that the request may be sent again."""
        services, result = self._services, Result.UNCHANGED
        if request.adjustment:
            try:
                if services.adjust_clock(request.base, request.adjustment):
                    result = Result.DONE
            except LocalError:
                result = Result.REFUSED
        clock = services.time
        return ClockReply(request.id, result, services.clock(), round(clock.pending), clock.adjustments)

    def _data(self, data: Any) -> None:
        if isinstance(data, Data):
            records = data.records
            octets = payload.records_reply(
                data.request, data.layout, records, lost=data.lost, next_event=data.next_event
            )
            self._answer(data.datagram, octets)
        else:
            datagram, reply = data
            self._answer(datagram, payload.encode(reply), priority=True)
