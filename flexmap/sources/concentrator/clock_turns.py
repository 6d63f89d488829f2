"""Measuring and setting meters' clocks through the concentrator, one at a time.

Each clock is kept ``ahead`` of this one by what a head-end has set it to, 0 unless it has. A setting is an
adjustment by an amount, as every other is: it is right however late it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.model import Event, EventCode, EventLog, RemoteError
from flexmap.sources.concentrator.clocks import Clocks
from flexmap.sources.concentrator.link import Link, Reply, ShellError
from flexmap.sources.interface import Clock
from flexmap.stcomet.clock import SLEW_MOST
from flexmap.stcomet.mnsh import ErrorCode

_log = Logger(namespace="flexmap.concentrator")

LINE_DELAY = 0.2
"""Seconds that the concentrator may take to tell its time: half of it is the error of all clocks."""
AGAIN = 1.0
"""Seconds until what was ordered is tried again, if the concentrator took longer."""
CLOCK_WARNING = 1000
"""Milliseconds that a meter's clock may be off without a warning."""


class _TooSlowError(RemoteError):
    """The line to the concentrator is too slow for a clock to be told over it now."""


class ClockTurns:
    """Turns of the meters' clocks, and settings that head-ends have ordered."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        event: Callable[[Event], object],
        is_set: Callable[[str], object],
    ) -> None:
        """``event`` takes what a meter's own log does not have, ``is_set`` a meter whose clock was set."""
        self._name = name
        self._clock = clock
        self._event = event
        self._is_set = is_set
        self._link: Link | None = None
        self._names: Mapping[str, str] = {}
        self._clocks = Clocks()
        self._ahead: dict[str, int] = {}
        self._orders: dict[str, tuple[int, Deferred[str]]] = {}
        """Milliseconds that a clock is to be ahead from now on, and who waits for it."""

    @property
    def offsets(self) -> Mapping[str, int]:
        """How far clocks were found to be off what they are kept at, in ms, by meter; ahead is positive."""
        return self._clocks.offsets

    def ahead(self, meter: str) -> float:
        """Return the seconds that a meter's clock is kept ahead of this one."""
        return self._ahead.get(meter, 0) / 1000

    # What there is

    def began(self, link: Link) -> None:
        """Take note that there is a line to the concentrator."""
        self._link = link

    def ended(self) -> None:
        """Take note that it is gone: what was ordered is refused."""
        self._link = None
        for meter in list(self._orders):
            self._ends(meter, "the line to the concentrator is gone")

    def present(self, names: Mapping[str, str]) -> None:
        """Take the names of the meters that are in the PAN."""
        self._names = names

    def add(self, meter: str, now: float) -> None:
        """Give a meter turns."""
        self._clocks.add(meter, now)

    def remove(self, meter: str) -> None:
        """Give it no more."""
        self._clocks.remove(meter)

    def urgent(self, meter: str, shown: float, now: float) -> None:
        """Take note that a clock was never set, or is plainly wrong, when it has shown a time."""
        self._clocks.urgent(meter, shown - self.ahead(meter), now)

    # Settings

    def keep(self, meter: str, ahead: int) -> None:
        """Keep a clock so many ms ahead of this one."""
        self._ahead[meter] = ahead
        self._clocks.again(meter, self._clock.seconds())

    def order(self, meter: str, ahead: int) -> Deferred[str]:
        """Set a clock so many ms ahead of this one; fires with why it could not be, empty if it was.

        Cancelled, it is not tried any more; a clock that was set nevertheless is set back.
        """
        cause = ""
        if self._link is None:
            cause = "there is no line to the concentrator"
        elif meter not in self._names:
            cause = f"meter '{meter}' is not in the PAN"
        elif meter in self._orders:
            cause = f"the clock of meter '{meter}' is just being set"
        if cause:
            return succeed(cause)

        def cancelled(_answer: Deferred[str]) -> None:
            self._orders.pop(meter, None)

        answer: Deferred[str] = Deferred(cancelled)
        self._orders[meter] = (ahead, answer)
        self._clocks.order(meter)
        self.turn(self._clock.seconds(), sparing=False)
        return answer

    def _ends(self, meter: str, cause: str) -> None:
        order = self._orders.pop(meter, None)
        if order is not None:
            order[1].callback(cause)

    # Turns

    def turn(self, now: float, *, sparing: bool, ordered: bool = False) -> None:
        """Let the concentrator measure a meter's clock against this one, and adjust it.

        Its own clock is compared with this one first: what a line waits in between must not count. ``sparing``
        tells that the line has much to do, ``ordered`` that there is time for nothing but settings.
        """
        if self._link is None:
            return
        meter = self._clocks.next(now, sparing=sparing, ordered=ordered)
        if meter is None:
            return
        order = self._orders.get(meter)
        ahead = self._ahead.get(meter, 0) if order is None else order[0]
        answer = self._link.ask("SYS TIME")
        answer.addCallback(self._ask, meter, ahead, now)
        answer.addCallback(self._measured, meter, ahead, order)
        answer.addErrback(self._not_measured, meter, order)
        answer.addCallback(lambda _: self._next_order())

    def _next_order(self) -> None:
        """Go on with what was ordered while a clock was being measured."""
        self.turn(self._clock.seconds(), sparing=True, ordered=True)

    def _ask(self, reply: Reply, meter: str, ahead: int, began: float) -> Deferred[Reply]:
        now, name = self._clock.seconds(), self._names.get(meter)
        if self._link is None or name is None or now - began > LINE_DELAY:
            raise _TooSlowError(f"SYS TIME took {now - began:.3f} s")
        told = round((began + now) / 2 * 1000) + ahead
        at = reply.number("time_ms") % 2**32
        return self._link.ask("APP CLOCK", name, told // 1000, told % 1000, at)

    def _measured(self, reply: Reply, meter: str, ahead: int, order: tuple[int, Deferred[str]] | None) -> None:
        offset, trip = reply.number("offset_ms"), reply.number("round_trip_ms")
        by, now = reply.number("adjusted_ms"), self._clock.seconds()
        level = _log.warn if order is None and abs(offset) > CLOCK_WARNING else _log.debug
        level("{meter}: clock was {offset} ms off, adjusted by {by} ms", meter=meter, offset=offset, by=by)
        self._clocks.answered(meter, offset, trip, now)
        if order is None:
            return
        if self._orders.get(meter) is not order:  # nobody waits any more
            self._clocks.again(meter, now)
            return
        self._ahead[meter] = ahead
        # What the meter makes up for bit by bit, it does not write down.
        if by and abs(reply.number("slewing_ms") + by) <= SLEW_MOST:
            after = round(now * 1000) + ahead
            for time, code in ((after - by, EventCode.CLOCK_ADJUSTED_OLD), (after, EventCode.CLOCK_ADJUSTED_NEW)):
                self._event(Event(meter, time, EventLog.STANDARD, code))
        self._is_set(meter)
        self._ends(meter, "")

    def _not_measured(self, failure: Failure, meter: str, order: tuple[int, Deferred[str]] | None) -> None:
        now, waits = self._clock.seconds(), order is not None and self._orders.get(meter) is order
        if failure.check(_TooSlowError):
            self._clocks.postponed(meter, now)
            if waits:
                self._clocks.order(meter)
                self._clock.callLater(AGAIN, self._next_order)
            return
        if not failure.check(RemoteError):
            _log.failure("{name}: clock of {meter}", failure, name=self._name, meter=meter)
        self._clocks.failed(meter, now)
        if waits:
            self._ends(meter, _cause(failure))


def _cause(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, ShellError) and error.code == ErrorCode.SILENT:
        return "the meter has not answered"
    return failure.getErrorMessage()
