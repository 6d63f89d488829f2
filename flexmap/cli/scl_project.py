"""`flexmap scl merge` and `sed`: what goes from one project file to another."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.cli import output
from flexmap.model import ConfigurationError
from flexmap.scl import document
from flexmap.scl.communication import MMS_PORT, Address
from flexmap.scl.exchange import Right, exchange
from flexmap.scl.merge import merge as merge_into

_FILE = click.Path(path_type=Path, dir_okay=False)
_OUTPUT = click.option("-o", "--output", "target", required=True, metavar="OUT", type=_FILE, help="File to write.")


def parse_address(told: str, port: int = MMS_PORT) -> Address:
    """Return the address that ``HOST[:PORT]`` names; raises ConfigurationError if the port is none."""
    host, _, given = told.partition(":")
    if given and not (given.isdecimal() and 0 < int(given) <= 0xFFFF):
        raise ConfigurationError(f"'{given}' is not a port", where="--address", remedy="write HOST or HOST:PORT")
    return Address(host=host, port=int(given) if given else port)


@click.command()
@click.argument("source", metavar="IED-FILE", type=_FILE)
@click.argument("project", metavar="INTO", type=_FILE)
@_OUTPUT
@click.option("--ied", metavar="IED", help="The IED to take, if IED-FILE has several.")
@click.option("--name", metavar="NAME", help="Its name in the project; needed if it is called TEMPLATE.")
@click.option("--address", metavar="HOST[:PORT]", help="Where its server is reached in the project.")
@click.option("--replace", is_flag=True, help="Let it take the place of the IED of that name.")
def merge(
    *,
    source: Path,
    project: Path,
    target: Path,
    ied: str | None,
    name: str | None,
    address: str | None,
    replace: bool,
) -> None:
    """Put an IED of IED-FILE (.icd, .iid, .cid, .scd, .sed) into the project file INTO, and write OUT.

    Types that the project has already are shared; others whose id is taken get a new one. Comments, Private
    elements and foreign namespaces of both files are kept.
    """
    into = document.parse(project, everything=True)
    taken = document.parse(source, everything=True)
    place = None if address is None else parse_address(address)
    merged = merge_into(into, taken, ied=ied, name=name, address=place, replace=replace)
    output.write(target, document.unchanged(into.root))
    click.echo(
        f"{target}: IED '{merged.ied}', {merged.added} types added, {merged.shared} shared, "
        f"{len(merged.renamed)} renamed"
    )
    for old, new in merged.renamed.items():
        click.echo(f"  type {old} is now {new}")
    for note in merged.notes:
        click.echo(f"  note: {note}")


@click.command()
@click.argument("project", metavar="PROJECT", type=_FILE)
@click.option(
    "--ied", "ieds", metavar="IED", multiple=True, required=True, help="An IED to give; repeat for more."
)
@click.option(
    "--right",
    type=click.Choice([right.value for right in Right]),
    default=Right.DATAFLOW.value,
    show_default=True,
    help="What the other project may change.",
)
@click.option("--owner", metavar="PROJECT-ID", help="Project that the IEDs belong to, if not the header's id.")
@_OUTPUT
def sed(*, project: Path, ieds: tuple[str, ...], right: str, owner: str | None, target: Path) -> None:
    """Write the SED that gives IEDs of PROJECT to another project, with the right to change them."""
    given = document.parse(project, everything=True)
    exchange(given, ieds, Right(right), owner)
    output.write(target, document.unchanged(given.root))
    click.echo(f"{target}: {', '.join(ieds)}, right {right}")
