"""Security suites 0, 1 and 2, with the asymmetric algorithms of suites 1 and 2 (IEC 62056-5-3 clause 5.3).

| suite | authenticated encryption | digital signature | key agreement | hash | key transport |
|---|---|---|---|---|---|
| 0 | AES-GCM-128 | – | – | – | AES-128 key wrap |
| 1 | AES-GCM-128 | ECDSA with P-256 | ECDH with P-256 | SHA-256 | AES-128 key wrap |
| 2 | AES-GCM-256 | ECDSA with P-384 | ECDH with P-384 | SHA-384 | AES-256 key wrap |

Public keys are ``x ‖ y`` and signatures ``r ‖ s``, both of twice the octets of a coordinate; private keys are a
coordinate's octets, big-endian. Signatures are deterministic (RFC 6979): they need no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from flexmap.model.error import LocalError, RemoteError


class KeyAgreementError(RemoteError):
    """A peer's public key or wrapped key is none."""


class Suite(NamedTuple):
    """What one security suite uses."""

    id: int
    key_octets: int
    """Octets of encryption, authentication and master key."""
    algorithm_id: bytes
    """AlgorithmID of the key derivation for encryption and authentication keys: 2.16.756.5.8.3.n."""
    wrap_id: bytes
    """AlgorithmID for master keys."""
    coordinate: int = 0
    """Octets of a coordinate of the curve; 0 without a curve."""
    curve: ec.EllipticCurve | None = None
    hash: hashes.HashAlgorithm | None = None
    order: int = 0
    """Order of the curve's group."""


_ALGORITHM = bytes.fromhex("608574050803")
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_ORDER = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
)

SUITES = (
    Suite(0, 16, _ALGORITHM + b"\x00", _ALGORITHM + b"\x02"),
    Suite(1, 16, _ALGORITHM + b"\x00", _ALGORITHM + b"\x02", 32, ec.SECP256R1(), hashes.SHA256(), _P256_ORDER),
    Suite(2, 32, _ALGORITHM + b"\x01", _ALGORITHM + b"\x03", 48, ec.SECP384R1(), hashes.SHA384(), _P384_ORDER),
)
"""By their id."""


def _curve(suite: Suite) -> tuple[ec.EllipticCurve, hashes.HashAlgorithm]:
    if suite.curve is None or suite.hash is None:
        raise LocalError(f"security suite {suite.id} has no elliptic curve")
    return suite.curve, suite.hash


def public_key(suite: Suite, point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of ``x ‖ y``; raises KeyAgreementError if the point is not on the suite's curve."""
    curve, _ = _curve(suite)
    if len(point) != 2 * suite.coordinate:
        raise KeyAgreementError(f"public key of {len(point)} octets")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + point)
    except ValueError:
        raise KeyAgreementError("public key is not a point of the curve") from None


def private_key(suite: Suite, scalar: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key of a scalar, big-endian."""
    curve, _ = _curve(suite)
    number = int.from_bytes(scalar, "big")
    if not 0 < number < suite.order:
        raise LocalError("private key is out of range")
    return ec.derive_private_key(number, curve)


def generate(suite: Suite, random: Callable[[int], bytes]) -> bytes:
    """Return a fresh private key (FIPS 186-5 A.2.1: 64 bits more than the order has)."""
    _curve(suite)
    number = int.from_bytes(random(suite.coordinate + 8), "big") % (suite.order - 1) + 1
    return number.to_bytes(suite.coordinate, "big")


def public_of(suite: Suite, scalar: bytes) -> bytes:
    """Return the public key ``x ‖ y`` of a private key."""
    return point_of(private_key(suite, scalar).public_key())


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return ``x ‖ y`` of a public key."""
    numbers = key.public_numbers()
    octets = (key.curve.key_size + 7) // 8
    return numbers.x.to_bytes(octets, "big") + numbers.y.to_bytes(octets, "big")


def sign(suite: Suite, scalar: bytes, octets: bytes) -> bytes:
    """Return the signature ``r ‖ s`` of octets under a private key."""
    _, digest = _curve(suite)
    der = private_key(suite, scalar).sign(octets, ec.ECDSA(digest, deterministic_signing=True))
    r, s = decode_dss_signature(der)
    return r.to_bytes(suite.coordinate, "big") + s.to_bytes(suite.coordinate, "big")


def verify(suite: Suite, point: bytes, signature: bytes, octets: bytes) -> bool:
    """Tell whether ``r ‖ s`` is the signature of octets under a public key."""
    _, digest = _curve(suite)
    if len(signature) != 2 * suite.coordinate:
        return False
    r, s = (
        int.from_bytes(signature[: suite.coordinate], "big"),
        int.from_bytes(signature[suite.coordinate :], "big"),
    )
    try:
        public_key(suite, point).verify(encode_dss_signature(r, s), octets, ec.ECDSA(digest))
    except (InvalidSignature, KeyAgreementError):
        return False
    return True


def agree(suite: Suite, scalar: bytes, point: bytes, other_info: bytes, *, master: bool = False) -> bytes:
    """Return the key (a ``master`` key or another) that a private and a peer's public key agree on.

    ``other_info``: what stands behind the AlgorithmID in the key derivation (NIST SP 800-56A 5.8.1.1): system
    titles of party U and V, with a nonce of U between them in the scheme C(0e, 2s). Raises KeyAgreementError.
    """
    _, digest = _curve(suite)
    shared = private_key(suite, scalar).exchange(ec.ECDH(), public_key(suite, point))
    algorithm = suite.wrap_id if master else suite.algorithm_id
    return ConcatKDFHash(digest, suite.key_octets, algorithm + other_info).derive(shared)


def wrap(kek: bytes, key: bytes) -> bytes:
    """Return a key wrapped with the master key (RFC 3394)."""
    return keywrap.aes_key_wrap(kek, key)


def unwrap(kek: bytes, wrapped: bytes, octets: int) -> bytes:
    """Return the key of that many octets that was wrapped with the master key; raises KeyAgreementError."""
    try:
        key = keywrap.aes_key_unwrap(kek, wrapped)
    except (keywrap.InvalidUnwrap, ValueError):
        raise KeyAgreementError("wrapped key does not unwrap under the master key") from None
    if len(key) != octets:
        raise KeyAgreementError(f"wrapped key of {len(key)} octets, {octets} expected")
    return key
