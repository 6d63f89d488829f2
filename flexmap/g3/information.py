"""The read-only part of a node's information base above the MAC's: tables, and what a node does not vary.

Tables are rows of named numbers, with remaining lifetimes in whole minutes, as in COSEM's classes 91 and 92.
Names as in ITU-T G.9903.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flexmap.g3.interface import COORDINATOR, Address, Row
from flexmap.g3.iphc import Context
from flexmap.g3.phy import Band
from flexmap.g3.routing import Blacklist, RoutingTable

MINUTE = 60.0

FIXED: dict[str, int | tuple[int, ...]] = {
    "macMinCWAttempts": 10,
    "macCENELECLegacyMode": 1,
    "macFCCLegacyMode": 1,
    "macTransmitAtten": 0,
    "adpCoordShortAddress": COORDINATOR,
    "adpDisableDefaultRouting": 0,
    "adpDestinationAddressSet": (),
}
"""What is the same in every node; the first three are the recommendation's defaults (B), without effect here."""


class Tables(Protocol):
    """What an adaptation layer has tables of."""

    contexts: list[Context | None]

    @property
    def routes(self) -> RoutingTable:
        """The routing table."""

    @property
    def blacklist(self) -> Blacklist:
        """Neighbours that do not hear."""

    @property
    def broadcasts(self) -> dict[tuple[Address, int | None], float]:
        """Broadcasts seen: originator and sequence number, and until when they are remembered."""


def minutes(until: float, now: float) -> int:
    """Return how many minutes are left, begun ones included."""
    return max(int(-(-(until - now) // MINUTE)), 0)


def _routing(tables: Tables, now: float) -> list[Row]:
    return [
        {
            "destination": route.destination,
            "next_hop": route.next_hop,
            "cost": route.cost,
            "hops": route.hops,
            "weak_links": route.weak_links,
            "valid": minutes(route.expires, now),
        }
        for route in tables.routes
        if route.expires > now and route.bidirectional
    ]


def _blacklist(tables: Tables, now: float) -> list[Row]:
    listed = tables.blacklist.listed(now).items()
    return [{"short": address, "valid": minutes(until, now)} for address, until in listed]


def _broadcasts(tables: Tables, now: float) -> list[Row]:
    return [
        {"source": source, "sequence": sequence, "valid": minutes(until, now)}
        for (source, sequence), until in tables.broadcasts.items()
        if until > now and isinstance(source, int) and sequence is not None
    ]


def _contexts(tables: Tables, now: float) -> list[Row]:  # noqa: ARG001 (contexts do not run out)
    return [
        {"id": number, "length": context.length, "prefix": context.prefix.hex()}
        for number, context in enumerate(tables.contexts)
        if context is not None
    ]


ADP_TABLES: dict[str, Callable[[Tables, float], list[Row]]] = {
    "adpContextInformationTable": _contexts,
    "adpBroadcastLogTable": _broadcasts,
    "adpRoutingTable": _routing,
    "adpBlacklistTable": _blacklist,
}


def tone_mask(band: Band) -> str:
    """Return macToneMask: one bit a carrier of the band, all in use."""
    return "0b" + "1" * band.carriers


def tone_map(band: Band, groups: int) -> str:
    """Return a tone map: one bit a group of carriers, the lowest frequencies first (C)."""
    return "0b" + "".join(str(groups >> group & 1) for group in range(band.tone_groups))
