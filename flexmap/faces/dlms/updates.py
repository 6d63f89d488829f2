"""The objects by which a head-end replaces a meter's firmware: image transfer, its script table, its schedule."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from flexmap.dlms import scripts
from flexmap.dlms.objects import ObjectDefinition
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.images import DEFINITION, ImageTransfer
from flexmap.faces.dlms.scripts import (
    ACTIVATE_IMAGE,
    IMAGE_SCHEDULE_LN,
    IMAGE_SCRIPTS,
    IMAGE_SCRIPTS_LN,
    ActionSchedule,
    ScriptTable,
)
from flexmap.faces.interface import FirmwareWay
from flexmap.mapping.zone import Zone
from flexmap.model import MeterType
from flexmap.store.files import MeterFiles

_DEFINITIONS = (
    DEFINITION,
    scripts.script_table(IMAGE_SCRIPTS_LN, IMAGE_SCRIPTS),
    scripts.single_action_schedule(IMAGE_SCHEDULE_LN, IMAGE_SCRIPTS_LN, ACTIVATE_IMAGE),
)


class Updates(msgspec.Struct, frozen=True):
    """What the objects need."""

    way: FirmwareWay
    files: MeterFiles


def update_definitions(meter_type: MeterType) -> tuple[ObjectDefinition, ...]:
    """Return the objects that meters of a type have: those behind a concentrator take firmware, others do not."""
    return _DEFINITIONS if meter_type.channel else ()


class UpdateObjects(NamedTuple):
    """The objects of one meter."""

    images: ImageTransfer
    table: ScriptTable
    schedule: ActionSchedule


def update_objects(meter: str, device: MeterDevice, updates: Updates, reactor: Any, zone: Zone) -> UpdateObjects:
    """Return the objects of a meter whose firmware can be replaced; raises LocalError."""
    images = ImageTransfer(meter, updates.files, updates.way, reactor.seconds)
    table = ScriptTable(IMAGE_SCRIPTS_LN, IMAGE_SCRIPTS, device.perform)
    schedule = ActionSchedule(meter, IMAGE_SCHEDULE_LN, (table, ACTIVATE_IMAGE), updates.files, reactor, zone=zone)
    return UpdateObjects(images, table, schedule)
