"""The concentrator between the minishell and the PAN: knows its meters by name, asks them, says what happens.

Sans-io: the PAN is a :class:`flexmap.stcomet.pan.Pan`, lines come and go through a
:class:`flexmap.stcomet.shell.Shell`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.model import EventCode, FlexmapError
from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.clock import ClockReading
from flexmap.stcomet.images import Shelf
from flexmap.stcomet.line import PowerLine
from flexmap.stcomet.mnsh import ErrorCode, Mark, MnshError
from flexmap.stcomet.pan import Member, Pan, Rekeyed, Scheduler
from flexmap.stcomet.payload import Events, Identity, IdentityRequest
from flexmap.stcomet.requests import Reply, Requests, Settings
from flexmap.stcomet.updates import Transfer, Updates

IDENTITY_RETRY = 60.0
"""Seconds until a meter that has not said who it is is asked again."""


class Rekeying(msgspec.Struct, frozen=True):
    """A re-keying: since when, and how it ended."""

    since: float
    result: Rekeyed | None = None


class Concentrator:
    """Meters by name, requests to them, and lines to everyone who listens (implements PanUser)."""

    def __init__(
        self,
        pan: Pan,
        scheduler: Scheduler,
        first_id: int,
        *,
        names: dict[str, str] | None = None,
        settings: Settings | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Set up; ``names`` holds what is known already, by EUI-64, ``shelf`` the firmware images."""
        self.pan = pan
        self.scheduler = scheduler
        self.requests = Requests(pan, scheduler, first_id, settings)
        self.names = dict(names or {})
        """Names of meters by EUI-64, as they have told."""
        self.read_up_to: dict[str, int] = {}
        """Sequence number of the first record that GET_DATA_STREAM has not yet given, by EUI-64."""
        self.shelf = shelf or Shelf()
        self.updates = Updates(self.shelf, pan, self.requests, scheduler, self._updated)
        self.clocks: dict[str, ClockReading] = {}
        """How far meters' clocks were found to be off last, by EUI-64."""
        self.line: PowerLine | None = None
        """The power line, where it is a simulated one."""
        self.rekeying: Rekeying | None = None
        """The last re-keying since the start."""
        self.changed: Callable[[], object] = lambda: None
        """Called when there is something to keep."""
        self._listeners: list[Callable[[str], object]] = []
        self.counters = {"lines": 0, "errors": 0, "events": 0}

    def begin(self) -> None:
        """Ask the meters that have joined already who they are, if it is not known."""
        for member in self.pan.members():
            self._learn(member)

    # Meters

    def name_of(self, member: Member) -> str:
        """Return a meter's name: its own, or its EUI-64 while that is not known or not its alone."""
        name = self.names.get(member.eui64, "")
        return name or member.eui64

    def find(self, name: str) -> Member:
        """Return the meter of a name or an EUI-64; raise :class:`MnshError` if there is none in the PAN."""
        for member in self.pan.members():
            if name in {self.names.get(member.eui64), member.eui64}:
                return member
        raise MnshError(ErrorCode.METER, f"no meter {name} in the PAN: see APP METERS")

    def _learn(self, member: Member) -> None:
        if member.eui64 in self.names:
            return

        def done(reply: Reply | None) -> None:
            if isinstance(reply, Identity):
                self._name(member, reply.name or reply.serial)
            else:
                self.scheduler.callLater(IDENTITY_RETRY, self._learn_again, member)

        self.requests.ask(member.short_address, IdentityRequest, done)

    def _learn_again(self, member: Member) -> None:
        if member in self.pan.members():
            self._learn(member)

    def _name(self, member: Member, name: str) -> None:
        if not name or name in self.names.values():
            return
        self.names[member.eui64] = name
        self._joined(member)

    # What the PAN calls

    def joined(self, member: Member) -> None:
        """Take note of a device that has joined; it is announced once its name is known."""
        if member.eui64 in self.names:
            self._joined(member)
        else:
            self._learn(member)
        self.updates.joined(member)

    def left(self, member: Member, reason: str) -> None:
        """Take note of a device that has gone."""
        self.requests.forget(member.short_address)
        self.tell("LEFT", meter=self.name_of(member), reason=reason)

    def datagram(self, short_address: int, octets: bytes) -> None:
        """Take a datagram of a meter: a reply, or events."""
        message = self.requests.reply(short_address, octets)
        if not isinstance(message, Events):
            return
        member = next((m for m in self.pan.members() if m.short_address == short_address), None)
        if member is None:
            return
        for number, event in enumerate(message.events, start=message.first):
            self.counters["events"] += 1
            self.tell("EVENT", meter=self.name_of(member), number=number, **event_fields(event))

    def fragment(self, short_address: int) -> None:
        """Take note that a meter's reply is on its way."""
        self.requests.heard(short_address)

    def _joined(self, member: Member) -> None:
        self.tell("JOINED", meter=self.name_of(member), eui64=member.eui64, short=f"0x{member.short_address:04x}")

    # Re-keying and updates

    def rekey(self) -> None:
        """Begin a re-keying of the PAN; its end is announced."""
        begun = Rekeying(self.scheduler.seconds())

        def done(result: Rekeyed) -> None:
            self.rekeying = Rekeying(begun.since, result)
            self.tell("REKEYED", rekeyed=len(result.rekeyed), lost=len(result.lost))

        before, self.rekeying = self.rekeying, begun
        try:
            self.pan.rekey(done)
        except FlexmapError:
            self.rekeying = before
            raise

    def update_fields(self, transfer: Transfer) -> dict[str, object]:
        """Return an update in a line's fields; ``of`` is the octets of the whole image."""
        held = self.shelf.get(transfer.image)
        fields: dict[str, object] = {
            "meter": self.names.get(transfer.eui64) or transfer.eui64,
            "image": transfer.image,
            "state": transfer.state.value,
            "offset": transfer.offset,
            "of": held.image.size if held else 0,
            "running": transfer.running,
        }
        return fields | ({"cause": transfer.cause} if transfer.cause else {})

    def _updated(self, transfer: Transfer) -> None:
        self.changed()
        self.tell("FIRMWARE", **self.update_fields(transfer))

    # Who listens

    def listen(self, listener: Callable[[str], object]) -> None:
        """Give a shell the lines that nobody asked for."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[str], object]) -> None:
        """Give it none any more."""
        self._listeners.remove(listener)

    def tell(self, what: str, **fields: object) -> None:
        """Say something to all who listen."""
        line = mnsh.line(Mark.UNASKED, what, tag=None, **fields)
        for listener in tuple(self._listeners):
            listener(line)


def event_fields(event: payload.MeterEvent) -> dict[str, object]:
    """Return an event in a line's fields; the time in ms since 1970, ``name`` where its code has one."""
    fields: dict[str, object] = {"time_ms": event.time, "log": event.log, "code": event.code}
    if event.code in set(EventCode):
        fields["name"] = EventCode(event.code).name
    return fields
