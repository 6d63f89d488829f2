"""The library's values and types as plain data, and where the values of a logical node stand."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import msgspec

from flexmap.faces.libiec61850.ctypes_api import Pointer
from flexmap.faces.mms_client import DataNode, MmsData

TYPES = (
    "ARRAY",
    "STRUCTURE",
    "BOOLEAN",
    "BIT-STRING",
    "INTEGER",
    "UNSIGNED",
    "FLOAT",
    "OCTET-STRING",
    "STRING",
    "GENERALIZED-TIME",
    "BINARY-TIME",
    "BCD",
    "OBJ-ID",
    "STRING",
    "UTC-TIME",
    "ERROR",
)
"""MmsType by number."""

DATA_ERRORS = {
    1: "hardware-fault",
    2: "temporarily-unavailable",
    3: "object-access-denied",
    4: "object-undefined",
    5: "invalid-address",
    6: "type-unsupported",
    7: "type-inconsistent",
    9: "object-access-unsupported",
    10: "object-non-existent",
    11: "object-value-invalid",
}
"""DataAccessError by number (IEC 61850-8-1 clause 8.1.3.4.2)."""

Path = tuple[str, ...]

_QUALITY_BITS = 13
_DBPOS_BITS = 2
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


def node_of(library: ctypes.CDLL, specification: Pointer) -> DataNode:
    """Return an MmsVariableSpecification as a tree."""
    number = library.MmsVariableSpecification_getType(specification)
    name = (library.MmsVariableSpecification_getName(specification) or b"").decode()
    kind = TYPES[number]
    size = library.MmsVariableSpecification_getSize(specification)
    if kind == "BIT-STRING" and abs(size) == _DBPOS_BITS:
        kind = "Dbpos"
    children: tuple[DataNode, ...] = ()
    if kind == "STRUCTURE":
        child = library.MmsVariableSpecification_getChildSpecificationByIndex
        children = tuple(node_of(library, child(specification, index)) for index in range(size))
    return DataNode(name, kind, children)


def data(library: ctypes.CDLL, value: Pointer) -> MmsData:
    """Return an MmsValue as plain data; a UTC time as [milliseconds, time quality]."""
    convert = _CONVERT.get(TYPES[library.MmsValue_getType(value)])
    return None if convert is None else convert(library, value)


def _elements(library: ctypes.CDLL, value: Pointer) -> MmsData:
    size = library.MmsValue_getArraySize(value)
    return [data(library, library.MmsValue_getElement(value, index)) for index in range(size)]


def _bits(library: ctypes.CDLL, value: Pointer) -> MmsData:
    size = library.MmsValue_getBitStringSize(value)
    if size == _DBPOS_BITS:
        return int(library.MmsValue_getBitStringAsIntegerBigEndian(value))
    number = int(library.MmsValue_getBitStringAsInteger(value))
    return number if size == _QUALITY_BITS else f"{number:0{size}b}"[::-1]


def _octets(library: ctypes.CDLL, value: Pointer) -> MmsData:
    buffer = library.MmsValue_getOctetStringBuffer(value)
    return bytes(buffer[: library.MmsValue_getOctetStringSize(value)]).hex()


def _utc_time(library: ctypes.CDLL, value: Pointer) -> MmsData:
    return [int(library.MmsValue_getUtcTimeInMs(value)), int(library.MmsValue_getUtcTimeQuality(value))]


_CONVERT: dict[str, Callable[[ctypes.CDLL, Pointer], MmsData]] = {
    "ARRAY": _elements,
    "STRUCTURE": _elements,
    "BOOLEAN": lambda library, value: bool(library.MmsValue_getBoolean(value)),
    "BIT-STRING": _bits,
    "INTEGER": lambda library, value: int(library.MmsValue_toInt64(value)),
    "UNSIGNED": lambda library, value: int(library.MmsValue_toUint32(value)),
    "FLOAT": lambda library, value: float(library.MmsValue_toDouble(value)),
    "OCTET-STRING": _octets,
    "STRING": lambda library, value: (library.MmsValue_toString(value) or b"").decode(errors="replace"),
    "BINARY-TIME": lambda library, value: int(library.MmsValue_getBinaryTimeAsUtcMs(value)),
    "UTC-TIME": _utc_time,
}


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
