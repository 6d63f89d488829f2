"""Firmware that head-ends have ordered: given to the concentrator, sent to meters, and what the meters say of it.

The concentrator and the meter remember how far they are, so nothing is begun anew after a lost line or a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from flexmap.model import RemoteError
from flexmap.model.firmware import FirmwareOrder, FirmwareReport, FirmwareStage
from flexmap.sources.concentrator import firmware as host
from flexmap.sources.concentrator.link import LineDamaged, Link, LinkLost, ShellError
from flexmap.sources.interface import Clock, DelayedCall
from flexmap.stcomet import identifier
from flexmap.stcomet.firmware import Binary, Image
from flexmap.stcomet.mnsh import ErrorCode
from flexmap.stcomet.updates import State

_log = Logger(namespace="flexmap.concentrator")

LOOK_SECONDS = 30.0
"""Between two questions how an update stands; the concentrator tells changes unasked."""
RETRY_SECONDS = 10.0
MOST_TRIES = 3
"""Activations that the meter has not followed, or damaged uploads, then the update has failed."""
_PASSING = frozenset({ErrorCode.BUSY, ErrorCode.SILENT, ErrorCode.METER, ErrorCode.SYNTAX})
"""Errors of the shell that may be gone at the next try."""


class _Work(msgspec.Struct):
    """An order, and how far it has come."""

    order: FirmwareOrder
    image: Image
    sent: bool
    due: float = 0.0
    tries: int = 0
    said: FirmwareStage | None = None

    @property
    def name(self) -> str:
        """Name of the image at the concentrator."""
        return identifier.shelf_name(self.image)


class Updates:
    """The orders of one concentrator's meters; ``tell`` takes reports."""

    def __init__(self, name: str, clock: Clock, tell: Callable[[FirmwareReport], object]) -> None:
        self._name = name
        self._clock = clock
        self._tell = tell
        self._works: dict[str, _Work] = {}
        self._names: Mapping[str, str] = {}
        self._link: Link | None = None
        self._wake: Deferred[None] | None = None
        self._wake_call: DelayedCall | None = None

    # What the source calls

    def order(self, order: FirmwareOrder) -> None:
        """Carry out an order, in place of an earlier one of its meter."""
        image = Image(Binary(order.binary), order.version, len(_octets(order)), order.digest)
        self._works[order.meter] = _Work(order, image, order.sent)
        self._kick()

    def stop(self, meter: str) -> None:
        """Forget a meter's order, and let the concentrator send it no more."""
        work, name = self._works.pop(meter, None), self._names.get(meter)
        if work is not None and work.sent and self._link is not None and name is not None:
            self._link.ask("FW STOP", name).addErrback(self._not_stopped, meter)

    def _not_stopped(self, failure: Any, meter: str) -> None:
        failure.trap(RemoteError)
        _log.info("{name}: {meter}: {why}", name=self._name, meter=meter, why=failure.getErrorMessage())

    def began(self, link: Link) -> None:
        """Go on over a new line."""
        self._link = link
        running = Deferred.fromCoroutine(self._run(link))
        running.addErrback(lambda failure: _log.failure("{name}: firmware", failure, name=self._name))

    def ended(self) -> None:
        """Wait: there is no line."""
        self._link = None
        self._kick()

    def present(self, names: Mapping[str, str]) -> None:
        """Take the concentrator's names of the meters that are in the PAN."""
        back = names.keys() - self._names.keys()
        self._names = dict(names)
        if any(meter in self._works for meter in back):
            self._kick()

    def told(self, meter: str) -> None:
        """Look at a meter of whose update the concentrator has told something."""
        work = self._works.get(meter)
        if work is not None:
            work.due = 0.0
            self._kick()

    # One after the other

    async def _run(self, link: Link) -> None:
        while self._link is link:
            now = self._clock.seconds()
            work = min((w for m, w in self._works.items() if m in self._names), key=_due, default=None)
            if work is None or work.due > now:
                await self._pause(work.due - now if work is not None else LOOK_SECONDS)
                continue
            try:
                wait = await self._step(link, work, self._names[work.order.meter])
            except LinkLost:
                return
            except RemoteError as error:
                wait = self._failed(work, error)
            work.due = self._clock.seconds() + wait

    def _failed(self, work: _Work, error: RemoteError) -> float:
        """Return after how many seconds to try again; an error that will not pass ends the order."""
        _log.info("{name}: {meter}: {error}", name=self._name, meter=work.order.meter, error=error)
        if isinstance(error, ShellError) and error.code == ErrorCode.IMAGE:
            work.tries += 1  # what the concentrator had was damaged, or is gone: it is given again
            work.sent = False
            passing = work.tries < MOST_TRIES
        else:
            passing = not isinstance(error, ShellError) or error.code in _PASSING
        if not passing:
            self._end(work, FirmwareStage.FAILED, str(error))
        return RETRY_SECONDS

    async def _step(self, link: Link, work: _Work, name: str) -> float:
        if not work.sent:
            await self._send(link, work, name)
            return LOOK_SECONDS
        try:
            fields = (await link.ask("FW STATUS", name)).end.fields
        except ShellError as error:
            if error.code != ErrorCode.REFUSED:
                raise
            work.sent = False  # the concentrator knows nothing of it any more
            return 0.0
        if self._works.get(work.order.meter) is not work:
            return 0.0
        if fields.get("image") != work.name:
            self._end(work, FirmwareStage.FAILED, f"image {fields.get('image')} is being sent to it instead")
            return 0.0
        return await self._follow(link, work, name, State(fields["state"]), fields.get("cause", ""))

    async def _send(self, link: Link, work: _Work, name: str) -> None:
        octets = _octets(work.order)
        if hashlib.sha256(octets).digest() != work.image.digest:
            self._end(work, FirmwareStage.FAILED, "the image is damaged, or gone")
            return
        image = work.image
        update = host.Update(work.name, image.binary, image.version, octets)
        await host.upload(link, update, lambda _who, _there, _of: None)
        if self._works.get(work.order.meter) is not work:
            return
        await link.ask("FW SEND", work.name, name)
        work.sent = True
        self._say(work, FirmwareStage.SENDING)

    async def _follow(self, link: Link, work: _Work, name: str, state: State, cause: str) -> float:
        if state is State.ACTIVE:
            self._end(work, FirmwareStage.ACTIVE)
            await self._drop(link, work)
        elif state in {State.FAILED, State.STOPPED}:
            self._end(work, FirmwareStage.FAILED, cause or "stopped at the concentrator")
            await self._drop(link, work)
        elif state is State.ACTIVATING:
            self._say(work, FirmwareStage.ACTIVATING)
        elif state is State.VERIFIED and not work.order.activate:
            self._end(work, FirmwareStage.VERIFIED)
        elif state is State.VERIFIED and work.tries >= MOST_TRIES:
            self._end(work, FirmwareStage.FAILED, cause or "the meter does not activate it")
        elif state is State.VERIFIED:
            work.tries += 1
            await link.ask("FW ACTIVATE", name)
            self._say(work, FirmwareStage.ACTIVATING)
        return LOOK_SECONDS

    async def _drop(self, link: Link, work: _Work) -> None:
        """Make room at the concentrator; other meters may still need the image."""
        if any(other.name == work.name for other in self._works.values()):
            return
        try:
            await link.ask("FW DROP", work.name)
        except (ShellError, LineDamaged) as error:
            _log.info("{name}: {image} stays: {error}", name=self._name, image=work.name, error=error)

    def _say(self, work: _Work, stage: FirmwareStage, cause: str = "") -> None:
        if stage is not work.said:
            work.said = stage
            self._tell(FirmwareReport(work.order.meter, stage, cause))

    def _end(self, work: _Work, stage: FirmwareStage, cause: str = "") -> None:
        if self._works.get(work.order.meter) is work:
            del self._works[work.order.meter]
            self._say(work, stage, cause)

    # Waiting

    async def _pause(self, seconds: float) -> None:
        self._wake = Deferred()
        self._wake_call = self._clock.callLater(seconds, self._over)
        await self._wake

    def _over(self) -> None:
        self._wake_call = None
        self._kick()

    def _kick(self) -> None:
        wake, self._wake = self._wake, None
        if self._wake_call is not None:
            self._wake_call.cancel()
            self._wake_call = None
        if wake is not None:
            wake.callback(None)


def _octets(order: FirmwareOrder) -> bytes:
    try:
        return Path(order.path).read_bytes()
    except OSError:
        return b""


def _due(work: _Work) -> float:
    return work.due
