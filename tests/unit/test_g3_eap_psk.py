"""EAP-PSK against a captured exchange of hostapd and eapol_test, EAX against pycryptodome, and hostile packets."""

import json
import random
from pathlib import Path

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from flexmap.g3 import eap_psk
from flexmap.g3.eap_psk import AuthenticationError, Code, EapError, Packet, Peer, Protected, Result, Server

# tests/data/g3/eap_psk.json: hostapd 2.10-12+deb12u3 RADIUS EAP server <-> eapol_test, standard EAP framing.
VECTOR = json.loads((Path(__file__).parents[1] / "data/g3/eap_psk.json").read_text())
V = {name: bytes.fromhex(value) for name, value in VECTOR.items() if name not in ("source", "msg3_id")}
PSK, ID_P, ID_S = V["psk"], V["id_p"], V["id_s"]


def test_keys_of_the_captured_exchange():
    keys = eap_psk.derive_keys(PSK)
    assert (keys.ak, keys.kdk) == (V["ak"], V["kdk"])
    assert eap_psk.session_key(keys.kdk, V["rand_p"]) == V["tek"]
    # MSK follows from the same function with the counters 2 to 5 (RFC 4764 clause 3.2).
    assert b"".join(eap_psk.modified_counter_mode(keys.kdk, V["rand_p"], range(2, 6))) == V["msk"]
    assert eap_psk.mac_p(keys.ak, ID_P, ID_S, V["rand_s"], V["rand_p"]) == V["mac_p"]
    assert eap_psk.mac_s(keys.ak, ID_S, V["rand_p"]) == V["mac_s"]


@pytest.mark.parametrize(("code", "message", "nonce"), [(Code.REQUEST, 2, 0), (Code.RESPONSE, 3, 1)])
def test_protected_channel_of_the_captured_exchange(code, message, nonce):
    channel = V[f"msg{message + 1}_pchannel"]
    before = V["mac_s"] if message == 2 else b""
    packet = Packet(code, VECTOR["msg3_id"], message, V["rand_s"], before + channel)
    header = packet.standard()[:22]
    plaintext = eap_psk.channel_open(V["tek"], header, nonce, channel)
    assert eap_psk.parse_protected(plaintext) == Protected(Result.DONE_SUCCESS)
    assert eap_psk.channel_seal(V["tek"], header, nonce, plaintext) == channel


def test_our_server_and_peer_make_the_captured_messages():
    """Message 3 of the server and message 4 of the peer, apart from the code shift, octet for octet."""
    server = Server(PSK, ID_S, V["rand_s"], VECTOR["msg3_id"] - 1)
    peer = Peer(PSK, ID_P, V["rand_p"])
    second = peer.second(server.first())
    assert second[22:] == V["rand_p"] + V["mac_p"] + ID_P
    third = server.third(second, ID_P, b"")
    assert third[0] == 0x04
    assert third[22:] == V["mac_s"] + V["msg3_pchannel"]
    peer.open_third(third)
    fourth = peer.fourth(Result.DONE_SUCCESS, b"")
    assert fourth[0] == 0x08
    assert fourth[22:] == V["msg4_pchannel"]
    assert server.finish(fourth) == Protected(Result.DONE_SUCCESS)
    assert server.end(success=True) == bytes((0x0C, VECTOR["msg3_id"] + 1, 0, 4))
    assert server.end(success=False)[0] == 0x10


@given(key=st.binary(min_size=16, max_size=16), nonce=st.binary(max_size=32), header=st.binary(), text=st.binary())
def test_eax_agrees_with_pycryptodome(key, nonce, header, text):
    oracle = AES.new(key, AES.MODE_EAX, nonce=nonce or b"\0", mac_len=16)
    oracle.update(header)
    expected = oracle.encrypt_and_digest(text)
    assert eap_psk.eax_seal(key, nonce or b"\0", header, text) == expected
    assert eap_psk.eax_open(key, nonce or b"\0", header, *expected) == text


def handshake(psk_server=PSK, psk_peer=PSK, rng=None):
    """The four messages of an exchange with parameters."""
    rng = rng or random.Random(1)
    server = Server(psk_server, ID_S, rng.randbytes(16), 7)
    peer = Peer(psk_peer, ID_P, rng.randbytes(16))
    first = server.first()
    second = peer.second(first)
    third = server.third(second, ID_P, b"\x1d\x02\x00\x05")
    return server, peer, first, second, third


def test_parameters_travel_both_ways():
    server, peer, _, _, third = handshake()
    assert peer.open_third(third) == Protected(Result.DONE_SUCCESS, b"\x1d\x02\x00\x05")
    assert server.finish(peer.fourth(Result.DONE_FAILURE, b"\x31\x02\x02\x27")) == Protected(
        Result.DONE_FAILURE, b"\x31\x02\x02\x27"
    )


def test_another_psk_is_refused_by_the_server():
    with pytest.raises(AuthenticationError, match="MAC_P"):
        handshake(psk_peer=bytes(16))


def test_a_server_without_the_psk_is_refused_by_the_peer():
    _, peer, _, second, _ = handshake()
    keys = eap_psk.derive_keys(PSK)
    rogue = eap_psk.Packet(
        Code.REQUEST, 8, 2, second[6:22], eap_psk.mac_s(keys.kdk, ID_S, second[22:38]) + bytes(21)
    )
    with pytest.raises(AuthenticationError, match="MAC_S"):
        peer.open_third(rogue.wire())


def test_another_identity_under_a_right_key_is_refused():
    server = Server(PSK, ID_S, bytes(16))
    second = Peer(PSK, ID_P, bytes(16)).second(server.first())
    with pytest.raises(EapError, match="another device"):
        server.third(second, bytes(8), b"")


def test_a_replayed_message_of_another_exchange_is_refused():
    _, _, _, second, _ = handshake()
    with pytest.raises(EapError, match="another exchange"):
        Server(PSK, ID_S, bytes(16), 7).third(second, ID_P, b"")


def test_every_changed_bit_of_messages_2_to_4_is_refused():
    for position in range(62 * 8):
        server, peer, _, second, _ = handshake()
        with pytest.raises(EapError):
            server.third(flip(second, position), ID_P, b"")
    server, peer, _, _, third = handshake()
    for position in range(len(third) * 8):
        with pytest.raises(EapError):
            peer.open_third(flip(third, position))
    peer.open_third(third)
    fourth = peer.fourth(Result.DONE_SUCCESS, b"\x31\x02\x00\x00")
    for position in range(len(fourth) * 8):
        with pytest.raises(EapError):
            server.finish(flip(fourth, position))
    assert server.finish(fourth).result == Result.DONE_SUCCESS


def flip(octets, position):
    changed = bytearray(octets)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def test_mutants_raise_nothing_but_eap_errors():
    rng = random.Random(4)
    _, _, *messages = handshake()
    for _ in range(4000):
        mutant = bytearray(rng.choice(messages))
        for _ in range(rng.randrange(1, 4)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        octets = bytes(mutant[: rng.randrange(len(mutant) + 1)]) + rng.randbytes(rng.randrange(3))
        for take in (
            eap_psk.parse,
            lambda wire: Server(PSK, ID_S, bytes(16)).third(wire, ID_P, b""),
            Server(PSK, ID_S, bytes(16)).finish,
            Peer(PSK, ID_P, bytes(16)).second,
            Peer(PSK, ID_P, bytes(16)).open_third,
        ):
            try:
                take(octets)
            except EapError:
                continue


@given(st.binary(min_size=1, max_size=40))
def test_protected_plaintexts_parse_or_are_refused(plaintext):
    try:
        protected = eap_psk.parse_protected(plaintext)
    except EapError:
        return
    if protected.parameters:
        assert protected.encode() == plaintext
