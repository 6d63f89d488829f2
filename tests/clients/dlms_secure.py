"""Clients of every mechanism and suite for the toy server, and what each of them knows."""

from __future__ import annotations

from functools import cache

from dlms_toy import TITLE

from flexmap.dlms import general, suite
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.authentication import SecretProof, SignatureProof
from flexmap.dlms.general import Header, KeyChoice, KeyInfo, Scheme
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, ShortLivedCounterStore
from flexmap.dlms.suite import SUITES

MECHANISMS = {
    Mechanism.NONE: 20,
    Mechanism.LLS: 30,
    Mechanism.HLS: 40,
    Mechanism.HLS_MD5: 50,
    Mechanism.HLS_SHA1: 60,
    Mechanism.HLS_GMAC: 70,
    Mechanism.HLS_SHA256: 80,
    Mechanism.HLS_ECDSA: 90,
}
"""First client SAP of each mechanism; the suite is added."""
SECRET = b"0123456789abcdef"


def sap_of(mechanism: Mechanism, suite_id: int) -> int:
    return MECHANISMS[mechanism] + suite_id


def keys_of(suite_id: int) -> Keys:
    octets = SUITES[suite_id].key_octets
    guek, gak, gbek, kek = (
        bytes(range(first + suite_id, first + suite_id + octets)) for first in (0x10, 0x40, 0x70, 0xA0)
    )
    return Keys(guek, gak, suite_id, gbek, kek)


@cache
def private_of(who: str, suite_id: int) -> bytes:
    """Return the private key of ``client`` or ``server`` for ``signing`` or ``agreement``: "client signing"."""
    return suite.generate(SUITES[suite_id], lambda count: (who.encode() * count)[:count])


def public_of(who: str, suite_id: int) -> bytes:
    return suite.public_of(SUITES[suite_id], private_of(who, suite_id))


def identity() -> Identity:
    return Identity(
        {(use, suite_id): private_of(f"server {use.name.lower()}", suite_id) for use in Use for suite_id in (1, 2)}
    )


def profile_of(mechanism: Mechanism, suite_id: int, **changes: object) -> ClientProfile:
    settings: dict[str, object] = {
        "sap": sap_of(mechanism, suite_id),
        "name": f"{mechanism.name} {suite_id}",
        "role": Role.PUBLIC if mechanism == Mechanism.NONE else Role.MANAGEMENT,
        "mechanism": mechanism,
        "secret": SECRET,
        "suite": suite_id,
        "keys": keys_of(suite_id),
    }
    if suite_id:
        settings["signing_key"] = public_of("client signing", suite_id)
        settings["agreement_key"] = public_of("client agreement", suite_id)
    return ClientProfile(**(settings | changes))


def all_clients() -> dict[int, ClientProfile]:
    """Every mechanism with every suite that it can have."""
    pairs = [(mechanism, suite_id) for mechanism in MECHANISMS for suite_id in (0, 1, 2)]
    profiles = [profile_of(*pair) for pair in pairs if pair != (Mechanism.HLS_ECDSA, 0)]
    return {profile.sap: profile for profile in profiles}


def proof_of(mechanism: Mechanism, suite_id: int) -> SecretProof | SignatureProof | None:
    """Return what a client proves itself with, where it is not the ciphering."""
    if mechanism == Mechanism.HLS_ECDSA:
        return SignatureProof(
            SUITES[suite_id], private_of("client signing", suite_id), public_of("server signing", suite_id)
        )
    return SecretProof(mechanism, SECRET) if mechanism >= Mechanism.HLS else None


class Party:
    """A client's side of general-ciphering and general-signing, written from the standard's text."""

    def __init__(self, title: bytes, suite_id: int, server: bytes = TITLE) -> None:
        self.title, self.server = title, server
        self.suite = SUITES[suite_id]
        self.keys = keys_of(suite_id)
        self.transaction = 0

    def header(self) -> Header:
        self.transaction += 1
        return Header(self.transaction.to_bytes(8, "big"), self.title, self.server)

    def _private(self, use: str) -> bytes:
        return private_of(f"client {use}", self.suite.id)

    def _peer(self, use: str) -> bytes:
        return public_of(f"server {use}", self.suite.id)

    def _cipher(self, key: bytes, title: bytes) -> Ciphering:
        return Ciphering(Keys(key, self.keys.gak, self.suite.id), title, ShortLivedCounterStore(first=0))

    # --- requests

    def wrapped(self, plain: bytes, key: bytes | None = None, control: int = AUTHENTICATED_ENCRYPTED) -> bytes:
        key = key or bytes(range(self.suite.key_octets))
        info = KeyInfo(KeyChoice.WRAPPED, 0, suite.wrap(self.keys.kek, key))
        return self._keyed(self.header(), info, key, plain, control)

    def one_pass(self, plain: bytes, control: int = AUTHENTICATED_ENCRYPTED) -> bytes:
        ephemeral = suite.generate(self.suite, lambda count: b"\x2a" * count)
        point = suite.public_of(self.suite, ephemeral)
        data = point + suite.sign(self.suite, self._private("signing"), point)
        key = suite.agree(self.suite, ephemeral, self._peer("agreement"), self.title + self.server)
        info = KeyInfo(KeyChoice.AGREED, Scheme.ONE_PASS, data)
        return self._keyed(self.header(), info, key, plain, control)

    def static(self, plain: bytes, control: int = AUTHENTICATED_ENCRYPTED) -> bytes:
        header = self.header()
        key = self._static_key(self.title, header.transaction, self.server)
        return self._keyed(header, KeyInfo(KeyChoice.AGREED, Scheme.STATIC), key, plain, control)

    def identified(self, plain: bytes, ciphering: Ciphering, control: int = AUTHENTICATED_ENCRYPTED) -> bytes:
        header = self.header()
        body = ciphering.protect(control, plain, header.encode())
        return general.encode_ciphering(header, KeyInfo(KeyChoice.IDENTIFIED), body)

    def signed(self, content: bytes) -> bytes:
        header = self.header()
        signature = suite.sign(self.suite, self._private("signing"), general.signed_part(header, content))
        return general.encode_signing(header, content, signature)

    def _static_key(self, party_u: bytes, nonce: bytes, party_v: bytes) -> bytes:
        info = party_u + bytes((len(nonce),)) + nonce + party_v
        return suite.agree(self.suite, self._private("agreement"), self._peer("agreement"), info)

    def _keyed(self, header: Header, info: KeyInfo, key: bytes, plain: bytes, control: int) -> bytes:
        body = self._cipher(key, self.title).protect(control, plain, header.encode())
        return general.encode_ciphering(header, info, body)

    # --- responses

    def read(self, apdu: bytes, ciphering: Ciphering | None = None) -> bytes:
        """Return the content of a general-ciphering response, checked in every part."""
        answer = general.decode_ciphering(apdu)
        assert (answer.header.originator, answer.header.recipient) == (self.server, self.title)
        assert answer.header.transaction == self.transaction.to_bytes(8, "big")
        assert answer.key
        if answer.key.choice == KeyChoice.IDENTIFIED:
            assert ciphering
            return ciphering.unprotect(self.server, answer.content, AUTHENTICATED_ENCRYPTED, answer.octets)[1]
        if answer.key.choice == KeyChoice.WRAPPED:
            key = suite.unwrap(self.keys.kek, answer.key.data, self.suite.key_octets)
        elif answer.key.id == Scheme.STATIC:
            key = self._static_key(self.server, answer.header.transaction, self.title)
        else:
            half = 2 * self.suite.coordinate
            point, signature = answer.key.data[:half], answer.key.data[half:]
            assert suite.verify(self.suite, self._peer("signing"), signature, point)
            key = suite.agree(self.suite, self._private("agreement"), point, self.server + self.title)
        side = self._cipher(key, self.title)
        return side.unprotect(self.server, answer.content, AUTHENTICATED_ENCRYPTED, answer.octets)[1]

    def verified(self, apdu: bytes) -> bytes:
        """Return the content of a general-signing response whose signature is right."""
        answer = general.decode_signing(apdu)
        assert suite.verify(self.suite, self._peer("signing"), answer.signature, answer.signed)
        assert (answer.header.originator, answer.header.recipient) == (self.server, self.title)
        return answer.content
