"""DLMS clients of the configuration, as the protocol core knows them."""

from __future__ import annotations

from collections.abc import Mapping

from flexmap.dlms import security
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.security import Keys
from flexmap.gateway.config import DlmsClient
from flexmap.gateway.secrets import Secret

ROLES = {"public": Role.PUBLIC, "read": Role.READER, "manage": Role.MANAGEMENT}
MECHANISMS = {"none": Mechanism.NONE, "lls": Mechanism.LLS, "hls-gmac": Mechanism.HLS_GMAC}
PROTECTIONS = {
    "none": 0,
    "authenticated": security.AUTHENTICATED,
    "authenticated-encrypted": security.AUTHENTICATED_ENCRYPTED,
}


def client_profile(client: DlmsClient, secrets: Mapping[str, Secret]) -> ClientProfile:
    """Return a client's rights, and what it has to prove."""
    secret = secrets.get(client.name, Secret())
    mechanism = MECHANISMS[client.authentication]
    return ClientProfile(
        sap=client.sap,
        name=client.name,
        role=ROLES[client.access],
        mechanism=mechanism,
        secret=secret.password.encode() if mechanism == Mechanism.LLS else b"",
        keys=Keys(*secret.keys()) if mechanism == Mechanism.HLS_GMAC else None,
        policy=PROTECTIONS[client.protection],
    )
