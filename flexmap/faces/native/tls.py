"""TLS of the MMS face (IEC 62351-3, -4): mutual, with revocation lists and a list of peers; OpenSSL by Twisted.

A context is made anew when a file that it comes from has changed: a new revocation list holds from the next
connection on. Keys are renewed by new sessions: a connection ends after ``session`` seconds.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from flexmap.faces.mms import TlsSettings
from flexmap.model import ConfigurationError

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK"
"""Of TLS 1.2: forward secrecy and authenticated encryption alone; those of 1.3 are all of that kind."""
_DEPTH = 5
_SESSION_CONTEXT = b"flexmap-mms"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint of a certificate, hexadecimal."""
    return certificate.fingerprint(SHA256()).hex()


def make_context(settings: TlsSettings) -> SSL.Context:
    """Return OpenSSL's context; raises ConfigurationError naming the file that is at fault."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(VERSIONS[settings.minimum])
    context.set_max_proto_version(VERSIONS[settings.maximum])
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_cipher_list(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_SESSION_CONTEXT)
    first, *between = _read(settings.certificate, x509.load_pem_x509_certificates)
    context.use_certificate(crypto.X509.from_cryptography(first))
    for each in between:
        context.add_extra_chain_cert(crypto.X509.from_cryptography(each))
    key = crypto.PKey.from_cryptography_key(_read(settings.key, _private_key))
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        remedy = f"give the key of the first certificate in {settings.certificate}"
        raise ConfigurationError(
            "not the key of the certificate", where=str(settings.key), remedy=remedy
        ) from None
    store = context.get_cert_store()
    if store is None:
        raise ConfigurationError("OpenSSL has no store of certificates", where=str(settings.authorities))
    for authority in _read(settings.authorities, x509.load_pem_x509_certificates):
        store.add_cert(crypto.X509.from_cryptography(authority))
    if settings.revoked is not None:
        for each in _read(settings.revoked, _revocation_lists):
            store.add_crl(each)
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    context.set_verify_depth(_DEPTH)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept(settings.peers))
    return context


def _accept(peers: frozenset[str]) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    def accept(_connection: SSL.Connection, found: crypto.X509, _error: int, depth: int, good: int) -> bool:
        if not good or depth or not peers:
            return bool(good)
        return fingerprint(found.to_cryptography()) in peers

    return accept


def _private_key(octets: bytes) -> Any:
    return load_pem_private_key(octets, None)


def _revocation_lists(octets: bytes) -> list[x509.CertificateRevocationList]:
    mark = b"-----BEGIN X509 CRL-----"
    found = [x509.load_pem_x509_crl(mark + part) for part in octets.split(mark)[1:]]
    if not found:
        raise ValueError("no revocation list")
    return found


def _read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    remedy = "give a file in PEM"
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError("is not what it should be", where=str(path), remedy=remedy) from None


@implementer(IOpenSSLServerConnectionCreator)
class TlsContext:
    """Makes the TLS side of each connection, from the files as they now are."""

    def __init__(self, settings: TlsSettings, complain: Callable[[str], None]) -> None:
        """Read the files; raises ConfigurationError. ``complain`` is told when they can not be read any more."""
        self._settings = settings
        self._complain = complain
        self._seen = self._times()
        self._context = make_context(settings)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:  # noqa: N802, N803, ARG002 (Twisted's)
        """Return a connection in OpenSSL's sense."""
        times = self._times()
        if times != self._seen:
            self._seen = times
            try:
                self._context = make_context(self._settings)
            except ConfigurationError as error:
                self._complain(f"TLS goes on with what it had: {error}")
        return SSL.Connection(self._context, None)

    def _times(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in self._settings.files)


def why_refused(error: object) -> str:
    """Return why a handshake failed, for the log."""
    arguments = getattr(error, "args", ())
    if isinstance(error, SSL.Error) and arguments and isinstance(arguments[0], list) and arguments[0]:
        return str(arguments[0][-1][-1])
    return str(error)


def client_context(authorities: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a client's context: it checks the server against ``authorities``, its name apart."""
    try:
        context = ssl.create_default_context(cafile=str(authorities))
        context.check_hostname = False  # IEC 61850 servers are known by certificate, not by name
        if certificate is not None:
            context.load_cert_chain(str(certificate), None if key is None else str(key))
    except (OSError, ssl.SSLError) as error:
        remedy = "give files in PEM"
        raise ConfigurationError(f"TLS: {error}", where=f"{authorities}, {certificate}", remedy=remedy) from None
    return context
