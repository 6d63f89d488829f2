"""Four binaries; two of them are replaced while the other two go on measuring (seed document, 6.2).

GENERIC and LEGAL are the legal part, PLC and NON LEGAL the other. A new binary comes over UDP in blocks, is kept
in the external SPI flash, checked, then copied: its tasks are deleted, and created again by its entry point.
An update message: type (UdpType.FWUP_REQUEST or FWUP_REPLY), operation, id (2), then fields; all big-endian::

    BEGIN     binary 1, version 4, size 4, SHA-256 32
    BLOCK     offset 4, octets
    ACTIVATE  nothing
    STATUS    nothing
    VERIFY    nothing: the image that is there is checked, nothing else happens
    reply     result 1, next offset 4, and of BEGIN's binary: running version 4

Each of them may come twice: a block that is there already is acknowledged, not written. The digest guards against
damage on the way; who may send an update at all is decided by the PAN's keys.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Callable

import msgspec

from flexmap.model import EventCode, RemoteError
from flexmap.stcomet.payload import UdpType
from flexmap.stcomet.rtos import Rtos, Task


class Binary(enum.IntEnum):
    """The binaries, in the order in which they start."""

    GENERIC = 0
    LEGAL = 1
    PLC = 2
    NON_LEGAL = 3

    @property
    def replaceable(self) -> bool:
        """Whether it is outside the legal part."""
        return self in {Binary.PLC, Binary.NON_LEGAL}


TASKS = {
    Binary.GENERIC: (Task.BG,),
    Binary.LEGAL: (Task.METRO,),
    Binary.PLC: (Task.PLC,),
    Binary.NON_LEGAL: (Task.TCPIP, Task.APP, Task.PARSER),
}
LARGEST = 512 * 1024
"""Octets of the largest image: half of the STCOMET's embedded flash memory (C)."""
COPY_RATE = 64 * 1024
"""Octets a second from SPI flash to embedded flash, erasing included (C)."""


class FwUp(enum.IntEnum):
    """Operations of the update."""

    BEGIN = 1
    BLOCK = 2
    ACTIVATE = 3
    STATUS = 4
    VERIFY = 5


class FwUpResult(enum.IntEnum):
    """What became of an update request."""

    DONE = 0
    LEGAL = 1
    """The binary belongs to the legal part."""
    SIZE = 2
    ORDER = 3
    """Not begun, or a block beyond the next offset."""
    DIGEST = 4
    """Not complete, or not the image that was announced."""


_HEAD = struct.Struct(">BBH")
_BEGIN = struct.Struct(">BII32s")
_OFFSET = struct.Struct(">I")
_REPLY = struct.Struct(">BII")


class FwUpRequest(msgspec.Struct, frozen=True):
    """A request of the update."""

    operation: FwUp
    id: int
    binary: int = 0
    version: int = 0
    size: int = 0
    digest: bytes = b""
    offset: int = 0
    octets: bytes = b""


class FwUpReply(msgspec.Struct, frozen=True):
    """The meter's answer."""

    operation: FwUp
    id: int
    result: FwUpResult
    offset: int
    """Octets that are in the flash memory: where the next block begins."""
    running: int
    """Version in operation of the binary that is being replaced, or was last; 0 if none."""


def encode_request(request: FwUpRequest) -> bytes:
    """Return the datagram of a request."""
    head = _HEAD.pack(UdpType.FWUP_REQUEST, request.operation, request.id)
    if request.operation is FwUp.BEGIN:
        return head + _BEGIN.pack(request.binary, request.version, request.size, request.digest)
    if request.operation is FwUp.BLOCK:
        return head + _OFFSET.pack(request.offset) + request.octets
    return head


def decode_request(octets: bytes) -> FwUpRequest:
    """Return the request of a datagram; raises RemoteError."""
    try:
        kind, code, number = _HEAD.unpack_from(octets)
        operation = FwUp(code)
        body = octets[_HEAD.size :]
        if kind != UdpType.FWUP_REQUEST:
            raise RemoteError("no firmware update request")
        if operation is FwUp.BEGIN:
            return FwUpRequest(operation, number, *_BEGIN.unpack(body))
        if operation is FwUp.BLOCK:
            (offset,) = _OFFSET.unpack_from(body)
            return FwUpRequest(operation, number, offset=offset, octets=body[_OFFSET.size :])
    except (struct.error, ValueError) as error:
        raise RemoteError(f"firmware update: {error}") from None
    if body:
        raise RemoteError(f"firmware update: {len(body)} octets too many")
    return FwUpRequest(operation, number)


def encode_reply(reply: FwUpReply) -> bytes:
    """Return the datagram of a reply."""
    head = _HEAD.pack(UdpType.FWUP_REPLY, reply.operation, reply.id)
    return head + _REPLY.pack(reply.result, reply.offset, reply.running)


def decode_reply(octets: bytes) -> FwUpReply:
    """Return the reply of a datagram; raises RemoteError."""
    try:
        kind, operation, number = _HEAD.unpack_from(octets)
        result, offset, running = _REPLY.unpack(octets[_HEAD.size :])
        reply = FwUpReply(FwUp(operation), number, FwUpResult(result), offset, running)
    except (struct.error, ValueError) as error:
        raise RemoteError(f"firmware update: {error}") from None
    if kind != UdpType.FWUP_REPLY:
        raise RemoteError("no firmware update reply")
    return reply


class Image(msgspec.Struct, frozen=True):
    """A binary as it was announced."""

    binary: Binary
    version: int
    size: int
    digest: bytes


class Firmware:
    """The binaries of a meter: what runs, what lies in the SPI flash, and the replacement on its way."""

    def __init__(
        self,
        rtos: Rtos,
        entry: Callable[[Binary], object],
        happened: Callable[[EventCode], object] = lambda _code: None,
    ) -> None:
        """``entry`` is the entry point of a binary: it makes tasks; ``happened`` takes what is to be logged."""
        self._rtos = rtos
        self._entry = entry
        self._happened = happened
        self.versions = dict.fromkeys(Binary, 1)
        self._image: Image | None = None
        self._octets = bytearray()
        self._copying: Image | None = None
        self._installed: Image | None = None
        self._ready: Image | None = None
        """The image that was last noted as ready."""
        self._seconds_left = 0
        for binary in Binary:
            entry(binary)

    @property
    def replacing(self) -> Binary | None:
        """The binary that stands still now."""
        return self._copying.binary if self._copying else None

    def handle(self, request: FwUpRequest) -> FwUpReply:
        """Take an update request. ACTIVATE is only checked: the copy begins with :meth:`replace`."""
        if request.operation is FwUp.BEGIN:
            result = self._begin(request)
        elif request.operation is FwUp.BLOCK:
            result = self._block(request.offset, request.octets)
        elif request.operation is FwUp.VERIFY:
            result = self._verify()
        elif request.operation is FwUp.ACTIVATE:
            # Asked again because the answer was lost: it may be in operation already.
            again = self._image is None and self._installed is not None
            result = FwUpResult.DONE if again else self._check()
        else:
            result = FwUpResult.DONE
        subject = self._image or self._installed
        running = self.versions[subject.binary] if subject else 0
        return FwUpReply(request.operation, request.id, result, len(self._octets), running)

    def replace(self) -> None:
        """Stop the tasks of the binary whose image is complete, and begin to copy."""
        if self._copying is not None or self._check() is not FwUpResult.DONE or self._image is None:
            return
        self._copying = self._image
        for task in TASKS[self._copying.binary]:
            self._rtos.delete(task)
        self._seconds_left = -(-self._copying.size // COPY_RATE)

    def tick(self) -> None:
        """Go on copying for a second; at its end start the new binary."""
        if self._copying is None:
            return
        self._seconds_left -= 1
        if self._seconds_left <= 0:
            done, self._copying = self._copying, None
            self.versions[done.binary] = done.version
            self._image, self._octets, self._installed, self._ready = None, bytearray(), done, None
            self._entry(done.binary)
            self._happened(EventCode.FIRMWARE_ACTIVATED)

    def _begin(self, request: FwUpRequest) -> FwUpResult:
        if request.binary not in set(Binary) or not Binary(request.binary).replaceable:
            return FwUpResult.LEGAL
        if not 0 < request.size <= LARGEST:
            return FwUpResult.SIZE
        image = Image(Binary(request.binary), request.version, request.size, request.digest)
        if self._copying is not None:
            return FwUpResult.ORDER
        if image != self._image:
            self._image, self._octets, self._ready = image, bytearray(), None
        return FwUpResult.DONE

    def _block(self, offset: int, octets: bytes) -> FwUpResult:
        there = len(self._octets)
        if self._image is None or self._copying is not None or offset > there:
            return FwUpResult.ORDER
        if offset + len(octets) > self._image.size:
            return FwUpResult.SIZE
        if self._octets[offset : offset + len(octets)] != octets[: there - offset]:
            return FwUpResult.ORDER
        self._octets += octets[there - offset :]
        return FwUpResult.DONE

    def _verify(self) -> FwUpResult:
        """Check the image, and note once that it is ready."""
        result = self._check()
        if result is FwUpResult.DONE and self._ready != self._image:
            self._ready = self._image
            self._happened(EventCode.FIRMWARE_READY)
        return result

    def _check(self) -> FwUpResult:
        image = self._image
        if image is None:
            return FwUpResult.ORDER
        if len(self._octets) < image.size:
            return FwUpResult.DIGEST
        if hashlib.sha256(self._octets).digest() != image.digest:
            self._octets = bytearray()  # to be sent again: no block of it is known to be right
            self._happened(EventCode.FIRMWARE_VERIFICATION_FAILED)
            return FwUpResult.DIGEST
        return FwUpResult.DONE
