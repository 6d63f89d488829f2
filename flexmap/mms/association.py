"""One client's association: its PDUs in, their answers out; what it negotiated, what belongs to it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flexmap.mms import access, ber, lists, pdu, services
from flexmap.mms.access import ReadPlan
from flexmap.mms.ber import BerError
from flexmap.mms.pdu import ErrorClass, Initiate, Name, RejectError, RejectReason, Service, ServiceError
from flexmap.mms.variables import Pending, VariableList, Variables

if TYPE_CHECKING:
    from flexmap.mms.server import Server

Handler = Callable[["Association", bytes, int, int], bytes]
"""Carries out a confirmed service: the request's contents in, the response's element out.

Raises BerError, ServiceError, RejectError.
"""

HANDLERS: dict[int, Handler] = {
    Service.STATUS: services.status,
    Service.GET_NAME_LIST: services.get_name_list,
    Service.IDENTIFY: services.identify,
    Service.GET_VARIABLE_ACCESS_ATTRIBUTES: services.get_variable_access_attributes,
    Service.DEFINE_NAMED_VARIABLE_LIST: lists.define,
    Service.GET_NAMED_VARIABLE_LIST_ATTRIBUTES: lists.get_attributes,
    Service.DELETE_NAMED_VARIABLE_LIST: lists.delete,
}
"""Services that every server has; a server adds its own (:attr:`flexmap.mms.server.Server.handlers`)."""


class Answer:
    """What a PDU led to: a PDU to send or nothing, and what a repetition of the request can be answered from."""

    __slots__ = ("invoke", "pdu", "plan")

    def __init__(self, pdu: bytes, plan: ReadPlan | None = None, invoke: tuple[int, int] = (0, 0)) -> None:
        self.pdu = pdu
        self.plan = plan
        self.invoke = invoke
        """Begin and end of the invoke identifier in the request."""


_NOTHING = Answer(b"")


class Association:
    """The state of one association, from initiate to its end."""

    def __init__(
        self, server: Server, negotiated: Initiate, send: Callable[[bytes], None], *, peer: str, user: str | None
    ) -> None:
        """Make an association; ``send`` takes PDUs that come by themselves."""
        self.server = server
        self.variables: Variables = server.variables
        self.negotiated = negotiated
        self.peer = peer
        """Who the client is, for the log and as owner of what it reserves: ``192.0.2.7:40112``."""
        self.user = user
        """Whom its password belongs to; None if none was asked for."""
        self.lists: dict[str, VariableList] = {}
        """Data sets of this association."""
        self.open = True
        self.concluded = False
        """The client has concluded: its connection ends."""
        self._send = send
        self._closing: list[Callable[[Association], None]] = []
        self.outstanding: dict[bytes, list[Pending]] = {}
        """What requests wait for, by their invoke identifiers."""
        self._current = b""

    @property
    def address(self) -> str:
        """The client's address without its port."""
        return self.peer.rpartition(":")[0]

    def send(self, pdu: bytes) -> None:
        """Send a PDU that is no answer: a report, a command termination."""
        if self.open:
            self._send(pdu)

    def on_close(self, call: Callable[[Association], None]) -> None:
        """Name who is told when the association ends: what a client reserved is released then."""
        if call not in self._closing:
            self._closing.append(call)

    def close(self) -> None:
        """End the association."""
        if not self.open:
            return
        self.open = False
        for pendings in self.outstanding.values():
            for pending in pendings:
                pending.cancelled = True
        self.outstanding.clear()
        for call in self._closing:
            call(self)

    def table(self, domain: str | None) -> dict[str, VariableList] | None:
        """Return the data sets of a domain, of the VMD (None) or of the association (``@``)."""
        if domain is None:
            return self.variables.lists
        if domain == pdu.ASSOCIATION:
            return self.lists
        device = self.variables.devices.get(domain)
        return None if device is None else device.lists

    def list_of(self, name: Name) -> VariableList | None:
        """Return a data set."""
        table = self.table(name[0])
        return None if table is None else table.get(name[1])

    def wait_for(self, pendings: Iterable[Pending]) -> None:
        """Remember what the current request waits for: it may be cancelled."""
        self.outstanding[self._current] = list(pendings)

    def receive(self, request: bytes) -> Answer:
        """Carry out a PDU and return what to send; raises BerError if it is no PDU at all."""
        invoke: bytes | None = None
        try:
            tag, begin, end = ber.element(request, 0, len(request))
            if tag == pdu.CONFIRMED_REQUEST:
                first, last = ber.expect(request, begin, end, 0x02)
                invoke = request[first:last]
                ber.unsigned(invoke)
                return self._confirmed(request, last, end, (first, last))
            return self._other(request, tag, begin, end)
        except BerError as error:
            reason = RejectReason.INVALID_PDU if invoke is None else RejectReason.INVALID_ARGUMENT
            self.server.report(self, f"rejected: {error}")
            return Answer(pdu.reject(reason, invoke))
        except RejectError as error:
            self.server.report(self, f"rejected: {error}")
            return Answer(pdu.reject(error.reason, invoke))

    def _confirmed(self, request: bytes, at: int, end: int, invoke: tuple[int, int]) -> Answer:
        number = request[invoke[0] : invoke[1]]
        self._current = number
        tag, begin, stop = ber.element(request, at, end)
        if number in self.outstanding or len(self.outstanding) >= self.negotiated.calling:
            raise RejectError(RejectReason.TOO_MANY_OUTSTANDING)
        plan: ReadPlan | None = None
        try:
            if tag == Service.READ:
                plan = access.read(self, request, begin, stop)
                results = plan.results()
                element: bytes | None = ber.tlv(tag, plan.echo, ber.tlv(0xA1, results))
            elif tag == Service.WRITE:
                element = access.write(self, request, begin, stop, lambda response: self._late(number, response))
            else:
                element = self._handler(tag)(self, request, begin, stop)
            if element is None:
                return _NOTHING
        except ServiceError as error:
            return Answer(pdu.confirmed_error(number, error))
        response = pdu.confirmed_response(number, element)
        if len(response) > self.negotiated.max_pdu:
            too_large = ServiceError(ErrorClass.SERVICE, 0)
            return Answer(pdu.confirmed_error(number, too_large))
        return Answer(response, plan if plan is not None and plan.lasting else None, invoke)

    def _handler(self, tag: int) -> Handler:
        handler = self.server.handlers.get(tag)
        if handler is None:
            raise RejectError(RejectReason.UNRECOGNIZED_SERVICE, f"service {tag:#04x}")
        return handler

    def _late(self, number: bytes, element: bytes) -> None:
        if self.outstanding.pop(number, None) is not None:
            self.send(pdu.confirmed_response(number, element))

    def _other(self, request: bytes, tag: int, begin: int, end: int) -> Answer:
        if tag == pdu.CONCLUDE_REQUEST:
            self.concluded = True
            return Answer(ber.tlv(pdu.CONCLUDE_RESPONSE))
        if tag == pdu.CANCEL_REQUEST:
            return Answer(self._cancel(request[begin:end]))
        if tag in {pdu.REJECT, pdu.UNCONFIRMED}:
            return _NOTHING
        raise RejectError(RejectReason.UNKNOWN_PDU, f"PDU {tag:#04x}")

    def _cancel(self, number: bytes) -> bytes:
        """Cancel an outstanding request: a command that runs cannot be stopped by this, its answer can."""
        ber.unsigned(number)
        unknown, not_possible = 1, 2
        error = ServiceError(ErrorClass.CANCEL, not_possible if number in self.outstanding else unknown)
        return ber.tlv(pdu.CANCEL_ERROR, ber.tlv(0x80, number), ber.tlv(0xA1, pdu.service_error(error)))
