"""The mapping tables ``obis/*.toml``: loaded, checked, turned into meter types; ``obis/channel/*.toml``: channels.

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

    [[demand]]                        # averages of an energy over periods of load profile 1, and their maximum
    name = "demand-active-import"
    title = "Active power import, demand"
    energy = "energy-active-import"
    obis = "1-0:1.4.0"                # Demand register (class 5)
    maximum = "1-0:1.6.0"             # Extended register (class 4)
    periods = 1                       # periods of each average

    [tariff]                          # energies, and maxima of their demands, split over rates
    rates = 4                         # 1-0:x.8.1 to 1-0:x.8.4 in nodes T1MMTR1 to T4MMTR1; 1 to 8
    energies = ["energy-active-import"]
    day = { "06:00" = 1, "22:00" = 2 }    # rate from each local time on, until a head-end writes a calendar

A channel's file has ``[channel]`` in place of ``[meter-type]``; all its points are Extended registers (class 4),
so that each has its own status and capture time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from flexmap.mapping import cdc, units
from flexmap.mapping.data import data_folder
from flexmap.mapping.value import RANGES
from flexmap.model import (
    CHANNEL_LIVE,
    Channel,
    ConfigurationError,
    Demand,
    Kind,
    LocalError,
    MeterType,
    Part,
    Point,
    Reference,
    Register,
    Tariff,
    obis,
    rate_name,
)

T = TypeVar("T")

_REFERENCE = re.compile(r"(?P<ln>[A-Za-z][A-Za-z0-9]{0,10}?[A-Z]{4}\d{1,4}|[A-Z]{4}\d{1,4})\.(?P<do>\w+(\.\w+)?)")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
EXTENDED_REGISTER = 4
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


class _Demand(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    title: str
    energy: str
    obis: str
    maximum: str
    periods: Annotated[int, msgspec.Meta(ge=1)] = 1


class _Tariff(msgspec.Struct, forbid_unknown_fields=True):
    energies: list[str]
    rates: Annotated[int, msgspec.Meta(ge=1, le=8)] = 4
    day: dict[str, int] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True, rename={"meter_type": "meter-type"}):
    meter_type: _Head
    point: list[dict[str, Any]]
    demand: list[dict[str, Any]] = []
    tariff: dict[str, Any] | None = None


class _ChannelFile(msgspec.Struct, forbid_unknown_fields=True):
    channel: _Head
    point: list[dict[str, Any]]


def load_builtin() -> dict[str, MeterType]:
    """Return the meter types of the package's own tables, by id."""
    types = (load(path) for path in sorted(data_folder("obis").glob("*.toml")))
    return {meter_type.id: meter_type for meter_type in types}


def load_channels() -> dict[str, Channel]:
    """Return the channels of the package's own tables, by id."""
    channels = (_load_channel(path) for path in sorted(data_folder("obis").glob("channel/*.toml")))
    return {channel.id: channel for channel in channels}


def load_products() -> dict[str, MeterType]:
    """Return the package's own meter types by id, each alone and behind each channel."""
    types, channels = load_builtin(), load_channels()
    found = [
        (meter_type, *(behind(meter_type, each) for each in channels.values())) for meter_type in types.values()
    ]
    return {meter_type.id: meter_type for types_ in found for meter_type in types_}


def load(path: Path) -> MeterType:
    """Return the meter type that a table describes.

    Raises ConfigurationError naming file, entry and field.
    """
    file = _decode(path, _File)
    builder = _Builder(str(path))
    for number, item in enumerate(file.point, start=1):
        builder.add(number, item)
    for number, item in enumerate(file.demand, start=1):
        builder.add_demand(number, item)
    if file.tariff is not None:
        builder.add_tariff(file.tariff)
    return builder.build(file.meter_type)


def behind(meter_type: MeterType, channel: Channel) -> MeterType:
    """Return the type of the same meter behind a channel: its own points and those of the channel.

    Raises ConfigurationError if both have a point of one name, OBIS code or reference.
    """
    own = {
        text for point in (*meter_type.points, *meter_type.rates, *meter_type.identity) for text in _names(point)
    }
    for point in channel.points:
        for text in _names(point):
            if text in own:
                where = f"meter type '{meter_type.id}'"
                remedy = "give the meter type's own point another one"
                raise ConfigurationError(f"'{text}' is the channel's {point.name}", where=where, remedy=remedy)
    return msgspec.structs.replace(
        meter_type,
        id=f"{meter_type.id}-{channel.id}",
        title=f"{meter_type.title} {channel.title}",
        product=meter_type.product + channel.product,
        channel=channel.points,
    )


def _names(point: Point) -> list[str]:
    references = (point.reference, point.supply_reference, point.control)
    paths = [reference.path for reference in references if reference is not None]
    return [point.name, *(register.obis for register in point.registers), *paths]


def _load_channel(path: Path) -> Channel:
    file = _decode(path, _ChannelFile)
    builder = _Builder(str(path))
    for number, item in enumerate(file.point, start=1):
        builder.add(number, item)
    return builder.build_channel(file.channel)


def _decode(path: Path, form: type[T]) -> T:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=_REMEDY) from None
    try:
        return msgspec.toml.decode(text, type=form)
    except msgspec.DecodeError as error:
        raise ConfigurationError(str(error), where=str(path), remedy=_REMEDY) from None


class _Builder:
    """Collects the entries of one file and what must be unique among them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._where = file
        self._points: list[Point] = []
        self._seen: dict[str, str] = {}
        self._ggio: dict[str, int] = {}
        self._demands: list[Demand] = []
        self._tariff: Tariff | None = None
        self._rates: list[Point] = []

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

    def add_demand(self, number: int, item: dict[str, Any]) -> None:
        self._where = f"{self._file}: demand {number} '{item.get('name', '')}'"
        try:
            entry = msgspec.convert(item, type=_Demand)
        except msgspec.ValidationError as error:
            raise self._error("entry", str(error)) from None
        self._once("name", entry.name)
        energy = next((point for point in self._points if point.name == entry.energy), None)
        if energy is None or energy.kind is not Kind.ENERGY or energy.unit not in units.POWER_OF:
            raise self._error("energy", f"'{entry.energy}' is not an energy of this table")
        names = [
            self._registers(_Entry(entry.name, entry.title, Kind.ENERGY, code, 4, "double-long-unsigned"))[0].obis
            for code in (entry.obis, entry.maximum)
        ]
        self._demands.append(
            Demand(
                name=entry.name,
                title=entry.title,
                energy=entry.energy,
                obis=names[0],
                maximum=names[1],
                scaler=energy.scaler,
                unit=units.POWER_OF[energy.unit],
                periods=entry.periods,
            )
        )

    def add_tariff(self, item: dict[str, Any]) -> None:
        self._where = f"{self._file}: tariff"
        try:
            entry = msgspec.convert(item, type=_Tariff)
        except msgspec.ValidationError as error:
            raise self._error("entry", str(error)) from None
        rates = range(1, entry.rates + 1)
        day = tuple(sorted((self._second(time), rate) for time, rate in entry.day.items())) or ((0, 1),)
        if not {rate for _, rate in day} <= set(rates):
            raise self._error("day", f"names a rate that is not one of 1 to {entry.rates}")
        for name in entry.energies:
            energy = next((point for point in self._points if point.name == name), None)
            if energy is None or energy.kind is not Kind.ENERGY or len(energy.registers) > 1:
                raise self._error("energies", f"'{name}' is not an energy of this table with one register")
            self._rates += [self._rate(energy, rate) for rate in rates]
        self._demands = [
            msgspec.structs.replace(demand, rates=tuple(self._of_rate(demand.maximum, rate) for rate in rates))
            if demand.energy in entry.energies
            else demand
            for demand in self._demands
        ]
        self._tariff = Tariff(rates=entry.rates, energies=tuple(entry.energies), day=day)

    def _second(self, time: str) -> int:
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", time)
        if match is None:
            raise self._error("day", f"'{time}' is not a time of the day such as 06:00")
        return int(match[1]) * 3600 + int(match[2]) * 60

    def _rate(self, energy: Point, rate: int) -> Point:
        """Return the point of an energy in a rate: group E of its OBIS code, and T1, T2 ... before its node."""
        references = [
            None if each is None else msgspec.structs.replace(each, ln=f"T{rate}{each.ln}")
            for each in (energy.reference, energy.supply_reference)
        ]
        if references[0] is not None:
            self._once("reference", references[0].path)
        register = energy.registers[0]
        return msgspec.structs.replace(
            energy,
            name=rate_name(energy.name, rate),
            title=f"{energy.title}, rate {rate}",
            registers=(msgspec.structs.replace(register, obis=self._of_rate(register.obis, rate)),),
            reference=references[0],
            supply_reference=references[1],
        )

    def _of_rate(self, total: str, rate: int) -> str:
        name = obis.parse(total)
        if name[4]:
            raise self._error("energies", f"{total} is not a total: its group E is not 0")
        code = obis.text(name[:4] + bytes((rate, name[5])))
        self._once("obis", f"{code} attribute 2")
        return code

    def build(self, head: _Head) -> MeterType:
        return MeterType(
            id=head.id,
            title=head.title,
            product=head.product,
            points=tuple(point for point in self._points if point.kind is not Kind.IDENTITY),
            identity=tuple(point for point in self._points if point.kind is Kind.IDENTITY),
            demands=tuple(self._demands),
            tariff=self._tariff,
            rates=tuple(self._rates),
        )

    def build_channel(self, head: _Head) -> Channel:
        for point in self._points:
            if point.registers[0].class_id != EXTENDED_REGISTER or point.kind is Kind.IDENTITY:
                self._where = f"{self._file}: point '{point.name}'"
                raise self._error("class", "a channel's point has a status and a capture time", "make it class 4")
        if CHANNEL_LIVE not in {point.name for point in self._points}:
            raise ConfigurationError(f"a channel has a point '{CHANNEL_LIVE}'", where=self._file, remedy="add it")
        return Channel(id=head.id, title=head.title, product=head.product, points=tuple(self._points))

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
