"""The client's side of an MMS association, sans-io: requests out, responses and what comes unasked in.

::

    client = Client(Settings())            # send client.take() now, and after each call
    client.receive(octets)                 # responses by number in client.responses, reports in client.reports
    number = client.ask(read([("LD", "LN$MX")]))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from flexmap.mms import acse, ber, pdu, presentation, session
from flexmap.mms.ber import BerError
from flexmap.mms.cotp import CallingTransport, State
from flexmap.mms.pdu import ErrorClass, Initiate, Name, Service, ServiceError
from flexmap.mms.session import Kind, SessionError
from flexmap.model.error import RemoteError

_ACSE_CONTEXT, _MMS_CONTEXT = 1, 3
_OVERHEAD = 1 << 10
_OUTSTANDING, _NESTING = 5, 10
_MOST_REPORTS = 100_000
"""Reports kept for a caller who does not fetch them; the oldest go."""
_SERVICES = pdu.supported({*(service.bit for service in Service), pdu.INFORMATION_REPORT_BIT, pdu.CONCLUDE_BIT})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to associate. Selectors as SCL has them in OSI-TSEL, -SSEL and -PSEL."""

    transport: bytes = b"\x00\x01"
    session: bytes = b"\x00\x01"
    presentation: bytes = b"\x00\x00\x00\x01"
    password: bytes | None = None
    """Authenticates by the password mechanism of ACSE."""
    max_pdu: int = 65_000

    def __repr__(self) -> str:
        """Never show a secret."""
        return "Settings()"


class Report(msgspec.Struct, frozen=True):
    """An information report: the variables, or the one named variable list, and their access results, encoded."""

    names: tuple[Name, ...]
    listed: bool
    """The name is that of a list: a report as IEC 61850-8-1 clause 17 has it."""
    results: tuple[bytes, ...]


class Client:
    """One association as its client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport = CallingTransport(
            settings.max_pdu + _OVERHEAD, calling=b"\x00\x00", called=settings.transport
        )
        self._out: list[bytes] = []
        self._invoke = 0
        self._asked: set[int] = set()
        self._sent = False
        self.negotiated: Initiate | None = None
        """Set once the association stands."""
        self.ended = False
        self.responses: dict[int, bytes | ServiceError] = {}
        """By number of the request: the service's element, or why there is none."""
        self.reports: deque[Report] = deque(maxlen=_MOST_REPORTS)

    def take(self) -> bytes:
        """Return what is to be sent."""
        out, self._transport.out = self._transport.out, b""
        parts, self._out = self._out, []
        return out + b"".join(parts)

    def receive(self, octets: bytes) -> None:
        """Take octets of the server; raises RemoteError where they end the association."""
        units = self._transport.receive(octets)
        if self._transport.state is State.OPEN and not self._sent:
            self._sent = True
            self._send_unit(self._connect())
        for unit in units:
            self._unit(session.decode(unit))

    def ask(self, service: bytes) -> int:
        """Put a confirmed request in what is to be sent; return its number."""
        self._invoke += 1
        self._asked.add(self._invoke)
        number = ber.tlv(0x02, ber.integer_octets(self._invoke))
        self._send(ber.tlv(pdu.CONFIRMED_REQUEST, number, service))
        return self._invoke

    def conclude(self) -> None:
        """Ask for the end of the association."""
        self._send(bytes((pdu.CONCLUDE_REQUEST, 0)))

    # --- layers

    def _connect(self) -> bytes:
        settings = self._settings
        proposed = Initiate(settings.max_pdu, _OUTSTANDING, _OUTSTANDING, _NESTING)
        request = acse.request(_MMS_CONTEXT, pdu.initiate_request(proposed, _SERVICES), settings.password)
        data = presentation.connect(
            request,
            acse_context=_ACSE_CONTEXT,
            mms_context=_MMS_CONTEXT,
            calling=b"\x00\x00\x00\x00",
            called=settings.presentation,
        )
        return session.connect(data, b"\x00\x00", settings.session)

    def _send_unit(self, unit: bytes) -> None:
        self._out.append(self._transport.frame(unit))

    def _send(self, octets: bytes) -> None:
        self._send_unit(session.DATA + presentation.encode_data(_MMS_CONTEXT, octets))

    def _unit(self, spdu: session.Spdu) -> None:
        if spdu.kind is Kind.ACCEPT:
            user = acse.decode_response(presentation.decode_accept(spdu.user_data))
            self.negotiated = pdu.decode_initiate(user, pdu.INITIATE_RESPONSE)
        elif spdu.kind is Kind.DATA:
            context, octets = presentation.decode_data(spdu.user_data)
            if context == _MMS_CONTEXT:
                self._pdu(octets)
        elif spdu.kind in {Kind.REFUSE, Kind.ABORT, Kind.DISCONNECT, Kind.FINISH}:
            self.ended = True
            if spdu.kind is Kind.REFUSE and spdu.user_data:
                acse.decode_response(presentation.decode_accept(spdu.user_data))
            if spdu.kind in {Kind.REFUSE, Kind.ABORT}:
                raise SessionError("the server refuses or aborts the association")

    def _pdu(self, octets: bytes) -> None:
        tag, begin, end = ber.element(octets, 0, len(octets))
        if tag == pdu.CONFIRMED_RESPONSE:
            first, after = ber.expect(octets, begin, end, 0x02)
            self._answered(octets[first:after], octets[after:end])
        elif tag == pdu.CONFIRMED_ERROR:
            self._failed(octets, begin, end)
        elif tag == pdu.REJECT:
            invoke, why = b"", ""
            for inner, first, last in ber.elements(octets, begin, end):
                if inner == 0x80:
                    invoke = octets[first:last]
                else:
                    why = f"reject {inner & 0x1F} {octets[first:last].hex()}"
            if not invoke:
                raise RemoteError(f"the server rejects what it got: {why}")
            self._answered(invoke, ServiceError(ErrorClass.OTHERS, 0, f"the server rejects the request: {why}"))
        elif tag == pdu.UNCONFIRMED:
            first, last = ber.expect(octets, begin, end, 0xA0)
            self.reports.append(_report(octets, first, last))
        elif tag == pdu.CONCLUDE_RESPONSE:
            self.ended = True

    def _failed(self, octets: bytes, begin: int, end: int) -> None:
        invoke, error = b"", ServiceError(ErrorClass.OTHERS, 0)
        for inner, first, last in ber.elements(octets, begin, end):
            if inner == 0x80:
                invoke = octets[first:last]
            elif inner == 0xA2:
                start, stop = ber.expect(octets, first, last, 0xA0)
                kind, one, two = ber.element(octets, start, stop)
                error = service_error(kind & 0x1F, ber.integer(octets[one:two]))
        self._answered(invoke, error)

    def _answered(self, invoke: bytes, answer: bytes | ServiceError) -> None:
        number = ber.unsigned(invoke)
        if number not in self._asked:
            raise BerError(f"an answer to a request {number} that was not made")
        self._asked.discard(number)
        self.responses[number] = answer


_ERRORS = {
    (ErrorClass.ACCESS, 1): "object-access-unsupported",
    (ErrorClass.ACCESS, 2): "object-non-existent",
    (ErrorClass.ACCESS, 3): "object-access-denied",
    (ErrorClass.ACCESS, 4): "object-invalidated",
    (ErrorClass.DEFINITION, 1): "object-undefined",
    (ErrorClass.DEFINITION, 5): "object-exists",
    (ErrorClass.RESOURCE, 4): "capability-unavailable",
    (ErrorClass.SERVICE, 1): "primitives-out-of-sequence",
    (ErrorClass.FILE, 6): "file-access-denied",
    (ErrorClass.FILE, 7): "file-non-existent",
}


def service_error(error_class: int, code: int) -> ServiceError:
    """Return an error with the standard's name for it, where it is a common one."""
    try:
        kind = ErrorClass(error_class)
    except ValueError:
        return ServiceError(ErrorClass.OTHERS, code, f"error class {error_class} code {code}")
    return ServiceError(kind, code, _ERRORS.get((kind, code), ""))


def _report(octets: bytes, at: int, end: int) -> Report:
    """Return an information report; raises BerError."""
    kind, begin, stop = ber.element(octets, at, end)
    listed = kind == 0xA1
    names: list[Name] = []
    if listed:
        names.append(pdu.object_name(octets, begin, stop))
    else:
        for tag, first, last in ber.elements(octets, begin, stop):
            if tag == 0x30:
                start, after = ber.expect(octets, first, last, 0xA0)
                names.append(pdu.object_name(octets, start, after))
    first, last = ber.expect(octets, stop, end, 0xA0)
    return Report(tuple(names), listed, tuple(elements_of(octets, first, last)))


def elements_of(octets: bytes, at: int, end: int) -> list[bytes]:
    """Return each element from ``at`` to ``end``, tag and length included; raises BerError."""
    found = []
    while at < end:
        _, _, after = ber.element(octets, at, end)
        found.append(octets[at:after])
        at = after
    return found


# --- services: what to ask, and what the answer's element says


def name_list(object_class: int, domain: str | None, after: str = "") -> bytes:
    """Return getNameList: 0 variables, 2 variable lists, 8 journals of a domain; 9 domains (domain None)."""
    scope = b"\x80\x00" if domain is None else ber.tlv(0x81, domain.encode())
    more = ber.tlv(0x82, after.encode()) if after else b""
    return ber.tlv(
        Service.GET_NAME_LIST, ber.tlv(0xA0, bytes((0x80, 1, object_class))), ber.tlv(0xA1, scope), more
    )


def names_of(element: bytes) -> tuple[list[str], bool]:
    """Return the names of a getNameList response, and whether more follow; raises BerError."""
    begin, end = ber.expect(element, 0, len(element), Service.GET_NAME_LIST)
    names, more = [], True
    for tag, first, last in ber.elements(element, begin, end):
        if tag == 0xA0:
            names = [ber.text(element[a:b]) for _, a, b in ber.elements(element, first, last)]
        elif tag == 0x81:
            more = element[first:last] != b"\x00"
    return names, more


def access_attributes(name: Name) -> bytes:
    """Return getVariableAccessAttributes."""
    return ber.tlv(Service.GET_VARIABLE_ACCESS_ATTRIBUTES, ber.tlv(0xA0, pdu.encode_name(name)))


def description_of(element: bytes) -> bytes:
    """Return the TypeDescription of a getVariableAccessAttributes response; raises BerError."""
    begin, end = ber.expect(element, 0, len(element), Service.GET_VARIABLE_ACCESS_ATTRIBUTES)
    for tag, first, last in ber.elements(element, begin, end):
        if tag == 0xA2:
            return element[first:last]
    raise BerError("access attributes without a type")


def list_attributes(name: Name) -> bytes:
    """Return getNamedVariableListAttributes."""
    return ber.tlv(Service.GET_NAMED_VARIABLE_LIST_ATTRIBUTES, pdu.encode_name(name))


def members_of(element: bytes) -> list[Name]:
    """Return the members of a named variable list from its attributes; raises BerError."""
    begin, end = ber.expect(element, 0, len(element), Service.GET_NAMED_VARIABLE_LIST_ATTRIBUTES)
    for tag, first, last in ber.elements(element, begin, end):
        if tag == 0xA1:
            places = [ber.expect(element, a, b, 0xA0) for _, a, b in ber.elements(element, first, last)]
            return [pdu.object_name(element, a, b) for a, b in places]
    return []


def read(names: Sequence[Name]) -> bytes:
    """Return a read of variables."""
    return ber.tlv(Service.READ, ber.tlv(0xA1, _variables(names)))


def results_of(element: bytes) -> list[bytes]:
    """Return the access results of a read, each encoded; raises BerError."""
    begin, end = ber.expect(element, 0, len(element), Service.READ)
    for tag, first, last in ber.elements(element, begin, end):
        if tag == 0xA1:
            return elements_of(element, first, last)
    raise BerError("a read response without results")


def write(names: Sequence[Name], values: Sequence[bytes]) -> bytes:
    """Return a write of variables."""
    return ber.tlv(Service.WRITE, _variables(names), ber.tlv(0xA0, *values))


def written(element: bytes) -> list[int | None]:
    """Return the data access error of each variable that was written, None where it was; raises BerError."""
    begin, end = ber.expect(element, 0, len(element), Service.WRITE)
    return [
        ber.integer(element[first:last]) if tag == 0x80 else None
        for tag, first, last in ber.elements(element, begin, end)
    ]


def _variables(names: Sequence[Name]) -> bytes:
    return ber.tlv(0xA0, *(ber.tlv(0x30, ber.tlv(0xA0, pdu.encode_name(name))) for name in names))
