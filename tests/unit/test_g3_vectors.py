"""Cryptography against published vectors: CMAC, EAX, CCM with tags of four octets, 802.15.4's own examples.

RFC 4764 (EAP-PSK) and RFC 6282 (IPHC) publish no octets: test_g3_eap_psk.py has a captured exchange,
test_g3_sixlowpan.py and the tshark tests independent decoders.
"""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from flexmap.g3 import ccm, eap_psk
from flexmap.g3.frame import Frame, FrameKind, header

H = bytes.fromhex

RFC4493_KEY = H("2b7e151628aed2a6abf7158809cf4f3c")
RFC4493_TEXT = H(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)


@pytest.mark.parametrize(
    ("length", "mac"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_of_rfc_4493(length, mac):
    """RFC 4493 clause 4, examples 1 to 4."""
    assert eap_psk.cmac(RFC4493_KEY, RFC4493_TEXT[:length]) == H(mac)


EAX = [
    tuple(b"" if field == "-" else H(field) for field in line.split())
    for line in (Path(__file__).parents[1] / "data/g3/eax.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("message", "key", "nonce", "head", "sealed"), EAX, ids=lambda field: field[:4].hex())
def test_eax_of_its_authors(message, key, nonce, head, sealed):
    """Bellare, Rogaway, Wagner: The EAX mode of operation, appendix G, all ten."""
    ciphertext, tag = eap_psk.eax_seal(key, nonce, head, message)
    assert ciphertext + tag == sealed
    assert eap_psk.eax_open(key, nonce, head, sealed[:-16], sealed[-16:]) == message


def test_ccm_with_a_tag_of_four_octets():
    """NIST SP 800-38C example 1, the only published one with Tlen = 32 as ENC-MIC-32 has."""
    cipher = ccm._cipher(H("404142434445464748494a4b4c4d4e4f"))
    assert cipher.encrypt(H("10111213141516"), H("20212223"), H("0001020304050607")) == H("7162015b4dac255d")


ANNEX_C_KEY = H("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
ONE, TWO = H("acde480000000001"), H("acde480000000002")


def without_security(octets):
    """What our header has behind the addresses: security control, counter, key index."""
    return octets[: -(1 + 4 + 1)]


def test_beacon_of_ieee_802_15_4_2006():
    """Clause C.2.1.1.2: header, auxiliary header (MIC-64), payload; our header and nonce, apart from the level."""
    ours = header(
        Frame(FrameKind.BEACON, 0x84, b"", source=ONE, source_pan=0x4321, counter=5),
        version=1,
    )
    printed = H("08d0842143010000000048deac")
    assert without_security(ours) == printed
    assert ours[-5:-1] == H("05000000")
    nonce = ONE + ccm.nonce(0, 0, 5)[8:12] + b"\x02"
    data = printed + H("0205000000") + H("55cf000051525354")
    assert AESCCM(ANNEX_C_KEY, 8).encrypt(nonce, b"", data) == H("223bc1ec841ab553")


def test_command_of_ieee_802_15_4_2006():
    """Clause C.2.3.1.2: an association request, ENC-MIC-64."""
    ours = header(
        Frame(
            FrameKind.COMMAND,
            0x84,
            b"",
            destination=TWO,
            destination_pan=0x4321,
            source=ONE,
            source_pan=0xFFFF,
            ack_request=True,
            counter=5,
        ),
        version=1,
    )
    printed = H("2bdc842143020000000048deacffff010000000048deac")
    assert without_security(ours) == printed
    nonce = ONE + ccm.nonce(0, 0, 5)[8:12] + b"\x06"
    data = printed + H("0605000000") + b"\x01"
    assert AESCCM(ANNEX_C_KEY, 8).encrypt(nonce, b"\xce", data) == H("d84fde529061f9c6f1")


def test_the_nonce_is_the_senders_eui_64_the_counter_and_the_level():
    """Clause 7.6.3.2; the EUI-64 that G3-PLC makes of PAN id and short address."""
    assert ccm.nonce(0x781D, 0x0005, 0x01020304) == H("781d00fffe000005") + H("01020304") + b"\x05"
