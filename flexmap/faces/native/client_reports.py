"""Reports as their client: a control block switched on, what comes taken apart (IEC 61850-8-1 clause 17)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from flexmap.faces.mms_client import DataNode, MmsData
from flexmap.faces.native.client import NativeAssociation
from flexmap.faces.native.client_data import plain
from flexmap.mms import data
from flexmap.mms.ber import BerError
from flexmap.mms.client import Report
from flexmap.model import ConfigurationError, RemoteError, quality

TRIGGERS = {"dchg": 0x10, "qchg": 0x08, "dupd": 0x04, "integrity": 0x02, "gi": 0x01}
"""Trigger options as bits of six, the first reserved."""
REASONS = ("reserved", "data-change", "quality-change", "data-update", "integrity", "general-interrogation")
_SEQUENCE, _TIME, _REASON, _DATA_SET, _REFERENCES, _OVERFLOW, _ENTRY, _REVISION, _SEGMENTS = range(1, 10)
"""Optional fields by position in the string of ten bits."""
_ALL_FIELDS = 0b0111111110


class Block(NamedTuple):
    """A report control block: where it is, what it can."""

    domain: str
    item: str
    """``LN$RP$name`` or ``LN$BR$name``."""
    attributes: tuple[str, ...]

    @property
    def buffered(self) -> bool:
        """It keeps reports while no client has it."""
        return self.item.split("$")[1] == "BR"


class Value(msgspec.Struct, frozen=True):
    """One member of a report."""

    member: str
    """``LD/LN.DO[FC]``."""
    value: Any
    """As it came; of a member whose type is known, structures are objects, times text, qualities words."""
    reasons: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One report; what it did not bring is None."""

    report_id: str
    sequence: int | None = None
    time: int | None = None
    """Milliseconds since 1970-01-01T00:00:00 UTC."""
    data_set: str | None = None
    overflow: bool | None = None
    entry: str | None = None
    """EntryID, hexadecimal."""
    revision: int | None = None
    segment: int | None = None
    more: bool = False
    values: tuple[Value, ...] = ()


def find_block(association: NativeAssociation, domain: str, path: str) -> Block:
    """Return the control block ``LN.name``; raises RemoteError if there is none."""
    node, _, name = path.partition(".")
    for constraint in ("BR", "RP"):
        item = f"{node}${constraint}${name}"
        try:
            kind = association.specification(domain, item)
        except RemoteError:
            continue
        return Block(domain, item, tuple(child.name for child in kind.children))
    raise RemoteError(f"no report control block {domain}/{path}")


class Subscription:
    """A control block that is switched on."""

    def __init__(self, association: NativeAssociation, block: Block) -> None:
        self._association = association
        self._block = block
        self._members: list[tuple[str, DataNode]] = []

    def enable(
        self, *, triggers: int | None = None, integrity: int | None = None, entry: str | None = None,
        purge: bool = False, interrogate: bool = True,
    ) -> None:  # fmt: skip
        """Switch it on: with these triggers and integrity period (ms), after an EntryID (hexadecimal)."""
        if integrity is not None and triggers is None:
            triggers = self._number("TrgOps") | TRIGGERS["integrity"]
        if interrogate and triggers is not None:
            triggers |= TRIGGERS["gi"]
        if not self._block.buffered and "Resv" in self._block.attributes:
            self._write("Resv", data.TRUE)
        self._write("OptFlds", data.bit_string(_ALL_FIELDS, 10))
        if triggers is not None:
            self._write("TrgOps", data.bit_string(triggers, 6))
        if integrity is not None:
            self._write("IntgPd", data.unsigned(integrity))
        if purge:
            self._needs_buffer("--purge")
            self._write("PurgeBuf", data.TRUE)
        if entry is not None:
            self._needs_buffer("--entry")
            self._write("EntryID", data.octet_string(_entry(entry)))
        domain, _, item = str(self._read("DatSet")).partition("/")
        if not item:
            raise RemoteError(f"{self._block.domain}/{self._block.item} has no data set")
        self._members = [
            (reference(f"{name[0]}/{name[1]}"), self._association.specification(str(name[0]), name[1]))
            for name in self._association.members(domain, item)
        ]
        self._write("RptEna", data.TRUE)
        if interrogate:
            self._write("GI", data.TRUE)

    def disable(self) -> None:
        """Switch it off."""
        self._write("RptEna", data.FALSE)

    def next(self, seconds: float) -> Message | None:
        """Return the next report, None if none comes in so many seconds."""
        report = self._association.report(seconds)
        if report is None or not report.listed:
            return None
        return decode(report, self._members)

    def _needs_buffer(self, what: str) -> None:
        if not self._block.buffered:
            raise ConfigurationError(f"{what} is for buffered reports", where=self._block.item)

    def _number(self, attribute: str) -> int:
        bits = str(self._read(attribute))
        return int(bits, 2) if bits else 0

    def _read(self, attribute: str) -> MmsData:
        return self._association.read(self._block.domain, f"{self._block.item}${attribute}")

    def _write(self, attribute: str, value: bytes) -> None:
        self._association.write(self._block.domain, f"{self._block.item}${attribute}", value)


def _entry(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(
            f"'{text}' is no EntryID", remedy="write it as reports show it, 16 digits"
        ) from None


def reference(text: str) -> str:
    """Return ``LD/LN.DO[FC]`` of ``LD/LN$FC$DO``."""
    head, *parts = text.split("$")
    return f"{'.'.join([head, *parts[1:]])}[{parts[0]}]" if parts else text


def named(kind: DataNode, value: MmsData) -> Any:
    """Return a value with the names of its type: objects, times as text, qualities in words."""
    if kind.type == "UTC-TIME" and isinstance(value, list):
        moment = datetime.fromtimestamp(int(str(value[0])) / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kind.name == "q" and isinstance(value, int):
        return quality.describe(value)
    if kind.children and isinstance(value, list) and len(value) == len(kind.children):
        return {child.name: named(child, each) for child, each in zip(kind.children, value, strict=True)}
    return float(f"{value:.7g}") if isinstance(value, float) else value


def decode(report: Report, members: Sequence[tuple[str, DataNode]]) -> Message:
    """Return a report's fields; ``members`` are those of its data set with their types. Raises BerError."""
    results = iter(report.results)
    try:
        return _decode(results, members)
    except (StopIteration, RuntimeError):
        raise BerError("a report that ends too soon") from None


def _decode(results: Iterator[bytes], members: Sequence[tuple[str, DataNode]]) -> Message:
    report_id = data.to_text(next(results))
    fields = data.to_bits(next(results))
    fetched = {
        position: plain(next(results))
        for position in (_SEQUENCE, _TIME, _DATA_SET, _OVERFLOW, _ENTRY, _REVISION)
        if fields >> (9 - position) & 1
    }
    segment, more = None, False
    if fields >> (9 - _SEGMENTS) & 1:
        segment, more = plain(next(results)), bool(plain(next(results)))
    included = _positions(next(results))
    if fields >> (9 - _REFERENCES) & 1:
        for _ in included:
            next(results)
    values = [plain(next(results)) for _ in included]
    told = fields >> (9 - _REASON) & 1
    reasons = [_positions(next(results)) if told else () for _ in included]
    if any(at >= len(members) for at in included):
        raise BerError("a report with more members than its data set has")
    return Message(
        report_id=report_id,
        sequence=_whole(fetched.get(_SEQUENCE)),
        time=_whole(fetched.get(_TIME)),
        data_set=None if _DATA_SET not in fetched else str(fetched[_DATA_SET]),
        overflow=None if _OVERFLOW not in fetched else bool(fetched[_OVERFLOW]),
        entry=None if _ENTRY not in fetched else str(fetched[_ENTRY]),
        revision=_whole(fetched.get(_REVISION)),
        segment=_whole(segment),
        more=more,
        values=tuple(
            Value(
                members[at][0],
                named(members[at][1], value),
                tuple(REASONS[bit] for bit in why if bit < len(REASONS)),
            )
            for at, value, why in zip(included, values, reasons, strict=True)
        ),
    )


def _positions(value: bytes) -> tuple[int, ...]:
    """Return which bits of a bit string are set, counted from its first."""
    octets = data.contents(value)
    width = max(0, len(octets) - 1) * 8 - (octets[0] if octets else 0)
    number = data.to_bits(value)
    return tuple(at for at in range(width) if number >> (width - 1 - at) & 1)


def _whole(value: MmsData) -> int | None:
    return value if isinstance(value, int) else None
