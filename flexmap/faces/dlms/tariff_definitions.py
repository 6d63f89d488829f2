"""The objects of a meter's tariff, as the schema has them, and the scripts that switch it."""

from __future__ import annotations

from functools import lru_cache

from flexmap.dlms import axdr, classes, schedule_table, scripts
from flexmap.dlms import tariff_classes as kinds
from flexmap.dlms.objects import ObjectDefinition
from flexmap.dlms.scripts import ScriptAction, ScriptName, Scripts, Service
from flexmap.mapping.tariff import TARIFF_SCRIPTS, mask_name
from flexmap.model import MeterType, Tariff, obis

CALENDAR_LN = obis.parse("0-0:13.0.0")
SPECIAL_DAYS_LN = obis.parse("0-0:11.0.0")
SCHEDULE_TABLE_LN = obis.parse("0-0:12.0.0")
ACTIVATION_LN = obis.parse("0-0:14.0.1")


def tariff_definitions(meter_type: MeterType) -> tuple[ObjectDefinition, ...]:
    """Return the objects that a meter type with a tariff has."""
    if meter_type.tariff is None:
        return ()
    return (
        kinds.activity_calendar(CALENDAR_LN),
        kinds.special_days_table(SPECIAL_DAYS_LN),
        kinds.register_activation(ACTIVATION_LN),
        schedule_table.schedule_table(SCHEDULE_TABLE_LN),
        tariff_table(meter_type.tariff),
    )


@lru_cache
def tariff_scripts(tariff: Tariff) -> Scripts:
    """Return the scripts: script n makes the mask of rate n active."""
    return {
        rate: [
            ScriptAction(
                Service.WRITE,
                kinds.REGISTER_ACTIVATION,
                ACTIVATION_LN,
                kinds.ACTIVE_MASK,
                axdr.octet_string(mask_name(rate)),
            )
        ]
        for rate in range(1, tariff.rates + 1)
    }


@lru_cache
def tariff_table(tariff: Tariff) -> ObjectDefinition:
    """Return the tariff script table."""
    return scripts.script_table(TARIFF_SCRIPTS, tariff_scripts(tariff))


def assigned(meter_type: MeterType) -> list[tuple[int, bytes]]:
    """Return class and logical name of what masks activate: each quantity in each rate, quantity by quantity."""
    energies = [(each.registers[0].class_id, obis.parse(each.registers[0].obis)) for each in meter_type.rates]
    maxima = [(classes.EXTENDED_REGISTER, obis.parse(code)) for each in meter_type.demands for code in each.rates]
    return energies + maxima


def execution(script: ScriptName) -> ScriptAction:
    """Return the action that executes a script of a table."""
    table, number = script
    return ScriptAction(
        Service.EXECUTE, scripts.SCRIPT_TABLE, table, scripts.EXECUTE, axdr.encode("long-unsigned", number)
    )
