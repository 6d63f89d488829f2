"""Rules for names: lengths, what a file of its kind calls its IED, duplicates, bindings of the substation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flexmap.scl.generate import TEMPLATE, FileKind
from flexmap.scl.rules.context import Context, Element, child, children, descendants, node_name, number

MAX_LD_NAME = 64
LD_NAME_ALL_TOOLS = 32
_LIMITS = {
    "DO": ("name", 12),
    "DataSet": ("name", 32),
    "ReportControl": ("name", 32),
    "LogControl": ("name", 32),
    "GSEControl": ("name", 32),
    "SampledValueControl": ("name", 32),
    "AccessPoint": ("name", 32),
    "IED": ("name", 64),
    "LDevice": ("inst", 64),
    "LN": ("prefix", 11),
}
_SINGLE = frozenset({FileKind.ICD, FileKind.IID, FileKind.CID})


def check(context: Context) -> None:
    """Check the names of IEDs, logical devices, nodes, data sets and control blocks."""
    _check_kind(context)
    for name, (attribute, limit) in _LIMITS.items():
        for element in descendants(context.root, name):
            text = element.get(attribute) or ""
            if len(text) > limit:
                what = f"{name} {attribute} '{text}' has {len(text)} characters"
                context.error("name-length", element, what, f"use at most {limit}")
    for ied in context.ieds:
        _check_ied(context, ied)
    _duplicates(context, context.ieds, lambda ied: ied.get("name", ""), "IED")
    _check_substation(context)


def _check_kind(context: Context) -> None:
    names = [ied.get("name", "") for ied in context.ieds]
    if not context.ieds:
        if context.kind in _SINGLE:
            context.error("ied-count", context.root, "there is no IED", "an ICD, IID or CID describes exactly one")
        return
    if context.kind in _SINGLE and len(names) > 1:
        context.error("ied-count", context.ieds[1], f"there are {len(names)} IEDs", "keep exactly one")
    for ied, name in zip(context.ieds, names, strict=True):
        if context.kind is FileKind.ICD and name != TEMPLATE:
            context.error("ied-name", ied, f"an ICD describes a product, not '{name}'", f"name the IED {TEMPLATE}")
        if context.kind not in {FileKind.ICD, None} and name == TEMPLATE:
            what = f"the IED of a {context.kind.upper()} is still called {TEMPLATE}"
            context.error("ied-name", ied, what, "give it a name of its own")
        if name == "None" or not name[:1].isalpha():
            context.error("ied-name", ied, f"'{name}' is not an IED name", "a letter first, and not None")


def _check_ied(context: Context, ied: Element) -> None:
    ied_name = ied.get("name", "")
    devices = list(context.devices(ied))
    limit = max(MAX_LD_NAME, number(_name_length(ied), MAX_LD_NAME))
    for device in devices:
        name = device.get("ldName") or f"{ied_name}{device.get('inst', '')}"
        if len(name) > limit:
            what = f"logical device name '{name}' has {len(name)} characters"
            context.error("name-length", device, what, f"shorten IED name or inst to {limit} together")
        elif len(name) > LD_NAME_ALL_TOOLS:
            what = (
                f"logical device name '{name}' has {len(name)} characters; some tools stop at {LD_NAME_ALL_TOOLS}"
            )
            context.warning("name-length", device, what, "shorten IED name or inst")
        _duplicates(context, children(device, "LN"), node_name, "logical node")
        for node in children(device, "LN0", "LN"):
            for kind in ("DataSet", "ReportControl", "LogControl", "DOI"):
                _duplicates(context, children(node, kind), lambda e: e.get("name", "") + e.get("ix", ""), kind)
    _duplicates(context, devices, lambda device: device.get("inst", ""), "logical device")


def _name_length(ied: Element) -> str | None:
    services = child(ied, "Services")
    return services.get("nameLength") if services is not None else None


def _duplicates(context: Context, elements: Iterable[Element], key: Callable[[Element], str], what: str) -> None:
    seen: dict[str, Element] = {}
    for element in elements:
        name = key(element)
        if name in seen:
            context.error("duplicate", element, f"{what} '{name}' stands already", "rename one", see=seen[name])
        seen.setdefault(name, element)


def _check_substation(context: Context) -> None:
    """Each LNode of the single-line structure names a node that an IED has."""
    known = {
        (ied.get("name"), device.get("inst"), node_name(node))
        for ied in context.ieds
        for device in context.devices(ied)
        for node in children(device, "LN0", "LN")
    }
    for substation in children(context.root, "Substation", "Line", "Process"):
        for reference in descendants(substation, "LNode"):
            ied = reference.get("iedName", "None")
            if ied == "None" or (ied, reference.get("ldInst", ""), node_name(reference)) in known:
                continue
            what = f"LNode {ied}{reference.get('ldInst', '')}/{node_name(reference)}: no IED has it"
            context.error("lnode-dangling", reference, what, "name a node of an IED, or iedName None")
