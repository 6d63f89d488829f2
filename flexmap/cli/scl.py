"""`flexmap scl`: export, check and product files of the IEC 61850 configuration language."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from flexmap.cli import output
from flexmap.gateway import config
from flexmap.gateway.sections import Endpoint
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError
from flexmap.scl.abilities import ENGINES
from flexmap.scl.check import Severity
from flexmap.scl.check import check as check_file
from flexmap.scl.communication import Address
from flexmap.scl.generate import FileKind, generate, kind_of, product_icd
from flexmap.scl.rules.schema import ENVIRONMENT

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def scl() -> None:
    """SCL files: ICD, IID, CID and SCD."""


@scl.command()
@click.argument("configuration", metavar="CONFIG", type=_FILE)
@click.option("-o", "--output", "target", required=True, metavar="FILE", type=_FILE, help="File to write.")
@click.option(
    "--address", metavar="HOST[:PORT]", help="Where clients reach the server, when that is not where it listens."
)
def export(configuration: Path, target: Path, address: str | None) -> None:
    """Write the SCL file of the site in CONFIG; the kind by FILE's extension (.icd, .iid, .cid, .scd)."""
    kind = kind_of(target)
    loaded = config.load(configuration)
    place = None if kind is FileKind.ICD else _address(address, loaded.mms.endpoint)
    document = generate(loaded.site, kind, address=place, abilities=ENGINES[loaded.mms.engine])
    output.write(target, document)
    click.echo(f"{target}: {kind.upper()}, {len(document)} bytes")


def _address(told: str | None, listening: Endpoint) -> Address:
    if told is None:
        return Address(host=listening.host, port=listening.port)
    host, _, port = told.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) <= 0xFFFF):
        raise ConfigurationError(f"'{port}' is not a port", where="--address", remedy="write HOST or HOST:PORT")
    return Address(host=host, port=int(port) if port else listening.port)


@scl.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--schema", envvar=ENVIRONMENT, type=click.Path(path_type=Path), help="Folder of SCL.xsd, edition 2007B4."
)
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default="libiec61850", help="Engine to serve it.")
def check(file: Path, as_json: bool, schema: Path | None, engine: str) -> None:
    """Check FILE; exit with 1 if there is an error in it."""
    findings = check_file(file, schema_folder=schema, abilities=ENGINES[engine])
    if as_json:
        click.echo(output.json(findings))
    else:
        for finding in findings:
            severity = click.style(finding.severity, fg=_COLOURS[finding.severity])
            click.echo(f"{file}:{finding.line}: {severity}: {finding.what} [{finding.rule}]; {finding.remedy}")
        counts = {each: sum(finding.severity is each for finding in findings) for each in Severity}
        click.echo(f"{file}: {counts[Severity.ERROR]} errors, {counts[Severity.WARNING]} warnings")
    if any(finding.severity is Severity.ERROR for finding in findings):
        sys.exit(1)


@scl.command()
@click.option(
    "-o", "--output", "folder", default="scl", show_default=True, type=_FOLDER, help="Folder to write to."
)
def icd(folder: Path) -> None:
    """Write the product ICD of each built-in meter type, alone and behind a concentrator."""
    for meter_type in load_products().values():
        target = folder / f"{meter_type.id}.icd"
        output.write(target, product_icd(meter_type))
        click.echo(f"{target}: {meter_type.title}")
