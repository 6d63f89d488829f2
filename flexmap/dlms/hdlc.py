"""HDLC frames (IEC 62056-46 clause 6.4; Green Book clause 8): format type 3, no transparency, CRC-16/X-25.

Between two flags (7E) stand: format (2 octets: 1010, segmentation bit, length), destination and source address,
control, HCS over all that (only with an information field), the information, FCS. The length counts everything
between the flags; flags may stand inside a frame, and one may end a frame and begin the next.

A client's address is one octet. A server's is one octet (upper), two (upper, lower) or four (two and two): seven
bits in each octet, the lowest bit set in the last one only. Upper is the logical device, lower the physical one.
"""

from __future__ import annotations

import enum
from binascii import crc_hqx
from typing import NamedTuple

import msgspec

from flexmap.model.error import RemoteError

FLAG = 0x7E
_FLAG = b"\x7e"
POLL = 0x10
"""Poll bit of a command, final bit of a response."""
MAX_FRAME = 0x7FF
"""Octets between the flags that the length can tell."""
DEFAULT_INFORMATION, MIN_INFORMATION, MAX_INFORMATION = 128, 32, 2030
"""Octets of an information field without negotiation, at least and at most."""
DEFAULT_WINDOW, MAX_WINDOW = 1, 7
LLC_COMMAND, LLC_RESPONSE = b"\xe6\xe6\x00", b"\xe6\xe7\x00"
"""What stands before an APDU in its first information field."""

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_REVERSED_INVERTED = bytes(0xFF ^ octet for octet in _REVERSED)
_GOOD = 0x1D0F
"""CRC over something and its own check sequence, in crc_hqx's order of bits."""


class HdlcError(RemoteError):
    """A frame's content is not as the standard has it."""


class Command(enum.IntEnum):
    """Control fields without the poll bit and sequence numbers; I is every even one."""

    RR = 0x01
    RNR = 0x05
    UI = 0x03
    SNRM = 0x83
    DISC = 0x43
    UA = 0x63
    DM = 0x0F
    FRMR = 0x87


def check_sequence(octets: bytes) -> bytes:
    """Return HCS or FCS as it stands in the frame: CRC-16/X-25, low octet first."""
    # The CRC is reflected; crc_hqx is the same polynomial, not reflected and without the inversion.
    crc = crc_hqx(octets.translate(_REVERSED), 0xFFFF)
    return crc.to_bytes(2, "big").translate(_REVERSED_INVERTED)


def encode(addresses: bytes, control: int, information: bytes = b"", *, segmented: bool = False) -> bytes:
    """Return a frame with its flags; ``addresses`` are destination and source, encoded."""
    length = len(addresses) + len(information) + (7 if information else 5)
    kind = 0xA8 if segmented else 0xA0
    head = b"%c%c%b%c" % (kind | length >> 8, length & 0xFF, addresses, control)
    crc = crc_hqx(head.translate(_REVERSED), 0xFFFF)
    check = crc.to_bytes(2, "big").translate(_REVERSED_INVERTED)
    if not information:
        return b"~%b%b~" % (head, check)
    # The frame's CRC goes on where the header's has ended.
    crc = crc_hqx((check + information).translate(_REVERSED), crc)
    return b"~%b%b%b%b~" % (head, check, information, crc.to_bytes(2, "big").translate(_REVERSED_INVERTED))


class Frame(NamedTuple):
    """A frame that has arrived whole."""

    addresses: bytes
    """Destination and source as they stand in the frame."""
    control: int
    information: bytes
    segmented: bool


class Splitter:
    """Finds the frames in a stream of octets; whatever is none is skipped.

    Holds at most one unfinished frame beside the octets that were added last. An unfinished frame ends when the
    next octet comes more than ``timeout`` seconds after the one before it, and as soon as its header proves wrong.
    """

    __slots__ = ("_at", "_last", "_octets", "_timeout", "skipped")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._octets = b""
        self._at = 0
        self._last = 0.0
        self.skipped = 0
        """Octets that were no flags and in no frame."""

    @property
    def unfinished(self) -> bool:
        """A frame has begun and not ended."""
        return len(self._octets) - self._at > 1

    def add(self, octets: bytes, now: float) -> None:
        """Take octets that arrived at a time in seconds."""
        rest = self._octets[self._at :]
        if rest and now - self._last > self._timeout:
            self.skipped += len(rest) - 1
            rest = b""
        self._octets, self._at, self._last = rest + octets, 0, now

    def next(self) -> Frame | None:
        """Return the next whole frame, if there is one."""
        octets, size = self._octets, len(self._octets)
        while True:
            flag = octets.find(_FLAG, self._at)
            if flag < 0:
                self.skipped += size - self._at
                self._octets, self._at = b"", 0
                return None
            self.skipped += flag - self._at
            self._at = flag
            if size - flag < 3:
                return None
            length = (octets[flag + 1] & 7) << 8 | octets[flag + 2]
            end = flag + 1 + length
            control = _control_at(octets, flag + 3, end - 2) if octets[flag + 1] & 0xF0 == 0xA0 else -1
            if control > 0 and _header_good(octets, flag + 1, control, end):
                if size <= end:
                    return None
                if octets[end] == FLAG and crc_hqx(octets[flag + 1 : end].translate(_REVERSED), 0xFFFF) == _GOOD:
                    self._at = end
                    return Frame(
                        octets[flag + 3 : control],
                        octets[control],
                        octets[control + 3 : end - 2],
                        bool(octets[flag + 1] & 8),
                    )
            elif not control:
                return None
            self._at = flag + 1
            self.skipped += octets[flag + 1] != FLAG


def _control_at(octets: bytes, at: int, end: int) -> int:
    """Return where the control field stands behind two addresses, 0 if that is not there yet, -1 if nowhere."""
    there = min(end, len(octets))
    for _ in range(2):
        last = at + 3
        while at < there and not octets[at] & 1:
            if at == last:
                return -1
            at += 1
        at += 1
    if at < there:
        return at
    return 0 if there < end else -1


def _header_good(octets: bytes, start: int, control: int, end: int) -> bool:
    """Return whether the header is right as far as it is there."""
    behind = control + 1
    if end == behind + 2:
        return True  # no information: its check sequence is the frame's
    if end < behind + 4:
        return False
    if len(octets) < behind + 2:
        return True
    return crc_hqx(octets[start : behind + 2].translate(_REVERSED), 0xFFFF) == _GOOD


class Station(NamedTuple):
    """A server's address."""

    upper: int
    """Server SAP of the logical device."""
    lower: int | None
    """HDLC address of the physical device."""
    octets: int
    """Length of the address."""

    @property
    def to_all(self) -> bool:
        """It names all physical or all logical devices."""
        everyone = 0x3FFF if self.octets == 4 else 0x7F
        return everyone in (self.upper, self.lower)


def encode_station(upper: int, lower: int | None = None, octets: int | None = None) -> bytes:
    """Return a server's address of 1 (``lower`` must be None), 2 or 4 octets; the shortest, if not told."""
    if lower is None:
        return bytes((upper << 1 | 1,))
    if octets == 2 or (octets is None and max(upper, lower) < 0x80):
        return bytes((upper << 1, lower << 1 | 1))
    return bytes((upper >> 7 << 1, (upper & 0x7F) << 1, lower >> 7 << 1, (lower & 0x7F) << 1 | 1))


def decode_addresses(addresses: bytes) -> tuple[Station, int]:
    """Return whom a frame to a server is for, and its client's address; raises HdlcError."""
    destination, source = addresses[:-1], addresses[-1]
    if any(octet & 1 for octet in destination[:-1]) or not destination or not destination[-1] & 1:
        raise HdlcError("client address of more than one octet")
    bits = [octet >> 1 for octet in destination]
    if len(bits) == 1:
        return Station(bits[0], None, 1), source >> 1
    if len(bits) == 2:
        return Station(bits[0], bits[1], 2), source >> 1
    if len(bits) == 4:
        return Station(bits[0] << 7 | bits[1], bits[2] << 7 | bits[3], 4), source >> 1
    raise HdlcError("server address of three octets")


class Parameters(msgspec.Struct, frozen=True):
    """What SNRM and UA negotiate, as their sender sees it."""

    max_transmit: int = DEFAULT_INFORMATION
    """Octets of an information field that it sends."""
    max_receive: int = DEFAULT_INFORMATION
    window_transmit: int = DEFAULT_WINDOW
    """I frames that it sends before it waits for an acknowledgement."""
    window_receive: int = DEFAULT_WINDOW

    def answer(self, asked: Parameters) -> Parameters:
        """Return what a server of these abilities agrees on with a client that asks for ``asked``."""
        return Parameters(
            min(self.max_transmit, asked.max_receive),
            min(self.max_receive, asked.max_transmit),
            min(self.window_transmit, asked.window_receive),
            min(self.window_receive, asked.window_transmit),
        )

    def encode(self) -> bytes:
        """Return the information field of an SNRM or UA."""
        body = b"".join(
            bytes((identifier, 1 if value < 0x100 else 2)) + value.to_bytes(1 if value < 0x100 else 2, "big")
            for identifier, value in ((5, self.max_transmit), (6, self.max_receive))
        )
        body += b"\x07\x04" + self.window_transmit.to_bytes(4, "big")
        body += b"\x08\x04" + self.window_receive.to_bytes(4, "big")
        return b"\x81\x80" + bytes((len(body),)) + body


def decode_parameters(information: bytes) -> Parameters:
    """Return what an SNRM or UA asks for; what it does not name is the default. Raises HdlcError.

    Parameters of other groups and unknown ones are passed over.
    """
    if not information:
        return Parameters()
    values = {5: DEFAULT_INFORMATION, 6: DEFAULT_INFORMATION, 7: DEFAULT_WINDOW, 8: DEFAULT_WINDOW}
    if information[:2] != b"\x81\x80" or len(information) < 3 or information[2] != len(information) - 3:
        raise HdlcError("parameters are not in the format of the standard")
    at = 3
    while at < len(information):
        end = at + 2 + information[at + 1] if at + 1 < len(information) else len(information) + 1
        if end > len(information) or not 1 <= end - at - 2 <= 4:
            raise HdlcError("a parameter's length is wrong")
        if information[at] in values:
            values[information[at]] = int.from_bytes(information[at + 2 : end], "big")
        at = end
    if min(values[5], values[6]) < MIN_INFORMATION or not values[7] or not values[8]:
        raise HdlcError(f"parameters out of range: {values}")
    return Parameters(
        min(values[5], MAX_INFORMATION),
        min(values[6], MAX_INFORMATION),
        min(values[7], MAX_WINDOW),
        min(values[8], MAX_WINDOW),
    )
