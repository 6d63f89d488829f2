"""What can be set of the store."""

from __future__ import annotations

import msgspec

from flexmap.store.profile import LoadProfile


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Retention and load profile. Days of 0 keep a kind of record for ever."""

    samples_days: float = 7.0
    profile_days: float = 400.0
    profile_2_days: float = 10.0
    events_days: float = 400.0
    profile_period: int = 900
    """Seconds of a period of load profile 1; divides a day."""
    profile_2_period: int = 60
    """Seconds of a period of load profile 2; divides a day."""
    profile_points: tuple[str, ...] = (
        "energy-active-import",
        "energy-active-export",
        "energy-reactive-import",
        "energy-reactive-export",
    )
    """Points captured into the load profile, where the meter's type has them."""
    sample_interval: int = 1
    """Seconds between two samples of a meter that is read without gaps."""
    time_zone: str = "UTC"
    """Where the daily profile has its midnight."""

    @property
    def periods(self) -> dict[LoadProfile, int]:
        """Seconds of a period of each profile."""
        return {LoadProfile.FIRST: self.profile_period, LoadProfile.SECOND: self.profile_2_period}

    @property
    def days(self) -> dict[LoadProfile, float]:
        """Days for which each profile is kept; 0: for ever."""
        return {
            LoadProfile.FIRST: self.profile_days,
            LoadProfile.SECOND: self.profile_2_days,
            LoadProfile.BILLING: 0.0,
            LoadProfile.CAPTURED: self.profile_days,
            LoadProfile.CAPTURED_2: self.profile_2_days,
        }
