"""Association control: AARQ, AARE, RLRQ and RLRE in BER with exact lengths (IEC 62056-5-3, ISO 8650-1)."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from flexmap.model.error import RemoteError

AARQ, AARE, RLRQ, RLRE = 0x60, 0x61, 0x62, 0x63
_CONTEXT = bytes.fromhex("608574050801")
_MECHANISM = bytes.fromhex("608574050802")
"""Object identifiers 2.16.756.5.8.1.n and 2.16.756.5.8.2.n, without their last arc."""


class AcseError(RemoteError):
    """A peer's octets are not a well-formed ACSE APDU."""


class Context(enum.IntEnum):
    """Application contexts."""

    LN = 1
    SN = 2
    LN_CIPHERED = 3
    SN_CIPHERED = 4


CIPHERED = frozenset({Context.LN_CIPHERED, Context.SN_CIPHERED})
SHORT_NAMES = frozenset({Context.SN, Context.SN_CIPHERED})


class Mechanism(enum.IntEnum):
    """Authentication mechanisms."""

    NONE = 0
    LLS = 1
    HLS = 2
    HLS_MD5 = 3
    HLS_SHA1 = 4
    HLS_GMAC = 5
    HLS_SHA256 = 6
    HLS_ECDSA = 7


class Result(enum.IntEnum):
    """Association results."""

    ACCEPTED = 0
    REJECTED_PERMANENT = 1
    REJECTED_TRANSIENT = 2


class Diagnostic(enum.IntEnum):
    """ACSE service user diagnostics."""

    NULL = 0
    NO_REASON_GIVEN = 1
    APPLICATION_CONTEXT_NAME_NOT_SUPPORTED = 2
    CALLING_AP_TITLE_NOT_RECOGNIZED = 3
    CALLED_AP_TITLE_NOT_RECOGNIZED = 7
    AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED = 11
    AUTHENTICATION_MECHANISM_NAME_REQUIRED = 12
    AUTHENTICATION_FAILURE = 13
    AUTHENTICATION_REQUIRED = 14


class Aarq(msgspec.Struct, frozen=True, kw_only=True):
    """An association request."""

    context: int | None
    """Last arc of the application context name; ``None`` for a name outside DLMS UA."""
    mechanism: int = Mechanism.NONE
    """Last arc of the mechanism name; −1 for a name outside DLMS UA."""
    calling_title: bytes | None = None
    """The client's system title."""
    calling_user: int | None = None
    authentication: bytes | None = None
    """Password (LLS) or challenge CtoS (HLS)."""
    user_information: bytes = b""
    """An initiate request, plain or ciphered."""
    protocol_version_1: bool = True

    def __repr__(self) -> str:
        """Never show a password."""
        return f"Aarq({self.context}, {self.mechanism}, {self.calling_title!r})"


class Aare(msgspec.Struct, frozen=True, kw_only=True):
    """An association response."""

    context: int | None = Context.LN
    result: int
    diagnostic: int
    provider: bool = False
    """The diagnostic is one of the ACSE service provider."""
    responding_title: bytes | None = None
    mechanism: int = Mechanism.NONE
    authentication: bytes | None = None
    """Challenge StoC (HLS)."""
    user_information: bytes = b""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release request or response."""

    reason: int | None = None
    user_information: bytes = b""


# --- BER --------------------------------------------------------------------------------------------------


def _tlv(tag: int, contents: bytes) -> bytes:
    length = len(contents)
    if length < 0x80:
        return bytes((tag, length)) + contents
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + contents


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and contents of each element; raises AcseError where a length is wrong."""
    at, size = 0, len(octets)
    while at < size:
        tag = octets[at]
        if at + 2 > size:
            raise AcseError("element without length")
        length = octets[at + 1]
        at += 2
        if length & 0x80:
            width = length & 0x7F
            if not 1 <= width <= 3 or at + width > size:
                raise AcseError(f"length of {width} octets")
            length = int.from_bytes(octets[at : at + width], "big")
            at += width
        if at + length > size:
            raise AcseError(f"element {tag:#04x} of {length} octets, {size - at} there")
        yield tag, octets[at : at + length]
        at += length


def _single(octets: bytes, tag: int) -> bytes:
    """Return the contents of the one element with that tag."""
    elements = list(_elements(octets))
    if len(elements) != 1 or elements[0][0] != tag:
        raise AcseError(f"one element {tag:#04x} expected")
    return elements[0][1]


def _open(apdu: bytes, tag: int) -> dict[int, bytes]:
    elements = list(_elements(_single(apdu, tag)))
    fields = dict(elements)
    if len(fields) != len(elements):
        raise AcseError("an element stands twice")
    return fields


def _arc(name: bytes | None, prefix: bytes, *, otherwise: int | None) -> int | None:
    if name is None or len(name) != len(prefix) + 1 or not name.startswith(prefix):
        return otherwise
    return name[-1]


def _integer(octets: bytes) -> int:
    if not 1 <= len(octets) <= 4:
        raise AcseError(f"integer of {len(octets)} octets")
    return int.from_bytes(octets, "big", signed=True)


def _octet_string(fields: dict[int, bytes], tag: int) -> bytes | None:
    contents = fields.get(tag)
    return None if contents is None else _single(contents, 0x04)


def _authentication_value(fields: dict[int, bytes], tag: int) -> bytes | None:
    contents = fields.get(tag)
    return None if contents is None else _single(contents, 0x80)


def _context_of(fields: dict[int, bytes]) -> int | None:
    contents = fields.get(0xA1)
    if contents is None:
        raise AcseError("application context name is missing")
    return _arc(_single(contents, 0x06), _CONTEXT, otherwise=None)


def _mechanism_of(fields: dict[int, bytes], tag: int) -> int:
    name = fields.get(tag)
    return Mechanism.NONE if name is None else _arc(name, _MECHANISM, otherwise=-1) or 0


# --- APDUs ------------------------------------------------------------------------------------------------


def decode_aarq(apdu: bytes) -> Aarq:
    """Return the fields of an AARQ; raises AcseError."""
    fields = _open(apdu, AARQ)
    version = fields.get(0x80)
    user = fields.get(0xA9)
    return Aarq(
        context=_context_of(fields),
        mechanism=_mechanism_of(fields, 0x8B),
        calling_title=_octet_string(fields, 0xA6),
        calling_user=None if user is None else _integer(_single(user, 0x02)),
        authentication=_authentication_value(fields, 0xAC),
        user_information=_octet_string(fields, 0xBE) or b"",
        protocol_version_1=version is None or (len(version) > 1 and bool(version[1] & 0x80)),
    )


def encode_aarq(aarq: Aarq) -> bytes:
    """Return the AARQ."""
    parts = [_tlv(0xA1, _tlv(0x06, _CONTEXT + bytes((aarq.context or Context.LN,))))]
    if aarq.calling_title is not None:
        parts.append(_tlv(0xA6, _tlv(0x04, aarq.calling_title)))
    if aarq.calling_user is not None:
        parts.append(_tlv(0xA9, _tlv(0x02, bytes((aarq.calling_user,)))))
    if aarq.mechanism != Mechanism.NONE:
        parts += (b"\x8a\x02\x07\x80", _tlv(0x8B, _MECHANISM + bytes((aarq.mechanism,))))
        parts.append(_tlv(0xAC, _tlv(0x80, aarq.authentication or b"")))
    parts.append(_tlv(0xBE, _tlv(0x04, aarq.user_information)))
    return _tlv(AARQ, b"".join(parts))


def decode_aare(apdu: bytes) -> Aare:
    """Return the fields of an AARE; raises AcseError."""
    fields = _open(apdu, AARE)
    if 0xA2 not in fields or 0xA3 not in fields:
        raise AcseError("association result is missing")
    sources = list(_elements(fields[0xA3]))
    if len(sources) != 1 or sources[0][0] not in (0xA1, 0xA2):
        raise AcseError("result source diagnostic is malformed")
    return Aare(
        context=_context_of(fields),
        result=_integer(_single(fields[0xA2], 0x02)),
        diagnostic=_integer(_single(sources[0][1], 0x02)),
        provider=sources[0][0] == 0xA2,
        responding_title=_octet_string(fields, 0xA4),
        mechanism=_mechanism_of(fields, 0x89),
        authentication=_authentication_value(fields, 0xAA),
        user_information=_octet_string(fields, 0xBE) or b"",
    )


def encode_aare(aare: Aare) -> bytes:
    """Return the AARE."""
    source = 0xA2 if aare.provider else 0xA1
    parts = [
        _tlv(0xA1, _tlv(0x06, _CONTEXT + bytes((aare.context or Context.LN,)))),
        _tlv(0xA2, _tlv(0x02, bytes((aare.result,)))),
        _tlv(0xA3, _tlv(source, _tlv(0x02, bytes((aare.diagnostic,))))),
    ]
    if aare.responding_title is not None:
        parts.append(_tlv(0xA4, _tlv(0x04, aare.responding_title)))
    if aare.authentication is not None:
        parts += (b"\x88\x02\x07\x80", _tlv(0x89, _MECHANISM + bytes((aare.mechanism,))))
        parts.append(_tlv(0xAA, _tlv(0x80, aare.authentication)))
    if aare.user_information:
        parts.append(_tlv(0xBE, _tlv(0x04, aare.user_information)))
    return _tlv(AARE, b"".join(parts))


def decode_release(apdu: bytes, tag: int = RLRQ) -> Release:
    """Return the fields of an RLRQ (or, with ``tag`` RLRE, of an RLRE); raises AcseError."""
    fields = _open(apdu, tag)
    reason = fields.get(0x80)
    return Release(
        reason=None if reason is None else _integer(reason),
        user_information=_octet_string(fields, 0xBE) or b"",
    )


def encode_release(release: Release, tag: int = RLRQ) -> bytes:
    """Return the RLRQ (or, with ``tag`` RLRE, the RLRE)."""
    contents = b"" if release.reason is None else _tlv(0x80, bytes((release.reason,)))
    if release.user_information:
        contents += _tlv(0xBE, _tlv(0x04, release.user_information))
    return _tlv(tag, contents)
