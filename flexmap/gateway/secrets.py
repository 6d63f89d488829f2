"""Secrets of the DLMS clients and of concentrators' shells: a TOML file of its own, readable by its owner alone.

::

    [reader]                                  # name of a [[dlms.client]]
    password = "…"                            # authentication = "lls"
    encryption_key = "32 hexadecimal digits"  # global unicast encryption key, GUEK
    authentication_key = "32 hexadecimal digits"  # global authentication key, GAK

    [street]                                  # name of a [[source]] of kind "concentrator"
    password = "…"                            # where its shell on TCP wants a login
"""

from __future__ import annotations

import os
import secrets as random
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from flexmap.gateway.config import ConcentratorSection, Config, DlmsClient
from flexmap.model import ConfigurationError

KEY_OCTETS = 16


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client must prove to know, or prove to a shell. Never logged, never shown."""

    password: str = ""
    encryption_key: str = ""
    authentication_key: str = ""

    def __repr__(self) -> str:
        return "Secret(…)"

    def keys(self) -> tuple[bytes, bytes]:
        """Return the encryption and the authentication key."""
        return bytes.fromhex(self.encryption_key), bytes.fromhex(self.authentication_key)


def load(config: Config) -> dict[str, Secret]:
    """Return the secrets of the configuration's clients and sources, by their names.

    Raises ConfigurationError if the file is missing, open to others, or lacks what a client needs.
    """
    needed = [client for client in config.dlms.client if client.authentication != "none"]
    path = config.resolve(config.dlms.secrets)
    if not needed and not (path.exists() and _shells(config)):
        return {}
    name = needed[0].name if needed else ""
    remedy = f"client '{name}' needs it; `flexmap demo --write-config` writes one with fresh keys"
    text = read_private(path, remedy)
    try:
        found = msgspec.toml.decode(text, type=dict[str, Secret])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        remedy = "docs/configuration.md, 'The secrets file', describes the form"
        raise ConfigurationError(str(error), where=str(path), remedy=remedy) from None
    both = _shells(config) & {client.name for client in needed} & found.keys()
    if both:
        what = "is the name of a client and of a source"
        raise ConfigurationError(what, where=f"{path}: [{min(both)}]", remedy="give the source another name")
    for client in needed:
        _check(client, found.get(client.name, Secret()), f"{path}: [{client.name}]")
    _check_apart(needed, found, path)
    return found


def _shells(config: Config) -> set[str]:
    """Return the names of the sources whose shell may want a login."""
    return {
        source.name
        for source in config.sources
        if isinstance(source, ConcentratorSection) and source.port.startswith("tcp:")
    }


def read_private(path: Path, remedy: str) -> bytes:
    """Return the content of a file that its owner alone can read; raises ConfigurationError otherwise."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=remedy) from None
    if mode & 0o077:
        raise ConfigurationError(
            f"mode {mode:03o} lets others read it", where=str(path), remedy=f"chmod 600 {path}"
        )
    return content


def _check_apart(clients: Sequence[DlmsClient], found: Mapping[str, Secret], path: Path) -> None:
    """Refuse one key for two kinds of access: whoever reads could then pass for the one who manages."""
    owners: dict[str, DlmsClient] = {}
    for client in clients:
        key = found[client.name].encryption_key.lower()
        owner = owners.setdefault(key, client) if client.authentication == "hls-gmac" else client
        if owner.access != client.access:
            what = f"encryption_key is that of [{owner.name}], whose access is '{owner.access}'"
            raise ConfigurationError(what, where=f"{path}: [{client.name}]", remedy="give each a key of its own")


def _check(client: DlmsClient, secret: Secret, where: str) -> None:
    if client.authentication == "lls":
        if len(secret.password) < 8:
            raise ConfigurationError("password is missing or shorter than 8 characters", where=where)
        return
    for field in ("encryption_key", "authentication_key"):
        try:
            octets = bytes.fromhex(getattr(secret, field))
        except ValueError:
            octets = b""
        if len(octets) != KEY_OCTETS:
            raise ConfigurationError(f"{field} is not {2 * KEY_OCTETS} hexadecimal digits", where=where)


def fresh(client: DlmsClient) -> Secret:
    """Return a secret of new random keys or a new password for a client."""
    if client.authentication == "lls":
        return Secret(password=random.token_urlsafe(12))
    return Secret(encryption_key=random.token_hex(KEY_OCTETS), authentication_key=random.token_hex(KEY_OCTETS))


def write(path: Path, secrets: dict[str, Secret]) -> None:
    """Write a new secrets file with mode 0600. Raises ConfigurationError if the file is there already."""
    lines = ["# Secrets of the DLMS clients. Keep this file readable by its owner alone (mode 0600).", ""]
    for name, secret in secrets.items():
        lines.append(f"[{name}]")
        lines += [f'{field} = "{value}"' for field, value in msgspec.structs.asdict(secret).items() if value]
        lines.append("")
    write_private(path, "\n".join(lines))


def write_private(path: Path, text: str) -> None:
    """Write a new file with mode 0600. Raises ConfigurationError if it is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError("is there already", where=str(path), remedy="remove it or name another") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write: {error.strerror}", where=str(path)) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
