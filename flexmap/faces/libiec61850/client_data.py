"""The library's values and types as plain data."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

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

_QUALITY_BITS = 13
_DBPOS_BITS = 2


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
