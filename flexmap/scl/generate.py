"""SCL files from the mapping and the configuration: ICD, IID, CID, SCD and SED of edition 2007B4 (IEC 61850-6)."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

import flexmap
from flexmap.model import ConfigurationError, Meter, MeterType, Site
from flexmap.scl import communication, document, ied, substation, templates
from flexmap.scl.abilities import LIBIEC61850, Abilities
from flexmap.scl.communication import Address
from flexmap.scl.document import add
from flexmap.scl.nodes import ROOT_LD

TEMPLATE = "TEMPLATE"
"""IED name in an ICD."""

_IED_NAME = re.compile(r"(?!None$)[A-Za-z][0-9A-Za-z_]{0,63}")
_LD_INST = re.compile(r"[A-Za-z0-9][0-9A-Za-z_]{0,63}")


class FileKind(enum.StrEnum):
    """Kinds of SCL file (IEC 61850-6 clause 7)."""

    ICD = "icd"
    """A product: IED named TEMPLATE, one logical device for each meter type."""
    IID = "iid"
    """One configured IED, from its own tool to the system tool."""
    CID = "cid"
    """One configured IED, as the server loads it."""
    SCD = "scd"
    """The substation: single-line structure, communication and IEDs."""
    SED = "sed"
    """IEDs that another project may refer to, with its rights to them."""


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file by its extension.

    Raises ConfigurationError if the extension is none of SCL's.
    """
    try:
        return FileKind(path.suffix.lower().removeprefix("."))
    except ValueError:
        remedy = "end the name with .icd, .iid, .cid, .scd or .sed"
        raise ConfigurationError(
            "the extension does not say which kind of SCL", where=str(path), remedy=remedy
        ) from None


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway of a project."""

    site: Site
    address: Address = Address()
    """Where its MMS server is reached."""
    abilities: Abilities = LIBIEC61850


def generate(
    site: Site, kind: FileKind, *, address: Address | None = None, abilities: Abilities = LIBIEC61850
) -> bytes:
    """Return the SCL file of a site as UTF-8 XML; the same input gives the same bytes.

    ``address`` is where the MMS server is reached. Raises ConfigurationError if a name is malformed, too long or
    used twice, or if the engine cannot hold the site.
    """
    return generate_project([Gateway(site=site, address=address or Address(), abilities=abilities)], kind)


def generate_project(gateways: Sequence[Gateway], kind: FileKind) -> bytes:
    """Return one SCL file of several gateways (one, if the kind describes one IED) as UTF-8 XML.

    Raises ConfigurationError as :func:`generate`, and if two gateways have one name or one address.
    """
    if kind is FileKind.ICD:
        gateways = [msgspec.structs.replace(gateway, site=_product_site(gateway.site)) for gateway in gateways]
    _check_project(gateways, kind)
    root = document.root_element()
    head = gateways[0].site
    project = TEMPLATE if kind is FileKind.ICD else head.ied
    tool = f"flexmap {flexmap.__version__}"
    revision = str(max(gateway.site.revision for gateway in gateways))
    add(root, "Header", id=project, version=revision, revision="", toolID=tool, nameStructure="IEDName")
    names = [TEMPLATE if kind is FileKind.ICD else gateway.site.ied for gateway in gateways]
    contents = [_contents(gateway, name) for gateway, name in zip(gateways, names, strict=True)]
    if kind is FileKind.SCD:
        for gateway, name, devices in zip(gateways, names, contents, strict=True):
            title = "Substation" if len(gateways) == 1 else name
            substation.write(root, gateway.site, title, name, devices)
    subnetwork = communication.write_subnetwork(root)
    libraries: dict[str, templates.Library] = {}
    owner = project if kind is FileKind.SED else None
    for gateway, name, devices in zip(gateways, names, contents, strict=True):
        communication.write(subnetwork, name, ied.ACCESS_POINT, gateway.address)
        ied.write(root, gateway.site, name, devices, abilities=gateway.abilities, libraries=libraries, owner=owner)
    templates.write(root, list(libraries.values()))
    return document.serialise(root)


def _contents(gateway: Gateway, name: str) -> list[ied.Device]:
    site, abilities = gateway.site, gateway.abilities
    _check_names(site, name)
    if len(site.meters) + 1 > abilities.max_logical_devices:
        what = (
            f"{len(site.meters)} meters; the engine '{abilities.engine}' holds {abilities.max_logical_devices - 1}"
        )
        raise ConfigurationError(what, where="meters", remedy="use fewer meters, or another engine")
    return ied.devices(site, abilities)


def _check_project(gateways: Sequence[Gateway], kind: FileKind) -> None:
    if len(gateways) != 1 and kind not in {FileKind.SCD, FileKind.SED}:
        what = f"{len(gateways)} gateways; a file of this kind describes one IED"
        raise ConfigurationError(what, where=kind.upper(), remedy="write an .scd or .sed")
    names: set[str] = set()
    places: dict[tuple[str, int], str] = {}
    for gateway in gateways:
        name, place = gateway.site.ied, (gateway.address.host, gateway.address.port)
        if name in names:
            remedy = "give each gateway a name of its own"
            raise ConfigurationError(f"two gateways are called '{name}'", where="site, field 'ied'", remedy=remedy)
        if place in places:
            what = f"'{name}' and '{places[place]}' are both reached at {place[0]}:{place[1]}"
            raise ConfigurationError(what, where="mms, field 'listen'", remedy="say where each is reached")
        names.add(name)
        places[place] = name


def product_icd(meter_type: MeterType, *, abilities: Abilities = LIBIEC61850) -> bytes:
    """Return the ICD of the gateway with one meter of a type."""
    meter = Meter(id="meter", type=meter_type.id, ld="M1", sap=16)
    site = Site(
        name=f"flexmap gateway, {meter_type.title}", ied=TEMPLATE, meters=(meter,), types={meter.type: meter_type}
    )
    return generate(site, FileKind.ICD, abilities=abilities)


def _product_site(site: Site) -> Site:
    """Return the site with one anonymous meter of each type in use."""
    used = dict.fromkeys(meter.type for meter in site.meters)
    meters = tuple(
        Meter(id=f"meter {number}", type=name, ld=f"M{number}", sap=15 + number)
        for number, name in enumerate(used, 1)
    )
    types = {name: site.types[name] for name in used}
    return Site(name=site.name, ied=TEMPLATE, meters=meters, types=types, vendor=site.vendor)


def _check_names(site: Site, name: str) -> None:
    if not _IED_NAME.fullmatch(name):
        remedy = "use up to 64 letters, digits and '_', a letter first, not 'None'"
        raise ConfigurationError(f"'{name}' is not an IED name", where="site, field 'ied'", remedy=remedy)
    seen = {ROOT_LD: "the gateway itself"}
    for meter in site.meters:
        where = f"meter '{meter.id}', field 'ld'"
        if not _LD_INST.fullmatch(meter.ld):
            remedy = "use letters, digits and '_'"
            raise ConfigurationError(f"'{meter.ld}' is not a logical device name", where=where, remedy=remedy)
        if len(name) + len(meter.ld) > 64:
            what = f"'{name}{meter.ld}' is longer than 64 characters"
            raise ConfigurationError(what, where=where, remedy="shorten the IED name or the logical device name")
        if meter.ld in seen:
            what = f"'{meter.ld}' is already {seen[meter.ld]}"
            raise ConfigurationError(what, where=where, remedy="give each meter a name of its own")
        seen[meter.ld] = f"meter '{meter.id}'"
