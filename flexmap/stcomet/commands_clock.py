"""APP CLOCK: measure how far a meter's clock is off the host's, and adjust it if that is more than the error.

The host's time is told together with what the concentrator's clock showed then, so that it does not matter how
long the command waits on its way. The meter's clock is read over the power line; half the round trip is taken off,
and is the most that the reading may be wrong by: of a few readings the one with the shortest round trip counts.
Only an offset beyond the likely error, half of that, is worth an adjustment, and the adjustment is an amount: it
may come late.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.stcomet.call import Call
from flexmap.stcomet.clock import ClockReading
from flexmap.stcomet.mnsh import ErrorCode, MnshError
from flexmap.stcomet.payload import ClockReply, ClockRequest, Result

TOLERANCE = 100.0
"""Milliseconds within which a clock is right."""
QUICK = 500.0
"""Milliseconds of round trip up to which one reading is enough."""
READINGS = 4
"""Readings that are made at most."""
_ROUND = 2**32


class _Measured(msgspec.Struct, frozen=True):
    trip: float
    offset: float
    reply: ClockReply


class _Synchronisation:
    """One APP CLOCK under way."""

    def __init__(self, call: Call) -> None:
        call.check_room()
        self._call = call
        self._member = call.meter()
        self._seconds = call.concentrator.scheduler.seconds
        now = self._seconds() * 1000
        waited = (now - call.number(3)) % _ROUND if call.number(3) else 0.0
        self._ahead = call.number(1) * 1000 + call.number(2) - (now - waited)
        """What the host's clock is ahead of the concentrator's, in ms."""
        self._left = READINGS
        self._best: _Measured | None = None

    def read(self) -> None:
        """Read the clock; a reading is not repeated: its reply would not tell to which of them it belongs."""
        self._left -= 1
        began = self._seconds() * 1000
        self._ask(ClockRequest, lambda reply: self._told(began, reply), repeat=False)

    def _ask(
        self, build: Callable[[int], ClockRequest], done: Callable[[object], object], *, repeat: bool
    ) -> None:
        requests = self._call.concentrator.requests
        requests.ask(self._member.short_address, build, done, priority=True, repeat=repeat)

    def _told(self, began: float, reply: object) -> None:
        if isinstance(reply, ClockReply):
            now = self._seconds() * 1000
            trip = now - began
            measured = _Measured(trip, reply.time - (now - trip / 2 + self._ahead), reply)
            if self._best is None or trip < self._best.trip or reply.adjustments != self._best.reply.adjustments:
                self._best = measured
        best = self._best
        if self._left and not (best is not None and best.trip <= QUICK):
            self.read()
        elif best is None:
            name = self._call.concentrator.name_of(self._member)
            self._call.answer.fail(MnshError(ErrorCode.SILENT, f"{name} has not answered"))
        else:
            self._decide(best)

    def _decide(self, best: _Measured) -> None:
        base = best.reply.adjustments
        reading = ClockReading(round(best.offset), round(best.trip), best.reply.pending)
        self._call.concentrator.clocks[self._member.eui64] = reading
        wrong = reading.offset_ms + reading.slewing_ms
        right = abs(wrong) <= max(TOLERANCE, best.trip / 4)
        if right and base:
            self._ends(reading, 0)
            return
        # A clock that was never set, but is right, learns that it is.
        by = 1 if right else -wrong

        def adjusted(reply: object) -> None:
            if isinstance(reply, ClockReply) and reply.result is not Result.REFUSED:
                # A repeated request finds its own adjustment made.
                self._ends(reading, by if reply.adjustments == (base + 1) & 0xFFFF else 0)
            else:
                self._call.answer.fail(MnshError(ErrorCode.REFUSED, "the meter has not taken the adjustment"))

        self._ask(lambda number: ClockRequest(number, base, by), adjusted, repeat=True)

    def _ends(self, reading: ClockReading, by: int) -> None:
        self._call.answer.ok(**msgspec.structs.asdict(reading), adjusted_ms=by)


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("APP", "CLOCK"): lambda call: _Synchronisation(call).read()
}
