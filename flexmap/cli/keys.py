"""`flexmap keys`: what DLMS clients prove themselves with, and the gateway's own key pairs and certificates."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from flexmap.cli import output
from flexmap.dlms import certificates, suite
from flexmap.dlms.certificates import Certificate, CertificateError
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.security import key_id
from flexmap.dlms.suite import SUITES
from flexmap.gateway import config as configuration
from flexmap.gateway import identity as identities
from flexmap.gateway import secrets
from flexmap.gateway.config import Config
from flexmap.gateway.secrets import KEY_FIELDS, NEXT_FIELDS, Secret
from flexmap.gateway.sections import DlmsClient
from flexmap.model import ConfigurationError

_CONFIG = click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
_CERTIFICATE = ("Certificate", "Suite", "For", "Valid until", "Fingerprint")
_USES = {use.name.lower(): use for use in Use}


@click.group()
def keys() -> None:
    """Make, show and rotate the keys of DLMS clients; certificates of suites 1 and 2."""


@keys.command()
@_CONFIG
def make(config: Path) -> None:
    """Make what CONFIG needs and is not there: secrets of clients, key pairs of the gateway."""
    loaded = configuration.load(config)
    path = loaded.resolve(loaded.dlms.secrets)
    fresh = {c.name: secrets.fresh(c) for c in loaded.dlms.client if secrets.needs_secret(c)}
    if fresh and not path.exists():
        secrets.write(path, fresh)
        click.echo(f"wrote {path}: {', '.join(fresh)}")
    elif fresh:
        missing = {name: secret for name, secret in fresh.items() if name not in secrets.read(path)}
        for name, secret in missing.items():
            secrets.change(path, name, _unless_there(secret))
            click.echo(f"added [{name}] to {path}")
    _make_pairs(loaded)


def _unless_there(fresh: Secret) -> Callable[[Secret], Secret]:
    return lambda there: fresh if there == Secret() else there


def _make_pairs(config: Config) -> None:
    suites = sorted({client.suite for client in config.dlms.client if client.suite})
    path = config.resolve(config.dlms.identity)
    with secrets.alone(path):
        identity = _identity(path)
        pairs = {
            (use, id_): suite.generate(SUITES[id_], random.token_bytes)
            for id_ in suites
            for use in Use
            if (use, id_) not in identity.keys
        }
        if pairs:
            identities.write(path, msgspec.structs.replace(identity, keys={**identity.keys, **pairs}))
    if pairs:
        named = ", ".join(f"{use.name.lower()} of suite {id_}" for use, id_ in pairs)
        click.echo(f"wrote {path}: key pairs for {named}")


def _identity(path: Path) -> Identity:
    return identities.read(path, "") if path.exists() else Identity()


@keys.command()
@_CONFIG
def show(config: Path) -> None:
    """Show what there is: of keys their fingerprints, never the keys."""
    loaded = configuration.load(config)
    found = secrets.load(loaded)
    rows: list[list[object]] = []
    for client in loaded.dlms.client:
        rows += _shown(client, found.get(client.name, Secret()))
    output.show(("Client", "SAP", "Suite", "Secret", "Fingerprint"), rows, as_json=False)
    identity = _identity(loaded.resolve(loaded.dlms.identity))
    own = [
        ["server", id_, f"{state}{use.name.lower()}", key_id(suite.public_of(SUITES[id_], private))]
        for state, pairs in (("", identity.keys), ("pending ", identity.pending))
        for (use, id_), private in pairs.items()
    ]
    if own:
        output.show(("Owner", "Suite", "Key pair", "Fingerprint"), own, as_json=False)
    known = [certificates.read(der) for der in identity.certificates]
    if known:
        output.show(_CERTIFICATE, [_row(c) for c in known], as_json=False)


def _shown(client: DlmsClient, secret: Secret) -> list[list[object]]:
    head: list[object] = [client.name, client.sap, client.suite]
    held = [(field, getattr(secret, field)) for field in KEY_FIELDS + NEXT_FIELDS]
    rows = [[*head, field, key_id(bytes.fromhex(text))] for field, text in held if text]
    if secret.password:
        rows.insert(0, [*head, "password", "set"])
    return rows or [[*head, "none", ""]]


def _row(certificate: Certificate) -> list[object]:
    until = time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after))
    owner = "authority" if certificate.authority else certificate.title.hex().upper()
    return [owner, certificate.suite, certificate.use.name.lower(), until, key_id(certificate.point)]


@keys.command()
@_CONFIG
@click.argument("client")
def rotate(config: Path, client: str) -> None:
    """Make new keys for CLIENT. The old ones hold until it first uses the new ones, then they are gone.

    The new keys are printed wrapped with the client's master key (RFC 3394), for the head-end; without a master
    key they are only in the secrets file. flexmap takes notice of them when it starts.
    """
    loaded = configuration.load(config)
    found = secrets.load(loaded)
    entry = next((c for c in loaded.dlms.client if c.name == client), None)
    if entry is None or not found.get(client, Secret()).encryption_key:
        known = ", ".join(name for name, secret in found.items() if secret.encryption_key)
        what = f"there is no client '{client}' with keys"
        raise ConfigurationError(what, where=str(config), remedy=f"known: {known}")
    fresh = [random.token_bytes(SUITES[entry.suite].key_octets) for _ in NEXT_FIELDS]
    fields = {field: key.hex() for field, key in zip(NEXT_FIELDS, fresh, strict=True)}
    path = loaded.resolve(loaded.dlms.secrets)
    secrets.change(path, client, lambda there: msgspec.structs.replace(there, **fields))
    click.echo(f"new keys of '{client}' are in {path}; restart flexmap, then give them to the head-end")
    if found[client].next_encryption_key:
        click.echo("  those made before and not used yet are void", err=True)
    kek = bytes.fromhex(found[client].master_key)
    for field, key in zip(NEXT_FIELDS, fresh, strict=True):
        wrapped = suite.wrap(kek, key).hex().upper() if kek else "no master key: see the secrets file"
        click.echo(f"  {field.removeprefix('next_')} {key_id(key)}: {wrapped}")


@keys.command(name="import")
@_CONFIG
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_command(config: Path, files: tuple[Path, ...]) -> None:
    """Take certificates (PEM or DER): those of authorities, and others that a known authority issued."""
    loaded = configuration.load(config)
    path = loaded.resolve(loaded.dlms.identity)
    with secrets.alone(path):
        identity = _identity(path)
        for file in files:
            der = identities.decode(file.read_bytes(), str(file))
            certificate = certificates.read(der)
            identity = _taken(identity, certificate, file, bytes.fromhex(loaded.dlms.system_title))
            click.echo(f"{file}: {' '.join(map(str, _row(certificate)))}")
        identities.write(path, identity)
    click.echo("flexmap takes notice of them when it starts")


def _taken(identity: Identity, certificate: Certificate, file: Path, title: bytes) -> Identity:
    known = [certificates.read(der) for der in identity.certificates]
    if not certificate.authority:
        try:
            certificates.check(certificate, known, time.time())
        except CertificateError as error:
            remedy = "import the authority's certificate first"
            raise ConfigurationError(str(error), where=str(file), remedy=remedy) from None
    use = (certificate.use, certificate.suite)
    held, pending = dict(identity.keys), dict(identity.pending)
    if certificate.title == title:
        fit = [p for p in (pending.get(use), held.get(use)) if p]
        fit = [p for p in fit if suite.public_of(SUITES[certificate.suite], p) == certificate.point]
        if not fit:
            remedy = "`flexmap keys request` makes the request for one of its own"
            raise ConfigurationError("is of no key pair of this gateway", where=str(file), remedy=remedy)
        held[use] = fit[0]
        if pending.get(use) == fit[0]:
            del pending[use]
    rest = tuple(der for der in identity.certificates if der != certificate.der)
    return Identity(held, pending, (*rest, certificate.der))


@keys.command()
@_CONFIG
@click.option("--suite", "suite_id", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--use", type=click.Choice(list(_USES)), default="signing", show_default=True)
def request(config: Path, suite_id: int, use: str) -> None:
    """Print a certificate signing request (PEM) for a key pair of the gateway, to be given to an authority."""
    loaded = configuration.load(config)
    path = loaded.resolve(loaded.dlms.identity)
    identity, of = _identity(path), (_USES[use], suite_id)
    private = identity.pending.get(of) or identity.keys.get(of)
    if private is None:
        what = f"there is no {use} key of suite {suite_id}"
        raise ConfigurationError(what, where=str(path), remedy="`flexmap keys make` makes those that clients need")
    der = certificates.request(SUITES[suite_id], private, bytes.fromhex(loaded.dlms.system_title))
    click.echo(identities.pem(der, "CERTIFICATE REQUEST"), nl=False)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--suite", "suite_id", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--name", default="flexmap test authority", show_default=True)
def authority(file: Path, suite_id: int, name: str) -> None:
    """Make a certification authority for tests: FILE has its private key, its certificate is printed."""
    if file.exists():
        raise ConfigurationError("is there already", where=str(file), remedy="remove it or name another")
    private = suite.generate(SUITES[suite_id], random.token_bytes)
    der = certificates.make_authority(SUITES[suite_id], private, name, time.time(), random.token_bytes)
    identities.write(file, Identity({(Use.SIGNING, suite_id): private}, {}, (der,)))
    click.echo(identities.pem(der), nl=False)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("request_file", metavar="REQUEST", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--use", type=click.Choice(list(_USES)), default="signing", show_default=True)
def issue(file: Path, request_file: Path, use: str) -> None:
    """Print the certificate that the authority in FILE gives for a signing request, valid for 5 years."""
    held = identities.read(file, "`flexmap keys authority` makes one")
    own = [certificates.read(der) for der in held.certificates]
    try:
        title, suite_id, point = certificates.read_request(
            identities.der_of(request_file.read_bytes(), str(request_file))
        )
    except CertificateError as error:
        raise ConfigurationError(str(error), where=str(request_file)) from None
    issuer = next((certificate for certificate in own if certificate.authority), None)
    private = held.keys.get((Use.SIGNING, suite_id))
    if issuer is None or private is None:
        raise ConfigurationError(f"is no authority for suite {suite_id}", where=str(file))
    der = certificates.issue(
        issuer,
        private,
        title=title,
        use=_USES[use],
        point=point,
        now=time.time(),
        random=random.token_bytes,
    )
    click.echo(identities.pem(der), nl=False)
