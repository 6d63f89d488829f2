"""`flexmap explain`: the lineage of one value, from the meter to those who are told of it."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.cli import output
from flexmap.cli.target import credentials, load_config, parse_target
from flexmap.cli.verify import Verdict, verify_meter
from flexmap.dlms import axdr
from flexmap.faces.dlms.client import DlmsConnection
from flexmap.faces.mms_client import MmsClient
from flexmap.gateway.config import Config
from flexmap.gateway.engineered import apply
from flexmap.gateway.lineage import Step, Subject, find, lineage
from flexmap.mapping import cdc
from flexmap.mapping.value import raw
from flexmap.mms import data
from flexmap.model import Kind, LocalError, Point, Site, Value, quality
from flexmap.scl import document
from flexmap.scl.abilities import ENGINES
from flexmap.scl.engineered import load as load_scl
from flexmap.scl.generate import FileKind, generate
from flexmap.scl.summary import summarise

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("name", metavar="REF|OBIS|POINT")
@click.option("--meter", metavar="METER", help="Id or logical device of the meter, if several have it.")
@click.option("--config", type=_FILE, help="Configuration of the site; without it: that of the demo.")
@click.option(
    "--scl", "file", metavar="FILE", type=_FILE, help="SCL file that MMS serves, if serve was given one."
)
@click.option("--ied", metavar="IED", help="The IED in it, if it has several.")
@click.option("--live", is_flag=True, help="Read it from the running server too: value, quality, time, octets.")
@click.option(
    "--as", "client", default="reader", show_default=True, metavar="NAME", help="DLMS client for --live."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    *,
    name: str,
    meter: str | None,
    config: Path | None,
    file: Path | None,
    ied: str | None,
    live: bool,
    client: str,
    as_json: bool,
) -> None:
    """Tell where a value comes from, how it is converted, its names on both faces, and who reports it.

    \b
    flexmap explain FLEXGWSM0001/MMXN1.Vol        by its IEC 61850 name
    flexmap explain 1-0:32.7.0 --meter SM0001     by its OBIS code
    flexmap explain voltage --meter SM0001        by its name in the map
    """
    loaded = load_config(config)
    abilities = ENGINES[loaded.mms.engine]
    if file is None:
        site, scl = loaded.site, generate(loaded.site, FileKind.CID, abilities=abilities)
    else:
        engineered = load_scl(file, ied, abilities)
        site, scl = apply(loaded.site, engineered).site, engineered.scl
    subject = find(site, name, meter)
    steps = list(lineage(loaded, site, subject, summarise(document.parse(scl))))
    if live:
        steps += _live(loaded, config, site, subject, client)
    output.show(("Stage", "What"), [(step.stage, step.text) for step in steps], as_json)


def _live(loaded: Config, config: Path | None, site: Site, subject: Subject, client: str) -> list[Step]:
    mms, dlms = (parse_target(f"mms://{loaded.mms.endpoint}"), parse_target(f"dlms://{loaded.dlms.endpoint}"))
    with (
        DlmsConnection(dlms.host, dlms.port, credentials(client, config)) as cosem,
        MmsClient.open(mms.host, mms.port) as reader,
    ):
        verdicts = verify_meter(site, subject.meter, cosem, reader)
    return [step for found in verdicts if found.point.name == subject.point.name for step in _read(found)]


def _read(found: Verdict) -> list[Step]:
    point, value = found.point, found.cosem.value
    texts = [Step("now on DLMS", f"{found.cosem.error or value}{_octets(_cosem_octets(point, value))}")]
    shown = "" if found.mms.quality is None else f", {quality.describe(found.mms.quality)}"
    when = f", t {output.time_text(found.mms.time)}" if found.mms.time else ""
    octets = _octets(_mms_octets(found, found.mms.value))
    texts.append(Step("now on MMS", f"{found.reference.path}: {found.mms.value}{shown}{when}{octets}"))
    texts.append(Step("agree", found.difference or "yes"))
    return texts


def _octets(octets: bytes) -> str:
    return f"; octets {octets.hex(' ')}" if octets else ""


def _cosem_octets(point: Point, value: Value) -> bytes:
    """Return the value as the first register's attribute has it in A-XDR; empty where it is none."""
    if value is None or point.kind is Kind.IDENTITY:
        return b""
    if point.type == "boolean":
        return axdr.encode("boolean", bool(value))
    try:
        return axdr.encode(point.type, raw(point, value, point.registers[0].part))
    except (OverflowError, LocalError):
        return b""


def _mms_octets(found: Verdict, value: object) -> bytes:
    """Return the value as MMS has it (BER); empty where it is none."""
    basic_type = cdc.place(found.reference).basic_type
    if isinstance(value, str):
        return data.visible_string(value)
    if not isinstance(value, int | float):
        return b""
    if basic_type == "FLOAT32":
        return data.float32(float(value))
    if basic_type == "BOOLEAN":
        return data.boolean(bool(value))
    return data.bit_string(int(value), 2) if basic_type == "Dbpos" else data.integer(int(value))
