"""One association on the server's side: opening, ciphering, closing (IEC 62056-5-3 clause 9.3)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from flexmap.dlms import acse, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Aare, Aarq, Context, Diagnostic, Mechanism, Result
from flexmap.dlms.apdu import (
    ApduError,
    Conformance,
    InitiateError,
    InitiateRequest,
    InitiateResponse,
    ServiceError,
    StateError,
    Tag,
)
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import AssociationContext, LogicalDevice
from flexmap.dlms.profile import ClientProfile, EventKind, Limits
from flexmap.dlms.security import AUTHENTICATED, Ciphering, CounterError, SecurityError
from flexmap.dlms.services import Services
from flexmap.model.error import RemoteError

CONFORMANCE = (
    Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_SET
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.ACTION
)
"""What this server does; nothing else is ever negotiated."""

_NOT_ALLOWED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE)
_NOT_DECIPHERED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.DECIPHERING_ERROR)
_PLAIN_REQUEST = {
    int(Tag.GLO_GET_REQUEST): int(Tag.GET_REQUEST),
    int(Tag.GLO_SET_REQUEST): int(Tag.SET_REQUEST),
    int(Tag.GLO_ACTION_REQUEST): int(Tag.ACTION_REQUEST),
}
"""Ciphered request → the plain request it must carry."""
_GLO_RESPONSE = {
    int(plain): bytes((ciphered,))
    for plain, ciphered in (
        (Tag.GET_RESPONSE, Tag.GLO_GET_RESPONSE),
        (Tag.SET_RESPONSE, Tag.GLO_SET_RESPONSE),
        (Tag.ACTION_RESPONSE, Tag.GLO_ACTION_RESPONSE),
    )
}
CHALLENGE_OCTETS = 16


class RefusalError(RemoteError):
    """An association request that is refused; carries what the AARE says."""

    def __init__(
        self,
        reason: str,
        diagnostic: int = Diagnostic.NO_REASON_GIVEN,
        *,
        error: InitiateError = InitiateError.REFUSED_BY_THE_VDE_HANDLER,
        transient: bool = False,
        provider: bool = False,
    ) -> None:
        super().__init__(reason)
        self.diagnostic = diagnostic
        self.error = error
        self.transient = transient
        self.provider = provider

    def aare(self, context: int | None = Context.LN) -> bytes:
        """Return the AARE that refuses."""
        result = Result.REJECTED_TRANSIENT if self.transient else Result.REJECTED_PERMANENT
        return acse.encode_aare(
            Aare(
                context=context if context in (Context.LN, Context.LN_CIPHERED) else Context.LN,
                result=result,
                diagnostic=self.diagnostic,
                provider=self.provider,
                user_information=pdu.encode_initiate_error(self.error),
            )
        )


Report = Callable[[EventKind, str], None]
"""Takes what happened to the association, for the log."""


class Association:
    """An association that is open, or half open until the client has answered our challenge.

    ``handle`` takes a plain or ciphered APDU and returns the response, empty when none is due. ``deliver``, set by
    the connection, takes a response that comes late.
    """

    __slots__ = (
        "_ciphering",
        "_control",
        "_general",
        "_policy",
        "_report",
        "_services",
        "_title",
        "deliver",
        "handle",
    )

    def __init__(
        self,
        services: Services,
        report: Report,
        ciphering: Ciphering | None,
        title: bytes,
        policy: int,
    ) -> None:
        self._services = services
        self._report = report
        self._ciphering = ciphering
        self._title = title
        self._policy = policy
        self._control = policy
        """Security control of the latest request; responses have the same."""
        self._general = False
        self.deliver: Callable[[bytes], None] = lambda _: None
        services.deliver = self._deliver_late
        self.handle: Callable[[bytes], bytes] = services.respond if ciphering is None else self._ciphered

    def _ciphered(self, apdu: bytes) -> bytes:
        ciphering = self._ciphering
        if ciphering is None or not apdu:
            return _NOT_ALLOWED
        service = _PLAIN_REQUEST.get(apdu[0])
        try:
            if service is not None:
                short = len(apdu) > 1 and apdu[1] == len(apdu) - 2 < 0x80
                body = apdu[2:] if short else _body(apdu, 1)
                self._general = False
            elif apdu[0] == Tag.GENERAL_GLO_CIPHERING:
                body = _general_body(apdu, self._title)
                self._general = True
            elif self._policy:
                return _NOT_ALLOWED
            else:
                self._control = 0
                return self._services.respond(apdu)
            control, plain = ciphering.unprotect(self._title, body, self._policy | AUTHENTICATED)
        except CounterError as error:
            self._report(EventKind.SECURITY_FAILURE, str(error))
            return pdu.exception_response(
                StateError.SERVICE_NOT_ALLOWED, ServiceError.INVOCATION_COUNTER_ERROR, error.lowest
            )
        except (SecurityError, AxdrError) as error:
            self._report(EventKind.SECURITY_FAILURE, str(error))
            return _NOT_DECIPHERED
        self._control = control
        if service is not None and (not plain or plain[0] != service):
            return _NOT_ALLOWED
        response = self._services.respond(plain)
        return self._protect(response) if response else b""

    def _protect(self, response: bytes) -> bytes:
        ciphered = _GLO_RESPONSE.get(response[0])
        if ciphered is None or self._ciphering is None or not self._control:
            return response
        body = self._ciphering.protect(self._control, response)
        if self._general:
            ciphered = b"\xdb\x08" + self._ciphering.title
        return ciphered + axdr.encode_length(len(body)) + body

    def _deliver_late(self, response: bytes) -> None:
        self.deliver(self._protect(response))

    @property
    def proven(self) -> bool:
        """The client has proven that it knows a secret."""
        return self._services.proven

    @property
    def waiting(self) -> bool:
        """A response will come late."""
        return self._services.waiting

    def release(self, apdu: bytes) -> bytes:
        """Return the RLRE to an RLRQ; raises AcseError, AxdrError or SecurityError if it is not the client's."""
        request = acse.decode_release(apdu)
        if self._ciphering is not None and request.user_information:
            self._ciphering.unprotect(
                self._title, _initiate_body(request.user_information, self._title), self._policy | AUTHENTICATED
            )
        self.close()
        return acse.encode_release(acse.Release(reason=0), acse.RLRE)

    def close(self) -> None:
        """Forget what is under way, and record the client's counter."""
        self._services.close()
        if self._ciphering is not None:
            self._ciphering.record(self._title)


def _body(octets: bytes, at: int) -> bytes:
    body, end = axdr.take_octet_string(octets, at)
    if end != len(octets):
        raise AxdrError("octets behind the ciphered APDU")
    return body


def _general_body(octets: bytes, title: bytes) -> bytes:
    """Return the body of a general-glo-ciphering APDU, whose system title may be left empty."""
    sender, at = axdr.take_octet_string(octets, 1)
    if sender not in (title, b""):
        raise SecurityError("system title is not the association's")
    return _body(octets, at)


def _initiate_body(octets: bytes, title: bytes) -> bytes:
    """Return the ciphered body of a ciphered InitiateRequest."""
    if octets[:1] == bytes((Tag.GLO_INITIATE_REQUEST,)):
        return _body(octets, 1)
    if octets[:1] == bytes((Tag.GENERAL_GLO_CIPHERING,)):
        return _general_body(octets, title)
    raise SecurityError("ciphered initiate request expected")


class Opening:
    """The opening of one association; ``open`` gives it and the AARE, or raises RefusalError."""

    def __init__(
        self,
        device: LogicalDevice,
        client: ClientProfile,
        *,
        ciphering: Ciphering | None,
        limits: Limits,
        random: Callable[[int], bytes],
        report: Report,
    ) -> None:
        self._device = device
        self._client = client
        self._ciphering = ciphering
        self._limits = limits
        self._random = random
        self._report = report

    def open(self, aarq: Aarq) -> tuple[Association, bytes]:
        """Return the association and the AARE that accepts it; raises RefusalError."""
        client = self._client
        self._check_names(aarq)
        ciphered = aarq.context == Context.LN_CIPHERED
        title = aarq.calling_title or b""
        control, initiate = self._initiate(aarq, title)
        if client.mechanism == Mechanism.LLS and not hmac.compare_digest(
            client.secret, aarq.authentication or b""
        ):
            raise RefusalError("wrong password", Diagnostic.AUTHENTICATION_FAILURE)
        context = AssociationContext(
            client_sap=client.sap,
            server_sap=self._device.sap,
            context=aarq.context or 0,
            mechanism=client.mechanism,
        )
        context.conformance = initiate.conformance & CONFORMANCE
        context.max_receive = self._limits.max_pdu
        limits = self._limits
        most = limits.max_unproven if client.mechanism == Mechanism.NONE else limits.max_pdu
        context.max_send = min(initiate.max_pdu or 0xFFFF, limits.max_pdu, most)
        context.open = client.mechanism < Mechanism.HLS
        view = self._device.schema.view(client.role)
        context.object_list = view.object_list
        # tag and length (4), system title of general ciphering (9), control, counter and tag (17)
        room = context.max_send - (30 if ciphered else 0)
        services = Services(self._device, view, client, context, limits=self._limits, room=room)
        ciphering = self._ciphering if ciphered else None
        # What the client began with is the least from then on: nobody on the way can slip in less.
        context.policy = client.policy | control
        association = Association(services, self._report, ciphering, title, context.policy)
        challenge = self._challenge(aarq, services, context)
        if self._ciphering is not None and title:
            self._ciphering.record(title)
        return association, self._accept(aarq, context, control, challenge)

    def _check_names(self, aarq: Aarq) -> None:
        client = self._client
        if not aarq.protocol_version_1:
            raise RefusalError("protocol version", 2, provider=True)
        ciphered = aarq.context == Context.LN_CIPHERED
        if aarq.context not in (Context.LN, Context.LN_CIPHERED) or (ciphered and client.keys is None):
            raise RefusalError("application context", Diagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
        if client.policy and not ciphered:
            raise RefusalError("ciphering required", Diagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
        if aarq.mechanism != client.mechanism:
            missing = aarq.mechanism == Mechanism.NONE
            raise RefusalError(
                "authentication mechanism",
                Diagnostic.AUTHENTICATION_MECHANISM_NAME_REQUIRED
                if missing
                else Diagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED,
            )
        title = aarq.calling_title
        needed = ciphered or client.mechanism == Mechanism.HLS_GMAC
        expected = client.system_title
        own = None if self._ciphering is None else self._ciphering.title
        # A client under our own title would share our nonces, and could send us our own messages back.
        if needed and (title is None or len(title) != 8 or title == own or expected not in (None, title)):
            raise RefusalError("client system title", Diagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED)

    def _initiate(self, aarq: Aarq, title: bytes) -> tuple[int, InitiateRequest]:
        """Return protection and fields of the InitiateRequest."""
        try:
            control, octets = self._unprotected(aarq, title)
            initiate = pdu.decode_initiate_request(octets)
        except SecurityError as error:
            self._report(EventKind.SECURITY_FAILURE, str(error))
            raise RefusalError(str(error), Diagnostic.AUTHENTICATION_FAILURE) from error
        except (ApduError, AxdrError) as error:
            raise RefusalError(f"initiate request: {error}") from error
        if initiate.version < pdu.DLMS_VERSION:
            raise RefusalError("DLMS version", error=InitiateError.DLMS_VERSION_TOO_LOW)
        if not initiate.conformance & Conformance.GET:
            raise RefusalError("conformance", error=InitiateError.INCOMPATIBLE_CONFORMANCE)
        if 0 < initiate.max_pdu < pdu.MIN_PDU:
            raise RefusalError("max PDU size", error=InitiateError.PDU_SIZE_TOO_SHORT)
        if initiate.dedicated_key is not None:
            raise RefusalError("dedicated ciphering is not supported")
        return control, initiate

    def _unprotected(self, aarq: Aarq, title: bytes) -> tuple[int, bytes]:
        octets = aarq.user_information
        plain = octets[:1] == bytes((Tag.INITIATE_REQUEST,))
        if aarq.context == Context.LN_CIPHERED and not plain and self._ciphering is not None:
            # Without a tag anybody could use up the counters of a client, or alter what it sends.
            required = self._client.policy | AUTHENTICATED
            return self._ciphering.unprotect(title, _initiate_body(octets, title), required)
        if self._client.policy:
            raise SecurityError("initiate request is not protected")
        return 0, octets

    def _challenge(self, aarq: Aarq, services: Services, context: AssociationContext) -> bytes | None:
        """Return our challenge (StoC) and arrange for pass 3 and 4; ``None`` without HLS."""
        ciphering = self._ciphering
        if self._client.mechanism != Mechanism.HLS_GMAC or ciphering is None:
            return None
        theirs, title = aarq.authentication or b"", aarq.calling_title or b""
        if not 8 <= len(theirs) <= 64:
            raise RefusalError("challenge of 8 to 64 octets needed", Diagnostic.AUTHENTICATION_FAILURE)
        ours = self._random(CHALLENGE_OCTETS)
        if ours == theirs:
            raise RefusalError("reflected challenge", Diagnostic.AUTHENTICATION_FAILURE)

        def check(answer: bytes) -> bytes | None:
            if not ciphering.check_answer(title, ours, answer):
                self._report(EventKind.SECURITY_FAILURE, "wrong answer to the challenge")
                return None
            context.open = True
            self._report(EventKind.OPENED, "authenticated by HLS-GMAC")
            return ciphering.answer_challenge(theirs)

        services.hls = check
        return ours

    def _accept(self, aarq: Aarq, context: AssociationContext, control: int, challenge: bytes | None) -> bytes:
        information = pdu.encode_initiate_response(
            InitiateResponse(conformance=context.conformance, max_pdu=context.max_receive)
        )
        ciphering = self._ciphering
        if control and ciphering is not None:
            body = ciphering.protect(control, information)
            information = bytes((Tag.GLO_INITIATE_RESPONSE,)) + axdr.encode_length(len(body)) + body
        show_title = ciphering is not None and (challenge is not None or aarq.context == Context.LN_CIPHERED)
        return acse.encode_aare(
            Aare(
                context=aarq.context,
                result=Result.ACCEPTED,
                diagnostic=Diagnostic.NULL if challenge is None else Diagnostic.AUTHENTICATION_REQUIRED,
                responding_title=ciphering.title if ciphering is not None and show_title else None,
                mechanism=self._client.mechanism,
                authentication=challenge,
                user_information=information,
            )
        )
