"""Whoever fails to authenticate has to wait: longer each time, and nobody else with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

FREE_FAILURES = 3
"""Failures in a row that cost nothing: a person mistypes."""
FIRST_DELAY, MOST_DELAY = 5.0, 300.0
"""Seconds; each further failure doubles the delay."""
_MOST_KNOWN = 4096


class Lockout:
    """Counts failures in a row for each who: a client address at a host, so that none can lock another out."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def wait(self, who: Hashable) -> float:
        """Return the seconds until ``who`` may try again, 0 if now."""
        _, until = self._failures.get(who, (0, 0.0))
        return max(0.0, until - self._now())

    def count(self, who: Hashable, *, right: bool) -> None:
        """Count an authentication."""
        failures, _ = self._failures.pop(who, (0, 0.0))
        if right:
            return
        over = failures + 1 - FREE_FAILURES
        delay = min(FIRST_DELAY * 2.0 ** min(over, 16), MOST_DELAY) if over >= 0 else 0.0
        self._failures[who] = (failures + 1, self._now() + delay)
        if len(self._failures) > _MOST_KNOWN:
            self._failures.popitem(last=False)
