"""What the coordinator of a G3-PLC network says of itself."""

from __future__ import annotations

import msgspec

Row = dict[str, str]
"""Fields of a table's row, as text."""


class Coordinator(msgspec.Struct, frozen=True, kw_only=True):
    """The information base of a PAN coordinator at one time; names as in ITU-T G.9903."""

    source: str
    """Name of the source behind it."""
    attributes: dict[str, str] = {}
    """Value by name, as text: a number, ``0b…``, or numbers joined by commas. Empty while nothing is known."""
    tables: dict[str, tuple[Row, ...]] = {}
