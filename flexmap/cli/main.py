"""Entry point of the `flexmap` command."""

from __future__ import annotations

import sys

import click

import flexmap
from flexmap.cli.concentrator import concentrator
from flexmap.cli.demo import demo
from flexmap.cli.dlms import dlms
from flexmap.cli.explain import explain
from flexmap.cli.firmware import firmware
from flexmap.cli.g3 import g3
from flexmap.cli.keys import keys
from flexmap.cli.map import map_command
from flexmap.cli.mms import mms
from flexmap.cli.read import read
from flexmap.cli.scl import scl
from flexmap.cli.serve import serve
from flexmap.cli.verify import verify
from flexmap.model import ConfigurationError, FlexmapError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(flexmap.__version__, prog_name="flexmap")
def cli() -> None:
    """Meter gateway: one map, two faces, IEC 61850 MMS and DLMS/COSEM."""


for command in (demo, serve, concentrator, firmware, read, verify, explain, map_command, dlms, mms, scl, g3, keys):
    cli.add_command(command)


def main() -> None:
    """Run the command line; exit with 2 for a wrong file or flag, 1 for any other error."""
    try:
        cli()
    except FlexmapError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
