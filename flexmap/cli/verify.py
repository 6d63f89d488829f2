"""`flexmap verify`: read every point of a running server on both faces and say whether they agree."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from flexmap.cli import output
from flexmap.cli.compare import CosemReading, cosem_reading, difference, meter_time, same_time
from flexmap.cli.target import credentials, load_config, parse_target
from flexmap.dlms import classes
from flexmap.dlms.client import AttributeReference
from flexmap.faces.dlms.client import DlmsConnection
from flexmap.faces.mms_client import MmsClient, Reading
from flexmap.mapping import cdc
from flexmap.model import ConfigurationError, Kind, Meter, MeterType, Point, Reference, Site, obis, quality

HEAD = ("Meter", "Point", "OBIS", "IEC 61850", "DLMS", "MMS", "Agree")
_ROUNDS = 12
"""Attempts to read a point on both faces within the same sample."""
_PAUSE = 0.1
"""Seconds between two attempts: a face may be a moment behind the other."""
_CLOCK = AttributeReference(classes.CLOCK, classes.CLOCK_LN, 2)


class Verdict(NamedTuple):
    """One point of one meter under one IEC 61850 name."""

    meter: str
    point: Point
    reference: Reference
    cosem: CosemReading
    mms: Reading
    difference: str

    def row(self) -> tuple[object, ...]:
        """Return the verdict as a row of the table."""
        cosem = self.cosem.error or self.cosem.value
        name = self.point.registers[0].obis
        return (
            self.meter,
            self.point.name,
            name,
            self.reference.path,
            cosem,
            self.mms.value,
            self.difference or "yes",
        )


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--mms", metavar="HOST:PORT", help="Where MMS is; without it: as configured.")
@click.option("--dlms", metavar="HOST:PORT", help="Where DLMS is; without it: as configured.")
@click.option("--as", "client", default="reader", show_default=True, metavar="NAME", help="DLMS client.")
@click.option("--all", "every", is_flag=True, help="Print every point, not only those that differ.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every point.")
def verify(
    *, config: Path | None, mms: str | None, dlms: str | None, client: str, every: bool, as_json: bool
) -> None:
    """Read every point of the site of CONFIG on both faces and compare value, quality and time.

    Without CONFIG: the demo that runs. Exit status 1 if any point differs.
    """
    loaded = load_config(config)
    mms_target = parse_target(f"mms://{mms or loaded.mms.endpoint}")
    dlms_target = parse_target(f"dlms://{dlms or loaded.dlms.endpoint}")
    with (
        DlmsConnection(dlms_target.host, dlms_target.port, credentials(client, config)) as cosem,
        MmsClient.open(mms_target.host, mms_target.port) as reader,
    ):
        verdicts = [
            verdict for meter in loaded.site.meters for verdict in verify_meter(loaded.site, meter, cosem, reader)
        ]
    wrong = [verdict for verdict in verdicts if verdict.difference]
    if as_json or every or wrong:
        shown = verdicts if as_json or every else wrong
        output.show(HEAD, [verdict.row() for verdict in shown], as_json)
    if not as_json:
        agreeing = len(verdicts) - len(wrong)
        click.echo(f"{agreeing} of {len(verdicts)} points agree on both faces{_unread(verdicts)}")
    if not verdicts:
        raise ConfigurationError("the site has no points", where=str(loaded.path))
    sys.exit(1 if wrong else 0)


def _unread(verdicts: Sequence[Verdict]) -> str:
    """Return which meters have points that no source has read so far."""
    points = Counter(verdict.meter for verdict in verdicts if verdict.mms.quality == quality.NEVER_READ)
    where = ", ".join(f"{count} of {meter}" for meter, count in points.items())
    return f"; {points.total()} not yet read: {where}" if points else ""


def verify_meter(site: Site, meter: Meter, dlms: DlmsConnection, mms: MmsClient) -> list[Verdict]:
    """Return a verdict on every point of a meter, each read on both faces within one sample if that can be had."""
    meter_type = site.type_of(meter)
    todo = list(_names(meter_type, meter))
    done: list[Verdict] = []
    for attempt in range(_ROUNDS):
        cosem = _read_cosem(meter, meter_type, [point for point, _ in todo], dlms)
        readings = mms.read([_mms_reference(site, meter, reference) for _, reference in todo])
        later = []
        for (point, reference), reading in zip(todo, readings, strict=True):
            told = cosem[point.name]
            settled = point.kind is Kind.IDENTITY or reading.error or same_time(told, reading)
            if settled or attempt == _ROUNDS - 1:
                verdict = difference(point, told, reading)
                done.append(Verdict(meter.id, point, reference, told, reading, verdict))
            else:
                later.append((point, reference))
        todo = later
        if not todo:
            break
        time.sleep(_PAUSE)
    return done


def _names(meter_type: MeterType, meter: Meter) -> list[tuple[Point, Reference]]:
    names = []
    for point in (*meter_type.served, *meter_type.identity):
        names.append((point, point.reference_for(meter.direction)))
        if point.control is not None:
            names.append((point, point.control))
    return names


def _mms_reference(site: Site, meter: Meter, reference: Reference) -> str:
    path = f"{site.ied}{meter.ld}/{reference.ln}.{cdc.data_object(reference)}"
    return f"{path}.{cdc.place(reference).attribute}" if reference.cdc == "DPL" else path


def _read_cosem(
    meter: Meter, meter_type: MeterType, points: list[Point], dlms: DlmsConnection
) -> dict[str, CosemReading]:
    """Read points; one without a time of its own has that of the meter's sample, if it stood still meanwhile."""
    distinct = {point.name: point for point in points}
    sampled = _sampled(meter_type)
    groups = [[sampled], *(_attributes(point) for point in distinct.values()), [sampled]]
    (before,), *answers, (after,) = dlms.get_many(meter.sap, groups)
    clock = meter_time(after) if before == after else -1
    return {
        name: cosem_reading(point, values, clock)
        for (name, point), values in zip(distinct.items(), answers, strict=True)
    }


def _sampled(meter_type: MeterType) -> AttributeReference:
    """Return where the time of a meter's last sample stands: a clock that can be set goes on by itself."""
    registers = (register for point in meter_type.points for register in point.registers)
    found = next((each for each in registers if each.class_id == classes.EXTENDED_REGISTER), None)
    return _CLOCK if found is None else AttributeReference(found.class_id, obis.parse(found.obis), 5)


def _attributes(point: Point) -> list[AttributeReference]:
    references = []
    for register in point.registers:
        name = obis.parse(register.obis)
        wanted = (2, 4, 5) if register.class_id == classes.EXTENDED_REGISTER else (register.attribute,)
        references += [AttributeReference(register.class_id, name, attribute) for attribute in wanted]
    return references
