"""Who may associate, how, and the limits that protect the server: plain settings."""

from __future__ import annotations

import enum

import msgspec

from flexmap.dlms.acse import Mechanism
from flexmap.dlms.security import Keys
from flexmap.model.error import ConfigurationError

PUBLIC_SAP, READER_SAP, MANAGEMENT_SAP = 16, 2, 1


class Role(enum.IntFlag):
    """What kind of client an access right is for."""

    NOBODY = 0
    PUBLIC = 1
    READER = 2
    MANAGEMENT = 4


EVERYONE = Role.PUBLIC | Role.READER | Role.MANAGEMENT
AUTHENTICATED = Role.READER | Role.MANAGEMENT


class ClientProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One client SAP: its rights and how it proves itself."""

    sap: int
    name: str
    role: Role
    mechanism: Mechanism = Mechanism.NONE
    """NONE, LLS or HLS_GMAC."""
    secret: bytes = b""
    """LLS secret."""
    keys: Keys | None = None
    """Suite 0 keys; needed for HLS_GMAC and for ciphering."""
    policy: int = 0
    """Protection every APDU must have: security.AUTHENTICATED, ENCRYPTED, both, or 0.

    Whatever is protected must be authenticated, and an association keeps the protection that it was opened with.
    """
    system_title: bytes | None = None
    """The only client system title let in; ``None`` lets in any that holds the keys."""

    def __post_init__(self) -> None:
        """Refuse settings that would leave the client unproven."""
        if self.mechanism not in (Mechanism.NONE, Mechanism.LLS, Mechanism.HLS_GMAC):
            raise ConfigurationError(
                f"mechanism {self.mechanism.name} is not known", remedy="use none, lls or hls-gmac"
            )
        if self.mechanism == Mechanism.LLS and not self.secret:
            raise ConfigurationError(f"client '{self.name}' has no secret", remedy="give one for lls")
        if self.keys is None and (self.mechanism == Mechanism.HLS_GMAC or self.policy):
            raise ConfigurationError(f"client '{self.name}' has no keys", remedy="give guek and gak")

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
    max_unproven_datagram: int = 128
    """``max_unproven`` on UDP, where a peer's address can be forged: a reply is then no weapon against another."""


class EventKind(enum.StrEnum):
    """What happened to an association."""

    OPENED = "opened"
    REFUSED = "refused"
    RELEASED = "released"
    SECURITY_FAILURE = "security-failure"
    PROTOCOL_ERROR = "protocol-error"


class AssociationEvent(msgspec.Struct, frozen=True):
    """Something for the log; never carries a secret."""

    kind: EventKind
    client_sap: int
    server_sap: int
    reason: str = ""
