"""GET, SET, ACTION and ACCESS with logical names, on plain APDUs (IEC 62056-5-3 clauses 9.3.6 to 9.3.9)."""

from __future__ import annotations

from collections.abc import Iterator

from flexmap.dlms import access, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.apdu import ActionResult, ApduError, Conformance, DataAccessResult, Tag
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.blocks import Incoming, Outgoing
from flexmap.dlms.notification import Change, event_notification
from flexmap.dlms.object_access import (
    MALFORMED,
    NEITHER,
    NOT_NEGOTIATED,
    NOT_UNDERSTOOD,
    REPLY_TO_HLS,
    TOO_LONG,
    Found,
    Job,
    ObjectAccess,
    RowsGoneError,
    one_of_two,
)
from flexmap.dlms.objects import ActionReply, AssociationContext, LogicalDevice, Pending, View
from flexmap.dlms.profile import ClientProfile, Limits
from flexmap.dlms.requests import Request, decode_request

_BLOCK_OVERHEAD = 12
"""Octets of a response with a block around its raw data, at most (length in three octets)."""

_REQUESTS = (b"\xc0", b"\xc1", b"\xc3")
_ACCESS = bytes((Tag.ACCESS_REQUEST,))
_SERVICE = {
    Tag.GET_REQUEST: (Conformance.GET, Conformance.BLOCK_TRANSFER_WITH_GET),
    Tag.SET_REQUEST: (Conformance.SET, Conformance.BLOCK_TRANSFER_WITH_SET),
    Tag.ACTION_REQUEST: (Conformance.ACTION, Conformance.BLOCK_TRANSFER_WITH_ACTION),
}

_WHOLE = {
    Tag.GET_REQUEST: Conformance.ATTRIBUTE_0_WITH_GET,
    Tag.SET_REQUEST: Conformance.ATTRIBUTE_0_WITH_SET,
}
"""What naming attribute 0 takes."""
_LISTS = {
    Tag.GET_REQUEST: (pdu.WITH_LIST,),
    Tag.SET_REQUEST: (pdu.SET_WITH_LIST, pdu.SET_LIST_FIRST_BLOCK),
    Tag.ACTION_REQUEST: (pdu.WITH_LIST, pdu.ACTION_LIST_FIRST_BLOCK),
}


class _Lane:
    """Long transfers under way, of one priority."""

    __slots__ = ("incoming", "outgoing", "returning")

    def __init__(self) -> None:
        self.outgoing: Outgoing | None = None
        """What a GET is sending in blocks."""
        self.returning: Outgoing | None = None
        """What an ACTION is returning in blocks."""
        self.incoming: Incoming | None = None


_NO_LANE = _Lane()


class Services(ObjectAccess):
    """The services of one open association."""

    __slots__ = ("_lane", "_lanes")

    def __init__(
        self,
        device: LogicalDevice,
        view: View,
        client: ClientProfile,
        context: AssociationContext,
        *,
        limits: Limits,
        room: int,
    ) -> None:
        super().__init__(device, view, client, context, limits=limits, room=room)
        self._lanes: tuple[_Lane | None, _Lane | None] = NEITHER
        """Of normal and of high priority, made when they are needed."""
        self._lane = _NO_LANE
        """The lane of the request that is being answered."""

    def _lane_of(self, *, urgent: bool) -> _Lane:
        lane = self._lanes[urgent]
        if lane is None:
            lane = _Lane()
            self._lanes = one_of_two(self._lanes, urgent, lane)
        return lane

    # --- entry

    def respond(self, apdu: bytes) -> bytes:
        """Return the response to a plain request; empty when none is due (now)."""
        # The way of nearly all requests: GET normal without selective access, a value that fits.
        if len(apdu) == 13 and apdu[:2] == b"\xc0\x01" and not apdu[12]:
            found = self._readable.get(apdu[3:12])
            if found.__class__ is int:
                found = self._values[found]
            if found.__class__ is bytes and len(found) + 4 <= self._room:
                return b"\xc4\x01" + apdu[2:3] + b"\x00" + found
        elif apdu[:2] == b"\xc0\x03":
            return self._listed_at_once(apdu) or self.beyond(apdu)
        return self.beyond(apdu)

    def _listed_at_once(self, apdu: bytes) -> bytes:
        """Return the response to a GET with list if all of it is as simple, else nothing."""
        count, end = apdu[3] if len(apdu) > 3 else 0, len(apdu)
        if end != 4 + 10 * count or not 0 < count < min(0x80, self._limits.max_list + 1) or any(apdu[13::10]):
            return b""
        readable, values = self._readable, self._values
        parts = [b"\xc4\x03" + apdu[2:4]]
        for at in range(4, end, 10):
            found = readable.get(apdu[at : at + 9])
            if found.__class__ is int:
                found = values[found]
            if found.__class__ is not bytes:
                return b""
            parts.append(found)
        response = b"\x00".join(parts)
        return response if len(response) <= self._room and self._able(Conformance.MULTIPLE_REFERENCES) else b""

    def _fast(self) -> dict[bytes, object]:
        return self._view.unguarded if self._able(Conformance.GET) else {}

    def answer(self, apdu: bytes) -> bytes:
        """Return the response to any plain request; ``long`` where it is too long for one APDU."""
        self._begin()
        if apdu[:1] == _ACCESS:
            return self._access(apdu)
        if apdu[:1] not in _REQUESTS:
            return NOT_UNDERSTOOD
        try:
            request = decode_request(apdu)
        except (ApduError, AxdrError):
            return MALFORMED
        if not self._able(_needed(request)):
            return NOT_NEGOTIATED
        urgent = self._urgent(asked=request.urgent)
        self._lane = self._lane_of(urgent=urgent)
        if self._blocked(urgent=urgent):
            response = self._refuse(request, DataAccessResult.TEMPORARY_FAILURE)
        elif self.hls is not None and not _is_hls_reply(request):
            response = self._refuse(request, self._too_early())
        elif len(request.targets) > self._limits.max_list:
            response = self._refuse(request, DataAccessResult.OTHER_REASON)
        elif request.service == Tag.GET_REQUEST:
            return self._get_or_abort(request)
        else:
            job = self._set(request) if request.service == Tag.SET_REQUEST else self._action(request)
            return self._run(job, confirmed=request.confirmed, urgent=urgent)
        return response if request.confirmed or request.service == Tag.GET_REQUEST else b""

    def _notify(self, change: Change) -> bytes:
        return event_notification(change) if self._able(Conformance.EVENT_NOTIFICATION) else b""

    def close(self) -> None:
        """Forget transfers and the request that waits: the association ends."""
        super().close()
        self._lanes, self._lane = NEITHER, _NO_LANE

    def _refuse(self, request: Request, result: DataAccessResult) -> bytes:
        """Return the response of the request's own kind that says ``result`` for each target."""
        if request.service == Tag.GET_REQUEST:
            if request.kind == pdu.GET_NEXT:
                return pdu.get_block_error(request.invoke, request.number, result)
            return self._get_results(request, [result] * len(request.targets))
        if request.service == Tag.SET_REQUEST:
            if request.block is not None:
                return _set_block_error(request, result)
            return self._set_response(request, [result] * len(request.targets))
        replies = [ActionReply(ActionResult(result))] * max(len(request.targets), 1)
        return self._action_response(request.invoke, replies, listed=request.kind == pdu.WITH_LIST)

    def _in_general_blocks(self, own: Conformance) -> bool:
        """Tell whether a long response goes in general blocks; ``own``: the service's own block transfer."""
        return self.general or (self._able(Conformance.GENERAL_BLOCK_TRANSFER) and not self._able(own))

    def _send_long(self, head: bytes, outgoing: Outgoing) -> bytes:
        outgoing.put_before(head)
        self.long = outgoing
        return b""

    # --- GET

    def _get_or_abort(self, request: Request) -> bytes:
        try:
            return self._get(request)
        except RowsGoneError:
            self._lane.outgoing = None
            return self._refuse(request, DataAccessResult.LONG_GET_ABORTED)

    def _get(self, request: Request) -> bytes:
        if request.kind == pdu.GET_NEXT:
            return self._get_next(request)
        self._lane.outgoing = None
        if request.kind == pdu.NORMAL:
            found = self._read(request.targets[0])
            if isinstance(found, DataAccessResult):
                return self._get_results(request, [found])
            chunks = iter((found,)) if isinstance(found, bytes) else found
            return self._send(request.invoke, b"\xc4\x01" + bytes((request.invoke, 0)), chunks)
        head = bytes((Tag.GET_RESPONSE, pdu.WITH_LIST, request.invoke))
        items = [self._read(target) for target in request.targets]
        return self._send(request.invoke, head, _listed(items))

    def _get_results(self, request: Request, results: list[DataAccessResult]) -> bytes:
        if request.kind == pdu.NORMAL:
            return bytes((Tag.GET_RESPONSE, pdu.NORMAL, request.invoke, 1, results[0]))
        head = bytes((Tag.GET_RESPONSE, pdu.WITH_LIST, request.invoke)) + axdr.encode_length(len(results))
        return head + b"".join(bytes((1, result)) for result in results)

    def _send(self, invoke: int, head: bytes, chunks: Iterator[bytes]) -> bytes:
        outgoing = Outgoing(chunks)
        whole = outgoing.whole(self._room - len(head))
        if whole is not None:
            return head + whole
        if self._in_general_blocks(Conformance.BLOCK_TRANSFER_WITH_GET):
            return self._send_long(head, outgoing)
        if not self._able(Conformance.BLOCK_TRANSFER_WITH_GET):
            return bytes((Tag.GET_RESPONSE, pdu.NORMAL, invoke, 1, DataAccessResult.OTHER_REASON))
        self._lane.outgoing = outgoing
        return self._send_block(invoke, outgoing)

    def _send_block(self, invoke: int, outgoing: Outgoing) -> bytes:
        block = outgoing.block(self._room - _BLOCK_OVERHEAD)
        if block.last:
            self._lane.outgoing = None
        return pdu.get_block_response(invoke, block)

    def _get_next(self, request: Request) -> bytes:
        outgoing = self._lane.outgoing
        if outgoing is None:
            result = DataAccessResult.NO_LONG_GET_IN_PROGRESS
            return pdu.get_block_error(request.invoke, request.number, result)
        if request.number != outgoing.number:
            self._lane.outgoing = None
            result = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
            return pdu.get_block_error(request.invoke, request.number, result)
        return self._send_block(request.invoke, outgoing)

    # --- SET

    def _set(self, request: Request) -> Job[bytes]:
        if request.block is None:
            results = yield from self._write_all(request.targets, request.values)
            return self._set_response(request, results)
        if request.targets:
            self._lane.incoming = None
            denied = self._denied(request.targets, self._view.writable)
            if denied is not None:
                return _set_block_error(request, denied)
            listed = request.kind == pdu.SET_LIST_FIRST_BLOCK
            self._lane.incoming = Incoming(request.targets, listed=listed, limit=self._limits.max_long_value)
        incoming, block = self._lane.incoming, request.block
        if incoming is None:
            return _set_block_error(request, DataAccessResult.NO_LONG_SET_IN_PROGRESS)
        if block.number != incoming.number + 1:
            self._lane.incoming = None
            return _set_block_error(request, DataAccessResult.DATA_BLOCK_NUMBER_INVALID)
        if not incoming.add(block):
            self._lane.incoming = None
            return _set_block_error(request, DataAccessResult.LONG_SET_ABORTED)
        number = block.number.to_bytes(4, "big")
        if not block.last:
            return bytes((Tag.SET_RESPONSE, 2, request.invoke)) + number
        self._lane.incoming = None
        values = incoming.values()
        if values is None:
            results = [DataAccessResult.TYPE_UNMATCHED] * len(incoming.targets)
        else:
            results = yield from self._write_all(incoming.targets, values)
        if incoming.listed:
            head = bytes((Tag.SET_RESPONSE, 4, request.invoke)) + axdr.encode_length(len(results))
            return head + bytes(results) + number
        return bytes((Tag.SET_RESPONSE, 3, request.invoke, results[0])) + number

    def _set_response(self, request: Request, results: list[DataAccessResult]) -> bytes:
        if request.kind == pdu.NORMAL:
            return bytes((Tag.SET_RESPONSE, 1, request.invoke, results[0]))
        head = bytes((Tag.SET_RESPONSE, 5, request.invoke)) + axdr.encode_length(len(results))
        return head + bytes(results)

    # --- ACTION

    def _action(self, request: Request) -> Job[bytes]:
        invoke, targets, values = request.invoke, request.targets, request.values
        listed = request.kind in (pdu.WITH_LIST, pdu.ACTION_LIST_FIRST_BLOCK)
        if request.kind == pdu.ACTION_NEXT:
            return self._return_next(request)
        self._lane.returning = None
        if request.block is not None:
            if targets:
                self._lane.incoming = None
                denied = self._denied(targets, self._view.executable)
                if denied is not None:
                    return self._action_error(request, ActionResult(denied))
                self._lane.incoming = Incoming(targets, listed=listed, limit=self._limits.max_long_value)
            incoming, block = self._lane.incoming, request.block
            if incoming is None:
                return self._action_error(request, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
            if block.number != incoming.number + 1 or not incoming.add(block):
                self._lane.incoming = None
                return self._action_error(request, ActionResult.LONG_ACTION_ABORTED)
            if not block.last:
                return bytes((Tag.ACTION_RESPONSE, 4, invoke)) + block.number.to_bytes(4, "big")
            self._lane.incoming = None
            taken, targets, listed = incoming.values(), incoming.targets, incoming.listed
            if taken is None:
                mismatch = [ActionReply(ActionResult.TYPE_UNMATCHED)] * len(targets)
                return self._action_response(invoke, mismatch, listed=listed)
            values = taken
        lane = self._lane
        replies = yield from self._act_all(targets, values)
        self._lane = lane  # others may have been answered meanwhile
        return self._action_response(invoke, replies, listed=listed)

    def _action_error(self, request: Request, result: ActionResult) -> bytes:
        return self._action_response(request.invoke, [ActionReply(result)], listed=False)

    def _action_response(self, invoke: int, replies: list[ActionReply], *, listed: bool) -> bytes:
        items = b"".join(pdu.action_item(reply.result, reply.returned) for reply in replies)
        if listed:
            head = bytes((Tag.ACTION_RESPONSE, pdu.WITH_LIST, invoke)) + axdr.encode_length(len(replies))
        else:
            head = bytes((Tag.ACTION_RESPONSE, pdu.NORMAL, invoke))
        if len(head) + len(items) <= self._room:
            return head + items
        if self._in_general_blocks(Conformance.BLOCK_TRANSFER_WITH_ACTION):
            return self._send_long(head, Outgoing(iter((items,))))
        if self._able(Conformance.BLOCK_TRANSFER_WITH_ACTION):
            # Of one method what it returns, as Gurux's client has it; of several the list of their responses.
            raw = head[3:] + items if listed else replies[0].returned or b""
            self._lane.returning = Outgoing(iter((raw,)))
            return self._return_block(invoke, self._lane.returning)
        return head + b"".join(pdu.action_item(reply.result, None) for reply in replies)

    def _return_block(self, invoke: int, outgoing: Outgoing) -> bytes:
        block = outgoing.block(self._room - _BLOCK_OVERHEAD)
        if block.last:
            self._lane.returning = None
        head = bytes((Tag.ACTION_RESPONSE, 2, invoke))
        return head + pdu.data_block(last=block.last, number=block.number, raw=block.raw)

    def _return_next(self, request: Request) -> bytes:
        outgoing = self._lane.returning
        if outgoing is None:
            return self._action_error(request, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
        if request.number != outgoing.number:
            self._lane.returning = None
            return self._action_error(request, ActionResult.LONG_ACTION_ABORTED)
        return self._return_block(request.invoke, outgoing)

    # --- ACCESS

    def _access(self, apdu: bytes) -> bytes:
        if not self._able(Conformance.ACCESS):
            return NOT_NEGOTIATED
        try:
            request = access.decode_request(apdu)
        except (ApduError, AxdrError):
            return MALFORMED
        why: DataAccessResult | None = None
        urgent = self._urgent(asked=request.urgent)
        if self._blocked(urgent=urgent):
            why = DataAccessResult.TEMPORARY_FAILURE
        elif self.hls is not None:
            why = self._too_early()
        elif len(request.items) > self._limits.max_list:
            why = DataAccessResult.OTHER_REASON
        return self._run(self._access_all(request, why), confirmed=request.confirmed, urgent=urgent)

    def _access_all(self, request: access.AccessRequest, why: DataAccessResult | None) -> Job[bytes]:
        """Carry out a list of accesses; none of them if there is a reason why not."""
        data: list[bytes | Iterator[bytes]] = []
        results: list[int] = []
        for item in request.items:
            found: Found = why or axdr.NULL
            if why is None:
                found = yield from self._access_one(item)
            failed = isinstance(found, DataAccessResult)
            results.append(found if isinstance(found, DataAccessResult) else 0)
            data.append(axdr.NULL if isinstance(found, DataAccessResult) else found)
            if failed and request.break_on_error:
                why = DataAccessResult.OTHER_REASON
        head, chunks = access.response(request, data, results)
        outgoing = Outgoing(chunks)
        try:
            whole = outgoing.whole(self._room - len(head))
        except RowsGoneError:
            return MALFORMED
        if whole is not None:
            return head + whole
        if self.general or self._able(Conformance.GENERAL_BLOCK_TRANSFER):
            return self._send_long(head, outgoing)
        return TOO_LONG

    def _access_one(self, item: access.AccessItem) -> Job[Found]:
        if item.kind == access.GET:
            return self._read(item.target)
        if item.kind == access.SET:
            return (yield from self._write_all((item.target,), (item.value,)))[0] or axdr.NULL
        reply = self._act(item.target, item.value)
        if isinstance(reply, Pending):
            reply = yield reply
        return DataAccessResult(reply.result) if reply.result else reply.returned or axdr.NULL


def _needed(request: Request) -> int:
    """Return the bits of conformance that a request takes; the answer to a challenge takes none."""
    if _is_hls_reply(request):
        return 0
    needed, blocks = _SERVICE[Tag(request.service)]
    if request.kind in _LISTS[Tag(request.service)]:
        needed |= Conformance.MULTIPLE_REFERENCES
    if request.block is not None or not request.targets:  # what names no target goes on with a transfer
        needed |= blocks
    if any(target.selector for target in request.targets):
        needed |= Conformance.SELECTIVE_ACCESS
    if request.service in _WHOLE and any(not target.index for target in request.targets):
        needed |= _WHOLE[Tag(request.service)]
    return needed


def _is_hls_reply(request: Request) -> bool:
    normal = request.service == Tag.ACTION_REQUEST and request.kind == pdu.NORMAL
    return normal and request.targets[0].key == REPLY_TO_HLS


def _set_block_error(request: Request, result: DataAccessResult) -> bytes:
    number = request.block.number if request.block else 0
    return bytes((Tag.SET_RESPONSE, 3, request.invoke, result)) + number.to_bytes(4, "big")


def _listed(items: list[bytes | Iterator[bytes] | DataAccessResult]) -> Iterator[bytes]:
    """Yield a list of Get-Data-Result."""
    yield axdr.encode_length(len(items))
    for item in items:
        if isinstance(item, DataAccessResult):
            yield bytes((1, item))
        elif isinstance(item, bytes):
            yield b"\x00" + item
        else:
            yield b"\x00"
            yield from item
