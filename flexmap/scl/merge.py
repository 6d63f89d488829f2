"""Put an IED of one file into another: its section, its addresses, and the types that it needs."""

from __future__ import annotations

from copy import deepcopy

import msgspec
from lxml import etree

from flexmap.model import ConfigurationError
from flexmap.scl.communication import Address, write_address
from flexmap.scl.document import Document, add, insert, local, remove, tag
from flexmap.scl.edition import EDITIONS, edition
from flexmap.scl.generate import TEMPLATE
from flexmap.scl.rename import rename
from flexmap.scl.typeset import TypeMerge, needed, prune, types_of

_ORDER = ("Private", "Header", "Substation", "Process", "Line", "Communication", "IED", "DataTypeTemplates")
"""Order of the sections of a document."""
_PLACEHOLDERS = frozenset({"127.0.0.1", "0.0.0.0"})  # noqa: S104 -- compared with, never bound


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge has done."""

    ied: str
    shared: int
    """Types that the project had already."""
    added: int
    renamed: dict[str, str]
    """New id of each type whose id was taken by another type."""
    notes: tuple[str, ...]
    """What is left to the engineer."""


def merge(
    project: Document,
    source: Document,
    *,
    ied: str | None = None,
    name: str | None = None,
    address: Address | None = None,
    replace: bool = False,
) -> Merged:
    """Put an IED of ``source`` into ``project``, which is changed; ``source`` is used up.

    ``ied`` chooses one of several IEDs; ``name`` is its name in the project, needed if it is called TEMPLATE.
    ``address`` takes the place of the one in the file. With ``replace`` an IED of that name gives way. Raises
    ConfigurationError, with the line, if the name is taken, an address is taken, or the source is of a later
    edition than the project.
    """
    section = _chosen(source, ied)
    _check_editions(project, source)
    _rename(source, section, name)
    ied_name = section.get("name", "")
    if address is not None:
        _readdress(source, section, address)
    notes: list[str] = []
    before = needed(project.root) if replace else set()
    _make_room(project, section, replace=replace, notes=notes)
    _state_edition(section, source, project)
    types = TypeMerge(_section(project, "DataTypeTemplates"), types_of(source.root))
    types.take(section)
    _connect(project, source, ied_name, notes)
    _insert(project.root, section)
    prune(project.root, before)
    if any(True for _ in source.root.iterchildren(tag("Substation"))):
        notes.append("the Substation section of the file is not taken over; bind its LNodes in the project's own")
    return Merged(ied=ied_name, shared=types.shared, added=types.added, renamed=types.renamed, notes=tuple(notes))


def _chosen(source: Document, ied: str | None) -> etree._Element:
    sections = list(source.root.iterchildren(tag("IED")))
    names = [section.get("name", "") for section in sections]
    if ied is None and len(sections) == 1:
        return sections[0]
    for section, name in zip(sections, names, strict=True):
        if name == ied:
            return section
    what = f"there is no IED '{ied}'" if ied is not None else f"there are {len(sections)} IEDs"
    remedy = f"choose one of {', '.join(names)}" if names else "name a file with an IED"
    raise ConfigurationError(what, where=source.where, remedy=remedy)


def _check_editions(project: Document, source: Document) -> None:
    order = list(EDITIONS)
    ours, theirs = edition(project.root), edition(source.root)
    if ours in order and theirs in order and order.index(theirs) > order.index(ours):
        what = f"the file is of edition {theirs}, the project of {ours}"
        remedy = "raise the project to that edition with its own tool first"
        raise ConfigurationError(what, where=source.where, remedy=remedy)


def _rename(source: Document, section: etree._Element, name: str | None) -> None:
    current = section.get("name", "")
    if name is None and current == TEMPLATE:
        remedy = "say how it is called in the project: --name NAME"
        raise source.refuse(section, f"the IED is still called {TEMPLATE}", remedy)
    if name is not None and name != current:
        rename(source.root, current, name)


def _make_room(project: Document, section: etree._Element, *, replace: bool, notes: list[str]) -> None:
    name = section.get("name", "")
    present = next((ied for ied in project.root.iterchildren(tag("IED")) if ied.get("name") == name), None)
    if present is None:
        if replace:
            raise ConfigurationError(
                f"there is no IED '{name}' to replace", where=project.where, remedy="leave --replace out"
            )
        return
    if not replace:
        remedy = "give it another name with --name, or replace the one there with --replace"
        raise project.refuse(present, f"there is an IED '{name}' already", remedy)
    right = present.get("engRight", "full")
    if right != "full":
        remedy = f"ask {present.get('owner') or 'its owner'} for a file with the right 'full'"
        raise project.refuse(present, f"the project has only the right '{right}' to IED '{name}'", remedy)
    remove(present)
    if any(True for _ in project.root.iter(tag("LNode"))):
        notes.append(f"IED '{name}' was replaced: check LNodes and inputs that name it (flexmap scl check)")


def _state_edition(section: etree._Element, source: Document, project: Document) -> None:
    """Note the edition that the IED's own tool wrote, where the project's edition has a place for that."""
    if edition(project.root) == "2003" or section.get("originalSclVersion") is not None:
        return
    root = source.root
    section.set("originalSclVersion", root.get("version", "2003"))
    section.set("originalSclRevision", root.get("revision", "A"))
    if edition(project.root) not in {"2007A", "2007B"}:
        section.set("originalSclRelease", root.get("release", "1"))


def _section(project: Document, name: str) -> etree._Element:
    """Return a section of the project, made where it is missing."""
    found = next(project.root.iterchildren(tag(name)), None)
    if found is None:
        found = etree.Element(tag(name))
        _insert(project.root, found)
    return found


def _insert(root: etree._Element, element: etree._Element) -> None:
    """Put a section behind those of its kind, and before those that follow it."""
    rank = _ORDER.index(local(element))
    behind = 0
    for position, child in enumerate(root, 1):
        if isinstance(child.tag, str) and local(child) in _ORDER and _ORDER.index(local(child)) <= rank:
            behind = position
    insert(root, behind, element)


def _connect(project: Document, source: Document, name: str, notes: list[str]) -> None:
    """Take over the addresses of the IED, each into the subnetwork of its name, else of its type."""
    communication = _section(project, "Communication")
    present = {(c.get("iedName", ""), c.get("apName", "")): c for c in communication.iter(tag("ConnectedAP"))}
    taken = {_place(connected): connected for connected in present.values()}
    networks = list(communication.iterchildren(tag("SubNetwork")))
    found = False
    for connected in list(source.root.iter(tag("ConnectedAP"))):
        if connected.get("iedName") != name:
            continue
        found = True
        key = (name, connected.get("apName", ""))
        if key in present:
            notes.append(f"access point {key[1]} keeps the address that the project has given it")
            continue
        _check_place(connected, taken, project, notes)
        network = _network(communication, networks, connected)
        insert(network, len(network), deepcopy(connected))
    if not found:
        notes.append(f"the file has no address for IED '{name}'; add its ConnectedAP to Communication")


def _readdress(source: Document, section: etree._Element, address: Address) -> None:
    """Put an address into the one connected access point of the IED."""
    name = section.get("name", "")
    points = [connected for connected in source.root.iter(tag("ConnectedAP")) if connected.get("iedName") == name]
    if len(points) != 1:
        remedy = "leave --address out, and set the addresses in the project"
        raise source.refuse(section, f"IED '{name}' has {len(points)} connected access points, not one", remedy)
    (connected,) = points
    written = etree.Element(connected.tag)
    write_address(written, address)
    present = next(connected.iterchildren(tag("Address")), None)
    if present is not None:
        position = connected.index(present)
        remove(present)
        connected.insert(position, written[0])
    else:
        connected.insert(0, written[0])


def _check_place(
    connected: etree._Element,
    taken: dict[tuple[str, str] | None, etree._Element],
    project: Document,
    notes: list[str],
) -> None:
    place = _place(connected)
    if place is None:
        return
    if place[0] in _PLACEHOLDERS:
        notes.append(f"access point {connected.get('apName')} has the placeholder {place[0]} for an address")
    elif place in taken:
        other = taken[place]
        what = f"the address {place[0]}, port {place[1]} is that of IED '{other.get('iedName')}'"
        raise project.refuse(other, what, "give one of them another address")


def _place(connected: etree._Element) -> tuple[str, str] | None:
    parameters = {
        p.get("type"): (p.text or "").strip() for p in connected.iterfind(f"{tag('Address')}/{tag('P')}")
    }
    host = next((parameters[name] for name in ("IP", "IPv6", "DNSName") if parameters.get(name)), None)
    return None if host is None else (host, parameters.get("MMS-Port", "102"))


def _network(
    communication: etree._Element, networks: list[etree._Element], connected: etree._Element
) -> etree._Element:
    """Return the project's subnetwork for a connected access point of the file, made where none fits."""
    theirs = connected.getparent()
    name, kind = ("", None) if theirs is None else (theirs.get("name", ""), theirs.get("type"))
    for network in networks:
        if network.get("name") == name:
            return network
    same = [network for network in networks if kind is not None and network.get("type") == kind]
    if len(same) == 1:
        return same[0]
    network = add(communication, "SubNetwork", name=name, type=kind)
    networks.append(network)
    return network
