"""How an association opens on the server's side: AARQ in, AARE out (IEC 62056-5-3 clause 9.3.2)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial

import msgspec

from flexmap.dlms import acse
from flexmap.dlms import apdu as pdu
from flexmap.dlms import authentication as hls
from flexmap.dlms.acse import CIPHERED, SHORT_NAMES, Aare, Aarq, Context, Diagnostic, Mechanism, Result
from flexmap.dlms.apdu import (
    CONFORMANCE_LN,
    CONFORMANCE_SN,
    VAA_NAME_LN,
    VAA_NAME_SN,
    ApduError,
    Conformance,
    InitiateError,
    InitiateRequest,
    InitiateResponse,
    Tag,
)
from flexmap.dlms.association import Association, Report, report_failure
from flexmap.dlms.authentication import GmacProof, Proof, SecretProof, Side, SignatureProof
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.identity import Use
from flexmap.dlms.layers import SERVICE_ROOM, Opened
from flexmap.dlms.object_access import ObjectAccess
from flexmap.dlms.objects import AssociationContext, LogicalDevice
from flexmap.dlms.profile import WITH_SECRET, WITH_TITLE, ClientProfile, EventKind, Limits, Threat
from flexmap.dlms.protection import Protection, Shared
from flexmap.dlms.push_setup import PUSH_SETUP
from flexmap.dlms.security import (
    AUTHENTICATED,
    ENCRYPTED,
    SIGNED,
    Ciphering,
    Keys,
    SecurityError,
    ShortLivedCounterStore,
)
from flexmap.dlms.services import Services
from flexmap.dlms.short_names import short_names
from flexmap.dlms.sn_services import ShortNameServices
from flexmap.dlms.suite import SUITES
from flexmap.model.error import LocalError, RemoteError

_SERVICES_LN = Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.ACCESS
_SERVICES_SN = Conformance.READ | Conformance.WRITE | Conformance.UNCONFIRMED_WRITE
"""Without one of them an association is good for nothing."""
_CONTEXTS = frozenset(Context)


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
        threat: Threat = Threat.NONE,
    ) -> None:
        super().__init__(reason)
        self.diagnostic = diagnostic
        self.error = error
        self.transient = transient
        self.provider = provider
        self.threat = threat

    def aare(self, context: int | None = Context.LN) -> bytes:
        """Return the AARE that refuses."""
        result = Result.REJECTED_TRANSIENT if self.transient else Result.REJECTED_PERMANENT
        return acse.encode_aare(
            Aare(
                context=context if context in _CONTEXTS else Context.LN,
                result=result,
                diagnostic=self.diagnostic,
                provider=self.provider,
                user_information=pdu.encode_initiate_error(self.error),
            )
        )


class Opening:
    """The opening of one association; ``open`` gives it and the AARE, or raises RefusalError."""

    def __init__(
        self,
        device: LogicalDevice,
        client: ClientProfile,
        shared: Shared,
        *,
        limits: Limits,
        report: Report,
        outcome: Callable[[bool], None] = lambda _: None,
        wait: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._device = device
        self._client = client
        self._shared = shared
        self._limits = limits
        self._report = report
        self._outcome = outcome
        """Told of each authentication, whether it succeeded."""
        self._wait = wait
        """Gives the seconds until the client may authenticate again."""

    def open(self, aarq: Aarq) -> tuple[Association, bytes]:
        """Return the association and the AARE that accepts it; raises RefusalError."""
        following = self._client.next_keys
        if following is not None and aarq.context in CIPHERED and self._under(following, aarq):
            self._turn_to(following)
        return self._open(aarq)

    def _under(self, keys: Keys, aarq: Aarq) -> bool:
        """Tell whether an initiate request is ciphered under these keys; nothing is recorded."""
        client = msgspec.structs.replace(self._client, keys=keys)
        title = aarq.calling_title or b""
        if aarq.user_information[:1] == bytes((Tag.INITIATE_REQUEST,)) or len(title) != 8:
            return False
        trial = msgspec.structs.replace(
            self._shared,
            ciphering=lambda *_: Ciphering(keys, self._shared.title, ShortLivedCounterStore()),
            counters=ShortLivedCounterStore(),
        )
        try:
            applied = Protection(client, title, trial).open(aarq.user_information, 0).applied
        except (SecurityError, AxdrError):
            return False
        return bool(applied & AUTHENTICATED)

    def _turn_to(self, keys: Keys) -> None:
        """Take the client's next keys for good: it has shown that it has them."""
        self._client = self._shared.setups.turn_to(self._client, keys)

    def _open(self, aarq: Aarq) -> tuple[Association, bytes]:
        client = self._client
        self._check_names(aarq)
        protection = self._protection(aarq.calling_title or b"") if aarq.context in CIPHERED else None
        opened, initiate = self._initiate(aarq, protection)
        if client.mechanism == Mechanism.LLS:
            self._check_password(aarq.authentication or b"")
        context = self._context(aarq.context or 0, initiate)
        # What the client began with is the least from then on: nobody on the way can slip in less.
        services, association = self._association(context, protection, opened.applied)
        challenge = self._challenge(aarq, services, context)
        if protection is not None:
            protection.record()
        return association, self._accept(aarq, context, opened, challenge)

    def pre_established(self) -> Association:
        """Return the association of a client that has it without AARQ, and so without authentication."""
        client = self._client = msgspec.structs.replace(self._client, mechanism=Mechanism.NONE)
        title = client.system_title
        protection = None if title is None else self._protection(title)
        conformance = CONFORMANCE_LN | Conformance.EVENT_NOTIFICATION
        initiate = InitiateRequest(conformance=conformance, max_pdu=self._limits.max_pdu)
        context = self._context(Context.LN if protection is None else Context.LN_CIPHERED, initiate)
        context.open = True
        return self._association(context, protection, 0)[1]

    def _association(
        self, context: AssociationContext, protection: Protection | None, initial: int
    ) -> tuple[ObjectAccess, Association]:
        client, lookup = self._client, self._shared.lookup
        context.policy = client.policy | initial
        if protection is not None:
            # Neither a counter of the AARQ nor a challenge has shown that what comes is new.
            protection.record_each = not initial and client.mechanism < Mechanism.HLS
        view = self._device.schema.view(client.role, client.scope)
        context.object_list = view.object_list
        room = context.max_send - (0 if protection is None else SERVICE_ROOM)
        services: ObjectAccess
        if context.context in SHORT_NAMES:
            names = short_names(self._device.schema)
            services = ShortNameServices(
                self._device, view, client, context, limits=self._limits, room=room, names=names
            )
        else:
            services = Services(self._device, view, client, context, limits=self._limits, room=room)
        services.denied = partial(self._report, EventKind.DENIED)
        association = Association(
            services, context, self._report, protection, initial=initial, lookup=partial(lookup, client.sap)
        )
        return services, association

    def _context(self, name: int, initiate: InitiateRequest) -> AssociationContext:
        client, limits = self._client, self._limits
        context = AssociationContext(
            client_sap=client.sap, server_sap=self._device.sap, context=name, mechanism=client.mechanism
        )
        able = CONFORMANCE_SN if name in SHORT_NAMES else CONFORMANCE_LN
        if self._device.schema.has_class(PUSH_SETUP):
            able |= Conformance.DATA_NOTIFICATION
        if client.notify:
            able |= Conformance.INFORMATION_REPORT if name in SHORT_NAMES else Conformance.EVENT_NOTIFICATION
        if name not in CIPHERED:
            able &= ~Conformance.GENERAL_PROTECTION
        context.security = self._shared.setups
        context.conformance = initiate.conformance & able
        context.max_receive = limits.max_pdu
        unproven = client.mechanism == Mechanism.NONE and not client.policy
        most = limits.max_unproven if unproven else limits.max_pdu
        context.max_send = min(initiate.max_pdu or 0xFFFF, limits.max_pdu, most)
        context.open = client.mechanism < Mechanism.HLS
        return context

    def _protection(self, title: bytes) -> Protection:
        return Protection(self._client, title, self._shared)

    def _check_names(self, aarq: Aarq) -> None:
        client = self._client
        if not aarq.protocol_version_1:
            raise RefusalError("protocol version", 2, provider=True)
        ciphered = aarq.context in CIPHERED
        able = client.keys is not None or bool(client.signing_key)
        if aarq.context not in _CONTEXTS or (ciphered and not able):
            raise RefusalError("application context", Diagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
        if (client.policy | client.response_policy) and not ciphered:
            raise RefusalError("ciphering required", Diagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
        if aarq.mechanism != client.mechanism:
            missing = aarq.mechanism == Mechanism.NONE
            raise RefusalError(
                "authentication mechanism",
                Diagnostic.AUTHENTICATION_MECHANISM_NAME_REQUIRED
                if missing
                else Diagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED,
            )
        title, expected = aarq.calling_title, client.system_title
        needed = ciphered or client.mechanism in WITH_TITLE
        # A client under our own title would share our nonces, and could send us our own messages back.
        fit = title is not None and len(title) == 8 and title != self._shared.title and expected in (None, title)
        if needed and not fit:
            raise RefusalError("client system title", Diagnostic.CALLING_AP_TITLE_NOT_RECOGNIZED)

    def _check_password(self, password: bytes) -> None:
        right = hmac.compare_digest(self._client.secret, password)
        self._outcome(right)
        if not right:
            raise RefusalError(
                "wrong password", Diagnostic.AUTHENTICATION_FAILURE, threat=Threat.AUTHENTICATION_FAILURE
            )

    def _initiate(self, aarq: Aarq, protection: Protection | None) -> tuple[Opened, InitiateRequest]:
        """Return protection and fields of the InitiateRequest."""
        try:
            opened = self._unprotected(aarq.user_information, protection)
            initiate = pdu.decode_initiate_request(opened.plain)
            if initiate.dedicated_key is not None:
                _dedicate(protection, opened, initiate.dedicated_key)
        except SecurityError as error:
            report_failure(self._report, error)
            raise RefusalError(str(error), Diagnostic.AUTHENTICATION_FAILURE) from error
        except (ApduError, AxdrError) as error:
            raise RefusalError(f"initiate request: {error}") from error
        if initiate.version < pdu.DLMS_VERSION:
            raise RefusalError("DLMS version", error=InitiateError.DLMS_VERSION_TOO_LOW)
        if not initiate.conformance & (_SERVICES_SN if aarq.context in SHORT_NAMES else _SERVICES_LN):
            raise RefusalError("conformance", error=InitiateError.INCOMPATIBLE_CONFORMANCE)
        if 0 < initiate.max_pdu < pdu.MIN_PDU:
            raise RefusalError("max PDU size", error=InitiateError.PDU_SIZE_TOO_SHORT)
        return opened, initiate

    def _unprotected(self, octets: bytes, protection: Protection | None) -> Opened:
        """Return the initiate request without its layers; a signature is asked of services only."""
        required = self._client.policy & ~SIGNED
        if protection is not None:
            opened = protection.open(octets, required)
            if opened.broadcast or opened.passed_on:
                who = "the broadcast key" if opened.broadcast else "a third party"
                raise SecurityError(f"{who} opens no association")
            return opened
        if octets[:1] != bytes((Tag.INITIATE_REQUEST,)):
            raise AxdrError("a ciphered initiate request in an application context without ciphering")
        return Opened(0, octets, ())

    # --- high level security

    def _proof(self) -> Proof:
        client, shared = self._client, self._shared
        if client.mechanism in WITH_SECRET:
            return SecretProof(client.mechanism, client.secret)
        if client.mechanism == Mechanism.HLS_GMAC and client.keys is not None:
            return GmacProof(shared.ciphering(client.keys, False))
        private = shared.setups.identity.keys.get((Use.SIGNING, client.suite))
        if private is None:
            raise LocalError(f"the server has no signing key of suite {client.suite}")
        return SignatureProof(SUITES[client.suite], private, shared.setups.public_key(client, Use.SIGNING))

    def _challenge(self, aarq: Aarq, services: ObjectAccess, context: AssociationContext) -> bytes | None:
        """Return our challenge (StoC) and arrange for pass 3 and 4; ``None`` without HLS."""
        mechanism, shared = self._client.mechanism, self._shared
        if mechanism < Mechanism.HLS:
            return None
        ours = Side(shared.title, shared.random(hls.challenge_octets(mechanism)))
        theirs = Side(aarq.calling_title or b"", aarq.authentication or b"")
        if not hls.acceptable(mechanism, ours.challenge, theirs.challenge):
            raise RefusalError(
                "challenge too short, too long or our own",
                Diagnostic.AUTHENTICATION_FAILURE,
                threat=Threat.AUTHENTICATION_FAILURE,
            )
        try:
            proof = self._proof()
        except LocalError as error:
            raise RefusalError(str(error), Diagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED) from None
        except SecurityError as error:
            raise RefusalError(
                str(error), Diagnostic.AUTHENTICATION_FAILURE, threat=Threat.AUTHENTICATION_FAILURE
            ) from None

        following = self._client.next_keys
        answered = False

        def check(answer: bytes) -> bytes | None:
            nonlocal proof, answered
            wait = self._wait()
            if answered or wait:
                reason = f"locked out for {wait:.0f} s" if wait else "the challenge has been answered before"
                self._report(EventKind.SECURITY_FAILURE, reason, Threat.AUTHENTICATION_FAILURE)
                return None
            answered = True
            right = proof.check(ours, theirs, answer)
            if not right and following is not None and isinstance(proof, GmacProof):
                proof = GmacProof(shared.ciphering(following, False))
                right = proof.check(ours, theirs, answer)
                if right:
                    self._turn_to(following)
            self._outcome(right)
            if not right:
                reason = "wrong answer to the challenge"
                self._report(EventKind.SECURITY_FAILURE, reason, Threat.AUTHENTICATION_FAILURE)
                return None
            context.open = True
            self._report(EventKind.OPENED, f"authenticated by {mechanism.name.replace('_', '-')}")
            return proof.answer(ours, theirs)

        services.hls = check
        return ours.challenge

    def _accept(self, aarq: Aarq, context: AssociationContext, opened: Opened, challenge: bytes | None) -> bytes:
        information = pdu.encode_initiate_response(
            InitiateResponse(
                conformance=context.conformance,
                max_pdu=context.max_receive,
                vaa_name=VAA_NAME_SN if context.context in SHORT_NAMES else VAA_NAME_LN,
            )
        )
        titled = challenge is not None or aarq.context in CIPHERED
        return acse.encode_aare(
            Aare(
                context=aarq.context,
                result=Result.ACCEPTED,
                diagnostic=Diagnostic.NULL if challenge is None else Diagnostic.AUTHENTICATION_REQUIRED,
                responding_title=self._shared.title if titled else None,
                mechanism=self._client.mechanism,
                authentication=challenge,
                user_information=opened.wrap(information),
            )
        )


def _dedicate(protection: Protection | None, opened: Opened, key: bytes) -> None:
    """Take a dedicated key; one that came unprotected is none."""
    if protection is None or not opened.applied & ENCRYPTED or not opened.applied & AUTHENTICATED:
        raise SecurityError("a dedicated key must come authenticated and encrypted")
    protection.dedicate(key)
