"""SED: what one project gives another of its IEDs, and with which right (IEC 61850-6 clause 7 and annex G)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from flexmap.model import ConfigurationError
from flexmap.scl.document import Document, remove, tag
from flexmap.scl.typeset import needed, prune


class Right(enum.StrEnum):
    """What the other project may do to an IED: ``engRight``."""

    FIX = "fix"
    """Nothing: it is there to be referred to."""
    DATAFLOW = "dataflow"
    """Add data sets, control blocks and clients, as far as the IED's services allow."""
    FULL = "full"
    """Everything."""


def exchange(project: Document, ieds: Sequence[str], right: Right, owner: str | None = None) -> None:
    """Leave of a project what describes these IEDs to another: they, their addresses, types and functions.

    ``owner`` is the project that they belong to; the id of the header if not given. References to IEDs that are
    left out stay, so that they are there when the file comes back. Raises ConfigurationError if there is no such
    IED.
    """
    root = project.root
    present = [ied.get("name", "") for ied in root.iterchildren(tag("IED"))]
    missing = [name for name in ieds if name not in present]
    if missing or not ieds:
        what = f"there is no IED '{missing[0]}'" if missing else "no IED is named"
        raise ConfigurationError(what, where=project.where, remedy=f"name some of {', '.join(present)}")
    header = next(root.iterchildren(tag("Header")), None)
    belongs = owner or (header.get("id") if header is not None else None)
    before = needed(root)
    for ied in list(root.iterchildren(tag("IED"))):
        if ied.get("name") not in ieds:
            remove(ied)
            continue
        ied.set("engRight", right)
        if belongs and ied.get("owner") is None:
            ied.set("owner", belongs)
    for element in [*root.iter(tag("ConnectedAP")), *root.iter(tag("LNode"))]:
        if element.get("iedName") not in ieds:
            remove(element)
    for network in list(root.iter(tag("SubNetwork"))):
        if next(network.iterchildren(tag("ConnectedAP")), None) is None:
            remove(network)
    for section in list(root.iterchildren(*map(tag, ("Substation", "Line", "Process")))):
        if next(section.iterdescendants(tag("LNode")), None) is None:
            remove(section)
    prune(root, before)
