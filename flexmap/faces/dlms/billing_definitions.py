"""The objects of the end of a billing period, as the schema has them: profile, script table, schedule.

The script (MDI reset / end of billing period) captures a row and resets the maximum demands, in this order, so
that a row has the maximum of the period that it ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from flexmap.dlms import axdr, classes, scripts
from flexmap.dlms.objects import ObjectDefinition
from flexmap.dlms.scripts import ScriptAction, Scripts, Service
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms.demand import RESET
from flexmap.model import MeterType, obis

BILLING_LN = obis.parse("0-0:98.1.0")
SCRIPTS_LN = obis.parse("0-0:10.0.1")
SCHEDULE_LN = obis.parse("0-0:15.0.0")
END_OF_PERIOD = 1
"""The only script."""
CAPTURE = 2
"""Method of Profile generic."""
ENTRIES = 400


class Billing:
    """The objects of a meter type; ``columns``: what load profiles capture, but for the status."""

    def __init__(self, meter_type: MeterType, columns: Sequence[CaptureObject]) -> None:
        self.columns = billing_columns(meter_type, columns)
        self.profile = classes.profile_generic(
            BILLING_LN, self.columns, capture_period=0, entries=ENTRIES, capture=True
        )
        self.scripts = billing_scripts(meter_type)
        self.table = scripts.script_table(SCRIPTS_LN, self.scripts)

    @property
    def definitions(self) -> tuple[ObjectDefinition, ...]:
        """All of them."""
        schedule = scripts.single_action_schedule(SCHEDULE_LN, SCRIPTS_LN, END_OF_PERIOD)
        return self.profile, self.table, schedule


def billing_columns(meter_type: MeterType, columns: Sequence[CaptureObject]) -> tuple[CaptureObject, ...]:
    """Return the capture objects: those of the load profiles, the rates, each maximum with its capture time."""
    rates = [
        CaptureObject(register.class_id, obis.parse(register.obis), register.attribute)
        for point in meter_type.rates
        for register in point.registers
    ]
    maxima = [
        CaptureObject(classes.EXTENDED_REGISTER, obis.parse(code), attribute)
        for demand in meter_type.demands
        for code in (demand.maximum, *demand.rates)
        for attribute in (2, 5)
    ]
    return (*columns, *rates, *maxima)


def billing_scripts(meter_type: MeterType) -> Scripts:
    """Return the script that ends a period."""
    nothing = axdr.encode("integer", 0)
    actions = [ScriptAction(Service.EXECUTE, classes.PROFILE_GENERIC, BILLING_LN, CAPTURE, nothing)]
    actions += [
        ScriptAction(Service.EXECUTE, classes.EXTENDED_REGISTER, obis.parse(code), RESET, nothing)
        for demand in meter_type.demands
        for code in (demand.maximum, *demand.rates)
    ]
    return {END_OF_PERIOD: actions}
