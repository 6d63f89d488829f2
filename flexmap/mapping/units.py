"""Units: COSEM unit codes (IEC 62056-6-2 table 4) and SIUnit codes (IEC 61850-7-3 annex A), by symbol."""

from __future__ import annotations

import msgspec


class Unit(msgspec.Struct, frozen=True):
    """One unit on both faces."""

    symbol: str
    cosem: int
    si: int
    """Ordinal of SIUnitKind."""
    si_literal: str
    """Literal of SIUnitKind; the empty string for dimensionless."""


UNITS = (
    Unit("", 255, 1, ""),
    Unit("s", 7, 4, "s"),
    Unit("°C", 9, 23, "°C"),
    Unit("W", 27, 38, "W"),
    Unit("VA", 28, 61, "VA"),
    Unit("var", 29, 63, "VAr"),
    Unit("Wh", 30, 72, "Wh"),
    Unit("VAh", 31, 71, "VAh"),
    Unit("varh", 32, 73, "VArh"),
    Unit("A", 33, 5, "A"),
    Unit("V", 35, 29, "V"),
    Unit("Hz", 44, 33, "Hz"),
)

POWER_OF = {30: 27, 31: 28, 32: 29}
"""COSEM unit of a power by that of its energy: Wh, VAh, varh."""
BY_SYMBOL = {unit.symbol: unit for unit in UNITS}
BY_COSEM = {unit.cosem: unit for unit in UNITS}
