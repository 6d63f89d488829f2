"""Commands on the power line, where it is a simulated one: open circuits and noise."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.model import LocalError
from flexmap.stcomet.call import Call
from flexmap.stcomet.line import PowerLine
from flexmap.stcomet.mnsh import ErrorCode, MnshError


def _line(call: Call) -> PowerLine:
    if call.concentrator.line is None:
        raise LocalError("this power line is not a simulated one")
    return call.concentrator.line


def _meter(call: Call) -> str:
    """Return the meter that the first argument names; it need not be in the PAN."""
    name = call.name(0)
    if all(spot.meter != name for spot in _line(call).spots()):
        raise MnshError(ErrorCode.METER, f"no meter {name} on the line: see LINE SHOW")
    return name


def _ends(call: Call) -> None:
    spots = _line(call).spots()
    call.answer.ok(meters=len(spots), cut_off=sum(not spot.live for spot in spots))


def _show(call: Call) -> None:
    for spot in _line(call).spots():
        call.answer.data(
            spot.meter, feeder=spot.feeder, metres=round(spot.metres), phase=spot.phase, live=int(spot.live)
        )
    _ends(call)


def _cut(call: Call) -> None:
    _line(call).cut(_meter(call))
    _ends(call)


def _mend(call: Call) -> None:
    _line(call).mend(_meter(call))
    _ends(call)


def _noise(call: Call) -> None:
    _line(call).noise(_meter(call), call.number(1), call.number(2))
    _ends(call)


def _press(call: Call) -> None:
    _line(call).press(_meter(call), close=bool(call.number(1)))
    call.answer.ok()


def _cover(call: Call) -> None:
    _line(call).cover(_meter(call), opened=bool(call.number(1)))
    call.answer.ok()


HANDLERS: dict[tuple[str, str], Callable[[Call], None]] = {
    ("LINE", "SHOW"): _show,
    ("LINE", "CUT"): _cut,
    ("LINE", "MEND"): _mend,
    ("LINE", "NOISE"): _noise,
    ("LINE", "PRESS"): _press,
    ("LINE", "COVER"): _cover,
}
