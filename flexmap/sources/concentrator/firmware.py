"""Firmware over a shell, from the host's side: an image to the concentrator, from there to meters."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, FirstError, gatherResults

from flexmap.model import RemoteError
from flexmap.sources.concentrator.link import Link, Reply
from flexmap.sources.interface import Clock
from flexmap.stcomet.catalogue import BLOCK
from flexmap.stcomet.firmware import Binary
from flexmap.stcomet.updates import State

ABREAST = 16
"""Blocks that are under way at a time."""
MOST_STALLS = 5
"""Rounds in a row that bring nothing on, then the upload has failed."""
POLL = 2.0
"""Seconds between two questions how an update stands."""


class Update(msgspec.Struct, frozen=True):
    """What is to be done: an image, its name at the concentrator, and the meters that get it."""

    name: str
    binary: Binary
    version: int
    octets: bytes
    meters: tuple[str, ...] = ()
    activate: bool = False


Progress = Callable[[str, int, int], object]
"""Takes who (the concentrator or a meter, and how it stands), octets there, octets in all."""


async def upload(link: Link, update: Update, progress: Progress) -> None:
    """Give the image to the concentrator, from where an upload before has got to. Raises RemoteError."""
    octets = update.octets
    digest = hashlib.sha256(octets).hexdigest()
    reply = await link.ask("FW IMAGE", update.name, int(update.binary), update.version, len(octets), digest)
    have, stalls = _have(reply), 0
    while have < len(octets):
        ends = range(have, min(have + ABREAST * BLOCK, len(octets)), BLOCK)
        asked = [_block(link, update.name, at, octets[at : at + BLOCK]) for at in ends]
        try:
            replies = await gatherResults(asked, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        now = _have(replies[-1])
        stalls = 0 if now > have else stalls + 1
        if stalls >= MOST_STALLS:
            raise RemoteError(f"the concentrator takes no octets of {update.name} behind {have}")
        have = now
        progress("concentrator", have, len(octets))


def _block(link: Link, name: str, at: int, octets: bytes) -> Deferred[Reply]:
    return link.ask("FW BLOCK", name, at, binascii.crc_hqx(octets, 0xFFFF), octets.hex())


def _have(reply: Reply) -> int:
    have = reply.end.fields.get("have", "")
    if not have.isdecimal():
        raise RemoteError("the concentrator does not say how much of the image it has")
    return int(have)


async def send(link: Link, clock: Clock, update: Update, progress: Progress) -> dict[str, State]:
    """Have the image sent to the meters, activated if wanted; return how each ended. Raises RemoteError."""
    for meter in update.meters:
        await link.ask("FW SEND", update.name, meter)
    ended = await _wait(link, clock, update.meters, {State.SENDING}, progress)
    if update.activate:
        ready = [meter for meter, state in ended.items() if state is State.VERIFIED]
        for meter in ready:
            await link.ask("FW ACTIVATE", meter)
        ended |= await _wait(link, clock, ready, {State.VERIFIED, State.ACTIVATING}, progress)
    return ended


async def _wait(
    link: Link, clock: Clock, meters: Sequence[str], while_in: set[State], progress: Progress
) -> dict[str, State]:
    ended: dict[str, State] = {}
    while len(ended) < len(meters):
        for meter in meters:
            fields = (await link.ask("FW STATUS", meter)).end.fields
            state = State(fields["state"])
            cause = f" ({fields['cause']})" if fields.get("cause") else ""
            progress(f"{meter} {state.value}{cause}", int(fields["offset"]), int(fields["of"]))
            if state not in while_in:
                ended[meter] = state
            else:
                ended.pop(meter, None)
        if len(ended) < len(meters):
            await _sleep(clock, POLL)
    return ended


def _sleep(clock: Clock, seconds: float) -> Deferred[Any]:
    fired: Deferred[Any] = Deferred()
    clock.callLater(seconds, fired.callback, None)
    return fired
