"""What a server engine really does: the ground of ``Services`` in a generated file and of the check against it."""

from __future__ import annotations

import msgspec


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """Abilities of one MMS engine, in the words of SCL's ``Services`` (IEC 61850-6 clause 9.3.2)."""

    engine: str
    max_clients: int
    """Associations held at once: ``DynAssociation max``."""
    max_logical_devices: int
    max_instances: int = 5
    """Most instances of an indexed report control block: clients that take the same reports at once."""
    max_report_blocks: int
    """Report control blocks, instances counted, that keep up with one update a second of every point."""
    name_length: int = 64
    """Longest IED name + logical device ``inst``."""
    dynamic_data_sets: bool = False
    file_service: bool = False
    setting_groups: bool = False
    goose: bool = False
    sampled_values: bool = False
    logs: bool = False
    dynamic_report_fields: tuple[str, ...] = ("datSet", "rptID", "optFields", "bufTime", "trgOps", "intgPd")
    """Fields of a report control block that a client may set: ``Dyn`` in ``ReportSettings``."""
    reserve_time: bool = True
    """``ResvTms`` is there in buffered control blocks."""
    owner: bool = False
    """``Owner`` is there in control blocks."""


LIBIEC61850 = Abilities(engine="libiec61850", max_clients=5, max_logical_devices=100, max_report_blocks=512)
"""libiec61850 1.6 with dynamic data sets and the file service switched off."""

NATIVE = Abilities(
    engine="native",
    max_clients=500,
    max_logical_devices=10_000,
    max_report_blocks=50_000,
    dynamic_data_sets=True,
    owner=True,
)
"""flexmap's own engine; it has the file service where a folder is configured."""

DYNAMIC_DATA_SETS = 16, 500
"""Data sets that clients may define, in each logical device, the VMD and each association; members of one."""

ENGINES = {abilities.engine: abilities for abilities in (LIBIEC61850, NATIVE)}
