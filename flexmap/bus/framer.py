"""Frames as bytes: a length of four octets (big endian), then one msgpack map (sans-io)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from flexmap.model import RemoteError

T = TypeVar("T")

LIMIT = 64 * 1024 * 1024
"""Largest frame in octets: a CID of a thousand logical devices fits, a runaway length does not."""
_HEADER = 4


class BadFrameError(RemoteError):
    """The peer sent octets that are not a frame; the connection is of no further use."""


_encode = msgspec.msgpack.Encoder().encode


def encode(frame: msgspec.Struct) -> bytes:
    """Return the frame's octets, length first."""
    body = _encode(frame)
    if len(body) > LIMIT:
        raise BadFrameError(f"frame {type(frame).__name__} of {len(body)} octets is over the limit of {LIMIT}")
    return len(body).to_bytes(_HEADER, "big") + body


class Framer(Generic[T]):
    """Cuts a stream of octets into frames of the given (union of) types."""

    def __init__(self, frames: object, limit: int = LIMIT) -> None:
        self._decoder = msgspec.msgpack.Decoder(frames)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Take octets as they come; yield each frame that is now whole.

        Raises BadFrameError on a frame over the limit or one that does not decode.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEADER:
            length = int.from_bytes(buffer[:_HEADER], "big")
            if length > self._limit:
                raise BadFrameError(f"frame of {length} octets is over the limit of {self._limit}")
            end = _HEADER + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[_HEADER:end])
            del buffer[:end]
            yield self._decode(body)

    def _decode(self, body: bytes) -> T:
        try:
            frame: T = self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise BadFrameError(f"frame of {len(body)} octets does not decode: {error}") from error
        return frame
