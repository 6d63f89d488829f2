"""What each command of the minishell does; one function a command, named in ``HANDLERS``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from flexmap.stcomet import (
    catalogue,
    commands_clock,
    commands_firmware,
    commands_line,
    commands_network,
    mnsh,
    payload,
)
from flexmap.stcomet.call import Answer, Call, Session
from flexmap.stcomet.concentrator import Concentrator, event_fields
from flexmap.stcomet.mnsh import ErrorCode, MnshError
from flexmap.stcomet.payload import (
    BreakerRequest,
    CommandReply,
    Events,
    EventsRequest,
    Identity,
    IdentityRequest,
    Origin,
    ReadRequest,
    Records,
    Result,
)
from flexmap.stcomet.record import ENERGIES, PHASE_VALUES, TOTAL_ACTIVE, TOTAL_APPARENT, Layout, Record
from flexmap.stcomet.requests import Reply

VERSION = 1
"""Of the commands and of the form of replies."""
FEW = 60
"""Records whose reply comes as soon as one of a single frame, or nearly so."""
OPEN = {("SYS", name) for name in ("VERSION", "ECHO", "CHALLENGE", "LOGIN", "DROP", "OPEN")}
"""Commands, besides HELP, that a session may give before it has logged in."""


def handle(concentrator: Concentrator, session: Session, text: str, answer: Answer) -> None:
    """Do what a line asks; raise FlexmapError if it cannot be."""
    found = mnsh.words(text)
    if found and found[0].upper() == "HELP":
        if len(found) > 3:
            raise MnshError(
                ErrorCode.COUNT, "wrong number of parameters: HELP, HELP <module> or HELP <module> <command>"
            )
        for line in catalogue.help_lines(*found[1:]):
            answer.text(line)
        answer.ok()
        return
    request = catalogue.parse(text)
    key = request.command.module, request.command.name
    if key not in OPEN and not session.trusted:
        raise MnshError(ErrorCode.LOGIN, "log in first: SYS CHALLENGE, then SYS LOGIN <proof>")
    HANDLERS[key](Call(concentrator, session, request.arguments, answer))


def _version(call: Call) -> None:
    due = {} if call.session.trusted else {"login": "due"}
    call.answer.ok(mnsh=VERSION, payload=payload.VERSION, **due)


def _echo(call: Call) -> None:
    call.session.set_echo(bool(call.number(0)))
    call.answer.ok()


def _challenge(call: Call) -> None:
    call.answer.ok(nonce=call.session.challenge())


def _login(call: Call) -> None:
    call.session.login(call.octets(0))
    call.answer.ok()


def _drop(call: Call) -> None:
    call.session.drop(call.answer)
    call.answer.ok()


def _open(call: Call) -> None:
    tags = [tag for tag in call.session.open_tags() if tag != call.answer.tag]
    call.answer.data("tags", *map(str, tags))
    call.answer.ok(open=len(tags))


def _time(call: Call) -> None:
    seconds = call.concentrator.scheduler.seconds()
    call.answer.ok(time=int(seconds), time_ms=int(seconds * 1000), utc=_utc(seconds))


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
    def done(reply: Reply) -> None:
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
        call.ask(member, build, done, bulk=wanted > FEW)

    def done(reply: Reply) -> None:
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
    alone = origin is Origin.LATEST
    bulk = not alone and count > FEW

    def build(number: int) -> ReadRequest:
        return ReadRequest(number, origin, start, count, payload.ROBO_FRAME if alone else payload.DATAGRAM)

    def done(reply: Reply) -> None:
        if isinstance(reply, Records):
            call.answer.data(**mnsh.hex_fields(payload.encode(reply)))
            call.answer.ok()

    # Whoever reads in bulk asks again, if it is worth it: for the meter's latest record, first of all.
    call.ask(call.meter(), build, done, bulk=bulk, priority=alone, repeat=not bulk)


def _events(call: Call) -> None:
    def done(reply: Reply) -> None:
        if isinstance(reply, Events):
            for number, event in enumerate(reply.events, start=reply.first):
                call.answer.data(number=number, **event_fields(event))
            call.answer.ok(events=len(reply.events), first=reply.first, more=int(reply.more))

    call.ask(call.meter(), lambda number: EventsRequest(number, call.number(1)), done, priority=True)


def _breaker(call: Call) -> None:
    action, until = call.number(1), call.number(2)
    close, local = bool(action & 1), bool(action & 2)
    call.ask(
        call.meter(), lambda number: BreakerRequest(number, close, until, local), _commanded(call), priority=True
    )


def _control_mode(call: Call) -> None:
    mode, until = call.number(1), call.number(2)
    call.ask(
        call.meter(),
        lambda number: BreakerRequest(number, False, until, mode=mode),
        _commanded(call),
        priority=True,
    )


def _commanded(call: Call) -> Callable[[Reply], object]:
    def done(reply: Reply) -> None:
        if not isinstance(reply, CommandReply):
            return
        if reply.result is Result.REFUSED:
            call.answer.fail(MnshError(ErrorCode.REFUSED, reply.cause or "the meter refuses"))
        else:
            call.answer.ok(changed=int(reply.result is Result.DONE))

    return done


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("SYS", "VERSION"): _version,
    ("SYS", "ECHO"): _echo,
    ("SYS", "CHALLENGE"): _challenge,
    ("SYS", "LOGIN"): _login,
    ("SYS", "DROP"): _drop,
    ("SYS", "OPEN"): _open,
    ("SYS", "TIME"): _time,
    ("SYS", "STATS"): _stats,
    ("APP", "METERS"): _meters,
    ("APP", "IDENTITY"): _identity,
    ("APP", "GET_DATA_STREAM"): _get_data_stream,
    ("APP", "READ"): _read,
    ("APP", "EVENTS"): _events,
    ("APP", "BREAKER"): _breaker,
    ("APP", "CONTROL_MODE"): _control_mode,
    **commands_clock.HANDLERS,
    **commands_network.HANDLERS,
    **commands_firmware.HANDLERS,
    **commands_line.HANDLERS,
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
    totals = phases[0][1:4] if layout is Layout.SINGLE_PHASE else measured[TOTAL_ACTIVE : TOTAL_APPARENT + 1]
    fields |= dict(zip(("w", "var", "va"), totals, strict=True))
    for number, phase in enumerate(phases, start=1):
        suffix = "" if layout is Layout.SINGLE_PHASE else str(number)
        fields |= {f"v{suffix}": f"{phase[0] / 10:.1f}", f"a{suffix}": f"{phase[4] / 100:.2f}"}
    return fields


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
