"""Certificates of suites 1 and 2 (IEC 62056-5-3 clause 5.6): X.509 version 3, named by system titles.

The common name of a server's or client's certificate is its system title in sixteen hexadecimal digits; key usage
says what its key is for. All are issued by certification authorities that are known already: a certificate whose
authority is no longer known, or has expired, does not count either (RFC 5280).
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Sequence

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flexmap.dlms import suite as suites
from flexmap.dlms.identity import Use
from flexmap.dlms.suite import SUITES, Suite
from flexmap.model.error import RemoteError

MOST_OCTETS = 4096
"""Octets of a certificate that is taken in."""


class CertificateError(RemoteError):
    """A certificate that cannot be taken."""


class Entity(enum.IntEnum):
    """Whose certificate it is (certificate_entity of class 64)."""

    SERVER = 0
    CLIENT = 1
    AUTHORITY = 2
    OTHER = 3


class Certificate(msgspec.Struct, frozen=True):
    """What counts of a certificate."""

    der: bytes
    authority: bool
    use: Use
    suite: int
    point: bytes
    """Its public key, ``x ‖ y``."""
    title: bytes
    """System title that the common name gives; empty if it is none."""
    serial: bytes
    """Serial number, big-endian."""
    issuer: bytes
    """Name as DER, as is ``subject``."""
    subject: bytes
    not_before: float
    not_after: float
    """Seconds since 1970 UTC."""


def read(der: bytes) -> Certificate:
    """Return what counts of a certificate; raises CertificateError."""
    if len(der) > MOST_OCTETS:
        raise CertificateError(f"certificate of {len(der)} octets")
    try:
        found = x509.load_der_x509_certificate(der)
        key = found.public_key()
        use, authority = _purpose(found)
        serial = found.serial_number
        subject, issuer = found.subject, found.issuer
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise CertificateError(f"not a certificate: {error}") from None
    return Certificate(
        der,
        authority,
        use,
        _suite_of(key),
        _point_of(key),
        _title(subject),
        serial.to_bytes((serial.bit_length() + 8) // 8, "big"),
        issuer.public_bytes(),
        subject.public_bytes(),
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
    )


def _suite_of(key: object) -> int:
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "none"
    suite = next((s.id for s in SUITES if s.curve is not None and s.curve.name == curve), None)
    if suite is None:
        raise CertificateError(f"its curve, {curve}, is of no security suite")
    return suite


def _point_of(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError("its key is not of an elliptic curve")
    return suites.point_of(key)


def _purpose(certificate: x509.Certificate) -> tuple[Use, bool]:
    """Return what a certificate's key is for, and whether it is an authority's; raises CertificateError."""
    unknown = [e.oid.dotted_string for e in certificate.extensions
               if e.critical and isinstance(e.value, x509.UnrecognizedExtension)]  # fmt: skip
    if unknown:
        raise CertificateError(f"it has a critical extension that is not known: {unknown[0]}")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise CertificateError("it does not say what its key is for (key usage)") from None
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if usage.key_cert_sign != authority:
        raise CertificateError("key usage and basic constraints do not agree on whether it is an authority's")
    if not (authority or usage.digital_signature or usage.key_agreement):
        raise CertificateError("its key is for neither signatures nor key agreement (key usage)")
    return Use.SIGNING if authority or usage.digital_signature else Use.AGREEMENT, authority


def _title(name: x509.Name) -> bytes:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = common[0].value if len(common) == 1 else ""
    try:
        title = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        title = b""
    return title if len(title) == 8 else b""


def valid(certificate: Certificate, now: float, tolerance: float = 0.0) -> bool:
    """Tell whether it is valid at a time, give or take some seconds: clocks are not all right."""
    return certificate.not_before - tolerance <= now <= certificate.not_after + tolerance


def check(certificate: Certificate, known: Sequence[Certificate], now: float, tolerance: float = 0.0) -> None:
    """Raise CertificateError unless an authority that is known has issued it and both are valid now."""
    if not valid(certificate, now, tolerance):
        raise CertificateError("it is not valid now")
    trusted = _trusted(certificate, known)
    if trusted is None or not valid(trusted, now, tolerance):
        raise CertificateError("no known certification authority has issued it")


def _trusted(certificate: Certificate, known: Sequence[Certificate]) -> Certificate | None:
    """Return a certificate with the period in which its authority is valid too; ``None`` without a known one."""
    candidate = x509.load_der_x509_certificate(certificate.der)
    issuers = [c for c in known if c.authority and c.subject == certificate.issuer]
    for authority in sorted(issuers, key=lambda c: c.not_after, reverse=True):
        try:
            candidate.verify_directly_issued_by(x509.load_der_x509_certificate(authority.der))
        except (InvalidSignature, ValueError, TypeError):
            continue
        return msgspec.structs.replace(
            certificate,
            not_before=max(certificate.not_before, authority.not_before),
            not_after=min(certificate.not_after, authority.not_after),
        )
    return None


def of_party(known: Sequence[Certificate], title: bytes, suite: int) -> tuple[Certificate, ...]:
    """Return the certificates of a party that known authorities have issued, the one valid longest first.

    Their periods are those in which their authority is valid too.
    """
    own = [c for c in known if not c.authority and title and (c.title, c.suite) == (title, suite)]
    trusted = [found for found in (_trusted(c, known) for c in own) if found is not None]
    return tuple(sorted(trusted, key=lambda c: c.not_after, reverse=True))


def point(own: Iterable[Certificate], use: Use) -> bytes:
    """Return the public key of the first certificate for a use; empty without one."""
    return next((c.point for c in own if c.use == use), b"")


def request(suite: Suite, private: bytes, title: bytes) -> bytes:
    """Return a certificate signing request (PKCS #10) for the holder of a system title, as DER."""
    key = suites.private_key(suite, private)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title.hex().upper())])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, _hash(suite), ecdsa_deterministic=True).public_bytes(serialization.Encoding.DER)


def read_request(der: bytes) -> tuple[bytes, int, bytes]:
    """Return system title, suite and public key of a certificate signing request; raises CertificateError."""
    try:
        found = x509.load_der_x509_csr(der)
        key, genuine = found.public_key(), found.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"not a certificate signing request: {error}") from None
    title = _title(found.subject)
    if not genuine or not title:
        raise CertificateError("its signature is wrong, or its common name is not a system title")
    return title, _suite_of(key), _point_of(key)


def _hash(suite: Suite) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if suite.id == 2 else hashes.SHA256()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    name: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: float, random: Callable[[int], bytes]
) -> x509.CertificateBuilder:
    start = dt.datetime.fromtimestamp(int(now), dt.UTC)
    serial = int.from_bytes(random(16), "big") >> 1 | 1
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start - dt.timedelta(minutes=5))
        .not_valid_after(start + dt.timedelta(days=days))
    )


def _key_usage(*, signature: bool = False, agreement: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=agreement,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority(suite: Suite, private: bytes, name: str, now: float, random: Callable[[int], bytes]) -> bytes:
    """Return the self-signed certificate of a certification authority, valid for 20 years, as DER."""
    key = suites.private_key(suite, private)
    builder = _builder(_name(name), key.public_key(), now, 20 * 365.25, random).issuer_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    signed = builder.sign(key, _hash(suite), ecdsa_deterministic=True)
    return signed.public_bytes(serialization.Encoding.DER)


def issue(
    authority: Certificate,
    private: bytes,
    *,
    title: bytes,
    use: Use,
    point: bytes,
    now: float,
    random: Callable[[int], bytes],
    days: float = 5 * 365.25,
) -> bytes:
    """Return the certificate that an authority gives to the holder of a system title and a key, as DER."""
    suite = SUITES[authority.suite]
    issuer = x509.load_der_x509_certificate(authority.der).subject
    key = suites.public_key(suite, point)
    builder = _builder(_name(title.hex().upper()), key, now, days, random).issuer_name(issuer)
    usage = _key_usage(signature=use == Use.SIGNING, agreement=use == Use.AGREEMENT)
    builder = builder.add_extension(usage, critical=True)
    signed = builder.sign(suites.private_key(suite, private), _hash(suite), ecdsa_deterministic=True)
    return signed.public_bytes(serialization.Encoding.DER)
