"""A file that an engineering tool wrote, as what a server is made of: the IED, its address, what is bound to what.

The file rules: names, data sets, control blocks, initial values and addresses are its own. What it asks beyond the
engine's abilities is refused, with the line, the reason and the way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from lxml import etree

from flexmap.mapping import cdc
from flexmap.model import ConfigurationError, LocalError, Reference, Register
from flexmap.scl import document
from flexmap.scl.abilities import Abilities
from flexmap.scl.binding import parse_binding
from flexmap.scl.check import check
from flexmap.scl.communication import MMS_PORT, Address
from flexmap.scl.document import Document, tag
from flexmap.scl.finding import Severity
from flexmap.scl.generate import TEMPLATE
from flexmap.scl.rules.context import Context, node_name

Registers = tuple[Register, ...]

_UNABLE = {
    "GSEControl": "goose",
    "SampledValueControl": "sampled_values",
    "LogControl": "logs",
    "SettingControl": "setting_groups",
}
"""Elements that need an ability of the engine."""
_HARMLESS = frozenset(
    {
        "access-point",
        "ied-count",
        "ied-name",
        "name-length",
        "namespace-missing",
        "report-id",
        "report-revision",
        "root-device",
        "services-count",
        "client-dangling",
        "extref-dangling",
        "schema",
    }
)
"""Rules whose errors are for engineering tools to mend: the file can be served as it is."""


class Binding(msgspec.Struct, frozen=True):
    """A data object of the file that shows a point of a meter."""

    reference: Reference
    line: int


class Engineered(msgspec.Struct, frozen=True, kw_only=True):
    """An IED as a file describes it."""

    where: str
    """The file."""
    scl: bytes
    ied: str
    address: Address | None
    """Where its access point is reached; None if the file does not say."""
    bindings: dict[str, dict[Registers, tuple[Binding, ...]]]
    """What is bound to registers, by ``inst`` of the logical device."""


def load(source: Path, ied: str | None, abilities: Abilities) -> Engineered:
    """Return what a file says of an IED: of the only one, or of the one that is named.

    Raises ConfigurationError, with the line, if the file cannot be read, has no such IED, is not consistent, or
    asks what the engine does not do.
    """
    parsed = document.parse(source)
    section = _section(parsed, ied)
    _check_abilities(parsed, section, abilities)
    _check_consistency(parsed, section, source)
    context = Context(parsed, None, None)
    bindings = {
        device.get("inst", ""): _bindings(context, parsed, device) for device in section.iter(tag("LDevice"))
    }
    return Engineered(
        where=str(source),
        scl=source.read_bytes(),
        ied=section.get("name", ""),
        address=_address(parsed, section),
        bindings=bindings,
    )


def _section(parsed: Document, ied: str | None) -> etree._Element:
    sections = [
        section
        for section in parsed.root.iterchildren(tag("IED"))
        if next(section.iter(tag("LDevice")), None) is not None
    ]
    names = [section.get("name", "") for section in sections]
    chosen = [section for section, name in zip(sections, names, strict=True) if ied in {None, name}]
    if len(chosen) != 1:
        what = f"no IED '{ied}' with a server" if ied is not None else f"{len(sections)} IEDs with a server"
        remedy = f"choose one with --ied: {', '.join(names)}" if names else "name a CID, IID or SCD"
        raise ConfigurationError(what, where=parsed.where, remedy=remedy)
    (section,) = chosen
    if section.get("name") == TEMPLATE:
        remedy = "let the engineering tool write a CID or IID, with a name of its own"
        raise parsed.refuse(section, f"the IED is called {TEMPLATE}: the file describes a product", remedy)
    return section


def _check_abilities(parsed: Document, section: etree._Element, abilities: Abilities) -> None:
    """Refuse what the engine does not do, at the first element that asks for it."""
    for element in section.iter(*map(tag, (*_UNABLE, "RptEnabled"))):
        name = document.local(element)
        if name == "RptEnabled":
            instances = element.get("max", "1")
            if instances.isdecimal() and int(instances) > abilities.max_instances:
                what = f"{instances} instances; the engine '{abilities.engine}' has {abilities.max_instances}"
                raise parsed.refuse(element, what, "let RptEnabled have fewer, or use another engine")
        elif not getattr(abilities, _UNABLE[name]):
            what = f"{name} '{element.get('name', '')}': the engine '{abilities.engine}' does not do that"
            raise parsed.refuse(
                element, what, f"take the {name} out with the engineering tool, or use another engine"
            )
    devices = len(list(section.iter(tag("LDevice"))))
    if devices > abilities.max_logical_devices:
        what = f"{devices} logical devices; the engine '{abilities.engine}' holds {abilities.max_logical_devices}"
        raise parsed.refuse(section, what, "split the IED, or use another engine")


def _check_consistency(parsed: Document, section: etree._Element, source: Path) -> None:
    """Refuse a file whose data sets, control blocks, types or values contradict each other within the IED."""
    following = next(section.itersiblings(etree.Element), None)
    begin = parsed.line_of(section)
    end = parsed.line_of(following) if following is not None else None
    errors = [
        finding
        for finding in check(source, abilities=None)
        if finding.severity is Severity.ERROR
        and finding.rule not in _HARMLESS
        and finding.line >= begin
        and (end is None or finding.line < end)
    ]
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more: flexmap scl check)" if len(errors) > 1 else ""
        where = f"{parsed.where}, line {first.line}"
        raise ConfigurationError(f"{first.what}{more}", where=where, remedy=first.remedy)


def _address(parsed: Document, section: etree._Element) -> Address | None:
    """Return the address of the access point that has the server."""
    points = {
        point.get("name") for point in section.iter(tag("AccessPoint")) if point.find(tag("Server")) is not None
    }
    for connected in parsed.root.iter(tag("ConnectedAP")):
        if connected.get("iedName") != section.get("name") or connected.get("apName") not in points:
            continue
        found = {p.get("type"): p for p in connected.iterfind(f"{tag('Address')}/{tag('P')}")}
        text = {name: (element.text or "").strip() for name, element in found.items()}
        host = next((text[name] for name in ("IP", "IPv6", "DNSName") if text.get(name)), None)
        port = text.get("MMS-Port", str(MMS_PORT))
        if not (port.isdecimal() and 0 < int(port) <= 0xFFFF):
            raise parsed.refuse(found["MMS-Port"], f"'{port}' is not a port", "write MMS-Port from 1 to 65535")
        if host is not None:
            return Address(host=host, port=int(port))
    return None


def _bindings(context: Context, parsed: Document, device: etree._Element) -> dict[Registers, tuple[Binding, ...]]:
    found: dict[Registers, list[tuple[Reference, etree._Element]]] = {}
    for node in device.iterchildren(tag("LN0"), tag("LN")):
        for leaf in node.iterdescendants(tag("DAI")):
            try:
                registers = parse_binding(leaf.get("sAddr") or "")
            except LocalError:
                continue  # none, or the binding of another product
            found.setdefault(registers, []).append((_reference(context, parsed, node, leaf), leaf))
    lines = parsed.lines_of(leaf for places in found.values() for _, leaf in places)
    return {
        registers: tuple(Binding(reference, lines[leaf]) for reference, leaf in places)
        for registers, places in found.items()
    }


def _reference(context: Context, parsed: Document, node: etree._Element, leaf: etree._Element) -> Reference:
    """Return the data object that a bound attribute belongs to; it has to be the one that carries the value."""
    path = [*reversed([above.get("name", "") for above in _above(leaf)]), leaf.get("name", "")]
    ln_type = node.get("lnType", "")
    depth = 1
    while depth < len(path) and context.object_type(ln_type, ".".join(path[: depth + 1])) is not None:
        depth += 1
    object_type = context.object_type(ln_type, path[0])
    kind = "" if object_type is None else object_type.get("cdc", "")
    do = ".".join(path if kind == "DPL" else path[:depth])
    reference = Reference(node_name(node), do, kind)
    attribute = ".".join(path[1:] if kind == "DPL" else path[depth:])
    try:
        expected = cdc.place(reference).attribute
    except LocalError as error:
        raise parsed.refuse(leaf, str(error), "bind a data object of another class") from None
    if attribute != expected:
        what = f"{reference.path}.{attribute} is bound, but values of class {kind} stand in {expected}"
        raise parsed.refuse(leaf, what, f"bind {expected}")
    return reference


def _above(leaf: etree._Element) -> Iterator[etree._Element]:
    yield from leaf.iterancestors(tag("SDI"), tag("DOI"))
