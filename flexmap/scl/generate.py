"""SCL files from the mapping and the configuration: ICD, IID, CID and SCD of edition 2007B4 (IEC 61850-6)."""

from __future__ import annotations

import enum
import re
from pathlib import Path

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
    """The substation: single-line structure, communication and IED."""


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file by its extension.

    Raises ConfigurationError if the extension is none of SCL's.
    """
    try:
        return FileKind(path.suffix.lower().removeprefix("."))
    except ValueError:
        remedy = "end the name with .icd, .iid, .cid or .scd"
        raise ConfigurationError(
            "the extension does not say which kind of SCL", where=str(path), remedy=remedy
        ) from None


def generate(
    site: Site, kind: FileKind, *, address: Address | None = None, abilities: Abilities = LIBIEC61850
) -> bytes:
    """Return the SCL file of a site as UTF-8 XML; the same input gives the same bytes.

    ``address`` is where the MMS server is reached. Raises ConfigurationError if a name is malformed, too long or
    used twice, or if the engine cannot hold the site.
    """
    if kind is FileKind.ICD:
        site = _product_site(site)
    name = TEMPLATE if kind is FileKind.ICD else site.ied
    _check_names(site, name)
    if len(site.meters) + 1 > abilities.max_logical_devices:
        what = (
            f"{len(site.meters)} meters; the engine '{abilities.engine}' holds {abilities.max_logical_devices - 1}"
        )
        raise ConfigurationError(what, where="meters", remedy="use fewer meters, or another engine")
    contents = ied.devices(site, abilities)
    root = document.root_element()
    tool = f"flexmap {flexmap.__version__}"
    add(root, "Header", id=name, version=str(site.revision), revision="", toolID=tool, nameStructure="IEDName")
    if kind is FileKind.SCD:
        substation.write(root, site, name, contents)
    communication.write(root, name, ied.ACCESS_POINT, address or Address())
    libraries = ied.write(root, site, name, contents, abilities)
    templates.write(root, libraries)
    return document.serialise(root)


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
