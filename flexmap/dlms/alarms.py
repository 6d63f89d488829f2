"""Alarm registers, filters and descriptors: bits that events set and clear.

Numbers of bits are those that the IDIS companion specification gives; 23 and 24 of the second register are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from flexmap.model import EventCode

ALL = 0xFFFF_FFFF


class Bit(NamedTuple):
    """A place in the alarm registers."""

    register: int
    """0 or 1."""
    number: int


CLOCK_INVALID = Bit(0, 0)
FRAUD = Bit(0, 13)
POWER_FAILURE, POWER_RESUME = Bit(1, 0), Bit(1, 1)
KEYS_CHANGED = Bit(1, 13)
NOT_REACHABLE, LOCALLY_DISCONNECTED, BREAKER_FAILURE = Bit(1, 23), Bit(1, 24), Bit(1, 31)
PHASES = range(3)
MISSING_VOLTAGE = tuple(Bit(1, 2 + phase) for phase in PHASES)
NORMAL_VOLTAGE = tuple(Bit(1, 5 + phase) for phase in PHASES)
BAD_VOLTAGE = tuple(Bit(1, 14 + phase) for phase in PHASES)

SETS: dict[EventCode, Bit] = {
    EventCode.TERMINAL_COVER_OPENED: FRAUD,
    EventCode.METER_COVER_OPENED: FRAUD,
    EventCode.POWER_DOWN: POWER_FAILURE,
    EventCode.POWER_UP: POWER_RESUME,
    EventCode.COMMUNICATION_LOST: NOT_REACHABLE,
    EventCode.LOCAL_DISCONNECTION: LOCALLY_DISCONNECTED,
    EventCode.DISCONNECT_FAILURE: BREAKER_FAILURE,
    **{EventCode(EventCode.UNDERVOLTAGE_L1 + phase): BAD_VOLTAGE[phase] for phase in PHASES},
    **{EventCode(EventCode.OVERVOLTAGE_L1 + phase): BAD_VOLTAGE[phase] for phase in PHASES},
    **{EventCode(EventCode.MISSING_VOLTAGE_L1 + phase): MISSING_VOLTAGE[phase] for phase in PHASES},
    **{EventCode(EventCode.NORMAL_VOLTAGE_L1 + phase): NORMAL_VOLTAGE[phase] for phase in PHASES},
}
"""What an event raises."""
_RECONNECTED = (LOCALLY_DISCONNECTED, BREAKER_FAILURE)
CLEARS: dict[EventCode, tuple[Bit, ...]] = {
    EventCode.POWER_DOWN: (POWER_RESUME,),
    EventCode.POWER_UP: (POWER_FAILURE,),
    EventCode.COMMUNICATION_RESTORED: (NOT_REACHABLE,),
    EventCode.REMOTE_CONNECTION: _RECONNECTED,
    EventCode.MANUAL_CONNECTION: _RECONNECTED,
    EventCode.LOCAL_CONNECTION: _RECONNECTED,
    EventCode.REMOTE_DISCONNECTION: (BREAKER_FAILURE,),
    **{
        EventCode(EventCode.NORMAL_VOLTAGE_L1 + phase): (MISSING_VOLTAGE[phase], BAD_VOLTAGE[phase])
        for phase in PHASES
    },
    **{EventCode(EventCode.UNDERVOLTAGE_L1 + phase): (NORMAL_VOLTAGE[phase],) for phase in PHASES},
    **{EventCode(EventCode.OVERVOLTAGE_L1 + phase): (NORMAL_VOLTAGE[phase],) for phase in PHASES},
    **{EventCode(EventCode.MISSING_VOLTAGE_L1 + phase): (NORMAL_VOLTAGE[phase],) for phase in PHASES},
}
"""What an event ends. Fraud stays until a head-end clears it."""
_TOLD = (CLOCK_INVALID, FRAUD, NOT_REACHABLE, LOCALLY_DISCONNECTED, BREAKER_FAILURE, *MISSING_VOLTAGE)


def mask(register: int) -> int:
    """Return the filter of a register until a head-end writes another: what somebody should look at."""
    return sum(1 << bit.number for bit in _TOLD if bit.register == register)


class Alarms(msgspec.Struct, frozen=True):
    """The alarms of one meter, by register."""

    registers: tuple[int, int] = (0, 0)
    """What is now, and fraud that nobody has cleared."""
    filters: tuple[int, int] = (mask(0), mask(1))
    """What goes into the descriptors."""
    descriptors: tuple[int, int] = (0, 0)
    """What has come since a head-end cleared it."""

    def event(self, code: EventCode) -> Alarms:
        """Return the alarms behind an event."""
        after = self
        for bit in CLEARS.get(code, ()):
            after = after.put(bit, on=False)
        bit_set = SETS.get(code)
        return after if bit_set is None else after.put(bit_set, on=True)

    def put(self, bit: Bit, *, on: bool) -> Alarms:
        """Return the alarms with a bit of the register set or cleared; one that rises goes into its descriptor."""
        which, flag = bit.register, 1 << bit.number
        register = self.registers[which]
        if bool(register & flag) is on:
            return self
        after = msgspec.structs.replace(self, registers=_with(self.registers, which, register ^ flag))
        if on and flag & self.filters[which]:
            descriptor = self.descriptors[which] | flag
            return msgspec.structs.replace(after, descriptors=_with(self.descriptors, which, descriptor))
        return after

    def cleared(self, kind: str, which: int, left: int) -> Alarms | None:
        """Return the alarms with those bits alone that a head-end leaves; None if it sets others.

        ``kind``: ``registers`` or ``descriptors``.
        """
        words = getattr(self, kind)
        if left & ~words[which]:
            return None
        return msgspec.structs.replace(self, **{kind: _with(words, which, left)})

    def filtered(self, which: int, word: int) -> Alarms:
        """Return the alarms with another filter."""
        return msgspec.structs.replace(self, filters=_with(self.filters, which, word))


def _with(words: tuple[int, int], which: int, word: int) -> tuple[int, int]:
    return (word, words[1]) if which == 0 else (words[0], word)
