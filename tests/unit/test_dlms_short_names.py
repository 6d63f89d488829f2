"""Short name referencing: READ, WRITE, UNCONFIRMED WRITE, and the names themselves."""

import pytest
from dlms_toy import BREAKER, ENERGY, KEYS, NOTE, PROFILE, SAP, SECRET, TITLE, ToyProfile, toy_schema, toy_server
from test_dlms_services import Blocks

from flexmap.dlms import acse, axdr, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Aarq, Context, Mechanism
from flexmap.dlms.apdu import CONFORMANCE_SN, ActionResult, Conformance, InitiateRequest
from flexmap.dlms.authentication import GmacProof, Side
from flexmap.dlms.objects import attribute_key
from flexmap.dlms.profile import Limits
from flexmap.dlms.security import Ciphering, MemoryCounterStore
from flexmap.dlms.short_names import ShortNames

NAMES = {named: name for name, named in ShortNames(toy_schema()).names.items()}
NAME = {
    key: next(
        name for named, name in NAMES.items() if named.key == attribute_key(*what) and named.is_method == method
    )
    for key, what, method in (
        ("energy", (3, ENERGY, 2), False),
        ("note", (1, NOTE, 2), False),
        ("profile", (7, PROFILE, 2), False),
        ("open", (70, BREAKER, 1), True),
    )
}
ENERGY_VALUE = b"\0" + axdr.encode("double-long-unsigned", 123456)


def var(name):
    return b"\2" + NAME.get(name, name).to_bytes(2, "big")


class Peer:
    """A client with short names: one association."""

    def __init__(self, sap=3, *, max_pdu=0xFFFF, conformance=CONFORMANCE_SN, limits=None, aarq=None):
        self.server, self.device = toy_server(limits=limits)
        self.late = []
        self.connection = self.server.connection(self.late.append)
        self.settings = type("Settings", (), {"client_sap": sap, "server_sap": SAP})
        initiate = InitiateRequest(conformance=conformance, max_pdu=max_pdu)
        asked = {"mechanism": Mechanism.LLS, "authentication": SECRET} if sap in (2, 3) else {}
        aarq = Aarq(
            context=Context.SN, user_information=pdu.encode_initiate_request(initiate), **(asked | (aarq or {}))
        )
        self.aare = acse.decode_aare(self.ask(acse.encode_aarq(aarq)))

    def ask(self, apdu):
        reply = self.connection.receive(wrapper.encode(self.settings.client_sap, SAP, apdu))
        return wrapper.decode_datagram(reply).apdu if reply else b""


def whole_profile():
    profile = ToyProfile()
    return axdr.array([profile.row(number, range(3)) for number in range(1440)])


def test_the_names_are_those_of_the_standard_and_stay():
    schema = toy_schema()
    assert ShortNames(schema).names == ShortNames(toy_schema()).names
    assert all(name % 8 == 0 for name in ShortNames(schema).names)
    breaker = NAME["open"] - 0x20
    assert ShortNames(schema).names[breaker].key == attribute_key(70, BREAKER, 1)
    assert ShortNames(schema).names[0xFD08].key[:2] == b"\0\x11"


def test_associate_says_that_names_are_short():
    peer = Peer()
    assert (peer.aare.context, peer.aare.result) == (Context.SN, 0)
    assert peer.aare.user_information[-2:].hex() == "fa00"
    assert pdu.decode_initiate_response(peer.aare.user_information).conformance == CONFORMANCE_SN & ~(1 << 22)
    own = peer.ask(b"\5\1\2\xfa\x00")
    assert own.hex() == "0c01" + "00" + "0906" + "0000280000ff"
    listed = axdr.decode(peer.ask(b"\5\1\2\xfa\x08")[3:])
    assert listed[0] == (0xFA00 - 0x10000, 12, 2, bytes((0, 0, 40, 0, 0, 255)))
    bases = {name: base & 0xFFFF for base, _, _, name in listed}
    assert bases[ENERGY] == NAME["energy"] - 8
    rights = {
        base & 0xFFFF: (attributes, methods)
        for base, attributes, methods in axdr.decode(peer.ask(b"\5\1\2\xfa\x10")[3:])
    }
    assert rights[bases[NOTE]][0] == [(1, 1, None), (2, 3, None)]
    assert rights[bases[BREAKER]][1] == [(1, 1), (2, 1)]


def test_read_and_write():
    peer = Peer()
    assert peer.ask(b"\5\1" + var("energy")) == b"\x0c\1" + ENERGY_VALUE
    value = axdr.octet_string(b"hello")
    assert peer.ask(b"\6\2" + var("note") + var(0x4448) + b"\2" + value + value).hex() == "0d02" + "00" + "0104"
    assert (
        peer.ask(b"\5\3" + var("note") + var(0x4448) + var("energy"))
        == b"\x0c\3\0" + value + b"\1\4" + ENERGY_VALUE
    )
    assert peer.ask(b"\x16\1" + var("note") + b"\1" + axdr.octet_string(b"silent")) == b""
    assert peer.ask(b"\5\1" + var("note")) == b"\x0c\1\0" + axdr.octet_string(b"silent")
    assert peer.ask(b"\6\1" + var(0xFA08) + b"\1" + value).hex() == "0d010103"


def test_rights_are_those_of_logical_names():
    reader = Peer(2)
    assert reader.ask(b"\6\1" + var("note") + b"\1" + axdr.octet_string(b"x")).hex() == "0d010103"
    assert reader.ask(b"\6\1" + var("open") + b"\1\x0f\0").hex() == "0d010103"
    public = Peer(16)
    assert public.ask(b"\5\1" + var("energy")).hex() == "0c010103"
    assert len(axdr.decode(public.ask(b"\5\1\2\xfa\x08")[3:])) < 5


def test_methods_and_late_answers():
    peer = Peer()
    assert peer.ask(b"\6\1" + var("open") + b"\1\x0f\0").hex() == "0d0100"
    call = b"\5\1\4" + NAME["open"].to_bytes(2, "big") + b"\1\x0f\0"
    assert peer.ask(call).hex() == "0c010000"
    assert peer.ask(b"\5\1" + var("open")).hex() == "0c010103"
    peer.device.breaker_later = True
    assert peer.ask(call) == b""
    assert peer.ask(b"\5\1" + var("energy")).hex() == "0c010102"
    peer.device.pending.pop().answer(ActionResult.TEMPORARY_FAILURE)
    assert peer.late[0][8:].hex() == "0c010102"


def test_selected_rows_and_blocks():
    peer = Peer(max_pdu=300)
    entry = axdr.structure(
        *(axdr.encode("double-long-unsigned", n) for n in (3, 4)),
        *(axdr.encode("long-unsigned", n) for n in (2, 2)),
    )
    rows = peer.ask(b"\5\1\4" + NAME["profile"].to_bytes(2, "big") + b"\2" + entry)
    assert axdr.decode(rows[3:]) == [(1002,), (1003,)]
    raw, response = b"", peer.ask(b"\5\1" + var("profile"))
    while True:
        assert response[:3] == b"\x0c\1\2" and len(response) <= 300
        piece, _ = axdr.take_octet_string(response, 6)
        raw += piece
        if response[3]:
            break
        response = peer.ask(b"\5\1\5" + response[4:6])
    assert raw == b"\1\0" + whole_profile()
    assert peer.ask(b"\5\1\5\0\1").hex() == "0c010110"  # no-long-get-in-progress


def test_requests_in_blocks():
    peer = Peer(max_pdu=300)
    value = axdr.octet_string(bytes(range(256)) * 2)
    request = b"\1" + var("note") + b"\1" + value
    pieces = [request[at : at + 200] for at in range(0, len(request), 200)]
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        block = b"\7" + bytes((last,)) + number.to_bytes(2, "big")
        response = peer.ask(b"\6\1" + block + b"\1" + axdr.octet_string(piece))
        assert response.hex() == ("0d0100" if last else f"0d0102{number:04x}")
    asked = b"\2" + var("energy") + var("note")
    assert peer.ask(b"\5\1\6\0\0\1" + axdr.encode_length(3) + asked[:3]).hex() == "0c01030001"
    # The answer is too long for one APDU, and comes in blocks.
    response = peer.ask(b"\5\1\6\1\0\2" + axdr.encode_length(4) + asked[3:])
    assert response[:6].hex() == "0c0102000001"[:12]
    assert peer.ask(b"\6\1\7\0\0\5\1" + axdr.octet_string(b"x")).hex() == "0d010113"
    small = Peer(limits=Limits(max_long_value=100))
    assert small.ask(b"\6\1\7\0\0\1\1" + axdr.octet_string(bytes(101))).hex() == "0d010111"


def test_general_blocks():
    conformance = CONFORMANCE_SN & ~Conformance.BLOCK_TRANSFER_WITH_GET
    peer = Peer(max_pdu=600, conformance=conformance)
    blocks = Blocks(
        type("Meter", (), {"settings": peer.settings, "connection": peer.connection, "late": peer.late})
    )
    assert blocks.ask(b"\5\1" + var("profile")) == b"\x0c\1\0" + whole_profile()


@pytest.mark.parametrize("by_write", [True, False])
def test_high_level_security(by_write):
    title = b"CLI\0\0\0\0\7"
    server, _ = toy_server()
    cipher = Ciphering(KEYS, title, MemoryCounterStore())
    connection = server.connection(lambda _: None)

    def ask(apdu):
        return wrapper.decode_datagram(connection.receive(wrapper.encode(1, SAP, apdu))).apdu

    def protected(apdu):
        body = cipher.protect(0x30, apdu)
        response = ask(bytes((apdu[0] + 0x20, len(body))) + body)
        plain = cipher.unprotect(TITLE, axdr.take_octet_string(response, 1)[0], 0x30)[1]
        assert response[0] == plain[0] + 0x20
        return plain

    initiate = cipher.protect(
        0x30, pdu.encode_initiate_request(InitiateRequest(conformance=CONFORMANCE_SN, max_pdu=0))
    )
    aarq = Aarq(
        context=Context.SN_CIPHERED,
        mechanism=Mechanism.HLS_GMAC,
        calling_title=title,
        authentication=b"challenge of the client",
        user_information=b"\x21" + axdr.encode_length(len(initiate)) + initiate,
    )
    aare = acse.decode_aare(ask(acse.encode_aarq(aarq)))
    assert (aare.result, aare.context) == (0, Context.SN_CIPHERED)
    assert protected(b"\5\1" + var("energy")).hex() == "0c010103"
    ours, theirs = Side(title, aarq.authentication), Side(TITLE, aare.authentication)
    proof = axdr.octet_string(GmacProof(cipher).answer(ours, theirs))
    if by_write:
        assert protected(b"\6\1\2\xfa\x58\1" + proof).hex() == "0d0100"
    else:
        answer = axdr.decode(protected(b"\5\1\4\xfa\x58\1" + proof)[3:])
        assert GmacProof(cipher).check(ours, theirs, answer)
    assert protected(b"\5\1" + var("energy")) == b"\x0c\1" + ENERGY_VALUE


def selected():
    entry = axdr.structure(*(axdr.encode("double-long-unsigned", 1),) * 2, *(axdr.encode("long-unsigned", 1),) * 2)
    return b"\5\1\4" + NAME["profile"].to_bytes(2, "big") + b"\2" + entry


REQUESTS = {
    Conformance.READ: b"\5\1" + var("energy"),
    Conformance.WRITE: b"\6\1" + var("note") + b"\1" + axdr.octet_string(b"x"),
    Conformance.MULTIPLE_REFERENCES: b"\5\2" + var("energy") * 2,
    Conformance.PARAMETERISED_ACCESS: selected(),
    Conformance.BLOCK_TRANSFER_WITH_GET: b"\5\1" + var("profile"),
    Conformance.BLOCK_TRANSFER_WITH_SET: b"\6\1\7\0\0\1\1" + axdr.octet_string(b"x"),
}


@pytest.mark.parametrize("bit", REQUESTS, ids=lambda bit: bit.name)
def test_each_bit_of_conformance_stands_for_a_service(bit):
    assert Peer(max_pdu=512).ask(REQUESTS[bit])[2] != 1
    refused = Peer(max_pdu=512, conformance=CONFORMANCE_SN & ~bit & ~Conformance.GENERAL_BLOCK_TRANSFER).ask(
        REQUESTS[bit]
    )
    assert refused.hex() in ("d80102", "0c0101fa")


def test_unconfirmed_write_that_was_not_negotiated_writes_nothing():
    peer = Peer(conformance=CONFORMANCE_SN & ~Conformance.UNCONFIRMED_WRITE)
    peer.ask(b"\x16\1" + var("note") + b"\1" + axdr.octet_string(b"silent"))
    assert peer.ask(b"\5\1" + var("note")) == b"\x0c\1\0" + axdr.octet_string(b"")


MALFORMED = "05 0501 050102 05010212 05010908 06010200080005 c001c100 0600 16 050106"


@pytest.mark.parametrize("octets", MALFORMED.split())
def test_malformed_requests_get_an_exception_or_nothing(octets):
    assert Peer().ask(bytes.fromhex(octets)).hex() in ("d80103", "d80202", "0d00", "")
