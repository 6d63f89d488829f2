"""Invocation counters in the store: none comes twice under a key, not even after a power cut."""

from __future__ import annotations

from flexmap.store import Store


class StoredCounters:
    """A CounterStore (:mod:`flexmap.dlms.security`) on the store's durable counters."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Reserve counters to send with; the first one ever is 1."""
        name = f"dlms sent {key} {title.hex()}"
        first = self._store.counter(name) + 1
        self._store.reserve(name, first + count - 1)
        return first

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter recorded of a peer, 0 if none."""
        return self._store.counter(_received(key, title))

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Record the highest counter received of a peer."""
        self._store.reserve(_received(key, title), counter)


def _received(key: str, title: bytes) -> str:
    return f"dlms received {key} {title.hex()}"
