"""What client and server prove in passes 3 and 4 of high level security (IEC 62056-5-3 clause 5.3.3, Table 8).

Each side answers the other's challenge with f(challenge):

| mechanism | f(StoC) of the client; f(CtoS) of the server with the parties exchanged |
|---|---|
| 2 manufacturer | AES-128-ECB of the challenge, both filled up with zeros, under the secret |
| 3 MD5 | MD5(StoC ‖ secret) |
| 4 SHA-1 | SHA-1(StoC ‖ secret) |
| 5 GMAC | security control ‖ invocation counter ‖ GMAC(security control ‖ authentication key ‖ StoC) |
| 6 SHA-256 | SHA-256(secret ‖ client title ‖ server title ‖ StoC ‖ CtoS) |
| 7 ECDSA | ECDSA(client title ‖ server title ‖ StoC ‖ CtoS) |

Mechanism 2 is each manufacturer's own; this one is what Gurux's and dlms-cosem's clients do. MD5 and SHA-1 are in
the standard for old meters: they are here to talk to old head-ends, not because they are good.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from flexmap.dlms import suite as suites
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.security import Ciphering
from flexmap.dlms.suite import Suite
from flexmap.model.error import LocalError

LEAST_CHALLENGE, MOST_CHALLENGE = 8, 64
"""Octets of a challenge."""
CHALLENGE_OCTETS = 16
SIGNED_CHALLENGE_OCTETS = 32
"""Least octets of a challenge with ECDSA."""


class Side(msgspec.Struct, frozen=True):
    """One side of an authentication: its system title and the challenge that it set."""

    title: bytes
    challenge: bytes


class Proof(Protocol):
    """One mechanism in the hands of one side."""

    def answer(self, own: Side, peer: Side) -> bytes:
        """Return f(peer's challenge)."""

    def check(self, own: Side, peer: Side, answer: bytes) -> bool:
        """Tell whether ``answer`` is the peer's f(own challenge)."""


def acceptable(mechanism: int, own: bytes, theirs: bytes) -> bool:
    """Tell whether a peer's challenge has a fit length and is not ours, reflected."""
    least = SIGNED_CHALLENGE_OCTETS if mechanism == Mechanism.HLS_ECDSA else LEAST_CHALLENGE
    return least <= len(theirs) <= MOST_CHALLENGE and not hmac.compare_digest(own, theirs)


def challenge_octets(mechanism: int) -> int:
    """Return how long our own challenges are."""
    return SIGNED_CHALLENGE_OCTETS if mechanism == Mechanism.HLS_ECDSA else CHALLENGE_OCTETS


class SecretProof:
    """Mechanisms 2, 3, 4 and 6: both sides know a secret."""

    def __init__(self, mechanism: int, secret: bytes) -> None:
        self._mechanism = mechanism
        self._secret = secret

    def answer(self, own: Side, peer: Side) -> bytes:
        """Return f(peer's challenge)."""
        return self._function(own, peer)

    def check(self, own: Side, peer: Side, answer: bytes) -> bool:
        """Tell whether ``answer`` is the peer's f(own challenge)."""
        return hmac.compare_digest(self._function(peer, own), answer)

    def _function(self, prover: Side, verifier: Side) -> bytes:
        challenge, secret = verifier.challenge, self._secret
        match self._mechanism:
            case Mechanism.HLS:
                return _manufacturer(challenge, secret)
            case Mechanism.HLS_MD5:
                return hashlib.md5(challenge + secret, usedforsecurity=False).digest()
            case Mechanism.HLS_SHA1:
                return hashlib.sha1(challenge + secret, usedforsecurity=False).digest()
            case Mechanism.HLS_SHA256:
                titles = prover.title + verifier.title
                return hashlib.sha256(secret + titles + challenge + prover.challenge).digest()
        raise LocalError(f"mechanism {self._mechanism} has no shared secret")


def _manufacturer(challenge: bytes, secret: bytes) -> bytes:
    """Return the challenge under AES-128-ECB; zeros fill secret and challenge up to whole blocks."""
    blocks = -(-len(challenge) // 16) * 16
    # ECB of a random block that is sent in clear hides nothing and need not: it proves knowledge of the secret.
    encryptor = Cipher(algorithms.AES(secret.ljust(16, b"\0")), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(challenge.ljust(blocks, b"\0")) + encryptor.finalize()


class GmacProof:
    """Mechanism 5: both sides know the global keys. Our challenge is fresh, so an answer is no replay."""

    def __init__(self, ciphering: Ciphering) -> None:
        self._ciphering = ciphering

    def answer(self, own: Side, peer: Side) -> bytes:
        """Return f(peer's challenge); uses up one invocation counter."""
        del own
        return self._ciphering.answer_challenge(peer.challenge)

    def check(self, own: Side, peer: Side, answer: bytes) -> bool:
        """Tell whether ``answer`` is the peer's f(own challenge)."""
        return self._ciphering.check_answer(peer.title, own.challenge, answer)


class SignatureProof:
    """Mechanism 7: each side has a key pair and knows the other's public key."""

    def __init__(self, suite: Suite, private: bytes, peer_public: bytes) -> None:
        self._suite = suite
        self._private = private
        self._peer_public = peer_public

    def answer(self, own: Side, peer: Side) -> bytes:
        """Return f(peer's challenge)."""
        return suites.sign(self._suite, self._private, _signed(own, peer))

    def check(self, own: Side, peer: Side, answer: bytes) -> bool:
        """Tell whether ``answer`` is the peer's f(own challenge)."""
        return suites.verify(self._suite, self._peer_public, answer, _signed(peer, own))


def _signed(prover: Side, verifier: Side) -> bytes:
    return prover.title + verifier.title + verifier.challenge + prover.challenge
