"""`flexmap firmware`: an image to a concentrator, and from there to meters."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import click

from flexmap.gateway.concentrator_config import Secrets, read_secrets
from flexmap.gateway.shell_client import converse
from flexmap.model import ConfigurationError, RemoteError
from flexmap.sources.concentrator import firmware as host
from flexmap.sources.concentrator.link import Link
from flexmap.sources.concentrator.port import parse_port
from flexmap.sources.interface import Clock
from flexmap.stcomet import identifier as identifiers
from flexmap.stcomet.firmware import LARGEST, Image
from flexmap.stcomet.updates import State

_BINARIES = {name: binary for name, binary in identifiers.BINARIES.items() if binary.replaceable}


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("meters", nargs=-1, metavar="[METER]...")
@click.option("--port", metavar="PORT", help="The concentrator's shell, as in its own --port.")
@click.option("--identifier", is_flag=True, help="Only print the image's identifier, for DLMS head-ends.")
@click.option("--binary", type=click.Choice(list(_BINARIES)), required=True, help="The binary that it replaces.")
@click.option("--version", type=click.IntRange(1, 0xFFFFFFFF), required=True, help="Version of the image.")
@click.option("--name", default=None, help="Its name at the concentrator.  [default: from the file's]")
@click.option("--activate", is_flag=True, help="Put it into operation in each meter that has it whole.")
@click.option(
    "--secrets",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="The concentrator's secrets file, where TCP wants a login.",
)
def firmware(
    *,
    image: Path,
    meters: tuple[str, ...],
    port: str | None,
    identifier: bool,
    binary: str,
    version: int,
    name: str | None,
    activate: bool,
    secrets: Path | None,
) -> None:
    """Give the file IMAGE to a concentrator, and have it sent to METERs over the power line.

    May be interrupted and run again: both ways go on where they were.
    """
    try:
        octets = image.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(image)) from None
    if not 0 < len(octets) <= LARGEST:
        raise ConfigurationError(f"{len(octets)} octets are no image", where=str(image), remedy=f"1 to {LARGEST}")
    if identifier:
        named = Image(_BINARIES[binary], version, len(octets), hashlib.sha256(octets).digest())
        click.echo(identifiers.identifier(named).decode())
        return
    if port is None:
        raise click.UsageError("Missing option '--port'.")
    chosen = name or re.sub(r"[^A-Za-z0-9_]", "_", image.stem)[:16]
    update = host.Update(chosen, _BINARIES[binary], version, octets, meters, activate)
    password = (read_secrets(secrets) if secrets else Secrets()).password
    ended: dict[str, State] = {}

    async def talk(link: Link, clock: Clock) -> None:
        said = _Said()
        await host.upload(link, update, said)
        ended.update(await host.send(link, clock, update, said))

    converse(parse_port(port, "--port"), password, talk)
    well = {State.VERIFIED, State.ACTIVE}
    failed = [meter for meter, state in ended.items() if state not in well]
    if failed:
        raise RemoteError(f"not updated: {', '.join(failed)}")


class _Said:
    """Prints a line for each tenth of the way, and for each change."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, who: str, there: int, of: int) -> None:
        tenth = 10 * there // of if of else 0
        if self._last.get(who) != tenth:
            self._last[who] = tenth
            click.echo(f"{who}: {there} of {of} octets")
