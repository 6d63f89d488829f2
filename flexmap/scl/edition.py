"""Editions of IEC 61850-6: what ``version``, ``revision`` and ``release`` of the root say."""

from __future__ import annotations

from lxml import etree

EDITIONS = {
    "2003": "Edition 1",
    "2007A": "Edition 2",
    "2007B": "Edition 2 with corrections, up to release 3",
    "2007B4": "Edition 2.1",
    "2007C5": "IEC 61850-6:2025",
}
"""Editions that are told apart, by the name that the standard gives their schema."""


def edition(root: etree._Element) -> str:
    """Return the name of a document's edition, for example ``2007B4``; without attributes it is ``2003``.

    If it is none of :data:`EDITIONS`, the three attributes stand in one word as they are.
    """
    version, revision, release = (root.get(name, "") for name in ("version", "revision", "release"))
    if version in {"", "2003"}:
        return "2003"
    if (version, revision) == ("2007", "A") or ((version, revision) == ("2007", "B") and release in _BEFORE_4):
        return version + revision
    return f"{version}{revision}{release}"


_BEFORE_4 = {"", "1", "2", "3"}
