"""Who is told of changes unasked: open associations with EventNotification or InformationReport.

Neither service is confirmed. What a client is not told of, because too much happens or because it does not take
what is written, stands in the event logs all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexmap.dlms.association import Association
    from flexmap.dlms.notification import Change

BURST = 16
"""Notifications that one association gets at once, at most; after that one in a second."""


class Audience:
    """The associations that listen, by the server SAP of their logical device."""

    def __init__(self, now: Callable[[], float] | None) -> None:
        """``now`` gives seconds; without it there is no bound on the rate."""
        self._now = now
        self._listening: dict[int, dict[Association, tuple[float, float]]] = {}
        """Of each association how many notifications it may still get, and when that was so."""
        self.told = 0
        """Notifications that went out."""
        self.left_out = 0
        """Those that did not: too many, too long, or the peer does not take what is written."""

    def __len__(self) -> int:
        """Return the number of associations that listen."""
        return sum(len(listening) for listening in self._listening.values())

    def join(self, association: Association) -> None:
        """Tell an association of changes from now on."""
        time = 0.0 if self._now is None else self._now()
        self._listening.setdefault(association.server_sap, {})[association] = (float(BURST), time)

    def leave(self, association: Association) -> None:
        """Tell it no more."""
        listening = self._listening.get(association.server_sap)
        if listening is not None:
            listening.pop(association, None)
            if not listening:
                del self._listening[association.server_sap]

    def tell(self, server_sap: int, change: Change) -> None:
        """Tell all who may know of a change in a logical device."""
        listening = self._listening.get(server_sap, {})
        for association in list(listening):
            if not association.concerns(change):
                continue
            if self._allowed(listening, association) and association.tell(change):
                self.told += 1
            else:
                self.left_out += 1

    def _allowed(self, listening: dict[Association, tuple[float, float]], association: Association) -> bool:
        if self._now is None:
            return True
        left, since = listening[association]
        now = self._now()
        left = min(float(BURST), left + max(0.0, now - since))
        allowed = left >= 1
        listening[association] = (left - 1 if allowed else left, now)
        return allowed
