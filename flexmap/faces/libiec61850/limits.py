"""What libiec61850, as its wheel is built, can hold; checked before anything is started."""

from __future__ import annotations

from flexmap.mapping import cdc
from flexmap.model import ConfigurationError, Meter, Point, Reference, Site
from flexmap.scl.abilities import LIBIEC61850

ENGINE = LIBIEC61850.engine
MAX_CLIENTS = LIBIEC61850.max_clients
"""Connections at a time, fixed in the wheel's build; a sixth client is refused."""
MAX_DEVICES = LIBIEC61850.max_logical_devices
"""Logical devices: building the model and every report cost with the square of their number."""
MAX_DEVICE_NAME = LIBIEC61850.name_length
"""Characters of IED name and logical device name together."""
MAX_NODE_NAME = 16
"""Characters of prefix, class and instance (IEC 61850-7-2: prefix and instance 12 together)."""
MAX_ITEM = 64
"""Characters of an MMS item id (IEC 61850-8-1), for example ``MMXU1$MX$PhV$phsA$cVal$mag$f``."""


def check_limits(site: Site) -> None:
    """Check a site against the engine's limits.

    Raises ConfigurationError naming the limit and the way out.
    """
    devices = len(site.meters) + 1
    if devices > MAX_DEVICES:
        raise ConfigurationError(
            f"{len(site.meters)} meters and the gateway are {devices} logical devices; the MMS engine {ENGINE} "
            f"holds {MAX_DEVICES} (and {MAX_CLIENTS} clients)",
            where="mms.engine",
            remedy=f"serve at most {MAX_DEVICES - 1} meters from one gateway: split the site over several",
        )
    for meter in site.meters:
        name = site.ied + meter.ld
        if len(name) > MAX_DEVICE_NAME:
            raise ConfigurationError(
                f"IED name and logical device name '{name}' are {len(name)} characters together; the MMS "
                f"engine {ENGINE} holds {MAX_DEVICE_NAME}",
                where=f"meter {meter.id}",
                remedy="shorten the IED name or the meter's ld",
            )
    seen: set[str] = set()
    for meter in site.meters:
        if meter.type not in seen:
            seen.add(meter.type)
            _check_type(site, meter)


def _check_type(site: Site, meter: Meter) -> None:
    for point in site.type_of(meter).served:
        for reference in (point.reference, point.supply_reference, point.control):
            if reference is not None:
                _check_reference(meter.type, point, reference)


def _check_reference(meter_type: str, point: Point, reference: Reference) -> None:
    place = cdc.place(reference)
    item = "$".join([reference.ln, place.fc, *reference.do.split("."), *place.attribute.split(".")])
    for what, limit in ((reference.ln, MAX_NODE_NAME), (item, MAX_ITEM)):
        if len(what) > limit:
            raise ConfigurationError(
                f"'{what}' has {len(what)} characters; the MMS engine {ENGINE} holds {limit}",
                where=f"meter type {meter_type}, point {point.name}",
                remedy="shorten the prefix of the logical node",
            )
