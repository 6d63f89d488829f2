"""Suites 1 and 2 against published vectors: the Green Book's tables C.1 to C.3 and 41, RFC 3394, RFC 6979, NIST.

Keys, points and signatures of the Green Book (DLMS UA 1000-2) are those of its worked examples with P-256.
"""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flexmap.dlms import general, suite
from flexmap.dlms.general import KeyChoice, Scheme
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    Ciphering,
    Keys,
    MemoryCounterStore,
    SecurityError,
    ShortLivedCounterStore,
)
from flexmap.dlms.suite import SUITES, KeyAgreementError

P256, P384 = SUITES[1], SUITES[2]
octets = bytes.fromhex
CLIENT, SERVER = octets("4D4D4D0000BC614E"), octets("4D4D4D0000000001")
CLIENT_SIGNING = octets("418073C239FA6125011DE4D6CD2E645780289F761BB21BFB0835CB5585E8B373")
CLIENT_SIGNING_PUBLIC = octets(
    "BAAFFDE06A8CB1C9DAE8D94023C601DBBB249254BA22EDD827E820BCA2BCC64362FBB83D86A82B87BB8B7161D2AAB552"
    "1911A946B97A284A90F7785CD9047D25"
)
CLIENT_AGREEMENT = octets("A51C16FF5C498FCC89323D4A9267CD71BF81FD6F6A891CD240DA7F3D6F283E65")
CLIENT_EPHEMERAL = octets("47DAB03842E5B6E74828EF4F449B378D7DD1A5DAE1FFCA5AE0B0BE0AD18EC57E")
SERVER_AGREEMENT = octets("AAD3FD0732E991CF52A74C66C1F2827DDC53522A2E0A169D7C4FFCC0FB5D6A4D")
SERVER_AGREEMENT_PUBLIC = octets(
    "A653565B0E06070BAE9FBE140A5D2156812AEE2DD525053E3EFC850BF13BFDFFCB240BC7B77BFF5883344E7275908D22"
    "87BEFA3725017295A096989D2338290B"
)
CLIENT_REKEYING_PUBLIC = octets(
    "2914D60E10AB705F62ED6CC349D7CB99B9AB3F3978E59278C7AF595B3AF987941372DAB6D5AF1FA867E134167E6F23DE"
    "664A6693E05F43414611058D1B48F894"
)
SERVER_REKEYING = octets("34A8C23A34DBB519D09B245754C85A6CFE05D14A063EFA5AA41545AA8241EFAE")
ACCESS_REQUEST = octets(
    "D94000000000040100010000600100FF020100080000010000FF0202001400000D0000FF0702001400000D0000FF0804"
    "000001040203090100090CFFFFFFFFFFFFFF00000000000901FF0203090101090CFFFFFFFFFFFFFF00000000000901FF"
    "0203090102090CFFFFFFFFFFFFFF00000000000901FF0203090103090CFFFFFFFFFFFFFF00000000000901FF01040208"
    "09010011FF11FF11FF11FF11FF11FF11FF02080901011102110111011101110111011101020809010211FF11FF11FF11"
    "FF11FF11FF11FF02080901031101110211021102110211021102"
)
GENERAL_CIPHERING = octets(
    "DD080102030405060708084D4D4D0000BC614E084D4D4D00000000010000010201018180C323C2BD45711DE4688637D9"
    "19F92E9DB8FB2DFC213A88D21C9DC8DCBA917D8170511DE1BADB360D50058F794B0960AE11FA28D392CFF907A62D13E3"
    "357B1DC0B51BE089D0B682863B2217201E73A1A9031968A9B4121DCBC3281A69739AF87429F5B3AC5471E7B6A04A2C0F"
    "2F8A25FD772A317DF97FC5463FEAC248EB8AB8BE81EB3100000000F435069679270C5BF4425EE5777402A6C8D51C620E"
    "ED52DBB188378B836E2857D5C053E6DDF27FA87409AEF502CD9618AE47017C010224FD109CC0BEB21E742D44AB40CD11"
    "908743EC90EC8C40E221D517F72228E1A26E827F43DC18ED27B5F458D66508B05A2A4CC6FED178C881AFC3BC67064689"
    "BE8BB41C80ABB3C114A31F4CB03B8B64C7E0B4CE77B2399C93347858888F92239713B38DF01C4858245827A92EF33417"
    "2EA636B31CBBDF2A96AD5D035F66AA38F1A2D97D4BBA99622E6B5F18789CECB2DFB3937D9F3E17F8B472098E6563238F"
    "37528374809836002AEA6E7012D2ADFAA7"
)
STATIC_CIPHER_TEXT = octets(
    "607581D83815281B561904E6A72B83BF3FB0B1F2A0A23A82A804B39911F6CB1B4EF9B6F76C6338ED058014FFBF4A13A1"
    "62E0EED11EEB8F597757A18215F28E1D3FC2D44586C4B8AFE4500B535B579506CDB925CBEFF7F1CF6BF96C583B9CF588"
    "FE8F6B01A574824D7CEC597F057FFA8700AF12AD63A7FA72040439F4392C089B265F9EB1AC308239906DC04E1A8712AB"
    "E383CF92349842EBA166EF2E9EB2F53D0DBA025D79875463398BBC3007BC4A6FC12780C21EE1ABF080BF0FA926242834"
    "C0AC30D55A1EF8856E7DED48621F17FDF4D5B54EDDADD8741192"
)


def test_green_book_rekeying_signature_and_shared_secret():
    signed = b"\0" + CLIENT_REKEYING_PUBLIC  # key id, ephemeral public key
    signature = octets(
        "06F0607702AA0E2435A183E2F6B1ECD19629712E389A213610C03F77B2590860EA840AF5C3FA1F2BCDF055D4744E9A01"
        "CE9A0E55026BCAA4EEBEB764CED64BB3"
    )
    assert suite.public_of(P256, CLIENT_SIGNING) == CLIENT_SIGNING_PUBLIC
    assert suite.verify(P256, CLIENT_SIGNING_PUBLIC, signature, signed)
    assert not suite.verify(P256, CLIENT_SIGNING_PUBLIC, signature, b"\1" + CLIENT_REKEYING_PUBLIC)
    assert not suite.verify(P256, CLIENT_SIGNING_PUBLIC, signature[:-1] + b"\xb2", signed)

    shared = suite.private_key(P256, SERVER_REKEYING).exchange(
        ec.ECDH(), suite.public_key(P256, CLIENT_REKEYING_PUBLIC)
    )
    assert shared.hex().upper() == "C1CF8FE7891AEF3617D7190795E61FE6C24EFC3CCA2E08469BAD1A225CE6EA08"


def test_green_book_one_pass_diffie_hellman():
    info = CLIENT + SERVER
    key = suite.agree(P256, CLIENT_EPHEMERAL, SERVER_AGREEMENT_PUBLIC, info)
    assert key.hex().upper() == "59A71FD81C929A86A99438DA17A66C05"
    assert suite.agree(P256, SERVER_AGREEMENT, suite.public_of(P256, CLIENT_EPHEMERAL), info) == key
    apdu = general.decode_ciphering(GENERAL_CIPHERING)
    assert apdu.header == general.Header(octets("0102030405060708"), CLIENT, SERVER)
    assert (apdu.key.choice, apdu.key.id, len(apdu.key.data)) == (KeyChoice.AGREED, Scheme.ONE_PASS, 128)
    assert suite.verify(P256, CLIENT_SIGNING_PUBLIC, apdu.key.data[64:], apdu.key.data[:64])
    assert general.encode_ciphering(apdu.header, apdu.key, apdu.content) == GENERAL_CIPHERING
    # The cipher text is the published one. The published tags, of this example and of the static scheme's
    # (51049B6AEE111C12FBC2FEAF), are of additional data that the book does not show: no order or choice of its
    # fields, of their lengths, of key-info and of the keys that it names gives either.
    side = Ciphering(Keys(key, bytes(range(0xD0, 0xE0)), 1), CLIENT, ShortLivedCounterStore(first=0))
    body = side.protect(AUTHENTICATED_ENCRYPTED, ACCESS_REQUEST, apdu.octets)
    assert body[:-12] == apdu.content[:-12]


def test_green_book_static_unified_model():
    info = CLIENT + b"\x08" + octets("0102030405060708") + SERVER
    key = suite.agree(P256, CLIENT_AGREEMENT, SERVER_AGREEMENT_PUBLIC, info)
    assert key.hex().upper() == "56C46B57DF675515C31025455822514A"
    assert suite.agree(P256, SERVER_AGREEMENT, suite.public_of(P256, CLIENT_AGREEMENT), info) == key
    side = Ciphering(Keys(key, bytes(16), 1), CLIENT, ShortLivedCounterStore(first=0))
    assert side.protect(ENCRYPTED, ACCESS_REQUEST)[5:] == STATIC_CIPHER_TEXT


def test_rfc_3394_key_wrap():
    kek, key = bytes(range(16)), octets("00112233445566778899AABBCCDDEEFF")
    wrapped = octets("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
    assert suite.wrap(kek, key) == wrapped
    assert suite.unwrap(kek, wrapped, 16) == key
    kek, key = bytes(range(32)), octets("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = octets("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
    assert suite.wrap(kek, key) == wrapped
    for bad, length in ((wrapped[:-1] + b"\0", 32), (wrapped[:16], 32), (b"", 32), (wrapped, 16)):
        with pytest.raises(KeyAgreementError):
            suite.unwrap(kek, bad, length)


RFC_6979 = [
    (
        P256,
        "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
        (
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
        ),
    ),
    (
        P384,
        "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
        (
            "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46"
            "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8"
        ),
    ),
]


@pytest.mark.parametrize(("of", "private", "signature"), RFC_6979, ids=["P-256", "P-384"])
def test_rfc_6979_signatures_of_sample(of, private, signature):
    assert suite.sign(of, octets(private), b"sample").hex().upper() == signature
    public = suite.public_of(of, octets(private))
    assert suite.verify(of, public, octets(signature), b"sample")
    for wrong in (octets(signature)[:-1], b"", octets(signature) + b"\0", bytes(2 * of.coordinate)):
        assert not suite.verify(of, public, wrong, b"sample")


def test_p384_signature_of_the_suite_b_implementers_guide():
    public = octets(
        "1fbac8eebd0cbf35640b39efe0808dd774debff20a2a329e91713baf7d7f3c3e81546d883730bee7e48678f857b02ca0"
        "eb213103bd68ce343365a8a4c3d4555fa385f5330203bdd76ffad1f3affb95751c132007e1b240353cb0a4cf1693bdf9"
    )
    signature = octets(
        "a0c27ec893092dea1e1bd2ccfed3cf945c8134ed0c9f81311a0f4a05942db8dbed8dd59f267471d5462aa14fe72de856"
        "20ab3f45b74f10b6e11f96a2c8eb694d206b9dda86d3c7e331c26b22c987b7537726577667adadf168ebbe803794a402"
    )
    assert suite.verify(P384, public, signature, b"This is only a test message. It is 48 bytes long")


@pytest.mark.parametrize("of", [P256, P384])
def test_key_pairs_come_from_the_randomness_given_and_agree(of):
    asked = []

    def random(count):
        asked.append(count)
        return bytes(range(len(asked), len(asked) + count))

    ours, theirs = suite.generate(of, random), suite.generate(of, random)
    assert asked == [of.coordinate + 8] * 2
    assert len(ours) == of.coordinate
    assert ours != theirs
    key = suite.agree(of, ours, suite.public_of(of, theirs), CLIENT + SERVER)
    assert key == suite.agree(of, theirs, suite.public_of(of, ours), CLIENT + SERVER)
    assert len(key) == of.key_octets
    assert key != suite.agree(of, ours, suite.public_of(of, theirs), SERVER + CLIENT)


@pytest.mark.parametrize("of", [P256, P384])
def test_points_off_the_curve_are_refused(of):
    point = bytearray(suite.public_of(of, b"\x01".rjust(of.coordinate, b"\0")))
    suite.public_key(of, bytes(point))
    point[-1] ^= 1
    for bad in (bytes(point), bytes(2 * of.coordinate), bytes(point[:-1]), b"\xff" * 2 * of.coordinate, b""):
        with pytest.raises(KeyAgreementError):
            suite.agree(of, b"\x01".rjust(of.coordinate, b"\0"), bad, b"")
        assert not suite.verify(of, bad, bytes(2 * of.coordinate), b"")


@pytest.mark.parametrize("id_", [0, 1, 2])
def test_suites_differ_by_their_security_control_and_key_length(id_):
    width = SUITES[id_].key_octets
    keys = Keys(bytes(range(width)), bytes(range(width, 2 * width)), id_)
    client, server = (Ciphering(keys, title, MemoryCounterStore()) for title in (CLIENT, SERVER))
    for control in (AUTHENTICATED, AUTHENTICATED_ENCRYPTED, ENCRYPTED):
        body = client.protect(control, b"plain")
        assert body[0] == control | id_
        assert server.unprotect(CLIENT, body) == (control, b"plain")
        for other in {0, 1, 2} - {id_}:
            with pytest.raises(SecurityError):
                server.unprotect(CLIENT, bytes((control | other,)) + client.protect(control, b"plain")[1:])
    body = client.protect(AUTHENTICATED_ENCRYPTED, b"plain")
    sealed = AESGCM(keys.guek).encrypt(CLIENT + body[1:5], b"plain", body[:1] + keys.gak)
    assert body[5:] == sealed[:-4]
    assert server.check_answer(CLIENT, b"challenge", client.answer_challenge(b"challenge"))
    assert not server.check_answer(CLIENT, b"challengf", client.answer_challenge(b"challenge"))


def test_broadcast_key_is_another_key():
    keys = Keys(bytes(16), bytes(range(16)), gbek=b"b" * 16)
    sender = Ciphering(keys, CLIENT, MemoryCounterStore(), broadcast=True)
    body = sender.protect(AUTHENTICATED_ENCRYPTED, b"to all")
    assert body[0] == 0x70
    assert Ciphering(keys, SERVER, MemoryCounterStore(), broadcast=True).unprotect(CLIENT, body)[1] == b"to all"
    with pytest.raises(SecurityError):
        Ciphering(keys, SERVER, MemoryCounterStore()).unprotect(CLIENT, body)
