"""Retention: what is older than it may be is deleted, a little at a time."""

from __future__ import annotations

import sqlite3

from flexmap.store.meterlog import slot_of
from flexmap.store.settings import StoreSettings

_PRUNED = 500
"""Blocks deleted of one meter in one call of prune."""
_DAY_MS = 86_400_000


def prune(database: sqlite3.Connection, settings: StoreSettings, now: int) -> bool:
    """Delete what is too old at a time in ms, within a transaction; return whether there is more to delete."""
    # Meters that the site no longer has are pruned too.
    meters = database.execute("SELECT id FROM meter").fetchall()
    return sum(_prune_meter(database, settings, meter, now) for (meter,) in meters) > 0


def free_pages(database: sqlite3.Connection) -> None:
    """Give pages that are not used any more back to the file system, some of them; outside a transaction."""
    # As a script: it steps the statement to its end, where ``execute`` would free a single page.
    database.executescript("PRAGMA incremental_vacuum(1000);")


def _prune_meter(database: sqlite3.Connection, settings: StoreSettings, meter: int, now: int) -> bool:
    kept = [*settings.days.items(), ("event", settings.events_days)]
    for table, days in kept:
        if days:
            database.execute(
                f"DELETE FROM {table} WHERE meter = ? AND time < ?", (meter, int(now - days * _DAY_MS))
            )
    if settings.profile_days:  # of switches between rates the last one before stays: it has what was counted
        database.execute(
            "DELETE FROM tariff_switch WHERE meter = ? AND time <"
            " (SELECT max(time) FROM tariff_switch WHERE meter = ? AND time < ?)",
            (meter, meter, int(now / 1000 - settings.profile_days * _DAY_MS / 1000)),
        )
    if not settings.samples_days:
        return False
    return _delete_blocks(database, meter, int(now - settings.samples_days * _DAY_MS))


def _delete_blocks(database: sqlite3.Connection, meter: int, cut: int) -> bool:
    cursor = database.execute(
        "DELETE FROM block WHERE rowid IN (SELECT rowid FROM block WHERE meter = ? AND slot < ? LIMIT ?)",
        (meter, slot_of(meter, cut // 1000), _PRUNED),
    )
    return cursor.rowcount == _PRUNED
