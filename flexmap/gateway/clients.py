"""DLMS clients of the configuration, as the protocol core knows them, and what outlives them of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexmap.dlms import certificates, classes, security
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.objects import attribute_key
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.setup import policy_bits, policy_of
from flexmap.faces.dlms.objects import METER_LOGS, event_code_name
from flexmap.gateway import identity as identities
from flexmap.gateway import secrets as files
from flexmap.gateway.config import Config
from flexmap.gateway.secrets import Secret
from flexmap.gateway.sections import DlmsClient, parse_grant
from flexmap.model import ConfigurationError, LocalError

ROLES = {"public": Role.PUBLIC, "read": Role.READER, "manage": Role.MANAGEMENT}
MECHANISMS = {
    "none": Mechanism.NONE,
    "lls": Mechanism.LLS,
    "hls": Mechanism.HLS,
    "hls-md5": Mechanism.HLS_MD5,
    "hls-sha1": Mechanism.HLS_SHA1,
    "hls-gmac": Mechanism.HLS_GMAC,
    "hls-sha256": Mechanism.HLS_SHA256,
    "hls-ecdsa": Mechanism.HLS_ECDSA,
}
PROTECTIONS = {
    "none": 0,
    "authenticated": security.AUTHENTICATED,
    "authenticated-encrypted": security.AUTHENTICATED_ENCRYPTED,
}
_EVENT_CODES = {log.name.lower(): attribute_key(classes.DATA, event_code_name(log), 2) for log in METER_LOGS}
"""The attribute that changes with each event of a log."""
_NO_IDENTITY = Identity()


def client_profile(
    client: DlmsClient, secrets: Mapping[str, Secret], identity: Identity = _NO_IDENTITY
) -> ClientProfile:
    """Return a client's rights, and what it has to prove."""
    secret = secrets.get(client.name, Secret())
    title = bytes.fromhex(client.system_title)
    known = [certificates.read(der) for der in identity.certificates] if client.suite and title else []
    own = certificates.of_party(known, title, client.suite)
    request, response = (a | b for a, b in zip(policy_of(secret.policy), _policies(client), strict=True))
    return ClientProfile(
        sap=client.sap,
        name=client.name,
        role=ROLES[client.access],
        mechanism=MECHANISMS[client.authentication],
        secret=secret.password.encode(),
        suite=client.suite,
        keys=secret.keys(client.suite),
        next_keys=secret.next_keys(client.suite),
        signing_key=certificates.point(own, Use.SIGNING),
        agreement_key=certificates.point(own, Use.AGREEMENT),
        certificates=own,
        scope=tuple(parse_grant(text, f"client '{client.name}'") for text in client.only),
        policy=request,
        response_policy=response,
        system_title=title or None,
        pre_established=client.pre_established,
        third_parties=frozenset(bytes.fromhex(third) for third in client.third_parties),
        notify=frozenset(_EVENT_CODES[log] for log in client.notify),
    )


def _policies(client: DlmsClient) -> tuple[int, int]:
    """Return the protection that the configuration asks for of requests and of responses."""
    request = security.SIGNED if client.signatures != "none" else 0
    response = security.SIGNED if client.signatures == "both" else 0
    return PROTECTIONS[client.protection] | request, PROTECTIONS[client.responses] | response


class FileKeystore:
    """Keeps what head-ends change (class 64) in the secrets file and the identity file."""

    def __init__(self, config: Config, identity: Identity = _NO_IDENTITY) -> None:
        """``identity``: what the identity file held when the server took it."""
        self._known = identity
        self._secrets: Path = config.resolve(config.dlms.secrets)
        self._identity: Path = config.resolve(config.dlms.identity)
        self._configured = {client.name: policy_bits(*_policies(client)) for client in config.dlms.client}

    def keep_client(self, client: ClientProfile) -> None:
        """Keep secret, keys and policy of a client; raises LocalError."""
        keys = client.keys
        try:
            fields = {"password": client.secret.decode()} if client.secret else {}
            if keys is not None:
                octets = (keys.guek, keys.gak, keys.gbek, keys.kek)
                fields |= {name: key.hex() for name, key in zip(files.KEY_FIELDS, octets, strict=True)}
            policy = policy_bits(client.policy, client.response_policy) & ~self._configured.get(client.name, 0)

            def changed(secret: Secret) -> Secret:
                used = keys is not None and secret.next_encryption_key.lower() == keys.guek.hex()
                gone = dict.fromkeys(files.NEXT_FIELDS, "") if used else {}
                return msgspec.structs.replace(secret, policy=policy, **fields, **gone)

            files.change(self._secrets, client.name, changed)
        except (ConfigurationError, UnicodeDecodeError) as error:
            raise LocalError(f"cannot keep the change: {error}") from None

    def keep_identity(self, identity: Identity) -> None:
        """Keep key pairs and certificates of the server; raises LocalError."""
        try:
            with files.alone(self._identity):
                identities.write(self._identity, self._merged(identity))
        except ConfigurationError as error:
            raise LocalError(f"cannot keep the change: {error}") from None
        self._known = identity

    def _merged(self, identity: Identity) -> Identity:
        """Return the server's identity with what others have put into the file since the server took it."""
        if not self._identity.exists():
            return identity
        there, known = identities.read(self._identity, ""), self._known
        old = {*known.certificates, *identity.certificates}
        return Identity(
            {of: key for of, key in there.keys.items() if of not in known.keys} | dict(identity.keys),
            {of: key for of, key in there.pending.items() if of not in known.pending} | dict(identity.pending),
            identity.certificates + tuple(der for der in there.certificates if der not in old),
        )
