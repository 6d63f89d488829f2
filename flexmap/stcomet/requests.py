"""Requests from the concentrator to meters (FLEXMETER, firmware update): ids, order, time-outs, repetition.

A request is repeated under its own id, so a meter acts on it once. What has priority goes before everything that
waits, and beside what is under way: a command does not stand behind a bulk read. What goes in the background waits
until nothing else does, but not for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from flexmap.model import RemoteError
from flexmap.stcomet import firmware, payload
from flexmap.stcomet.firmware import FwUpReply, FwUpRequest
from flexmap.stcomet.pan import Pan, Scheduler, Timer
from flexmap.stcomet.payload import UdpType

Request = payload.Request | FwUpRequest
Reply = payload.Reply | FwUpReply
Done = Callable[[Reply | None], object]
"""Takes the meter's reply, None if it has not answered."""
Drop = Callable[[], None]
LAST_ID = 0xFFFF


class Settings(msgspec.Struct, frozen=True):
    """How requests are made; times in seconds."""

    reply_timeout: float = 12.0
    """Wait for a reply of one frame, from sending on: three hops in ROBO and a route discovery."""
    bulk_timeout: float = 20.0
    """The same for replies of many frames, and from each of their fragments on."""
    longest: float = 60.0
    """Wait for a reply of which fragments come."""
    retry_delay: float = 2.0
    """Wait before a request that could not even leave is repeated."""
    attempts: int = 2
    abreast: int = 2
    """Requests under way at a time, those of priority not counted: the line is one, but a route's far end may
    be silent."""
    patience: float = 5.0
    """Seconds without a sign of a meter after which its request, unless in bulk, keeps no other from beginning."""
    most_abreast: int = 8
    """Requests under way at a time, those to meters without a sign counted."""
    most: int = 256
    """Requests that wait or are under way; of the background there is one for each meter."""
    passes: int = 8
    """Requests that may begin before one of the background that waits."""


class Statistics(msgspec.Struct):
    """What became of the requests of one meter, or of all."""

    requests: int = 0
    replies: int = 0
    retries: int = 0
    silent: int = 0
    """Requests that stayed without a reply."""
    late: int = 0
    """Replies that came after their time, or twice."""
    malformed: int = 0
    octets: int = 0
    """Of the replies' payload."""


class _Job:
    __slots__ = (
        "background",
        "bulk",
        "done",
        "most",
        "number",
        "octets",
        "priority",
        "sent",
        "short",
        "sign",
        "timer",
        "tries",
    )

    def __init__(
        self, short: int, number: int, octets: bytes, done: Done, *, priority: bool, bulk: bool, background: bool
    ) -> None:
        self.short = short
        self.number = number
        self.octets = octets
        self.done = done
        self.priority = priority
        self.bulk = bulk
        self.background = background
        self.timer: Timer | None = None
        self.sent = 0.0
        """When it was sent last."""
        self.sign = 0.0
        """When it was sent first, or something of its reply heard last."""
        self.tries = 0
        self.most = 0
        """How often it is sent."""

    def answered_by(self, short: int, octets: bytes) -> bool:
        """Return whether a reply with this request's id is one to it."""
        update = self.octets[0] == UdpType.FWUP_REQUEST
        return self.short == short and update == (octets[0] == UdpType.FWUP_REPLY)


class Requests:
    """Requests that wait, are under way, and end."""

    def __init__(self, pan: Pan, scheduler: Scheduler, first_id: int, settings: Settings | None = None) -> None:
        """Set up; ``first_id`` should be drawn: a meter takes an id it has just seen for a repetition."""
        self._pan = pan
        self._scheduler = scheduler
        self.settings = settings or Settings()
        self._next_id = first_id & LAST_ID
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._background: deque[_Job] = deque()
        self._passed = 0
        """Requests that have begun since the first of the background waits."""
        self._under_way: dict[int, _Job] = {}
        self._look: Timer | None = None
        """Looks whether meters that give no sign leave room for what waits."""
        self.total = Statistics()
        self._meters: dict[int, Statistics] = {}

    def of(self, short: int) -> Statistics:
        """Return the statistics of one meter."""
        return self._meters.setdefault(short, Statistics())

    @property
    def full(self) -> bool:
        """Whether no more requests are taken."""
        return len(self._waiting) + len(self._urgent) + len(self._under_way) >= self.settings.most

    def ask(
        self,
        short: int,
        build: Callable[[int], Request],
        done: Done,
        *,
        priority: bool = False,
        bulk: bool = False,
        background: bool = False,
        repeat: bool = True,
    ) -> Drop:
        """Ask a meter; ``build`` gets the request's id. What is soon out of date must not be repeated.

        Returns what ends the request without a word to ``done``; its reply, should it come, is late.
        """
        number = self._next_id
        while number in self._under_way:
            number = (number + 1) & LAST_ID
        self._next_id = (number + 1) & LAST_ID
        octets = _encode(build(number))
        job = _Job(short, number, octets, done, priority=priority, bulk=bulk, background=background)
        job.most = self.settings.attempts if repeat else 1
        self._count(short, "requests")
        queue = self._background if background else self._waiting
        (self._urgent if priority else queue).append(job)
        self._pump()
        return partial(self._drop, job)

    def _drop(self, job: _Job) -> None:
        if self._under_way.get(job.number) is job:
            self._remove(job)
            self._pump()
            return
        for queue in (self._urgent, self._waiting, self._background):
            with suppress(ValueError):
                queue.remove(job)

    def heard(self, short: int) -> None:
        """Take note of a fragment from a meter: its reply is on the way, and worth waiting for a while longer."""
        for job in self._under_way.values():
            if job.short == short and job.tries:
                job.sign = self._scheduler.seconds()
                left = job.sent + self.settings.longest - self._scheduler.seconds()
                self._arm(job, max(min(self.settings.bulk_timeout, left), 0.0))

    def reply(self, short: int, octets: bytes) -> payload.Events | None:
        """Take a datagram of a meter; return it if it is no reply to anything (a notification)."""
        try:
            message = _decode(octets)
        except RemoteError:
            self._count(short, "malformed")
            return None
        if isinstance(message, payload.Events) and message.unasked:
            return message
        job = self._under_way.get(message.id)
        if not isinstance(message, Reply) or job is None or not job.answered_by(short, octets):
            self._count(short, "late")
            return None
        self._count(short, "replies")
        self._count(short, "octets", len(octets))
        self._end(job, message)
        return None

    def forget(self, short: int) -> None:
        """End the requests of a meter that has gone; its next one may get another address."""
        for queue in (self._urgent, self._waiting, self._background):
            gone = [job for job in queue if job.short == short]
            for job in gone:
                queue.remove(job)
                job.done(None)
        for job in [job for job in self._under_way.values() if job.short == short]:
            self._end(job, None)

    def _pump(self) -> None:
        while self._urgent:
            self._begin(self._urgent.popleft())
        while (job := self._next_plain()) is not None:
            self._begin(job)
        looks = self._look is not None and self._look.active()
        if (self._waiting or self._background) and not looks:
            self._look = self._scheduler.callLater(self.settings.patience, self._pump)

    def _next_plain(self) -> _Job | None:
        """Return what is to begin now without priority."""
        plain = [job for job in self._under_way.values() if not job.priority]
        silent_since = self._scheduler.seconds() - self.settings.patience
        holding = sum(job.bulk or job.sign > silent_since for job in plain)
        if holding >= self.settings.abreast or len(plain) >= self.settings.most_abreast:
            return None
        busy = {job.short for job in plain}
        behind = None if any(job.background for job in plain) else _first_of(self._background, busy)
        if behind is not None and self._passed >= self.settings.passes:
            self._passed = 0
            self._background.remove(behind)
            return behind
        found = _first_of(self._waiting, busy)
        if found is not None:
            self._waiting.remove(found)
            self._passed += behind is not None
        elif behind is not None:
            self._passed = 0
            self._background.remove(behind)
        return found or behind

    def _begin(self, job: _Job) -> None:
        while job.number in self._under_way:  # the numbers have gone round
            job.number = (job.number + 1) & LAST_ID
            job.octets = job.octets[:2] + job.number.to_bytes(2, "big") + job.octets[4:]
        self._under_way[job.number] = job
        self._send(job)

    def _send(self, job: _Job) -> None:
        if job.tries >= job.most:
            self._count(job.short, "silent")
            self._end(job, None)
            return
        if job.tries:
            self._count(job.short, "retries")
        job.tries += 1
        tries = job.tries
        job.sent = self._scheduler.seconds()
        if tries == 1:
            job.sign = job.sent
        self._arm(job, self.settings.bulk_timeout if job.bulk else self.settings.reply_timeout)

        def confirm(left: bool) -> None:
            if not left and self._under_way.get(job.number) is job and job.tries == tries:
                self._arm(job, self.settings.retry_delay)

        self._pan.send(job.short, job.octets, confirm, priority=job.priority)

    def _arm(self, job: _Job, delay: float) -> None:
        if job.timer is not None and job.timer.active():
            job.timer.cancel()
        job.timer = self._scheduler.callLater(delay, self._send, job)

    def _end(self, job: _Job, reply: Reply | None) -> None:
        self._remove(job)
        job.done(reply)
        self._pump()

    def _remove(self, job: _Job) -> None:
        if job.timer is not None and job.timer.active():
            job.timer.cancel()
        del self._under_way[job.number]

    def _count(self, short: int, name: str, by: int = 1) -> None:
        for statistics in (self.total, self.of(short)):
            setattr(statistics, name, getattr(statistics, name) + by)


def _first_of(queue: deque[_Job], busy: set[int]) -> _Job | None:
    """Return the first that waits for a meter which is not being asked already."""
    return next((job for job in queue if job.short not in busy), None)


def _encode(request: Request) -> bytes:
    return firmware.encode_request(request) if isinstance(request, FwUpRequest) else payload.encode(request)


def _decode(octets: bytes) -> payload.Message | FwUpReply:
    return firmware.decode_reply(octets) if octets[:1] == _UPDATE else payload.decode(octets)


_UPDATE = bytes((UdpType.FWUP_REPLY,))
