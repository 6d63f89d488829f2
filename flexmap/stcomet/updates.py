"""Firmware on its way to meters: blocks in the background, resumed after any silence, then checked and activated.

The meter always says where the next block begins, so a transfer needs no state but the meter's own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from flexmap.stcomet.firmware import COPY_RATE, FwUp, FwUpReply, FwUpRequest, FwUpResult
from flexmap.stcomet.images import Shelf
from flexmap.stcomet.mnsh import ErrorCode, MnshError
from flexmap.stcomet.pan import Member, Pan, Scheduler, Timer
from flexmap.stcomet.requests import Reply, Requests

BLOCK = 352
"""Octets of a block: with its headers one MSDU of G3-PLC (400 octets), so that reads need not wait long."""
RETRY = 10.0
"""Seconds until a meter that was silent is asked again, doubled each time."""
LONGEST_RETRY = 600.0
MOST_REFUSALS = 5
"""Answers in a row that bring nothing on, then the update has failed."""
CHECK_DELAY = 5.0
"""Seconds between the time that a meter needs to copy an image, and the question which version runs."""


class State(enum.StrEnum):
    """How the update of a meter stands."""

    SENDING = "sending"
    VERIFIED = "verified"
    """The meter has the whole image, and it is right."""
    ACTIVATING = "activating"
    ACTIVE = "active"
    FAILED = "failed"
    STOPPED = "stopped"


class Kept(msgspec.Struct, frozen=True):
    """What outlives a restart of the concentrator."""

    eui64: str
    image: str
    state: State


class Transfer(msgspec.Struct):
    """The update of one meter."""

    eui64: str
    image: str
    state: State = State.SENDING
    offset: int = 0
    """Octets that the meter has."""
    running: int = 0
    """Version in operation there, as far as it has said."""
    cause: str = ""
    begun: bool = False
    """Whether the meter knows the image since it last was silent."""
    silences: int = 0
    refusals: int = 0
    asking: bool = False
    timer: Timer | None = None

    def wake(self, timer: Timer | None) -> None:
        """Replace the timer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = timer


class Updates:
    """Updates by meter."""

    def __init__(
        self,
        shelf: Shelf,
        pan: Pan,
        requests: Requests,
        scheduler: Scheduler,
        told: Callable[[Transfer], object],
    ) -> None:
        """``told`` is called with each transfer that begins, or whose state has changed."""
        self._shelf = shelf
        self._pan = pan
        self._requests = requests
        self._scheduler = scheduler
        self._told = told
        self._transfers: dict[str, Transfer] = {}

    def __iter__(self) -> Iterator[Transfer]:
        """Iterate over the updates."""
        return iter(self._transfers.values())

    def of(self, eui64: str) -> Transfer:
        """Return a meter's update; raise :class:`MnshError` if there is none."""
        transfer = self._transfers.get(eui64)
        if transfer is None:
            raise MnshError(ErrorCode.REFUSED, "no image is being sent to this meter: see FW SEND")
        return transfer

    def kept(self) -> tuple[Kept, ...]:
        """Return what to keep."""
        return tuple(Kept(each.eui64, each.image, each.state) for each in self)

    def resume(self, kept: Iterable[Kept]) -> None:
        """Go on with what was kept, as far as the images are still there."""
        for each in kept:
            transfer = Transfer(each.eui64, each.image, each.state)
            self._transfers[each.eui64] = transfer
            held = self._shelf.get(each.image)
            if held is None or not held.whole:
                transfer.state, transfer.cause = State.FAILED, "the image is gone"
            elif each.state is State.SENDING:
                self._step(transfer)
            elif each.state is State.ACTIVATING:
                self._later(transfer, CHECK_DELAY, self._which)

    def uses(self, image: str) -> bool:
        """Return whether an image is on its way to a meter, or about to be activated."""
        return any(each.image == image and each.state in _UNDER_WAY for each in self)

    def send(self, member: Member, image: str) -> Transfer:
        """Begin to send an image to a meter, or go on; raise :class:`MnshError` if the image is not whole."""
        self._shelf.whole(image)
        before = self._transfers.get(member.eui64)
        if before is not None and before.state is State.ACTIVATING:
            raise MnshError(ErrorCode.BUSY, "the meter is just putting an image into operation")
        if before is not None and before.image == image and before.state in {State.SENDING, State.VERIFIED}:
            return before
        if before is not None:
            self._end(before, State.STOPPED)
        transfer = self._transfers[member.eui64] = Transfer(member.eui64, image)
        self._told(transfer)
        self._step(transfer)
        return transfer

    def stop(self, member: Member) -> None:
        """Send no more."""
        transfer = self.of(member.eui64)
        if transfer.state is State.ACTIVATING:
            raise MnshError(ErrorCode.REFUSED, "the meter is putting the image into operation already")
        self._end(transfer, State.STOPPED)

    def joined(self, member: Member) -> None:
        """Go on at once with a meter that has come back."""
        transfer = self._transfers.get(member.eui64)
        if transfer is not None and transfer.state is State.SENDING and not transfer.asking:
            self._step(transfer)

    # Sending

    def _step(self, transfer: Transfer) -> None:
        held = self._shelf.get(transfer.image)
        if held is None or transfer.state is not State.SENDING:
            return
        image, offset = held.image, transfer.offset
        if not transfer.begun:
            build = partial(
                FwUpRequest,
                FwUp.BEGIN,
                binary=image.binary,
                version=image.version,
                size=image.size,
                digest=image.digest,
            )
        elif offset < image.size:
            build = partial(
                FwUpRequest, FwUp.BLOCK, offset=offset, octets=bytes(held.octets[offset : offset + BLOCK])
            )
        else:
            build = partial(FwUpRequest, FwUp.VERIFY)
        self._ask(transfer, build, self._answered, self._step)

    def _answered(self, transfer: Transfer, reply: FwUpReply) -> None:
        if transfer.state is not State.SENDING:
            return
        transfer.running = reply.running
        if reply.result in {FwUpResult.LEGAL, FwUpResult.SIZE}:
            self._end(transfer, State.FAILED, f"the meter refuses: {reply.result.name.lower()}")
        elif reply.result is FwUpResult.DONE and reply.operation is FwUp.VERIFY:
            self._end(transfer, State.VERIFIED)
        elif reply.result is FwUpResult.DONE and (reply.operation is FwUp.BEGIN or reply.offset > transfer.offset):
            transfer.offset, transfer.begun, transfer.cause = reply.offset, True, ""
            if reply.operation is FwUp.BLOCK:
                transfer.refusals = 0
            self._step(transfer)
        else:
            self._refused(transfer, reply)

    def _refused(self, transfer: Transfer, reply: FwUpReply) -> None:
        """Begin anew: the meter has lost the image, or what it has is damaged."""
        transfer.refusals += 1
        if transfer.refusals >= MOST_REFUSALS:
            self._end(transfer, State.FAILED, f"the meter refuses: {reply.result.name.lower()}")
            return
        transfer.begun = False
        self._later(transfer, CHECK_DELAY, self._step)

    # Activation

    def activate(self, member: Member, done: Callable[[MnshError | None], object]) -> None:
        """Put the image that a meter has into operation; ``done`` learns whether the meter has agreed."""
        transfer = self.of(member.eui64)
        if transfer.state in {State.ACTIVATING, State.ACTIVE}:
            done(None)
            return
        if transfer.state is not State.VERIFIED:
            raise MnshError(ErrorCode.REFUSED, f"the image is not verified: {transfer.state.value}")
        self._end(transfer, State.ACTIVATING)

        def taken(reply: Reply | None) -> None:
            if isinstance(reply, FwUpReply) and reply.result is not FwUpResult.DONE:
                self._end(transfer, State.FAILED, f"the meter refuses: {reply.result.name.lower()}")
                done(MnshError(ErrorCode.REFUSED, transfer.cause))
                return
            # Without an answer it may have begun all the same: which version runs will tell.
            self._later(transfer, self._copy_time(transfer), self._which)
            done(None if reply is not None else MnshError(ErrorCode.SILENT, "the meter has not answered yet"))

        self._requests.ask(member.short_address, partial(FwUpRequest, FwUp.ACTIVATE), taken, priority=True)

    def _copy_time(self, transfer: Transfer) -> float:
        held = self._shelf.get(transfer.image)
        return CHECK_DELAY + (held.image.size / COPY_RATE if held else 0.0)

    def _which(self, transfer: Transfer) -> None:
        self._ask(transfer, partial(FwUpRequest, FwUp.STATUS), self._said, self._which)

    def _said(self, transfer: Transfer, reply: FwUpReply) -> None:
        held = self._shelf.get(transfer.image)
        if transfer.state is not State.ACTIVATING or held is None:
            return
        transfer.running = reply.running
        if reply.offset == held.image.size:
            self._end(transfer, State.VERIFIED, "the meter has not activated it")
        elif reply.running == held.image.version:
            self._end(transfer, State.ACTIVE)
        else:
            self._end(transfer, State.FAILED, f"version {reply.running} runs in the meter")

    # One question

    def _ask(
        self,
        transfer: Transfer,
        build: Callable[[int], FwUpRequest],
        answered: Callable[[Transfer, FwUpReply], object],
        again: Callable[[Transfer], object],
    ) -> None:
        members = self._pan.members()
        member = next((each for each in members if each.eui64 == transfer.eui64), None)
        if member is None:
            transfer.begun = False
            transfer.cause = "not in the PAN"
            self._later(transfer, LONGEST_RETRY, again)
            return
        transfer.wake(None)
        transfer.asking = True

        def taken(reply: Reply | None) -> None:
            transfer.asking = False
            if isinstance(reply, FwUpReply):
                transfer.silences = 0
                answered(transfer, reply)
            elif transfer.state in {State.SENDING, State.ACTIVATING}:
                transfer.begun = False
                transfer.cause = "silent"
                wait = min(RETRY * 2.0 ** min(transfer.silences, 16), LONGEST_RETRY)
                transfer.silences += 1
                self._later(transfer, wait, again)

        self._requests.ask(member.short_address, build, taken, background=True)

    def _later(self, transfer: Transfer, delay: float, call: Callable[[Transfer], object]) -> None:
        transfer.wake(None)
        transfer.wake(self._scheduler.callLater(delay, call, transfer))

    def _end(self, transfer: Transfer, state: State, cause: str = "") -> None:
        transfer.wake(None)
        transfer.state, transfer.cause = state, cause
        self._told(transfer)


_UNDER_WAY = {State.SENDING, State.VERIFIED, State.ACTIVATING}
