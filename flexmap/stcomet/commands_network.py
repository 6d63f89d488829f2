"""Commands on the PAN: routes, who is in and may be, keys, the coordinator's information base."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.stcomet.call import Call
from flexmap.stcomet.mnsh import ErrorCode, MnshError
from flexmap.stcomet.pan import Access, Path


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
        if route.reverse_lqi is not None:
            fields["lqi_reverse"] = route.reverse_lqi
    fields |= msgspec.structs.asdict(call.concentrator.requests.of(member.short_address))
    clock = call.concentrator.clocks.get(member.eui64)
    if clock is not None:
        fields["clock_offset_ms"] = clock.offset_ms
    call.answer.ok(**fields)


def _path(call: Call) -> None:
    member, concentrator = call.meter(), call.concentrator
    by_short = {other.short_address: concentrator.name_of(other) for other in concentrator.pan.members()}
    by_short[0] = "coordinator"

    def done(path: Path | None) -> None:
        if path is None:
            name = concentrator.name_of(member)
            call.answer.fail(MnshError(ErrorCode.SILENT, f"there is no way to {name}, or its answer has not come"))
            return
        for direction, hops in (("there", path.there), ("back", path.back)):
            for hop in hops:
                name = by_short.get(hop.short_address, f"0x{hop.short_address:04x}")
                call.answer.data(direction, node=name, short=f"0x{hop.short_address:04x}", cost=hop.cost)
        call.answer.ok(there=len(path.there), back=len(path.back), reached=int(path.reached))

    concentrator.pan.path(member.short_address, done)


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
        value = call.concentrator.pan.get(name)
        if isinstance(value, list):
            call.answer.data(name, rows=len(value))
        else:
            call.answer.data(name, value=_shown(value))
    call.answer.ok(attributes=len(names))


def _pib_get(call: Call) -> None:
    value = call.concentrator.pan.get(call.name(0))
    if not isinstance(value, list):
        call.answer.ok(value=_shown(value))
        return
    for row in value:
        call.answer.data(**row)
    call.answer.ok(rows=len(value))


def _shown(value: object) -> object:
    """Return a number for a truth value, and numbers joined by commas for a set of them."""
    if isinstance(value, tuple):
        return ",".join(str(each) for each in value)
    return int(value) if isinstance(value, bool) else value


def _pib_set(call: Call) -> None:
    call.concentrator.pan.set(call.name(0), call.number(1))
    call.answer.ok()


def _remove(call: Call) -> None:
    call.concentrator.pan.remove(call.meter().eui64)
    call.answer.ok()


def _rekey(call: Call) -> None:
    call.concentrator.rekey()
    call.answer.ok(meters=len(call.concentrator.pan.members()))


def _rekey_status(call: Call) -> None:
    concentrator, last = call.concentrator, call.concentrator.rekeying
    if last is None:
        call.answer.ok(state="none")
        return
    seconds = int(concentrator.scheduler.seconds() - last.since)
    if last.result is None:
        call.answer.ok(state="running", seconds=seconds)
        return
    for eui64 in last.result.lost:
        call.answer.data("lost", meter=concentrator.names.get(eui64) or eui64, eui64=eui64)
    result = last.result
    call.answer.ok(state="done", seconds=seconds, rekeyed=len(result.rekeyed), lost=len(result.lost))


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("PLC", "TOPOLOGY"): _topology,
    ("PLC", "STATUS"): _status,
    ("PLC", "PATH"): _path,
    ("PLC", "KICK"): _kick,
    ("PLC", "REMOVE"): _remove,
    ("PLC", "REKEY"): _rekey,
    ("PLC", "REKEY_STATUS"): _rekey_status,
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
