"""The tariff of a meter type: which energies are split over how many rates, and when, until a head-end says it."""

from __future__ import annotations

import msgspec


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """How energies are split over rates: what a gateway makes of a meter's energies."""

    rates: int
    """Rates are numbered from 1."""
    energies: tuple[str, ...]
    """Names of the points that are split."""
    day: tuple[tuple[int, int], ...]
    """The calendar that holds until a head-end writes another: (second of each local day, rate), in order."""


def rate_name(name: str, rate: int) -> str:
    """Return the name of the point that counts an energy in a rate, or of a demand's maximum in it."""
    return f"{name}-rate-{rate}"
