"""Security setup (class 64 version 1, IEC 62056-6-2): what clients with the right to can change of the security.

Each client has a security setup of its own: its policy, keys and suite. Key pairs and certificates are the
server's, one set for each suite. Every change is kept by the :class:`Keystore` before it is answered, and holds
from the next request on: the answer is still protected by what the request was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from flexmap.dlms import axdr, certificates
from flexmap.dlms import suite as suites
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.certificates import Certificate, CertificateError, Entity
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.objects import ActionReply
from flexmap.dlms.profile import WITH_SECRET, ClientProfile
from flexmap.dlms.security import AUTHENTICATED, ENCRYPTED, SIGNED, Keys, SecurityError
from flexmap.dlms.suite import SUITES, KeyAgreementError
from flexmap.model.error import ConfigurationError, LocalError, RemoteError

SECURITY_ACTIVATE, KEY_TRANSFER, KEY_AGREEMENT, GENERATE_KEY_PAIR = 1, 2, 3, 4
GENERATE_CERTIFICATE_REQUEST, IMPORT_CERTIFICATE, EXPORT_CERTIFICATE, REMOVE_CERTIFICATE = 5, 6, 7, 8
"""Methods of class 64."""
_KEY_FIELDS = ("guek", "gbek", "gak", "kek")
"""Field of Keys by key_id: unicast and broadcast encryption key, authentication key, master key."""
_MOST_CERTIFICATES = 256

_REQUEST_BITS = ((AUTHENTICATED, 1 << 2), (ENCRYPTED, 1 << 3), (SIGNED, 1 << 4))
_RESPONSE_BITS = ((AUTHENTICATED, 1 << 5), (ENCRYPTED, 1 << 6), (SIGNED, 1 << 7))


def policy_bits(request: int, response: int) -> int:
    """Return security_policy (version 1) of the protection that requests and responses need."""
    bits = sum(bit for protection, bit in _REQUEST_BITS if request & protection)
    return bits + sum(bit for protection, bit in _RESPONSE_BITS if response & protection)


def policy_of(bits: int) -> tuple[int, int]:
    """Return the protection of requests and of responses that a security_policy asks for."""
    request = sum(protection for protection, bit in _REQUEST_BITS if bits & bit)
    return request, sum(protection for protection, bit in _RESPONSE_BITS if bits & bit)


class Keystore(Protocol):
    """Where changes outlive the process. Both raise LocalError if they cannot be kept."""

    def keep_client(self, client: ClientProfile) -> None:
        """Keep secret, keys and policy of a client."""

    def keep_identity(self, identity: Identity) -> None:
        """Keep key pairs and certificates of the server."""


class Forgetful:
    """A keystore that keeps nothing, for servers whose changes end with them."""

    def keep_client(self, client: ClientProfile) -> None:
        """Keep nothing."""

    def keep_identity(self, identity: Identity) -> None:
        """Keep nothing."""


class _DeniedError(RemoteError):
    """A method call that is answered with a result other than success."""

    def __init__(self, result: ActionResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result


_MALFORMED = (AxdrError, ValueError, TypeError, KeyAgreementError, CertificateError)


class Setups:
    """The security setups of all clients."""

    def __init__(
        self,
        clients: dict[int, ClientProfile],
        title: bytes,
        identity: Identity,
        keystore: Keystore,
        *,
        random: Callable[[int], bytes],
        now: Callable[[], float],
        changed: Callable[[int, str], None],
        tolerance: float = 0.0,
    ) -> None:
        """Make the setups; ``now`` gives seconds since 1970, ``changed`` is told of each change and its client.

        ``tolerance``: seconds for which certificates are valid before and behind their period.
        """
        self._clients = clients
        self._title = title
        self.identity = identity
        """Key pairs and certificates; may be replaced."""
        self._keystore = keystore
        self._random = random
        self._now = now
        self._tolerance = tolerance
        self._of_identity = identity
        self._third_parties: dict[tuple[bytes, int], tuple[Certificate, ...]] = {}
        """Certificates in ``_of_identity`` by system title and suite, as they are asked for."""
        self._changed = changed

    def public_key(self, client: ClientProfile, use: Use) -> bytes:
        """Return a client's public key; raises SecurityError if there is none that is valid now."""
        own = [c for c in client.certificates if c.use == use]
        key = client.signing_key if use == Use.SIGNING else client.agreement_key
        if own:
            key = self._valid(own, use, "the client's")
        if not key:
            raise SecurityError(f"the client's {use.name.lower()} key is not known")
        return key

    def third_party_key(self, title: bytes, suite: int, use: Use) -> bytes:
        """Return a third party's public key, by its certificates; raises SecurityError if none is valid now."""
        if self._of_identity is not self.identity:
            self._of_identity, self._third_parties = self.identity, {}
        found = self._third_parties.get((title, suite))
        if found is None:
            found = self._third_parties[title, suite] = certificates.of_party(self._known(), title, suite)
        own = [c for c in found if c.use == use]
        if not own:
            raise SecurityError(f"the third party's {use.name.lower()} key is not known")
        return self._valid(own, use, "the third party's")

    def _valid(self, own: list[Certificate], use: Use, whose: str) -> bytes:
        now = self._now()
        key = certificates.point((c for c in own if certificates.valid(c, now, self._tolerance)), use)
        if not key:
            when = "has expired" if own[0].not_after < now else "is not valid yet"
            raise SecurityError(f"{whose} certificate for {use.name.lower()} {when}")
        return key

    def turn_to(self, client: ClientProfile, keys: Keys) -> ClientProfile:
        """Return the client with its next keys, which it has begun to use.

        If that cannot be kept, they hold all the same: after a restart both pairs do once more.
        """
        changed = msgspec.structs.replace(client, keys=keys, next_keys=None)
        with suppress(LocalError):
            self._keystore.keep_client(changed)
        self._clients[client.sap] = changed
        self._changed(client.sap, "client uses its new keys; the old ones are gone")
        return changed

    # --- attributes

    def attribute(self, sap: int, index: int) -> bytes:
        """Return an attribute of a client's security setup, encoded."""
        client = self._clients.get(sap)
        if client is None:
            return axdr.NULL
        match index:
            case 2:
                # A response has what its request had.
                return axdr.encode("enum", policy_bits(client.policy, client.policy | client.response_policy))
            case 3:
                return axdr.encode("enum", client.suite)
            case 4:
                return axdr.octet_string(client.system_title or b"")
            case 5:
                return axdr.octet_string(self._title)
        return axdr.array([self._shown(certificate) for certificate in self._known()])

    def _known(self) -> list[Certificate]:
        return [certificates.read(der) for der in self.identity.certificates]

    def _entity(self, certificate: Certificate) -> Entity:
        if certificate.authority:
            return Entity.AUTHORITY
        if certificate.title == self._title:
            return Entity.SERVER
        known = {client.system_title for client in self._clients.values()}
        return Entity.CLIENT if certificate.title in known else Entity.OTHER

    def _shown(self, certificate: Certificate) -> bytes:
        return axdr.structure(
            axdr.encode("enum", self._entity(certificate)),
            axdr.encode("enum", certificate.use),
            axdr.octet_string(certificate.serial),
            axdr.octet_string(certificate.issuer),
            axdr.octet_string(certificate.subject),
            axdr.octet_string(b""),
        )

    # --- methods

    def act(self, sap: int, method: int, data: bytes | None) -> ActionReply:
        """Call a method of a client's security setup; its caller has the right to."""
        client = self._clients.get(sap)
        call = {
            SECURITY_ACTIVATE: self._activate,
            KEY_TRANSFER: self._transfer,
            KEY_AGREEMENT: self._agree,
            GENERATE_KEY_PAIR: self._generate,
            GENERATE_CERTIFICATE_REQUEST: self._request,
            IMPORT_CERTIFICATE: self._import,
            EXPORT_CERTIFICATE: self._export,
            REMOVE_CERTIFICATE: self._remove,
        }.get(method)
        if client is None or call is None:
            return ActionReply(ActionResult.OBJECT_UNDEFINED)
        try:
            returned = call(client, axdr.decode(data or axdr.NULL))
        except _DeniedError as error:
            return ActionReply(error.result)
        except _MALFORMED:
            return ActionReply(ActionResult.TYPE_UNMATCHED)
        except LocalError:
            return ActionReply(ActionResult.HARDWARE_FAULT)
        return ActionReply(ActionResult.SUCCESS, returned)

    def change_secret(self, sap: int, data: bytes | None) -> ActionReply:
        """Change a client's secret of high level security (class 15 change_HLS_secret)."""
        client = self._clients.get(sap)
        try:
            secret = axdr.decode(data or axdr.NULL)
        except AxdrError:
            secret = None
        if client is None or client.mechanism not in WITH_SECRET:
            return ActionReply(ActionResult.OTHER_REASON)
        most = 16 if client.mechanism == Mechanism.HLS else 64
        if not isinstance(secret, bytes) or not 8 <= len(secret) <= most:
            return ActionReply(ActionResult.TYPE_UNMATCHED)
        try:
            self._keep(msgspec.structs.replace(client, secret=secret), "secret changed")
        except LocalError:
            return ActionReply(ActionResult.HARDWARE_FAULT)
        return ActionReply(ActionResult.SUCCESS)

    def _keep(self, client: ClientProfile, what: str) -> None:
        self._keystore.keep_client(client)
        self._clients[client.sap] = client
        self._changed(client.sap, what)

    def _keep_identity(self, sap: int, identity: Identity, what: str) -> None:
        self._keystore.keep_identity(identity)
        self.identity = identity
        self._changed(sap, what)

    def _activate(self, client: ClientProfile, value: Any) -> None:
        """Make the policy stronger; a weaker one is refused (security_activate)."""
        old = policy_bits(client.policy, client.response_policy)
        if not isinstance(value, int) or value & 0x03 or not 0 <= value <= 0xFF:
            raise _DeniedError(ActionResult.TYPE_UNMATCHED, "not a security policy")
        if value & old != old:
            raise _DeniedError(ActionResult.OTHER_REASON, "a weaker policy")
        request, response = policy_of(value)
        needs_keys = (request | response) & (AUTHENTICATED | ENCRYPTED) and client.keys is None
        needs_pairs = (request | response) & SIGNED and not self._signs(client)
        if needs_keys or needs_pairs:
            raise _DeniedError(ActionResult.OTHER_REASON, "there are no keys for it")
        changed = msgspec.structs.replace(client, policy=request, response_policy=response)
        self._keep(changed, f"security policy {value}")

    def _signs(self, client: ClientProfile) -> bool:
        return bool(client.signing_key) and (Use.SIGNING, client.suite) in self.identity.keys

    def _transfer(self, client: ClientProfile, value: Any) -> None:
        """Take keys wrapped with the master key (key_transfer)."""
        keys = client.keys
        if keys is None or not keys.kek:
            raise _DeniedError(ActionResult.OTHER_REASON, "there is no master key")
        octets = SUITES[client.suite].key_octets
        fresh = {key: suites.unwrap(keys.kek, _octets(wrapped), octets) for key, wrapped in _pairs(value)}
        self._take(client, keys, fresh)

    def _take(self, client: ClientProfile, keys: Keys, fresh: dict[int, bytes]) -> None:
        changed = msgspec.structs.replace(keys, **{_KEY_FIELDS[key]: octets for key, octets in fresh.items()})
        if any(octets in (bytes(len(octets)), b"\xff" * len(octets)) for octets in fresh.values()):
            raise _DeniedError(ActionResult.OTHER_REASON, "a key that anybody would try")
        ciphers = [key for key in (changed.guek, changed.gbek, changed.kek) if key]
        if len(set(ciphers)) < len(ciphers):
            raise _DeniedError(ActionResult.OTHER_REASON, "one key for two purposes")
        # Whoever has the one key could pass for the other client.
        others = {other.keys.guek for other in self._clients.values() if other.keys and other.sap != client.sap}
        if others & {fresh.get(key) for key in (0, 1)} - {keys.guek}:
            raise _DeniedError(ActionResult.OTHER_REASON, "another client has this key")
        names = ", ".join(_KEY_FIELDS[key] for key in sorted(fresh))
        self._keep(msgspec.structs.replace(client, keys=changed), f"keys changed: {names}")

    def _agree(self, client: ClientProfile, value: Any) -> bytes:
        """Agree on keys by the scheme C(2e, 0s) (key_agreement); return the server's part."""
        suite = SUITES[client.suite]
        private = self.identity.keys.get((Use.SIGNING, client.suite))
        keys, title = client.keys, client.system_title
        if private is None or keys is None or title is None:
            raise _DeniedError(ActionResult.OTHER_REASON, "signing keys and system title of both must be known")
        try:
            signer = self.public_key(client, Use.SIGNING)
        except SecurityError as error:
            raise _DeniedError(ActionResult.OTHER_REASON, str(error)) from None
        fresh: dict[int, bytes] = {}
        answers: list[bytes] = []
        half = 2 * suite.coordinate
        for key, part in _pairs(value):
            octets = _octets(part)
            theirs, signature = octets[:half], octets[half:]
            if not suites.verify(suite, signer, signature, bytes((key,)) + theirs):
                raise _DeniedError(ActionResult.OTHER_REASON, "signature is wrong")
            ephemeral = suites.generate(suite, self._random)
            ours = suites.public_of(suite, ephemeral)
            fresh[key] = suites.agree(suite, ephemeral, theirs, title + self._title, master=key == 3)
            proof = suites.sign(suite, private, bytes((key,)) + ours)
            answers.append(axdr.structure(axdr.encode("enum", key), axdr.octet_string(ours + proof)))
        self._take(client, keys, fresh)
        return axdr.array(answers)

    # --- key pairs and certificates

    def _use(self, client: ClientProfile, value: Any) -> tuple[Use, int]:
        if value not in (Use.SIGNING, Use.AGREEMENT):
            raise _DeniedError(ActionResult.TYPE_UNMATCHED, "not a use of a key pair")
        if SUITES[client.suite].curve is None:
            raise _DeniedError(ActionResult.OTHER_REASON, "suite 0 has no key pairs")
        return Use(value), client.suite

    def _generate(self, client: ClientProfile, value: Any) -> None:
        use = self._use(client, value)
        pending = {**self.identity.pending, use: suites.generate(SUITES[client.suite], self._random)}
        changed = msgspec.structs.replace(self.identity, pending=pending)
        self._keep_identity(client.sap, changed, f"{use[0].name.lower()} key pair generated")

    def _request(self, client: ClientProfile, value: Any) -> bytes:
        use = self._use(client, value)
        private = self.identity.pending.get(use) or self.identity.keys.get(use)
        if private is None:
            raise _DeniedError(ActionResult.OTHER_REASON, "no key pair was generated")
        return axdr.octet_string(certificates.request(SUITES[client.suite], private, self._title))

    def _import(self, client: ClientProfile, value: Any) -> None:
        certificate = certificates.read(_octets(value))
        identity, known = self.identity, self._known()
        certificates.check(certificate, known, self._now(), self._tolerance)
        if certificate.der in identity.certificates:
            return
        if len(known) >= _MOST_CERTIFICATES:
            raise _DeniedError(ActionResult.TEMPORARY_FAILURE, "too many certificates")
        keys, pending = dict(identity.keys), dict(identity.pending)
        use = (certificate.use, certificate.suite)
        if self._entity(certificate) == Entity.SERVER:
            suite = SUITES[certificate.suite]
            held = [pair for pair in (pending.get(use), keys.get(use)) if pair]
            fit = [pair for pair in held if suites.public_of(suite, pair) == certificate.point]
            if not fit:
                raise _DeniedError(ActionResult.OTHER_REASON, "it is of no key pair of the server")
            keys[use] = fit[0]
            pending.pop(use, None)
        taken = (*identity.certificates, certificate.der)
        self._exchange(client.sap, certificate, Identity(keys, pending, taken), "certificate imported")

    def _exchange(self, sap: int, certificate: Certificate, identity: Identity, what: str) -> None:
        """Take other certificates, and the public keys that clients now have by them."""
        titles = {certificate.title}
        if certificate.authority:  # what it has issued counts from now on, or no more
            titles = {certificates.read(der).title for der in identity.certificates}
        try:
            fresh = [
                with_certificates(client, identity)
                for client in self._clients.values()
                if client.system_title and client.system_title in titles
            ]
        except ConfigurationError as error:
            raise _DeniedError(ActionResult.OTHER_REASON, str(error)) from None
        self._keep_identity(sap, identity, what)
        self._clients.update((client.sap, client) for client in fresh)

    def _chosen(self, value: Any) -> Certificate:
        """Return the certificate that a certificate_identification names."""
        kind, of = value
        if kind == 0:
            entity, use, title = of
            fit = [
                c
                for c in self._known()
                if (self._entity(c), c.use) == (entity, use) and (c.title == title or c.authority)
            ]
        else:
            serial, issuer = of
            fit = [c for c in self._known() if c.serial.lstrip(b"\0") == _serial(serial) and c.issuer == issuer]
        if not fit:
            raise _DeniedError(ActionResult.OBJECT_UNAVAILABLE, "there is no such certificate")
        return max(fit, key=lambda certificate: certificate.not_after)

    def _export(self, client: ClientProfile, value: Any) -> bytes:
        del client
        return axdr.octet_string(self._chosen(value).der)

    def _remove(self, client: ClientProfile, value: Any) -> None:
        certificate = self._chosen(value)
        rest = tuple(der for der in self.identity.certificates if der != certificate.der)
        changed = msgspec.structs.replace(self.identity, certificates=rest)
        self._exchange(client.sap, certificate, changed, "certificate removed")


def with_certificates(client: ClientProfile, identity: Identity) -> ClientProfile:
    """Return the client with the public keys that its certificates now have."""
    known = [certificates.read(der) for der in identity.certificates]
    own = certificates.of_party(known, client.system_title or b"", client.suite)
    return msgspec.structs.replace(
        client,
        signing_key=certificates.point(own, Use.SIGNING),
        agreement_key=certificates.point(own, Use.AGREEMENT),
        certificates=own,
    )


def _pairs(value: Any) -> list[tuple[int, Any]]:
    """Return key_id and data of each element of an array; raises ValueError or TypeError if it is none."""
    pairs = [(key, data) for key, data in value]
    if not pairs or len({key for key, _ in pairs}) < len(pairs) or any(key not in range(4) for key, _ in pairs):
        raise ValueError("key ids")
    return pairs


def _octets(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("octet-string expected")
    return value


def _serial(value: Any) -> bytes:
    """Return a serial number without leading zeros; some clients send it as a DER INTEGER."""
    octets = _octets(value)
    if octets[:1] == b"\x02" and len(octets) > 2 and octets[1] == len(octets) - 2:
        octets = octets[2:]
    return octets.lstrip(b"\0")
