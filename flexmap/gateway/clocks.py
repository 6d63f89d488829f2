"""Meters' clocks between faces and sources: what a head-end has set holds, also over a restart.

What is kept of a setting is how far the clock is ahead of flexmap's own; from then on the source keeps it there,
so that neither a crystal's drift nor a restart moves it.
"""

from __future__ import annotations

from typing import cast

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.gateway.service import COMMAND_TIMEOUT, TIME_LIMIT_OVER, Clock, Gateway
from flexmap.model import LocalError, Site
from flexmap.sources.interface import ClockSource
from flexmap.store.files import MeterFiles

log = Logger(namespace="flexmap.gateway")

CLOCK = "clock"
"""File in which a meter's setting is kept."""


class ClockDesk:
    """Implements flexmap.faces.interface.ClockWay for the meters whose clocks head-ends may set."""

    def __init__(
        self, reactor: Clock, gateway: Gateway, site: Site, files: MeterFiles, head_end: frozenset[str]
    ) -> None:
        """``head_end``: names of the sources whose meters have the head-end's time."""
        self._reactor = reactor
        self._gateway = gateway
        self._files = files
        self._meters = [meter.id for meter in site.meters]
        self._settable = {meter.id for meter in site.meters if meter.source in head_end}
        self._ahead: dict[str, int] = {}
        gateway.ahead = self._ahead

    def resume(self) -> None:
        """Have the sources keep the clocks where head-ends have set them; before they start.

        Settings of clocks that are flexmap's own by now are forgotten. Raises LocalError.
        """
        for meter in self._meters:
            ahead = self._kept(meter)
            source = self._gateway.source_of(meter)
            if ahead and meter not in self._settable:
                self._files.keep(meter, CLOCK, msgspec.msgpack.encode(0))
            elif ahead and isinstance(source, ClockSource):
                self._ahead[meter] = ahead
                source.keep_clock(meter, ahead)

    def settable(self, meter: str) -> bool:
        """Return whether head-ends may set a meter's clock."""
        return meter in self._settable

    def distance(self, time: int) -> int:
        """Return how many ms a time is ahead of flexmap's own clock."""
        return time - self._now()

    def shown(self, meter: str) -> int | None:
        """Return what a meter's clock shows; that of its last sample if it is silent, None if there was none."""
        last, old = self._gateway.shown_time(meter)
        if last <= 0:
            return None
        return last if old else self._now() + self._ahead.get(meter, 0)

    def set(self, meter: str, time: int, origin: str) -> Deferred[str]:
        """Set a meter's clock; fires with why it could not be, empty if it was and will stay so."""
        source = self._gateway.source_of(meter)
        if meter not in self._settable or not isinstance(source, ClockSource):
            return succeed("flexmap keeps the clock itself ([[source]] clock)")
        ahead = self.distance(time)
        log.info("clock of {meter}: {ahead} ms ahead, by {origin}", meter=meter, ahead=ahead, origin=origin)
        answer = source.set_clock(meter, ahead)
        answer.addTimeout(COMMAND_TIMEOUT, cast("IReactorTime", self._reactor))
        answer.addCallbacks(self._is_set, self._failed, callbackArgs=(meter, ahead))
        answer.addCallback(self._answered, meter)
        return answer

    def _is_set(self, cause: str, meter: str, ahead: int) -> str:
        source = self._gateway.source_of(meter)
        if cause:
            return cause
        try:
            self._files.keep(meter, CLOCK, msgspec.msgpack.encode(ahead))
        except LocalError as error:
            if isinstance(source, ClockSource):
                source.keep_clock(meter, self._ahead.get(meter, 0))
            return str(error)
        self._ahead[meter] = ahead
        self._gateway.clock_set(meter)
        return ""

    def _failed(self, failure: Failure) -> str:
        return TIME_LIMIT_OVER if failure.check(defer.TimeoutError) else failure.getErrorMessage()

    def _answered(self, cause: str, meter: str) -> str:
        if cause:
            log.warn("clock of {meter} is not set: {cause}", meter=meter, cause=cause)
        return cause

    def _kept(self, meter: str) -> int:
        octets = self._files.read(meter, CLOCK)
        try:
            return msgspec.msgpack.decode(octets, type=int) if octets else 0
        except msgspec.DecodeError:
            log.warn("the clock setting of {meter} is damaged: it is kept as flexmap's own", meter=meter)
            return 0

    def _now(self) -> int:
        return int(self._reactor.seconds() * 1000)
