"""What changed between two SCL files, in the words of an engineer, and what the changes break."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from flexmap.scl.impact import Impact, impacts, without
from flexmap.scl.summary import Control, Ied, Leaf, Node, Summary

_T = TypeVar("_T")


class Change(msgspec.Struct, frozen=True):
    """One change."""

    where: str
    """What changed: ``FLEX1/MTR01/LLN0``."""
    what: str


class Difference(msgspec.Struct, frozen=True):
    """What changed, and what that breaks."""

    changes: tuple[Change, ...]
    impacts: tuple[Impact, ...]


def diff(old: Summary, new: Summary) -> Difference:
    """Return the changes from ``old`` to ``new``; order that means nothing, ids of types and blanks are none."""
    changes = [
        *_fields("file", {"edition": old.edition}, {"edition": new.edition}),
        *_fields("header", old.header, new.header),
        *_ieds(old, new),
        *_pairs(old.addresses, new.addresses, _address),
        *_pairs(old.functions, new.functions, _function),
    ]
    return Difference(tuple(changes), tuple(impacts(old, new)))


def _pairs(
    old: Mapping[str, _T], new: Mapping[str, _T], compare: Callable[[str, _T | None, _T | None], Iterator[Change]]
) -> Iterator[Change]:
    """Compare what two mappings have under each name, in the order of the old one, then what is new."""
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield from compare(name, before, after)


def _fields(where: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None:
            yield Change(where, f"{name} is now '{after}'")
        elif after is None:
            yield Change(where, f"{name} is gone (was '{before}')")
        else:
            yield Change(where, f"{name}: '{before}' becomes '{after}'")


def _address(name: str, old: dict[str, str] | None, new: dict[str, str] | None) -> Iterator[Change]:
    if old is None:
        yield Change(name, "address added")
    elif new is None:
        yield Change(name, "address removed")
    else:
        for change in _fields(name, old, new):
            yield Change(name, f"address, {change.what}")


def _function(path: str, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> Iterator[Change]:
    before, after = old or (), new or ()
    yield from (Change(path, f"logical node {node} is no longer bound here") for node in without(before, after))
    yield from (Change(path, f"logical node {node} is now bound here") for node in without(after, before))


def _ieds(old: Summary, new: Summary) -> Iterator[Change]:
    kinds = _Types(old, new)

    def compare(name: str, before: Ied | None, after: Ied | None) -> Iterator[Change]:
        if before is None or after is None:
            yield Change(name, "IED added" if before is None else "IED removed")
            return
        yield from _fields(name, before.attributes, after.attributes)
        for change in _fields(name, before.services, after.services):
            yield Change(name, f"Services: {change.what}")
        yield from _fields(name, *(_names(ied) for ied in (before, after)))
        for inst in dict.fromkeys([*before.devices, *after.devices]):
            yield from _device(f"{name}/{inst}", before.devices.get(inst), after.devices.get(inst), kinds)

    for name in dict.fromkeys([*old.ieds, *new.ieds]):
        yield from compare(name, old.ieds.get(name), new.ieds.get(name))


def _names(ied: Ied) -> dict[str, str]:
    return {f"name of logical device {inst}": name for inst, name in ied.names.items()}


class _Types:
    """Compares the types of nodes, each pair once."""

    def __init__(self, old: Summary, new: Summary) -> None:
        self._old, self._new = old.types, new.types
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}

    def changes(self, old: str, new: str) -> tuple[str, ...]:
        """Return what is different in a node's data objects, the ids of its types apart."""
        key = (old, new)
        if key not in self._known:
            self._known[key] = tuple(_type_changes(self._old.get(old, ()), self._new.get(new, ())))
        return self._known[key]


def _type_changes(old: tuple[Leaf, ...], new: tuple[Leaf, ...]) -> Iterator[str]:
    if old == new:
        return
    before, after = {leaf.path: leaf for leaf in old}, {leaf.path: leaf for leaf in new}
    objects = {leaf.path.partition(".")[0] for leaf in old}, {leaf.path.partition(".")[0] for leaf in new}
    yield from (f"data object {name} removed" for name in sorted(objects[0] - objects[1]))
    yield from (f"data object {name} added" for name in sorted(objects[1] - objects[0]))
    both = objects[0] & objects[1]
    for path, leaf in before.items():
        if path.partition(".")[0] not in both:
            continue
        other = after.get(path)
        if other is None:
            yield f"attribute {path} removed"
        elif other != leaf:
            yield from _leaf_changes(path, leaf, other)
    for path in after:
        if path not in before and path.partition(".")[0] in both:
            yield f"attribute {path} added"
    common = [path for path in before if path in after]
    if common != [path for path in after if path in before]:
        yield "attributes stand in another order"


def _leaf_changes(path: str, old: Leaf, new: Leaf) -> Iterator[str]:
    if old.fc != new.fc:
        yield f"attribute {path}: functional constraint {old.fc} becomes {new.fc}"
    if old.basic_type != new.basic_type:
        yield f"attribute {path}: type {old.basic_type} becomes {new.basic_type}"
    if old.detail != new.detail:
        yield f"attribute {path}: value, count or literals of its type changed"


def _device(
    where: str, old: dict[str, Node] | None, new: dict[str, Node] | None, kinds: _Types
) -> Iterator[Change]:
    if old is None or new is None:
        yield Change(where, "logical device added" if old is None else "logical device removed")
        return
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            yield Change(f"{where}/{name}", "logical node added" if before is None else "logical node removed")
        else:
            yield from _node(f"{where}/{name}", before, after, kinds)


def _node(where: str, old: Node, new: Node, kinds: _Types) -> Iterator[Change]:
    yield from (Change(where, what) for what in kinds.changes(old.type, new.type))
    if old is new or old == new:
        return
    yield from _fields(where, old.values, new.values)
    for change in _fields(where, old.bindings, new.bindings):
        yield Change(where, f"binding of {change.what}")
    for name in dict.fromkeys([*old.data_sets, *new.data_sets]):
        yield from _data_set(f"{where}.{name}", old.data_sets.get(name), new.data_sets.get(name))
    for name in dict.fromkeys([*old.controls, *new.controls]):
        yield from _control(f"{where}.{name}", old.controls.get(name), new.controls.get(name))
    yield from (Change(where, f"input {_input(gone)} removed") for gone in without(old.inputs, new.inputs))
    yield from (Change(where, f"input {_input(come)} added") for come in without(new.inputs, old.inputs))


def _input(reference: str) -> str:
    ied, data, block = reference.split("|")
    return f"{ied}{data}" + (f" from {block}" if block else "")


def _data_set(where: str, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> Iterator[Change]:
    if old is None or new is None:
        yield Change(where, "data set added" if old is None else "data set removed")
        return
    removed, added = without(old, new), without(new, old)
    yield from (Change(where, f"member {member} removed") for member in removed)
    yield from (Change(where, f"member {member} added") for member in added)
    if without(old, removed) != without(new, added):
        yield Change(where, "members stand in another order")


def _control(where: str, old: Control | None, new: Control | None) -> Iterator[Change]:
    if old is None or new is None:
        present = new if old is None else old
        kind = "" if present is None else present.kind
        yield Change(where, f"{kind} added" if old is None else f"{kind} removed")
        return
    if old.data_set != new.data_set:
        yield Change(where, f"data set '{old.data_set}' becomes '{new.data_set}'")
    if old.revision != new.revision:
        yield Change(where, f"confRev {old.revision} becomes {new.revision}")
    yield from _fields(where, old.settings, new.settings)
    yield from (Change(where, f"client {client} removed") for client in without(old.clients, new.clients))
    yield from (Change(where, f"client {client} added") for client in without(new.clients, old.clients))
