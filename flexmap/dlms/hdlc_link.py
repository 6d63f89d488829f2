"""One HDLC data link connection on the server's side: normal response mode (IEC 62056-46 clause 6.4.4).

The server speaks when it is polled and then sends up to a window of I frames, the last with the final bit. Each
poll says how far the client has received; what it does not acknowledge is sent again. So a request that comes
twice, because the answer to it was lost, gets the same answer and is not carried out again.

A poll that comes with a request whose answer takes time (an action that waits for its meter) is held until the
answer is there, at most :data:`HOLD` seconds; then the client is told RR, and may poll again.

Notifications wait for a poll that nothing else answers, and go out in UI frames before RR; or for an empty UI
frame, each of which fetches one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from flexmap.dlms.general_blocks import apdus_of
from flexmap.dlms.hdlc import LLC_COMMAND, LLC_RESPONSE, POLL, Command, Parameters, encode
from flexmap.dlms.peer import TOO_LONG

MOST_NOTICES = 8
"""Notifications that wait for a poll."""
HOLD = 8.0
"""Seconds that a poll waits for an answer."""
_UNKNOWN, _WITH_INFORMATION, _TOO_LONG, _SEQUENCE = 1, 2, 4, 8
"""Why a frame is rejected: bits w, x, y, z of FRMR."""
_MOST_OCTETS = 3 + 0xFFFF
"""Of a request: LLC header and the largest APDU."""
_RESPONSES = frozenset((int(Command.UA), int(Command.DM), int(Command.FRMR)))
"""Never commands: an echo of our own, or another server's."""


class Link:
    """An open data link connection; ``receive`` takes its frames and returns frames to send."""

    __slots__ = (
        "_acknowledged",
        "_addresses",
        "_busy",
        "_flight",
        "_handle",
        "_next",
        "_notices",
        "_partial",
        "_queue",
        "_refused",
        "_rejection",
        "_room",
        "_waiting",
        "heard",
        "held_since",
        "parameters",
    )

    def __init__(
        self,
        addresses: bytes,
        parameters: Parameters,
        *,
        handle: Callable[[bytes], bytes],
        waiting: Callable[[], bool],
        room: Callable[[int], bool],
    ) -> None:
        self._addresses = addresses
        """Destination and source of what the server sends."""
        self.parameters = parameters
        """As negotiated, from the server's side."""
        self._handle = handle
        """Answers an APDU."""
        self._waiting = waiting
        """Tells whether an answer will come late."""
        self._room = room
        """Tells whether so many octets more may be kept: of a request, or of a reply in segments."""
        self._next = 0
        """N(S) of the I frame to come: V(R)."""
        self._acknowledged = 0
        """N(S) of the first I frame that the client has not acknowledged."""
        self._queue: deque[tuple[bytes, bool]] = deque()
        """Information fields that are not acknowledged, with their segmentation bits."""
        self._flight = 0
        """How many of them have been sent."""
        self._notices: deque[bytes] = deque()
        """Information fields of notifications that wait for a poll."""
        self._partial = bytearray()
        self._busy = False
        self._refused = 0
        """Octets of the information field that there was no room for: RNR until there is."""
        self._rejection = b""
        self.heard = 0.0
        """When the last frame came, in seconds of the line's clock."""
        self.held_since: float | None = None
        """Since when a poll has been held."""

    @property
    def held(self) -> int:
        """Octets kept for this link."""
        waiting = sum(len(information) for information, _ in self._queue) + sum(map(len, self._notices))
        return len(self._partial) + waiting

    def receive(self, control: int, information: bytes, *, segmented: bool) -> bytes:
        """Take a frame other than SNRM and DISC."""
        if not control & 1 and not self._rejection:
            return self._information(control, information, segmented=segmented)
        command = control & ~POLL
        if command in _RESPONSES:
            return b""
        if self._rejection:
            return self._reject_again(control)
        if command == Command.UI:
            return self._unnumbered(control, information)
        if control & 0x0F not in (Command.RR, Command.RNR):
            return self._reject(control, _UNKNOWN | (_WITH_INFORMATION if information else 0))
        if information:
            return self._reject(control, _UNKNOWN | _WITH_INFORMATION)
        return self._supervisory(control)

    def late(self, apdu: bytes) -> bytes:
        """Take the answer that a poll may be held for; return it if one is."""
        self._enqueue(apdu)
        return self.let_go()

    def announce(self, apdu: bytes) -> bool:
        """Keep a notification for the next poll with nothing else to answer; False if too many wait."""
        information = LLC_RESPONSE + apdu
        if len(information) > self.parameters.max_transmit or len(self._notices) >= MOST_NOTICES:
            return False
        self._notices.append(information)
        return True

    def let_go(self) -> bytes:
        """Answer the poll that is held, if one is."""
        if self.held_since is None:
            return b""
        self.held_since = None
        return self._respond()

    def _information(self, control: int, information: bytes, *, segmented: bool) -> bytes:
        if len(information) > self.parameters.max_receive:
            return self._reject(control, _TOO_LONG)
        if not self._acknowledge(control >> 5):
            return self._reject(control, _SEQUENCE)
        self._busy = False
        if control >> 1 & 7 == self._next:
            in_segments = segmented or bool(self._partial)
            if in_segments and len(self._partial) + len(information) > _MOST_OCTETS:
                return self._reject(control, _TOO_LONG)
            if in_segments and not self._room(len(information)):
                self._refused = len(information)  # others hold the room: it may come again
            else:
                self._refused = 0
                self._next = (self._next + 1) & 7
                self._accept(information, segmented=segmented)
        if not control & POLL:
            return b""
        if not self._queue and not self._partial and not self._refused and self._waiting():
            self.held_since = self.heard
            return b""
        return self._respond()

    def _supervisory(self, control: int) -> bytes:
        if not self._acknowledge(control >> 5):
            return self._reject(control, _SEQUENCE)
        self._busy = control & 0x0F == Command.RNR
        if not control & POLL:
            return b""
        self.held_since = None
        return self._respond()

    def _unnumbered(self, control: int, information: bytes) -> bytes:
        """Carry out a request that is not numbered; the answer is not numbered either.

        An empty one is the permission to send a notification.
        """
        if not information and control & POLL:
            if not self._notices:
                return encode(self._addresses, self._next << 5 | POLL | Command.RR)
            return encode(self._addresses, Command.UI | POLL, self._notices.popleft())
        if information[:3] != LLC_COMMAND or len(information) > self.parameters.max_receive:
            return b""
        reply = self._handle(information[3:])
        if not reply or not control & POLL or len(reply) + 3 > self.parameters.max_transmit:
            return b""
        return encode(self._addresses, Command.UI | POLL, LLC_RESPONSE + reply)

    def _accept(self, information: bytes, *, segmented: bool) -> None:
        """Take the next segment in order."""
        if segmented or self._partial:
            self._partial += information
            if segmented:
                return
            information = bytes(self._partial)
            self._partial.clear()
        if information[:3] == LLC_COMMAND:
            for each in apdus_of(self._handle(information[3:])):
                self._enqueue(each)

    def _enqueue(self, apdu: bytes) -> None:
        octets, size = LLC_RESPONSE + apdu, self.parameters.max_transmit
        if len(octets) > size and not self._room(len(octets)):
            octets = LLC_RESPONSE + TOO_LONG
        if len(octets) <= size:
            self._queue.append((octets, False))
            return
        for at in range(0, len(octets), size):
            self._queue.append((octets[at : at + size], at + size < len(octets)))

    def _acknowledge(self, number: int) -> bool:
        """Forget what the client has received, up to N(R); False if that was never sent."""
        count = (number - self._acknowledged) & 7
        if count > self._flight:
            return False
        if count:
            self._acknowledged = number
            self._flight -= count
            for _ in range(count):
                self._queue.popleft()
        return True

    def _respond(self) -> bytes:
        """Answer a poll: with a window of I frames, or that the server is ready to receive."""
        queue, ready = self._queue, self._next << 5
        if not queue or self._busy:
            if self._refused and self._room(self._refused):
                self._refused = 0
            command = Command.RNR if self._refused else Command.RR
            return self._told() + encode(self._addresses, ready | POLL | command)
        number = self._acknowledged
        if len(queue) == 1:
            self._flight = 1
            information, segmented = queue[0]
            return encode(self._addresses, ready | POLL | number << 1, information, segmented=segmented)
        count = self._flight = min(self.parameters.window_transmit, len(queue))
        frames = []
        for position in range(count):
            information, segmented = queue[position]
            control = ready | (number + position & 7) << 1 | (POLL if position == count - 1 else 0)
            frames.append(encode(self._addresses, control, information, segmented=segmented))
        return b"".join(frames)

    def _told(self) -> bytes:
        """Return the notifications that wait, in frames without number."""
        if self._busy or not self._notices:
            return b""
        notices = b"".join(encode(self._addresses, Command.UI, information) for information in self._notices)
        self._notices.clear()
        return notices

    def _reject(self, control: int, why: int) -> bytes:
        """Begin the frame reject condition, which SNRM or DISC ends."""
        send = self._acknowledged + self._flight & 7
        self._rejection = bytes((control, self._next << 5 | send << 1, why))
        self._queue.clear()
        self._partial.clear()
        self.held_since = None
        return self._reject_again(control)

    def _reject_again(self, control: int) -> bytes:
        return encode(self._addresses, Command.FRMR | POLL, self._rejection) if control & POLL else b""
