"""Which meter to read next, and what of it: fair turns within the airtime there is. Sans-io; time is passed in.

Each turn reads one meter from the second after the newest one delivered: a short reply that holds the latest
record and all before it. A meter that is far behind gives its latest record alone; the seconds between are a hole,
filled in bulk when no meter is due, and every third turn at the latest once all have given their latest record.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

import msgspec

SHORT = 120
"""Seconds that a turn fetches at most together with the latest record."""
SPARE = 10
"""Seconds that a meter's clock may be ahead without a record being left for the next turn."""
BULK = 900
"""Records of one bulk read: some 2 kB, or what one reply holds."""
SILENT_FROM = 2
"""Failed turns after which a meter counts as silent."""
LONGEST_BACK_OFF = 300.0
_BULK_TURN = 3


class Span(msgspec.Struct, frozen=True):
    """Seconds from ``start`` to before ``stop``."""

    start: int
    stop: int
    known: bool = True
    """Whether the meter was there before: what is missing at the beginning is a gap."""


class Gap(msgspec.Struct, frozen=True):
    """Seconds of a meter that cannot be fetched any more, from ``start`` to before ``stop``."""

    meter: str
    start: int
    stop: int


class Turn(enum.Enum):
    """What a turn reads."""

    LATEST = "latest"
    FOLLOWING = "following"
    HOLE = "hole"


class Read(msgspec.Struct, frozen=True):
    """One turn."""

    meter: str
    turn: Turn
    start: int = 0
    count: int = 1


class _Meter:
    __slots__ = ("ahead", "busy", "due", "failures", "holes", "hurry", "met", "newest")

    def __init__(self) -> None:
        self.newest: int | None = None
        self.ahead = 0.0
        """Seconds that its clock is kept ahead of ours."""
        self.holes: list[Span] = []
        self.due = 0.0
        self.hurry = 0.0
        """When it is due whatever is read before."""
        self.failures = 0
        self.busy = False
        self.met = False
        """Whether it has answered since the line to the concentrator is there."""


class Planner:
    """Turns of the meters that are there."""

    def __init__(self, interval: float, depth: int) -> None:
        """``interval``: seconds between two turns of a meter, if the line has the time; ``depth`` of its ring."""
        self._interval = interval
        self._depth = depth
        self._meters: dict[str, _Meter] = {}
        self._turns = 0
        self._gaps: list[Gap] = []

    def meters(self) -> Collection[str]:
        """Return the meters that have turns."""
        return self._meters.keys()

    def add(self, meter: str, newest: int | None, holes: Iterable[Span] = (), ahead: float = 0.0) -> None:
        """Give a meter turns; ``newest`` is the second of its newest sample, holes lie before that.

        Its clock is kept ``ahead`` seconds ahead of ours.
        """
        if meter not in self._meters:
            made = self._meters[meter] = _Meter()
            made.newest = newest
            made.ahead = ahead
            made.holes = list(holes)

    def set_clock(self, meter: str, ahead: float, now: float) -> None:
        """Take note that a meter's clock is kept so many seconds ahead from now on.

        Records go on from the second that it shows, where it was put back too.
        """
        known = self._meters.get(meter)
        if known is None:
            return
        shown, before = int(now + ahead), int(now + known.ahead)
        if known.newest is not None and shown <= known.newest:
            # What it had recorded until then, to the second in which it was set: perhaps one more, perhaps two.
            known.holes += [Span(known.newest + 1, before)] if known.newest + 1 < before else []
            known.holes += [Span(before, before + 1, known=False), Span(before + 1, before + 2, known=False)]
            known.newest = shown - 1
        known.ahead = ahead

    def before(self, meter: str, oldest: int, first: int) -> None:
        """Fetch what a meter may have from before the first second that was ever delivered."""
        if oldest < first:
            self._meters[meter].holes.insert(0, Span(oldest, first, known=False))

    def remove(self, meter: str) -> None:
        """Give it no more turns."""
        self._meters.pop(meter, None)

    def silent(self, meter: str) -> bool:
        """Return whether a meter has not answered lately."""
        known = self._meters.get(meter)
        return known is not None and known.failures >= SILENT_FROM

    def hurry(self, meter: str, when: float) -> None:
        """Make a meter due at a time, as when something has changed there that its next record shows."""
        known = self._meters.get(meter)
        if known is not None:
            known.hurry = when
            known.due = min(known.due, when)

    def behind(self) -> int:
        """Return how many seconds are still missing."""
        return sum(hole.stop - hole.start for meter in self._meters.values() for hole in meter.holes)

    def catching_up(self, now: float) -> bool:
        """Return whether a meter that is not silent has yet to answer since the line is there: all else can wait.

        One that has answered counts no more, however old its record is: its clock may be far behind.
        """
        return any(m.due <= now and not m.met and not m.failures for m in self._meters.values())

    def take_gaps(self) -> list[Gap]:
        """Return the gaps that have turned out to stay, since the last call."""
        taken, self._gaps = self._gaps, []
        return taken

    def _gap(self, meter: str, spans: Iterable[Span]) -> None:
        self._gaps += [Gap(meter, span.start, span.stop) for span in spans]

    def next(self, now: float) -> Read | None:
        """Return the next turn, None if nothing is due."""
        self._turns += 1
        due = self._due(now)
        behind = due is not None and _behind(due[1], now + due[1].ahead)
        bulk = None if behind else self._bulk(now)
        if bulk is not None and (due is None or self._turns % _BULK_TURN == 0):
            name, meter = bulk
            meter.busy = True
            hole = meter.holes[0]
            return Read(name, Turn.HOLE, hole.start, min(hole.stop - hole.start, BULK))
        if due is None:
            return None
        name, meter = due
        meter.busy = True
        if behind or meter.newest is None:
            return Read(name, Turn.LATEST)
        # As many as there can be: the concentrator waits longer for a reply of many.
        most = int(now + meter.ahead) - meter.newest + SPARE
        return Read(name, Turn.FOLLOWING, meter.newest + 1, max(min(most, SHORT), 1))

    def wait(self, now: float) -> float:
        """Return how many seconds until something may be due."""
        waits = [max(meter.due - now, 0.0) for meter in self._meters.values() if not meter.busy]
        return min(waits, default=1.0)

    def _due(self, now: float) -> tuple[str, _Meter] | None:
        ready = [(m.due, name) for name, m in self._meters.items() if not m.busy and m.due <= now]
        if not ready:
            return None
        _, name = min(ready, key=lambda due: due[0])  # of those due at once the first of the site
        return name, self._meters[name]

    def _bulk(self, now: float) -> tuple[str, _Meter] | None:
        """Return the meter whose oldest missing second is the oldest: its ring buffer overwrites it first."""
        found = None
        for name, meter in self._meters.items():
            if meter.busy or not meter.holes or meter.failures:
                continue
            if found is None or _first(meter) < _first(found[1]):
                found = name, meter
        if found is not None:
            self._gap(found[0], _clip(found[1], int(now + found[1].ahead) - self._depth))
            if not found[1].holes:
                return self._bulk(now)
        return found

    def answered(self, read: Read, times: list[int], now: float) -> list[int]:
        """Take note of a turn's records; return which of their times are news, in order."""
        meter = self._meters.get(read.meter)
        if meter is None:
            return []
        meter.busy = False
        meter.met = True
        meter.failures = 0
        if read.turn is Turn.HOLE:
            news, missing = _fill(meter, times)
            self._gap(read.meter, missing)
            return news
        meter.due = now + self._interval
        if meter.hurry > now:
            meter.due = min(meter.due, meter.hurry)
        newest = meter.newest
        if read.turn is Turn.FOLLOWING and newest is not None and read.start != newest + 1:
            return times  # the clock was set meanwhile: of where it stands now they say nothing
        news = [time for time in times if newest is None or time > newest]
        if news:
            if newest is None:
                meter.holes.append(Span(news[0] - self._depth, news[0], known=False))
            elif read.turn is Turn.LATEST:
                meter.holes += holes(news, newest + 1, news[-1])
                self._gap(read.meter, _clip(meter, int(now + meter.ahead) - self._depth))
            else:  # what the meter has given in a row is all that it has
                self._gap(read.meter, holes(news, newest + 1, news[-1]))
            meter.newest = news[-1]
        return news

    def failed(self, read: Read, now: float) -> None:
        """Take note of a turn without an answer: the next one comes later and later.

        After one in bulk a short one follows at once: it may be the long reply alone that does not get through.
        """
        meter = self._meters.get(read.meter)
        if meter is None:
            return
        meter.busy = False
        meter.failures += 1
        if read.turn is Turn.HOLE and meter.failures == 1:
            meter.due = min(meter.due, now)
        else:
            meter.due = now + min(self._interval * 2.0 ** min(meter.failures - 1, 16), LONGEST_BACK_OFF)

    def damaged(self, read: Read, now: float) -> None:
        """Take note of a turn whose answer was damaged on its way from the concentrator: not the meter's fault."""
        meter = self._meters.get(read.meter)
        if meter is not None:
            meter.busy = False
            meter.due = now + self._interval / 2

    def lost(self, now: float) -> None:
        """Take note that the line to the concentrator is gone: every turn under way ends, none has failed."""
        for meter in self._meters.values():
            meter.busy = meter.met = False
            meter.due = min(meter.due, now)


def _first(meter: _Meter) -> float:
    """Return when a meter's oldest missing second was, by our clock."""
    return meter.holes[0].start - meter.ahead


def _behind(meter: _Meter, now: float) -> bool:
    """Return whether the latest record of a meter is to come alone, when its clock shows ``now``."""
    return meter.newest is None or now - meter.newest > SHORT


def _fill(meter: _Meter, times: list[int]) -> tuple[list[int], list[Span]]:
    """Move the first hole's start behind what has come; close it if nothing of it is left in the meter.

    Returns which times are news, and what of the hole stays missing.
    """
    if not meter.holes or (times and max(times) < meter.holes[0].start):
        return [], []  # the same answer twice: of this hole it says nothing
    hole = meter.holes.pop(0)
    news = sorted(time for time in times if hole.start <= time < hole.stop)
    beyond = not times or max(times) >= hole.stop - 1
    end = hole.stop if beyond or not news else news[-1] + 1
    if end < hole.stop:
        meter.holes.insert(0, Span(end, hole.stop))
    start = hole.start if hole.known else news[0] if news else end
    return news, holes(news, start, end)


def _clip(meter: _Meter, oldest: int) -> list[Span]:
    """Give up what the ring buffer has overwritten; return it."""
    gone = [Span(hole.start, min(hole.stop, oldest)) for hole in meter.holes if hole.known and hole.start < oldest]
    meter.holes = [
        Span(max(hole.start, oldest), hole.stop, hole.known) for hole in meter.holes if hole.stop > oldest
    ]
    return gone


def holes(stored: Iterable[int], start: int, stop: int) -> list[Span]:
    """Return the spans without any of the stored seconds, from ``start`` to before ``stop``."""
    found, following = [], start
    for second in sorted(set(stored)):
        if second >= stop:
            break
        if second > following:
            found.append(Span(following, second))
        following = max(following, second + 1)
    if following < stop:
        found.append(Span(following, stop))
    return found
