"""The mapping tables ``obis/*.toml``: loaded, checked, turned into meter types.

Each file is one meter type::

    [meter-type]
    id = "single-phase"
    title = "Single-phase meter"
    product = "FMSP"

    [[point]]
    name = "active-power"
    title = "Active power, net"
    kind = "instantaneous"
    obis = { net = "1-0:16.7.0", plus = "1-0:1.7.0", minus = "1-0:2.7.0" }   # or one code as a string
    class = 4
    attribute = 2
    type = "double-long"
    scaler = 0
    unit = "W"
    reference = "MMXN1.Watt"          # left out: kept as a GGIO point, its OBIS code as description
    cdc = "MV"
    supply = "…"                      # reference on a meter with direction "supply"
    control = "CSWI1.Pos"             # takes commands for the point
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from flexmap.mapping import cdc, units
from flexmap.mapping.data import data_folder
from flexmap.mapping.value import RANGES
from flexmap.model import (
    ConfigurationError,
    Kind,
    LocalError,
    MeterType,
    Part,
    Point,
    Reference,
    Register,
    obis,
)

_REFERENCE = re.compile(r"(?P<ln>[A-Za-z][A-Za-z0-9]{0,10}?[A-Z]{4}\d{1,4}|[A-Z]{4}\d{1,4})\.(?P<do>\w+(\.\w+)?)")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TEXT_TYPES = frozenset({"octet-string", "visible-string", "utf8-string"})
_REMEDY = "docs/mapping.md, 'Own tables', describes the form"
_OTHER_TYPES = frozenset({"boolean"})
_GGIO = {
    Kind.INSTANTANEOUS: ("AnIn", "MV"),
    Kind.ENERGY: ("CntVal", "BCR"),
    Kind.COUNTER: ("CntVal", "BCR"),
    Kind.STATUS: ("IntIn", "INS"),
}


class _Entry(msgspec.Struct, forbid_unknown_fields=True, rename={"class_id": "class"}):
    name: str
    title: str
    kind: Kind
    obis: str | dict[Part, str]
    class_id: int
    type: str
    attribute: int = 2
    scaler: int = 0
    unit: str = ""
    reference: str | None = None
    cdc: str | None = None
    supply: str | None = None
    control: str | None = None


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    title: str
    product: str


class _File(msgspec.Struct, forbid_unknown_fields=True, rename={"meter_type": "meter-type"}):
    meter_type: _Head
    point: list[dict[str, Any]]


def load_builtin() -> dict[str, MeterType]:
    """Return the meter types of the package's own tables, by id."""
    types = (load(path) for path in sorted(data_folder("obis").glob("*.toml")))
    return {meter_type.id: meter_type for meter_type in types}


def load(path: Path) -> MeterType:
    """Return the meter type that a table describes.

    Raises ConfigurationError naming file, entry and field.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=_REMEDY) from None
    try:
        file = msgspec.toml.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise ConfigurationError(str(error), where=str(path), remedy=_REMEDY) from None
    builder = _Builder(str(path))
    for number, item in enumerate(file.point, start=1):
        builder.add(number, item)
    return builder.build(file.meter_type)


class _Builder:
    """Collects the entries of one file and what must be unique among them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._where = file
        self._points: list[Point] = []
        self._seen: dict[str, str] = {}
        self._ggio: dict[str, int] = {}

    def add(self, number: int, item: dict[str, Any]) -> None:
        self._where = f"{self._file}: point {number} '{item.get('name', '')}'"
        try:
            entry = msgspec.convert(item, type=_Entry)
        except msgspec.ValidationError as error:
            raise self._error("entry", str(error)) from None
        if not _NAME.fullmatch(entry.name):
            raise self._error("name", f"'{entry.name}' is not lower-case words joined by '-'")
        self._once("name", entry.name)
        self._check_type(entry)
        self._points.append(
            Point(
                name=entry.name,
                title=entry.title,
                kind=entry.kind,
                registers=self._registers(entry),
                type=entry.type,
                scaler=entry.scaler,
                unit=self._unit(entry),
                reference=self._reference(entry),
                supply_reference=self._named("supply", entry.supply, entry),
                control=self._control(entry),
            )
        )

    def build(self, head: _Head) -> MeterType:
        return MeterType(
            id=head.id,
            title=head.title,
            product=head.product,
            points=tuple(point for point in self._points if point.kind is not Kind.IDENTITY),
            identity=tuple(point for point in self._points if point.kind is Kind.IDENTITY),
        )

    def _error(self, field: str, what: str, remedy: str = "") -> ConfigurationError:
        return ConfigurationError(what, where=f"{self._where}, field '{field}'", remedy=remedy)

    def _once(self, field: str, value: str) -> None:
        first = self._seen.setdefault(f"{field} {value}", self._where)
        if first != self._where:
            raise self._error(field, f"'{value}' stands already in {first}")

    def _check_type(self, entry: _Entry) -> None:
        known = _TEXT_TYPES if entry.kind is Kind.IDENTITY else RANGES.keys() | _OTHER_TYPES
        if entry.type not in known:
            raise self._error(
                "type", f"'{entry.type}' is not a type of kind {entry.kind}", f"one of {sorted(known)}"
            )
        if entry.kind is not Kind.INSTANTANEOUS and entry.scaler < 0 and entry.cdc != "BCR":
            raise self._error(
                "scaler", f"kind {entry.kind} keeps the register's integer: no fraction", "set it to 0"
            )

    def _unit(self, entry: _Entry) -> int:
        unit = units.BY_SYMBOL.get(entry.unit)
        if unit is None:
            raise self._error("unit", f"'{entry.unit}' is not known", f"one of {sorted(units.BY_SYMBOL)}")
        return unit.cosem

    def _registers(self, entry: _Entry) -> tuple[Register, ...]:
        codes = {Part.NET: entry.obis} if isinstance(entry.obis, str) else entry.obis
        if Part.NET not in codes and set(codes) != {Part.PLUS, Part.MINUS}:
            raise self._error("obis", "has neither 'net' nor both 'plus' and 'minus'")
        registers = []
        for part, code in codes.items():
            try:
                name = obis.text(obis.parse(code))
            except LocalError as error:
                raise self._error("obis", str(error)) from None
            self._once("obis", f"{name} attribute {entry.attribute}")
            registers.append(Register(name, entry.class_id, entry.attribute, part))
        return tuple(registers)

    def _reference(self, entry: _Entry) -> Reference:
        named = self._named("reference", entry.reference, entry)
        if named is not None:
            return named
        if entry.kind not in _GGIO:
            raise self._error("reference", f"kind {entry.kind} needs one")
        name, cdc_name = _GGIO[entry.kind]
        self._ggio[name] = self._ggio.get(name, 0) + 1
        return Reference("GGIO9", f"{name}{self._ggio[name]}", cdc_name)

    def _named(self, field: str, text: str | None, entry: _Entry) -> Reference | None:
        if text is None:
            return None
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise self._error(field, f"'{text}' is not LN.DO, such as MMXU1.TotW or MMXU1.PhV.phsA")
        if entry.cdc not in cdc.KINDS:
            raise self._error("cdc", f"'{entry.cdc}' is not known", f"one of {sorted(cdc.KINDS)}")
        if entry.kind not in cdc.KINDS[entry.cdc]:
            kinds = ", ".join(sorted(cdc.KINDS[entry.cdc]))
            raise self._error("cdc", f"{entry.cdc} cannot carry kind {entry.kind}", f"it carries {kinds}")
        if field == "reference":
            self._once(field, text)
        return Reference(match["ln"], match["do"], entry.cdc)

    def _control(self, entry: _Entry) -> Reference | None:
        if entry.control is not None and (entry.class_id != 70 or entry.cdc != "DPC"):
            raise self._error("control", "only a disconnector (class 70, CDC DPC) takes commands")
        return self._named("control", entry.control, entry)
