"""A whole STCOMET meter: binaries, tasks and clock; datagrams in and out, one tick a second.

Sans-io: the line's datagrams come through :meth:`Meter.receive` and leave through ``transmit``.
"""

from __future__ import annotations

from collections.abc import Callable

from flexmap.model import Event, EventCode, EventLog
from flexmap.model.breaker import Trigger
from flexmap.stcomet.app import App, Datagram, Parser, Tcpip
from flexmap.stcomet.clock import Clock
from flexmap.stcomet.firmware import Binary, Firmware
from flexmap.stcomet.metro import EventLogState, MeterIdentity, Metro
from flexmap.stcomet.metrology import Feed, Metrology
from flexmap.stcomet.record import Status
from flexmap.stcomet.rtos import Message, MessageId, Rtos, Task

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
        clock: Clock | None = None,
        log: EventLogState | None = None,
    ) -> None:
        """Set up; without a clock of its own the meter has one that moves with its ticks."""
        self._feed = feed
        self._transmit = transmit
        self.time = clock or Clock()
        self.rtos = Rtos()
        self._metro = Metro(self.rtos, metrology, feed, identity, self.clock, log=log or EventLogState())
        self.firmware = Firmware(self.rtos, self._enter, self._happened)

    @property
    def event_log(self) -> EventLogState:
        """The event log, to be kept over a restart."""
        return self._metro.event_log

    @property
    def next_event(self) -> int:
        """Number of the event to come."""
        return self._metro.next_event

    @property
    def metrology(self) -> Metrology:
        """Registers and ring buffer."""
        return self._metro.metrology

    def tick(self, second: int) -> None:
        """Begin a second (of the world's time): the METRO timer fires."""
        shown = self.time.tick(second * 1000)
        stamps, changed = self.time.stamps.next(shown)
        flags = Status.CLOCK_DOUBTFUL * self.time.doubtful | Status.CLOCK_CHANGED * changed
        off = round(shown) - second * 1000
        self.rtos.send(Task.METRO, MessageId.X_METRO_TIMER, (second, stamps, flags, off))
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

    def operate(self, trigger: Trigger) -> bool:
        """Act on the line breaker; return whether its state has changed. Raises LocalError with the cause."""
        moved = self._feed.operate(trigger, self.clock())
        self._metro.collect()
        return moved

    def set_mode(self, mode: int) -> bool:
        """Set the breaker's control mode; return whether it was another. Raises LocalError with the cause."""
        changed = self._feed.set_mode(mode, self.clock())
        self._metro.collect()
        return changed

    def clock(self) -> int:
        """Return the meter's clock in ms since 1970."""
        return int(self.time.now())

    def adjust_clock(self, base: int, by: int) -> bool:
        """Adjust the clock by so many ms, if ``base`` adjustments were made before; return whether it was done.

        Raises LocalError if it cannot be. A step is written into the event log; what is slewed is not.
        """
        if base != self.time.adjustments:
            return False
        before = self.clock()
        if self.time.adjust(base, by) is not None:
            self._metro.log_clock(before, self.clock())
        return True

    def _happened(self, code: EventCode) -> None:
        self._metro.log(Event("", self.clock(), EventLog.STANDARD, code))

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
