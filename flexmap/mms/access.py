"""Read and write (ISO 9506-2): variables, data sets, elements and components."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from flexmap.mms import ber, data, pdu
from flexmap.mms.ber import BerError
from flexmap.mms.data import DataAccessError
from flexmap.mms.pdu import Service
from flexmap.mms.types import Array
from flexmap.mms.variables import Component, Pending, Variable

if TYPE_CHECKING:
    from flexmap.mms.association import Association

MAX_VARIABLES = 10_000
"""Variables in one request: far more than a PDU has room for as values."""
_MAX_DEPTH = 10
"""Alternate accesses within each other."""

Slice = tuple[list[bytes], int, int]
"""Values that answer one variable: joined from the one position to the other."""

_FAILURES: dict[DataAccessError, Slice] = {error: ([data.failure(error)], 0, 1) for error in DataAccessError}


class ReadPlan(NamedTuple):
    """What answers a read: look-ups alone, so that the same request can be answered again without being parsed."""

    echo: bytes
    """The variable access specification, if the client wants it back."""
    slices: tuple[Slice, ...]
    lasting: bool
    """The same request has the same plan, until a data set is defined or deleted."""

    def results(self) -> bytes:
        """Return the access results, joined."""
        slices = self.slices
        if len(slices) == 1:
            values, start, stop = slices[0]
            return b"".join(values[start:stop])
        return b"".join([b"".join(values[start:stop]) for values, start, stop in slices])


class Selected(NamedTuple):
    """A variable of a request; ``variable`` None if there is none."""

    variable: Variable | None
    error: DataAccessError = DataAccessError.OBJECT_NON_EXISTENT
    parts: tuple[Variable, ...] = ()
    """Several parts of a variable, selected by an alternate access: answered as a structure or array."""
    tag: int = 0


def read(association: Association, request: bytes, at: int, end: int) -> ReadPlan:
    """Return what answers a read request; raises BerError, ServiceError."""
    wanted, variables = False, (0, 0, 0)
    for tag, begin, stop in ber.elements(request, at, end):
        if tag == 0x80:
            wanted = request[begin:stop] != b"\x00"
        elif tag == 0xA1:
            variables = ber.element(request, begin, stop)
    kind, begin, stop = variables
    if kind == 0xA0:
        selected = [_variable(association, request, a, b) for _, a, b in _sequence(request, begin, stop)]
    elif kind == 0xA1:
        selected = named_list(association, pdu.object_name(request, begin, stop))
    else:
        raise BerError("a read of neither variables nor a variable list")
    echo = ber.tlv(0xA0, ber.tlv(kind, request[begin:stop])) if wanted else b""
    lasting = True
    slices: list[Slice] = []
    for each in selected:
        if each.variable is not None and each.variable.device.has_readers(each.variable):
            lasting = False
            slices.append(_ask(association, each.variable))
        elif each.parts:
            lasting = False
            joined = b"".join(part.encoded() for part in each.parts)
            slices.append(([ber.tlv(each.tag, joined)], 0, 1))
        else:
            slices.append(_slice(each))
    return ReadPlan(echo, tuple(slices), lasting)


def _slice(selected: Selected) -> Slice:
    variable = selected.variable
    if variable is None:
        return _FAILURES[selected.error]
    return variable.device.values, variable.start, variable.stop


def _ask(association: Association, variable: Variable) -> Slice:
    value = variable.device.readers[variable.start].read(association, variable)
    return _FAILURES[value] if isinstance(value, DataAccessError) else ([value], 0, 1)


def _sequence(request: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    found = list(ber.elements(request, at, end))
    if len(found) > MAX_VARIABLES or any(tag != 0x30 for tag, _, _ in found):
        raise BerError("no list of variables")
    return found


def _variable(association: Association, request: bytes, at: int, end: int) -> Selected:
    """Return the variable of one member of a list of variables."""
    kind, begin, stop = ber.element(request, at, end)
    if kind != 0xA0:
        # An address, a description, a scattered access: IEC 61850 has names alone.
        return Selected(None, DataAccessError.OBJECT_ACCESS_UNSUPPORTED)
    domain, item = pdu.object_name(request, begin, stop)
    variable = association.variables.find(domain or "", item)
    if stop == end:
        return Selected(variable)
    kind, begin, after = ber.element(request, stop, end)
    if kind != 0xA5 or after != end:
        raise BerError(f"{kind:#04x} behind a variable")
    return Selected(None) if variable is None else select(variable, request, begin, after)


def select(variable: Variable, request: bytes, at: int, end: int, depth: int = 0) -> Selected:
    """Return the parts of a variable that an alternate access names; raises BerError."""
    if depth == _MAX_DEPTH:
        raise BerError("alternate accesses too deep within each other")
    chosen: list[Selected] = []
    for tag, begin, stop in ber.elements(request, at, end):
        if tag == 0xA5:
            # With a name for the part: the name shows only in types, not in data.
            _, _, middle = ber.element(request, begin, stop)
            inner, first, last = ber.element(request, middle, stop)
            chosen.append(_selection(variable, request, (inner, first, last), depth))
        else:
            chosen.append(_selection(variable, request, (tag, begin, stop), depth))
        if len(chosen) > MAX_VARIABLES:
            raise BerError("too many selections")
    if not chosen:
        raise BerError("an alternate access that selects nothing")
    if len(chosen) == 1:
        return chosen[0]
    parts: list[Variable] = []
    for each in chosen:
        if each.variable is None or each.parts:
            return Selected(None, each.error)
        parts.append(each.variable)
    return Selected(variable, parts=tuple(parts), tag=data.STRUCTURE)


def _selection(variable: Variable, request: bytes, access: tuple[int, int, int], depth: int) -> Selected:
    tag, begin, stop = access
    if tag == 0xA0:
        inner, first, last = ber.element(request, begin, stop)
        # What selectAlternateAccess tags 0 to 3, selectAccess tags 1 to 4.
        chosen = _access(variable, request, inner + 1, first, last)
        if chosen.variable is None or chosen.parts:
            return chosen
        kind, begin, stop = ber.element(request, last, stop)
        if kind != 0x30:
            raise BerError(f"alternate access {kind:#04x}")
        return select(chosen.variable, request, begin, stop, depth + 1)
    return _access(variable, request, tag, begin, stop)


def _access(variable: Variable, request: bytes, tag: int, begin: int, stop: int) -> Selected:
    component = variable.component
    array = isinstance(component.type, Array)
    if tag == 0x81:
        return _part(variable, None if array else component.child(ber.text(request[begin:stop])))
    if tag == 0x82 and array:
        index = ber.unsigned(request[begin:stop])
        return _part(variable, component.children[index] if index < len(component.children) else None)
    if tag == 0xA3 and array:
        return _range(variable, request, begin, stop)
    if tag == 0x84:
        return Selected(variable)
    if tag in {0x82, 0xA3}:
        return Selected(None)
    raise BerError(f"alternate access selection {tag:#04x}")


def _range(variable: Variable, request: bytes, at: int, end: int) -> Selected:
    begin, middle = ber.expect(request, at, end, 0x80)
    low = ber.unsigned(request[begin:middle])
    begin, stop = ber.expect(request, middle, end, 0x81)
    count = ber.unsigned(request[begin:stop])
    children = variable.component.children[low : low + count]
    if not count or len(children) < count:
        return Selected(None)
    parts = tuple(Variable(variable.device, variable.offset, child) for child in children)
    return Selected(variable, parts=parts, tag=data.ARRAY)


def _part(variable: Variable, component: Component | None) -> Selected:
    if component is None:
        return Selected(None)
    return Selected(Variable(variable.device, variable.offset, component))


def named_list(association: Association, name: pdu.Name) -> list[Selected]:
    """Return the members of a data set; raises ServiceError if there is none of that name."""
    found = association.list_of(name)
    if found is None:
        raise pdu.no_such_object(f"variable list {name[1]}")
    own = name[0] or ""
    find = association.variables.find
    return [Selected(find(own if domain is None else domain, item)) for domain, item in found.members]


Reply = Callable[[bytes], None]


def write(association: Association, request: bytes, at: int, end: int, later: Reply) -> bytes | None:
    """Carry out a write request: return the response's element, or None if ``later`` will be called with it.

    Raises BerError, ServiceError.
    """
    kind, begin, stop = ber.element(request, at, end)
    first, last = ber.expect(request, stop, end, 0xA0)
    if kind == 0xA0:
        selected = [_variable(association, request, a, b) for _, a, b in _sequence(request, begin, stop)]
    elif kind == 0xA1:
        selected = named_list(association, pdu.object_name(request, begin, stop))
    else:
        raise BerError("a write of neither variables nor a variable list")
    values = []
    while first < last:
        _, _, after = ber.element(request, first, last)
        values.append(request[first:after])
        first = after
    if len(values) != len(selected):
        raise BerError(f"{len(values)} values for {len(selected)} variables")
    outcomes = [_write(association, *pair) for pair in zip(selected, values, strict=True)]
    waiting = [outcome for outcome in outcomes if isinstance(outcome, Pending)]
    if not waiting:
        return _write_response(outcomes)
    left = len(waiting)

    def settled(_: DataAccessError | None) -> None:
        nonlocal left
        left -= 1
        if not left:
            later(_write_response(outcomes))

    association.wait_for(waiting)
    for outcome in waiting:
        outcome.then(settled)
    return None


def _write(association: Association, selected: Selected, value: bytes) -> DataAccessError | Pending | None:
    variable = selected.variable
    if variable is None:
        return selected.error
    if selected.parts:
        return DataAccessError.OBJECT_ACCESS_UNSUPPORTED
    if not variable.component.type.fits(value, 0, len(value)):
        return DataAccessError.TYPE_INCONSISTENT
    writer = variable.device.writer(variable)
    if writer is None:
        return DataAccessError.OBJECT_ACCESS_DENIED
    return writer.write(association, variable, value)


def _write_response(outcomes: list[DataAccessError | Pending | None]) -> bytes:
    body = b""
    for outcome in outcomes:
        error = outcome.outcome if isinstance(outcome, Pending) else outcome
        body += b"\x81\x00" if error is None else data.failure(error)
    return ber.tlv(Service.WRITE, body)
