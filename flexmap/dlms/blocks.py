"""Block transfer: long values out of an iterator in bounded memory, and in with a size limit."""

from __future__ import annotations

from collections.abc import Iterator

from flexmap.dlms import axdr
from flexmap.dlms.apdu import Block
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.requests import Target


class Outgoing:
    """A value on its way out: chunks are fetched as blocks are asked for."""

    __slots__ = ("_buffer", "_chunks", "_ended", "number")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._ended = False
        self.number = 0
        """Number of the block that went out last."""

    def _fill(self, size: int) -> None:
        """Hold more than ``size`` octets, or all there are."""
        while not self._ended and len(self._buffer) <= size:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._buffer += chunk

    @property
    def ended(self) -> bool:
        """The last block has gone out, or there is nothing at all."""
        return self._ended and not self._buffer and self.number > 0

    def put_before(self, head: bytes) -> None:
        """Let ``head`` go out before the rest."""
        self._buffer[:0] = head

    def whole(self, room: int) -> bytes | None:
        """Return all of it if it fits in ``room`` octets, otherwise ``None`` and nothing is lost."""
        self._fill(room)
        return bytes(self._buffer) if self._ended and len(self._buffer) <= room else None

    def block(self, room: int) -> Block:
        """Return the next block, with at most ``room`` octets of raw data."""
        self._fill(room)
        raw = bytes(self._buffer[:room])
        del self._buffer[:room]
        self.number += 1
        return Block(self._ended and not self._buffer, self.number, raw)


class Incoming:
    """A value on its way in, for one request that began with a first block."""

    __slots__ = ("_limit", "_raw", "listed", "number", "targets")

    def __init__(self, targets: tuple[Target, ...], *, listed: bool, limit: int) -> None:
        self.targets = targets
        self.listed = listed
        self.number = 0
        """Number of the block that came last."""
        self._raw = bytearray()
        self._limit = limit

    def add(self, block: Block) -> bool:
        """Take one block; False when it makes the value too long."""
        self.number = block.number
        self._raw += block.raw
        return len(self._raw) <= self._limit

    def values(self) -> tuple[bytes, ...] | None:
        """Cut the values apart; ``None`` if they are malformed or too few or many."""
        raw = bytes(self._raw)
        try:
            count, at = axdr.decode_length(raw, 0) if self.listed else (1, 0)
            if count != len(self.targets):
                return None
            values: list[bytes] = []
            for _ in range(count):
                value, at = axdr.take_value(raw, at)
                values.append(value)
        except AxdrError:
            return None
        return tuple(values) if at == len(raw) else None
