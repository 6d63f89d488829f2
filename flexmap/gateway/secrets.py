"""Secrets of the DLMS clients and of concentrators' shells: a TOML file of its own, readable by its owner alone.

::

    [reader]                                  # name of a [[dlms.client]]
    password = "…"                            # of "lls", and the secret of "hls", "hls-md5", -sha1 and -sha256
    encryption_key = "32 hexadecimal digits"  # global unicast encryption key, GUEK; suite 2: 64 digits each
    authentication_key = "32 hexadecimal digits"  # global authentication key, GAK
    broadcast_key = "32 hexadecimal digits"   # global broadcast encryption key, GBEK; may be left out
    master_key = "32 hexadecimal digits"      # KEK, under which new keys are transferred; may be left out
    policy = 108                              # security policy that the client has activated
    next_encryption_key = "…"                 # keys that `flexmap keys rotate` made: they take the place of the
    next_authentication_key = "…"             # others when the client first uses them

    [street]                                  # name of a [[source]] of kind "concentrator"
    password = "…"                            # where its shell on TCP wants a login
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets as random
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from flexmap.dlms.security import Keys
from flexmap.dlms.suite import SUITES
from flexmap.gateway.config import Config
from flexmap.gateway.sections import ConcentratorSection, DlmsClient
from flexmap.model import ConfigurationError
from flexmap.store.files import replace_file

NEEDS_PASSWORD = {"lls", "hls", "hls-md5", "hls-sha1", "hls-sha256"}
KEY_FIELDS = ("encryption_key", "authentication_key", "broadcast_key", "master_key")
NEXT_FIELDS = ("next_encryption_key", "next_authentication_key")


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client must prove to know, or prove to a shell. Never logged, never shown."""

    password: str = ""
    encryption_key: str = ""
    authentication_key: str = ""
    broadcast_key: str = ""
    master_key: str = ""
    next_encryption_key: str = ""
    next_authentication_key: str = ""
    policy: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    """Security policy (class 64) that was activated beyond what the configuration asks for."""

    def __repr__(self) -> str:
        return "Secret(…)"

    def keys(self, suite: int) -> Keys | None:
        """Return the keys, ``None`` if there are none."""
        if not self.encryption_key:
            return None
        guek, gak, gbek, kek = (bytes.fromhex(getattr(self, field)) for field in KEY_FIELDS)
        return Keys(guek, gak, suite, gbek, kek)

    def next_keys(self, suite: int) -> Keys | None:
        """Return the keys that are to come, ``None`` if there are none."""
        if not self.next_encryption_key:
            return None
        following = msgspec.structs.replace(
            self, encryption_key=self.next_encryption_key, authentication_key=self.next_authentication_key
        )
        return following.keys(suite)


def load(config: Config) -> dict[str, Secret]:
    """Return the secrets of the configuration's clients and sources, by their names.

    Raises ConfigurationError if the file is missing, open to others, or lacks what a client needs.
    """
    needed = [client for client in config.dlms.client if needs_secret(client)]
    path = config.resolve(config.dlms.secrets)
    if not needed and not (path.exists() and _shells(config)):
        return {}
    name = needed[0].name if needed else ""
    found = read(path, f"client '{name}' needs it; `flexmap keys make` writes one with fresh keys")
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
        owner = owners.setdefault(key, client) if key else client
        if owner.access != client.access:
            what = f"encryption_key is that of [{owner.name}], whose access is '{owner.access}'"
            raise ConfigurationError(what, where=f"{path}: [{client.name}]", remedy="give each a key of its own")


def needs_secret(client: DlmsClient) -> bool:
    """Tell whether a client has an entry in the secrets file."""
    return client.authentication in NEEDS_PASSWORD or needs_keys(client)


def needs_keys(client: DlmsClient) -> bool:
    """Tell whether a client must have symmetric keys."""
    ciphered = client.protection != "none" or client.responses != "none"
    return client.authentication == "hls-gmac" or ciphered


def _check(client: DlmsClient, secret: Secret, where: str) -> None:
    most = 16 if client.authentication == "hls" else 64
    if client.authentication in NEEDS_PASSWORD and not 8 <= len(secret.password.encode()) <= most:
        raise ConfigurationError(f"password is missing, or has not 8 to {most} octets", where=where)
    octets = SUITES[client.suite].key_octets
    needed: tuple[str, ...] = KEY_FIELDS[:2] if needs_keys(client) or secret.encryption_key else ()
    needed += NEXT_FIELDS if any(getattr(secret, field) for field in NEXT_FIELDS) else ()
    for field in KEY_FIELDS + NEXT_FIELDS:
        text = getattr(secret, field)
        try:
            fit = len(bytes.fromhex(text)) == octets
        except ValueError:
            fit = False
        if not fit and (text or field in needed):
            what = f"{field} is not {2 * octets} hexadecimal digits"
            remedy = f"suite {client.suite} of client '{client.name}' has keys of {octets} octets"
            raise ConfigurationError(what, where=where, remedy=remedy)
    for field in ("broadcast_key", "master_key"):
        if secret.encryption_key and getattr(secret, field).lower() == secret.encryption_key.lower():
            remedy = "give each a key of its own"
            raise ConfigurationError(f"{field} is the encryption_key too", where=where, remedy=remedy)


def fresh(client: DlmsClient) -> Secret:
    """Return a secret of new random keys or a new password for a client, or both."""
    octets = SUITES[client.suite].key_octets
    password = random.token_urlsafe(12) if client.authentication in NEEDS_PASSWORD else ""
    if not needs_keys(client):
        return Secret(password=password)
    encryption, authentication, master = (random.token_hex(octets) for _ in range(3))
    return Secret(password, encryption, authentication, "", master)


def write(path: Path, secrets: dict[str, Secret]) -> None:
    """Write a new secrets file with mode 0600. Raises ConfigurationError if the file is there already."""
    write_private(path, _text(secrets))


def change(path: Path, name: str, changed: Callable[[Secret], Secret]) -> None:
    """Change one entry of a secrets file: the others stay, the file is never half written.

    ``changed`` takes the entry as it now is, empty if there is none. Raises ConfigurationError if the file cannot
    be read or written.
    """
    with alone(path):
        found = read(path)
        replace_private(path, _text({**found, name: changed(found.get(name, Secret()))}))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from changing files of that folder meanwhile: `flexmap keys` and a running server.

    Raises ConfigurationError if there is no such folder.
    """
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError(f"cannot write: {error.strerror}", where=str(path)) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def read(path: Path, remedy: str = "") -> dict[str, Secret]:
    """Return the entries of a secrets file, unchecked; raises ConfigurationError if it cannot be read."""
    text = read_private(path, remedy)
    try:
        return msgspec.toml.decode(text, type=dict[str, Secret])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        remedy = "docs/configuration.md, 'The secrets file', describes the form"
        raise ConfigurationError(str(error), where=str(path), remedy=remedy) from None


def _text(secrets: Mapping[str, Secret]) -> str:
    lines = ["# Secrets of the DLMS clients. Keep this file readable by its owner alone (mode 0600).", ""]
    for name, secret in secrets.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _basic_string(name)
        lines.append(f"[{key}]")
        fields = msgspec.structs.asdict(secret).items()
        lines += [f"{field} = {_basic_string(value)}" for field, value in fields if value]
        lines.append("")
    return "\n".join(lines)


def _basic_string(value: str | int) -> str:
    """Return a string or number as TOML has it: as JSON does, but for DEL, which must be escaped."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


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


def replace_private(path: Path, text: str) -> None:
    """Put a file with mode 0600 in the place of another: after a power cut one of the two is there, whole.

    A link stays: the file that it leads to is replaced. Raises ConfigurationError.
    """
    path = path.resolve()
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise ConfigurationError(f"cannot write: {error.strerror}", where=str(path)) from None
