"""What the GENERIC binary gives to the others: tasks, their queues, and messages between them.

A task is a handler that takes one message after the other and never waits; ``run`` empties the queues, the most
urgent task first. A message to a task that is deleted, or whose queue is full, is discarded and counted: the
sender goes on (seed document, 6.2: "in order to avoid system lock up").
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec

from flexmap.model import LocalError


class Task(enum.IntEnum):
    """Tasks, the most urgent one first; APP and TCPIP stand just below PLC (seed document, 6.5)."""

    METRO = 0
    PLC = 1
    TCPIP = 2
    APP = 3
    PARSER = 4
    BG = 5


class MessageId(enum.StrEnum):
    """Messages. Those that the seed document names carry its names; the rest are ours."""

    X_APP_RX_EVENT = "X_APP_RX_EVENT"
    """TCPIP → APP: the payload of a UDP datagram."""
    X_METRO_GET_DATA = "X_METRO_GET_DATA"
    """APP → METRO: records, events or state are wanted."""
    X_METRO_SET_DATA = "X_METRO_SET_DATA"
    """METRO → APP: here they are."""
    X_PLC_UDPDATAINDPAYLOAD_EVENT = "X_PLC_UDPDATAINDPAYLOAD_EVENT"
    """TCPIP → PLC: a datagram, for the host interface's queue of indications."""
    X_METRO_TIMER = "X_METRO_TIMER"
    """Timer → METRO: a second has begun."""
    X_METRO_BUTTON = "X_METRO_BUTTON"
    """GENERIC → METRO: P1 or P2 was pressed."""
    X_APP_METRO_EVENT = "X_APP_METRO_EVENT"
    """METRO → APP: the event log has grown."""
    X_PLC_RX_EVENT = "X_PLC_RX_EVENT"
    """Line → PLC: a datagram has arrived."""
    X_TCPIP_RX_EVENT = "X_TCPIP_RX_EVENT"
    """PLC → TCPIP."""
    X_TCPIP_TX_EVENT = "X_TCPIP_TX_EVENT"
    """APP → TCPIP: a datagram to send."""
    X_PLC_TX_EVENT = "X_PLC_TX_EVENT"
    """TCPIP → PLC."""
    X_PARSER_INDICATION = "X_PARSER_INDICATION"
    """PLC → PARSER: an indication for the host."""
    X_PARSER_SET = "X_PARSER_SET"
    """Host → PARSER: set an IP attribute."""
    X_APP_ATTRIBUTE = "X_APP_ATTRIBUTE"
    """PARSER → APP: an attribute has changed."""
    X_BG_UPGRADE = "X_BG_UPGRADE"
    """APP → BG: put the image in the flash memory into operation."""


class Message(msgspec.Struct, frozen=True):
    """One message."""

    destination: Task
    id: MessageId
    payload: Any = None


Handler = Callable[[Message], object]
QUEUE = 64
"""Messages that a task's queue holds."""


class Rtos:
    """Tasks and queues."""

    def __init__(self) -> None:
        self._handlers: dict[Task, Handler] = {}
        self._queues: dict[Task, deque[Message]] = {task: deque() for task in Task}
        self._running = False
        self.discarded: Counter[Task] = Counter()
        """Messages that no task took."""

    def create(self, task: Task, handler: Handler) -> None:
        """Create a task; raises LocalError if it is there."""
        if task in self._handlers:
            raise LocalError(f"task {task.name} is there already")
        self._handlers[task] = handler

    def delete(self, task: Task) -> None:
        """Delete a task with what waits in its queue."""
        self._handlers.pop(task, None)
        self.discarded[task] += len(self._queues[task])
        self._queues[task].clear()

    def alive(self, task: Task) -> bool:
        """Return whether a task is there."""
        return task in self._handlers

    def send(self, destination: Task, name: MessageId, payload: Any = None) -> None:
        """Put a message into a task's queue."""
        queue = self._queues[destination]
        if destination not in self._handlers or len(queue) >= QUEUE:
            self.discarded[destination] += 1
            return
        queue.append(Message(destination, name, payload))

    def run(self) -> None:
        """Let the tasks take their messages until all queues are empty; within a task, do nothing."""
        if self._running:
            return
        self._running = True
        try:
            while (queue := next((queue for queue in self._queues.values() if queue), None)) is not None:
                message = queue.popleft()
                self._handlers[message.destination](message)
        finally:
            self._running = False
