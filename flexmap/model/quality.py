"""Quality of a value, as the bits of IEC 61850-7-3 (Ed 2.1) clause 6.2 and IEC 61850-8-1 clause 8.1.3.3.

A quality is a plain ``int``: bit n of the integer is bit n of the standard's 13-bit string, so validity is in
the two low bits (bit 0 the higher one of the pair, as the standard writes it) and each detail has one bit.
"""

from __future__ import annotations

GOOD = 0
INVALID = 2
RESERVED = 1
QUESTIONABLE = 3
VALIDITY = 3

OVERFLOW = 1 << 2
OUT_OF_RANGE = 1 << 3
BAD_REFERENCE = 1 << 4
OSCILLATORY = 1 << 5
FAILURE = 1 << 6
OLD_DATA = 1 << 7
INCONSISTENT = 1 << 8
INACCURATE = 1 << 9
SUBSTITUTED = 1 << 10
TEST = 1 << 11
OPERATOR_BLOCKED = 1 << 12

WIDTH = 13
"""Bits of a quality on the wire."""

NEVER_READ = INVALID | FAILURE
"""Quality of a value that no source has delivered yet: missing is not zero."""

_DETAILS = {
    OVERFLOW: "overflow",
    OUT_OF_RANGE: "outOfRange",
    BAD_REFERENCE: "badReference",
    OSCILLATORY: "oscillatory",
    FAILURE: "failure",
    OLD_DATA: "oldData",
    INCONSISTENT: "inconsistent",
    INACCURATE: "inaccurate",
    SUBSTITUTED: "substituted",
    TEST: "test",
    OPERATOR_BLOCKED: "operatorBlocked",
}
_VALIDITY = {GOOD: "good", INVALID: "invalid", RESERVED: "reserved", QUESTIONABLE: "questionable"}


def validity(quality: int) -> int:
    """Return GOOD, INVALID, RESERVED or QUESTIONABLE."""
    return quality & VALIDITY


def describe(quality: int) -> str:
    """Return the standard's words, for example ``questionable+oldData``."""
    words = [_VALIDITY[quality & VALIDITY]]
    words += [word for bit, word in _DETAILS.items() if quality & bit]
    return "+".join(words)


def to_bits(quality: int) -> bytes:
    """Return the 13-bit string as two octets, first bit in the highest place, three bits of padding.

    The validity pair is written high bit first: good 00, invalid 01, reserved 10, questionable 11
    (IEC 61850-8-1 table of the quality's bits).
    """
    reversed_bits = 0
    for bit in range(WIDTH):
        if quality >> bit & 1:
            reversed_bits |= 1 << (15 - bit)
    return reversed_bits.to_bytes(2, "big")


def from_bits(octets: bytes) -> int:
    """Return the quality of a 13-bit string as :func:`to_bits` writes it."""
    word = int.from_bytes(octets[:2], "big")
    return sum(1 << bit for bit in range(WIDTH) if word >> (15 - bit) & 1)


# Time quality (IEC 61850-8-1 clause 8.1.3.7), the octet behind a UtcTime.
LEAP_SECOND_KNOWN = 0x80
CLOCK_FAILURE = 0x40
CLOCK_NOT_SYNCHRONIZED = 0x20
ACCURACY_MILLISECOND = 10
"""Significant bits of the fraction of a second: 10 bits are about one millisecond."""
