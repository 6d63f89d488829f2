"""The client's side of one HDLC data link connection (IEC 62056-46), without I/O.

Each operation is a generator: it yields octets to send (none: only listen) and is given the next frame::

    operation = link.exchange(apdu)
    octets = next(operation)
    while True: octets = operation.send(frame)     # until StopIteration, whose value is the result

One I frame is sent at a time; the server may send as many as its window allows.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from flexmap.dlms.hdlc import (
    LLC_COMMAND,
    LLC_RESPONSE,
    MAX_INFORMATION,
    MAX_WINDOW,
    POLL,
    Command,
    Frame,
    Parameters,
    decode_parameters,
    encode,
)
from flexmap.model.error import RemoteError

_MOST_POLLS = 30
"""RR of a server that has no answer yet, before we give up."""
_MOST_OCTETS = 3 + 0xFFFF
"""Of an answer: LLC header and the largest APDU."""
T = TypeVar("T")
Operation = Generator[bytes, Frame, T]


class HdlcLink:
    """A link to one logical device; ``station`` is the server's address, encoded."""

    def __init__(self, station: bytes, client: int) -> None:
        self._addresses = station + bytes((client << 1 | 1,))
        self.answers = self._addresses[-1:] + station
        """Destination and source of the server's frames."""
        self._sent = 0
        self._received = 0
        self._longest = 0
        """Octets of an information field that the server takes."""

    def connect(self) -> Operation[None]:
        """Set the link up; raises RemoteError if the server refuses."""
        asked = Parameters(MAX_INFORMATION, MAX_INFORMATION, 1, MAX_WINDOW)
        frame = yield encode(self._addresses, Command.SNRM | POLL, asked.encode())
        self._expect(frame, Command.UA)
        self._longest = decode_parameters(frame.information).max_receive
        self._sent = self._received = 0

    def disconnect(self) -> Operation[None]:
        """End the link."""
        frame = yield encode(self._addresses, Command.DISC | POLL)
        self._expect(frame, Command.UA, Command.DM)

    def exchange(self, apdu: bytes) -> Operation[bytes]:
        """Send a request and return its answer; raises RemoteError where the server does not keep to the link."""
        octets = LLC_COMMAND + apdu
        for at in range(0, len(octets), self._longest):
            piece = octets[at : at + self._longest]
            last = at + self._longest >= len(octets)
            frame = yield self._information(piece, segmented=not last)
            if not last:
                self._expect_ready(frame)
        whole = yield from self._answer(frame)
        if whole[:3] != LLC_RESPONSE:
            raise RemoteError(f"HDLC: answer without LLC header: {whole[:3].hex()}")
        return whole[3:]

    def _answer(self, frame: Frame) -> Operation[bytes]:
        whole, polls = b"", 0
        while True:
            if frame.control & 1:
                self._expect_ready(frame)
                polls += 1
                if polls > _MOST_POLLS:
                    raise RemoteError("HDLC: the server has no answer")
                frame = yield self._ready()
                continue
            if frame.control >> 5 != self._sent:
                raise RemoteError(f"HDLC: N(R) {frame.control >> 5} instead of {self._sent}")
            if frame.control >> 1 & 7 == self._received:
                self._received = self._received + 1 & 7
                whole += frame.information
                if not frame.segmented:
                    return whole
                if len(whole) > _MOST_OCTETS:
                    raise RemoteError("HDLC: the answer does not end")
            frame = yield self._ready() if frame.control & POLL else b""

    def _information(self, piece: bytes, *, segmented: bool) -> bytes:
        control = self._received << 5 | POLL | self._sent << 1
        self._sent = self._sent + 1 & 7
        return encode(self._addresses, control, piece, segmented=segmented)

    def _ready(self) -> bytes:
        return encode(self._addresses, self._received << 5 | POLL | Command.RR)

    def _expect_ready(self, frame: Frame) -> None:
        if frame.control & 0x0F != Command.RR or frame.control >> 5 != self._sent:
            self._expect(frame)

    def _expect(self, frame: Frame, *commands: Command) -> None:
        command = frame.control & ~POLL
        if command in commands:
            return
        names = {Command.DM: "DM (disconnected mode)", Command.FRMR: f"FRMR {frame.information.hex()}"}
        told = names[Command(command)] if command in (Command.DM, Command.FRMR) else f"control {frame.control:02x}"
        raise RemoteError(f"HDLC: the server answers {told}")
