"""Samples, events and commands: what moves between sources, store and faces."""

from __future__ import annotations

import enum

import msgspec

Value = int | float | bool | str | None
"""A point's value; ``None`` where none was ever read."""


class SamplePart(enum.StrEnum):
    """Which points of a meter's type a sample carries."""

    METER = "points"
    CHANNEL = "channel"
    RATES = "rates"


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Values of a meter, its rates or the channel to it at one time stamp, in the order of its type's points."""

    meter: str
    time: int
    """The meter's capture time, milliseconds since 1970-01-01T00:00:00 UTC; never the time of forwarding."""
    values: tuple[Value, ...]
    quality: tuple[int, ...]
    """One quality (flexmap.model.quality) for each value."""
    clock_status: int = 0
    """The meter's COSEM clock status at ``time`` (IEC 62056-6-2 clause 4.1.6.1): 1 invalid, 2 doubtful,
    4 different clock base, 8 invalid clock status, 128 daylight saving active."""
    channel: bool = False
    """Values of the type's ``channel`` instead of its ``points``; ``time`` is then when they were found out."""
    rates: bool = False
    """Values of the type's ``rates`` instead of its ``points``; ``time`` is that of the registers they are of."""

    @property
    def part(self) -> SamplePart:
        """Which points it carries."""
        if self.channel:
            return SamplePart.CHANNEL
        return SamplePart.RATES if self.rates else SamplePart.METER


class EventCode(enum.IntEnum):
    """Codes of the event logs (class 1 ``0-0:96.11.e``), as companion specifications commonly number them."""

    POWER_DOWN = 1
    POWER_UP = 2
    CLOCK_ADJUSTED_OLD = 4
    CLOCK_ADJUSTED_NEW = 5
    ALARMS_CLEARED = 11
    FIRMWARE_READY = 17
    """Ready for activation: the meter has the whole image and has checked it."""
    FIRMWARE_ACTIVATED = 18
    TERMINAL_COVER_OPENED = 40
    TERMINAL_COVER_CLOSED = 41
    METER_COVER_OPENED = 44
    METER_COVER_CLOSED = 45
    AUTHENTICATION_FAILURE = 46
    KEYS_CHANGED = 48
    DECRYPTION_FAILURE = 49
    REPLAY = 50
    FIRMWARE_VERIFICATION_FAILED = 51
    READY_FOR_RECONNECTION = 59
    MANUAL_DISCONNECTION = 60
    MANUAL_CONNECTION = 61
    REMOTE_DISCONNECTION = 62
    REMOTE_CONNECTION = 63
    LOCAL_DISCONNECTION = 64
    LIMITER_EXCEEDED = 65
    LIMITER_OK = 66
    LIMITER_CHANGED = 67
    DISCONNECT_FAILURE = 68
    """A command to the breaker was refused or not answered."""
    LOCAL_CONNECTION = 69
    SUPERVISION_1_EXCEEDED = 70
    """The register monitor's value has risen over its first threshold."""
    SUPERVISION_1_OK = 71
    SUPERVISION_2_EXCEEDED = 72
    SUPERVISION_2_OK = 73
    SUPERVISION_3_EXCEEDED = 74
    SUPERVISION_3_OK = 75
    UNDERVOLTAGE_L1 = 76
    UNDERVOLTAGE_L2 = 77
    UNDERVOLTAGE_L3 = 78
    OVERVOLTAGE_L1 = 79
    OVERVOLTAGE_L2 = 80
    OVERVOLTAGE_L3 = 81
    MISSING_VOLTAGE_L1 = 82
    MISSING_VOLTAGE_L2 = 83
    MISSING_VOLTAGE_L3 = 84
    NORMAL_VOLTAGE_L1 = 85
    NORMAL_VOLTAGE_L2 = 86
    NORMAL_VOLTAGE_L3 = 87
    COMMUNICATION_LOST = 230
    COMMUNICATION_RESTORED = 231
    DATA_GAP = 232
    """Samples are missing from the store (manufacturer's code)."""


class EventLog(enum.IntEnum):
    """The log an event belongs to: value group E of ``0-0:99.98.E``."""

    STANDARD = 0
    FRAUD = 1
    DISCONNECT = 2
    POWER_QUALITY = 4
    COMMUNICATION = 5
    SECURITY = 9
    """The gateway's own, not a meter's."""


GATEWAY = ""
"""What stands for the gateway itself where an event names a meter."""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened at a meter."""

    meter: str
    time: int
    """Milliseconds since 1970-01-01T00:00:00 UTC."""
    log: EventLog
    code: EventCode
    text: str = ""


class Command(msgspec.Struct, frozen=True, array_like=True):
    """A request to act on a meter: open (False) or close (True) its breaker, or set its control mode (0 to 6)."""

    id: int
    meter: str
    point: str
    """Name of the point to act on, for example ``breaker``."""
    value: bool | int
    origin: str = ""
    """Who asked: the face and its client, for the event log."""
    local: bool = False
    """Asked by a function of the metering system, such as a limiter: a local disconnection, not a remote one."""


BREAKER = "breaker"
CONTROL_MODE = "breaker-control-mode"
"""Points that commands act on."""


class CommandResult(msgspec.Struct, frozen=True, array_like=True):
    """The meter's answer to a command; sent only when the meter has answered."""

    id: int
    done: bool
    cause: str = ""
    """Why not, if not done."""
