"""MMS data and types off the wire as plain data, in the forms of flexmap.faces.mms_client."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.faces.mms_client import DataNode, MmsData
from flexmap.mms import ber, data
from flexmap.mms.ber import BerError
from flexmap.mms.data import DataAccessError
from flexmap.model import RemoteError, quality

_DBPOS_BITS = 2
_DEEPEST = 12
"""Structures within structures; IEC 61850 has up to seven."""
_STRUCTURE, _ARRAY, _BIT_STRING = 0xA2, 0xA1, 0x84
_KINDS = {
    0x83: "BOOLEAN",
    0x85: "INTEGER",
    0x86: "UNSIGNED",
    0xA7: "FLOAT",
    0x89: "OCTET-STRING",
    0x8A: "STRING",
    0x8B: "GENERALIZED-TIME",
    0x8C: "BINARY-TIME",
    0x8D: "BCD",
    0x8F: "OBJ-ID",
    0x90: "STRING",
    0x91: "UTC-TIME",
}


def node_of(name: str, description: bytes) -> DataNode:
    """Return a TypeDescription as a tree; raises BerError."""
    return _node(name, description, 0, len(description), 0)


def _node(name: str, octets: bytes, at: int, end: int, depth: int) -> DataNode:
    if depth > _DEEPEST:
        raise BerError("a type that is nested too deep")
    tag, begin, stop = ber.element(octets, at, end)
    if tag == _BIT_STRING:
        bits = abs(ber.integer(octets[begin:stop]))
        return DataNode(name, "Dbpos" if bits == _DBPOS_BITS else "BIT-STRING")
    if tag == _ARRAY:
        return DataNode(name, "ARRAY")
    if tag != _STRUCTURE:
        return DataNode(name, _KINDS.get(tag, f"type {tag:#04x}"))
    children = []
    for inner, first, last in ber.elements(octets, begin, stop):
        if inner == 0xA1:
            children = [_component(octets, a, b, depth) for _, a, b in ber.elements(octets, first, last)]
    return DataNode(name, "STRUCTURE", tuple(children))


def _component(octets: bytes, at: int, end: int, depth: int) -> DataNode:
    name, kind = "", (at, at)
    for tag, first, last in ber.elements(octets, at, end):
        if tag == 0x80:
            name = ber.text(octets[first:last])
        elif tag == 0xA1:
            kind = (first, last)
    return _node(name, octets, *kind, depth + 1)


def plain(value: bytes) -> MmsData:
    """Return encoded data as plain data; raises BerError, RemoteError for an access result that failed."""
    return _plain(value, 0, len(value), 0)


def access_error(code: int) -> str:
    """Return the standard's name of a data access error."""
    known = code in DataAccessError.__members__.values()
    return DataAccessError(code).name.lower().replace("_", "-") if known else f"data access error {code}"


def _plain(octets: bytes, at: int, end: int, depth: int) -> MmsData:
    tag, begin, stop = ber.element(octets, at, end)
    if tag == 0x80:
        raise RemoteError(access_error(ber.integer(octets[begin:stop])))
    if tag in {data.ARRAY, data.STRUCTURE}:
        if depth > _DEEPEST:
            raise BerError("data that are nested too deep")
        found: list[MmsData] = []
        while begin < stop:
            _, _, after = ber.element(octets, begin, stop)
            found.append(_plain(octets, begin, after, depth + 1))
            begin = after
        return found
    convert = _CONVERT.get(tag)
    return None if convert is None else convert(octets[at:stop])


def _bits(value: bytes) -> MmsData:
    octets = data.contents(value)
    width = max(0, len(octets) - 1) * 8 - (octets[0] if octets else 0)
    number = data.to_bits(value)
    if width == _DBPOS_BITS:
        return number
    text = f"{number:0{width}b}" if width > 0 else ""
    return int(text[::-1], 2) if width == quality.WIDTH else text


def _utc_time(value: bytes) -> MmsData:
    octets = data.contents(value)
    if len(octets) != 8:
        raise BerError(f"a time stamp of {len(octets)} octets")
    seconds, fraction = int.from_bytes(octets[:4], "big"), int.from_bytes(octets[4:7], "big")
    return [seconds * 1000 + round(fraction * 1000 / (1 << 24)), octets[7]]


def _binary_time(value: bytes) -> MmsData:
    octets = data.contents(value)
    days = int.from_bytes(octets[4:6], "big") + data.BINARY_TIME_EPOCH_DAYS if len(octets) == 6 else 0
    return days * 86_400_000 + int.from_bytes(octets[:4], "big")


_CONVERT: dict[int, Callable[[bytes], MmsData]] = {
    data.BOOLEAN: data.to_boolean,
    data.BIT_STRING: _bits,
    data.INTEGER: data.to_integer,
    data.UNSIGNED: lambda value: int.from_bytes(data.contents(value), "big"),
    data.FLOAT: data.to_float,
    data.OCTET_STRING: lambda value: data.contents(value).hex(),
    data.VISIBLE_STRING: data.to_text,
    data.MMS_STRING: data.to_text,
    data.BINARY_TIME: _binary_time,
    data.UTC_TIME: _utc_time,
}
