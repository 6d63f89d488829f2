"""What the store has already, for sources that fetch what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from flexmap.model import Event
from flexmap.store import Store


class StoreHistory:
    """The store's samples and events (implements flexmap.sources.concentrator.source.History)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def seconds(self, meter: str, start: int, stop: int) -> Iterable[int]:
        """Return the stored seconds from ``start`` to before ``stop``."""
        return (sample.time // 1000 for sample in self._store.samples(meter, start * 1000, stop * 1000 - 1))

    def span(self, meter: str) -> tuple[int, int] | None:
        """Return the first and the last stored second, None if there is none."""
        newest = self._store.last_samples().get(meter)
        first = next(self._store.samples(meter), newest)
        return None if first is None or newest is None else (first.time // 1000, newest.time // 1000)

    def has(self, event: Event) -> bool:
        """Return whether an event is stored."""
        there = self._store.events(event.meter, event.log, event.time, event.time)
        return any(stored.code == event.code for stored in there)
