"""general-ciphering and general-signing APDUs as octets (IEC 62056-5-3 clause 8.5).

Both begin with the same five fields; the header is their encoding with lengths, as tag and signature cover it::

    general-ciphering  0xDD  header  [key-info]  ciphered-content
    general-signing    0xDF  header  content     signature
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from flexmap.dlms.apdu import Tag
from flexmap.dlms.axdr import AxdrError, encode_length, take_octet_string, take_octets

TITLE_OCTETS = 8
MOST_FIELD = 32
"""Octets of a field of the header; the longest that is used is a date-time of 12."""


class KeyChoice(enum.IntEnum):
    """Choices of Key-Info."""

    IDENTIFIED = 0
    WRAPPED = 1
    AGREED = 2


class Scheme(enum.IntEnum):
    """Key agreement schemes of an agreed key (key-parameters)."""

    ONE_PASS = 1
    """C(1e, 1s): an ephemeral key of the sender, signed, and the static one of the recipient."""
    STATIC = 2
    """C(0e, 2s): the static keys of both; the transaction-id is the nonce."""


class KeyInfo(msgspec.Struct, frozen=True):
    """Which key a general-ciphering APDU is under."""

    choice: KeyChoice
    id: int = 0
    """IDENTIFIED: 0 global unicast, 1 global broadcast encryption key. WRAPPED: 0 master key. AGREED: a Scheme."""
    data: bytes = b""
    """WRAPPED: the wrapped key. AGREED with ONE_PASS: ephemeral public key and its signature."""

    def encode(self) -> bytes:
        """Return the optional key-info, present."""
        head = bytes((1, self.choice))
        if self.choice == KeyChoice.AGREED:
            head += b"\x01"
        head += bytes((self.id,))
        return head if self.choice == KeyChoice.IDENTIFIED else head + encode_length(len(self.data)) + self.data


class Header(msgspec.Struct, frozen=True):
    """What both APDUs begin with."""

    transaction: bytes
    originator: bytes
    recipient: bytes
    date_time: bytes = b""
    other: bytes = b""

    def encode(self) -> bytes:
        """Return the five fields with their lengths."""
        fields = (self.transaction, self.originator, self.recipient, self.date_time, self.other)
        return b"".join(encode_length(len(field)) + field for field in fields)


class GeneralCiphering(NamedTuple):
    """A general-ciphering APDU."""

    header: Header
    octets: bytes
    """The header as it stood."""
    key: KeyInfo | None
    content: bytes


class GeneralSigning(NamedTuple):
    """A general-signing APDU."""

    header: Header
    signed: bytes
    """Header and content as they stood, with their lengths."""
    content: bytes
    signature: bytes


def _take_header(apdu: bytes) -> tuple[Header, int]:
    fields: list[bytes] = []
    at = 1
    for _ in range(5):
        field, at = take_octet_string(apdu, at)
        if len(field) > MOST_FIELD:
            raise AxdrError(f"header field of {len(field)} octets")
        fields.append(field)
    return Header(*fields), at


def _take_key(apdu: bytes, at: int) -> tuple[KeyInfo | None, int]:
    present, at = take_octets(apdu, at, 1)
    if present == b"\x00":
        return None, at
    if present != b"\x01":
        raise AxdrError(f"presence flag {present.hex()}")
    choice, at = take_octets(apdu, at, 1)
    if choice[0] == KeyChoice.IDENTIFIED:
        key, at = take_octets(apdu, at, 1)
        return KeyInfo(KeyChoice.IDENTIFIED, key[0]), at
    if choice[0] == KeyChoice.WRAPPED:
        key, at = take_octets(apdu, at, 1)
    elif choice[0] == KeyChoice.AGREED:
        key, at = take_octet_string(apdu, at)
        if len(key) != 1:
            raise AxdrError(f"key-parameters of {len(key)} octets")
    else:
        raise AxdrError(f"key-info {choice[0]}")
    data, at = take_octet_string(apdu, at)
    return KeyInfo(KeyChoice(choice[0]), key[0], data), at


def decode_ciphering(apdu: bytes) -> GeneralCiphering:
    """Return the fields of a general-ciphering APDU; raises AxdrError."""
    header, at = _take_header(apdu)
    octets = apdu[1:at]
    key, at = _take_key(apdu, at)
    content, at = take_octet_string(apdu, at)
    _finish(apdu, at)
    return GeneralCiphering(header, octets, key, content)


def encode_ciphering(header: Header, key: KeyInfo | None, content: bytes) -> bytes:
    """Return a general-ciphering APDU."""
    info = b"\x00" if key is None else key.encode()
    head = bytes((Tag.GENERAL_CIPHERING,)) + header.encode() + info
    return head + encode_length(len(content)) + content


def decode_signing(apdu: bytes) -> GeneralSigning:
    """Return the fields of a general-signing APDU; raises AxdrError."""
    header, at = _take_header(apdu)
    content, at = take_octet_string(apdu, at)
    signed = apdu[1:at]
    signature, at = take_octet_string(apdu, at)
    _finish(apdu, at)
    return GeneralSigning(header, signed, content, signature)


def signed_part(header: Header, content: bytes) -> bytes:
    """Return what the signature of a general-signing APDU is over."""
    return header.encode() + encode_length(len(content)) + content


def encode_signing(header: Header, content: bytes, signature: bytes) -> bytes:
    """Return a general-signing APDU."""
    head = bytes((Tag.GENERAL_SIGNING,)) + signed_part(header, content)
    return head + encode_length(len(signature)) + signature


def _finish(apdu: bytes, at: int) -> None:
    if at != len(apdu):
        raise AxdrError(f"{len(apdu) - at} octets behind the APDU")
