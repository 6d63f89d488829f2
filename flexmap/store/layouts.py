"""Lists of point names, each stored once: what the columns of a block or the values of a row are."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec


class Layouts:
    """The file's numbers of such lists."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._names: dict[int, tuple[str, ...]] = {}

    def number(self, points: Sequence[str]) -> int:
        """Return the number of a list; a new one is given a number."""
        text = msgspec.json.encode(points).decode()
        self._database.execute("INSERT OR IGNORE INTO layout (points) VALUES (?)", (text,))
        (number,) = self._database.execute("SELECT id FROM layout WHERE points = ?", (text,)).fetchone()
        return int(number)

    def names(self, number: int) -> tuple[str, ...]:
        """Return the list that has a number."""
        names = self._names.get(number)
        if names is None:
            (text,) = self._database.execute("SELECT points FROM layout WHERE id = ?", (number,)).fetchone()
            names = self._names[number] = tuple(msgspec.json.decode(text, type=list[str]))
        return names


def fit(stored: Sequence[str], wanted: Sequence[str], values: Sequence[Any], missing: Any) -> tuple[Any, ...]:
    """Put values of stored names into the order of the wanted ones."""
    if stored == wanted:
        return tuple(values)
    known = dict(zip(stored, values, strict=True))
    return tuple(known.get(name, missing) for name in wanted)
