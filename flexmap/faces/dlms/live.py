"""Objects of a meter that do something: what a logical device asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import ObjectDefinition, Pending, SlotValue
from flexmap.dlms.profile import ClientProfile


class LiveObject(Protocol):
    """An object with state, methods or attributes that can be written, of one meter.

    Its schema is shared by all meters that have it (``definition``); what it shows stands in slots.
    """

    @property
    def definition(self) -> ObjectDefinition:
        """The object as the schema has it."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return what stands in the slots of its attributes; callables are asked at each read."""

    def begin(self) -> None:
        """Go on with what was under way when flexmap ended."""

    def write(self, attribute: int, data: bytes) -> DataAccessResult | Pending:
        """Write an attribute; the client has the right to."""

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult | Pending:
        """Call a method; the client has the right to."""

    def stop(self) -> None:
        """Do nothing by itself any more."""
