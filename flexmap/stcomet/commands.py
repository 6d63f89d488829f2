"""What each command of the minishell does; one function a command, named in ``HANDLERS``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.concentrator import Concentrator, event_fields
from flexmap.stcomet.mnsh import ErrorCode, Mark, MnshError
from flexmap.stcomet.pan import Access, Member
from flexmap.stcomet.payload import (
    BreakerRequest,
    ClockRequest,
    CommandReply,
    Events,
    EventsRequest,
    Identity,
    IdentityRequest,
    Origin,
    ReadRequest,
    Records,
    Refusal,
    Result,
)
from flexmap.stcomet.record import ENERGIES, NEUTRAL, PHASE_VALUES, Layout, Record

VERSION = 1
"""Of the commands and of the form of replies."""


class Session(Protocol):
    """What commands change of the shell they are typed into."""

    def set_echo(self, on: bool) -> None:
        """Echo, edit and prompt, or not."""


class Answer:
    """The reply to one command: lines of data, then one that ends it."""

    __slots__ = ("_ended", "_line", "_open", "_tag")

    def __init__(self, line: Callable[[str], object], ended: Callable[..., object], tag: int | None) -> None:
        self._line = line
        self._ended = ended
        self._tag = tag
        self._open = True

    def data(self, *plain: str, **fields: object) -> None:
        """Add a line of data."""
        self._line(mnsh.line(Mark.DATA, *plain, tag=self._tag, **fields))

    def ok(self, **fields: object) -> None:
        """End it."""
        self._end(mnsh.line(Mark.END, "OK", tag=self._tag, **fields), well=True)

    def fail(self, error: MnshError) -> None:
        """End it with an error."""
        self._end(mnsh.error_line(error, self._tag), well=False)

    def _end(self, line: str, *, well: bool) -> None:
        if self._open:
            self._open = False
            self._line(line)
            self._ended(self._tag, well=well)


class Call(msgspec.Struct):
    """A command under way."""

    concentrator: Concentrator
    session: Session
    arguments: tuple[int | str, ...]
    answer: Answer

    def number(self, place: int) -> int:
        """Return a numeric argument."""
        return int(self.arguments[place])

    def name(self, place: int) -> str:
        """Return a name."""
        return str(self.arguments[place])

    def meter(self, place: int = 0) -> Member:
        """Return the meter that an argument names."""
        return self.concentrator.find(self.name(place))

    def ask(
        self,
        member: Member,
        build: Callable[[int], payload.Request],
        done: Callable[[payload.Reply], object],
        *,
        priority: bool = False,
        bulk: bool = False,
        repeat: bool = True,
    ) -> None:
        """Ask the meter; end the answer with an error if it stays silent or refuses."""
        if self.concentrator.requests.full:
            raise MnshError(ErrorCode.BUSY, "too many requests wait for the power line")
        name = self.concentrator.name_of(member)

        def taken(reply: payload.Reply | None) -> None:
            if reply is None:
                self.answer.fail(MnshError(ErrorCode.SILENT, f"{name} has not answered"))
            elif isinstance(reply, Refusal):
                self.answer.fail(MnshError(ErrorCode.REFUSED, f"{name}: {reply.reason.name.lower()}"))
            else:
                done(reply)

        self.concentrator.requests.ask(
            member.short_address, build, taken, priority=priority, bulk=bulk, repeat=repeat
        )


def handle(concentrator: Concentrator, session: Session, text: str, answer: Answer) -> None:
    """Do what a line asks; raise FlexmapError if it cannot be."""
    found = mnsh.words(text)
    if found and found[0].upper() == "HELP":
        if len(found) > 2:
            raise MnshError(ErrorCode.COUNT, "wrong number of parameters: HELP or HELP <module>")
        for line in mnsh.help_lines(*found[1:]):
            answer.data(line)
        answer.ok()
        return
    request = mnsh.parse(text)
    HANDLERS[request.command.module, request.command.name](Call(concentrator, session, request.arguments, answer))


def _version(call: Call) -> None:
    call.answer.ok(mnsh=VERSION, payload=payload.VERSION)


def _echo(call: Call) -> None:
    call.session.set_echo(bool(call.number(0)))
    call.answer.ok()


def _time(call: Call) -> None:
    seconds = call.concentrator.scheduler.seconds()
    call.answer.ok(time=int(seconds), utc=_utc(seconds))


def _stats(call: Call) -> None:
    concentrator = call.concentrator
    call.answer.data("shell", **concentrator.counters)
    call.answer.data("requests", **msgspec.structs.asdict(concentrator.requests.total))
    call.answer.data("pan", **concentrator.pan.counters())
    call.answer.ok()


def _meters(call: Call) -> None:
    members = call.concentrator.pan.members()
    for member in members:
        call.answer.data(
            call.concentrator.name_of(member),
            eui64=member.eui64,
            short=f"0x{member.short_address:04x}",
            joined=_utc(member.joined_at),
        )
    call.answer.ok(meters=len(members))


def _identity(call: Call) -> None:
    def done(reply: payload.Reply) -> None:
        if isinstance(reply, Identity):
            fields = {
                name: getattr(reply, name) for name in reply.__struct_fields__ if name not in {"id", "layout"}
            }
            call.answer.ok(phases=int(reply.layout), **fields)

    call.ask(call.meter(), IdentityRequest, done)


def _get_data_stream(call: Call) -> None:
    member = call.meter(1)
    state = call.concentrator.read_up_to
    given = 0

    def ask() -> None:
        start = state.get(member.eui64, 0)
        wanted = call.number(0) - given
        build = lambda number: ReadRequest(number, Origin.TAIL, start, wanted)  # noqa: E731
        call.ask(member, build, done, bulk=wanted > 1)

    def done(reply: payload.Reply) -> None:
        nonlocal given
        if not isinstance(reply, Records):
            return
        for record in reply.records[: call.number(0) - given]:
            call.answer.data(**record_fields(reply.layout, record))
            state[member.eui64] = record.sequence + 1
            given += 1
        if reply.records and reply.more and given < call.number(0):
            try:
                ask()
            except MnshError as error:
                call.answer.fail(error)
        else:
            call.answer.ok(records=given)

    if call.number(0):
        ask()
    else:
        call.answer.ok(records=0)


def _read(call: Call) -> None:
    origin, start, count = Origin(call.number(1)), call.number(2), call.number(3)
    bulk = origin is not Origin.LATEST

    def build(number: int) -> ReadRequest:
        return ReadRequest(number, origin, start, count, payload.DATAGRAM if bulk else payload.ROBO_FRAME)

    def done(reply: payload.Reply) -> None:
        call.answer.data(**mnsh.hex_fields(payload.encode(reply)))
        call.answer.ok()

    call.ask(call.meter(), build, done, bulk=bulk)


def _events(call: Call) -> None:
    def done(reply: payload.Reply) -> None:
        if isinstance(reply, Events):
            for number, event in enumerate(reply.events, start=reply.first):
                call.answer.data(number=number, **event_fields(event))
            call.answer.ok(events=len(reply.events), first=reply.first, more=int(reply.more))

    call.ask(call.meter(), lambda number: EventsRequest(number, call.number(1)), done, priority=True)


def _breaker(call: Call) -> None:
    close, until = bool(call.number(1)), call.number(2)
    call.ask(call.meter(), lambda number: BreakerRequest(number, close, until), _commanded(call), priority=True)


def _clock(call: Call) -> None:
    build = lambda number: ClockRequest(number, call.number(1) * 1000)  # noqa: E731
    call.ask(call.meter(), build, _commanded(call), priority=True, repeat=False)


def _commanded(call: Call) -> Callable[[payload.Reply], object]:
    def done(reply: payload.Reply) -> None:
        if not isinstance(reply, CommandReply):
            return
        if reply.result is Result.REFUSED:
            call.answer.fail(MnshError(ErrorCode.REFUSED, reply.cause or "the meter refuses"))
        else:
            call.answer.ok(changed=int(reply.result is Result.DONE))

    return done


def _topology(call: Call) -> None:
    concentrator = call.concentrator
    by_short = {member.short_address: concentrator.name_of(member) for member in concentrator.pan.members()}
    for short, name in by_short.items():
        route = concentrator.pan.route(short)
        if route is None:
            call.answer.data(name, hops=0, via="", cost=0)
        else:
            via = "" if route.next_hop == short else by_short.get(route.next_hop, f"0x{route.next_hop:04x}")
            call.answer.data(name, hops=route.hops, via=via, cost=route.cost)
    call.answer.ok(meters=len(by_short))


def _status(call: Call) -> None:
    member = call.meter()
    route = call.concentrator.pan.route(member.short_address)
    fields: dict[str, object] = {"hops": 0}
    if route is not None:
        fields = {"hops": route.hops, "cost": route.cost, "next_hop": f"0x{route.next_hop:04x}"}
        if route.lqi is not None:
            fields["lqi"] = route.lqi
    fields |= msgspec.structs.asdict(call.concentrator.requests.of(member.short_address))
    call.answer.ok(**fields)


def _kick(call: Call) -> None:
    call.concentrator.pan.kick(call.meter().eui64)
    call.answer.ok()


def _access(call: Call) -> None:
    access = call.concentrator.pan.access()
    for eui64 in access.black:
        call.answer.data("black", eui64=eui64)
    for eui64 in access.white or ():
        call.answer.data("white", eui64=eui64)
    call.answer.ok(black=len(access.black), white="off" if access.white is None else len(access.white))


def _change_access(change: Callable[[Access, str], Access]) -> Callable[[Call], None]:
    def changed(call: Call) -> None:
        eui64 = ""
        if call.arguments:
            eui64 = call.name(0).lower()
            if len(eui64) != 16 or not set(eui64) <= set("0123456789abcdef"):
                raise MnshError(ErrorCode.PARAMETER, "eui64 is 16 hexadecimal digits")
        pan = call.concentrator.pan
        pan.set_access(change(pan.access(), eui64))
        call.answer.ok()

    return changed


def _with(those: tuple[str, ...] | None, eui64: str) -> tuple[str, ...]:
    return tuple(sorted({*(those or ()), eui64}))


def _pib_list(call: Call) -> None:
    names = call.concentrator.pan.names()
    for name in names:
        call.answer.data(name)
    call.answer.ok(attributes=len(names))


def _pib_get(call: Call) -> None:
    call.answer.ok(value=call.concentrator.pan.get(call.name(0)))


def _pib_set(call: Call) -> None:
    call.concentrator.pan.set(call.name(0), call.number(1))
    call.answer.ok()


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("SYS", "VERSION"): _version,
    ("SYS", "ECHO"): _echo,
    ("SYS", "TIME"): _time,
    ("SYS", "STATS"): _stats,
    ("APP", "METERS"): _meters,
    ("APP", "IDENTITY"): _identity,
    ("APP", "GET_DATA_STREAM"): _get_data_stream,
    ("APP", "READ"): _read,
    ("APP", "EVENTS"): _events,
    ("APP", "BREAKER"): _breaker,
    ("APP", "CLOCK"): _clock,
    ("PLC", "TOPOLOGY"): _topology,
    ("PLC", "STATUS"): _status,
    ("PLC", "KICK"): _kick,
    ("PLC", "ACCESS"): _access,
    ("PLC", "BAN"): _change_access(lambda access, eui64: Access(_with(access.black, eui64), access.white)),
    ("PLC", "UNBAN"): _change_access(
        lambda access, eui64: Access(tuple(e for e in access.black if e != eui64), access.white)
    ),
    ("PLC", "ALLOW"): _change_access(lambda access, eui64: Access(access.black, _with(access.white, eui64))),
    ("PLC", "ALLOW_ALL"): _change_access(lambda access, _: Access(access.black, None)),
    ("PIB", "LIST"): _pib_list,
    ("PIB", "GET"): _pib_get,
    ("PIB", "SET"): _pib_set,
}

_ENERGY_NAMES = ("wh_in", "wh_out", "varh_in", "varh_out", "vah")


def record_fields(layout: Layout, record: Record) -> dict[str, object]:
    """Return a record in a line's fields, in the units of their names; of powers the totals."""
    fields: dict[str, object] = {
        "seq": record.sequence,
        "time": record.time,
        "utc": _utc(record.time),
        "status": f"0x{record.state.status:02x}",
    }
    fields |= dict(zip(_ENERGY_NAMES, record.energies[:ENERGIES], strict=True))
    if not record.measured:
        return fields
    measured = record.measured
    fields["hz"] = f"{measured[0] / 100:.2f}"
    phases = [
        measured[first : first + PHASE_VALUES] for first in range(1, 1 + layout * PHASE_VALUES, PHASE_VALUES)
    ]
    totals = phases[0][1:4] if layout is Layout.SINGLE_PHASE else measured[NEUTRAL - 3 : NEUTRAL]
    fields |= dict(zip(("w", "var", "va"), totals, strict=True))
    for number, phase in enumerate(phases, start=1):
        suffix = "" if layout is Layout.SINGLE_PHASE else str(number)
        fields |= {f"v{suffix}": f"{phase[0] / 10:.1f}", f"a{suffix}": f"{phase[4] / 100:.2f}"}
    return fields


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
