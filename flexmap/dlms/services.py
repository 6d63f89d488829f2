"""GET, SET and ACTION of one association, on plain APDUs (IEC 62056-5-3 clauses 9.3.6 to 9.3.8).

One action may be waiting for its meter (:class:`flexmap.dlms.objects.Pending`). Until it is answered, every other
request of that association is refused with temporary-failure: replies never overtake each other and nothing
queues up. A client that sends one request at a time never sees this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from flexmap.dlms import apdu as pdu
from flexmap.dlms import axdr, selection
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import (
    ActionResult,
    ApduError,
    Conformance,
    DataAccessResult,
    Request,
    ServiceError,
    StateError,
    Tag,
    Target,
)
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.blocks import Incoming, Outgoing
from flexmap.dlms.objects import (
    ASSOCIATION_LN,
    ActionReply,
    AssociationContext,
    LogicalDevice,
    Pending,
    Rows,
    SelectionError,
    View,
    attribute_key,
)
from flexmap.dlms.profile import ClientProfile, Limits
from flexmap.model.error import RemoteError

REPLY_TO_HLS = attribute_key(15, ASSOCIATION_LN, 1)
_CHANGE_SECRET = attribute_key(15, ASSOCIATION_LN, 2)
_SECURITY_SETUP = 64

_BLOCK_OVERHEAD = 12
"""Octets of a response with a block around its raw data, at most (length in three octets)."""

_REQUESTS = (b"\xc0", b"\xc1", b"\xc3")
_NOT_UNDERSTOOD = pdu.exception_response(StateError.SERVICE_UNKNOWN, ServiceError.SERVICE_NOT_SUPPORTED)


class _RowsGoneError(RemoteError):
    """Rows that were announced were deleted before they went out."""


class Services:
    """The services of one open association. ``respond`` is the way in."""

    __slots__ = (
        "_client",
        "_context",
        "_device",
        "_incoming",
        "_limits",
        "_outgoing",
        "_readable",
        "_room",
        "_values",
        "_view",
        "_waiting",
        "applied",
        "deliver",
        "hls",
    )

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
        self._device = device
        self._values = device.values
        self._view = view
        self._client = client
        self._context = context
        self._limits = limits
        self._room = room
        """Octets that a plain response may have."""
        self.applied = 0
        """Protection of the request that is being answered: bits of security control, and SIGNED."""
        self._outgoing: Outgoing | None = None
        self._incoming: Incoming | None = None
        self._waiting: Pending | None = None
        self.deliver: Callable[[bytes], None] = lambda _: None
        """Takes a plain response that comes late."""
        self.hls: Callable[[bytes], bytes | None] | None = None
        """Checks the client's answer to our challenge and returns ours to its; set until that has happened."""
        half_open = client.mechanism >= Mechanism.HLS
        self._readable = {} if half_open else view.unguarded

    # --- entry

    @property
    def proven(self) -> bool:
        """The client has proven that it knows a secret."""
        return self.hls is None and self._client.mechanism != Mechanism.NONE

    @property
    def waiting(self) -> bool:
        """An action waits for its meter."""
        return self._waiting is not None

    def narrow(self, room: int) -> None:
        """Set how many octets a plain response may have from now on."""
        self._room = room

    def respond(self, apdu: bytes) -> bytes:
        """Return the response to a plain request; empty when none is due (now)."""
        # The way of nearly all requests: GET normal without selective access, a value that fits.
        if len(apdu) == 13 and apdu[:2] == b"\xc0\x01" and not apdu[12]:
            found = self._readable.get(apdu[3:12])
            if found.__class__ is int:
                found = self._values[found]
            if found.__class__ is bytes and len(found) + 4 <= self._room:
                return b"\xc4\x01" + apdu[2:3] + b"\x00" + found
        return self._respond(apdu)

    def _respond(self, apdu: bytes) -> bytes:
        if apdu[:1] not in _REQUESTS:
            return _NOT_UNDERSTOOD
        try:
            request = pdu.decode_request(apdu)
        except (ApduError, AxdrError):
            return pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OTHER_REASON)
        if self._waiting is not None:
            response = self._refuse(request, DataAccessResult.TEMPORARY_FAILURE)
        elif self.hls is not None and not _is_hls_reply(request):
            response = self._refuse(request, DataAccessResult.READ_WRITE_DENIED)
        elif len(request.targets) > self._limits.max_list:
            response = self._refuse(request, DataAccessResult.OTHER_REASON)
        else:
            response = self._serve(request)
        return response if request.confirmed or request.service == Tag.GET_REQUEST else b""

    def _serve(self, request: Request) -> bytes:
        if request.service == Tag.GET_REQUEST:
            try:
                return self._get(request)
            except _RowsGoneError:
                self._outgoing = None
                return self._refuse(request, DataAccessResult.LONG_GET_ABORTED)
        return self._set(request) if request.service == Tag.SET_REQUEST else self._action(request)

    def close(self) -> None:
        """Forget transfers and the action that waits: the association ends."""
        self._outgoing = self._incoming = None
        if self._waiting is not None:
            self._waiting.cancelled = True
            self._waiting = None

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

    # --- GET

    def _get(self, request: Request) -> bytes:
        if request.kind == pdu.GET_NEXT:
            return self._get_next(request)
        self._outgoing = None
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
        if not self._context.conformance & Conformance.BLOCK_TRANSFER_WITH_GET:
            return bytes((Tag.GET_RESPONSE, pdu.NORMAL, invoke, 1, DataAccessResult.OTHER_REASON))
        self._outgoing = outgoing
        return self._send_block(invoke, outgoing)

    def _send_block(self, invoke: int, outgoing: Outgoing) -> bytes:
        block = outgoing.block(self._room - _BLOCK_OVERHEAD)
        if block.last:
            self._outgoing = None
        return pdu.get_block_response(invoke, block)

    def _get_next(self, request: Request) -> bytes:
        outgoing = self._outgoing
        if outgoing is None:
            result = DataAccessResult.NO_LONG_GET_IN_PROGRESS
            return pdu.get_block_error(request.invoke, request.number, result)
        if request.number != outgoing.number:
            self._outgoing = None
            result = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
            return pdu.get_block_error(request.invoke, request.number, result)
        return self._send_block(request.invoke, outgoing)

    def _read(self, target: Target) -> bytes | Iterator[bytes] | DataAccessResult:
        """Return the encoding, whole or in chunks, or why there is none."""
        found = self._view.readable.get(target.key)
        if found is None:
            return self._device.schema.why_not(target.key)
        if not self._protected(target.key, self._view.guards):
            return DataAccessResult.READ_WRITE_DENIED
        if isinstance(found, int):
            found = self._values[found]
            if callable(found):
                found = found()
        elif callable(found):
            found = found(self._context)
        if isinstance(found, DataAccessResult):
            return found
        if target.selector and not self._selectable(target):
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        if isinstance(found, bytes):
            return found
        try:
            chosen = selection.decode(target.selector, target.parameters) if target.selector else None
            return _row_chunks(found.select(chosen))
        except SelectionError as error:
            return error.result
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED

    def _selectable(self, target: Target) -> bool:
        attribute = self._device.schema.attribute(target.key)
        return attribute is not None and target.selector in attribute.selectors

    def _denied(self, targets: tuple[Target, ...], allowed: frozenset[bytes]) -> DataAccessResult | None:
        """Return why a long value is not even taken in: the client has a right to none of its targets."""
        if any(target.key in allowed for target in targets):
            return None
        self._incoming = None
        return self._device.schema.why_not(targets[0].key)

    # --- SET

    def _set(self, request: Request) -> bytes:
        if request.block is None:
            results = [
                self._write(target, value) for target, value in zip(request.targets, request.values, strict=True)
            ]
            return self._set_response(request, results)
        if request.targets:
            denied = self._denied(request.targets, self._view.writable)
            if denied is not None:
                return _set_block_error(request, denied)
            listed = request.kind == pdu.SET_LIST_FIRST_BLOCK
            self._incoming = Incoming(request.targets, listed=listed, limit=self._limits.max_long_value)
        incoming, block = self._incoming, request.block
        if incoming is None:
            return _set_block_error(request, DataAccessResult.NO_LONG_SET_IN_PROGRESS)
        if block.number != incoming.number + 1:
            self._incoming = None
            return _set_block_error(request, DataAccessResult.DATA_BLOCK_NUMBER_INVALID)
        if not incoming.add(block):
            self._incoming = None
            return _set_block_error(request, DataAccessResult.LONG_SET_ABORTED)
        number = block.number.to_bytes(4, "big")
        if not block.last:
            return bytes((Tag.SET_RESPONSE, 2, request.invoke)) + number
        self._incoming = None
        values = _received_values(incoming)
        if values is None:
            results = [DataAccessResult.TYPE_UNMATCHED] * len(incoming.targets)
        else:
            results = [self._write(t, v) for t, v in zip(incoming.targets, values, strict=True)]
        if incoming.listed:
            head = bytes((Tag.SET_RESPONSE, 4, request.invoke)) + axdr.encode_length(len(results))
            return head + bytes(results) + number
        return bytes((Tag.SET_RESPONSE, 3, request.invoke, results[0])) + number

    def _set_response(self, request: Request, results: list[DataAccessResult]) -> bytes:
        if request.kind == pdu.NORMAL:
            return bytes((Tag.SET_RESPONSE, 1, request.invoke, results[0]))
        head = bytes((Tag.SET_RESPONSE, 5, request.invoke)) + axdr.encode_length(len(results))
        return head + bytes(results)

    def _write(self, target: Target, value: bytes | None) -> DataAccessResult:
        if target.key not in self._view.writable:
            return self._device.schema.why_not(target.key)
        if not self._protected(target.key, self._view.guards):
            return DataAccessResult.READ_WRITE_DENIED
        if target.selector:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        name, index = target.logical_name, target.index
        return self._device.on_set(target.class_id, name, index, value or axdr.NULL, self._client)

    # --- ACTION

    def _action(self, request: Request) -> bytes:
        if request.kind == pdu.ACTION_NEXT:
            return self._action_error(request, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
        if request.block is None:
            listed = request.kind == pdu.WITH_LIST
            return self._act_all(request.invoke, request.targets, request.values, listed=listed)
        if request.targets:
            denied = self._denied(request.targets, self._view.executable)
            if denied is not None:
                return self._action_error(request, ActionResult(denied))
            listed = request.kind == pdu.ACTION_LIST_FIRST_BLOCK
            self._incoming = Incoming(request.targets, listed=listed, limit=self._limits.max_long_value)
        incoming, block = self._incoming, request.block
        if incoming is None:
            return self._action_error(request, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
        if block.number != incoming.number + 1 or not incoming.add(block):
            self._incoming = None
            return self._action_error(request, ActionResult.LONG_ACTION_ABORTED)
        if not block.last:
            return bytes((Tag.ACTION_RESPONSE, 4, request.invoke)) + block.number.to_bytes(4, "big")
        self._incoming = None
        values = _received_values(incoming)
        if values is None:
            replies = [ActionReply(ActionResult.TYPE_UNMATCHED)] * len(incoming.targets)
            return self._action_response(request.invoke, replies, listed=incoming.listed)
        return self._act_all(request.invoke, incoming.targets, values, listed=incoming.listed)

    def _action_error(self, request: Request, result: ActionResult) -> bytes:
        return self._action_response(request.invoke, [ActionReply(result)], listed=False)

    def _act_all(
        self,
        invoke: int,
        targets: tuple[Target, ...],
        values: tuple[bytes | None, ...],
        *,
        listed: bool,
    ) -> bytes:
        """Call the methods one after the other; empty if one of them waits for its meter."""
        todo = zip(targets, values, strict=True)
        replies: list[ActionReply] = []

        def go_on() -> bytes:
            for target, value in todo:
                reply = self._act(target, value)
                if isinstance(reply, Pending):
                    self._wait(reply, resume)
                    return b""
                replies.append(reply)
            return self._action_response(invoke, replies, listed=listed)

        def resume(reply: ActionReply) -> None:
            self._waiting = None
            self._readable = self._view.unguarded
            replies.append(reply)
            response = go_on()
            if response and invoke & 0x40:
                self.deliver(response)

        return go_on()

    def _wait(self, pending: Pending, resume: Callable[[ActionReply], None]) -> None:
        self._waiting = pending
        self._readable = {}
        pending.then(resume)

    def _act(self, target: Target, value: bytes | None) -> ActionReply | Pending:
        if target.key == REPLY_TO_HLS:
            return self._reply_to_hls(value)
        if target.key not in self._view.executable:
            return ActionReply(ActionResult(self._device.schema.why_not(target.key)))
        if not self._protected(target.key, self._view.method_guards):
            return ActionReply(ActionResult.READ_WRITE_DENIED)
        own = self._security(target, value)
        if own is not None:
            return own
        name, index = target.logical_name, target.index
        reply = self._device.on_action(target.class_id, name, index, value, self._client)
        if isinstance(reply, ActionResult):
            return ActionReply(reply)
        if isinstance(reply, Pending) and reply.reply is not None:
            return reply.reply
        return reply

    def _protected(self, key: bytes, guards: dict[bytes, int]) -> bool:
        """Tell whether the request has the protection that an attribute or method asks for."""
        guard = guards.get(key, 0)
        return self.applied & guard == guard

    def _security(self, target: Target, value: bytes | None) -> ActionReply | None:
        """Return the reply of a method of the association's own or of a security setup; ``None`` for others."""
        setups, client = self._context.security, self._client.sap
        if setups is None:
            return None
        if target.class_id == _SECURITY_SETUP:
            # 0-0:43.0.0 is the current association's, 0-0:43.0.n that of client n.
            return setups.act(target.logical_name[4] or client, target.index, value)
        if target.key == _CHANGE_SECRET:
            return setups.change_secret(client, value)
        return None

    def _reply_to_hls(self, value: bytes | None) -> ActionReply:
        if self.hls is None:
            return ActionReply(ActionResult.READ_WRITE_DENIED)
        try:
            answer = axdr.decode(value or axdr.NULL)
        except AxdrError:
            answer = None
        ours = self.hls(answer if isinstance(answer, bytes) else b"")
        if ours is None:
            return ActionReply(ActionResult.READ_WRITE_DENIED)
        self.hls = None
        self._readable = self._view.unguarded
        return ActionReply(ActionResult.SUCCESS, axdr.octet_string(ours))

    def _action_response(self, invoke: int, replies: list[ActionReply], *, listed: bool) -> bytes:
        items = b"".join(pdu.action_item(reply.result, reply.returned) for reply in replies)
        if listed:
            head = bytes((Tag.ACTION_RESPONSE, pdu.WITH_LIST, invoke)) + axdr.encode_length(len(replies))
        else:
            head = bytes((Tag.ACTION_RESPONSE, pdu.NORMAL, invoke))
        if len(head) + len(items) > self._room:
            # Return parameters in blocks are not negotiated.
            items = b"".join(pdu.action_item(reply.result, None) for reply in replies)
        return head + items


def _is_hls_reply(request: Request) -> bool:
    normal = request.service == Tag.ACTION_REQUEST and request.kind == pdu.NORMAL
    return normal and request.targets[0].key == REPLY_TO_HLS


def _set_block_error(request: Request, result: DataAccessResult) -> bytes:
    number = request.block.number if request.block else 0
    return bytes((Tag.SET_RESPONSE, 3, request.invoke, result)) + number.to_bytes(4, "big")


def _row_chunks(rows: Rows) -> Iterator[bytes]:
    """Yield the array; its length is announced first, so the rows must be as many. Raises _RowsGoneError."""
    yield axdr.array_header(rows.total)
    count = 0
    for row in islice(rows.rows, rows.total):
        count += 1
        yield row
    if count < rows.total:
        raise _RowsGoneError(f"{rows.total} rows announced, {count} there")


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


def _received_values(incoming: Incoming) -> tuple[bytes, ...] | None:
    """Cut the values of a long request apart; ``None`` if they are malformed or too few or many."""
    raw = incoming.raw
    try:
        count, at = axdr.decode_length(raw, 0) if incoming.listed else (1, 0)
        if count != len(incoming.targets):
            return None
        values: list[bytes] = []
        for _ in range(count):
            value, at = axdr.take_value(raw, at)
            values.append(value)
    except AxdrError:
        return None
    return tuple(values) if at == len(raw) else None
