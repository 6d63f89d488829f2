"""Which data set members some report waits for: only their changes are worth a trigger.

A trigger makes the library look through every report control block of the server (55 µs at 100 logical devices,
against 1 µs for a plain write), and most control blocks are not enabled. Buffered ones collect always; unbuffered
ones from RptEna on. When a client gives a control block another data set, everything counts as waited for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from typing import NamedTuple

from flexmap.faces.libiec61850.ctypes_api import Pointer, RcbEventHandler
from flexmap.scl.served import DCHG, QCHG

_SET_PARAMETER, _ENABLE, _DISABLE = 1, 4, 5


class ReportBlock(NamedTuple):
    """A report control block of the built model."""

    buffered: bool
    triggers: int
    members: frozenset[int]
    """Numbers of the members of its data set."""


class Awaited:
    """Follows the control blocks of a running server."""

    def __init__(self, library: ctypes.CDLL, server: Pointer, blocks: dict[Pointer, ReportBlock]) -> None:
        self._library = library
        self._blocks = blocks
        self._active = {pointer: block.triggers for pointer, block in blocks.items() if block.buffered}
        self._everything = False
        self._values: frozenset[int] = frozenset()
        self._qualities: frozenset[int] = frozenset()
        self._collect()
        # Kept referenced for as long as the library may call it.
        self._handler = RcbEventHandler(self._event)
        library.IedServer_setRCBEventHandler(server, self._handler, None)

    def value(self, members: Collection[int]) -> bool:
        """Tell whether a changed value in these members can be worth a report."""
        return self._everything or not self._values.isdisjoint(members)

    def quality(self, members: Collection[int]) -> bool:
        """Tell whether a changed quality in these members can be worth a report."""
        return self._everything or not self._qualities.isdisjoint(members)

    def refresh(self) -> None:
        """Forget control blocks whose client has gone without disabling them."""
        gone = [
            pointer
            for pointer in self._active
            if not self._blocks[pointer].buffered and not self._library.ReportControlBlock_getRptEna(pointer)
        ]
        for pointer in gone:
            del self._active[pointer]
        if gone:
            self._collect()

    def _event(
        self,
        _parameter: Pointer | None,
        pointer: Pointer,
        _client: Pointer | None,
        event: int,
        name: bytes | None,
        _error: int,
    ) -> None:
        block = self._blocks.get(pointer)
        if event == _SET_PARAMETER and name == b"DatSet":
            self._everything = True
        elif block is None:
            return
        elif event == _ENABLE or (event == _SET_PARAMETER and name == b"TrgOps" and block.buffered):
            self._active[pointer] = DCHG | QCHG
            self._collect()
        elif event == _DISABLE and not block.buffered:
            self._active.pop(pointer, None)
            self._collect()

    def _collect(self) -> None:
        self._values = self._members(DCHG)
        self._qualities = self._members(QCHG)

    def _members(self, trigger: int) -> frozenset[int]:
        blocks = [self._blocks[pointer].members for pointer, options in self._active.items() if options & trigger]
        return frozenset().union(*blocks)
