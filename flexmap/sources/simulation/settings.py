"""What can be set of the simulation, and how each meter's own settings follow from the seed."""

from __future__ import annotations

import msgspec

from flexmap.model import MeterType
from flexmap.sources.simulation.noise import generator

_DAY = 86_400


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One meter and the load behind it. The defaults replay the measured load as it is."""

    scale: int = 1000
    """Share of the measured load, in thousandths."""
    shift: int = 0
    """Seconds by which the load comes later than measured."""
    ripple: float = 0.0
    """Spread of the power around its course within a row, relative."""
    phase: int = 0
    """Phase of a single-phase meter: 0, 1, 2 for L1, L2, L3."""
    split: tuple[int, int, int] = (334, 333, 333)
    """Shares of L1, L2, L3 at a three-phase meter, in thousandths."""
    capacitor: int = 0
    """Capacitive reactive power that is always on, in var."""
    pv_peak: int = 0
    """Peak power of photovoltaics behind the meter, in W."""
    resistance: float = 0.0
    """Service line, in ohm: voltage drop and technical loss."""
    distortion: float = 0.0
    """Harmonic current relative to the fundamental."""
    gain_error: int = 0
    """Fixed error of the meter, in millionths."""
    control_mode: int = 4
    """Control mode of the breaker (IEC 62056-6-2 clause 4.5.8), 0 to 6."""
    tampers_per_day: float = 0.0
    """How often the cover is opened, on average."""


class SimulationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The simulation of one site."""

    seed: int = 1
    substation: str | None = None
    """Id of the three-phase meter that measures all the others; None if there is none."""
    utc_offset: int = 0
    """Local time of the load minus UTC, in seconds."""
    pv_share: float = 0.25
    """Share of the meters that have photovoltaics."""
    tampers_per_day: float = 0.02
    control_mode: int = 4
    connections: dict[str, Connection] = {}
    """Meters that do not follow the seed, by id."""


def is_three_phase(meter_type: MeterType) -> bool:
    """Tell whether a meter type has values of a phase of its own."""
    return any(point.name.endswith(("-l1", "-l2", "-l3")) for point in meter_type.points)


def connection(settings: SimulationSettings, meter: str) -> Connection:
    """Return the meter's own settings: the configured ones, or those that the seed gives."""
    configured = settings.connections.get(meter)
    if configured is not None:
        return configured
    random = generator(settings.seed, meter, "connection")
    first, second = random.randint(250, 420), random.randint(250, 400)
    return Connection(
        scale=random.randint(300, 1200),
        # Another day of the data, and up to 90 minutes earlier or later: neighbours do not move in step.
        shift=random.randrange(28) * _DAY + random.randint(-5400, 5400),
        ripple=0.01,
        phase=random.randrange(3),
        split=(first, second, 1000 - first - second),
        capacitor=random.choice((0, 0, 30, 90, 180)),
        pv_peak=random.randrange(2000, 6001, 250) if random.random() < settings.pv_share else 0,
        resistance=random.uniform(0.03, 0.2),
        distortion=random.uniform(0.03, 0.15),
        gain_error=random.randint(-2000, 2000),
        control_mode=settings.control_mode,
        tampers_per_day=settings.tampers_per_day,
    )
