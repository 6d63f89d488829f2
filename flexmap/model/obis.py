"""OBIS codes (IEC 62056-6-1): text ``A-B:C.D.E.F`` and the six octets of a COSEM logical name."""

from __future__ import annotations

import re
from functools import lru_cache

from flexmap.model.error import LocalError

_TEXT = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[.*](\d{1,3}))?")


def parse(text: str) -> bytes:
    """Return the six octets of ``A-B:C.D.E[.F]``; F is 255 when left out.

    Raises LocalError if the text is not an OBIS code.
    """
    return _parse(text)


@lru_cache(4096)
def _parse(text: str) -> bytes:
    match = _TEXT.fullmatch(text.strip())
    groups = [int(group) for group in match.groups("255")] if match else [256]
    if max(groups) > 255:
        raise LocalError(f"'{text}' is not an OBIS code such as 1-0:1.8.0.255")
    return bytes(groups)


def text(octets: bytes) -> str:
    """Return ``A-B:C.D.E.F`` of a six-octet logical name."""
    a, b, c, d, e, f = octets
    return f"{a}-{b}:{c}.{d}.{e}.{f}"
