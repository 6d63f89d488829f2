"""Who may associate, how, and the limits that protect the server: plain settings."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from flexmap.dlms.acse import Mechanism
from flexmap.dlms.certificates import Certificate
from flexmap.dlms.security import SIGNED, Keys
from flexmap.model.error import ConfigurationError

WITH_SECRET = frozenset({Mechanism.HLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256})
"""Mechanisms of high level security in which both sides know a secret."""
WITH_TITLE = frozenset({Mechanism.HLS_GMAC, Mechanism.HLS_SHA256, Mechanism.HLS_ECDSA})
"""Mechanisms that take in the system titles."""

PUBLIC_SAP, READER_SAP, MANAGEMENT_SAP = 16, 2, 1


class Role(enum.IntFlag):
    """What kind of client an access right is for."""

    NOBODY = 0
    PUBLIC = 1
    READER = 2
    MANAGEMENT = 4


EVERYONE = Role.PUBLIC | Role.READER | Role.MANAGEMENT
AUTHENTICATED = Role.READER | Role.MANAGEMENT


class Grant(NamedTuple):
    """What a client may use: an object, or of it one attribute or one method."""

    logical_name: bytes
    attribute: int = 0
    """0: all attributes, unless a method is named."""
    method: int = 0
    """0: all methods, unless an attribute is named."""


class ClientProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One client SAP: its rights and how it proves itself."""

    sap: int
    name: str
    role: Role
    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = b""
    """Secret of LLS and of the mechanisms in WITH_SECRET."""
    suite: int = 0
    """Security suite."""
    keys: Keys | None = None
    """Symmetric keys of the suite; needed for HLS_GMAC and for ciphering."""
    next_keys: Keys | None = None
    """Keys that take the place of ``keys`` as soon as the client opens an association with them."""
    signing_key: bytes = b""
    """The client's public key for signatures, ``x ‖ y``; needed for HLS_ECDSA and for signed APDUs."""
    agreement_key: bytes = b""
    """The client's public key for key agreement, ``x ‖ y``; needed to answer with an agreed key."""
    certificates: tuple[Certificate, ...] = ()
    """What vouches for the two, the one valid longest first: a key counts while a certificate of it is valid.

    Without any the keys count for ever.
    """
    scope: tuple[Grant, ...] = ()
    """All that there is for this client, within the rights of its role; empty: all that its role may use."""
    policy: int = 0
    """Protection every request must have: security.AUTHENTICATED, ENCRYPTED, both, or 0; SIGNED too.

    Whatever is protected must be authenticated, and an association keeps the protection that it was opened with.
    """
    response_policy: int = 0
    """Protection every response has at least; it has that of its request anyway."""
    system_title: bytes | None = None
    """The only client system title let in; ``None`` lets in any that holds the keys."""
    pre_established: bool = False
    """Its associations are open without AARQ, and never released."""
    third_parties: frozenset[bytes] = frozenset()
    """System titles of those whose messages it may pass on, signed or under keys agreed on with them."""
    notify: frozenset[bytes] = frozenset()
    """Attributes, nine octets each, of whose changes it is told unasked if it negotiates that."""

    def __post_init__(self) -> None:
        """Refuse settings that would leave the client unproven."""
        needs_secret = self.mechanism == Mechanism.LLS or self.mechanism in WITH_SECRET
        needs_keys = self.mechanism == Mechanism.HLS_GMAC or (self.policy | self.response_policy) & 0x30
        needs_certificate = self.mechanism == Mechanism.HLS_ECDSA or self.policy & SIGNED
        if needs_secret and not self.secret:
            raise self._lacks("secret", f"give one for {self.mechanism.name}")
        if needs_keys and self.keys is None:
            raise self._lacks("keys", "give guek and gak")
        if needs_certificate and not self.signing_key:
            raise self._lacks("signing key", "give the certificate of its public key")
        if any(keys is not None and keys.suite != self.suite for keys in (self.keys, self.next_keys)):
            raise ConfigurationError(f"client '{self.name}': keys of another suite than {self.suite}")
        if self.pre_established and self.policy and self.system_title is None:
            raise self._lacks("system title", "a pre-established association has no AARQ that could bring one")

    def _lacks(self, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"client '{self.name}' has no {what}", remedy=remedy)

    def __repr__(self) -> str:
        """Never show a secret."""
        return f"ClientProfile({self.sap}, {self.name!r})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client can make the server hold."""

    max_pdu: int = 0xFFFF
    """Largest APDU received or sent."""
    max_unproven: int = 0xFFFF
    """Largest APDU sent to a client that proves nothing."""
    max_associations: int = 4096
    """Associations open at once on one connection."""
    max_all_associations: int = 1 << 16
    """Associations open at once on all connections; on all UDP peers it is a quarter of that."""
    max_unproven_associations: int = 1 << 13
    """Associations that no secret has opened, on all connections; the oldest makes room for a new one."""
    max_list: int = 256
    """Attributes or methods that one request names."""
    max_long_value: int = 1 << 18
    """Octets of a value that comes in blocks."""
    max_replies: int = 1 << 16
    """Octets of replies that one ``receive`` makes before it waits for them to be written."""
    max_requests: int = 256
    """Requests that one ``receive`` answers before others have their turn."""
    max_datagram_peers: int = 4096
    """UDP peers whose associations are kept; the one silent longest makes room, unproven ones first."""
    proven_release: bool = False
    """Where requests must be protected, so must be the release: on UDP, where anybody could send one."""
    max_unproven_datagram: int = 128
    """``max_unproven`` on UDP, where a peer's address can be forged: a reply is then no weapon against another."""


class EventKind(enum.StrEnum):
    """What happened to an association."""

    OPENED = "opened"
    REFUSED = "refused"
    RELEASED = "released"
    CHANGED = "security-changed"
    DENIED = "denied"
    """A SET or ACTION without the right to it; the association stays."""
    SECURITY_FAILURE = "security-failure"
    PROTOCOL_ERROR = "protocol-error"


class Threat(enum.IntEnum):
    """What belongs in the security log, with the event codes that IDIS and DSMR give it."""

    NONE = 0
    AUTHENTICATION_FAILURE = 46
    KEYS_CHANGED = 48
    DECRYPTION_FAILURE = 49
    REPLAY = 50


class AssociationEvent(msgspec.Struct, frozen=True):
    """Something for the log; never carries a secret."""

    kind: EventKind
    client_sap: int
    server_sap: int
    reason: str = ""
    threat: Threat = Threat.NONE
