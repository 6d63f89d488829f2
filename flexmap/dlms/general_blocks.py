"""General block transfer: any APDU in numbered blocks, either way (IEC 62056-5-3 clause 9.4.6.13).

Each party numbers the blocks that it sends from 1 on, acknowledgements without data among them, and tells in each
how many blocks it takes at once (window) and the last one that it has without a gap. A sender may send as many
blocks as the other's window says, all but the last of them marked as streaming; what is not acknowledged then was
lost and is sent again. A receiver keeps what stands behind a gap.

The blocks may carry a protected APDU, or be protected themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from flexmap.dlms.apdu import ApduError, Block, Tag, finish
from flexmap.dlms.axdr import encode_length, take_octet_string, take_octets
from flexmap.dlms.blocks import Outgoing

MAX_WINDOW = 63
OVERHEAD = 9
"""Octets of a block around its data, at most (length in three octets)."""
_LAST, _STREAMING = 0x80, 0x40
_LAST_NUMBER = 0xFFFF
_HELD = 1 << 15
"""Octets of blocks that are kept until they are acknowledged; one block may have more."""


class GeneralBlockError(ApduError):
    """A block that does not fit the transfer; the transfer is over."""


class GeneralBlock(NamedTuple):
    """One general-block-transfer APDU."""

    last: bool
    streaming: bool
    """The next block follows without an acknowledgement."""
    window: int
    """How many blocks its sender takes at once."""
    number: int
    acknowledged: int
    """Number of the other's last block that came without a gap."""
    data: bytes

    def encode(self) -> bytes:
        """Return the APDU."""
        control = self.last * _LAST | self.streaming * _STREAMING | self.window
        head = bytes((Tag.GENERAL_BLOCK_TRANSFER, control))
        numbers = self.number.to_bytes(2, "big") + self.acknowledged.to_bytes(2, "big")
        return head + numbers + encode_length(len(self.data)) + self.data


def decode(apdu: bytes) -> GeneralBlock:
    """Return the block that an APDU is; raises ApduError or AxdrError."""
    head, at = take_octets(apdu, 1, 5)
    data, at = take_octet_string(apdu, at)
    finish(apdu, at)
    control, number, acknowledged = head[0], head[1:3], head[3:5]
    return GeneralBlock(
        bool(control & _LAST),
        bool(control & _STREAMING),
        control & MAX_WINDOW,
        int.from_bytes(number, "big"),
        int.from_bytes(acknowledged, "big"),
        data,
    )


class GeneralTransfer:
    """One party's view of one exchange: a message that comes in blocks, one that goes out in blocks, or both."""

    __slots__ = (
        "_acknowledged",
        "_ended",
        "_gathered",
        "_limit",
        "_most_sent",
        "_number",
        "_outgoing",
        "_received",
        "_sent",
        "_waiting",
        "_window",
        "_window_of_other",
        "room",
    )

    def __init__(self, *, room: int, limit: int, streams: bool = True, window: int = 16) -> None:
        self.room = room
        """Octets that a block may have, all in all."""
        self._limit = limit
        self._window = window
        self._most_sent = max(1, min(_HELD // room, MAX_WINDOW)) if streams else 1
        self._window_of_other = 1
        self._gathered: bytearray | None = bytearray()
        """What has come without a gap; ``None`` once it is all there."""
        self._waiting: dict[int, Block] = {}
        """Blocks behind a gap."""
        self._received = 0
        self._outgoing: Outgoing | None = None
        self._sent: OrderedDict[int, Block] = OrderedDict()
        """Blocks that are not acknowledged."""
        self._number = 0
        """Number of our last block."""
        self._acknowledged = 0
        self._ended = False

    @property
    def begun(self) -> bool:
        """The first block has come, or an answer is under way."""
        return self._received > 0 or self._outgoing is not None

    def take(self, block: GeneralBlock) -> tuple[bytes | None, list[bytes]]:
        """Return the message that is complete with this block, or ``None``, and the APDUs to send.

        Raises GeneralBlockError, and what the source of an outgoing message raises.
        """
        self._window_of_other = max(block.window, 1)
        if self._outgoing is not None:
            if block.data:
                raise GeneralBlockError("a block of a message while the answer is under way")
            if block.number == self._received + 1:
                self._received = block.number
            return None, self._resume(block.acknowledged)
        if self._gathered is None:
            raise GeneralBlockError("a block behind the last one")
        self._gather(block, self._gathered)
        if block.streaming and not block.last:
            return None, []
        if self._ended:
            message, self._gathered = bytes(self._gathered), None
            return message, []
        self._number += 1
        acknowledgement = GeneralBlock(True, False, self._window, self._number, self._received, b"")
        self._acknowledged = self._number
        return None, [acknowledgement.encode()]

    def send(self, message: Outgoing) -> list[bytes]:
        """Return the first blocks of a message."""
        self._outgoing = message
        return self._stream()

    def _gather(self, block: GeneralBlock, gathered: bytearray) -> None:
        if not self._received < block.number <= self._received + self._window:
            if 0 < block.number <= self._received:
                return  # it came before
            raise GeneralBlockError(f"block {block.number} behind {self._received}")
        self._waiting[block.number] = Block(block.last, block.number, block.data)
        while (found := self._waiting.pop(self._received + 1, None)) is not None:
            self._received += 1
            gathered += found.raw
            self._ended = self._ended or found.last
        if len(gathered) + sum(len(each.raw) for each in self._waiting.values()) > self._limit:
            raise GeneralBlockError("a message that is too long")

    def _resume(self, acknowledged: int) -> list[bytes]:
        if not self._acknowledged <= acknowledged <= self._number:
            raise GeneralBlockError(f"acknowledges block {acknowledged} of {self._number}")
        self._acknowledged = acknowledged
        while self._sent and next(iter(self._sent)) <= acknowledged:
            self._sent.popitem(last=False)
        return self._stream()

    def _stream(self) -> list[bytes]:
        """Return what the window takes: blocks that were lost, then new ones."""
        outgoing = self._outgoing
        if outgoing is None:
            return []
        count = min(self._window_of_other, self._most_sent)
        while len(self._sent) < count and not outgoing.ended:
            if self._number == _LAST_NUMBER:
                raise GeneralBlockError("more blocks than numbers")
            block = outgoing.block(self.room - OVERHEAD)
            self._number += 1
            self._sent[self._number] = Block(block.last, self._number, block.raw)
        burst = list(self._sent.values())[:count]
        return [
            GeneralBlock(
                block.last, block is not burst[-1], self._window, block.number, self._received, block.raw
            ).encode()
            for block in burst
        ]


class Apdus(bytes):
    """A response of several APDUs: the first of them, and ``rest``.

    It counts as false, so that a transport looks at nothing more for the one APDU that nearly all responses are.
    """

    rest: list[bytes]

    def __bool__(self) -> bool:
        return False


def joined(apdus: list[bytes]) -> bytes:
    """Return several APDUs as one response; none of them is empty."""
    if len(apdus) < 2:
        return apdus[0] if apdus else b""
    first = Apdus(apdus[0])
    first.rest = apdus[1:]
    return first


def apdus_of(response: bytes) -> list[bytes]:
    """Return the APDUs of a response, in their order."""
    if isinstance(response, Apdus):
        return [bytes(response), *response.rest]
    return [response] if response else []
