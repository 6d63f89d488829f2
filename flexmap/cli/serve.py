"""`flexmap serve`: run a configured site."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from flexmap.cli.output import log_options
from flexmap.cli.scl_project import parse_address
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.run import run
from flexmap.scl.abilities import Abilities
from flexmap.scl.communication import MMS_PORT
from flexmap.scl.engineered import Engineered, load


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--scl",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CID, IID or SCD of an engineering tool: MMS serves the meters under its names, at its address.",
)
@click.option("--ied", metavar="IED", help="The IED to serve, if the SCL file has several.")
@click.option("--listen", metavar="HOST[:PORT]", help="Where MMS listens, if not where the SCL file says.")
@log_options("info")
def serve(
    *, config: Path, file: Path | None, ied: str | None, listen: str | None, log_level: str, json_log: bool
) -> None:
    """Serve the site that CONFIG (a TOML file) describes, until interrupted."""
    loaded = configuration.load(config)
    if file is None and (ied or listen):
        raise click.UsageError("--ied and --listen go with --scl")
    engineered = None if file is None else _engineered(file, ied, listen, loaded.mms.abilities)
    run(loaded, secrets.load(loaded), log_level=log_level, json_log=json_log, engineered=engineered)


def _engineered(file: Path, ied: str | None, listen: str | None, abilities: Abilities) -> Engineered:
    found = load(file, ied, abilities)
    if listen is None:
        return found
    port = MMS_PORT if found.address is None else found.address.port
    return msgspec.structs.replace(found, address=parse_address(listen, port, "--listen"))
