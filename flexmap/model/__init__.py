"""Plain frozen structs: meter, point, sample, quality, event. No I/O, no clock."""

from flexmap.model.error import ConfigurationError, FlexmapError, LocalError, RemoteError
from flexmap.model.meter import Meter, Site
from flexmap.model.point import (
    CHANNEL_LIVE,
    Channel,
    Demand,
    Direction,
    Kind,
    MeterType,
    Part,
    Point,
    Reference,
    Register,
)
from flexmap.model.sample import (
    GATEWAY,
    Command,
    CommandResult,
    Event,
    EventCode,
    EventLog,
    Sample,
    SamplePart,
    Value,
)
from flexmap.model.tariff import Tariff, rate_name

__all__ = [
    "CHANNEL_LIVE",
    "GATEWAY",
    "Channel",
    "Command",
    "CommandResult",
    "ConfigurationError",
    "Demand",
    "Direction",
    "Event",
    "EventCode",
    "EventLog",
    "FlexmapError",
    "Kind",
    "LocalError",
    "Meter",
    "MeterType",
    "Part",
    "Point",
    "Reference",
    "Register",
    "RemoteError",
    "Sample",
    "SamplePart",
    "Site",
    "Tariff",
    "Value",
    "rate_name",
]
