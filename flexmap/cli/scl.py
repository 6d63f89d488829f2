"""`flexmap scl`: export, check and product files of the IEC 61850 configuration language."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from flexmap.cli import output
from flexmap.gateway import config
from flexmap.gateway.sections import Endpoint
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError
from flexmap.scl.abilities import ENGINES
from flexmap.scl.check import Finding, Severity
from flexmap.scl.check import check as check_file
from flexmap.scl.communication import Address
from flexmap.scl.generate import FileKind, generate, kind_of, product_icd
from flexmap.scl.rules.schema import ENVIRONMENT
from flexmap.scl.sarif import sarif

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


_FAIL_ON = {
    "error": {Severity.ERROR},
    "warning": {Severity.ERROR, Severity.WARNING},
    "info": set(Severity),
    "never": set[Severity](),
}


@scl.command()
@click.argument("files", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--sarif", "as_sarif", is_flag=True, help="Print the findings as SARIF 2.1.0.")
@click.option(
    "--schema", envvar=ENVIRONMENT, type=click.Path(path_type=Path), help="Folder of SCL.xsd, edition 2007B4."
)
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default="libiec61850", help="Engine to serve it.")
@click.option(
    "--fail-on",
    type=click.Choice(list(_FAIL_ON)),
    default="error",
    show_default=True,
    help="Least severity that makes the exit code 1.",
)
def check(
    *, files: tuple[Path, ...], as_json: bool, as_sarif: bool, schema: Path | None, engine: str, fail_on: str
) -> None:
    """Check each FILE; exit with 0 if there is nothing to mend, 1 if there is, 2 if a file cannot be read."""
    if as_json and as_sarif:
        raise click.UsageError("--json and --sarif exclude each other")
    checked = [(str(file), check_file(file, schema_folder=schema, abilities=ENGINES[engine])) for file in files]
    if as_sarif:
        click.echo(output.json(sarif(checked)))
    elif as_json:
        rows = [{"file": file, **msgspec.to_builtins(finding)} for file, found in checked for finding in found]
        click.echo(output.json(rows))
    else:
        for file, findings in checked:
            _print(file, findings)
    if any(finding.severity in _FAIL_ON[fail_on] for _, findings in checked for finding in findings):
        sys.exit(1)


def _print(file: str, findings: list[Finding]) -> None:
    for finding in findings:
        severity = click.style(finding.severity, fg=_COLOURS[finding.severity])
        click.echo(f"{file}:{finding.line}: {severity}: {finding.what} [{finding.rule}]; {finding.remedy}")
    counts = {each: sum(finding.severity is each for finding in findings) for each in Severity}
    click.echo(f"{file}: {counts[Severity.ERROR]} errors, {counts[Severity.WARNING]} warnings")


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
