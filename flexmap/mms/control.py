"""Controls (IEC 61850-7-2 clause 20, -8-1 clause 20): the four control models, selection, answers to commands.

What is commanded, and whether it may be, is not decided here: each :class:`Control` has a :class:`Subject`. With
normal security the write response is the outcome; with enhanced security it comes at once, and the outcome is the
command termination. Whatever is refused is told by a LastApplError in front of the negative response.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol

from flexmap.mms import ber, data, pdu
from flexmap.mms.add_cause import ADD_CAUSE
from flexmap.mms.association import Association
from flexmap.mms.data import DataAccessError
from flexmap.mms.report_buffer import leaves
from flexmap.mms.timing import Clock, Timer
from flexmap.mms.variables import DATA_CHANGE, Change, Component, Device, Outcome, Pending, Variable

_UNAVAILABLE = DataAccessError.TEMPORARILY_UNAVAILABLE
_DENIED = DataAccessError.OBJECT_ACCESS_DENIED
_NO_ERROR = 0
"""Error of a LastApplError: the AddCause says it all."""
_NOBODY = b"\xa2\x05\x85\x01\x00\x89\x00"
"""An origin that says nothing."""


class Model(enum.IntEnum):
    """Values of ctlModel."""

    STATUS_ONLY = 0
    DIRECT = 1
    SBO = 2
    DIRECT_ENHANCED = 3
    SBO_ENHANCED = 4

    @property
    def enhanced(self) -> bool:
        """The outcome is a command termination."""
        return self >= Model.DIRECT_ENHANCED

    @property
    def selects(self) -> bool:
        """An operate needs a selection."""
        return self in {Model.SBO, Model.SBO_ENHANCED}


class Request(NamedTuple):
    """What a client commands: SBOw or Oper."""

    value: bytes
    """ctlVal, encoded."""
    origin: bytes
    """origin, encoded."""
    number: bytes
    """ctlNum, encoded."""
    test: bool
    synchro_check: bool
    interlock_check: bool
    time: int
    """operTm: milliseconds since 1970, 0 for at once."""
    peer: str

    @property
    def category(self) -> int:
        """The orCat: who commands."""
        return data.to_integer(data.parts(self.origin)[0])


class Subject(Protocol):
    """What a control commands. Causes are names of AddCause (:mod:`flexmap.mms.add_cause`); "" is none."""

    def refusal(self, request: Request) -> str:
        """Return why a command cannot be tried."""

    def execute(self, request: Request, done: Callable[[int], None]) -> None:
        """Carry a command out; ``done`` takes the AddCause of its failure, or 0 for success, once."""


class Control:
    """One control object: takes what clients write below ``CO$Pos``, answers reads of ``SBO``."""

    def __init__(self, place: Place, subject: Subject, clock: Clock, changed: Changed) -> None:
        self._place = place
        self._subject = subject
        self._clock = clock
        self._changed = changed
        self._selected: Association | None = None
        self._selection: Request | None = None
        """What was selected, with a value (SBOw)."""
        self._timer: Timer | None = None
        self._running = False

    # Clients

    def write(self, association: Association, variable: Variable, value: bytes) -> Outcome:
        """Take SBOw, Oper or Cancel as a whole; see Writer."""
        model = self._place.model
        name = variable.component.name
        whole = variable.component.parent is self._place.component
        if not whole or name not in {"SBOw", "Oper", "Cancel"} or model is Model.STATUS_ONLY:
            return _DENIED
        request = _request(variable.component, value, association)
        for place, leaf in enumerate(leaves(value)):
            if leaf[0] != data.STRUCTURE and name != "Cancel":
                variable.device.set(variable.start + place, leaf)
        if name == "SBOw":
            return self._select_with_value(association, request) if model is Model.SBO_ENHANCED else _DENIED
        if name == "Cancel":
            return self._cancel(association, request)
        return self._operate(association, request, value)

    def read(self, association: Association, variable: Variable) -> bytes | DataAccessError:
        """Select by reading SBO: the reference of the control, or an empty string."""
        del variable
        if self._place.model is not Model.SBO or self._running or self._selected is not None:
            return data.visible_string("")
        self._select(association, None)
        return data.visible_string(self._place.reference)

    # Selection

    def _select_with_value(self, association: Association, request: Request) -> Outcome:
        if self._selected is not None and self._selected is not association:
            return self._refuse(association, ("SBOw", request, "object-already-selected"), _UNAVAILABLE)
        if self._running:
            return self._refuse(association, ("SBOw", request, "command-already-in-execution"), _UNAVAILABLE)
        if self._selected is not None:
            return self._refuse(association, ("SBOw", request, "object-already-selected"), _UNAVAILABLE)
        cause = self._subject.refusal(request)
        if cause:
            return self._refuse(association, ("SBOw", request, cause), _DENIED)
        self._select(association, request)
        return None

    def _select(self, association: Association, request: Request | None) -> None:
        self._selected, self._selection = association, request
        association.on_close(self._left)
        timeout = self._place.timeout
        if timeout:
            self._timer = self._clock.later(timeout / 1000, self._expired)
        self._show("stSeld", data.TRUE)

    def _expired(self) -> None:
        self._timer = None
        self._unselect()

    def _unselect(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._selected is not None:
            self._selected = self._selection = None
            self._show("stSeld", data.FALSE)

    def _left(self, association: Association) -> None:
        if self._selected is association:
            self._unselect()

    def _cancel(self, association: Association, request: Request) -> Outcome:
        if not self._place.model.selects:
            return _DENIED
        if self._selected not in {None, association}:
            return self._refuse(association, ("Cancel", request, "locked-by-other-client"), _UNAVAILABLE)
        self._unselect()
        return None

    # Commands

    def _operate(self, association: Association, request: Request, value: bytes) -> Outcome:
        refused = self._hindrance(association, request)
        if refused is not None:
            cause, error = refused
            return self._refuse(association, ("Oper", request, cause), error)
        cause = self._subject.refusal(request)
        if cause:
            if not self._place.keeps_selection:
                self._unselect()
            return self._refuse(association, ("Oper", request, cause), _DENIED)
        return self._execute(association, request, value)

    def _hindrance(self, association: Association, request: Request) -> tuple[str, DataAccessError] | None:
        """Return why the state of the control does not let a client operate it."""
        model = self._place.model
        if self._running:
            return "command-already-in-execution", _UNAVAILABLE
        if request.time:
            return "not-supported", _DENIED
        if not model.selects:
            return None
        if self._selected is None:
            return "object-not-selected", _DENIED
        if self._selected is not association:
            return "locked-by-other-client", _UNAVAILABLE
        selection = self._selection
        if selection is not None and not _same(selection, request):
            self._unselect()
            return "inconsistent-parameters", _DENIED
        return None

    def _execute(self, association: Association, request: Request, value: bytes) -> Outcome:
        self._running = True
        if self._timer is not None:
            # A selection does not end under a command.
            self._timer.cancel()
            self._timer = None
        pending = Pending()
        enhanced = self._place.model.enhanced

        def done(cause: int) -> None:
            self._running = False
            if not self._place.keeps_selection:
                self._unselect()
            if enhanced:
                self._terminate(association, request, value, cause)
            elif cause:
                self._tell(association, "Oper", request, cause)
            pending.answer(_DENIED if cause else None)

        self._show("origin", request.origin)
        self._show("ctlNum", request.number)
        if enhanced:
            # The response goes out first: it says that the command has begun.
            self._clock.later(0, lambda: self._subject.execute(request, done))
            return None
        self._subject.execute(request, done)
        return pending

    # Out

    def _refuse(
        self, association: Association, why: tuple[str, Request, str], error: DataAccessError
    ) -> DataAccessError:
        service, request, cause = why
        self._tell(association, service, request, ADD_CAUSE.get(cause, ADD_CAUSE["blocked-by-process"]))
        return error

    def _tell(self, association: Association, service: str, request: Request, cause: int) -> None:
        error = self._last_error(service, request, cause)
        association.send(pdu.variables_report([(None, "LastApplError")], error))

    def _terminate(self, association: Association, request: Request, value: bytes, cause: int) -> None:
        oper = (self._place.device.name, f"{self._place.item}$Oper")
        if cause:
            names: list[pdu.Name] = [(None, "LastApplError"), oper]
            association.send(pdu.variables_report(names, self._last_error("Oper", request, cause) + value))
        else:
            association.send(pdu.variables_report([oper], value))

    def _last_error(self, service: str, request: Request, cause: int) -> bytes:
        """Return a LastApplError: CntrlObj, Error, Origin, ctlNum, AddCause."""
        parts = (
            data.visible_string(f"{self._place.reference}${service}"),
            data.integer(_NO_ERROR),
            request.origin,
            request.number,
            data.integer(cause),
        )
        return ber.tlv(data.STRUCTURE, *parts)

    def _show(self, name: str, value: bytes) -> None:
        """Show an attribute of the control's status, where the model has it."""
        changes = self._place.show(name, value)
        if changes:
            self._changed(self._place.device, changes)


Changed = Callable[[Device, list[Change]], None]
"""Takes changed positions of a device."""


class Place:
    """Where a control's attributes stand: ``CO$Pos`` of a node, with its CF and ST."""

    def __init__(self, device: Device, node: str, path: str) -> None:
        """Find a control; ``path`` is the data object's: ``Pos``. Raises LookupError if there is none."""
        self.device = device
        self.item = f"{node}$CO${path}"
        self.reference = f"{device.name}/{self.item}"
        found = device.find(self.item)
        if found is None:
            raise LookupError(self.reference)
        self.component = found.component
        self.start = found.start
        self._node, self._path = node, path

    def _find(self, constraint: str, name: str) -> Variable | None:
        return self.device.find(f"{self._node}${constraint}${self._path}${name}")

    def _number(self, name: str) -> int:
        variable = self._find("CF", name)
        return 0 if variable is None else data.to_integer(variable.encoded())

    @property
    def model(self) -> Model:
        """CtlModel."""
        return Model(self._number("ctlModel"))

    @property
    def timeout(self) -> int:
        """SboTimeout in milliseconds, 0 for none."""
        return self._number("sboTimeout")

    @property
    def keeps_selection(self) -> bool:
        """A selection holds for many commands (sboClass operate-many)."""
        return self._number("sboClass") == 1

    def show(self, name: str, value: bytes) -> list[Change]:
        """Put a value into an attribute of the status; return the changes."""
        variable = self._find("ST", name)
        if variable is None or not variable.component.type.fits(value, 0, len(value)):
            return []
        return [
            (variable.start + place, DATA_CHANGE)
            for place, leaf in enumerate(leaves(value))
            if leaf[0] != data.STRUCTURE and self.device.set(variable.start + place, leaf)
        ]


def install(place: Place, control: Control) -> None:
    """Put a control into its place in its device."""
    device = place.device
    device.writers[place.start] = control
    select = place.component.child("SBO")
    if select is not None:
        device.readers[place.start - place.component.start + select.start] = control


def _request(component: Component, value: bytes, association: Association) -> Request:
    """Return what a client commands; the value is of the component's type."""
    fields = dict(zip([child.name for child in component.children], data.parts(value), strict=True))
    check = data.to_bits(fields["Check"]) if "Check" in fields else 0
    return Request(
        value=fields.get("ctlVal", data.FALSE),
        origin=fields.get("origin", _NOBODY),
        number=fields.get("ctlNum", data.unsigned(0)),
        test="Test" in fields and data.to_boolean(fields["Test"]),
        synchro_check=bool(check & 2),
        interlock_check=bool(check & 1),
        time=_milliseconds(fields.get("operTm", b"")),
        peer=association.peer,
    )


def _milliseconds(value: bytes) -> int:
    return int.from_bytes(value[2:6], "big") * 1000 if len(value) == 10 else 0


def _same(selection: Request, request: Request) -> bool:
    """Tell whether an operate is what was selected (IEC 61850-7-2 clause 20.3: all but T)."""
    return (selection.value, selection.origin, selection.number, selection.test) == (
        request.value,
        request.origin,
        request.number,
        request.test,
    )
