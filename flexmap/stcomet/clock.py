"""The meter's clock: a crystal that drifts, adjusted by amounts and never by absolute times; stamps of records.

An adjustment is right however late it comes, and each names how many were made before it, so that a copy of it, or
one that was measured before another was made, changes nothing. Small ones are slewed, larger ones are steps.
No second is recorded twice, whatever the clock does: see :class:`Stamps`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.model import LocalError

SLEW_MOST = 2000.0
"""Milliseconds up to which an adjustment is slewed."""
SLEW_RATE = 0.005
"""How much faster or slower the clock goes meanwhile: 5 ms a second."""
STRAY = 750.0
"""Milliseconds that stamps, which count on by one each second, may be off the clock before they follow it."""
JUMP = 1000.0
"""Milliseconds from which on it was a step that has brought them there: it is longer, SLEW_MOST - STRAY."""
RUNS = 16
"""Runs of recorded seconds that are remembered; a clock jumps seldom."""
_END = 2.0**32 * 1000
"""Records carry 32 bits of seconds."""


class ClockState(msgspec.Struct, frozen=True):
    """A clock as it is kept over a restart."""

    true: float
    """The world's time in ms …"""
    shown: float
    """… at which the clock has shown this one."""
    pending: float = 0.0
    """What is still to be slewed, in ms."""
    adjustments: int = 0
    doubtful: bool = True
    runs: tuple[tuple[int, int], ...] = ()
    """Recorded seconds, see :class:`Stamps`."""


class ClockReading(msgspec.Struct, frozen=True):
    """How far a meter's clock was found to be off; all in ms."""

    offset_ms: int
    """Ahead of the host's clock, negative if behind."""
    round_trip_ms: int
    """The offset may be wrong by half of it."""
    slewing_ms: int
    """What the meter is about to take off or put on by itself."""


class Clock:
    """A clock in ms since 1970, on a crystal that is ``drift`` millionths too fast.

    ``time`` gives the world's time in ms, with which a crystal goes by itself; without it time moves with ticks.
    """

    def __init__(
        self,
        state: ClockState | None = None,
        *,
        drift: float = 0.0,
        error: float = 0.0,
        time: Callable[[], float] | None = None,
    ) -> None:
        """Set up; a new clock was never set and is ``error`` ms off at its first tick."""
        self._rate = 1 + drift / 1e6
        self._time = time
        self._error = error
        self._true = state.true if state else None
        self._shown = state.shown if state else 0.0
        self._pending = state.pending if state else 0.0
        self.adjustments = state.adjustments if state else 0
        """How often the clock was adjusted, below 65536."""
        self.doubtful = state.doubtful if state else True
        """Whether it was never set."""
        self.stamps = Stamps(state.runs if state else ())

    def tick(self, true: float) -> float:
        """Let time pass up to the world's ``true`` ms; return what the clock shows."""
        if self._true is None:
            self._true, self._shown = true, true + self._error
        passed = max(true - self._true, 0.0)
        slewed = min(max(self._pending, -passed * SLEW_RATE), passed * SLEW_RATE)
        self._pending -= slewed
        self._shown += passed * self._rate + slewed
        self._true += passed
        return self._shown

    def now(self) -> float:
        """Return what the clock shows."""
        return self._shown if self._time is None else self.tick(self._time())

    @property
    def pending(self) -> float:
        """What is still to be slewed, in ms."""
        return self._pending

    def adjust(self, base: int, by: int) -> float | None:
        """Adjust by so many ms, if ``base`` adjustments were made before; return the step, None if there is none.

        ``by`` comes on top of what is still to be slewed. Raises LocalError if no record can carry the time.
        """
        shown = self.now()
        if base != self.adjustments:
            return None
        whole = self._pending + by
        if not 0 <= shown + whole < _END:
            raise LocalError(f"{shown + whole:.0f} ms is no time that records can carry")
        self.adjustments = (base + 1) & 0xFFFF
        self.doubtful = False
        self._pending = whole
        if abs(whole) <= SLEW_MOST:
            return None
        self._pending = 0.0
        self._shown += whole
        return whole

    def state(self) -> ClockState:
        """Return what to keep."""
        true = 0.0 if self._true is None else self._true
        return ClockState(
            true, self._shown, self._pending, self.adjustments, self.doubtful, tuple(self.stamps.runs())
        )


class Stamps:
    """The seconds of the adjusted clock that records bear: each once, and without a gap as long as it only slews.

    Measurements are seconds of the crystal, and most bear one stamp. Once the clock has been slewed by STRAY
    against them, one bears two or none. A clock that was stepped forward leaves a gap; one stepped back into
    seconds that are recorded already gives no stamps until it has left them.
    """

    def __init__(self, runs: tuple[tuple[int, int], ...] = ()) -> None:
        self._runs = [list(run) for run in runs]
        self._held = False

    def runs(self) -> list[tuple[int, int]]:
        """Return the recorded seconds, from a first to before a last; the newest run is the last."""
        return [(start, stop) for start, stop in self._runs]

    def next(self, shown: float) -> tuple[tuple[int, ...], bool]:
        """Return the stamps of the second that begins at a time of the clock, in ms; whether they are out of row.

        There are none in a second that is recorded already: its energy counts, but no record bears it.
        """
        following = self._runs[-1][1] if self._runs else None
        ahead = JUMP if following is None else shown - 1000 * following
        if following is not None and abs(ahead) < JUMP and not self._recorded(following):
            count = 1 + (ahead > STRAY) - (ahead < -STRAY)
            count -= count == 2 and self._recorded(following + 1)
            changed, self._held = self._held and count > 0, self._held and not count
            self._runs[-1][1] += count
            return tuple(range(following, following + count)), changed
        due = int((shown + 500) // 1000)
        if self._recorded(due):
            self._held = True
            return (), False
        changed = self._held or following is not None
        self._held = False
        self._runs = [*self._runs[1 - RUNS :], [due, due + 1]]
        return (due,), changed

    def _recorded(self, second: int) -> bool:
        return any(start <= second < stop for start, stop in self._runs)
