"""SCL's basic types (IEC 61850-7-2, -6) as MMS types (IEC 61850-8-1 clause 8), and the text of values in SCL."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.mms import data, types
from flexmap.mms.types import Leaf, Structure, Type
from flexmap.scl.served import Attribute

_PHYSICAL_ADDRESS = Structure(
    (
        ("Addr", types.octet_string(6)),
        ("PRIORITY", types.unsigned(8)),
        ("VID", types.unsigned(16)),
        ("APPID", types.unsigned(16)),
    )
)

BASIC_TYPES: dict[str, Type] = {
    "BOOLEAN": types.BOOLEAN,
    "INT8": types.integer(8),
    "INT16": types.integer(16),
    "INT24": types.integer(32),
    "INT32": types.integer(32),
    "INT64": types.integer(64),
    "INT8U": types.unsigned(8),
    "INT16U": types.unsigned(16),
    "INT24U": types.unsigned(32),
    "INT32U": types.unsigned(32),
    "FLOAT32": types.FLOAT32,
    "FLOAT64": types.FLOAT64,
    "Enum": types.integer(8),
    "Octet64": types.octet_string(64),
    "Octet6": types.octet_string(6),
    "EntryID": types.octet_string(8, varying=False),
    "VisString32": types.visible_string(32),
    "VisString64": types.visible_string(64),
    "VisString65": types.visible_string(65),
    "VisString129": types.visible_string(129),
    "ObjRef": types.visible_string(129),
    "VisString255": types.visible_string(255),
    "Currency": types.visible_string(3),
    "Unicode255": types.UNICODE255,
    "Timestamp": types.UTC_TIME,
    "EntryTime": types.BINARY_TIME,
    "Quality": types.bit_string(13, varying=True),
    "Check": types.bit_string(2, varying=True),
    "Dbpos": types.bit_string(2),
    "Tcmd": types.bit_string(2),
    "OptFlds": types.bit_string(10, varying=True),
    "TrgOps": types.bit_string(6, varying=True),
    "PhyComAddr": _PHYSICAL_ADDRESS,
}

_TRUE = {"true", "1"}
_DOUBLE_BITS = {"intermediate-state": 0, "off": 1, "on": 2, "bad-state": 3}
_DOUBLE_BITS |= {"stop": 0, "lower": 1, "higher": 2, "reserved": 3}


def _integer(attribute: Attribute, text: str) -> int:
    if attribute.enumeration is not None and text in attribute.enumeration:
        return attribute.enumeration[text]
    return int(text)


_MAKERS: dict[str, Callable[[Attribute, str], bytes]] = {
    "BOOLEAN": lambda _, text: data.boolean(text in _TRUE),
    "Enum": lambda attribute, text: data.integer(_integer(attribute, text)),
    "FLOAT32": lambda _, text: data.float32(float(text)),
    "FLOAT64": lambda _, text: data.float64(float(text)),
    "Dbpos": lambda _, text: data.bit_string(_DOUBLE_BITS[text], 2),
    "Tcmd": lambda _, text: data.bit_string(_DOUBLE_BITS[text], 2),
    "Unicode255": lambda _, text: data.mms_string(text),
}
_MAKERS |= {
    name: (lambda _, text: data.integer(int(text))) for name in ("INT8", "INT16", "INT24", "INT32", "INT64")
}
_MAKERS |= {name: (lambda _, text: data.unsigned(int(text))) for name in ("INT8U", "INT16U", "INT24U", "INT32U")}
_MAKERS |= {
    name: (lambda _, text: data.visible_string(text))
    for name, kind in BASIC_TYPES.items()
    if isinstance(kind, Leaf) and kind.tag == data.VISIBLE_STRING
}


def encode(attribute: Attribute, text: str) -> bytes | None:
    """Return a value of SCL, encoded; None for types whose initial value means nothing (times, qualities).

    Raises ValueError, KeyError or OverflowError if the text is no value of the attribute's type.
    """
    make = _MAKERS.get(attribute.basic_type)
    if make is None:
        return None
    value = make(attribute, text)
    kind = BASIC_TYPES[attribute.basic_type]
    if not kind.fits(value, 0, len(value)):
        raise ValueError(text)
    return value
