"""Where a point's value stands in a common data class (IEC 61850-7-3 Ed 2.1)."""

from __future__ import annotations

import msgspec

from flexmap.model import Kind, LocalError, Reference


class Place(msgspec.Struct, frozen=True):
    """The attribute of a data object that carries the value; ``q`` and ``t`` stand beside it."""

    fc: str
    attribute: str
    """Path below the data object, for example ``mag.f``."""
    basic_type: str
    """bType in SCL: ``FLOAT32``, ``INT64``, ``BOOLEAN``, ``INT32``, ``Dbpos``, ``VisString255``."""


_PLACES = {
    "MV": Place("MX", "mag.f", "FLOAT32"),
    "CMV": Place("MX", "cVal.mag.f", "FLOAT32"),
    "WYE": Place("MX", "cVal.mag.f", "FLOAT32"),
    "DEL": Place("MX", "cVal.mag.f", "FLOAT32"),
    "SEQ": Place("MX", "cVal.mag.f", "FLOAT32"),
    "BCR": Place("ST", "actVal", "INT64"),
    "SPS": Place("ST", "stVal", "BOOLEAN"),
    "INS": Place("ST", "stVal", "INT32"),
    "DPC": Place("ST", "stVal", "Dbpos"),
}

KINDS = {
    "MV": {Kind.INSTANTANEOUS},
    "WYE": {Kind.INSTANTANEOUS},
    "DEL": {Kind.INSTANTANEOUS},
    "SEQ": {Kind.INSTANTANEOUS},
    "BCR": {Kind.ENERGY, Kind.COUNTER},
    "SPS": {Kind.STATUS},
    "INS": {Kind.STATUS, Kind.COUNTER},
    "DPC": {Kind.STATUS},
    "DPL": {Kind.IDENTITY},
}
"""Which kinds of point each class can carry."""

DPC_OFF = 1
DPC_ON = 2


def place(reference: Reference) -> Place:
    """Return where the value of a referenced data object stands.

    For a DPL the last part of ``reference.do`` is itself the attribute (``PhyNam.serNum``).
    """
    if reference.cdc == "DPL":
        return Place("DC", reference.do.partition(".")[2], "VisString255")
    try:
        return _PLACES[reference.cdc]
    except KeyError:
        raise LocalError(f"{reference.path}: no value place known for CDC {reference.cdc}") from None


def data_object(reference: Reference) -> str:
    """Return the data object path without attribute: ``PhV.phsA``, ``TotW``, ``PhyNam``."""
    return reference.do.partition(".")[0] if reference.cdc == "DPL" else reference.do
