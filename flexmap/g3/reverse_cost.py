"""Route cost requests (254, 255): what a link costs the other way, asked of the neighbour (adpRLCEnabled).

A route message that came from a neighbour of whose hearing nothing is known waits for the answer; without one its
cost is the forward cost and adpAddRevLinkCost (A: messages in two stacks; procedure in one, times as noted).
"""

from __future__ import annotations

from collections.abc import Callable

from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.discovery import cancel
from flexmap.g3.interface import MacStatus, Scheduler, Timer
from flexmap.g3.loadng_message import CostMessage, Kind
from flexmap.g3.path_discovery import Host

ANSWER_WAIT = 4.0
"""Seconds a neighbour has to answer (B: one stack's own choice)."""
ANSWER_TTL = 600.0
"""Seconds an answer holds: as long as a tone map response (macTMRTTL), which says the same (ours)."""
ASKED = 8
"""Neighbours asked at the same time, and route messages that wait for each (ours)."""
ANSWERS = 64
"""Neighbours whose answers, or silence, are kept (ours)."""


class _Asked:
    __slots__ = ("timer", "waiting")

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.waiting: list[Callable[[], object]] = []


class ReverseCosts:
    """Costs that neighbours have told one node."""

    __slots__ = ("_answers", "_asked", "_host", "_pib", "_scheduler", "requests")

    def __init__(self, host: Host, pib: AdpPib, scheduler: Scheduler) -> None:
        self._host = host
        self._pib = pib
        self._scheduler = scheduler
        self._asked: dict[int, _Asked] = {}
        self._answers: dict[int, tuple[int | None, float]] = {}
        """Cost, None for silence, and until when it holds."""
        self.requests = 0
        """Sent."""

    def clear(self) -> None:
        """Forget all answers, and the messages that wait."""
        for asked in self._asked.values():
            cancel(asked.timer)
        self._asked.clear()
        self._answers.clear()

    def known(self, neighbour: int) -> int | None:
        """Return what a neighbour has told."""
        cost, until = self._answers.get(neighbour, (None, 0.0))
        return cost if until > self._scheduler.seconds() else None

    def hold(self, neighbour: int, go_on: Callable[[], object]) -> bool:
        """Return whether a route message is to wait; ``go_on`` is called when the time for an answer is over."""
        asked = self._asked.get(neighbour)
        if asked is None:
            _, until = self._answers.get(neighbour, (None, 0.0))
            if until > self._scheduler.seconds() or len(self._asked) >= ASKED:
                return False
            asked = self._ask(neighbour)
        if len(asked.waiting) >= ASKED:
            return False
        asked.waiting.append(go_on)
        return True

    def _ask(self, neighbour: int) -> _Asked:
        timer = self._scheduler.callLater(ANSWER_WAIT, self._settle, neighbour, None)
        asked = self._asked[neighbour] = _Asked(timer)
        self.requests += 1
        message = CostMessage(Kind.COST_REQUEST, neighbour, self._host.short_address, self._pib.metric_type)

        def confirm(status: MacStatus) -> None:
            if status is not MacStatus.SUCCESS and self._asked.get(neighbour) is asked:
                self._settle(neighbour, None)

        self._host.send_loadng(neighbour, message.encode(), confirm)
        return asked

    def message(self, message: CostMessage, neighbour: int, cost: float) -> None:
        """Answer a request that came over a link of this cost, or take an answer."""
        own = self._host.short_address
        if message.destination != own or message.metric != self._pib.metric_type:
            return
        if message.kind == Kind.COST_REQUEST:
            octet = min(int(cost), 0xFF)
            reply = CostMessage(Kind.COST_REPLY, message.originator, own, message.metric, octet)
            self._host.send_loadng(neighbour, reply.encode(), None)
        elif message.originator == neighbour and neighbour in self._asked:
            self._settle(neighbour, message.cost)

    def _settle(self, neighbour: int, cost: int | None) -> None:
        asked = self._asked.pop(neighbour)
        cancel(asked.timer)
        self._answers.pop(neighbour, None)
        if len(self._answers) >= ANSWERS:
            del self._answers[next(iter(self._answers))]
        ttl = self._pib.rreq_wait if cost is None else ANSWER_TTL
        self._answers[neighbour] = (cost, self._scheduler.seconds() + ttl)
        for go_on in asked.waiting:
            go_on()
