"""The security event log of the gateway, ``0-0:99.98.9`` in its own logical device: who failed to prove what."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.dlms import axdr, classes
from flexmap.dlms.objects import LogicalDevice, ObjectDefinition
from flexmap.dlms.profile import AssociationEvent
from flexmap.faces.dlms.buffers import event_rows
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.faces.dlms.objects import EVENT_ENTRIES, event_code_name, event_columns, event_log_name
from flexmap.mapping.zone import UTC
from flexmap.model import GATEWAY, Event, EventCode, EventLog
from flexmap.store import Store

LOG = EventLog.SECURITY
_UTC = LocalTime(UTC)


def security_log_objects() -> list[ObjectDefinition]:
    """Return the log (class 7) and the code of its last event (class 1)."""
    return [
        classes.data(event_code_name(LOG)),
        classes.profile_generic(event_log_name(LOG), event_columns(LOG), capture_period=0, entries=EVENT_ENTRIES),
    ]


class SecurityLog:
    """Fills the log. Of each code it takes one event in a second: an attacker cannot flood the store."""

    def __init__(
        self, store: Store, device: LogicalDevice, now: Callable[[], float], local: LocalTime = _UTC
    ) -> None:
        self._store = store
        self._values = device.values
        self._now = now
        self._last: dict[EventCode, int] = {}
        rows = event_rows(store, GATEWAY, LOG, local)
        slot = device.schema.slot
        self._code = slot(classes.DATA, event_code_name(LOG), 2)
        self._values[self._code] = axdr.encode("unsigned", 0)
        self._values[slot(classes.PROFILE_GENERIC, event_log_name(LOG), 2)] = rows
        self._values[slot(classes.PROFILE_GENERIC, event_log_name(LOG), 7)] = lambda: axdr.encode(
            "double-long-unsigned", rows.select(None).total
        )

    def take(self, happened: AssociationEvent) -> None:
        """Log what is a threat, and changes of keys."""
        if not happened.threat:
            return
        code = EventCode(happened.threat)
        now = self._now()
        if self._last.get(code) == int(now):
            return
        self._last[code] = int(now)
        text = f"client {happened.client_sap}, server {happened.server_sap}: {happened.reason}"
        self._store.event(Event(GATEWAY, int(now * 1000), LOG, code, text))
        self._values[self._code] = axdr.encode("unsigned", code)
