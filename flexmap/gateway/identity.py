"""Key pairs of the server and all certificates, for suites 1 and 2: a TOML file readable by its owner alone.

::

    [keys]
    signing_1 = "64 hexadecimal digits"       # private keys: use and suite; suite 2: 96 digits
    agreement_1 = "64 hexadecimal digits"
    [pending]                                 # generated, their certificates not yet imported
    signing_1 = "64 hexadecimal digits"
    [[certificate]]                           # of authorities, the server and clients
    pem = "-----BEGIN CERTIFICATE-----…"
"""

from __future__ import annotations

import base64
import textwrap
from pathlib import Path

import msgspec

from flexmap.dlms import certificates, suite
from flexmap.dlms.certificates import CertificateError
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.suite import SUITES
from flexmap.gateway.config import Config
from flexmap.gateway.secrets import read_private, replace_private
from flexmap.gateway.sections import DlmsClient
from flexmap.model import ConfigurationError, LocalError


class _Pem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pem: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: dict[str, str] = {}
    pending: dict[str, str] = {}
    certificate: tuple[_Pem, ...] = ()


_NAMES = {f"{use.name.lower()}_{id_}": (use, id_) for use in Use for id_ in (1, 2)}


def load(config: Config) -> Identity:
    """Return the key pairs and certificates of a configuration; none if nobody needs them and there is no file."""
    path = config.resolve(config.dlms.identity)
    needed = [client for client in config.dlms.client if client.suite and _signs(client)]
    if not needed and not path.exists():
        return Identity()
    names = ", ".join(f"'{client.name}'" for client in needed)
    identity = read(path, remedy=f"client {names} needs it: `flexmap keys make` writes one")
    known = [certificates.read(der) for der in identity.certificates]
    for client in needed:
        where = f"{path}: suite {client.suite}"
        if (Use.SIGNING, client.suite) not in identity.keys:
            remedy = "`flexmap keys make` makes one"
            raise ConfigurationError("there is no signing key of the server", where=where, remedy=remedy)
        own = certificates.of_party(known, bytes.fromhex(client.system_title), client.suite)
        if not certificates.point(own, Use.SIGNING):
            what = (
                f"there is no certificate of client '{client.name}' ({client.system_title}) for signatures "
                "that a known authority issued"
            )
            raise ConfigurationError(what, where=where, remedy="`flexmap keys import` adds both")
    return identity


def _signs(client: DlmsClient) -> bool:
    return client.authentication == "hls-ecdsa" or client.signatures != "none"


def read(path: Path, remedy: str) -> Identity:
    """Return what an identity file holds; raises ConfigurationError that names the entry."""
    try:
        file = msgspec.toml.decode(read_private(path, remedy), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        form = "docs/configuration.md, 'The identity file', describes the form"
        raise ConfigurationError(str(error), where=str(path), remedy=form) from None
    keys, pending = _keys(file.keys, f"{path}: [keys]"), _keys(file.pending, f"{path}: [pending]")
    entries = enumerate(file.certificate, 1)
    found = tuple(decode(entry.pem.encode(), f"{path}: [[certificate]] {number}") for number, entry in entries)
    return Identity(keys, pending, found)


def _keys(table: dict[str, str], where: str) -> dict[tuple[Use, int], bytes]:
    keys: dict[tuple[Use, int], bytes] = {}
    for name, text in table.items():
        if name not in _NAMES:
            raise ConfigurationError(f"'{name}' is not known", where=where, remedy=f"known: {', '.join(_NAMES)}")
        use, id_ = _NAMES[name]
        try:
            keys[use, id_] = bytes.fromhex(text)
            suite.public_of(SUITES[id_], keys[use, id_])
            fit = len(keys[use, id_]) == SUITES[id_].coordinate
        except (ValueError, LocalError):
            fit = False
        if not fit:
            what = f"{name} is not a private key of {2 * SUITES[id_].coordinate} hexadecimal digits"
            raise ConfigurationError(what, where=where)
    return keys


def decode(octets: bytes, where: str) -> bytes:
    """Return a certificate, given as PEM or DER, as DER; raises ConfigurationError."""
    try:
        return certificates.read(der_of(octets, where)).der
    except CertificateError as error:
        raise ConfigurationError(str(error), where=where) from None


def der_of(octets: bytes, where: str) -> bytes:
    """Return PEM as DER, and DER as it is; raises ConfigurationError."""
    text = octets.decode("ascii", errors="replace").strip()
    if not text.startswith("-----BEGIN "):
        return octets
    body = text.partition("\n")[2].partition("-----END ")[0]
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise ConfigurationError("is not PEM", where=where) from None


def pem(der: bytes, what: str = "CERTIFICATE") -> str:
    """Return a certificate, or ``what`` it is, as PEM."""
    body = textwrap.fill(base64.b64encode(der).decode(), 64)
    return f"-----BEGIN {what}-----\n{body}\n-----END {what}-----\n"


def write(path: Path, identity: Identity) -> None:
    """Write an identity file with mode 0600, in the place of one that is there. Raises ConfigurationError."""
    lines = [
        "# Key pairs of the server, and certificates. Keep this file readable by its owner alone (mode 0600)."
    ]
    for table, keys in (("keys", identity.keys), ("pending", identity.pending)):
        named = {name: keys[of] for name, of in _NAMES.items() if of in keys}
        lines += ["", f"[{table}]", *(f'{name} = "{key.hex()}"' for name, key in named.items())]
    for der in identity.certificates:
        lines += ["", "[[certificate]]", f'pem = """\n{pem(der)}"""']
    replace_private(path, "\n".join([*lines, ""]))
