"""The information base of the concentrator's own node, read over the shell at a low rate.

``PIB LIST`` gives every attribute with its value, and of tables how many rows they have; ``PIB GET`` the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from flexmap.model import RemoteError
from flexmap.model.plc import Coordinator, Row
from flexmap.sources.concentrator.link import Link
from flexmap.sources.interface import Clock, DelayedCall
from flexmap.stcomet.mnsh import Line

PERIOD = 60.0
"""Seconds between two readings …"""
SHARE = 20.0
"""… or so many times as long as one takes, if that is more: a large PAN's tables keep a serial line busy."""


class Reader:
    """Reads the information base while there is a line; ``deliver`` takes it, empty once the line is gone."""

    def __init__(self, source: str, clock: Clock, deliver: Callable[[Coordinator], object]) -> None:
        self._source = source
        self._clock = clock
        self._deliver = deliver
        self._link: Link | None = None
        self._call: DelayedCall | None = None

    def began(self, link: Link) -> None:
        """Take note of a line to the concentrator: read from now on."""
        self._link = link
        self._read()

    def ended(self) -> None:
        """Take note that it is gone, and what was read with it."""
        self.stop()
        self._deliver(Coordinator(source=self._source))

    def stop(self) -> None:
        """Read no more."""
        self._link = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _read(self) -> None:
        self._call = None
        link, began = self._link, self._clock.seconds()
        if link is None:
            return
        reading = Deferred.fromCoroutine(self._information(link))
        reading.addCallback(self._take, link)
        reading.addErrback(_ignore)
        reading.addBoth(self._again, link, began)

    async def _information(self, link: Link) -> Coordinator:
        attributes, tables = {}, {}
        for line in (await link.ask("PIB LIST")).data:
            if line.words and "rows" in line.fields:
                reply = await link.ask("PIB GET", line.words[0])
                tables[line.words[0]] = _rows(reply.data)
            elif line.words and "value" in line.fields:
                attributes[line.words[0]] = line.fields["value"]
        return Coordinator(source=self._source, attributes=attributes, tables=tables)

    def _take(self, told: Coordinator, link: Link) -> None:
        if link is self._link:
            self._deliver(told)

    def _again(self, _result: object, link: Link, began: float) -> None:
        if link is self._link:
            wait = max(PERIOD, SHARE * (self._clock.seconds() - began))
            self._call = self._clock.callLater(wait, self._read)


def _rows(lines: Sequence[Line]) -> tuple[Row, ...]:
    return tuple(dict(line.fields) for line in lines)


def _ignore(failure: Failure) -> None:
    failure.trap(RemoteError)
