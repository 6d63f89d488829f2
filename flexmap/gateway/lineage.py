"""Where one value comes from and under which names it is served: the lineage of a point of a meter."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from flexmap.gateway.config import Config
from flexmap.gateway.sections import ConcentratorSection, SourceSection
from flexmap.mapping import cdc, units
from flexmap.model import ConfigurationError, Kind, LocalError, Meter, Part, Point, Reference, Site, obis
from flexmap.scl.summary import Summary
from flexmap.sources.concentrator.lineage import fields_of, layout_of

_LEAF = re.compile(r"\.(mag\.[fi]|cVal(\.mag\.[fi])?|stVal|actVal|[qt])$")


class Step(msgspec.Struct, frozen=True):
    """One stage of a value's way."""

    stage: str
    text: str


class Subject(msgspec.Struct, frozen=True):
    """The point that is explained."""

    meter: Meter
    point: Point


def find(site: Site, name: str, meter: str | None) -> Subject:
    """Return the point that an object reference, an OBIS code or the point's own name means.

    Raises ConfigurationError if nothing or more than one thing is meant.
    """
    device, _, path = name.rpartition("/")
    path = _LEAF.sub("", path)
    code = _code(path)
    found = [
        Subject(each, point)
        for each in site.meters
        if meter in {None, each.id, each.ld} and device in {"", each.ld, site.ied + each.ld}
        for point in (*site.type_of(each).served, *site.type_of(each).identity)
        if _means(point, each, path, code)
    ]
    if not found:
        where = f"meter '{meter}'" if meter else f"{len(site.meters)} meters"
        remedy = "name LD/LN.DO, an OBIS code or a point's name; `flexmap map TYPE` lists them"
        raise ConfigurationError(f"nothing is called '{name}'", where=where, remedy=remedy)
    if len(found) > 1:
        others = ", ".join(dict.fromkeys(subject.meter.id for subject in found))
        what = f"'{name}' is there {len(found)} times"
        raise ConfigurationError(what, remedy=f"say which with --meter: {others}")
    return found[0]


def _code(text: str) -> str | None:
    try:
        return obis.text(obis.parse(text))
    except LocalError:
        return None


def _means(point: Point, meter: Meter, path: str, code: str | None) -> bool:
    if code is not None:
        return any(register.obis == code for register in point.registers)
    return path in {point.name, *(reference.path for reference in _references(point, meter))}


def _references(point: Point, meter: Meter) -> list[Reference]:
    found = [point.reference_for(meter.direction)]
    return found if point.control is None else [*found, point.control]


def lineage(config: Config, site: Site, subject: Subject, served: Summary) -> Iterator[Step]:
    """Return the stages of a value from the meter to those who are told of it.

    ``site`` has the names that MMS serves, ``served`` is the file that describes them.
    """
    meter, point = subject.meter, subject.point
    meter_type = site.type_of(meter)
    yield Step("point", f"{point.title} ({point.name}, {point.kind}) of meter {meter.id}, type {meter_type.id}")
    section = next((section for section in config.sources if section.name == meter.source), None)
    yield from _source(config, subject, section)
    for register in point.registers:
        part = {Part.PLUS: ", its positive part", Part.MINUS: ", its negative part"}.get(register.part, "")
        text = f"class {register.class_id}, object {register.obis}, attribute {register.attribute}{part}"
        yield Step("register", f"{text}; {point.type}")
    yield from _scale(point)
    for text in _quality_rules(point, section):
        yield Step("quality", text)
    yield Step("time", _time_rule(point))
    for register in point.registers:
        yield Step("COSEM name", f"SAP {meter.sap}, {register.obis};{register.class_id};{register.attribute}")
    for reference in _references(point, meter):
        place = cdc.place(reference)
        do = cdc.data_object(reference)
        yield Step(
            "IEC 61850 name",
            f"{site.ied}{meter.ld}/{reference.ln}.{do}.{place.attribute} [{place.fc}], "
            f"class {reference.cdc}, {place.basic_type}"
            + (f", pulsQty {10.0**point.scaler:g}" if reference.cdc == "BCR" else ""),
        )
    if point.control is not None:
        yield Step("command", f"{point.control.path} takes commands; the meter's answer is the answer")
    yield from _derived(subject, site)
    yield from _reports(site, subject, served)


def _scale(point: Point) -> Iterator[Step]:
    if point.kind is Kind.IDENTITY:
        return
    unit = units.BY_COSEM[point.unit]
    scale = f"value = raw × 10^{point.scaler} {unit.symbol}".rstrip()
    kept = "converted once, to a float" if point.kind is Kind.INSTANTANEOUS else "kept as the register's integer"
    yield Step("scaler", f"{scale}; {kept}")
    yield Step("unit", f"COSEM {point.unit} ({unit.symbol or 'none'}), SIUnit {unit.si} ('{unit.si_literal}')")


def _source(config: Config, subject: Subject, section: SourceSection | None) -> Iterator[Step]:
    meter, point = subject.meter, subject.point
    meter_type = config.site.types[next(each.type for each in config.site.meters if each.id == meter.id)]
    if point.kind is Kind.IDENTITY:
        yield Step("source", f"[[meter]] '{meter.id}', identity, until the meter says otherwise")
        return
    if point.name in {rate.name for rate in meter_type.rates}:
        yield Step("source", "the gateway: the energy of the meter, split by its tariff's calendar")
        return
    if section is None:
        yield Step("source", f"none is called '{meter.source}'")
        return
    if not isinstance(section, ConcentratorSection):
        yield Step("source", f"[[source]] '{section.name}': a simulated meter in the gateway; no frame carries it")
        return
    yield Step(
        "source", f"[[source]] '{section.name}': concentrator at {section.port}, every {section.interval:g} s"
    )
    if point.name in {each.name for each in meter_type.channel}:
        yield Step("frame", "the concentrator's tables of the line, asked by its shell; not from the meter")
        return
    fields = fields_of(meter_type, layout_of(meter_type)).get(point.name, ())
    for field in fields:
        places = f"octets {field.offset} to {field.offset + field.octets - 1}"
        yield Step(
            "frame", f"{field.name}: {places} of metro_data_store_t, coded as docs/flexmeter-payload.md says"
        )
    if not fields:
        yield Step("frame", "records do not carry it: it is never read")


def _quality_rules(point: Point, section: SourceSection | None) -> Iterator[str]:
    if point.kind is Kind.IDENTITY:
        yield "none: a constant of the meter"
        return
    yield "invalid+failure until it is first read: missing is not zero"
    if section is not None:
        yield f"questionable+oldData once older than {section.max_age:g} s"
    yield "invalid+oldData while the meter is silent"
    if point.kind is Kind.ENERGY and isinstance(section, ConcentratorSection):
        yield "questionable+oldData in a second in which the meter measured nothing"
    yield f"invalid+overflow if the value does not fit {cdc.place(point.reference).basic_type}"


def _time_rule(point: Point) -> str:
    if point.kind is Kind.IDENTITY:
        return "none"
    return (
        "t is the meter's capture time, never the time of forwarding; clock status invalid: ClockFailure, "
        "doubtful: ClockNotSynchronized"
    )


def _derived(subject: Subject, site: Site) -> Iterator[Step]:
    meter_type = site.type_of(subject.meter)
    for demand in meter_type.demands:
        if demand.energy == subject.point.name:
            yield Step("derived", f"{demand.title}: {demand.obis}, maximum {demand.maximum}")
    if meter_type.tariff is not None:
        for rate in meter_type.rates:
            if rate.name.startswith(f"{subject.point.name}-"):
                yield Step("derived", f"{rate.title}: {rate.registers[0].obis}, {rate.reference.path}")


def _reports(site: Site, subject: Subject, served: Summary) -> Iterator[Step]:
    """Return the control blocks whose data set has the point, with the clients that the file names."""
    meter, point = subject.meter, subject.point
    names = [
        (f"{meter.ld}/{reference.ln}.{cdc.data_object(reference)}", cdc.place(reference).fc)
        for reference in _references(point, meter)
    ]
    told = False
    for inst, nodes in served.ieds[site.ied].devices.items():
        for node, content in nodes.items():
            for control_name, control in content.controls.items():
                members = content.data_sets.get(control.data_set or "", ())
                if any(_covers(member, name, fc) for member in members for name, fc in names):
                    told = True
                    triggers = [
                        key[7:] for key, on in control.settings.items() if key[:7] == "TrgOps." and on == "true"
                    ]
                    period = control.settings.get("intgPd", "0")
                    clients = f"; clients {', '.join(control.clients)}" if control.clients else ""
                    kind = "buffered" if control.settings.get("buffered") == "true" else "unbuffered"
                    text = f"{site.ied}{inst}/{node}.{control_name} ({kind}), data set {control.data_set}"
                    text += (
                        f", confRev {control.revision}, triggers {' '.join(triggers)}, every {period} ms{clients}"
                    )
                    yield Step("reported by", text)
    if not told:
        yield Step("reported by", "no control block: it is there to be read")


def _covers(member: str, name: str, fc: str) -> bool:
    path, _, constraint = member.rstrip("]").partition("[")
    return constraint == fc and (name == path or name.startswith(f"{path}.") or path.startswith(f"{name}."))
