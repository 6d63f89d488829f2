"""What clients write to report control blocks: which attribute takes what and when, and the error if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexmap.mms import data
from flexmap.mms.association import Association
from flexmap.mms.data import DataAccessError
from flexmap.mms.report_block import INTERROGATION, Block

if TYPE_CHECKING:
    from flexmap.mms.reports import Reports

_UNAVAILABLE = DataAccessError.TEMPORARILY_UNAVAILABLE
_DENIED = DataAccessError.OBJECT_ACCESS_DENIED
_INVALID = DataAccessError.OBJECT_VALUE_INVALID

_Write = tuple[str, bytes]
"""Attribute and encoded value, which is of its type."""


def write(reports: Reports, block: Block, association: Association, written: _Write) -> DataAccessError | None:
    """Take one attribute; returns why not."""
    name, value = written
    if _is_anothers(block, association):
        return _UNAVAILABLE
    if name == "RptEna":
        return _enable(reports, block, association, wanted=data.to_boolean(value))
    if name == "GI":
        return _interrogate(block, association, wanted=data.to_boolean(value))
    if name in {"ConfRev", "SqNum", "TimeofEntry", "Owner"}:
        return _DENIED
    if block.enabled:
        return _UNAVAILABLE
    if name == "Resv":
        return _reserve(reports, block, association, wanted=data.to_boolean(value))
    if name == "ResvTms":
        return _reserve_for(reports, block, association, data.to_integer(value))
    if name == "PurgeBuf":
        if data.to_boolean(value):
            reports.purge(block)
        return None
    if name == "EntryID":
        return _resynchronise(block, data.contents(value))
    if name not in reports.settable:
        return _DENIED
    return _set(reports, block, association, written)


def _is_anothers(block: Block, association: Association) -> bool:
    if block.owner is not None:
        return block.owner is not association
    return bool(block.heir) and block.heir != association.address


def _enable(reports: Reports, block: Block, association: Association, *, wanted: bool) -> DataAccessError | None:
    if not wanted:
        reports.disable(block)
        if not block.explicit:
            reports.release(block)
        return None
    if block.enabled:
        return _UNAVAILABLE
    buffer = block.buffer
    if buffer is not None and not block.resynchronised:
        buffer.sent = 0
    block.resynchronised = False
    return reports.enable(block, association)


def _interrogate(block: Block, association: Association, *, wanted: bool) -> DataAccessError | None:
    if not block.enabled or block.owner is not association:
        return _UNAVAILABLE
    if wanted and block.triggers & INTERROGATION:
        block.interrogate()
    return None


def _reserve(reports: Reports, block: Block, association: Association, *, wanted: bool) -> DataAccessError | None:
    if wanted:
        reports.own(block, association)
        block.explicit = True
    else:
        reports.release(block)
    return None


def _reserve_for(reports: Reports, block: Block, association: Association, seconds: int) -> DataAccessError | None:
    if seconds < 0:
        return _INVALID
    if seconds == 0:
        reports.release(block)
        return None
    reports.own(block, association)
    block.explicit = True
    block.put("ResvTms", data.integer(seconds))
    return None


def _resynchronise(block: Block, octets: bytes) -> DataAccessError | None:
    number = int.from_bytes(octets, "big")
    buffer = block.buffer
    if len(octets) != 8 or buffer is None or not buffer.knows(number):
        return _INVALID
    buffer.sent = number
    if number:
        # The client has all that came before, or knows that it has not.
        buffer.overflowed = False
    block.resynchronised = True
    block.put("EntryID", data.octet_string(octets))
    return None


def _set(reports: Reports, block: Block, association: Association, written: _Write) -> DataAccessError | None:
    name, value = written
    old = block.get(name)
    if value == old:
        return None
    if name == "DatSet":
        return _set_data_set(reports, block, association, value)
    block.put(name, value)
    block.parse()
    if block.buffered and name != "OptFlds":
        reports.purge(block)
    else:
        reports.keep(block)
    if name in {"IntgPd", "TrgOps"}:
        block.run_integrity()
    return None


def _set_data_set(
    reports: Reports, block: Block, association: Association, value: bytes
) -> DataAccessError | None:
    old = block.get("DatSet")
    block.put("DatSet", value)
    if data.contents(value) and reports.resolve(block, association) is None:
        block.put("DatSet", old)
        return _INVALID
    # Members are others now: entries and what was told of the old ones mean nothing any more.
    reports.retire(block)
    revision = data.to_unsigned(block.get("ConfRev"))
    block.put("ConfRev", data.unsigned((revision + 1) & 0xFFFFFFFF))
    return None
