"""Reporting (IEC 61850-7-2 clause 17, -8-1 clause 17): what a server does with its report control blocks.

::

    reports = Reports(server, clock, store=store)
    reports.changed(device, [(position, DATA_CHANGE)])

A block comes to life when a client first writes to it, or when the store has kept it. Only blocks that report, or
fill a buffer, are looked at when values change, and only those with a member that contains a changed position.

A buffered block fills its buffer from the first time that a client has enabled it, across restarts. A report of it
leaves once its entry is in the store. ``changed`` returns before that; the reports follow within the same turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from flexmap.mms import data, report_buffer
from flexmap.mms.association import Association
from flexmap.mms.data import DataAccessError
from flexmap.mms.pdu import ASSOCIATION, Name
from flexmap.mms.report_block import Block, Host
from flexmap.mms.report_buffer import Buffer, Entry, EntryStore, Kept, Volatile
from flexmap.mms.report_writes import write
from flexmap.mms.server import Server
from flexmap.mms.timing import Clock, Timer
from flexmap.mms.variables import Change, Component, Device, Outcome, Variable, VariableList
from flexmap.model import LocalError

BUFFER_SIZE = 256 * 1024
"""Octets that the buffer of a block may hold."""
_SETTLE_AT = 64
"""Blocks with new entries after which they are written and sent, even within one batch of changes."""

_Watch = dict[int, list[tuple[Block, int]]]
"""Blocks and the places of their members, by position."""


class Reports:
    """All report control blocks of a server."""

    def __init__(
        self,
        server: Server,
        clock: Clock,
        *,
        store: EntryStore | None = None,
        settable: Iterable[str] = ("RptID", "DatSet", "OptFlds", "BufTm", "TrgOps", "IntgPd"),
        buffer_size: int = BUFFER_SIZE,
        on_error: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Take over all blocks of the server; ``settable`` are the settings that clients may change."""
        self.server = server
        self.clock = clock
        self.settable = frozenset(settable)
        self._store = store or Volatile()
        self._buffer_size = buffer_size
        self._on_error = on_error
        self._blocks: dict[tuple[Device, int], Block] = {}
        self._owned: dict[Association, set[Block]] = {}
        self._watched: dict[Device, _Watch] = {}
        self._lists: dict[Name, int] = {}
        """How many blocks use a data set."""
        self._dirty: dict[Block, None] = {}
        """Blocks with entries that are not written yet."""
        self._settling: Timer | None = None
        self._last_number = 0
        self._host = Host(clock, self._next_number, self._buffered)
        server.list_users.append(lambda name: name in self._lists)
        for device in server.variables.devices.values():
            for offset, schema in device.schema.nodes.values():
                for constraint in ("RP", "BR"):
                    component = schema.paths.get(constraint)
                    if component is not None:
                        device.writers[offset + component.start] = self
        self._restore()

    # Changes in

    def changed(self, device: Device, changes: list[Change]) -> None:
        """Take changed positions of a device, which all stand in it already."""
        watched = self._watched.get(device)
        if not watched:
            return
        hits: dict[Block, dict[int, int]] = {}
        for position, reason in changes:
            for block, index in watched.get(position, ()):
                if block.unsettled:
                    told = block.unsettled.pop((index, position - block.members[index].start), None)
                    if told == device.values[position]:
                        continue
                if reason & block.triggers:
                    reasons = hits.setdefault(block, {})
                    reasons[index] = reasons.get(index, 0) | reason
        for block, reasons in hits.items():
            block.trigger(reasons)

    def told_times(self) -> dict[Device, int]:
        """Return the newest time stamp (ms since 1970) that was told of each device before the restart."""
        times: dict[Device, int] = {}
        for block in self._blocks.values():
            for (index, _), value in block.unsettled.items():
                device = block.members[index].device
                times[device] = max(times.get(device, 0), report_buffer.milliseconds(value))
        return times

    def close(self) -> None:
        """Write what is not written, call off all timers."""
        self._settle()
        for block in self._blocks.values():
            block.stop()
            if block.reservation is not None:
                block.reservation.cancel()
                block.reservation = None

    # Clients

    def write(self, association: Association, variable: Variable, value: bytes) -> Outcome:
        """Take what a client writes to an attribute of a block; see Writer."""
        path = variable.component.path
        if len(path) != 3 or variable.component.parent is None:
            return DataAccessError.OBJECT_ACCESS_DENIED
        block = self.block(variable.device, variable.offset, variable.component.parent)
        return write(self, block, association, (path[2], value))

    def block(self, device: Device, offset: int, component: Component) -> Block:
        """Return a block by its place."""
        key = device, offset + component.start
        found = self._blocks.get(key)
        if found is None:
            node = next(name for name, place in device.schema.nodes.items() if place.offset == offset)
            found = self._blocks[key] = Block(device, offset, component, node, self._host)
            if found.buffered:
                found.buffer = Buffer(self._buffer_size)
        return found

    def own(self, block: Block, association: Association) -> None:
        """Give a block to a client."""
        self._owned.setdefault(association, set()).add(block)
        association.on_close(self._closed)
        block.owner, block.heir = association, ""
        if block.reservation is not None:
            block.reservation.cancel()
            block.reservation = None
        block.put("Owner", data.octet_string(_address_octets(association.address)))
        block.put("Resv", data.TRUE)

    def release(self, block: Block) -> None:
        """Take a block from its client: anybody may have it."""
        if block.owner is not None:
            self._owned.get(block.owner, set()).discard(block)
        block.owner, block.heir, block.explicit = None, "", False
        block.put("Owner", data.octet_string(b""))
        block.put("Resv", data.FALSE)
        block.put("ResvTms", data.integer(0))

    def _closed(self, association: Association) -> None:
        for block in tuple(self._owned.pop(association, ())):
            self.disable(block)
            seconds = data.to_integer(block.get("ResvTms")) if block.explicit and block.has("ResvTms") else 0
            if seconds > 0:
                block.owner, block.heir = None, association.address
                block.reservation = self.clock.later(seconds, partial(self._expired, block))
            else:
                self.release(block)

    def _expired(self, block: Block) -> None:
        block.reservation = None
        self.release(block)

    def enable(self, block: Block, association: Association) -> DataAccessError | None:
        """Report to a client from now on."""
        found = self.resolve(block, association)
        if not found:
            return DataAccessError.OBJECT_ATTRIBUTE_INCONSISTENT
        self.own(block, association)
        if not block.collecting:
            self._watch(block, found)
        if block.buffered and not block.used:
            block.used = True
            self.keep(block)
        block.begin(association)
        self._dirty[block] = None
        self._settle_soon()
        return None

    def disable(self, block: Block) -> None:
        """Report no more."""
        if not block.enabled:
            return
        block.end()
        if not block.collecting:
            self.unwatch(block)

    # Data sets

    def resolve(self, block: Block, association: Association | None) -> tuple[Name, tuple[Variable, ...]] | None:
        """Return the data set that a block names, and its members; None if it names none that can be reported."""
        name = data_set_name(data.to_text(block.get("DatSet")))
        if name is None or (block.buffered and name[0] == ASSOCIATION):
            return None
        found = self._list(name, association)
        if found is None:
            return None
        variables = self.server.variables
        members = [variables.find(domain or name[0] or "", item) for domain, item in found.members]
        whole = tuple(member for member in members if member is not None)
        return (name, whole) if whole and len(whole) == len(members) else None

    def _list(self, name: Name, association: Association | None) -> VariableList | None:
        if association is not None:
            return association.list_of(name)
        device = self.server.variables.devices.get(name[0] or "")
        table = self.server.variables.lists if name[0] is None else device.lists if device else {}
        return table.get(name[1])

    def _watch(self, block: Block, found: tuple[Name, tuple[Variable, ...]]) -> None:
        block.data_set, block.members = found
        self._lists[found[0]] = self._lists.get(found[0], 0) + 1
        for index, member in enumerate(block.members):
            watched = self._watched.setdefault(member.device, {})
            for position in range(member.start, member.stop):
                watched.setdefault(position, []).append((block, index))

    def unwatch(self, block: Block) -> None:
        """Look at changes for a block no more."""
        block.stop()
        if block.data_set is None:
            return
        for index, member in enumerate(block.members):
            watched = self._watched[member.device]
            for position in range(member.start, member.stop):
                watched[position].remove((block, index))
                if not watched[position]:
                    del watched[position]
        self._lists[block.data_set] -= 1
        if not self._lists[block.data_set]:
            del self._lists[block.data_set]
        block.data_set, block.members, block.unsettled = None, (), {}

    # Buffers

    def purge(self, block: Block) -> None:
        """Empty a buffer."""
        buffer = block.buffer
        if buffer is None:
            return
        block.stop()
        block.run_integrity()
        buffer.purge()
        block.put("EntryID", data.octet_string(bytes(8)))
        block.put("TimeofEntry", data.binary_time(0))
        if block.used:
            self._store.drop(block.name, buffer.dropped)
            self.keep(block)

    def keep(self, block: Block, told: dict[int, bytes] | None = None) -> None:
        """Keep a buffered block's settings."""
        buffer, name = block.buffer, block.data_set
        if not block.used or buffer is None or name is None:
            return
        found = self._list(name, None)
        members = found.members if found is not None else ()
        kept = Kept(block.configured, block.settings, members, told or block.told, buffer.dropped)
        block.told = kept.told
        self._store.keep(block.name, kept)
        self._settle_soon()

    def retire(self, block: Block) -> None:
        """Fill a block's buffer no more: its data set is another one, or none."""
        self.purge(block)
        if block.used:
            block.used = False
            self._store.forget(block.name)
            self._settle_soon()
        block.told = {}
        self.unwatch(block)

    def _next_number(self) -> int:
        # The time in front keeps numbers rising even if the store has lost its last entries (power cut).
        self._last_number = max(self._last_number + 1, self.clock.now() << 16)
        return self._last_number

    def _buffered(self, block: Block, entry: Entry) -> None:
        buffer = block.buffer
        if buffer is None:
            return
        dropped = buffer.append(entry)
        self._store.append(block.name, entry)
        if dropped:
            self._store.drop(block.name, buffer.dropped)
            self.keep(block, report_buffer.last_told(block.told, dropped))
        self._dirty[block] = None
        if len(self._dirty) >= _SETTLE_AT:
            self._settle()
        else:
            self._settle_soon()

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = self.clock.later(0, self._settle_now)

    def _settle_now(self) -> None:
        self._settling = None
        self._settle()

    def _settle(self) -> None:
        """Write the new entries, then send them."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        try:
            self._store.commit()
        except LocalError as error:
            # Clients are told all the same: an alarm that is not kept is better than none.
            self._on_error(str(error))
        dirty, self._dirty = self._dirty, {}
        for block in dirty:
            block.transmit()
            if not block.enabled:
                block.show_entry()

    def _restore(self) -> None:
        for name, kept, entries in self._store.load():
            numbers = [kept.dropped, *(entry.number for entry in entries)]
            self._last_number = max(self._last_number, *numbers)
            block = self._find(name)
            if block is None or block.configured != kept.configured or not self._resume(block, kept, entries):
                # The configuration is another one now: what was buffered means nothing any more.
                self._store.forget(name)
                self._settle_soon()

    def _find(self, name: str) -> Block | None:
        domain, _, item = name.partition("/")
        variable = self.server.variables.find(domain, item)
        if variable is None or len(variable.component.path) != 2 or variable.component.path[0] != "BR":
            return None
        return self.block(variable.device, variable.offset, variable.component)

    def _resume(self, block: Block, kept: Kept, entries: list[Entry]) -> bool:
        """Go on where the run before ended; tell whether that is possible."""
        for attribute, value in kept.settings.items():
            block.put(attribute, value)
        block.parse()
        name = data_set_name(data.to_text(block.get("DatSet")))
        if name is None:
            return False
        device = self.server.variables.devices.get(name[0] or "")
        if self._list(name, None) is None and device is not None:
            # Clients have defined it; it ended with the process, the block did not.
            device.lists[name[1]] = VariableList(tuple(kept.members), deletable=True)
            self.server.variables.epoch += 1
        found = self.resolve(block, None)
        data_set = self._list(name, None)
        if found is None or data_set is None or data_set.members != tuple(map(tuple, kept.members)):
            for attribute, value in kept.configured.items():
                block.put(attribute, value)
            block.parse()
            return False
        block.used, block.told = True, kept.told
        block.buffer = Buffer(self._buffer_size, entries, kept.dropped)
        self._watch(block, found)
        for index, value in report_buffer.last_told(kept.told, entries).items():
            for place, leaf in enumerate(report_buffer.leaves(value)):
                block.unsettled[index, place] = leaf
        block.show_entry()
        block.run_integrity()
        return True


def data_set_name(text: str) -> Name | None:
    """Return the data set of a reference: ``LD/LN$name``, ``/name`` of the VMD, ``@name`` of the association."""
    if text.startswith("@"):
        return ASSOCIATION, text[1:]
    domain, slash, item = text.partition("/")
    if not slash or not item:
        return None
    return domain or None, item


def _address_octets(address: str) -> bytes:
    """Return an Owner: the octets of an IPv4 or IPv6 address."""
    parts = address.split(".")
    if len(parts) == 4 and all(part.isdecimal() and int(part) < 256 for part in parts):
        return bytes(map(int, parts))
    return address.encode()[:64]
