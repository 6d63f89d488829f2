"""The server's own key pairs of suites 1 and 2, and all certificates that it knows."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class Use(enum.IntEnum):
    """What a key pair is for (certificate_type of class 64)."""

    SIGNING = 0
    AGREEMENT = 1


class Identity(msgspec.Struct, frozen=True):
    """Private keys (a coordinate's octets, big-endian) by use and security suite; certificates as DER."""

    keys: Mapping[tuple[Use, int], bytes] = {}
    """In use."""
    pending: Mapping[tuple[Use, int], bytes] = {}
    """Generated; in use as soon as a certificate of them is imported."""
    certificates: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Never show a key."""
        return f"Identity({sorted(self.keys)}, {len(self.certificates)} certificates)"
