"""Agent (LBA): a joined device that passes LBP on between neighbours that join and the coordinator.

How many joins an agent lets in is left to the stack. A line on which hundreds join jams if every JOINING is passed
on at once: so an agent passes on one, and the next when the coordinator has dealt with it. If the coordinator does
not take it up, it is crowded: the agent waits, twice as long each time, and answers no scans meanwhile. All of it
ours (C).
"""

from __future__ import annotations

from flexmap.g3.interface import COORDINATOR, Address, LbpLink, MacStatus, Random, Scheduler, Timer
from flexmap.g3.lbp import Kind, Message

HOLD = 30.0
"""Seconds, half to one and a half times, for which no other JOINING is passed on; doubled while nothing comes …"""
HOLD_MOST = 900.0
"""… up to this."""
EXCHANGE = 20.0
"""Seconds given to an exchange after each of the coordinator's messages."""
WAITING = 4
"""JOININGs that may wait."""
PATIENCE = 60.0
"""Seconds after which one that waits is dropped: its device gives up after adpMaxJoinWaitTime (90 s)."""


class Agent:
    """The agent in one device; idle until the device has joined."""

    __slots__ = ("_crowded", "_free_at", "_link", "_random", "_scheduler", "_timer", "_waiting", "relayed")

    def __init__(self, link: LbpLink, scheduler: Scheduler, random: Random) -> None:
        self._link = link
        self._scheduler = scheduler
        self._random = random
        self._free_at = 0.0
        self._crowded = 0
        """JOININGs in a row that the coordinator has not taken up."""
        self._waiting: dict[bytes, tuple[bytes, float]] = {}
        self._timer: Timer | None = None
        self.relayed = 0

    def clear(self) -> None:
        """Forget everything, as when leaving a PAN."""
        self._disarm()
        self._waiting.clear()
        self._free_at = 0.0
        self._crowded = 0

    def open(self) -> bool:
        """Return whether a JOINING would be passed on now."""
        return self._scheduler.seconds() >= self._free_at

    def relay(self, source: Address, message: Message, octets: bytes, *, secured: bool) -> bool:
        """Pass on between a neighbour that joins (EUI-64, plain) and the coordinator (protected).

        Returns whether it is a message that an agent passes on, now or later.
        """
        if isinstance(source, bytes) and source == message.eui64 and message.kind is Kind.JOINING:
            self._up(message, octets)
        elif source == COORDINATOR and secured and message.kind.to_device and message.kind is not Kind.KICK:
            self._down(message, octets)
        else:
            return False
        return True

    def _up(self, message: Message, octets: bytes) -> None:
        if message.data:
            self._send(COORDINATOR, octets)
        elif self.open():
            self._admit(octets)
        elif message.eui64 in self._waiting or len(self._waiting) < WAITING:
            self._waiting[message.eui64] = octets, self._scheduler.seconds()

    def _down(self, message: Message, octets: bytes) -> None:
        self._crowded = 0
        self._waiting.pop(message.eui64, None)
        self._send(message.eui64, octets)
        self._hold(EXCHANGE if message.kind is Kind.CHALLENGE else 0.0)

    def _admit(self, octets: bytes) -> None:
        self._send(COORDINATOR, octets)
        wait = min(HOLD * 2.0 ** min(self._crowded, 16), HOLD_MOST)
        self._crowded += 1
        self._hold(wait * (0.5 + self._random.random()))

    def _send(self, destination: Address, octets: bytes) -> None:
        self.relayed += 1
        self._link.send_lbp(destination, octets, _nobody_waits)

    def _hold(self, seconds: float) -> None:
        self._free_at = self._scheduler.seconds() + seconds
        self._disarm()
        self._timer = self._scheduler.callLater(seconds, self._next)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _next(self) -> None:
        """Pass on the JOINING that has waited longest, if its device still waits."""
        oldest = self._scheduler.seconds() - PATIENCE
        while self._waiting:
            octets, since = self._waiting.pop(next(iter(self._waiting)))
            if since >= oldest:
                self._admit(octets)
                return


def _nobody_waits(_status: MacStatus) -> None:
    pass
