"""What an association may do with the objects of its logical device: the part that both referencings share.

One request may be waiting for its meter (:class:`flexmap.dlms.objects.Pending`). Until it is answered, every other
request of that association is refused with temporary-failure: replies never overtake each other and nothing
queues up. A client that sends one request at a time never sees this. With priority management one request of each
priority may be waiting: those of high priority are answered meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from flexmap.dlms import apdu as pdu
from flexmap.dlms import axdr, selection
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult, Conformance, DataAccessResult, ServiceError, StateError
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.blocks import Outgoing
from flexmap.dlms.notification import Change
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
from flexmap.dlms.requests import Target
from flexmap.model.error import RemoteError

T = TypeVar("T")
Job = Generator[Pending, ActionReply, T]
"""Work that may have to wait for meters: yields what it waits for, is sent the reply, returns its result."""
Found = bytes | Iterator[bytes] | DataAccessResult
"""An encoding, whole or in chunks, or why there is none."""

REPLY_TO_HLS = attribute_key(15, ASSOCIATION_LN, 1)
_CHANGE_SECRET = attribute_key(15, ASSOCIATION_LN, 2)
_SECURITY_SETUP = 64

NOT_UNDERSTOOD = pdu.exception_response(StateError.SERVICE_UNKNOWN, ServiceError.SERVICE_NOT_SUPPORTED)
NOT_NEGOTIATED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.SERVICE_NOT_SUPPORTED)
MALFORMED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OTHER_REASON)
TOO_LONG = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.PDU_TOO_LONG)


NEITHER: tuple[None, None] = (None, None)
"""What stands for nothing of normal and of high priority: one for all associations."""


def one_of_two(pair: tuple[T | None, T | None], urgent: bool, item: T | None) -> tuple[T | None, T | None]:
    """Return a pair, of normal and of high priority, with another item in one of its places."""
    changed = (pair[0], item) if urgent else (item, pair[1])
    return NEITHER if changed == NEITHER else changed


def _nobody(*_: object) -> None:
    """Take what nobody waits for."""


class RowsGoneError(RemoteError):
    """Rows that were announced were deleted before they went out."""


class ObjectAccess:
    """Objects of one open association, as its client may use them. ``respond`` is the way in."""

    __slots__ = (
        "_client",
        "_context",
        "_device",
        "_limits",
        "_readable",
        "_room",
        "_values",
        "_view",
        "_waiting",
        "applied",
        "began",
        "beyond",
        "deliver",
        "denied",
        "general",
        "hls",
        "long",
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
        self.beyond: Callable[[bytes], bytes] = self.answer
        """Answers what needs a further look."""
        self.general = False
        """The request that is being answered came in general blocks, and so goes its response."""
        self.long: Outgoing | None = None
        """A response that is to go out in general blocks; ``respond`` returns nothing then."""
        self._waiting: tuple[Pending | None, Pending | None] = NEITHER
        """What waits for a meter: of normal priority, and of high priority."""
        self.began: bool | None = None
        """The request that is being answered has begun to wait; whether it has high priority."""
        self.deliver: Callable[[bool, bytes], None] = _nobody
        """Takes the priority of a request and its plain response, which comes late; empty where it is ``long``."""
        self.denied: Callable[[str], None] = _nobody
        """Told of each SET and ACTION that the client has no right to, and what comes before authentication."""
        self.hls: Callable[[bytes], bytes | None] | None = None
        """Checks the client's answer to our challenge and returns ours to its; set until that has happened."""
        half_open = client.mechanism >= Mechanism.HLS
        self._readable = {} if half_open else self._fast()

    @property
    def proven(self) -> bool:
        """The client has proven that it knows a secret."""
        return self.hls is None and self._client.mechanism != Mechanism.NONE

    @property
    def waiting(self) -> bool:
        """A request waits for its meter."""
        return self._waiting is not NEITHER

    def _urgent(self, *, asked: bool) -> bool:
        """Tell whether a request has high priority; without priority management all are alike."""
        return asked and self._able(Conformance.PRIORITY_MANAGEMENT)

    def _blocked(self, *, urgent: bool) -> bool:
        """Tell whether a request must be refused until another is answered."""
        return self._waiting[urgent] is not None or (not urgent and self.waiting)

    @property
    def longest(self) -> int:
        """Octets of a request, or of a protected response, that may be put together of blocks."""
        return self._limits.max_long_value

    def narrow(self, room: int) -> None:
        """Set how many octets a plain response may have from now on."""
        self._room = room

    def respond(self, apdu: bytes) -> bytes:
        """Return the response to a plain request; empty when none is due (now)."""
        return self.beyond(apdu)

    def answer(self, apdu: bytes) -> bytes:
        """Return the response to any plain request; ``long`` where it is too long for one APDU."""
        raise NotImplementedError

    def notification(self, change: Change, protection: int) -> bytes:
        """Return what tells of a change, under that protection; empty if the client may not read the attribute."""
        guard = self._view.guards.get(change.key, 0)
        if change.key not in self._view.readable or protection & guard != guard:
            return b""
        return self._notify(change)

    def _notify(self, change: Change) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        """Forget what is under way: the association ends."""
        self.long = None
        for pending in self._waiting:
            if pending is not None:
                pending.cancelled = True
        self._waiting = NEITHER

    def _fast(self) -> dict[bytes, object]:
        """Return what can be read without a further look."""
        return self._view.unguarded

    def _able(self, needed: int) -> bool:
        """Tell whether all these bits of conformance were negotiated."""
        return self._context.conformance & needed == needed

    # --- work that may have to wait

    def _begin(self) -> None:
        """Forget what the last request has left."""
        self.long = self.began = None

    def _run(self, job: Job[bytes], *, confirmed: bool, urgent: bool = False) -> bytes:
        """Return the response of a job; empty while it waits."""
        try:
            pending = next(job)
        except StopIteration as end:
            return self._done(end.value, confirmed=confirmed)
        self._wait(pending, job, confirmed=confirmed, urgent=urgent)
        self.began = urgent
        return b""

    def _done(self, response: bytes, *, confirmed: bool) -> bytes:
        if confirmed:
            return response
        self.long = None
        return b""

    def _wait(self, pending: Pending, job: Job[bytes], *, confirmed: bool, urgent: bool) -> None:
        self._waiting = one_of_two(self._waiting, urgent, pending)
        self._readable = {}

        def resume(reply: ActionReply) -> None:
            self._waiting = one_of_two(self._waiting, urgent, None)
            if not self.waiting:
                self._readable = self._fast()
            try:
                following = job.send(reply)
            except StopIteration as end:
                response = self._done(end.value, confirmed=confirmed)
                if response or self.long is not None:
                    self.deliver(urgent, response)
                return
            self._wait(following, job, confirmed=confirmed, urgent=urgent)

        pending.then(resume)

    def _write_all(self, targets: Sequence[Target], values: Sequence[bytes | None]) -> Job[list[DataAccessResult]]:
        results: list[DataAccessResult] = []
        for target, value in zip(targets, values, strict=True):
            results.append((yield from self._write_one(target, value)))
        return results

    def _write_one(self, target: Target, value: bytes | None) -> Job[DataAccessResult]:
        if not target.index:
            return (yield from self._write_whole(target, value or axdr.NULL))
        result = self._write(target, value)
        if isinstance(result, Pending):
            result = DataAccessResult((yield result).result)
        return result

    def _act_all(self, targets: Sequence[Target], values: Sequence[bytes | None]) -> Job[list[ActionReply]]:
        replies: list[ActionReply] = []
        for target, value in zip(targets, values, strict=True):
            reply = self._act(target, value)
            if isinstance(reply, Pending):
                reply = yield reply
            replies.append(reply)
        return replies

    # --- attributes and methods

    def _read(self, target: Target) -> Found:
        found = self._view.readable.get(target.key)
        if found is None:
            return self._device.schema.why_not(target.key) if target.index else self._read_whole(target)
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
        try:
            if isinstance(found, bytes):
                selector = target.selector
                return selection.choose_objects(found, selector, target.parameters) if selector else found
            chosen = selection.decode(target.selector, target.parameters) if target.selector else None
            return _row_chunks(found.select(chosen))
        except SelectionError as error:
            return error.result
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED

    def _read_whole(self, target: Target) -> Found:
        """Return all attributes of an object, in their order: null-data for each that cannot be read."""
        keys = self._keys(target)
        if not keys or not self._able(Conformance.ATTRIBUTE_0_WITH_GET):
            return self._device.schema.why_not(target.key)
        if target.selector:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        if not any(key in self._view.readable for key in keys):
            return DataAccessResult.READ_WRITE_DENIED
        return _structure_chunks([self._read(Target(key)) for key in keys])

    def _write_whole(self, target: Target, value: bytes) -> Job[DataAccessResult]:
        """Write the attributes for which a structure of them all does not have null-data.

        Nothing is written if one of them may not be; the first that fails is the last that is tried.
        """
        keys = self._keys(target)
        if not keys or not self._able(Conformance.ATTRIBUTE_0_WITH_SET):
            return self._refused("SET", target)
        if target.selector:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        try:
            elements = axdr.elements_of(value)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if len(elements) != len(keys):
            return DataAccessResult.TYPE_UNMATCHED
        name = axdr.octet_string(target.logical_name)
        chosen = [
            (Target(key), element)
            for key, element in zip(keys, elements, strict=True)
            if element not in (axdr.NULL, name if key is keys[0] else axdr.NULL)
        ]
        for each, _ in chosen:
            if each.key not in self._view.writable or not self._protected(each.key, self._view.guards):
                return self._refused("SET", each, DataAccessResult.READ_WRITE_DENIED)
        for each, element in chosen:
            result = yield from self._write_one(each, element)
            if result:
                return result
        return DataAccessResult.SUCCESS

    def _keys(self, target: Target) -> list[bytes]:
        """Return the keys of all attributes of a target's object; empty if there is no such object."""
        count = self._device.schema.attribute_count(target.key)
        return [target.key[:8] + bytes((index,)) for index in range(1, count + 1)]

    def _selectable(self, target: Target) -> bool:
        attribute = self._device.schema.attribute(target.key)
        return attribute is not None and target.selector in attribute.selectors

    def _write(self, target: Target, value: bytes | None) -> DataAccessResult | Pending:
        if target.key not in self._view.writable:
            return self._refused("SET", target)
        if not self._protected(target.key, self._view.guards):
            return self._refused("SET", target, DataAccessResult.READ_WRITE_DENIED)
        if target.selector:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        name, index = target.logical_name, target.index
        result = self._device.on_set(target.class_id, name, index, value or axdr.NULL, self._client)
        if isinstance(result, Pending) and result.reply is not None:
            return DataAccessResult(result.reply.result)
        return result

    def _act(self, target: Target, value: bytes | None) -> ActionReply | Pending:
        if target.key == REPLY_TO_HLS:
            return self._reply_to_hls(value)
        if target.key not in self._view.executable:
            return ActionReply(ActionResult(self._refused("ACTION", target)))
        if not self._protected(target.key, self._view.method_guards):
            refused = self._refused("ACTION", target, DataAccessResult.READ_WRITE_DENIED)
            return ActionReply(ActionResult(refused))
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

    def _refused(self, what: str, target: Target, why: DataAccessResult | None = None) -> DataAccessResult:
        """Return why a SET or ACTION cannot be, and tell of it."""
        name = f"{'.'.join(map(str, target.logical_name))} {target.index}"
        self.denied(f"{what} of {target.class_id} {name}")
        return self._device.schema.why_not(target.key) if why is None else why

    def _too_early(self) -> DataAccessResult:
        """Refuse a request that comes before the answer to our challenge, and tell of it."""
        self.denied("a request before authentication")
        return DataAccessResult.READ_WRITE_DENIED

    def _denied(self, targets: Sequence[Target], allowed: frozenset[bytes]) -> DataAccessResult | None:
        """Return why a long value is not even taken in: the client has a right to none of its targets."""
        for target in targets:
            keys = [target.key] if target.index else self._keys(target)
            if any(key in allowed for key in keys):
                return None
        whole = DataAccessResult.READ_WRITE_DENIED if self._keys(targets[0]) and not targets[0].index else None
        return self._refused("long SET or ACTION", targets[0], whole)

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
        self._readable = self._fast()
        return ActionReply(ActionResult.SUCCESS, axdr.octet_string(ours))


def _structure_chunks(found: Sequence[Found]) -> Iterator[bytes]:
    """Yield a structure, with null-data for what there is not."""
    yield bytes((axdr.Tag.STRUCTURE,)) + axdr.encode_length(len(found))
    for each in found:
        if isinstance(each, DataAccessResult):
            yield axdr.NULL
        elif isinstance(each, bytes):
            yield each
        else:
            yield from each


def _row_chunks(rows: Rows) -> Iterator[bytes]:
    """Yield the array; its length is announced first, so the rows must be as many. Raises RowsGoneError."""
    yield axdr.array_header(rows.total)
    count = 0
    for row in islice(rows.rows, rows.total):
        count += 1
        yield row
    if count < rows.total:
        raise RowsGoneError(f"{rows.total} rows announced, {count} there")
