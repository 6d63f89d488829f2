"""Give an IED another name: wherever a document refers to it."""

from __future__ import annotations

import re

from lxml import etree

from flexmap.model import ConfigurationError
from flexmap.scl.document import local, tag

_REFERRING = ("LNode", "ConnectedAP", "KDC", "ExtRef", "ClientLN", "Association")
"""Elements that name an IED in ``iedName``."""
_NAME = re.compile(r"(?!None$)[A-Za-z][0-9A-Za-z_]{0,63}")


def check_name(name: str) -> None:
    """Raise ConfigurationError if a text cannot be the name of an IED."""
    if not _NAME.fullmatch(name):
        remedy = "use up to 64 letters, digits and '_', a letter first, not 'None'"
        raise ConfigurationError(f"'{name}' is not an IED name", where="IED name", remedy=remedy)


def rename(root: etree._Element, old: str, new: str) -> int:
    """Rename the IED ``old`` of a document, and return how many places named it.

    References stand in attributes, in ``IEDName``, in ``PhyNam.name``, in object references (``oldLD/LN.DO``), and
    in identifiers that begin like one (``rptID``, ``appID``, ``smvID``). Private elements are left alone.
    Raises ConfigurationError if the new name cannot be one.
    """
    check_name(new)
    changed = 0
    insts = sorted(_insts(root, old), key=len, reverse=True)
    begins = re.compile(rf"(@?){re.escape(old)}(?=(?:{'|'.join(map(re.escape, insts))})/)") if insts else None
    for element in root.iter(etree.Element):
        places = _names(element, old, begins, new)
        if not places or _is_private(element):
            continue
        for attribute, text in places:
            if attribute is None:
                element.text = text
            else:
                element.set(attribute, text)
            changed += 1
    return changed


def _insts(root: etree._Element, name: str) -> set[str]:
    ieds = [ied for ied in root.iterchildren(tag("IED")) if ied.get("name") == name]
    return {device.get("inst", "") for ied in ieds for device in ied.iterdescendants(tag("LDevice"))}


def _names(
    element: etree._Element, old: str, begins: re.Pattern[str] | None, new: str
) -> list[tuple[str | None, str]]:
    """Return what has to change in an element: attribute (None for its text) and new value."""
    kind = local(element)
    if kind == "IED" and element.get("name") == old:
        return [("name", new)]
    if kind in _REFERRING and element.get("iedName") == old:
        return [("iedName", new)]
    if (kind == "IEDName" or _is_device_name(element)) and (element.text or "").strip() == old:
        return [(None, new)]
    found: list[tuple[str | None, str]] = []
    if begins is not None:
        places: list[str | None] = [None] if kind == "Val" else []
        places += ["rptID", "appID", "smvID"] if kind.endswith("Control") else []
        for place in places:
            text = element.text if place is None else element.get(place)
            if text and begins.match(text.strip()):
                found.append((place, begins.sub(rf"\g<1>{new}", text.strip(), count=1)))
    return found


def _is_device_name(element: etree._Element) -> bool:
    """Say whether an element is the value of ``PhyNam.name``."""
    if element.tag != tag("Val"):
        return False
    names = [above.get("name") for above in element.iterancestors(tag("DAI"), tag("DOI"))]
    return names == ["name", "PhyNam"]


def _is_private(element: etree._Element) -> bool:
    return element.tag == tag("Private") or next(element.iterancestors(tag("Private")), None) is not None
