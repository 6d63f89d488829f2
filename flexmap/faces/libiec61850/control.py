"""Commands from MMS clients (IEC 61850-7-2 clause 20): asked of the core, answered when the meter has answered.

The library keeps the state machine (selection, owner, ctlNum); the handlers here decide. With enhanced security
the command runs in the operate handler, behind the positive write response, and its outcome is the command
termination. With normal security there is no termination, so it runs in the wait handler already and the write
response itself is the outcome. Both return "waiting" until the answer is there; the library asks again.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

from flexmap.faces.libiec61850 import ctypes_api as api
from flexmap.faces.libiec61850.ctypes_api import Pointer
from flexmap.faces.libiec61850.model import BuiltDevice
from flexmap.mms.add_cause import ADD_CAUSE, add_cause
from flexmap.model import Command, CommandResult, Site, Value

_ENHANCED = 3


class _Open(NamedTuple):
    """A command that the core has been asked for."""

    id: int
    deadline: float


class Controls:
    """All control objects of a server. Everything but :meth:`resolve` runs in the pump thread."""

    def __init__(
        self,
        library: ctypes.CDLL,
        send: Callable[[Command], None],
        last: Callable[[str, str], Value],
        log: Callable[[str, str], None],
        timeout: float,
    ) -> None:
        self.library = library
        self.count = 0
        self._send = send
        self._last = last
        self.log = log
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._open: dict[tuple[str, str], _Open] = {}
        self._results: dict[int, CommandResult] = {}
        self._objects: list[_ControlObject] = []

    def install(self, server: Pointer, site: Site, devices: dict[str, BuiltDevice]) -> None:
        """Put handlers on every control object: those of a point take commands, others refuse them."""
        points = {
            (meter.ld, reference.path): (meter.id, point.name)
            for meter in site.meters
            for point in site.type_of(meter).points
            if point.control is not None
            for reference in (point.control, point.reference_for(meter.direction))
        }
        for inst, device in devices.items():
            for path, control in device.controls.items():
                subject = points.get((inst, path))
                self._objects.append(_ControlObject(self, control.model >= _ENHANCED, subject))
                self._objects[-1].install(server, control.pointer)

    def resolve(self, result: CommandResult) -> None:
        """Take the meter's answer to an open command; one that nobody waits for any more is dropped."""
        if any(waiting.id == result.id for waiting in tuple(self._open.values())):
            self._results[result.id] = result

    def refusal(self, subject: tuple[str, str], value: bool, *, test: bool) -> str:
        """Return why a command cannot even be tried, "" if it can."""
        if test:
            return "blocked-by-mode"
        waiting = self._open.get(subject)
        if waiting is not None and waiting.id not in self._results and time.monotonic() < waiting.deadline:
            return "command-already-in-execution"
        if self._last(*subject) == value:
            return "position-reached"
        return ""

    def open(self, subject: tuple[str, str], value: bool, origin: str) -> None:
        """Ask the core to carry out a command."""
        command = Command(next(self._ids), *subject, value, origin)
        earlier = self._open.get(subject)
        if earlier is not None:
            # Its client had left before the answer came.
            self._results.pop(earlier.id, None)
        self._open[subject] = _Open(command.id, time.monotonic() + self._timeout)
        self.count += 1
        self._send(command)

    def outcome(self, subject: tuple[str, str]) -> str | None:
        """Return None while the command is open, "" once it is done, else the cause of its failure."""
        waiting = self._open[subject]
        result = self._results.pop(waiting.id, None)
        if result is None and time.monotonic() < waiting.deadline:
            return None
        del self._open[subject]
        if result is None:
            return "time-limit-over"
        return "" if result.done else result.cause or "blocked-by-process"


class _ControlObject:
    """The handlers of one control object, kept referenced for as long as the library may call them."""

    def __init__(self, controls: Controls, enhanced: bool, subject: tuple[str, str] | None) -> None:
        self._controls = controls
        self._library = controls.library
        self._enhanced = enhanced
        self._subject = subject
        self._running = False
        self._handlers = (
            api.CheckHandler(self._check),
            api.WaitHandler(self._wait),
            api.OperateHandler(self._operate),
        )

    def install(self, server: Pointer, data_object: Pointer) -> None:
        check, wait, operate = self._handlers
        self._library.IedServer_setPerformCheckHandler(server, data_object, check, None)
        self._library.IedServer_setWaitForExecutionHandler(server, data_object, wait, None)
        self._library.IedServer_setControlHandler(server, data_object, operate, None)

    def _check(
        self, action: Pointer, _parameter: Pointer, value: Pointer | None, test: bool, _interlock: bool
    ) -> int:
        """Check a selection; operate is checked in the wait handler, which can name an AddCause."""
        return self._guarded(action, api.CONTROL_OBJECT_ACCESS_DENIED, lambda: self._select(action, value, test))

    def _wait(self, action: Pointer, _parameter: Pointer, value: Pointer, test: bool, _synchro: bool) -> int:
        return self._guarded(action, api.CONTROL_RESULT_FAILED, lambda: self._prepare(action, value, test))

    def _operate(self, action: Pointer, _parameter: Pointer, value: Pointer, _test: bool) -> int:
        return self._guarded(action, api.CONTROL_RESULT_FAILED, lambda: self._terminate(action, value))

    def _guarded(self, action: Pointer, failed: int, handler: Callable[[], int]) -> int:
        # An exception must not leave a callback: the library would read a random answer.
        try:
            return handler()
        except Exception as error:  # noqa: BLE001
            self._controls.log("error", f"control handler: {error!r}")
            self._library.ControlAction_setAddCause(action, ADD_CAUSE["unknown"])
            return failed

    def _select(self, action: Pointer, value: Pointer | None, test: bool) -> int:
        self._running = False
        if not self._library.ControlAction_isSelect(action) or value is None:
            return api.CONTROL_ACCEPTED
        cause = self._refusal(value, test)
        if not cause:
            return api.CONTROL_ACCEPTED
        self._library.ControlAction_setAddCause(action, add_cause(cause))
        return api.CONTROL_OBJECT_ACCESS_DENIED

    def _prepare(self, action: Pointer, value: Pointer, test: bool) -> int:
        if not self._running:
            cause = self._refusal(value, test)
            if cause:
                return self._failed(action, cause)
        return api.CONTROL_RESULT_OK if self._enhanced else self._execute(action, value)

    def _terminate(self, action: Pointer, value: Pointer) -> int:
        return self._execute(action, value) if self._enhanced else api.CONTROL_RESULT_OK

    def _execute(self, action: Pointer, value: Pointer) -> int:
        subject = self._subject
        if subject is None:
            return self._failed(action, "not-supported")
        if not self._running:
            self._running = True
            self._controls.open(subject, bool(self._library.MmsValue_getBoolean(value)), self._origin(action))
        cause = self._controls.outcome(subject)
        if cause is None:
            return api.CONTROL_RESULT_WAITING
        self._running = False
        return self._failed(action, cause) if cause else api.CONTROL_RESULT_OK

    def _refusal(self, value: Pointer, test: bool) -> str:
        if self._subject is None:
            return "not-supported"
        wanted = bool(self._library.MmsValue_getBoolean(value))
        return self._controls.refusal(self._subject, wanted, test=test)

    def _failed(self, action: Pointer, cause: str) -> int:
        self._library.ControlAction_setAddCause(action, add_cause(cause))
        return api.CONTROL_RESULT_FAILED

    def _origin(self, action: Pointer) -> str:
        client = self._library.ControlAction_getClientConnection(action)
        peer = self._library.ClientConnection_getPeerAddress(client) if client else None
        category = self._library.ControlAction_getOrCat(action)
        return f"mms {peer.decode() if peer else 'unknown'} orCat {category}"
