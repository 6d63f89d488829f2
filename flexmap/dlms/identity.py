"""The server's own key pairs of suites 1 and 2, as its associations use them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Private keys (a coordinate's octets, big-endian) by security suite."""

    signing: Mapping[int, bytes] = {}
    agreement: Mapping[int, bytes] = {}

    def __repr__(self) -> str:
        """Never show a key."""
        return f"Identity({sorted(self.signing)}, {sorted(self.agreement)})"
