"""Reading from an MMS server."""

from __future__ import annotations

from collections.abc import Sequence

from flexmap.cli.output import time_text
from flexmap.cli.target import Target
from flexmap.faces.mms_client import MmsClient, Reading
from flexmap.model import RemoteError, quality

Table = tuple[Sequence[str], list[Sequence[object]]]
READING_HEAD = ("Reference", "Value", "Unit", "Quality", "Time")


def read_mms(target: Target, paths: Sequence[str]) -> Table:
    """Return the table of the references, or of the logical nodes if there are none."""
    with MmsClient.open(target.host, target.port) as client:
        if not paths:
            devices = client.browse().devices
            return ("Device", "Nodes"), [
                (name, " ".join(n.name for n in nodes)) for name, nodes in devices.items()
            ]
        readings = client.read(paths)
    if len(readings) == 1 and readings[0].error:
        raise RemoteError(f"{readings[0].reference}: {readings[0].error}")
    return READING_HEAD, [reading_row(reading) for reading in readings]


def reading_row(reading: Reading) -> Sequence[object]:
    """Return a reading's cells, below READING_HEAD."""
    if reading.error:
        return (reading.reference, f"error: {reading.error}", "", "", "")
    name = f"{reading.reference}.{reading.attribute}" if reading.attribute else reading.reference
    value_quality = "" if reading.quality is None else quality.describe(reading.quality)
    return (name, reading.value, unit_text(reading), value_quality, time_text(reading.time))


def unit_text(reading: Reading) -> str:
    """Return the unit with its factor: ``W``, ``×1000 Wh``."""
    factor = 10.0**reading.multiplier * (reading.pulse_quantity or 1.0)
    return reading.unit if factor == 1 or not reading.unit else f"×{factor:g} {reading.unit}"
