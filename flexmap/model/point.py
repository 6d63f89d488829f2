"""Points and meter types: what a meter has, with its name on both faces."""

from __future__ import annotations

import enum
from functools import cached_property

import msgspec

from flexmap.model.sample import SamplePart
from flexmap.model.tariff import Tariff


class Kind(enum.StrEnum):
    """What sort of value a point holds; decides its Python type in a sample."""

    ENERGY = "energy"
    """Counter in the register's own scale: ``int``."""
    INSTANTANEOUS = "instantaneous"
    """Measured value in the base unit: ``float``."""
    COUNTER = "counter"
    """Count of occurrences: ``int``."""
    STATUS = "status"
    """State: ``bool``, or ``int`` of an enumeration."""
    IDENTITY = "identity"
    """Constant of the meter: ``str``; kept in the meter, not in samples."""


class Part(enum.StrEnum):
    """Which part of a signed value a COSEM register shows."""

    NET = "net"
    PLUS = "plus"
    """max(value, 0)"""
    MINUS = "minus"
    """max(-value, 0)"""


class Direction(enum.StrEnum):
    """What a meter's import is to the busbar (IEC 61850-7-4: Dmd away from it, Sup towards it)."""

    DEMAND = "demand"
    """Customer load: import flows away from the busbar."""
    SUPPLY = "supply"
    """Infeed: import flows towards the busbar, so Dmd and Sup change places."""


class Register(msgspec.Struct, frozen=True):
    """The COSEM side of a point: one attribute of one object (IEC 62056-6-2)."""

    obis: str
    """``A-B:C.D.E.F``"""
    class_id: int
    attribute: int
    part: Part = Part.NET


class Reference(msgspec.Struct, frozen=True):
    """The IEC 61850 side of a point, within the meter's logical device."""

    ln: str
    """Logical node with instance, for example ``MMXU1``."""
    do: str
    """Data object path, for example ``TotW`` or ``PhV.phsA``."""
    cdc: str
    """Common data class of the first data object on the path: ``MV``, ``WYE``, ``BCR``, ``SPS`` …"""

    @property
    def path(self) -> str:
        """``LN.DO``, without logical device and attribute."""
        return f"{self.ln}.{self.do}"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a meter, with its name on both faces."""

    name: str
    title: str
    kind: Kind
    registers: tuple[Register, ...]
    """One register, or a PLUS and a MINUS register for a signed value that COSEM splits."""
    type: str
    """A-XDR type of the register's value, for example ``double-long-unsigned``."""
    scaler: int = 0
    """value = raw × 10^scaler unit; also the register's resolution."""
    unit: int = 255
    """COSEM unit code (IEC 62056-6-2 table 4); 255 has no unit."""
    reference: Reference
    supply_reference: Reference | None = None
    """Reference that takes the place of ``reference`` on a meter with direction SUPPLY."""
    control: Reference | None = None
    """Data object that takes commands for this point and shows the same status (``CSWI1.Pos`` for a breaker)."""

    def reference_for(self, direction: Direction) -> Reference:
        """Return the IEC 61850 name on a meter of that direction."""
        if direction is Direction.SUPPLY and self.supply_reference is not None:
            return self.supply_reference
        return self.reference


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The average of an energy over periods, and its maximum: what a gateway makes of a meter's energy."""

    name: str
    title: str
    energy: str
    """Name of the point whose energy it is."""
    obis: str
    """Of the Demand register (class 5): ``A-B:C.D.E.F``."""
    maximum: str
    """Of the Extended register (class 4) that holds the maximum."""
    scaler: int
    unit: int
    """COSEM unit code of the power."""
    periods: int = 1
    """How many periods of load profile 1 it is taken over; it slides from period to period."""

    rates: tuple[str, ...] = ()
    """OBIS of the Extended registers that hold the maximum in each rate, from rate 1 on; none without a tariff."""

    @property
    def maximum_name(self) -> str:
        """What the maximum's reset is kept under."""
        return f"{self.name}-maximum"


CHANNEL_LIVE = "channel-live"
"""Name of the channel point that says whether the meter can be reached."""


class MeterType(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A kind of meter: its list of points. All meters of a type share one COSEM schema and one set of LN types."""

    id: str
    title: str
    product: str
    """Prefix of the SCL type ids, so that ICDs of two products can be merged."""
    points: tuple[Point, ...]
    """Points that samples carry, in the order of a sample's values."""
    identity: tuple[Point, ...]
    """Constant points; their values stand in the meter, by point name."""
    channel: tuple[Point, ...] = ()
    """Points of the way to the meter, not of the meter: samples of their own carry them, in this order."""
    demands: tuple[Demand, ...] = ()
    tariff: Tariff | None = None
    rates: tuple[Point, ...] = ()
    """What the gateway makes of the energies: each energy of the tariff in each rate; samples of their own carry
    them, in this order."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each sampled point in a sample, by point name."""
        return {point.name: position for position, point in enumerate(self.points)}

    @property
    def served(self) -> tuple[Point, ...]:
        """Every point with a value, quality and time: those of the meter, its rates, those of its channel."""
        return (*self.points, *self.rates, *self.channel)

    def of_part(self, part: SamplePart) -> tuple[Point, ...]:
        """Return the points that samples of a part carry, in their order."""
        return {SamplePart.METER: self.points, SamplePart.CHANNEL: self.channel, SamplePart.RATES: self.rates}[
            part
        ]

    @cached_property
    def live(self) -> int | None:
        """Position of :data:`CHANNEL_LIVE` in a sample of the channel; None if the type has no channel."""
        names = [point.name for point in self.channel]
        return names.index(CHANNEL_LIVE) if CHANNEL_LIVE in names else None


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of way to meters: points that every meter behind it has beside its own."""

    id: str
    title: str
    product: str
    """Stands behind the meter type's own prefix in the SCL type ids."""
    points: tuple[Point, ...]
