"""Commands for firmware: images given to the concentrator, and their way to the meters."""

from __future__ import annotations

import binascii
from collections.abc import Callable

from flexmap.stcomet import images
from flexmap.stcomet.call import Call
from flexmap.stcomet.mnsh import ErrorCode, MnshError


def _images(call: Call) -> None:
    shelf = call.concentrator.shelf
    for name in shelf.names():
        held = shelf.find(name)
        image = held.image
        call.answer.data(
            name,
            binary=image.binary.name,
            version=image.version,
            have=len(held.octets),
            of=image.size,
            sha256=image.digest.hex(),
        )
    call.answer.ok(images=len(shelf.names()))


def _image(call: Call) -> None:
    image = images.image(call.number(1), call.number(2), call.number(3), call.octets(4))
    call.answer.ok(have=call.concentrator.shelf.announce(call.name(0), image))


def _block(call: Call) -> None:
    octets = call.octets(3)
    if binascii.crc_hqx(octets, 0xFFFF) != call.number(2):
        raise MnshError(ErrorCode.PARAMETER, "crc is not that of the octets")
    call.answer.ok(have=call.concentrator.shelf.block(call.name(0), call.number(1), octets))


def _drop(call: Call) -> None:
    name = call.name(0)
    if call.concentrator.updates.uses(name):
        raise MnshError(ErrorCode.REFUSED, f"{name} is on its way to a meter: see FW TRANSFERS")
    call.concentrator.shelf.drop(name)
    call.answer.ok()


def _send(call: Call) -> None:
    transfer = call.concentrator.updates.send(call.meter(1), call.name(0))
    call.answer.ok(**call.concentrator.update_fields(transfer))


def _transfers(call: Call) -> None:
    transfers = list(call.concentrator.updates)
    for transfer in transfers:
        call.answer.data(**call.concentrator.update_fields(transfer))
    call.answer.ok(meters=len(transfers))


def _status(call: Call) -> None:
    transfer = call.concentrator.updates.of(call.meter().eui64)
    call.answer.ok(**call.concentrator.update_fields(transfer))


def _activate(call: Call) -> None:
    member = call.meter()
    updates = call.concentrator.updates

    def done(error: MnshError | None) -> None:
        if error is not None:
            call.answer.fail(error)
        else:
            call.answer.ok(**call.concentrator.update_fields(updates.of(member.eui64)))

    updates.activate(member, done)


def _stop(call: Call) -> None:
    call.concentrator.updates.stop(call.meter())
    call.answer.ok()


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("FW", "IMAGES"): _images,
    ("FW", "IMAGE"): _image,
    ("FW", "BLOCK"): _block,
    ("FW", "DROP"): _drop,
    ("FW", "SEND"): _send,
    ("FW", "TRANSFERS"): _transfers,
    ("FW", "STATUS"): _status,
    ("FW", "ACTIVATE"): _activate,
    ("FW", "STOP"): _stop,
}
