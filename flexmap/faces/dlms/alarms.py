"""Alarms of a meter as objects: registers, filters and descriptors, 0-0:97.98.x."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr, classes
from flexmap.dlms.alarms import CLOCK_INVALID, Alarms
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import ObjectDefinition, SlotValue
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.faces.dlms.pushing import Keeper
from flexmap.model import Event, EventCode, EventLog, LocalError, Sample, obis

log = Logger(namespace="flexmap.dlms")

_KEPT = "alarms"
_CLOCK_BAD = 1 | 2
"""Clock status: invalid or doubtful."""
REGISTERS, FILTERS, DESCRIPTORS = "registers", "filters", "descriptors"
NAMES = {
    (kind, which): obis.parse(f"0-0:97.98.{first + which}")
    for first, kind in ((0, REGISTERS), (10, FILTERS), (20, DESCRIPTORS))
    for which in (0, 1)
}
"""Logical names by what it is and which of the two it is."""
DEFINITIONS = {key: classes.data(name, write=Role.MANAGEMENT) for key, name in NAMES.items()}


class MeterAlarms:
    """The alarms of one meter; kept before anybody is told of them."""

    def __init__(
        self,
        meter: str,
        keeper: Keeper,
        tell: Callable[[], object],
        on_event: Callable[[Event], object],
        now: Callable[[], float],
    ) -> None:
        """``tell`` is called when something has come into a descriptor."""
        self._meter = meter
        self._keeper = keeper
        self._tell = tell
        self._on_event = on_event
        self._now = now
        self.state = self._kept()
        self._clock_bad = bool(self.state.registers[0] & 1 << CLOCK_INVALID.number)

    def _kept(self) -> Alarms:
        try:
            octets = self._keeper.read(self._meter, _KEPT)
            return Alarms() if octets is None else msgspec.msgpack.decode(octets, type=Alarms)
        except (LocalError, msgspec.DecodeError) as error:
            log.warn("{meter}: alarms: {error}; none are known", meter=self._meter, error=str(error))
            return Alarms()

    def objects(self) -> Iterable[AlarmWord]:
        """Return the six objects."""
        return [AlarmWord(self, kind, which) for kind, which in NAMES]

    def event(self, event: Event) -> None:
        """Take an event."""
        self._take(self.state.event(event.code))

    def observe(self, sample: Sample) -> None:
        """Look at the clock of a sample."""
        bad = sample.clock_status & _CLOCK_BAD != 0
        if bad is not self._clock_bad:
            self._clock_bad = bad
            self._take(self.state.put(CLOCK_INVALID, on=bad))

    def _take(self, state: Alarms) -> None:
        if state != self.state:
            told = any(new & ~old for new, old in zip(state.descriptors, self.state.descriptors, strict=True))
            self.keep(state)
            if told:
                self._tell()

    def keep(self, state: Alarms) -> bool:
        """Take a new state, and keep it; return whether it is in the file."""
        self.state = state
        try:
            self._keeper.keep(self._meter, _KEPT, msgspec.msgpack.encode(state))
        except LocalError as error:
            log.warn("{meter}: alarms are not kept: {error}", meter=self._meter, error=str(error))
            return False
        return True

    def was_cleared(self) -> None:
        """Note that a head-end has cleared the alarms."""
        time = int(self._now() * 1000)
        self._on_event(Event(self._meter, time, EventLog.STANDARD, EventCode.ALARMS_CLEARED))


class AlarmWord:
    """One of the six objects (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(self, alarms: MeterAlarms, kind: str, which: int) -> None:
        self.definition: ObjectDefinition = DEFINITIONS[kind, which]
        self._alarms = alarms
        self._kind = kind
        self._which = which

    def begin(self) -> None:
        """Do nothing: events come."""

    def stop(self) -> None:
        """Do nothing: events come."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return how the value is shown."""
        return {
            2: lambda: axdr.encode("double-long-unsigned", getattr(self._alarms.state, self._kind)[self._which])
        }

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write a filter, or clear bits; bits of registers and descriptors cannot be set."""
        del attribute
        if data[0] != axdr.Tag.DOUBLE_LONG_UNSIGNED:
            return DataAccessResult.TYPE_UNMATCHED
        word = int.from_bytes(data[1:], "big")
        state = self._alarms.state
        if self._kind == FILTERS:
            after: Alarms | None = state.filtered(self._which, word)
        else:
            after = state.cleared(self._kind, self._which, word)
        if after is None:
            return DataAccessResult.OTHER_REASON
        if not self._alarms.keep(after):
            return DataAccessResult.TEMPORARY_FAILURE
        if self._kind == REGISTERS and after != state:
            self._alarms.was_cleared()
        return DataAccessResult.SUCCESS

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Refuse: there are no methods."""
        del method, data, client
        return ActionResult.READ_WRITE_DENIED
