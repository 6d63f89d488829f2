"""Event logs of meters: which are behind, and what has come of each. Sans-io.

A meter numbers its events; each reply tells the low half of the number to come, and events that happen are told
unasked. What is missed is fetched by number, one log at a time: events that have just happened first, logs of
which nothing is known yet once all meters have given their latest record.
"""

from __future__ import annotations

from collections.abc import Callable

from flexmap.model import Event, EventCode, EventLog
from flexmap.sources.concentrator.link import Reply
from flexmap.stcomet.mnsh import Line


class EventLogs:
    """The meters' logs; ``deliver`` takes events that are not in the store yet."""

    def __init__(self, deliver: Callable[[Event], object], strange: Callable[[Line], object]) -> None:
        """``strange`` takes lines that tell of no event that is known."""
        self._deliver = deliver
        self._strange = strange
        self._next: dict[str, int] = {}
        """Number of the event to come, by meter."""
        self._behind: dict[str, None] = {}
        """Meters whose logs are to be read, the oldest wish first."""
        self._asked: str | None = None

    def told(self, meter: str, line: Line) -> None:
        """Take an unasked event; what came before it may be missing."""
        number = number_of(line.fields.get("number"))
        self._event(meter, line)
        if number is not None and number == self._next.get(meter):
            self._next[meter] = number + 1
        else:
            self._behind[meter] = None

    def seen(self, meter: str, low: int) -> None:
        """Take the low 16 bits of the number of a meter's event to come."""
        known = self._next.get(meter)
        if known is None or known & 0xFFFF != low:
            self._behind.setdefault(meter)

    @property
    def reading(self) -> bool:
        """Whether a log is being read."""
        return self._asked is not None

    def next(self, *, all_logs: bool) -> tuple[str, int] | None:
        """Return the meter whose log to read, and from which number on; None while one is read, or none is behind.

        Without ``all_logs`` only meters count of whose logs something is known.
        """
        if self._asked is not None:
            return None
        found = next((meter for meter in self._behind if meter in self._next), None)
        if found is None and all_logs:
            found = next(iter(self._behind), None)
        if found is None:
            return None
        self._asked = found
        return found, self._next.get(found, 0)

    def answered(self, meter: str, reply: Reply) -> None:
        """Take what came of a log."""
        self.ended(meter)
        for line in reply.data:
            self._event(meter, line)
        first = number_of(reply.end.fields.get("first")) or 0
        if reply.data or not self._next.get(meter):
            self._next[meter] = first + len(reply.data)
        else:
            self._next.pop(meter)  # set up anew, it counts from 0 again
        if reply.end.fields.get("more") == "1":
            self._behind[meter] = None

    def ended(self, meter: str) -> None:
        """Take note that a log is not being read any more; what was not told will be seen to be missing."""
        self._asked = None
        self._behind.pop(meter, None)

    def _event(self, meter: str, line: Line) -> None:
        try:
            log = EventLog(int(line.fields["log"]))
            event = Event(meter, _time(line.fields["time_ms"]), log, EventCode(int(line.fields["code"])))
        except (KeyError, ValueError):
            self._strange(line)
            return
        self._deliver(event)


def _time(text: str) -> int:
    """Return a time in ms; raises ValueError if it is none that a meter's clock of 32 bits could show."""
    time = int(text)
    if not 0 <= time < 2**32 * 1000:
        raise ValueError
    return time


def number_of(text: str | None) -> int | None:
    """Return the number that a field holds, None if it holds none."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 12 else None
