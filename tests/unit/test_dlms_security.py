"""Suite 0 against published vectors: NIST's GCM test cases and the Green Book's worked examples."""

import pytest

from flexmap.dlms import acse
from flexmap.dlms import apdu as pdu
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    Ciphering,
    CounterError,
    Keys,
    MemoryCounterStore,
    SecurityError,
)
from flexmap.model.error import ConfigurationError, LocalError

KEYS = Keys(bytes.fromhex("000102030405060708090A0B0C0D0E0F"), bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"))
SERVER = bytes.fromhex("4D4D4D0000BC614E")
CLIENT = bytes.fromhex("4D4D4D0000000001")
GET = bytes.fromhex("C0010000080000010000FF0200")


def ciphering(title=SERVER, first=0x01234567, keys=KEYS):
    return Ciphering(keys, title, MemoryCounterStore(first))


GREEN_BOOK_GET = [
    (AUTHENTICATED, "1001234567C0010000080000010000FF020006725D910F9221D263877516"),
    (ENCRYPTED, "2001234567411312FF935A47566827C467BC"),
    (AUTHENTICATED_ENCRYPTED, "3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"),
]


@pytest.mark.parametrize(("control", "body"), GREEN_BOOK_GET)
def test_green_book_ciphered_get_request(control, body):
    assert ciphering().protect(control, GET).hex().upper() == body
    assert ciphering(CLIENT).unprotect(SERVER, bytes.fromhex(body)) == (control, GET)


def test_green_book_ciphered_initiate_request():
    plain = bytes.fromhex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
    body = "3001234567801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855"
    assert ciphering().protect(AUTHENTICATED_ENCRYPTED, plain).hex().upper() == body
    request = pdu.decode_initiate_request(plain)
    assert request.dedicated_key == bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    assert (request.conformance, request.max_pdu) == (0x007E1F, 0x04B0)


def test_green_book_hls_gmac_answers():
    ctos, stoc = b"K56iVagY", b"P6wRJ21F"
    client, server = ciphering(CLIENT, 1), ciphering(SERVER, 0x01234567)
    theirs = client.answer_challenge(stoc)
    ours = server.answer_challenge(ctos)
    assert theirs.hex().upper() == "10000000011A52FE7DD3E72748973C1E28"
    assert ours.hex().upper() == "1001234567FE1466AFB3DBCD4F9389E2B7"
    assert server.check_answer(CLIENT, stoc, theirs)
    assert client.check_answer(SERVER, ctos, ours)
    assert not server.check_answer(CLIENT, ctos, theirs)
    assert not server.check_answer(SERVER, stoc, theirs)
    assert not server.check_answer(CLIENT, stoc, theirs[:-1] + bytes((theirs[-1] ^ 1,)))
    assert not server.check_answer(CLIENT, stoc, b"")


def test_nist_gcm_test_case_4_with_its_tag_cut_to_12_octets():
    # McGrew and Viega, test case 4: key, IV and plain text as published. Its additional data is 20 octets, which
    # DLMS cannot have (17), so the cipher text is compared whole and the tag where it does not depend on them.
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
    iv = bytes.fromhex("cafebabefacedbaddecaf888")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        "b16aedf5aa0de657ba637b39"
    )
    cipher_text = (
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
        "1ba30b396a0aac973d58e091"
    )
    side = Ciphering(Keys(key, bytes(16)), iv[:8], MemoryCounterStore(int.from_bytes(iv[8:], "big")))
    assert side.protect(ENCRYPTED, plain)[5:].hex() == cipher_text


@pytest.mark.parametrize("control", [AUTHENTICATED, AUTHENTICATED_ENCRYPTED])
def test_every_flipped_bit_is_found(control):
    body = ciphering(CLIENT).protect(control, GET)
    receiver = ciphering()
    for bit in range(len(body) * 8):
        broken = bytearray(body)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecurityError):
            receiver.unprotect(CLIENT, bytes(broken), AUTHENTICATED)
    assert receiver.unprotect(CLIENT, body) == (control, GET)


def test_counters_must_rise_and_a_failed_check_does_not_count():
    sender, receiver = ciphering(CLIENT, 5), ciphering()
    first, second, third = (sender.protect(AUTHENTICATED_ENCRYPTED, GET) for _ in range(3))
    forged = second[:1] + b"\xff\xff\xff\xff" + second[5:]
    receiver.unprotect(CLIENT, first)
    with pytest.raises(SecurityError):
        receiver.unprotect(CLIENT, forged)
    with pytest.raises(CounterError) as caught:
        receiver.unprotect(CLIENT, first)
    assert caught.value.lowest == 6
    receiver.unprotect(CLIENT, third)
    with pytest.raises(CounterError):
        receiver.unprotect(CLIENT, second)


def test_a_restart_neither_reuses_nor_accepts_a_counter():
    store = MemoryCounterStore()
    before = Ciphering(KEYS, SERVER, store)
    used = {before.protect(AUTHENTICATED_ENCRYPTED, GET)[1:5] for _ in range(3000)}
    assert len(used) == 3000
    assert min(used) == b"\0\0\0\1"
    replay = ciphering(CLIENT, 7).protect(AUTHENTICATED_ENCRYPTED, GET)
    before.unprotect(CLIENT, replay)
    before.record(CLIENT)
    after = Ciphering(KEYS, SERVER, store)
    assert after.protect(AUTHENTICATED_ENCRYPTED, GET)[1:5] > max(used)
    with pytest.raises(CounterError):
        after.unprotect(CLIENT, replay)


def test_the_last_counter_is_the_end_of_the_key():
    sender = ciphering(first=0xFFFFFFFF)
    assert sender.protect(ENCRYPTED, GET)[1:5] == b"\xff\xff\xff\xff"
    with pytest.raises(LocalError, match="used up"):
        sender.protect(ENCRYPTED, GET)


def test_less_protection_than_required_and_other_suites_are_refused():
    for control in (AUTHENTICATED, ENCRYPTED):
        body = ciphering(CLIENT).protect(control, GET)
        with pytest.raises(SecurityError):
            ciphering().unprotect(CLIENT, body, AUTHENTICATED_ENCRYPTED)
    body = ciphering(CLIENT).protect(AUTHENTICATED_ENCRYPTED, GET)
    for control in (0x31, 0x70, 0xB0, 0x00):
        with pytest.raises(SecurityError):
            ciphering().unprotect(CLIENT, bytes((control,)) + body[1:])


def test_keys_and_titles_are_checked_and_never_shown():
    with pytest.raises(ConfigurationError):
        Keys(b"short", bytes(16))
    with pytest.raises(ConfigurationError):
        Ciphering(KEYS, b"short", MemoryCounterStore())
    assert KEYS.guek.hex() not in repr(KEYS)
    assert "\\x01\\x02" not in repr(KEYS)


# --- ACSE, Green Book examples

AARQ_NONE = "601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0"
AARQ_LLS = (
    "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
    "BE10040E01000000065F1F0400007E1F04B0"
)
AARQ_HLS = (
    "6036A1090607608574050801018A0207808B0760857405080205AC0A80084B35366956616759"
    "BE10040E01000000065F1F0400007E1F04B0"
)
AARE_OK = "6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400007E1F04B00007"
AARE_HLS = (
    "6142A109060760857405080101A203020100A305A10302010E88020780890760857405080205"
    "AA0A8008503677524A323146BE10040E0800065F1F0400007E1F04B00007"
)


@pytest.mark.parametrize(
    ("octets", "mechanism", "value"),
    [(AARQ_NONE, 0, None), (AARQ_LLS, 1, b"12345678"), (AARQ_HLS, 5, b"K56iVagY")],
)
def test_green_book_aarq(octets, mechanism, value):
    aarq = acse.decode_aarq(bytes.fromhex(octets))
    assert (aarq.context, aarq.mechanism, aarq.authentication) == (1, mechanism, value)
    assert aarq.user_information.hex().upper() == "01000000065F1F0400007E1F04B0"
    assert acse.encode_aarq(aarq).hex().upper() == octets


@pytest.mark.parametrize(("octets", "diagnostic", "value"), [(AARE_OK, 0, None), (AARE_HLS, 14, b"P6wRJ21F")])
def test_green_book_aare(octets, diagnostic, value):
    aare = acse.decode_aare(bytes.fromhex(octets))
    assert (aare.result, aare.diagnostic, aare.authentication) == (0, diagnostic, value)
    assert acse.encode_aare(aare).hex().upper() == octets
    initiate = pdu.decode_initiate_response(aare.user_information)
    assert pdu.encode_initiate_response(initiate) == aare.user_information


@pytest.mark.parametrize("octets", [AARQ_NONE, AARQ_LLS, AARQ_HLS])
def test_a_cut_or_lengthened_aarq_is_refused(octets):
    whole = bytes.fromhex(octets)
    for end in range(len(whole)):
        with pytest.raises(acse.AcseError):
            acse.decode_aarq(whole[:end])
    with pytest.raises(acse.AcseError):
        acse.decode_aarq(whole + b"\0")


def test_release_with_exact_lengths():
    assert acse.encode_release(acse.Release(reason=0)).hex() == "6203800100"
    assert acse.encode_release(acse.Release(), acse.RLRE).hex() == "6300"
    assert acse.decode_release(bytes.fromhex("6203800100")).reason == 0
