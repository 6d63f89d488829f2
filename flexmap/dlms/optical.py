r"""The meter's side of the optical port's sign-on: IEC 62056-21 mode E, then HDLC (its annex E).

==============  =================  ==========================================
reading device  ``/?!`` CR LF      300 bit/s; with a device address behind ``?``
meter           ``/FLX5\2…`` CR LF   maker, highest speed, ``\2``: mode E
reading device  ACK ``252`` CR LF  HDLC, speed, binary mode
meter           ACK ``252`` CR LF  at the new speed: the confirmation
==============  =================  ==========================================

HDLC frames follow at that speed. Until then a character has seven bits and even parity: parity is made here, so
that the line is one of eight bits without parity all the time. The meter waits for each answer and falls back to
300 bit/s when none comes. A reading device that asks for anything other than HDLC is not answered.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

SPEEDS = {b"0": 300, b"1": 600, b"2": 1200, b"3": 2400, b"4": 4800, b"5": 9600, b"6": 19200}
"""Baud rate identification → bit/s (clause 6.3.14, mode C and E)."""
OPENING_SPEED = 300
REACTION = 0.2
"""Seconds from the end of a message to its answer, at least (clause 6.3.14 note; at most 1.5)."""
ANSWER_TIMEOUT = 3.0
"""Seconds that the meter waits for the acknowledgement after its identification has gone out."""
SET_UP_TIMEOUT = 10.0
"""Seconds that the meter waits for the first frame after its confirmation."""
_LONGEST = 64
"""Octets of a message that are kept; a request has 37 at most."""
_REQUEST = re.compile(rb"/\?([0-9A-Za-z ]{0,32})!\r\n\Z")
_ACKNOWLEDGEMENT = re.compile(rb"\x06(.)(.)(.)\r\n\Z", re.DOTALL)
_PARITY = bytes(octet | 0x80 if octet.bit_count() & 1 else octet for octet in range(128)) * 2
_SEVEN_BITS = bytes(octet & 0x7F for octet in range(256))


class Step(NamedTuple):
    """What the line is to do next."""

    wait: float
    """Seconds from now on, and after everything that was written has gone out."""
    speed: int
    """Bit/s of what follows."""
    octets: bytes
    """To be sent at that speed, with parity."""


class Phase(enum.Enum):
    """How far the sign-on is."""

    IDLE = enum.auto()
    OFFERED = enum.auto()
    """The identification was sent."""
    BINARY = enum.auto()
    """HDLC."""


class SignOn:
    """Feed it what comes while ``phase`` is not BINARY, and do the steps that it returns."""

    __slots__ = ("_address", "_identification", "_offer", "_rest", "_until", "phase", "speed")

    def __init__(self, maker: str, speed: int, *, address: str = "", name: str = "flexmap") -> None:
        """``maker``: three letters; ``speed``: highest bit/s; ``address``: the only device address answered to."""
        self._offer = next(code for code, value in SPEEDS.items() if value == speed)
        self._identification = b"/%s%s\\2%s\r\n" % (maker.upper().encode(), self._offer, name[:16].encode())
        self._address = address.lstrip("0")
        self._rest = b""
        self._until = 0.0
        self.phase = Phase.IDLE
        self.speed = OPENING_SPEED
        """Of the line, in bit/s."""

    def receive(self, octets: bytes, now: float) -> Step | None:
        """Take octets that came at a time in seconds; return what to do if they end a message."""
        self.expire(now)
        self._rest = (self._rest + octets.translate(_SEVEN_BITS))[-_LONGEST:]
        if not self._rest.endswith(b"\n"):
            return None
        message, self._rest = self._rest, b""
        request = _REQUEST.search(message)
        if request is not None:
            asked = request[1].decode().strip().lstrip("0")
            if asked in ("", self._address):
                return self._offered(now)
            return None
        acknowledgement = _ACKNOWLEDGEMENT.search(message) if self.phase is Phase.OFFERED else None
        if acknowledgement is None:
            return None
        protocol, speed, mode = acknowledgement.groups()
        if (protocol, mode) != (b"2", b"2") or SPEEDS.get(speed, 1 << 20) > SPEEDS[self._offer]:
            return self.leave()
        return self._binary(speed, now)

    def expire(self, now: float) -> Step | None:
        """Fall back to the opening mode if nothing has followed in time; return what to do then."""
        if self.phase is Phase.IDLE or now < self._until:
            return None
        return self.leave()

    def set_up(self) -> None:
        """Wait no more: a data link connection is open."""
        self._until = float("inf")

    def leave(self) -> Step:
        """Go back to the opening mode."""
        self.phase, self.speed, self._rest = Phase.IDLE, OPENING_SPEED, b""
        return Step(0.0, OPENING_SPEED, b"")

    def _offered(self, now: float) -> Step:
        self.phase = Phase.OFFERED
        self._until = now + REACTION + len(self._identification) * 10 / OPENING_SPEED + ANSWER_TIMEOUT
        return Step(REACTION, OPENING_SPEED, with_parity(self._identification))

    def _binary(self, code: bytes, now: float) -> Step:
        self.phase, self.speed = Phase.BINARY, SPEEDS[code]
        self._until = now + REACTION + SET_UP_TIMEOUT
        return Step(REACTION, self.speed, with_parity(b"\x062%s2\r\n" % code))


def with_parity(characters: bytes) -> bytes:
    """Return characters of seven bits with even parity in the eighth."""
    return characters.translate(_PARITY)
