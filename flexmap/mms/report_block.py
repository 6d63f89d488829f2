"""One report control block (IEC 61850-7-2 clause 17.2): settings, triggers, timers, what it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from flexmap.mms import data, report_pdu
from flexmap.mms.pdu import Name
from flexmap.mms.report_buffer import Buffer, Entry
from flexmap.mms.report_pdu import Header, trigger_bits
from flexmap.mms.timing import Clock, Timer
from flexmap.mms.variables import Component, Device, Variable

if TYPE_CHECKING:
    from flexmap.mms.association import Association

INTEGRITY, INTERROGATION = 8, 16
"""Trigger options, as SCL numbers them; those of changes are in :mod:`flexmap.mms.variables`."""

SETTINGS = ("RptID", "DatSet", "ConfRev", "OptFlds", "BufTm", "TrgOps", "IntgPd")
_WRAP = {True: 0xFFFF, False: 0xFF}
"""Largest SqNum of a buffered and an unbuffered block."""


class Host(NamedTuple):
    """What a block asks of the server."""

    clock: Clock
    number: Callable[[], int]
    """Gives the next EntryID."""
    buffered: Callable[[Block, Entry], None]
    """Takes an entry of a buffered block; it is sent (:meth:`Block.transmit`) once it is kept."""


class Block:
    """A report control block; its attributes stand in the device's values, what follows from them here."""

    def __init__(self, device: Device, offset: int, component: Component, node: str, host: Host) -> None:
        self.device = device
        self.buffered = component.path[0] == "BR"
        self.item = "$".join((node, *component.path))
        self.name = f"{device.name}/{self.item}"
        self._positions = {child.name: offset + child.start for child in component.children}
        self._host = host
        self.owner: Association | None = None
        """Whose it is, reserved or enabled."""
        self.explicit = False
        """The owner has reserved it, rather than just used it."""
        self.heir = ""
        """Address of the client for which it stays reserved after its association has ended."""
        self.enabled = False
        self.used = False
        """A buffered block that a client has enabled once: it buffers from then on."""
        self.buffer: Buffer | None = None
        self.resynchronised = False
        """The client has said behind which entry it goes on."""
        self.told: dict[int, bytes] = {}
        """The last value told of each member by entries that are not in the buffer any more."""
        self.data_set: Name | None = None
        self.members: tuple[Variable, ...] = ()
        self.unsettled: dict[tuple[int, int], bytes] = {}
        """After a restart: values last told, by member and place in it; what is told already is told no more."""
        self.triggers = self.options = self.buffer_time = self.period = 0
        self._pending: dict[int, tuple[int, bytes]] = {}
        self._delay: Timer | None = None
        self._integrity: Timer | None = None
        self._interrogation: Timer | None = None
        self.reservation: Timer | None = None
        self._sequence = 0
        self._header: Header | None = None
        self.parse()
        self.configured = self.settings
        """Settings of the SCL file."""

    def has(self, attribute: str) -> bool:
        """Tell whether the block has an attribute."""
        return attribute in self._positions

    def get(self, attribute: str) -> bytes:
        """Return an attribute, encoded."""
        return self.device.values[self._positions[attribute]]

    def put(self, attribute: str, value: bytes) -> bool:
        """Put an encoded value into an attribute, if the block has it; tell whether it is another one."""
        position = self._positions.get(attribute)
        return position is not None and self.device.set(position, value)

    @property
    def settings(self) -> dict[str, bytes]:
        """The settings, encoded."""
        return {name: self.get(name) for name in SETTINGS}

    def parse(self) -> None:
        """Take over the settings from the attributes; raises BerError."""
        self.options = data.to_bits(self.get("OptFlds"))
        self.triggers = trigger_bits(data.to_bits(self.get("TrgOps")))
        self.buffer_time = data.to_unsigned(self.get("BufTm"))
        self.period = data.to_unsigned(self.get("IntgPd"))
        self._header = None

    @property
    def collecting(self) -> bool:
        """Changes are of interest: there is a client, or a buffer."""
        return bool(self.members) and (self.enabled or self.used)

    # Events in

    def trigger(self, hits: dict[int, int]) -> None:
        """Take changed members, with the reasons, as they stand in the devices now."""
        members = self.members
        if not self._pending.keys().isdisjoint(hits):
            # A second change of a member does not overwrite the first one: that one is told now.
            self.flush()
        pending = self._pending
        for index, reasons in hits.items():
            pending[index] = (reasons, members[index].encoded())
        if not self.buffer_time:
            self.flush()
        elif self._delay is None:
            self._delay = self._host.clock.later(self.buffer_time / 1000, self._delayed)

    def _delayed(self) -> None:
        self._delay = None
        self.flush()

    def flush(self) -> None:
        """Tell what has changed."""
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        pending = self._pending
        if pending:
            self._pending = {}
            self._emit(tuple((index, *pending[index]) for index in sorted(pending)))

    def tell_all(self, reason: int) -> None:
        """Tell every member: integrity or general interrogation."""
        self.flush()
        if self.members:
            self._emit(tuple((index, reason, member.encoded()) for index, member in enumerate(self.members)))

    def _emit(self, members: tuple[tuple[int, int, bytes], ...]) -> None:
        now = self._host.clock.now()
        if self.buffered:
            self._host.buffered(self, Entry(self._host.number(), now, members))
        elif self.enabled:
            self._send(Entry(0, now, members), overflow=False)

    def interrogate(self) -> None:
        """Tell every member once the client has been answered."""
        if self._interrogation is None:
            self._interrogation = self._host.clock.later(0, self._interrogated)

    def _interrogated(self) -> None:
        self._interrogation = None
        if self.enabled:
            self.tell_all(INTERROGATION)

    def run_integrity(self) -> None:
        """Begin the integrity period anew, or none."""
        if self._integrity is not None:
            self._integrity.cancel()
            self._integrity = None
        if self.period and self.triggers & INTEGRITY and self.collecting:
            self._integrity = self._host.clock.later(self.period / 1000, self._period_over)

    def _period_over(self) -> None:
        self._integrity = None
        self.run_integrity()
        self.tell_all(INTEGRITY)

    def stop(self) -> None:
        """Call off all timers and forget what waits for the buffer time."""
        self._pending = {}
        for timer in (self._delay, self._integrity, self._interrogation):
            if timer is not None:
                timer.cancel()
        self._delay = self._integrity = self._interrogation = None

    # Reports out

    def begin(self, association: Association) -> None:
        """Report to a client from now on."""
        self.owner, self.enabled = association, True
        self._sequence = 0
        self._header = None
        self.put("SqNum", data.unsigned(0))
        self.put("RptEna", data.TRUE)
        self.run_integrity()

    def end(self) -> None:
        """Report no more; a buffer fills on."""
        if not self.used:
            self.stop()
        self.enabled = False
        self.put("RptEna", data.FALSE)
        self.show_entry()

    def transmit(self) -> None:
        """Send the entries of the buffer that the client has not got."""
        buffer = self.buffer
        if buffer is None or not self.enabled:
            return
        for entry in buffer.unsent():
            overflow, buffer.overflowed = buffer.overflowed, False
            buffer.sent = entry.number
            self._send(entry, overflow=overflow)
            if not self.enabled:
                return  # the client did not take it and was cut off
        self.show_entry()

    def show_entry(self) -> None:
        """Show in EntryID and TimeofEntry the newest entry; while the block is enabled, the one sent last."""
        buffer = self.buffer
        entry = None if buffer is None else buffer.last
        if buffer is not None and entry is not None:
            if self.enabled and buffer.sent != entry.number:
                return
            self.put("EntryID", report_pdu.entry_id(entry.number))
            self.put("TimeofEntry", data.binary_time(entry.time))

    def _send(self, entry: Entry, *, overflow: bool) -> None:
        association = self.owner
        if association is None:
            return
        header = self._header or self._new_header(association)
        sequence = self._sequence
        for pdu in report_pdu.encode(header, entry, sequence, overflow=overflow):
            association.send(pdu)
        self.put("SqNum", data.unsigned(sequence))
        self._sequence = sequence + 1 if sequence < _WRAP[self.buffered] else 0

    def _new_header(self, association: Association) -> Header:
        identifier = self.get("RptID")
        if not data.contents(identifier):
            identifier = data.visible_string(self.name)
        self._header = Header(
            identifier,
            self.get("DatSet"),
            self.get("ConfRev"),
            self.options,
            self.buffered,
            tuple(data.visible_string(reference(member)) for member in self.members),
            association.negotiated.max_pdu,
        )
        return self._header


def reference(variable: Variable) -> str:
    """Return a variable's reference: ``FMTESTM1/MMXN1$MX$Watt``."""
    for node, place in variable.device.schema.nodes.items():
        if place.offset == variable.offset:
            return f"{variable.device.name}/{'$'.join((node, *variable.component.path))}"
    raise LookupError(variable.device.name)
