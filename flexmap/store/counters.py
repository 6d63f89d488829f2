"""Invocation counters of secured DLMS associations, kept in the store (see flexmap.dlms.security.CounterStore)."""

from __future__ import annotations

from flexmap.store.store import Store


class InvocationCounters:
    """Counters that never fall, whatever happens to the process or the machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Durably reserve ``count`` counters to send with under that key and own title; return the first."""
        name = f"sent {key} {title.hex()}"
        used = self._store.counter(name)
        self._store.reserve(name, used + count)
        return used + 1

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter recorded of that peer under that key, 0 if none."""
        return self._store.counter(f"received {key} {title.hex()}")

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Durably record the highest counter received of that peer."""
        self._store.reserve(f"received {key} {title.hex()}", counter)
