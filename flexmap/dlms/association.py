"""One open association on the server's side: its APDUs, plain or protected (IEC 62056-5-3 clause 9.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flexmap.dlms import acse, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.apdu import ServiceError, StateError, Tag
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import AssociationContext
from flexmap.dlms.profile import ClientProfile, EventKind, Threat
from flexmap.dlms.protection import GLOBAL, SERVICE_ROOM, CipheredLayer, Opened, Protection, ReplayError
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    BROADCAST_KEY,
    SIGNED,
    Ciphering,
    CounterError,
    SecurityError,
)
from flexmap.dlms.services import Services

_NOT_ALLOWED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE)
_NOT_DECIPHERED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.DECIPHERING_ERROR)
_TOO_LONG = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.PDU_TOO_LONG)
_LEAST_ROOM = 48
"""Octets that a plain response must have at least, for blocks to go out."""


class Report(Protocol):
    """Takes what happened to the association, for the logs."""

    def __call__(self, kind: EventKind, reason: str, threat: Threat = Threat.NONE) -> None:
        """Take it."""


def report_failure(report: Report, error: SecurityError) -> None:
    """Report an APDU that failed its protection."""
    replay = isinstance(error, CounterError | ReplayError)
    report(EventKind.SECURITY_FAILURE, str(error), Threat.REPLAY if replay else Threat.DECRYPTION_FAILURE)


class Association:
    """An association that is open, or half open until the client has answered our challenge.

    ``handle`` takes a plain or ciphered APDU and returns the response, empty when none is due. ``deliver``, set by
    the connection, takes a response that comes late. ``lookup`` gives the client as it now is: new keys and a
    stronger policy hold from the next request on.
    """

    __slots__ = (
        "_context",
        "_control",
        "_global",
        "_initial",
        "_late",
        "_layer",
        "_least",
        "_lookup",
        "_narrow",
        "_policy",
        "_profile",
        "_protection",
        "_report",
        "_services",
        "deliver",
        "handle",
    )

    def __init__(
        self,
        services: Services,
        context: AssociationContext,
        report: Report,
        protection: Protection | None,
        *,
        initial: int,
        lookup: Callable[[], ClientProfile | None],
    ) -> None:
        self._services = services
        self._context = context
        self._report = report
        self._protection = protection
        self._lookup = lookup
        self._initial = initial
        """Protection that the association was opened with: the least from then on."""
        self._late: Callable[[bytes], bytes] | None = None
        self._narrow = False
        self.deliver: Callable[[bytes], None] = lambda _: None
        services.deliver = self._deliver_late
        self.handle: Callable[[bytes], bytes] = services.respond if protection is None else self._protected
        self._profile: ClientProfile | None = None
        if protection is not None:
            self._use(protection.client)

    def _use(self, profile: ClientProfile) -> None:
        """Take the client's keys and policy as they now are."""
        protection = self._protection
        if protection is None:
            return
        if profile is not protection.client:
            protection.use(profile)
        self._profile = profile
        self._policy = self._context.policy = profile.policy | self._initial
        signed = (self._policy | profile.response_policy) & SIGNED
        self._least = self._policy & AUTHENTICATED_ENCRYPTED | AUTHENTICATED
        self._global: Ciphering | None = None if signed else protection.ciphering
        """What nearly all requests are ciphered with; ``None`` where each must be looked at."""
        self._layer: CipheredLayer | None = None
        """What a response gets to a request of ``_control``."""
        self._control = 0

    def _protected(self, apdu: bytes) -> bytes:
        protection = self._protection
        if protection is None or not apdu:
            return _NOT_ALLOWED
        profile = self._lookup()
        if profile is not None and profile is not self._profile:
            self._use(profile)
        try:
            service = GLOBAL.get(apdu[0])
            if service is not None and self._global is not None:
                return self._common(self._global, protection, service, apdu)
            return self._uncommon(protection.open(apdu, self._policy))
        except CounterError as error:
            report_failure(self._report, error)
            return pdu.exception_response(
                StateError.SERVICE_NOT_ALLOWED, ServiceError.INVOCATION_COUNTER_ERROR, error.lowest
            )
        except (SecurityError, AxdrError) as error:
            bare = apdu[0] not in _PROTECTED
            error = error if isinstance(error, SecurityError) else SecurityError(str(error))
            report_failure(self._report, error)
            return _NOT_ALLOWED if bare else _NOT_DECIPHERED

    def _common(self, ciphering: Ciphering, protection: Protection, service: int, apdu: bytes) -> bytes:
        """Answer a request that is ciphered with the global key under a tag of its service."""
        short = len(apdu) > 2 and apdu[1] == len(apdu) - 2 < 0x80
        body = apdu[2:] if short else _body(apdu)
        if body[:1] and body[0] & BROADCAST_KEY:
            return self._uncommon(protection.open(apdu, self._policy))
        control, plain = ciphering.unprotect(protection.title, body, self._least)
        if not plain or plain[0] != service:
            raise SecurityError("a ciphered APDU carries another service than its tag says")
        layer = self._layer
        if layer is None or control != self._control:
            layer, self._control = protection.common_layer(control), control
            self._layer = layer
        if self._narrow:
            self._set_room(SERVICE_ROOM)
        services = self._services
        services.applied = control
        response = services.respond(plain)
        if response:
            return response if response[0] == Tag.EXCEPTION_RESPONSE else layer.wrap(response)
        if services.waiting and self._late is None:
            self._late = layer.wrap
        return b""

    def _uncommon(self, opened: Opened) -> bytes:
        if opened.broadcast and not _unconfirmed(opened.plain):
            raise SecurityError("the broadcast key is for unconfirmed requests alone")
        room = sum(layer.room for layer in opened.layers)
        if not self._set_room(room):
            return _TOO_LONG
        services = self._services
        services.applied = opened.applied
        response = services.respond(opened.plain)
        if response:
            return b"" if opened.broadcast else opened.wrap(response)
        if services.waiting and self._late is None:
            self._late = opened.wrap
        return b""

    def _set_room(self, layers: int) -> bool:
        """Leave that many octets of each response to its layers; tell whether enough is left."""
        room = self._context.max_send - max(layers, SERVICE_ROOM)
        self._narrow = layers > SERVICE_ROOM
        if room < min(_LEAST_ROOM, self._context.max_send - SERVICE_ROOM):
            return False
        self._services.narrow(room)
        return True

    def _deliver_late(self, response: bytes) -> None:
        wrap, self._late = self._late, None
        self.deliver(response if wrap is None else wrap(response))

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
        information = b""
        if self._protection is not None and request.user_information:
            opened = self._protection.open(request.user_information, self._policy & ~SIGNED | AUTHENTICATED)
            if opened.broadcast:
                raise SecurityError("the broadcast key ends no association")
            response = pdu.InitiateResponse(
                conformance=self._context.conformance, max_pdu=self._context.max_receive
            )
            information = opened.wrap(pdu.encode_initiate_response(response))
        self.close()
        return acse.encode_release(acse.Release(reason=0, user_information=information), acse.RLRE)

    def close(self) -> None:
        """Forget what is under way, and record the client's counter."""
        self._services.close()
        if self._protection is not None:
            self._protection.record()


def _unconfirmed(apdu: bytes) -> bool:
    """Tell whether a SET or ACTION asks for no response (service class in invoke-id-and-priority)."""
    return len(apdu) > 2 and apdu[0] in (Tag.SET_REQUEST, Tag.ACTION_REQUEST) and not apdu[2] & 0x40


_PROTECTED = frozenset(GLOBAL) | {
    *(tag + 0x20 for tag in (0x21, 0x25, 0x26, 0x36)),
    *(0xD0, 0xD1, 0xD2, 0xD3),
    *(Tag.GENERAL_GLO_CIPHERING, Tag.GENERAL_DED_CIPHERING, Tag.GENERAL_CIPHERING, Tag.GENERAL_SIGNING),
}
"""Tags of APDUs that claim to be protected."""


def _body(apdu: bytes) -> bytes:
    body, end = axdr.take_octet_string(apdu, 1)
    if end != len(apdu):
        raise AxdrError("octets behind the ciphered APDU")
    return body
