"""Reads of meters over UDP: a request of so many octets, a reply of so many, one meter after the other."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from flexmap.g3.adp import AdpStatus
from flexmap.g3.interface import Scheduler, Timer
from flexmap.g3.node import Node

PORT = 0xF0B0
"""UDP port of both sides: 6LoWPAN's shortest form (A: seen in G3 demonstrations)."""


class Answerer:
    """A meter's side: answers each request with its number and so many octets."""

    __slots__ = ("_node", "_size")

    def __init__(self, node: Node, size: int) -> None:
        self._node = node
        self._size = size
        node.udp.bind(PORT, self._request)

    def _request(self, source: int, port: int, payload: bytes) -> None:
        self._node.udp.send(source, port, PORT, payload[:4].ljust(self._size, b"\x5a"))


class Read(msgspec.Struct, frozen=True, gc=False):
    """One read that has ended."""

    short_address: int
    start: float
    seconds: float | None
    """``None`` without a reply in time."""


class Poller:
    """The coordinator's side: reads meter after meter, round after round, some at a time."""

    __slots__ = ("_meters", "_node", "_number", "_scheduler", "_size", "_timeout", "_under_way", "asked", "reads")

    def __init__(self, node: Node, scheduler: Scheduler, size: int, timeout: float) -> None:
        self._node = node
        self._scheduler = scheduler
        self._size = size
        self._timeout = timeout
        self._meters: deque[int] = deque()
        self._number = 0
        self._under_way: dict[int, tuple[int, float, Timer]] = {}
        self.asked = 0
        self.reads: list[Read] = []
        node.udp.bind(PORT, self._reply)

    def start(self, meters: Iterable[int], parallel: int) -> None:
        """Begin with these short addresses, so many reads under way at a time."""
        self._meters.extend(meters)
        for _ in range(min(parallel, len(self._meters))):
            self._next()

    def _next(self) -> None:
        meter = self._meters[0]
        self._meters.rotate(-1)
        self._number += 1
        number = self._number
        self.asked += 1
        now = self._scheduler.seconds()
        timer = self._scheduler.callLater(self._timeout, self._end, number)
        self._under_way[number] = (meter, now, timer)
        payload = struct.pack(">I", number).ljust(self._size, b"\xa5")
        self._node.udp.send(meter, PORT, PORT, payload, self._confirm(number))

    def _confirm(self, number: int) -> Callable[[AdpStatus], object]:
        """Give a read up at once where the request does not leave."""

        def confirm(status: AdpStatus) -> None:
            if status is not AdpStatus.SUCCESS and number in self._under_way:
                # Not at once: what refuses every request must not turn into an endless loop.
                self._under_way[number][2].cancel()
                meter, start, _ = self._under_way[number]
                self._under_way[number] = (meter, start, self._scheduler.callLater(0.1, self._end, number))

        return confirm

    def _reply(self, source: int, _port: int, payload: bytes) -> None:
        number = int.from_bytes(payload[:4], "big")
        under_way = self._under_way.get(number)
        if under_way is not None and under_way[0] == source:
            under_way[2].cancel()
            self._end(number, answered=True)

    def _end(self, number: int, *, answered: bool = False) -> None:
        meter, start, _ = self._under_way.pop(number)
        seconds = self._scheduler.seconds() - start if answered else None
        self.reads.append(Read(meter, start, seconds))
        self._next()
