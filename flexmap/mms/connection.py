"""One connection through all layers: TPKT, COTP, session, presentation, ACSE, MMS.

Pollers repeat their requests octet for octet but for the invoke identifier. So a connection keeps, from a frame
without it, the slices of values that answer (:class:`flexmap.mms.access.ReadPlan`): such a request is not parsed,
and its answer is joined from the values and a few headers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexmap.mms import acse, ber, pdu, presentation, session
from flexmap.mms.access import ReadPlan
from flexmap.mms.acse import Diagnostic
from flexmap.mms.ber import BerError
from flexmap.mms.cotp import State, Transport
from flexmap.mms.session import Kind, SessionError

if TYPE_CHECKING:
    from flexmap.mms.association import Answer, Association
    from flexmap.mms.server import Server

_UNIT_OVERHEAD = 64
"""Octets of session and presentation around the largest MMS PDU."""
_MAX_HEADS = 128
"""Kept sets of headers, one for each size of answer."""
_SLICE_COST = 100
"""Octets that a kept slice takes, about."""
_DATA_AT = 7
"""Where the user data of a single data TPDU begin in its frame."""


class Connection:
    """The state of one TCP connection."""

    __slots__ = (
        "_acse_context",
        "_deliver",
        "_epoch",
        "_heads",
        "_kept",
        "_layouts",
        "_mms_context",
        "_peer",
        "_plans",
        "_server",
        "_transport",
        "_units",
        "association",
        "backlog",
        "ended",
    )

    def __init__(self, server: Server, deliver: Callable[[bytes], None], peer: str) -> None:
        self._server = server
        self._deliver = deliver
        self._peer = peer
        wanted = server.selectors.transport
        limit = server.limits.max_pdu + _UNIT_OVERHEAD
        self._transport = Transport(limit, lambda called: wanted is None or called == wanted)
        self._units: deque[bytes] = deque()
        self._acse_context = self._mms_context = 0
        self._layouts: dict[int, tuple[int, int]] = {}
        """Where the invoke identifier stands in a frame that can be answered from a plan, by the frame's size."""
        self._plans: dict[bytes, ReadPlan] = {}
        self._kept = 0
        """Octets of what is kept, about."""
        self._heads: dict[tuple[int, int, int], tuple[bytes, bytes, bytes] | None] = {}
        self._epoch = server.variables.epoch
        self.association: Association | None = None
        self.backlog = False
        """Requests are waiting: call ``receive(b"")`` when the replies are written."""
        self.ended = False
        """Close the connection when the replies are written."""

    @property
    def unfinished(self) -> bool:
        """A frame has begun and not ended."""
        return self._transport.unfinished

    @property
    def trusted(self) -> bool:
        """There is an association."""
        return self.association is not None and self.association.open

    def expire(self) -> None:
        """Nothing ends by itself: the TCP connection has time limits."""

    def close(self) -> None:
        """End the association."""
        self.ended = True
        if self.association is not None:
            self.association.close()

    def receive(self, octets: bytes) -> bytes:
        """Return the replies to all requests that are complete with these octets, joined for one write.

        Raises RemoteError where a layer is out of step; the connection must be closed then.
        """
        layout, association = self._layouts.get(len(octets)), self.association
        idle = not self._units and not self._transport.unfinished
        if layout is not None and idle and association is not None and not association.outstanding:
            begin, end = layout
            plan = self._plans.get(octets[:begin] + octets[end:])
            if plan is not None and self._epoch == self._server.variables.epoch:
                reply = self._repeat(plan, octets[begin:end])
                if reply:
                    return reply
        return self._receive(octets)

    def send(self, request: bytes) -> None:
        """Send an MMS PDU that is no answer."""
        if not self.ended:
            self._deliver(self._frame(request))

    def _frame(self, request: bytes) -> bytes:
        return self._transport.frame(session.DATA + presentation.encode_data(self._mms_context, request))

    def _receive(self, octets: bytes) -> bytes:
        transport = self._transport
        idle = not self._units and not transport.unfinished
        units = transport.receive(octets)
        replies = [transport.out]
        transport.out = b""
        if transport.state is State.CLOSED:
            self.close()
        self._units += units
        # One whole frame with one whole unit: the place of the invoke identifier in it can be told.
        whole = idle and len(units) == 1 and len(octets) == len(units[0]) + _DATA_AT
        size, most = 0, self._server.limits.max_replies
        while self._units and not self.ended and size < most:
            reply = self._unit(self._units.popleft(), octets if whole else b"")
            size += len(reply)
            replies.append(reply)
        if self.ended:
            self._units.clear()
        self.backlog = bool(self._units)
        return b"".join(replies)

    def _unit(self, unit: bytes, frame: bytes) -> bytes:
        """Answer one transport service data unit."""
        spdu = session.decode(unit)
        if self.association is None:
            if spdu.kind is not Kind.CONNECT:
                raise SessionError(f"{spdu.kind.name} before an association")
            return self._transport.frame(self._connect(spdu))
        if spdu.kind is Kind.DATA:
            return self._data(spdu.user_data, frame)
        if spdu.kind is Kind.FINISH:
            released = presentation.encode_data(self._acse_context, acse.release_response())
            self.close()
            return self._transport.frame(session.disconnect(released))
        if spdu.kind in {Kind.ABORT, Kind.DISCONNECT, Kind.ABORT_ACCEPT}:
            self.close()
            return b""
        raise SessionError(f"{spdu.kind.name} within an association")

    def _data(self, data: bytes, frame: bytes) -> bytes:
        association = self.association
        assert association is not None  # noqa: S101 - asked before
        context, value = presentation.decode_data(data)
        if context != self._mms_context:
            raise BerError(f"data in presentation context {context}, MMS has {self._mms_context}")
        answer = association.receive(value)
        if answer.plan is not None and frame.endswith(value):
            self._keep(answer, frame, len(frame) - len(value))
        return self._frame(answer.pdu) if answer.pdu else b""

    def _keep(self, answer: Answer, frame: bytes, at: int) -> None:
        """Keep a plan for the next request of this frame's octets."""
        plan, epoch, most = answer.plan, self._server.variables.epoch, self._server.limits.max_plans
        assert plan is not None  # noqa: S101 - asked before
        cost = len(frame) + len(plan.echo) + _SLICE_COST * (len(plan.slices) + 1)
        if epoch != self._epoch or self._kept + cost > most:
            self._plans.clear()
            self._layouts.clear()
            self._epoch, self._kept = epoch, 0
        if cost > most:
            return
        begin, end = at + answer.invoke[0], at + answer.invoke[1]
        self._layouts[len(frame)] = (begin, end)
        self._plans[frame[:begin] + frame[end:]] = plan
        self._kept += cost

    def _repeat(self, plan: ReadPlan, invoke: bytes) -> bytes:
        """Return the frame that answers a request with a plan; nothing if it does not fit one frame."""
        results, echo = plan.results(), plan.echo
        sizes = (len(results), len(invoke), len(echo))
        try:
            heads = self._heads[sizes]
        except KeyError:
            heads = self._heads_of(*sizes)
        return b"".join((heads[0], invoke, heads[1], echo, heads[2], results)) if heads else b""

    def _heads_of(self, results: int, invoke: int, echo: int) -> tuple[bytes, bytes, bytes] | None:
        """Return what stands in front of invoke identifier, specification and results in one frame."""
        listed = ber.header(0xA1, results)
        read = ber.header(pdu.Service.READ, echo + len(listed) + results)
        number = ber.header(0x02, invoke)
        size = len(number) + invoke + len(read) + echo + len(listed) + results
        response = ber.header(pdu.CONFIRMED_RESPONSE, size)
        size += len(response)
        heads = None
        if size <= self._server.limits.max_pdu and self._fits(size):
            wrapped = self._frame(bytes(size))
            heads = (wrapped[: len(wrapped) - size] + response + number, read, listed)
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[results, invoke, echo] = heads
        return heads

    def _fits(self, size: int) -> bool:
        association, negotiated = self.association, self._transport.negotiated
        if association is None or negotiated is None or size > association.negotiated.max_pdu:
            return False
        return size + _UNIT_OVERHEAD <= negotiated.size

    def _connect(self, spdu: session.Spdu) -> bytes:
        """Answer a CONNECT SPDU with everything that is in it."""
        server = self._server
        selectors = server.selectors
        if selectors.session is not None and spdu.called != selectors.session:
            return self._refuse("unknown session selector")
        connect = None
        try:
            connect = presentation.decode_connect(spdu.user_data)
            if selectors.presentation is not None and connect.called != selectors.presentation:
                return self._refuse("unknown presentation selector", presentation.reject(None))
            request = acse.decode_request(connect.data)
            proposed = pdu.decode_initiate(request.user)
        except BerError as error:
            return self._refuse(f"malformed association request: {error}", presentation.reject(None))
        diagnostic, user = self._admit(request)
        if user is None:
            refusal = presentation.reject(connect, acse.reject(diagnostic))
            return self._refuse(diagnostic.name.lower().replace("_", " "), refusal)
        self._acse_context, self._mms_context = connect.acse, connect.mms
        self.association, initiated = server.associate(proposed, self.send, peer=self._peer, user=user)
        return session.accept(presentation.accept(connect, acse.accept(connect.mms, initiated)), spdu.called)

    def _admit(self, request: acse.Aarq) -> tuple[Diagnostic, str | None]:
        """Return whose association it is, or why there is none."""
        if request.application_context != acse.MMS_CONTEXT:
            return Diagnostic.APPLICATION_CONTEXT_NOT_SUPPORTED, None
        if request.mechanism not in {None, acse.PASSWORD}:
            return Diagnostic.MECHANISM_NOT_RECOGNIZED, None
        password = None if request.mechanism is None else request.value
        user = self._server.authenticate(password)
        refused = Diagnostic.AUTHENTICATION_REQUIRED if password is None else Diagnostic.AUTHENTICATION_FAILURE
        return refused, user

    def _refuse(self, why: str, user_data: bytes = b"") -> bytes:
        self._server.refused(self._peer, why)
        self.close()
        return session.refuse(user_data)
