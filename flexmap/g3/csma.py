"""Contention window of CSMA/CA (G.9903 clause 9.3.1): how many slots to wait, how it grows and shrinks.

After the line falls free: CIFS, one contention-free slot, the high-priority window, then the normal window. The
windows' sizes are A. How macA and macK act is B (patents US 9,276,764 and US 9,531,563, from the time of the
recommendation): the window shrinks by macA smallest windows with each success; for one who found the line busy
macCSMAFairnessLimit times it grows no longer but halves, then again every macK times. (macMinCWAttempts, which
makes a node that often has its way stand back, is left out.)
"""

from __future__ import annotations

from flexmap.g3.interface import Random
from flexmap.g3.pib import MacPib

CONTENTION_FREE_SLOTS = 1
"""Slots after CIFS that belong to the next segment of what was just sent."""


class Contention:
    """State of one node's channel access."""

    __slots__ = ("_pib", "_random", "busy_count", "window")

    def __init__(self, pib: MacPib, random: Random) -> None:
        self._pib = pib
        self._random = random
        self.window = 1 << pib.min_be
        """Slots to choose from, a power of two while it only grows."""
        self.busy_count = 0
        """NB: how often the line was busy for the frame in hand."""

    def begin(self) -> None:
        """Start with a frame, or with its repetition."""
        self.busy_count = 0

    def opening(self, *, high_priority: bool) -> int:
        """Return how many slots after CIFS this node's window opens."""
        return CONTENTION_FREE_SLOTS + (0 if high_priority else self._pib.high_priority_window)

    def slots(self, *, high_priority: bool, broadcast: bool = False) -> int:
        """Return how many slots of its window to wait."""
        if high_priority:
            return self._random.randrange(self._pib.high_priority_window)
        if broadcast and self._pib.broadcast_max_cw:
            return self._random.randrange(1 << self._pib.max_be)
        return self._random.randrange(self.window)

    def busy(self) -> bool:
        """Take note that the line was busy; return whether to try again (macMaxCSMABackoffs)."""
        pib = self._pib
        self.busy_count += 1
        over = self.busy_count - pib.fairness_limit
        if over < 0:
            self._grow()
        elif over % pib.k == 0:
            self.window = max(1 << pib.min_be, self.window // 2)
        return self.busy_count <= pib.max_csma_backoffs

    def collided(self) -> None:
        """Take note that a frame was sent and not acknowledged."""
        self._grow()

    def succeeded(self) -> None:
        """Take note that a frame has arrived (or that a broadcast is out)."""
        smallest = 1 << self._pib.min_be
        self.window = max(smallest, self.window - self._pib.a * smallest)

    def _grow(self) -> None:
        self.window = max(1 << self._pib.min_be, min(2 * self.window, 1 << self._pib.max_be))
