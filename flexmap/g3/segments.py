"""What a receiver keeps of each sender: its last frame, to know a repetition, and an MSDU coming in parts."""

from __future__ import annotations

from flexmap.g3.frame import Frame
from flexmap.g3.interface import Address

MAX_MSDU = 400
"""aMaxMSDUSize: octets of an MSDU (A)."""
REASSEMBLY_SECONDS = 30.0
"""How long the rest of an MSDU is waited for (C)."""
_MOST_SENDERS = 1024


class _Sender:
    __slots__ = ("fcs", "heard", "key", "next", "parts", "secured", "sequence", "size")

    def __init__(self) -> None:
        self.sequence = -1
        self.fcs = -1
        self.heard = -1e9
        self.next = 0
        self.size = 0
        self.parts: list[bytes] = []
        self.secured = False
        self.key = 0


class Reassembly:
    """State of one receiver for all its senders."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: dict[tuple[int, Address], _Sender] = {}

    def repeated(self, frame: Frame, fcs: int, now: float, ttl: float) -> bool:
        """Return whether this frame is the sender's last one again, within ``ttl`` seconds."""
        source = frame.source
        if source is None:
            return False
        sender = self._senders.get((frame.source_pan, source))
        if sender is None:
            if len(self._senders) >= _MOST_SENDERS:
                del self._senders[min(self._senders, key=lambda s: self._senders[s].heard)]
            sender = self._senders[frame.source_pan, source] = _Sender()
        known = sender.fcs == fcs and sender.heard + ttl >= now
        if sender.sequence != frame.sequence or sender.heard + REASSEMBLY_SECONDS < now:
            sender.next, sender.size, sender.parts = 0, 0, []
        sender.sequence, sender.fcs, sender.heard = frame.sequence, fcs, now
        return known

    def add(self, frame: Frame, payload: bytes) -> bytes | None:
        """Return the MSDU when this segment is its last, ``None`` while more is to come.

        Raises :class:`OverflowError` for an MSDU that is too long, :class:`LookupError` for a segment out of order
        or protected otherwise than those before; what had come is forgotten.
        """
        if frame.segment == 0 and frame.last:
            if len(payload) > MAX_MSDU:
                raise OverflowError("MSDU is too long")
            return payload
        source = frame.source
        sender = None if source is None else self._senders.get((frame.source_pan, source))
        secured = frame.counter is not None
        if sender is None:
            raise LookupError("a segment without a sender")
        if frame.segment == 0:
            sender.next, sender.size, sender.parts = 0, 0, []
            sender.secured, sender.key = secured, frame.key_index
        if frame.segment != sender.next or secured != sender.secured or frame.key_index != sender.key:
            sender.next, sender.size, sender.parts = 0, 0, []
            raise LookupError(f"segment {frame.segment} does not follow")
        sender.next += 1
        sender.size += len(payload)
        sender.parts.append(payload)
        if sender.size > MAX_MSDU:
            sender.next, sender.size, sender.parts = 0, 0, []
            raise OverflowError("MSDU is too long")
        if not frame.last:
            return None
        msdu = b"".join(sender.parts)
        sender.next, sender.size, sender.parts = 0, 0, []
        return msdu

    def clear(self) -> None:
        """Forget every sender."""
        self._senders.clear()
