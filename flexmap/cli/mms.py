"""`flexmap mms`: an IEC 61850 client for people: browse, read, watch reports, operate."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec

from flexmap.cli import output
from flexmap.cli.output import time_text
from flexmap.cli.read_mms import READING_HEAD, reading_row
from flexmap.cli.target import Target, parse_target
from flexmap.faces.mms_client import DataNode, Reading
from flexmap.faces.mms_reader import Reader
from flexmap.faces.native import client_reports as reports
from flexmap.faces.native.client import NativeAssociation, split
from flexmap.faces.native.client_control import CATEGORIES, Order, control
from flexmap.faces.native.tls import client_context
from flexmap.mms.client import Settings
from flexmap.model import ConfigurationError, RemoteError

_REPORT_WAIT = 0.5
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; reports one a line.")
_password = click.option("--password", envvar="FLEXMAP_MMS_PASSWORD", default=None,
                         help="Authenticate (ACSE); better in the variable FLEXMAP_MMS_PASSWORD.")  # fmt: skip
_file = click.Path(path_type=Path, dir_okay=False)
FC = TypeVar("FC", bound=Callable[..., Any])


class Access(msgspec.Struct, frozen=True):
    """How a server is reached."""

    password: str | None
    authorities: Path | None
    certificate: Path | None
    key: Path | None

    def open(self, url: str) -> tuple[NativeAssociation, Target]:
        """Associate with the server of a URL; raises ConfigurationError, RemoteError."""
        target = parse_target(url)
        if target.protocol != "mms":
            raise ConfigurationError(f"'{url}' is no MMS server", remedy="write mms://HOST:PORT")
        if self.authorities is None and (self.certificate or self.key):
            remedy = "name the authorities of the server with --tls-authorities"
            raise ConfigurationError("a certificate is for TLS", where="--tls-certificate", remedy=remedy)
        tls = None
        if self.authorities is not None:
            tls = client_context(self.authorities, self.certificate, self.key)
        settings = Settings(password=None if self.password is None else self.password.encode())
        return NativeAssociation(target.host, target.port, settings, tls), target


def _access(command: FC) -> FC:
    """Add the options that say how a server is reached; the command gets them as ``access``."""

    @click.option("--tls-authorities", type=_file, default=None, help="Use TLS; whose servers are trusted (PEM).")
    @click.option("--tls-certificate", type=_file, default=None, help="The client's certificate (PEM).")
    @click.option("--tls-key", type=_file, default=None, help="Its key, where it is in another file.")
    @_password
    @functools.wraps(command)
    def with_access(
        *,
        password: str | None,
        tls_authorities: Path | None,
        tls_certificate: Path | None,
        tls_key: Path | None,
        **options: Any,
    ) -> Any:
        return command(access=Access(password, tls_authorities, tls_certificate, tls_key), **options)

    return cast("FC", with_access)


@click.group()
def mms() -> None:
    """Browse, read, report, control: a client for any IEC 61850 server.

    URL is mms://HOST:PORT, for most commands with a path: mms://HOST:PORT/LD/LN.DO
    """


def _path(association: NativeAssociation, target: Target, what: str) -> tuple[str, str]:
    """Return logical device and the rest of a URL's path, which must name something."""
    domain, rest = split(target.path, association.domains)
    if "." not in rest:
        raise ConfigurationError(f"'{target.path}' names no {what}", remedy=f"write mms://HOST:PORT/LD/LN.{what}")
    return domain, rest


@mms.command()
@click.argument("url")
@_access
@_json
def browse(*, url: str, access: Access, as_json: bool) -> None:
    """Show what a server has: devices, nodes, data with their types, data sets, control blocks, logs.

    \b
    flexmap mms browse mms://HOST:PORT           logical devices with their nodes
    flexmap mms browse mms://HOST:PORT/LD        data of a device, its data sets, control blocks and logs
    flexmap mms browse mms://HOST:PORT/LD/LN     of one node
    """
    association, target = access.open(url)
    with association:
        if not target.path:
            nodes = {domain: association.nodes(domain) for domain in association.domains}
            lines = [f"{domain}  {' '.join(names)}" for domain, names in nodes.items()]
            click.echo(output.json(nodes) if as_json else "\n".join(lines))
            return
        domain, node = split(target.path, association.domains)
        tree = _tree(association, domain, node)
    click.echo(output.json(tree) if as_json else "\n".join(_drawn(domain, tree)))


def _tree(association: NativeAssociation, domain: str, node: str) -> dict[str, Any]:
    """Return what a device, or one of its nodes, has, by node and kind."""
    names = association.variables(domain)
    nodes = [name for name in names if "$" not in name]
    if node and node not in nodes:
        raise RemoteError(f"no logical node {domain}/{node}; there are {', '.join(nodes[:8])}")
    listed = {"data_sets": association.data_sets(domain), "logs": association.journals(domain)}
    tree = {}
    for each in [node] if node else nodes:
        kind = association.specification(domain, each)
        data: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for constraint in kind.children:
            chosen = blocks if constraint.name in {"RP", "BR", "LG", "GO", "MS", "US"} else data
            chosen[constraint.name] = {child.name: _type_of(child) for child in constraint.children}
        found: dict[str, Any] = {"data": data}
        found |= {"control_blocks": {fc: list(those) for fc, those in blocks.items()}} if blocks else {}
        for what, items in listed.items():
            own = [item.partition("$")[2] for item in items if item.partition("$")[0] == each]
            found |= {what: own} if own else {}
        tree[each] = found
    return tree


def _type_of(node: DataNode) -> Any:
    return {child.name: _type_of(child) for child in node.children} if node.children else node.type


def _drawn(domain: str, tree: dict[str, Any]) -> Iterator[str]:
    yield domain
    for node, found in tree.items():
        yield f"  {node}"
        for constraint, those in found["data"].items():
            for name, kind in those.items():
                yield f"    {name} [{constraint}]  {_short(kind)}"
        for constraint, names in found.get("control_blocks", {}).items():
            yield f"    control blocks [{constraint}]  {' '.join(names)}"
        for what in ("data_sets", "logs"):
            if what in found:
                yield f"    {what.replace('_', ' ')}  {' '.join(found[what])}"


def _short(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    return " ".join(
        f"{name}({_short(below)})" if isinstance(below, dict) else name for name, below in kind.items()
    )


@mms.command()
@click.argument("url")
@click.argument("references", nargs=-1)
@click.option("--watch", type=click.FloatRange(0.1), default=None, metavar="SECONDS",
              help="Read again and again; what has changed is printed.")  # fmt: skip
@_access
@_json
def read(*, url: str, references: tuple[str, ...], watch: float | None, access: Access, as_json: bool) -> None:
    """Read values with unit, quality and time: REFERENCES are LD, LD/LN, LD/LN.DO or LD/LN.DO.attribute."""
    association, target = access.open(url)
    paths = [path for path in (target.path, *references) if path]
    if not paths:
        raise ConfigurationError("nothing to read is named", remedy="write mms://HOST:PORT/LD/LN.DO")
    with association:
        reader = Reader(association)
        readings = reader.read(paths)
        if len(readings) == 1 and readings[0].error:
            raise RemoteError(f"{readings[0].reference}: {readings[0].error}")
        output.show(READING_HEAD, [reading_row(each) for each in readings], as_json)
        while watch is not None:
            time.sleep(watch)
            before, readings = readings, reader.read(paths)
            _changes(before, readings, as_json)


def _changes(before: Sequence[Reading], now: Sequence[Reading], as_json: bool) -> None:
    known = {each.reference: each for each in before}
    for each in now:
        old = known.get(each.reference)
        if old is None or (old.value, old.quality) != (each.value, each.quality):
            if as_json:
                click.echo(msgspec.json.encode(each))
            else:
                click.echo("  ".join(str(cell) for cell in reading_row(each) if cell not in ("", None)))


@mms.command()
@click.argument("url")
@click.option("--trigger", "triggers", multiple=True, type=click.Choice(list(reports.TRIGGERS)),
              help="Trigger options instead of those that are set; may come several times.")  # fmt: skip
@click.option("--integrity", type=click.IntRange(0), default=None, metavar="MS", help="Integrity period.")
@click.option("--entry", metavar="HEX", default=None, help="Go on behind this EntryID (buffered).")
@click.option("--purge", is_flag=True, help="Forget what is buffered (buffered).")
@click.option("--no-gi", is_flag=True, help="Without general interrogation at the beginning.")
@click.option("--count", type=click.IntRange(1), default=None, help="End after so many reports.")
@click.option("--seconds", type=click.FloatRange(0.0), default=None, help="End after so many seconds.")
@_access
@_json
def report(
    *,
    url: str,
    triggers: tuple[str, ...],
    integrity: int | None,
    entry: str | None,
    purge: bool,
    no_gi: bool,
    count: int | None,
    seconds: float | None,
    access: Access,
    as_json: bool,
) -> None:
    """Switch a report control block on and print its reports: mms://HOST:PORT/LD/LN.RCB."""
    association, target = access.open(url)
    end = None if seconds is None else time.monotonic() + seconds
    with association:
        domain, path = _path(association, target, "RCB")
        subscription = reports.Subscription(association, reports.find_block(association, domain, path))
        chosen = sum(reports.TRIGGERS[name] for name in triggers) if triggers else None
        subscription.enable(triggers=chosen, integrity=integrity, entry=entry, purge=purge, interrogate=not no_gi)
        shown = 0
        try:
            while (count is None or shown < count) and (end is None or time.monotonic() < end):
                message = subscription.next(_REPORT_WAIT)
                if message is not None:
                    shown += 1
                    click.echo(msgspec.json.encode(message) if as_json else "\n".join(_lines(message)))
        finally:
            subscription.disable()


def _lines(message: reports.Message) -> Iterator[str]:
    more = {
        "entry": message.entry,
        "sqNum": message.sequence,
        "confRev": message.revision,
        "segment": message.segment,
        "overflow": message.overflow or None,
    }
    told = "  ".join(f"{name} {value}" for name, value in more.items() if value is not None)
    yield f"{time_text(message.time)}  {message.report_id}  {told}"
    for each in message.values:
        value = "  ".join(f"{name} {part}" for name, part in _flat(each.value)) or each.value
        yield f"  {each.member}  {value}  ({', '.join(each.reasons)})"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of an object with their paths; of one alone nothing."""
    if isinstance(value, dict):
        for name, below in value.items():
            inner = f"{path}.{name}" if path else name
            yield from _flat(below, inner) if isinstance(below, dict) else [(inner, below)]


@mms.command(name="control")
@click.argument("url")
@click.argument("value")
@click.option("--category", type=click.Choice(list(CATEGORIES)), default="remote-control", show_default=True)
@click.option("--identity", default="flexmap", show_default=True, help="Originator's identity.")
@click.option("--test", is_flag=True, help="Marked as test: nothing moves.")
@click.option("--interlock", is_flag=True, help="Ask for the interlocking check.")
@click.option("--synchrocheck", is_flag=True, help="Ask for the synchronism check.")
@_access
@_json
def control_command(
    *,
    url: str,
    value: str,
    category: str,
    identity: str,
    test: bool,
    interlock: bool,
    synchrocheck: bool,
    access: Access,
    as_json: bool,
) -> None:
    """Give a command, in the model that the object has: mms://HOST:PORT/LD/LN.DO on|off|NUMBER.

    Exits with 1 if it was refused or failed.
    """
    association, target = access.open(url)
    order = Order(
        value=value,
        category=CATEGORIES[category],
        identity=identity,
        test=test,
        interlock=interlock,
        synchrocheck=synchrocheck,
    )
    with association:
        domain, path = _path(association, target, "DO")
        outcome = control(association, domain, path, order)
    if as_json:
        click.echo(output.json(outcome))
    elif outcome.done:
        click.echo(f"done ({outcome.model}, {outcome.seconds:.2f} s)")
    if not outcome.done:
        raise RemoteError(f"{target.path} ({outcome.model}): {outcome.stage} refused: {outcome.cause}")
