"""What a change breaks: control blocks that send something else, whom it concerns, and whether confRev says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from flexmap.scl.document import Document, local, tag
from flexmap.scl.rules.context import node_name
from flexmap.scl.summary import CONTROLS, Control, Ied, Leaf, Node, Summary

STEP = 10_000
"""What engineering tools add to confRev at a change; a running server counts by one."""


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """A control block, data or an address that those who use it will find different."""

    reference: str
    """``FLEX1/MTR01/LLN0.brEnergy``, or ``FLEX1/AP1`` for an address."""
    why: tuple[str, ...]
    concerns: tuple[str, ...]
    """Clients, subscribers and inputs that the old or the new file names; empty if it names none."""
    old_revision: int | None = None
    new_revision: int | None = None
    must_rise: bool = False
    """confRev has to be greater than it is in the new file."""


def impacts(old: Summary, new: Summary) -> Iterator[Impact]:
    """Return what the change from ``old`` to ``new`` breaks."""
    users = _Users(old, new)
    shapes = _Shapes(old), _Shapes(new)
    for name, before in old.ieds.items():
        after = new.ieds.get(name)
        if after is None:
            found = users.of_ied(name)
            if found:
                yield Impact(reference=name, why=("the IED is gone",), concerns=found)
            continue
        for inst, nodes in before.devices.items():
            others = after.devices.get(inst, {})
            for node_name_, node in nodes.items():
                other = others.get(node_name_)
                for block, control in node.controls.items():
                    reference = f"{name}/{inst}/{node_name_}.{block}"
                    present = other.controls.get(block) if other is not None else None
                    concerns = users.of_block(name, inst, block, control, present)
                    if other is None or present is None:
                        yield Impact(
                            reference=reference,
                            why=("the control block is gone",),
                            concerns=concerns,
                            old_revision=control.revision,
                        )
                        continue
                    why = tuple(_sent(before, after, (node, other), (control, present), shapes))
                    if why:
                        yield Impact(
                            reference=reference,
                            why=why,
                            concerns=concerns,
                            old_revision=control.revision,
                            new_revision=present.revision,
                            must_rise=present.data_set is not None and present.revision <= control.revision,
                        )
        yield from _inputs(name, before, after, users)
    yield from _addresses(old, new, users)


def _sent(
    before: Ied,
    after: Ied,
    nodes: tuple[Node, Node],
    controls: tuple[Control, Control],
    shapes: tuple[_Shapes, _Shapes],
) -> Iterator[str]:
    """Return why what a control block sends is different."""
    old, new = controls
    if old.data_set != new.data_set:
        yield f"data set '{old.data_set}' becomes '{new.data_set}'"
    for key in ("rptID", "appID", "smvID"):
        if old.settings.get(key) != new.settings.get(key):
            yield f"{key} changed"
    members = [
        node.data_sets.get(control.data_set or "", ()) for node, control in zip(nodes, controls, strict=True)
    ]
    if members[0] != members[1]:
        removed, added = without(members[0], members[1]), without(members[1], members[0])
        if removed:
            yield f"{len(removed)} members removed from its data set, {removed[0]} first"
        if added:
            yield f"{len(added)} members added to its data set, {added[0]} first"
        if not removed and not added:
            yield "members of its data set stand in another order"
    present = set(members[1])
    for member in members[0]:
        if member in present and shapes[0].of(before, member) != shapes[1].of(after, member):
            yield f"the type of member {member} changed"


def without(members: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the members that are not among the others, in their order."""
    known = set(others)
    return [member for member in members if member not in known]


class _Shapes:
    """What a data set's member looks like on the wire: names, types and order of its attributes."""

    def __init__(self, summary: Summary) -> None:
        self._types = summary.types
        self._known: dict[tuple[str, str], tuple[Leaf, ...]] = {}

    def of(self, ied: Ied, member: str) -> tuple[Leaf, ...] | None:
        inst, _, rest = member.partition("/")
        name, _, path = rest.partition(".")
        node = ied.devices.get(inst, {}).get(name)
        if node is None:
            return None
        key = (node.type, path)
        if key not in self._known:
            path, _, fc = path.rstrip("]").partition("[")
            self._known[key] = tuple(
                leaf
                for leaf in self._types.get(node.type, ())
                if leaf.fc == fc and (leaf.path == path or leaf.path.startswith(f"{path}."))
            )
        return self._known[key]


class _Users:
    """Who uses what, by the inputs and clients of both files."""

    def __init__(self, old: Summary, new: Summary) -> None:
        self._by_block: dict[str, dict[str, None]] = {}
        self._by_ied: dict[str, dict[str, None]] = {}
        for summary in (old, new):
            for name, ied in summary.ieds.items():
                for inst, nodes in ied.devices.items():
                    for node_name_, node in nodes.items():
                        for reference in node.inputs:
                            self._add(reference, name, f"{name}/{inst}/{node_name_}")
                        for control in node.controls.values():
                            for client in control.clients:
                                self._by_ied.setdefault(name, {})[client] = None

    def _add(self, reference: str, own: str, user: str) -> None:
        ied, data, block = reference.split("|")
        source = own if ied == "@" else ied
        self._by_block.setdefault(f"{source}/{block or data}", {})[f"input of {user}"] = None
        self._by_ied.setdefault(source, {})[f"input of {user}"] = None

    def of_ied(self, name: str) -> tuple[str, ...]:
        return tuple(self._by_ied.get(name, {}))

    def of_block(self, ied: str, inst: str, block: str, *controls: Control | None) -> tuple[str, ...]:
        clients = [client for control in controls if control is not None for client in control.clients]
        return tuple(dict.fromkeys([*clients, *self._by_block.get(f"{ied}/{inst}/{block}", {})]))

    def of_data(self, ied: str, prefix: str) -> tuple[str, ...]:
        place = f"{ied}/{prefix}"
        found = [users for key, users in self._by_block.items() if key == place or key.startswith(f"{place}.")]
        return tuple(dict.fromkeys(user for users in found for user in users))


def _inputs(name: str, before: Ied, after: Ied, users: _Users) -> Iterator[Impact]:
    """Return the data that inputs name and that are gone with their logical node."""
    for inst, nodes in before.devices.items():
        others = after.devices.get(inst, {})
        for node in nodes:
            found = users.of_data(name, f"{inst}/{node}") if node not in others else ()
            if found:
                yield Impact(reference=f"{name}/{inst}/{node}", why=("the data are gone",), concerns=found)


def _addresses(old: Summary, new: Summary, users: _Users) -> Iterator[Impact]:
    for name, before in old.addresses.items():
        ied = name.partition("/")[0]
        after = new.addresses.get(name)
        if before != after and ied in new.ieds:
            why = "the address is gone" if after is None else "the address changed"
            yield Impact(reference=name, why=(why,), concerns=users.of_ied(ied))


def raise_revisions(parsed: Document, found: tuple[Impact, ...]) -> dict[str, int]:
    """Raise confRev in the new file where it has to rise; return the new ones by control block."""
    wanted = {impact.reference: impact for impact in found if impact.must_rise}
    raised: dict[str, int] = {}
    for ied in parsed.root.iterchildren(tag("IED")):
        for device in ied.iter(tag("LDevice")):
            for node in device.iterchildren(tag("LN0"), tag("LN")):
                for control in node.iterchildren(*map(tag, CONTROLS)):
                    place = f"{ied.get('name')}/{device.get('inst')}/{node_name(node)}.{control.get('name')}"
                    impact = wanted.get(place)
                    if impact is not None and local(control) != "LogControl":
                        raised[place] = max(impact.old_revision or 0, impact.new_revision or 0) + STEP
                        control.set("confRev", str(raised[place]))
    return raised
