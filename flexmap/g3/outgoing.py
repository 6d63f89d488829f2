"""A node's way out: what waits, contention for the line, acknowledgement, repetition and segments.

Contention costs one event for each access to the line, whatever the number of slots. Confidence letters as in
:mod:`flexmap.g3.phy`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from flexmap.g3 import frame
from flexmap.g3.ccm import Security
from flexmap.g3.csma import Contention
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.interface import BROADCAST, Confirm, MacStatus, Random, Timer
from flexmap.g3.medium import Medium, Port
from flexmap.g3.neighbours import Neighbours
from flexmap.g3.phy import Modulation
from flexmap.g3.pib import Counters, MacPib
from flexmap.model.error import LocalError

QUEUE = 128
"""Frames that wait to be sent; more are denied (an implementation limit)."""
RETRIES_TO_FORCE_ROBO = 3
"""Repetitions of a faster modulation before the frame goes in a robust one (C; one stack has such a setting)."""
_EPSILON = 1e-9
_EVERYONE = (None, BROADCAST)
"""Destinations of beacons and of broadcasts."""


class Job:
    """An MSDU or a command on its way out."""

    __slots__ = (
        "ack",
        "confirm",
        "destination",
        "head",
        "key",
        "last",
        "modulation",
        "offset",
        "payload",
        "priority",
        "psdu",
        "retries",
        "secured",
        "segment",
        "tones",
    )

    def __init__(
        self, head: Frame, payload: bytes, key: Hashable, confirm: Confirm | None, *, priority: bool, secured: bool
    ) -> None:
        self.head = head
        """Kind and addresses; the payload is cut from ``payload``."""
        self.payload = payload
        self.key = key
        self.confirm = confirm
        self.priority = priority
        self.secured = secured
        self.ack = head.ack_request
        self.destination = head.destination
        self.modulation = Modulation.ROBO
        self.tones: int | None = None
        self.offset = 0
        self.segment = 0
        self.last = True
        self.retries = 0
        self.psdu = b""
        """The segment in hand, empty until it is made."""


Tap = Callable[[FrameKind, bytes, float], object]
"""Told of each transmission: kind of frame, MSDU in clear (whole, also for a segment), seconds on the air."""


class Outgoing:
    """The sending half of a MAC."""

    __slots__ = (
        "_band",
        "_contention",
        "_counters",
        "_fcs",
        "_job",
        "_medium",
        "_neighbours",
        "_pib",
        "_port",
        "_queue",
        "_random",
        "_scheduler",
        "_security",
        "_sequence",
        "_timer",
        "_urgent",
        "tap",
    )

    def __init__(
        self,
        medium: Medium,
        port: Port,
        random: Random,
        *,
        pib: MacPib,
        counters: Counters,
        security: Security,
        neighbours: Neighbours,
    ) -> None:
        self._medium = medium
        self._port = port
        self._band = medium.band
        self._scheduler = medium.scheduler
        self._random = random
        self._pib = pib
        self._counters = counters
        self._security = security
        self._neighbours = neighbours
        self._contention = Contention(pib, random)
        self._queue: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._job: Job | None = None
        self._fcs = -1
        self._timer: Timer | None = None
        self._sequence = random.randrange(256)
        self.tap: Tap | None = None

    def queued(self) -> int:
        """Return how many frames are on their way out."""
        return len(self._queue) + len(self._urgent) + (self._job is not None)

    def full(self) -> bool:
        """Return whether nothing more can be taken."""
        return self.queued() >= QUEUE

    def submit(self, job: Job) -> None:
        """Take a job; it is confirmed when it is done."""
        (self._urgent if job.priority else self._queue).append(job)
        if self._job is None:
            self._next()

    def clear(self) -> None:
        """Forget everything that waits, without confirming it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._job = None
        self._queue.clear()
        self._urgent.clear()
        self._fcs = -1
        self._contention = Contention(self._pib, self._random)

    def acknowledged(self, fcs: int, *, taken: bool) -> None:
        """Take an ACK (``taken``) or NACK of the frame with this FCS; one that nobody waits for is passed over."""
        job = self._job
        if fcs != self._fcs or self._timer is None or job is None:
            return
        self._timer.cancel()
        if taken:
            self._sent(job)
        else:
            self._counters.nack += 1
            self._again(job)

    def _next(self) -> None:
        """Take up what waits, the urgent first."""
        self._job = job = (
            self._urgent.popleft() if self._urgent else self._queue.popleft() if self._queue else None
        )
        if job is None:
            return
        self._sequence = self._sequence + 1 & 0xFF
        ask = False
        if job.ack and isinstance(job.destination, int):
            job.modulation, job.tones, ask = self._neighbours.sending(job.destination, self._scheduler.seconds())
        job.head = msgspec.structs.replace(
            job.head, sequence=self._sequence, tone_map_request=ask, high_priority=job.priority
        )
        if self._prepared(job):
            self._contend(job)

    def _prepared(self, job: Job) -> bool:
        """Make the next segment; a job that cannot be secured (any longer) is given up."""
        job.retries = 0
        try:
            job.psdu = self._make(job)
        except LocalError:
            self._timer = self._scheduler.callLater(0, self._finish, job, MacStatus.SECURITY_ERROR)
            return False
        return True

    def _make(self, job: Job) -> bytes:
        head = job.head
        room = self._band.max_psdu[job.modulation] - frame.overhead(head)
        if job.secured:
            room -= frame.ASH_OCTETS + frame.MIC_OCTETS
        part = job.payload[job.offset : job.offset + room]
        job.last = job.offset + len(part) == len(job.payload)
        made = msgspec.structs.replace(
            head,
            payload=part,
            segment=job.segment,
            last=job.last,
            contention_free=not job.last,
            tone_map_request=head.tone_map_request and job.segment == 0,
        )
        job.offset += len(part)
        if job.secured:
            made = self._security.protect(made)
        return frame.encode(made)

    def _contend(self, job: Job) -> None:
        """Choose a slot in this node's window and come back then."""
        self._contention.begin()
        self._wait_for_slot(job)

    def _wait_for_slot(self, job: Job) -> None:
        now, band = self._scheduler.seconds(), self._band
        contention = self._contention
        slots = contention.opening(high_priority=job.priority) + contention.slots(
            high_priority=job.priority, broadcast=job.destination in _EVERYONE
        )
        # A line that has been idle for long is treated as one that falls idle now (C).
        start = max(now, self._medium.free_from(self._port)) + band.ifs + slots * band.slot
        self._timer = self._scheduler.callLater(start - now, self._access, job)

    def _access(self, job: Job) -> None:
        """Send, if the line has been free since before this node's window opened."""
        now, contention = self._scheduler.seconds(), self._contention
        free = self._medium.free_from(self._port)
        if free > now and not contention.busy():
            self._counters.csma_fail += 1
            self._finish(job, MacStatus.CHANNEL_ACCESS_FAILURE)
            return
        opening = contention.opening(high_priority=job.priority) * self._band.slot
        if free + self._band.ifs + opening > now + _EPSILON:
            self._wait_for_slot(job)
            return
        self._transmit(job)

    def _transmit(self, job: Job) -> None:
        now, band = self._scheduler.seconds(), self._band
        end = self._medium.transmit(self._port, job.psdu, job.key, job.modulation, tones=job.tones, ack=job.ack)
        if self.tap is not None:
            self.tap(job.head.kind, job.payload, end - now)
        if job.ack:
            self._fcs = frame.fcs_of(job.psdu)
            wait = end + band.ifs + band.fch_time + band.slot / 2 - now
            self._timer = self._scheduler.callLater(wait, self._no_ack, job)
        else:
            self._timer = self._scheduler.callLater(end - now, self._sent, job)

    def _no_ack(self, job: Job) -> None:
        self._counters.csma_no_ack += 1
        self._again(job)

    def _again(self, job: Job) -> None:
        """Repeat a frame that was not acknowledged, more robustly after a while, or give up."""
        self._fcs = -1
        self._contention.collided()
        job.retries += 1
        if job.retries > self._pib.max_frame_retries:
            if isinstance(job.destination, int):
                self._neighbours.lost(job.destination)
            self._finish(job, MacStatus.NO_ACK)
            return
        self._counters.retries += 1
        if job.retries >= RETRIES_TO_FORCE_ROBO and job.modulation != Modulation.ROBO:
            fits = len(job.psdu) <= self._band.max_psdu[Modulation.ROBO]
            job.modulation, job.tones = Modulation.ROBO if fits else Modulation.DBPSK, None
            if isinstance(job.destination, int):
                self._neighbours.lost(job.destination)
        self._contend(job)

    def _sent(self, job: Job) -> None:
        """Go on to the next segment, in the contention-free slot, or confirm."""
        self._fcs = -1
        self._contention.succeeded()
        if job.last:
            self._finish(job, MacStatus.SUCCESS)
            return
        job.segment += 1
        if self._prepared(job):
            self._timer = self._scheduler.callLater(self._band.ifs, self._transmit, job)

    def _finish(self, job: Job, status: MacStatus) -> None:
        self._timer = None
        counters = self._counters
        if status is MacStatus.SUCCESS:
            if job.head.kind is not FrameKind.DATA:
                counters.tx_command += 1
            elif job.ack:
                counters.tx_data += 1
            else:
                counters.tx_broadcast += 1
        self._next()
        if job.confirm is not None:
            job.confirm(status)
