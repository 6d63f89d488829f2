"""`flexmap scl merge`, `sed` and `diff`: what goes from one file to another, and what changed between two."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from flexmap.cli import output
from flexmap.model import ConfigurationError
from flexmap.scl import document
from flexmap.scl.communication import MMS_PORT, Address
from flexmap.scl.diff import Difference
from flexmap.scl.diff import diff as compare
from flexmap.scl.exchange import Right, exchange
from flexmap.scl.impact import raise_revisions
from flexmap.scl.merge import merge as merge_into
from flexmap.scl.summary import summarise

_FILE = click.Path(path_type=Path, dir_okay=False)
_OUTPUT = click.option("-o", "--output", "target", required=True, metavar="OUT", type=_FILE, help="File to write.")


def parse_address(told: str, port: int = MMS_PORT, where: str = "--address") -> Address:
    """Return the address that ``HOST[:PORT]`` names; raises ConfigurationError if the port is none."""
    host, _, given = told.partition(":")
    if given and not (given.isdecimal() and 0 < int(given) <= 0xFFFF):
        raise ConfigurationError(f"'{given}' is not a port", where=where, remedy="write HOST or HOST:PORT")
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


@click.command()
@click.argument("old", metavar="OLD", type=_FILE)
@click.argument("new", metavar="NEW", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--raise-confrev", is_flag=True, help="Write NEW with confRev raised where it has to rise, to -o.")
@click.option("-o", "--output", "target", metavar="OUT", type=_FILE, help="File to write with --raise-confrev.")
def diff(*, old: Path, new: Path, as_json: bool, raise_confrev: bool, target: Path | None) -> None:
    """Tell what changed from OLD to NEW, and which clients, data sets and control blocks that breaks.

    Exit with 0 if nothing changed, 1 if something did, 2 if a file cannot be read.
    """
    if raise_confrev != (target is not None):
        raise click.UsageError("--raise-confrev and -o go together")
    before = summarise(document.parse(old))
    found = compare(before, summarise(document.parse(new)))
    if target is not None:
        raised = document.parse(new, everything=True)
        revisions = raise_revisions(raised, found.impacts)
        output.write(target, document.unchanged(raised.root))
        for block, revision in revisions.items():
            click.echo(f"{target}: confRev of {block} is now {revision}", err=as_json)
    if as_json:
        click.echo(output.json(found))
    else:
        _print(found)
    sys.exit(1 if found.changes else 0)


def _print(found: Difference) -> None:
    for change in found.changes:
        click.echo(f"{change.where}: {change.what}")
    for impact in found.impacts:
        click.secho(f"breaks {impact.reference}: {'; '.join(impact.why)}", fg="red")
        click.echo(f"  concerns {', '.join(impact.concerns) or 'every client that uses it; the files name none'}")
        if impact.must_rise:
            click.echo(f"  confRev has to rise: it is {impact.old_revision}, then {impact.new_revision}")
    click.echo(f"{len(found.changes)} changes, {len(found.impacts)} things broken")
