"""The store: 1 Hz samples, load profile, events and counters in one SQLite file."""

from flexmap.store.profile import AmrStatus, ProfileRow
from flexmap.store.settings import StoreSettings
from flexmap.store.store import Store

__all__ = ["AmrStatus", "ProfileRow", "Store", "StoreSettings"]
