"""`flexmap map`: the mapping table of a meter type, both names of every point side by side."""

from __future__ import annotations

import click

from flexmap.cli import output
from flexmap.mapping import cdc, units
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError, MeterType, Part, Point

HEAD = ("Point", "OBIS", "Class", "Type", "Scaler", "Unit", "IEC 61850", "CDC", "Title")
_SIGNS = {Part.NET: "", Part.PLUS: "+", Part.MINUS: "-"}


@click.command("map")
@click.argument("meter_type", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def map_command(meter_type: str | None, as_json: bool) -> None:
    """Print the map of METER_TYPE: OBIS code and logical node of every point; without it, the types."""
    types = load_products()
    if meter_type is None:
        rows = [(name, found.title, len(found.served) + len(found.identity)) for name, found in types.items()]
        output.show(("Type", "Title", "Points"), rows, as_json)
        return
    if meter_type not in types:
        raise ConfigurationError(f"'{meter_type}' is not a meter type", remedy=f"one of {', '.join(types)}")
    output.show(HEAD, rows_of(types[meter_type]), as_json)


def rows_of(meter_type: MeterType) -> list[tuple[object, ...]]:
    """Return a row of the table for each point of the type."""
    return [_row(point) for point in (*meter_type.served, *meter_type.identity)]


def _row(point: Point) -> tuple[object, ...]:
    codes = " ".join(f"{_SIGNS[register.part]}{register.obis}" for register in point.registers)
    place = cdc.place(point.reference)
    leaf = "" if point.reference.cdc == "DPL" else f".{place.attribute}"
    reference = f"{point.reference.path}{leaf} [{place.fc}]"
    register = point.registers[0]
    attribute = f"{register.class_id}.{register.attribute}"
    unit = units.BY_COSEM[point.unit].symbol
    wire = (attribute, point.type, point.scaler, unit)
    return (point.name, codes, *wire, reference, point.reference.cdc, point.title)
