"""Requests of every kind, and what a hostile or broken client makes of them."""

from __future__ import annotations

import random

from dlms_toy import BREAKER, CLIENT_TITLE, ENERGY, NOTE, POWER, PROFILE, SECRET

from flexmap.dlms import acse, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.selection import EntrySelection

INITIATE = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=512))


def lls(secret: bytes) -> bytes:
    """An AARQ with a password."""
    aarq = acse.Aarq(context=1, mechanism=1, authentication=secret, user_information=INITIATE)
    return acse.encode_aarq(aarq)


LLS = lls(SECRET)


def get(class_id: int, name: bytes, attribute: int, access: bytes = b"\0") -> bytes:
    """A GET-Request-Normal."""
    return b"\xc0\x01\xc1" + class_id.to_bytes(2, "big") + name + bytes((attribute,)) + access


def seeds() -> list[bytes]:
    """One request of each kind."""
    note = b"\0\1" + NOTE + b"\2\0"
    breaker = b"\0\x46" + BREAKER + b"\1"
    block = pdu.data_block(last=False, number=1, raw=b"\x09\x05ab")
    last = pdu.data_block(last=True, number=2, raw=b"cde")
    both = b"\x02" + get(3, ENERGY, 2)[3:] + get(4, POWER, 3)[3:]
    return [
        LLS,
        get(3, ENERGY, 2),
        get(7, PROFILE, 2),
        get(7, PROFILE, 2, b"\1\2" + EntrySelection(3, 5).encode()),
        get(15, ASSOCIATION_LN, 2),
        get(7, PROFILE, 0),
        b"\xc1\x01\x41" + note[:8] + b"\0\0" + axdr.structure(axdr.NULL, axdr.octet_string(b"hello")),
        b"\xc0\x02\xc1\0\0\0\1",
        b"\xc0\x03\xc1" + both,
        b"\xc1\x01\xc1" + note + axdr.octet_string(b"hello"),
        b"\xc1\x02\xc1" + note + block,
        b"\xc1\x03\xc1" + last,
        b"\xc1\x04\xc1\x01" + note + b"\x01" + axdr.octet_string(b"x"),
        b"\xc1\x05\xc1\x01" + note + block,
        b"\xc3\x01\xc1" + breaker + b"\1\x0f\0",
        b"\xc3\x03\xc1\x01" + breaker + b"\1\x0f\0",
        b"\xc3\x04\xc1" + breaker + block,
        b"\xc3\x06\xc1" + last,
        b"\xd9\x40\0\0\1\0\2\1" + note[:9] + b"\3" + breaker + b"\2\0\x0f\0",
        b"\xd9\x60\0\0\2\0\1\4\0\7" + PROFILE + b"\2\2" + EntrySelection(3, 5).encode() + b"\1\0",
        b"\xe0\x83\0\1\0\0\x0d" + get(7, PROFILE, 2),
        b"\xe0\x43\0\1\0\0\x05" + get(7, PROFILE, 2)[:5],
        b"\xe0\x83\0\2\0\1\x08" + get(7, PROFILE, 2)[5:],
        b"\xe0\x84\0\2\0\1\0",
        b"\xdb\x08" + CLIENT_TITLE + b"\x05\x30\0\0\0\1",
        b"\xc8\x1e\x30" + bytes(29),
        acse.encode_release(acse.Release(reason=0)),
    ]


def short_name_seeds() -> list[bytes]:
    """The same with short names."""
    initiate = acse.Aarq(context=2, mechanism=1, authentication=SECRET, user_information=INITIATE)
    return [
        acse.encode_aarq(initiate),
        b"\5\1\2\xfa\x08",
        b"\5\2\2\1\x08\2\2\x08",
        b"\5\1\4\2\x88\2" + EntrySelection(3, 5).encode(),
        b"\5\1\5\0\1",
        b"\5\1\6\0\0\1\3\2\2\1",
        b"\5\1\6\1\0\2\4\x08\2\2\x08",
        b"\6\1\2\1\x88\1" + axdr.octet_string(b"hello"),
        b"\6\1\7\0\0\1\1" + axdr.octet_string(b"\1\2\1\x88"),
        b"\6\1\7\1\0\2\1" + axdr.octet_string(b"\1" + axdr.octet_string(b"x")),
        b"\x16\1\2\1\x88\1" + axdr.octet_string(b"silent"),
        b"\xe0\x83\0\1\0\0\5\5\1\2\xfa\x08",
    ]


def mutate(chance: random.Random, request: bytes) -> bytes:
    """A request with bits flipped, octets set, cut, added or repeated."""
    octets = bytearray(request)
    for _ in range(chance.choice((1, 1, 2, 4))):
        match chance.randrange(5):
            case 0 if octets:
                octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
            case 1 if octets:
                octets[chance.randrange(len(octets))] = chance.choice((0, 1, 0x7F, 0x80, 0x84, 0xFF))
            case 2:
                del octets[chance.randrange(len(octets) + 1) :]
            case 3:
                at = chance.randrange(len(octets) + 1)
                octets[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(9)))
            case 4:
                at = chance.randrange(len(octets) + 1)
                octets[at:at] = octets[at : at + chance.randrange(20)]
    return bytes(octets)
