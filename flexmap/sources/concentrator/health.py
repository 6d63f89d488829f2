"""The channels to a concentrator's meters, as samples: who answers, and what the concentrator knows of the way.

``PLC STATUS`` costs the line to the concentrator some octets and the power line nothing. Counters are the
concentrator's own: they begin at 0 when it starts, and when a meter joins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.python.failure import Failure

from flexmap.mapping import quality as rules
from flexmap.mapping.value import quantise
from flexmap.model import CHANNEL_LIVE, MeterType, RemoteError, Sample, Value, quality
from flexmap.model.plc import Coordinator
from flexmap.sources.concentrator.coordinator import Reader
from flexmap.sources.concentrator.link import Link, Reply
from flexmap.sources.interface import Clock, DelayedCall

ROUND = 20.0
"""Seconds in which every meter is asked about once; the first time as fast as :data:`PAUSE` allows …"""
PAUSE = 0.05
"""… which is the least between two requests in any round."""
LOST_AFTER = 60.0
"""Seconds without a line to the concentrator after which all its meters count as silent."""


_REQUESTS = ("requests", "replies", "retries", "silent", "octets")
"""Counters of a concentrator's requests to its meters."""


class Health:
    """What is known of one concentrator and the channels of its meters."""

    def __init__(
        self,
        source: str,
        types: Mapping[str, MeterType],
        clock: Clock,
        deliver: Callable[[Sequence[Sample]], object],
        tell: Callable[[Coordinator], object],
    ) -> None:
        """Set up for meters by id; those whose type has no channel are left out.

        ``deliver`` takes samples of channels, ``tell`` what the coordinator says of itself.
        """
        self._types = {meter: meter_type for meter, meter_type in types.items() if meter_type.channel}
        self._clock = clock
        self._deliver = deliver
        self._names: Mapping[str, str] = {}
        self._known: dict[str, dict[str, int | None]] = {}
        """What was told last of a meter, by point."""
        self._live: dict[str, bool] = {}
        self._heard: dict[str, float] = {}
        """When a meter answered last."""
        self._answers = 0
        self._counters: dict[str, int] = {}
        """The concentrator's own, as it told them last: ``requests_retries``, ``shell_lines`` …"""
        self._reader = Reader(source, clock, tell)
        self._link: Link | None = None
        self._turns: deque[str] = deque()
        self._call: DelayedCall | None = None
        self._grace: DelayedCall | None = None

    # What the source tells

    def began(self, link: Link) -> None:
        """Take note of a line to the concentrator: ask from now on."""
        self._link = link
        self._drop_grace()
        self._later(0.0)
        if self._types:
            self._reader.began(link)

    def ended(self) -> None:
        """Take note that it is gone."""
        self._link = None
        self._drop_call()
        if self._types:
            self._reader.ended()
        if self._grace is None:
            self._grace = self._clock.callLater(LOST_AFTER, self._given_up)

    def stop(self) -> None:
        """Ask and deliver no more."""
        self._link = None
        self._drop_call()
        self._drop_grace()
        self._reader.stop()

    def present(self, names: Mapping[str, str]) -> None:
        """Take note of which meters are in the PAN, under which names; the others are silent."""
        if self._link is not None and not self._names:
            self._later(0.0)
        self._names = names
        for meter in self._types.keys() - names.keys():
            self._known.pop(meter, None)
        self.silent(*(self._types.keys() - names.keys()))

    def heard(self, meter: str) -> list[Sample]:
        """Take note of an answer; return the sample that goes with it, if the meter was not known to answer."""
        self._answers += 1
        self._heard[meter] = self._clock.seconds()
        if meter not in self._types or self._live.get(meter):
            return []
        self._live[meter] = True
        return [self._sample(meter)]

    def silent(self, *meters: str) -> None:
        """Take note that meters do not answer."""
        news = sorted(meter for meter in meters if meter in self._types and self._live.get(meter) is not False)
        self._live.update(dict.fromkeys(news, False))
        if news:
            self._deliver([self._sample(meter) for meter in news])

    def figures(self) -> dict[str, float]:
        """Return figures for the gateway's metrics, by the names that they have there."""
        live = [meter for meter, answers in self._live.items() if answers]
        now, counters = self._clock.seconds(), self._counters
        waits = [now - self._heard[meter] for meter in live if meter in self._heard]
        return {
            "connected": self._link is not None,
            "meters": len(self._names),
            "meters_silent": sum(not answers for answers in self._live.values()),
            "round_seconds": max(waits, default=0.0),
            "reads": self._answers,
            "shell_requests": counters.get("shell_lines", 0),
            "plc_airtime_seconds": counters.get("pan_airtime_ms", 0) / 1000,
            **{f"plc_{name}": counters.get(f"requests_{name}", 0) for name in _REQUESTS},
        }

    # Asking

    def _later(self, delay: float) -> None:
        self._drop_call()
        if self._link is not None:
            self._call = self._clock.callLater(delay, self._ask)

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _drop_grace(self) -> None:
        grace, self._grace = self._grace, None
        if grace is not None:
            grace.cancel()

    def _ask(self) -> None:
        """Ask about the next meter; one at a time, so that reads and commands never wait for long."""
        self._call = None
        if self._link is None:
            return
        if not self._turns:
            self._turns.extend(sorted(self._names.keys() & self._types.keys()))
            self._link.ask("SYS STATS").addCallbacks(self._counted, _ignore)
        if not self._turns:
            self._later(ROUND)
            return
        meter = self._turns.popleft()
        name = self._names.get(meter)
        if name is None:
            self._later(0.0)
            return
        answer = self._link.ask("PLC STATUS", name)
        answer.addCallback(self._told, meter)
        answer.addErrback(_ignore)
        answer.addBoth(lambda _: self._later(self._pause()))

    def _pause(self) -> float:
        """Return how many seconds to wait before the next request."""
        first = any(meter not in self._known for meter in self._turns)
        return PAUSE if first else max(ROUND / len(self._types), PAUSE)

    def _counted(self, reply: Reply) -> None:
        self._counters = {
            f"{line.words[0]}_{name}": int(text)
            for line in reply.data
            for name, text in line.fields.items()
            if line.words and text.isdecimal() and len(text) < 16
        }

    def _told(self, reply: Reply, meter: str) -> None:
        if meter not in self._names or self._link is None:
            return
        self._known[meter] = points_of(reply.end.fields)
        self._deliver([self._sample(meter)])

    def _given_up(self) -> None:
        self._grace = None
        self.silent(*self._types)

    # Samples

    def _sample(self, meter: str) -> Sample:
        """Return what is known now; without a line to the concentrator all but the silence is of before."""
        known: dict[str, Value] = {**self._known.get(meter, {}), CHANNEL_LIVE: self._live.get(meter)}
        points = self._types[meter].channel
        values = tuple(
            value if value is None or isinstance(value, bool | str) else quantise(point, value)
            for point, value in ((point, known.get(point.name)) for point in points)
        )
        there = quality.GOOD if self._link is not None else rules.lost(quality.GOOD)
        marks = tuple(
            quality.NEVER_READ if value is None else quality.GOOD if point.name == CHANNEL_LIVE else there
            for point, value in zip(points, values, strict=True)
        )
        time = int(self._clock.seconds() * 100) * 10  # what a COSEM date-time can tell, so that both faces tell it
        return Sample(meter, time, values, marks, channel=True)


def points_of(fields: Mapping[str, str]) -> dict[str, int | None]:
    """Return the values of channel points that a reply to ``PLC STATUS`` tells; None for what it does not."""
    told = {name: int(text) for name, text in fields.items() if text.isdecimal() and len(text) < 16}

    def total(*names: str) -> int | None:
        parts = [told.get(name) for name in names]
        return None if None in parts else sum(part for part in parts if part is not None)

    route = bool(told.get("hops"))
    return {
        "messages-received": total("replies", "late"),
        "messages-sent": total("requests", "retries"),
        "requests-repeated": told.get("retries"),
        "requests-unanswered": told.get("silent"),
        "route-hops": told.get("hops") if route else None,
        "route-cost": told.get("cost") if route else None,
        "first-link-lqi": told.get("lqi") if route else None,
        "first-link-lqi-reverse": told.get("lqi_reverse") if route else None,
    }


def _ignore(failure: Failure) -> None:
    failure.trap(RemoteError)
