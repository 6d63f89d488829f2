"""One open association on the server's side: its APDUs, plain or protected (IEC 62056-5-3 clause 9.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from flexmap.dlms import acse, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.apdu import ApduError, Conformance, ServiceError, StateError, Tag
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.blocks import Outgoing
from flexmap.dlms.general_blocks import GeneralTransfer, joined
from flexmap.dlms.general_blocks import decode as decode_block
from flexmap.dlms.layers import GLOBAL, SERVICE_ROOM, CipheredLayer, Opened
from flexmap.dlms.notification import Change
from flexmap.dlms.object_access import (
    MALFORMED,
    NEITHER,
    NOT_NEGOTIATED,
    TOO_LONG,
    ObjectAccess,
    RowsGoneError,
    one_of_two,
)
from flexmap.dlms.objects import AssociationContext
from flexmap.dlms.profile import ClientProfile, EventKind, Threat
from flexmap.dlms.protection import Protection, ReplayError
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    BROADCAST_KEY,
    SIGNED,
    Ciphering,
    CounterError,
    SecurityError,
)
from flexmap.model.error import FlexmapError

_NOT_ALLOWED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE)
_NOT_DECIPHERED = pdu.exception_response(StateError.SERVICE_NOT_ALLOWED, ServiceError.DECIPHERING_ERROR)
_BLOCK = bytes((Tag.GENERAL_BLOCK_TRANSFER,))
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


class UnprotectedReleaseError(SecurityError):
    """Anybody can have sent it: the association stays."""


Wrap = Callable[[bytes], bytes]


class _Late(NamedTuple):
    """How a response that comes late goes out."""

    wrap: Wrap | None
    transfer: GeneralTransfer | None = None
    outer: Opened | None = None


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
        "_outside",
        "_policy",
        "_profile",
        "_protection",
        "_report",
        "_services",
        "_transfer",
        "_wrap",
        "announce",
        "deliver",
        "handle",
    )

    def __init__(
        self,
        services: ObjectAccess,
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
        self._late: tuple[_Late | None, _Late | None] = NEITHER
        """Of a request of normal priority, and of one of high priority."""
        self._transfer: GeneralTransfer | None = None
        self._outside = False
        """The blocks of the transfer are protected, each of them."""
        self._wrap: Wrap | None = None
        """Layers of the response to a message that came in blocks."""
        self._narrow = False
        self.deliver: Callable[[bytes], None] = _nobody
        self.announce: Callable[[bytes], bool] = _unheard
        """Sends what the client did not ask for; tells whether it went out."""
        services.deliver = self._deliver_late
        if protection is None:
            services.beyond = self._plain
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
        self._global: Ciphering | None = None if signed or protection.record_each else protection.ciphering
        """What nearly all requests are ciphered with; ``None`` where each must be looked at."""
        self._layer: CipheredLayer | None = None
        """What a response gets to a request of ``_control``."""
        self._control = 0

    def _protected(self, apdu: bytes) -> bytes:
        protection = self._protection
        if protection is None or not apdu:
            return _NOT_ALLOWED
        if apdu[:1] == _BLOCK:
            return self._block(apdu, None)
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
        return self._unanswered(layer.wrap)

    def _uncommon(self, opened: Opened) -> bytes:
        if opened.broadcast and not _unconfirmed(opened.plain):
            raise SecurityError("the broadcast key is for unconfirmed requests alone")
        room = sum(layer.room for layer in opened.layers)
        if not self._set_room(room):
            return TOO_LONG
        services = self._services
        # Whoever holds the broadcast key can have sent it: no proof where an object asks for more than the policy.
        services.applied = 0 if opened.broadcast else opened.applied
        if opened.plain[:1] == _BLOCK and not opened.broadcast:
            return self._block(opened.plain, opened)
        response = services.respond(opened.plain)
        if response:
            return b"" if opened.broadcast else opened.wrap(response)
        return b"" if opened.broadcast else self._unanswered(opened.wrap)

    def _set_room(self, layers: int) -> bool:
        """Leave that many octets of each response to its layers; tell whether enough is left."""
        room = self._context.max_send - max(layers, SERVICE_ROOM)
        self._narrow = layers > SERVICE_ROOM
        if room < min(_LEAST_ROOM, self._context.max_send - SERVICE_ROOM):
            return False
        self._services.narrow(room)
        return True

    def _plain(self, apdu: bytes) -> bytes:
        """Answer a request without protection that needs a further look."""
        if apdu[:1] == _BLOCK:
            return self._block(apdu, None)
        return self._services.answer(apdu) or self._unanswered(None)

    # --- general block transfer

    def _unanswered(self, wrap: Wrap | None) -> bytes:
        """Return the first blocks of a response that is too long for one APDU; note what is to come late."""
        services = self._services
        if services.general:
            self._wrap = wrap
        elif services.long is not None:
            self._transfer = self._new_transfer(None)
            return joined(self._send_long(self._transfer, wrap))
        elif services.began is not None:
            self._late = one_of_two(self._late, services.began, _Late(wrap))
        return b""

    def _new_transfer(self, outer: Opened | None) -> GeneralTransfer:
        room = self._context.max_send - (sum(layer.room for layer in outer.layers) if outer else 0)
        # Who has proven nothing gets one block at a time: its address may be another's.
        return GeneralTransfer(room=room, limit=self._services.longest, streams=self._services.proven)

    def _block(self, apdu: bytes, outer: Opened | None) -> bytes:
        """Answer a general block; ``outer``: the layers that it came in."""
        if not self._context.conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            return NOT_NEGOTIATED
        try:
            block = decode_block(apdu)
            transfer = self._transfer
            first = block.number == 1 and bool(block.data)
            if transfer is None or self._outside != (outer is not None) or (first and transfer.begun):
                transfer = self._transfer = self._new_transfer(outer)
                self._outside = outer is not None
            message, apdus = transfer.take(block)
            if message is not None:
                apdus = self._answer_message(transfer, message, outer)
        except (ApduError, AxdrError, RowsGoneError):
            self._transfer = None
            return MALFORMED
        return joined(apdus if outer is None else [outer.wrap(each) for each in apdus])

    def _answer_message(self, transfer: GeneralTransfer, message: bytes, outer: Opened | None) -> list[bytes]:
        services = self._services
        if message[:1] == _BLOCK:
            raise ApduError("general blocks within general blocks")
        services.general = True
        self._wrap = None
        try:
            inner = services.answer if outer is not None or self._protection is None else self._protected
            response = inner(message)
        finally:
            services.general = False
        if response:
            return transfer.send(Outgoing(iter((response,))))
        if services.long is not None:
            return self._send_long(transfer, self._wrap)
        if services.began is not None:
            self._late = one_of_two(self._late, services.began, _Late(self._wrap, transfer, outer))
        return []

    def _send_long(self, transfer: GeneralTransfer, wrap: Wrap | None) -> list[bytes]:
        services = self._services
        message, services.long = services.long, None
        if message is None:
            return []
        if wrap is not None:  # protected as a whole, so it is made as a whole
            whole = message.whole(services.longest)
            message = Outgoing(iter((TOO_LONG if whole is None else wrap(whole),)))
        return transfer.send(message)

    def _deliver_late(self, urgent: bool, response: bytes) -> None:
        late = self._late[urgent]
        self._late = one_of_two(self._late, urgent, None)
        wrap = None if late is None else late.wrap
        transfer = None if late is None else late.transfer
        if transfer is None and self._services.long is not None:
            transfer = self._transfer = self._new_transfer(None)
        if response and wrap is not None and response[0] != Tag.EXCEPTION_RESPONSE:
            response = wrap(response)
        if transfer is None:
            self.deliver(response)
            return
        try:
            apdus = transfer.send(Outgoing(iter((response,)))) if response else self._send_long(transfer, wrap)
        except (ApduError, RowsGoneError):
            apdus = [MALFORMED]
        outer = None if late is None else late.outer
        self.deliver(joined(apdus if outer is None else [outer.wrap(each) for each in apdus]))

    # --- notifications

    @property
    def server_sap(self) -> int:
        """Server SAP of the logical device."""
        return self._context.server_sap

    @property
    def listens(self) -> bool:
        """The client has negotiated to be told of changes."""
        return bool(self._context.conformance & (Conformance.EVENT_NOTIFICATION | Conformance.INFORMATION_REPORT))

    def concerns(self, change: Change) -> bool:
        """Tell whether the client is to know of a change: it has proven itself, and is configured for it."""
        profile = self._lookup()
        return profile is not None and change.key in profile.notify and self.proven

    def tell(self, change: Change) -> bool:
        """Send a notification of a change, protected as the client's messages must be; False if that cannot be."""
        try:
            layers = self._unasked()
            plain = self._services.notification(change, 0 if layers is None else layers.applied)
            apdu = layers.wrap(plain) if layers is not None and plain else plain
        except FlexmapError as error:  # counters used up, no key to sign with: the others are told all the same
            self._report(EventKind.SECURITY_FAILURE, f"notification: {error}")
            return False
        return 0 < len(apdu) <= self._context.max_send and self.announce(apdu)

    def _unasked(self) -> Opened | None:
        """Return what protects a message that answers no request."""
        protection, profile = self._protection, self._lookup()
        if protection is None:
            return None
        if profile is not None and profile is not self._profile:
            self._use(profile)
        # Where nothing is demanded, the client may protect its requests as it likes: it can read all of them.
        able = AUTHENTICATED_ENCRYPTED if protection.ciphering is not None else 0
        return protection.unasked(self._policy & AUTHENTICATED_ENCRYPTED or able)

    @property
    def proven(self) -> bool:
        """The client has proven that it knows a secret."""
        return self._services.proven or (self._protection is not None and self._protection.verified)

    @property
    def waiting(self) -> bool:
        """A response will come late."""
        return self._services.waiting

    def release(self, apdu: bytes, *, proven: bool) -> bytes:
        """Return the RLRE to an RLRQ; raises AcseError, AxdrError or SecurityError if it is not the client's.

        ``proven``: it must be protected where requests must be; raises UnprotectedReleaseError.
        """
        request = acse.decode_release(apdu)
        if proven and self._context.policy & AUTHENTICATED_ENCRYPTED and not request.user_information:
            raise UnprotectedReleaseError("not protected")
        information = b""
        if self._protection is not None and request.user_information:
            opened = self._protection.open(request.user_information, self._policy & ~SIGNED | AUTHENTICATED)
            if opened.broadcast or opened.passed_on:
                who = "the broadcast key" if opened.broadcast else "a third party"
                raise SecurityError(f"{who} ends no association")
            response = pdu.InitiateResponse(
                conformance=self._context.conformance, max_pdu=self._context.max_receive
            )
            information = opened.wrap(pdu.encode_initiate_response(response))
        self.close()
        return acse.encode_release(acse.Release(reason=0, user_information=information), acse.RLRE)

    def close(self) -> None:
        """Forget what is under way, and record the client's counter."""
        self._services.close()
        # Nothing of it refers to itself any more: floods of associations leave no work for the garbage collector.
        self._services.deliver = self._services.denied = _nobody
        self._services.hls = None
        self.announce = _unheard
        self._services.beyond = self.handle = _closed
        self._transfer = None
        self._late = NEITHER
        if self._protection is not None:
            self._protection.record()


def _closed(apdu: bytes) -> bytes:
    del apdu
    return _NOT_ALLOWED


def _unheard(_: bytes) -> bool:
    return False


def _nobody(*_: object) -> None:
    """Take what nobody waits for any more."""


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
