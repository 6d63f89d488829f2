"""`flexmap serve`: run a configured site."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.run import run


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json-log", is_flag=True, help="Write the log as JSON, one event a line.")
def serve(config: Path, json_log: bool) -> None:
    """Serve the site that CONFIG (a TOML file) describes, until interrupted."""
    loaded = configuration.load(config)
    run(loaded, secrets.load(loaded), json_log=json_log)
