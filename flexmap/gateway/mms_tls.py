"""TLS of the MMS face: from the configuration to what the engine needs."""

from __future__ import annotations

from flexmap.faces.mms import TlsSettings
from flexmap.faces.native.tls import make_context
from flexmap.gateway.config import Config
from flexmap.model import ConfigurationError


def tls_settings(config: Config) -> TlsSettings | None:
    """Return the settings of the TLS port, None where there is none.

    Raises ConfigurationError if a file is not what it should be, or others than its owner can read the key.
    """
    section = config.mms.tls
    if section is None:
        return None
    key = config.resolve(section.key)
    if key.exists() and key.stat().st_mode & 0o077:
        raise ConfigurationError("others can read it", where=str(key), remedy=f"chmod 600 {key}")
    settings = TlsSettings(
        host=section.host,
        port=section.port,
        certificate=config.resolve(section.certificate),
        key=key,
        authorities=config.resolve(section.authorities),
        revoked=config.resolve(section.revoked) if section.revoked else None,
        peers=frozenset(peer.replace(":", "").lower() for peer in section.peers),
        minimum=section.minimum,
        maximum=section.maximum,
        session=section.session,
    )
    make_context(settings)
    return settings
