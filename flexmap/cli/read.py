"""`flexmap read`: read values from any MMS or DLMS server."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.cli import output
from flexmap.cli.read_dlms import read_dlms
from flexmap.cli.read_mms import read_mms
from flexmap.cli.target import credentials, parse_target


@click.command()
@click.argument("url")
@click.argument("references", nargs=-1)
@click.option("--as", "client", metavar="NAME", help="DLMS client of the configuration; without it: public, 16.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Configuration that names the client; without it: that of the demo.")  # fmt: skip
@click.option("--last", default=10, show_default=True, type=click.IntRange(1), help="Rows of a profile.")
@click.option("--device-address", default=16, show_default=True, type=click.IntRange(0, 0x3FFF),
              help="Physical device (lower HDLC address).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def read(
    *,
    url: str,
    references: tuple[str, ...],
    client: str | None,
    config: Path | None,
    last: int,
    device_address: int,
    as_json: bool,
) -> None:
    """Read values with unit, quality and time.

    \b
    flexmap read mms://HOST:PORT               logical devices and their nodes
    flexmap read mms://HOST:PORT/LD            every value of a logical device
    flexmap read mms://HOST:PORT/LD/LN.DO      one data object
    flexmap read dlms://HOST:PORT              logical devices (SAP assignment)
    flexmap read dlms://HOST:PORT/SAP          object list with values
    flexmap read dlms://HOST:PORT/SAP/OBIS     one object; for a profile its last rows
    flexmap read hdlc://HOST:PORT/SAP/OBIS     the same over HDLC on TCP

    REFERENCES are further ones on the same server, each LD/LN.DO or SAP/OBIS.
    """
    target = parse_target(url)
    paths = [path for path in (target.path, *references) if path]
    if target.protocol == "mms":
        head, rows = read_mms(target, paths)
    else:
        head, rows = read_dlms(target, paths, credentials(client, config), last, device_address)
    output.show(head, rows, as_json)
