"""Invocation counters in the store: none comes twice under a key, not even after a power cut."""

from __future__ import annotations

from flexmap.store import Store

MOST_TITLES = 4096
"""Client system titles kept for one key."""


class StoredCounters:
    """A CounterStore (:mod:`flexmap.dlms.security`) on the store's durable counters.

    Of MOST_TITLES clients under a key each has its own counter. When there are more, the lowest counter is
    forgotten and becomes the least that any client unknown by then must exceed: so nothing can be replayed.
    """

    def __init__(self, store: Store, most: int = MOST_TITLES) -> None:
        self._counters = store.counters
        self._most = most

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Reserve counters to send with; the first one ever is 1."""
        name = f"dlms sent {key} {title.hex()}"
        first = self._counters.value(name) + 1
        self._counters.reserve(name, first + count - 1)
        return first

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter recorded of a peer, or what every unknown one must exceed."""
        return self._counters.value(f"{_received(key)}{title.hex()}") or self._counters.value(_forgotten(key))

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Record the highest counter received of a peer."""
        name = f"{_received(key)}{title.hex()}"
        known = self._counters.value(name)
        self._counters.reserve(name, counter)
        if not known:
            self._counters.merge(_received(key), _forgotten(key), self._most)


def _received(key: str) -> str:
    return f"dlms received {key} "


def _forgotten(key: str) -> str:
    return f"dlms forgotten {key}"
