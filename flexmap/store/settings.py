"""What can be set of the store."""

from __future__ import annotations

import msgspec


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Retention and load profile. Days of 0 keep a kind of record for ever."""

    samples_days: float = 7.0
    profile_days: float = 400.0
    events_days: float = 400.0
    profile_period: int = 900
    """Seconds of a profile period; divides a day."""
    profile_points: tuple[str, ...] = (
        "energy-active-import",
        "energy-active-export",
        "energy-reactive-import",
        "energy-reactive-export",
    )
    """Points captured into the load profile, where the meter's type has them."""
    sample_interval: int = 1
    """Seconds between two samples of a meter that is read without gaps."""
