"""Commands from MMS clients: asked of the core, answered when the meter has answered.

Behaves as the libiec61850 engine does; besides, what the model says of local control, blocking and interlocking
is heeded (Loc, BlkOpn and BlkCls, CILO, Beh).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.faces.interface import OnCommand
from flexmap.faces.native.model import BuiltDevice, BuiltModel
from flexmap.mms import data
from flexmap.mms.add_cause import ADD_CAUSE, add_cause
from flexmap.mms.control import Changed, Control, Model, Place, Request, install
from flexmap.mms.timing import Clock
from flexmap.model import Command, CommandResult, Site, Value

log = Logger(namespace="flexmap.mms")

_LOCAL = frozenset({1, 4, 7})
"""Origin categories that command where local control is on: bay, automatic bay, maintenance."""
_ON = 1
_LAST = Callable[[str, str], Value]


class Desk:
    """Gives commands to the core, one at a time for each point."""

    def __init__(self, on_command: OnCommand, last: _LAST, clock: Clock, timeout: float) -> None:
        self.count = 0
        self._on_command = on_command
        self._last = last
        self._clock = clock
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._open: dict[tuple[str, str], int] = {}

    def refusal(self, subject: tuple[str, str], value: bool) -> str:
        """Return why a point cannot be commanded now."""
        if subject in self._open:
            return "command-already-in-execution"
        if self._last(*subject) == value:
            return "position-reached"
        return ""

    def give(self, subject: tuple[str, str], value: bool, origin: str, done: Callable[[int], None]) -> None:
        """Ask the core to carry out a command; ``done`` takes the AddCause, 0 for success."""
        command = Command(next(self._ids), *subject, value, origin)
        self._open[subject] = command.id
        self.count += 1

        def settle(cause: int) -> None:
            if self._open.get(subject) == command.id:
                del self._open[subject]
                done(cause)

        def late() -> None:
            settle(ADD_CAUSE["time-limit-over"])

        timer = self._clock.later(self._timeout, late)

        def answered(result: CommandResult) -> None:
            if self._open.get(subject) == command.id:
                timer.cancel()
            settle(0 if result.done else add_cause(result.cause))

        def failed(failure: Failure) -> None:
            log.failure("command {id} failed", failure, id=command.id)
            answered(CommandResult(command.id, done=False, cause=str(failure.value)))

        answer: Deferred[CommandResult] = self._on_command(command)
        answer.addCallback(answered).addErrback(failed)


class _Switch(NamedTuple):
    """Subject of one control object."""

    desk: Desk
    device: BuiltDevice
    node: str
    point: tuple[str, str] | None
    """Meter and point; None if the control is of none."""

    def refusal(self, request: Request) -> str:
        """Return why a command cannot be tried."""
        if self.point is None:
            return "not-supported"
        if request.test or not self._is_on():
            return "blocked-by-mode"
        if request.category not in _LOCAL and (self._flag(f"{self.node}.Loc") or self._flag("LLN0.Loc")):
            return "blocked-by-switching-hierarchy"
        wanted = data.to_boolean(request.value)
        if self._flag(f"{self.node}.{'BlkCls' if wanted else 'BlkOpn'}"):
            return "blocked-by-process"
        if request.interlock_check and self._interlocked(wanted):
            return "blocked-by-interlocking"
        return self.desk.refusal(self.point, wanted)

    def execute(self, request: Request, done: Callable[[int], None]) -> None:
        """Carry a command out."""
        if self.point is None:
            done(ADD_CAUSE["not-supported"])
            return
        wanted = data.to_boolean(request.value)
        # Another control of the same point may have begun since this one was found fit.
        cause = self.desk.refusal(self.point, wanted)
        if cause:
            done(add_cause(cause))
            return
        self.desk.give(self.point, wanted, f"mms {request.peer} orCat {request.category}", done)

    def _interlocked(self, wanted: bool) -> bool:
        name = "CILO".join(self.node.rsplit("CSWI", 1)) if "CSWI" in self.node else ""
        return bool(name) and self._flag(f"{name}.{'EnaCls' if wanted else 'EnaOpn'}", missing=True) is False

    def _is_on(self) -> bool:
        return all(self._behaviour(node) in {None, _ON} for node in ("LLN0", self.node))

    def _behaviour(self, node: str) -> int | None:
        position = self.device.position(f"{node}.Beh.stVal")
        return None if position is None else data.to_integer(self.device.device.values[position])

    def _flag(self, path: str, *, missing: bool = False) -> bool:
        position = self.device.position(f"{path}.stVal")
        return missing if position is None else data.to_boolean(self.device.device.values[position])


def install_all(site: Site, built: BuiltModel, desk: Desk, clock: Clock, changed: Changed) -> None:
    """Put a control in the place of every control object: those of a point take commands, others refuse them."""
    points = {
        (meter.ld, reference.path): (meter.id, point.name)
        for meter in site.meters
        for point in site.type_of(meter).points
        if point.control is not None
        for reference in (point.control, point.reference_for(meter.direction))
    }
    for inst, device in built.devices.items():
        for node, layout in device.layouts.items():
            objects = {path.rpartition(".")[0] for path in layout.attributes if path.endswith(".ctlModel")}
            for path in sorted(objects):
                if device.device.find(f"{node}$CO${path.replace('.', '$')}") is None:
                    continue
                place = Place(device.device, node, path.replace(".", "$"))
                if place.model is Model.STATUS_ONLY:
                    continue
                switch = _Switch(desk, device, node, points.get((inst, f"{node}.{path}")))
                install(place, Control(place, switch, clock, changed))
