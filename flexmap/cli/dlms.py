"""`flexmap dlms`: what head-ends find on the DLMS face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click
from twisted.internet import reactor
from twisted.internet.posixbase import PosixReactorBase

from flexmap.cli import objects_page, output
from flexmap.dlms.objects import Schema
from flexmap.faces.dlms.acting import acting_definitions
from flexmap.faces.dlms.device import management_device
from flexmap.faces.dlms.listing import CLIENTS, ListedItem, ListedObject, listing
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.ports import Ports, PortSettings, SerialPort, WrapperPort
from flexmap.faces.dlms.updates import update_definitions
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.config import CHANNEL, Config
from flexmap.gateway.dlms_face import dlms_settings
from flexmap.mapping.table import load_products
from flexmap.model import ConfigurationError, Meter, MeterType, Site
from flexmap.store import StoreSettings

MANAGEMENT = "management"
HEAD = ("OBIS", "Class", "Ver", "Item", "Name", "Type", *(name.capitalize() for name in CLIENTS), "IEC 61850")
_FILE = click.Path(path_type=Path, dir_okay=False)
_PORTS = (
    WrapperPort(host="127.0.0.1", port=4059),
    SerialPort(path="", made=True, speed=9600, mode_e=True),
)
"""Ports of the example of a management logical device: one of each kind of object."""


@click.group()
def dlms() -> None:
    """List what head-ends find on the DLMS/COSEM face."""


@dlms.command()
@click.argument("meter", required=False)
@click.option("-c", "--config", "path", type=_FILE, metavar="CONFIG", help="The site of METER.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the page on the objects of all meter types.")
def objects(meter: str | None, path: Path | None, as_json: bool, markdown: bool) -> None:
    """Print the COSEM objects of METER: attributes, types, methods, who may do what, and the IEC 61850 names.

    METER is a meter type or 'management', the gateway's own logical device; with CONFIG, a meter's id. Without it,
    what there is. Access: r reads, w writes, x calls; * needs requests that are protected.
    """
    lists = _Lists(configuration.load(path) if path else None)
    if markdown:
        click.echo(objects_page.page({name: lists.objects(name) for name in lists.titles}, lists.titles), nl=False)
        return
    if meter is None:
        rows = [(name, title, len(lists.objects(name))) for name, title in lists.titles.items()]
        output.show(("Meter", "Title", "Objects"), rows, as_json)
        return
    if meter not in lists.titles:
        remedy = f"one of {', '.join(list(lists.titles)[:10])}" + ("" if path else ", or a meter with --config")
        raise ConfigurationError(f"there is no '{meter}'", remedy=remedy)
    found = lists.objects(meter)
    if as_json:
        click.echo(output.json(found))
    else:
        click.echo(output.table(HEAD, [row for each in found for row in _rows(each)]))


class _Lists:
    """The object lists of a site, or of the meter types that flexmap ships."""

    def __init__(self, config: Config | None) -> None:
        self._config = config
        self._points = StoreSettings().profile_points
        self._types = load_products() if config is None else config.site.types
        self._meters = {} if config is None else {meter.id: meter for meter in config.site.meters}
        sources = () if config is None else config.sources
        self._head_end = {source.name for source in sources if source.clock == "head-end"}
        named = self._types.values() if config is None else ()
        self.titles = {
            MANAGEMENT: "The gateway's own logical device",
            **{each.id: each.title for each in named},
            **{meter.id: self._types[meter.type].title for meter in self._meters.values()},
        }
        """What has a list, and its title."""

    def objects(self, name: str) -> list[ListedObject]:
        """Return the list of a meter, of a meter type or of the management logical device."""
        if name == MANAGEMENT:
            return listing(self._management())
        meter = self._meters.get(name)
        if meter is None:
            return listing(self._schema(self._types[name], settable=True), self._types[name])
        meter_type = self._types[meter.type]
        return listing(
            self._schema(meter_type, settable=meter.source in self._head_end),
            meter_type,
            meter.direction,
            meter.ld,
        )

    def _schema(self, meter_type: MeterType, *, settable: bool) -> Schema:
        """``settable``: whether head-ends may set the clock."""
        version = 1 if self._config is None else self._config.dlms.association_version
        acting = acting_definitions(meter_type, pushes=False)
        live = [*update_definitions(meter_type), *acting]
        return MeterObjects(meter_type, self._points, version, live, settable_clock=settable).schema

    def _management(self) -> Schema:
        config = self._config
        if config is None:
            far = next(each for each in self._types.values() if each.id.endswith(CHANNEL))
            meter = Meter(id="", type=far.id, ld="", sap=16)
            site = Site(name="", ied="", meters=(meter,), types={far.id: far})
            return _management(site, _PORTS)
        settings = dlms_settings(config, secrets.load(config))
        keyed = [client.sap for client in settings.clients if client.keys is not None]
        return _management(config.site, settings.ports, keyed, config.dlms.association_version)


def _management(
    site: Site, ports: Sequence[PortSettings], clients: Sequence[int] = (), association_version: int = 1
) -> Schema:
    placed = Ports(
        cast("PosixReactorBase", reactor),
        ports,
        idle_timeout=1,
        max_connections=1,
        max_connections_per_address=1,
    )
    return management_device(
        site,
        bytes(8),
        lambda: 0,
        placed.objects(),
        clients=clients,
        association_version=association_version,
    ).schema


def _rows(listed: ListedObject) -> list[tuple[object, ...]]:
    head = (listed.obis, listed.class_id, listed.version)
    return [
        *(
            (*head, str(item.index), item.name, item.type, *_access(item), item.iec61850)
            for item in listed.attributes
        ),
        *((*head, f"m{item.index}", item.name, item.type, *_access(item), "") for item in listed.methods),
    ]


def _access(item: ListedItem) -> list[str]:
    return [item.access[client] for client in CLIENTS]
