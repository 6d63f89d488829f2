"""A whole STCOMET meter: binaries, tasks and clock; datagrams in and out, one tick a second.

Sans-io: the line's datagrams come through :meth:`Meter.receive` and leave through ``transmit``.
"""

from __future__ import annotations

from collections.abc import Callable

from flexmap.model import LocalError
from flexmap.stcomet.app import App, Datagram, Parser, Tcpip
from flexmap.stcomet.firmware import Binary, Firmware
from flexmap.stcomet.metro import MeterIdentity, Metro
from flexmap.stcomet.metrology import Feed, Metrology
from flexmap.stcomet.rtos import Message, MessageId, Rtos, Task

CLOCK_TOLERANCE = 2000
"""Milliseconds that the clock may be off without being set: a correction of less would double or skip seconds for
no more than the time that the message was on its way."""

Transmit = Callable[[Datagram], object]


class Meter:
    """A meter."""

    def __init__(
        self,
        metrology: Metrology,
        feed: Feed,
        identity: MeterIdentity,
        transmit: Transmit,
        *,
        clock_error: int = 0,
    ) -> None:
        """Set up; ``clock_error`` is what the clock is off at the start, in ms."""
        self._feed = feed
        self._transmit = transmit
        self._offset = clock_error
        self._doubtful = True
        self._now = 0
        self.rtos = Rtos()
        self._metro = Metro(self.rtos, metrology, feed, identity, self.clock)
        self.firmware = Firmware(self.rtos, self._enter)

    @property
    def metrology(self) -> Metrology:
        """Registers and ring buffer."""
        return self._metro.metrology

    def tick(self, second: int) -> None:
        """Begin a second (of the world's time): the METRO timer fires."""
        self._now = second * 1000
        self.rtos.send(Task.METRO, MessageId.X_METRO_TIMER, (second, self.clock() // 1000, self._doubtful))
        self.rtos.run()
        self.firmware.tick()

    def receive(self, datagram: Datagram) -> None:
        """Take a datagram from the line."""
        self.rtos.send(Task.PLC, MessageId.X_PLC_RX_EVENT, datagram)
        self.rtos.run()

    def press(self, step: int) -> None:
        """Press P1 (+1) or P2 (-1)."""
        self.rtos.send(Task.METRO, MessageId.X_METRO_BUTTON, step)
        self.rtos.run()

    def lcd(self) -> tuple[str, str]:
        """Return the two lines on the LCD."""
        return self._metro.display.lines()

    def set_attribute(self, name: str, value: int) -> None:
        """Set an IP attribute over the host interface (``loopback``)."""
        self.rtos.send(Task.PARSER, MessageId.X_PARSER_SET, (name, value))
        self.rtos.run()

    def operate(self, close: bool) -> bool:
        """Move the line breaker; return whether it has moved. Raises LocalError with the cause."""
        moved = self._feed.operate(close, self.clock())
        self._metro.collect()
        return moved

    def clock(self) -> int:
        """Return the meter's clock in ms since 1970."""
        return self._now + self._offset

    def set_clock(self, time: int) -> bool:
        """Set the clock; return False if it was right already."""
        if not 0 <= time < 2**32 * 1000:
            raise LocalError(f"{time} ms is no time that records can carry")
        self._doubtful = False
        before = self.clock()
        if abs(time - before) < CLOCK_TOLERANCE:
            return False
        self._offset += time - before
        self._metro.log_clock(before, time)
        return True

    def _enter(self, binary: Binary) -> None:
        """Entry point of a binary: it creates its tasks."""
        create = self.rtos.create
        if binary is Binary.GENERIC:
            create(Task.BG, self._background)
        elif binary is Binary.LEGAL:
            create(Task.METRO, self._metro)
        elif binary is Binary.PLC:
            create(Task.PLC, self._plc)
        else:
            create(Task.TCPIP, Tcpip(self.rtos))
            create(Task.APP, App(self.rtos, self))
            create(Task.PARSER, Parser(self.rtos))

    def _background(self, message: Message) -> None:
        if message.id is MessageId.X_BG_UPGRADE:
            self.firmware.replace()

    def _plc(self, message: Message) -> None:
        """PLC task: between the line and TCPIP, and indications to the host."""
        if message.id is MessageId.X_PLC_RX_EVENT:
            self.rtos.send(Task.TCPIP, MessageId.X_TCPIP_RX_EVENT, message.payload)
        elif message.id is MessageId.X_PLC_TX_EVENT:
            self._transmit(message.payload)
        elif message.id is MessageId.X_PLC_UDPDATAINDPAYLOAD_EVENT:
            self.rtos.send(Task.PARSER, MessageId.X_PARSER_INDICATION, message.payload)
