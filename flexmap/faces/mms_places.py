"""Where the values of a logical node stand in the structures that MMS has of it, by functional constraint."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from flexmap.faces.mms_client import DataNode

Path = tuple[str, ...]

_VALUES = (
    ("mag", "f"),
    ("mag", "i"),
    ("cVal", "mag", "f"),
    ("cVal", "mag", "i"),
    ("actVal",),
    ("stVal",),
    ("instMag", "f"),
    ("valWTr", "posVal"),
    ("general",),
    ("setVal",),
)
"""Where a value can stand in a data object, the served one first (IEC 61850-7-3)."""
_VALUE_FCS = ("MX", "ST", "SP", "SE")
_TEXT_FCS = ("DC",)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a logical node; paths are positions in the ``LN$FC`` structures."""

    reference: str
    fc: str
    attribute: str
    type: str
    value: tuple[int, ...]
    quality: tuple[int, ...] | None = None
    time: tuple[int, ...] | None = None
    unit: tuple[int, ...] | None = None
    """In CF, as the two below."""
    multiplier: tuple[int, ...] | None = None
    pulse_quantity: tuple[int, ...] | None = None


def find_places(node: DataNode, path: str) -> list[Place]:
    """Return the values of a logical node at and below a path (``""`` for all of them).

    A path to a data object gives its value, or those of its sub data objects; a path to an attribute gives
    that attribute.
    """
    names = tuple(path.split(".")) if path else ()
    configuration = next((fc for fc in node.children if fc.name == "CF"), None)
    finders = [_Finder(fc, configuration) for fc in node.children]
    found = [place for finder in finders if finder.fc.name in _VALUE_FCS for place in finder.values(names)]
    if not found:
        found = [place for finder in finders if finder.fc.name in _TEXT_FCS for place in finder.texts(names)]
    if not found and names:
        found = [place for finder in finders for place in finder.attribute(names)]
    return found


class _Finder:
    """Finds places under one functional constraint."""

    def __init__(self, fc: DataNode, configuration: DataNode | None) -> None:
        self.fc = fc
        self._configuration = configuration

    def values(self, names: Path) -> Iterator[Place]:
        """Yield the values of the data object at a path, or of those below it."""
        tree = self._at(names)
        if tree is None:
            return
        attribute = next((path for path in _VALUES if names and _descend(tree, path)), None)
        if attribute is not None:
            yield self._place(names, attribute)
            return
        for child in tree.children:
            if child.children:
                yield from self.values((*names, child.name))

    def texts(self, names: Path) -> Iterator[Place]:
        """Yield every basic attribute at and below a path."""
        tree = self._at(names)
        if tree is None:
            return
        if not tree.children:
            yield from self.attribute(names)
        for child in tree.children:
            yield from self.texts((*names, child.name))

    def attribute(self, names: Path) -> Iterator[Place]:
        """Yield the attribute at a path, with the nearest ``q`` and ``t`` above it."""
        if self._at(names) is None:
            return
        above = [names[:length] for length in range(len(names) - 1, 0, -1)]
        parent = next((path for path in above if self._indexes(path, ("q",))), names[:-1])
        place = self._place(parent, names[len(parent) :])
        yield msgspec.structs.replace(place, reference=".".join(names), attribute="")

    def _place(self, names: Path, attribute: Path) -> Place:
        leaf = self._at((*names, *attribute))
        value = self._indexes(names, attribute)
        return Place(
            reference=".".join(names),
            fc=self.fc.name,
            attribute=".".join(attribute),
            type="" if leaf is None else leaf.type,
            value=value or (),
            quality=self._indexes(names, ("q",)),
            time=self._indexes(names, ("t",)),
            unit=self._configured(names, ("units", "SIUnit")),
            multiplier=self._configured(names, ("units", "multiplier")),
            pulse_quantity=self._configured(names, ("pulsQty",)),
        )

    def _at(self, names: Path) -> DataNode | None:
        found = _descend(self.fc, names)
        return None if found is None else found[0]

    def _indexes(self, names: Path, below: Path) -> tuple[int, ...] | None:
        found = _descend(self.fc, (*names, *below))
        return None if found is None else found[1]

    def _configured(self, names: Path, below: Path) -> tuple[int, ...] | None:
        found = None if self._configuration is None else _descend(self._configuration, (*names, *below))
        return None if found is None else found[1]


def _descend(tree: DataNode, names: Path) -> tuple[DataNode, tuple[int, ...]] | None:
    """Return the component at a path, and its positions on the way."""
    indexes = []
    for name in names:
        for index, child in enumerate(tree.children):
            if child.name == name:
                tree = child
                indexes.append(index)
                break
        else:
            return None
    return tree, tuple(indexes)
