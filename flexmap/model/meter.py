"""Meters and the site: which devices there are and under which names they are served."""

from __future__ import annotations

import msgspec

from flexmap.model.point import Direction, MeterType


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """A device with an identity."""

    id: str
    """Unique within the site; names the meter in the store, on the bus and in messages."""
    type: str
    """Id of its meter type."""
    ld: str
    """``inst`` of its IEC 61850 logical device."""
    sap: int
    """Its COSEM server address (wPort), 16 or more."""
    direction: Direction = Direction.DEMAND
    identity: dict[str, str] = {}
    """Value of each identity point, by point name (``serial-number``, ``device-name``, ``firmware``)."""
    location: str = ""
    source: str = ""
    """Name of the source that reads it."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """All that both faces are generated from."""

    name: str
    ied: str
    """IEC 61850 IED name."""
    meters: tuple[Meter, ...]
    types: dict[str, MeterType]
    """Meter types by id: those of ``meters``."""
    vendor: str = "flexmap"
    revision: int = 1
    """Running configuration's revision: confRev of data sets, configRev of LLN0."""
    time_zone: str = "UTC"
    """Local time of clocks and of the ends of days: a name of the IANA database."""

    def type_of(self, meter: Meter) -> MeterType:
        """Return the meter's type."""
        return self.types[meter.type]
