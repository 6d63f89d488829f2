"""READ, WRITE and UNCONFIRMED WRITE with short names, on plain APDUs (IEC 62056-5-3 clauses 9.3.14 to 9.3.17).

A method is called by WRITE, or by READ with parameterised access where it returns something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flexmap.dlms import axdr
from flexmap.dlms.apdu import ApduError, Block, Conformance, DataAccessResult, Tag
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.blocks import Outgoing
from flexmap.dlms.notification import Change, information_report
from flexmap.dlms.object_access import (
    MALFORMED,
    NOT_NEGOTIATED,
    NOT_UNDERSTOOD,
    Found,
    Job,
    ObjectAccess,
    RowsGoneError,
)
from flexmap.dlms.objects import AssociationContext, LogicalDevice, Pending, View, attribute_key
from flexmap.dlms.profile import ClientProfile, Limits
from flexmap.dlms.requests import Cursor, Target
from flexmap.dlms.short_names import REPLY_TO_HLS, ShortName, ShortNames

_NAME, _PARAMETERISED, _BLOCK_NUMBER, _READ_BLOCK, _WRITE_BLOCK = 2, 4, 5, 6, 7
_DATA, _ERROR, _BLOCK_RESULT, _NUMBER = 0, 1, 2, 3
_BLOCK_OVERHEAD = 10
_READ = Tag.READ_REQUEST
_CLOCK_TIME = attribute_key(8, bytes((0, 0, 1, 0, 0, 255)), 2)
_NEEDED = {
    Tag.READ_REQUEST: Conformance.READ,
    Tag.WRITE_REQUEST: Conformance.WRITE,
    Tag.UNCONFIRMED_WRITE_REQUEST: Conformance.UNCONFIRMED_WRITE,
}


class Variable(NamedTuple):
    """A Variable-Access-Specification."""

    kind: int
    name: int = 0
    """Short name, or number of a block."""
    selector: int = 0
    parameter: bytes = b""
    block: Block | None = None


def variable(cursor: Cursor) -> Variable:
    """Return the next Variable-Access-Specification; raises ApduError or AxdrError."""
    kind = cursor.take(1)[0]
    if kind in (_NAME, _BLOCK_NUMBER):
        return Variable(kind, int.from_bytes(cursor.take(2), "big"))
    if kind == _PARAMETERISED:
        name = int.from_bytes(cursor.take(2), "big")
        return Variable(kind, name, cursor.take(1)[0], cursor.value())
    if kind in (_READ_BLOCK, _WRITE_BLOCK):
        last, number = cursor.take(1) != b"\x00", int.from_bytes(cursor.take(2), "big")
        raw = b""
        if kind == _READ_BLOCK:
            raw, cursor.at = axdr.take_octet_string(cursor.octets, cursor.at)
        return Variable(kind, number, block=Block(last, number, raw))
    raise ApduError(f"variable access specification {kind}")


class ShortNameServices(ObjectAccess):
    """The services of one open association with short name referencing."""

    __slots__ = ("_gathered", "_gathering", "_names", "_number", "_outgoing")

    def __init__(
        self,
        device: LogicalDevice,
        view: View,
        client: ClientProfile,
        context: AssociationContext,
        *,
        limits: Limits,
        room: int,
        names: ShortNames,
    ) -> None:
        super().__init__(device, view, client, context, limits=limits, room=room)
        self._names = names
        self._outgoing: Outgoing | None = None
        self._gathering = 0
        """Tag of the request that is coming in blocks."""
        self._gathered = bytearray()
        self._number = 0

    def answer(self, apdu: bytes) -> bytes:
        """Return the response to any plain request; ``long`` where it is too long for one APDU."""
        self._begin()
        tag = apdu[0] if apdu else 0
        if tag not in _NEEDED:
            return NOT_UNDERSTOOD
        confirmed = tag != Tag.UNCONFIRMED_WRITE_REQUEST
        if not self._able(_NEEDED[Tag(tag)]) and self.hls is None:
            return NOT_NEGOTIATED if confirmed else b""
        try:
            variables, values = _decode(apdu, 1, tag)
            if not self._able(_asked(variables)) and self.hls is None:
                return NOT_NEGOTIATED if confirmed else b""
            return self._run(self._serve(tag, variables, values), confirmed=confirmed)
        except (ApduError, AxdrError):
            return MALFORMED if confirmed else b""

    def _notify(self, change: Change) -> bytes:
        """Return a report of the clock's time, where the client may read it, and of the new value."""
        names, readable = self._names.by_key, self._view.readable
        if change.key not in names or not self._able(Conformance.INFORMATION_REPORT):
            return b""
        variables = [(names[change.key], change.value)]
        if _CLOCK_TIME in names and _CLOCK_TIME in readable and not self._view.guards.get(_CLOCK_TIME):
            variables.insert(0, (names[_CLOCK_TIME], axdr.octet_string(change.time)))
        return information_report(variables)

    def close(self) -> None:
        """Forget transfers and the request that waits: the association ends."""
        super().close()
        self._outgoing = None
        self._gathered.clear()

    def _serve(self, tag: int, variables: list[Variable], values: list[bytes]) -> Job[bytes]:
        """Answer a request; a block that is the last of one makes it whole."""
        first = variables[0] if variables else Variable(_NAME)
        if first.block is not None and len(variables) == 1:
            raw = first.block.raw
            if first.kind == _WRITE_BLOCK:
                decoded = axdr.decode(values[0]) if values else None
                if not isinstance(decoded, bytes):
                    return _failure(tag, DataAccessResult.TYPE_UNMATCHED)
                raw = decoded
            result = self._gather(tag, first.block, raw)
            if result is not None:
                return _failure(tag, result)
            if not first.block.last:
                number = first.block.number.to_bytes(2, "big")
                return _head(tag, 1) + bytes((_NUMBER if tag == _READ else 2,)) + number
            whole = bytes(self._gathered)
            self._gathered.clear()
            self._number = 0
            variables, values = _decode(whole, 0, tag)
        if first.kind == _BLOCK_NUMBER and tag == _READ and len(variables) == 1:
            return self._next_block(first.name)
        why: DataAccessResult | None = None
        if self.waiting:
            why = DataAccessResult.TEMPORARY_FAILURE
        elif self.hls is not None and not _is_hls_reply(variables):
            why = self._too_early()
        elif len(variables) > self._limits.max_list or any(each.block for each in variables):
            why = DataAccessResult.OTHER_REASON
        if tag == _READ:
            return (yield from self._read_all(variables, why))
        return (yield from self._write_names(variables, values, why))

    # --- READ

    def _read_all(self, variables: list[Variable], why: DataAccessResult | None) -> Job[bytes]:
        self._outgoing = None
        found: list[Found] = [why] * len(variables) if why is not None else []
        for each in variables[len(found) :]:
            one = yield from self._read_name(each)
            found.append(one)
        head = _head(_READ, len(found))
        outgoing = Outgoing(_results(found))
        try:
            whole = outgoing.whole(self._room - len(head))
            if whole is not None:
                return head + whole
            able = self._able(Conformance.BLOCK_TRANSFER_WITH_GET)
            if self.general or (self._able(Conformance.GENERAL_BLOCK_TRANSFER) and not able):
                outgoing.put_before(head)
                self.long = outgoing
                return b""
            if not able:
                return _head(_READ, len(found)) + bytes((_ERROR, DataAccessResult.OTHER_REASON)) * len(found)
            outgoing.put_before(head[1:])
            self._outgoing = outgoing
            return self._next_block(0)
        except RowsGoneError:
            return _failure(_READ, DataAccessResult.LONG_GET_ABORTED)

    def _next_block(self, number: int) -> bytes:
        outgoing = self._outgoing
        if outgoing is None:
            return _failure(_READ, DataAccessResult.NO_LONG_GET_IN_PROGRESS)
        if number != outgoing.number:
            self._outgoing = None
            return _failure(_READ, DataAccessResult.DATA_BLOCK_NUMBER_INVALID)
        try:
            block = outgoing.block(self._room - _BLOCK_OVERHEAD)
        except RowsGoneError:
            self._outgoing = None
            return _failure(_READ, DataAccessResult.LONG_GET_ABORTED)
        if block.last:
            self._outgoing = None
        head = _head(_READ, 1) + bytes((_BLOCK_RESULT, block.last)) + block.number.to_bytes(2, "big")
        return head + axdr.encode_length(len(block.raw)) + block.raw

    def _read_name(self, each: Variable) -> Job[Found]:
        if each.kind not in (_NAME, _PARAMETERISED):
            return DataAccessResult.OTHER_REASON
        own = self._names.own(each.name, self._view)
        if own is not None:
            return own
        named = self._names.names.get(each.name)
        if named is None:
            return DataAccessResult.OBJECT_UNDEFINED
        if not named.is_method:
            return self._read(Target(named.key, each.selector, each.parameter))
        if each.kind != _PARAMETERISED:
            return DataAccessResult.READ_WRITE_DENIED
        return (yield from self._call(named, each.parameter))

    def _call(self, named: ShortName, parameter: bytes) -> Job[Found]:
        reply = self._act(Target(named.key), parameter)
        if isinstance(reply, Pending):
            reply = yield reply
        return DataAccessResult(reply.result) if reply.result else reply.returned or axdr.NULL

    # --- WRITE

    def _write_names(
        self, variables: list[Variable], values: list[bytes], why: DataAccessResult | None
    ) -> Job[bytes]:
        results: list[int] = []
        for each, value in zip(variables, values, strict=True):
            result = why if why is not None else (yield from self._write_name(each, value))
            results.append(result)
        items = b"".join(bytes((1, result)) if result else b"\x00" for result in results)
        return _head(Tag.WRITE_REQUEST, len(results)) + items

    def _write_name(self, each: Variable, value: bytes) -> Job[int]:
        named = self._names.names.get(each.name)
        if each.kind not in (_NAME, _PARAMETERISED) or self._names.own(each.name, self._view) is not None:
            return DataAccessResult.READ_WRITE_DENIED
        if named is None:
            return DataAccessResult.OBJECT_UNDEFINED
        if named.is_method:
            found = yield from self._call(named, value)
            return found if isinstance(found, DataAccessResult) else DataAccessResult.SUCCESS
        return (yield from self._write_all((Target(named.key, each.selector, each.parameter),), (value,)))[0]

    def _gather(self, tag: int, block: Block, raw: bytes) -> DataAccessResult | None:
        """Take one block of a request; return why not."""
        if block.number == 1:
            self._gathered.clear()
            self._gathering, self._number = tag, 0
        if block.number != self._number + 1 or tag != self._gathering or self.hls is not None:
            self._number = 0
            self._gathered.clear()
            return DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        self._number = block.number
        self._gathered += raw
        if len(self._gathered) > self._limits.max_long_value or not (self._view.writable or tag == _READ):
            self._gathered.clear()
            return DataAccessResult.LONG_SET_ABORTED
        return None


def _decode(octets: bytes, at: int, tag: int) -> tuple[list[Variable], list[bytes]]:
    """Return variables and, of a WRITE, a value for each."""
    cursor = Cursor(octets, at)
    variables = [variable(cursor) for _ in range(cursor.count())]
    values: list[bytes] = []
    if tag != _READ:
        values = list(cursor.values())
        if len(values) != len(variables):
            raise ApduError(f"{len(variables)} variables, {len(values)} values")
    cursor.finish()
    return variables, values


def _asked(variables: list[Variable]) -> int:
    """Return the bits of conformance that variables take."""
    asked = Conformance.MULTIPLE_REFERENCES if len(variables) > 1 else 0
    for each in variables:
        match each.kind:
            case 4:
                asked |= Conformance.PARAMETERISED_ACCESS
            case 5 | 6:
                asked |= Conformance.BLOCK_TRANSFER_WITH_GET
            case 7:
                asked |= Conformance.BLOCK_TRANSFER_WITH_SET
    return asked


def _is_hls_reply(variables: list[Variable]) -> bool:
    return len(variables) == 1 and variables[0].name == REPLY_TO_HLS


def _head(tag: int, count: int) -> bytes:
    """Return tag and count of a response."""
    response = Tag.READ_RESPONSE if tag == _READ else Tag.WRITE_RESPONSE
    return bytes((response,)) + axdr.encode_length(count)


def _failure(tag: int, result: DataAccessResult) -> bytes:
    return _head(tag, 1) + bytes((_ERROR, result))


def _results(found: list[Found]) -> Iterator[bytes]:
    for each in found:
        if isinstance(each, DataAccessResult):
            yield bytes((_ERROR, each))
        elif isinstance(each, bytes):
            yield b"\x00" + each
        else:
            yield b"\x00"
            yield from each
