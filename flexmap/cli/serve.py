"""`flexmap serve`: run a configured site."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.cli.output import log_options
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.run import run


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@log_options("info")
def serve(*, config: Path, log_level: str, json_log: bool) -> None:
    """Serve the site that CONFIG (a TOML file) describes, until interrupted."""
    loaded = configuration.load(config)
    run(loaded, secrets.load(loaded), log_level=log_level, json_log=json_log)
