"""`flexmap scl`: export, check and product files of the IEC 61850 configuration language."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from flexmap.cli import output
from flexmap.cli.scl_project import diff, merge, parse_address, sed
from flexmap.gateway import config
from flexmap.gateway.sections import Endpoint
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError
from flexmap.scl.abilities import ENGINES
from flexmap.scl.check import Finding, Severity
from flexmap.scl.check import check as check_file
from flexmap.scl.communication import Address
from flexmap.scl.generate import FileKind, Gateway, generate_project, kind_of, product_icd
from flexmap.scl.rules.schema import ENVIRONMENT
from flexmap.scl.sarif import sarif

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def scl() -> None:
    """SCL files: ICD, IID, CID, SCD and SED."""


@scl.command()
@click.argument("configurations", metavar="CONFIG...", type=_FILE, nargs=-1, required=True)
@click.option("-o", "--output", "target", required=True, metavar="FILE", type=_FILE, help="File to write.")
@click.option(
    "--address",
    "addresses",
    metavar="HOST[:PORT]",
    multiple=True,
    help="Where clients reach the server, when that is not where it listens; once for each CONFIG.",
)
def export(configurations: tuple[Path, ...], target: Path, addresses: tuple[str, ...]) -> None:
    """Write the SCL file of the site in CONFIG; the kind by FILE's extension (.icd, .iid, .cid, .scd, .sed).

    Several CONFIGs become one .scd or .sed of several gateways.
    """
    kind = kind_of(target)
    if addresses and len(addresses) != len(configurations):
        what = f"{len(addresses)} addresses for {len(configurations)} configurations"
        raise ConfigurationError(what, where="--address", remedy="give one for each CONFIG, or none")
    told = addresses or (None,) * len(configurations)
    gateways = [_gateway(config.load(path), text, kind) for path, text in zip(configurations, told, strict=True)]
    document = generate_project(gateways, kind)
    output.write(target, document)
    click.echo(f"{target}: {kind.upper()}, {len(document)} bytes")


def _gateway(loaded: config.Config, told: str | None, kind: FileKind) -> Gateway:
    address = Address() if kind is FileKind.ICD else _address(told, loaded.mms.endpoint)
    return Gateway(site=loaded.site, address=address, abilities=loaded.mms.abilities)


def _address(told: str | None, listening: Endpoint) -> Address:
    if told is None:
        return Address(host=listening.host, port=listening.port)
    return parse_address(told, listening.port)


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


for command in (merge, sed, diff):
    scl.add_command(command)
