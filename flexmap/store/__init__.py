"""The store: 1 Hz samples, load profile, events and counters in one SQLite file."""

from flexmap.store.captures import CaptureSetup
from flexmap.store.demand import Average, DemandOf
from flexmap.store.profile import AmrStatus, LoadProfile, ProfileRow
from flexmap.store.resets import Reset
from flexmap.store.settings import StoreSettings
from flexmap.store.store import Store

__all__ = [
    "AmrStatus",
    "Average",
    "CaptureSetup",
    "DemandOf",
    "LoadProfile",
    "ProfileRow",
    "Reset",
    "Store",
    "StoreSettings",
]
