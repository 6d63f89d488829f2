"""Services beyond GET, SET and ACTION normal: blocks both ways, ACCESS, general block transfer, conformance."""

import random

import pytest
from dlms_toy import BREAKER, ENERGY, MISSING, NOTE, POWER, PROFILE, SAP, SERIAL, ToyDevice, toy_server
from test_dlms_server import line

from flexmap.dlms import apdu as pdu
from flexmap.dlms import axdr, wrapper
from flexmap.dlms.apdu import CONFORMANCE_LN, ActionResult, Conformance
from flexmap.dlms.general_blocks import GeneralBlock, GeneralTransfer, decode
from flexmap.dlms.objects import ASSOCIATION_LN, ActionReply, attribute_key
from flexmap.dlms.profile import Limits

KEY = {name: attribute_key(*what) for name, what in {
    "energy": (3, ENERGY, 2), "power": (4, POWER, 2), "missing": (3, MISSING, 2), "serial": (1, SERIAL, 2),
    "note": (1, NOTE, 2), "profile": (7, PROFILE, 2), "open": (70, BREAKER, 1), "close": (70, BREAKER, 2),
}.items()}  # fmt: skip
LONG = axdr.octet_string(bytes(range(256)) * 4)


def opened(kind="lls-manager", max_pdu=0xFFFF, conformance=CONFORMANCE_LN, limits=None, **changes):
    server, device = toy_server(limits=limits)
    meter = line(server, kind, max_pdu, conformance=conformance, **changes)
    meter.connect()
    return meter, device


def whole_profile(device):
    return axdr.array([device.profile.row(number, range(3)) for number in range(1440)])


# --- lists


@pytest.mark.parametrize("what", ["energy", "missing", "serial", "profile"])
def test_a_list_answers_each_of_its_attributes_as_a_request_of_its_own(what):
    meter, _ = opened()
    keys = [KEY["energy"], KEY[what], KEY["power"]]
    parts = [meter.transceive(b"\xc0\x01\xc1" + key + b"\0")[3:] for key in keys]
    listed = meter.transceive(b"\xc0\x03\xc1\x03" + b"".join(key + b"\0" for key in keys))
    assert listed == b"\xc4\x03\xc1\x03" + b"".join(parts)


def test_a_list_of_simple_values_too_needs_its_conformance_bit_its_length_and_room():
    request = b"\xc0\x03\xc1\x14" + (KEY["energy"] + b"\0") * 20
    meter, _ = opened()
    whole = meter.transceive(request)
    assert whole == b"\xc4\x03\xc1\x14" + b"\0\x06\0\x01\xe2\x40" * 20
    for broken in (request[:-1], request + b"\0", request[:3] + b"\x13" + request[4:]):
        assert meter.transceive(broken)[0] == 0xD8
    meter, _ = opened(conformance=CONFORMANCE_LN & ~Conformance.MULTIPLE_REFERENCES)
    assert meter.transceive(request)[0] == 0xD8
    meter, _ = opened(max_pdu=100)
    assert meter.transceive(request)[:4].hex() == "c402c100"
    meter, _ = opened(limits=Limits(max_list=19))
    assert meter.transceive(request) == b"\xc4\x03\xc1\x14" + b"\x01\xfa" * 20


@pytest.mark.parametrize("head", ["c104c101", "c303c101"])
def test_a_list_without_values_is_malformed(head):
    meter, _ = opened()
    assert meter.transceive(bytes.fromhex(head) + KEY["note"] + b"\0" * (head[1] == "1") + b"\0")[0] == 0xD8


# --- ACTION in blocks


@pytest.fixture
def talkative(monkeypatch):
    monkeypatch.setattr(ToyDevice, "on_action", lambda *_: ActionReply(ActionResult.SUCCESS, LONG))


def test_what_a_method_returns_comes_in_blocks(talkative):
    meter, _ = opened(max_pdu=200)
    raw, response = b"", meter.transceive(b"\xc3\x01\xc1" + KEY["open"] + b"\0")
    while True:
        assert response[:3] == b"\xc7\x02\xc1" and len(response) <= 200
        last, number = response[3], response[4:8]
        piece, end = axdr.take_octet_string(response, 8)
        assert end == len(response)
        raw += piece
        if last:
            break
        response = meter.transceive(b"\xc3\x02\xc1" + number)
    assert raw == LONG
    gone = meter.transceive(b"\xc3\x02\xc1" + number)
    assert gone.hex() == "c701c11000"  # no-long-action-in-progress


def test_a_wrong_block_number_ends_what_a_method_returns(talkative):
    meter, _ = opened(max_pdu=200)
    meter.transceive(b"\xc3\x01\xc1" + KEY["open"] + b"\0")
    assert meter.transceive(b"\xc3\x02\xc1\0\0\0\x07").hex() == "c701c10f00"  # long-action-aborted
    assert meter.transceive(b"\xc3\x02\xc1\0\0\0\x01").hex() == "c701c11000"


def test_what_several_methods_return_comes_in_blocks(talkative):
    meter, _ = opened(max_pdu=300)
    raw, response = b"", meter.transceive(b"\xc3\x03\xc1\x02" + KEY["open"] + KEY["close"] + b"\x02\0\0")
    while True:
        piece, _ = axdr.take_octet_string(response, 8)
        raw += piece
        if response[3]:
            break
        response = meter.transceive(b"\xc3\x02\xc1" + response[4:8])
    assert raw == b"\x02" + (b"\0\1\0" + LONG) * 2


# --- ACCESS


def access(invoke, *items):
    specs = b"".join(bytes((kind,)) + key for kind, key, _ in items)
    data = b"".join(value for _, _, value in items)
    count = bytes((len(items),))
    return b"\xd9" + invoke.to_bytes(4, "big") + b"\0" + count + specs + count + data


def test_access_reads_writes_and_calls_in_order():
    meter, _ = opened()
    note = axdr.octet_string(b"seen")
    request = access(
        0x40000007,
        (1, KEY["energy"], b"\0"),
        (2, KEY["note"], note),
        (1, KEY["note"], b"\0"),
        (3, KEY["open"], b"\x0f\0"),
        (1, attribute_key(70, BREAKER, 2), b"\0"),
        (1, KEY["missing"], b"\0"),
    )
    response = meter.transceive(request)
    data = axdr.encode("double-long-unsigned", 123456) + b"\0" + note + b"\0" + b"\3\0" + b"\0"
    results = bytes((1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 1, 2))
    assert response == b"\xda\x40\0\0\7\0\0\6" + data + b"\6" + results


def test_access_describes_itself_stops_at_errors_and_can_go_unanswered():
    meter, _ = opened()
    items = ((1, KEY["missing"], b"\0"), (2, KEY["note"], axdr.octet_string(b"late")))
    response = meter.transceive(access(0x70000001, *items))
    specs = b"\2" + b"\1" + KEY["missing"] + b"\2" + KEY["note"]
    assert response == b"\xda\x70\0\0\1\0\1" + specs + b"\2\0\0" + b"\2\1\2\2\xfa"
    assert meter.get(1, NOTE, 2) == b""
    frame = wrapper.encode(3, SAP, access(0x00000002, items[1]))
    assert meter.connection.receive(frame) == b""
    assert meter.get(1, NOTE, 2) == b"late"


def test_access_selects_rows_and_waits_for_the_meter():
    meter, device = opened()
    entry = axdr.structure(
        *(axdr.encode("double-long-unsigned", n) for n in (3, 4)),
        *(axdr.encode("long-unsigned", n) for n in (2, 2)),
    )
    rows = meter.transceive(access(0x40000001, (4, KEY["profile"] + b"\2" + entry, b"\0")))
    assert rows.hex() == "da4000000100000101020201060000" + "03ea0201060000" + "03eb" + "010100"
    device.breaker_later = True
    frame = wrapper.encode(3, SAP, access(0x40000002, (3, KEY["open"], b"\x0f\0"), (1, KEY["energy"], b"\0")))
    assert meter.connection.receive(frame) == b""
    busy = meter.transceive(access(0x40000003, (1, KEY["energy"], b"\0")))
    assert busy.hex() == "da40000003000001000" + "1" + "0102"
    device.pending.pop().answer(ActionResult.HARDWARE_FAULT)
    (late,) = meter.late
    assert late[8:].hex() == "da40000002000002" + "00" + "060001e240" + "0203010100"


@pytest.mark.parametrize(
    "octets", ["d9", "d9400000010001", "d940000001000106", "d9400000010000", "d94000000100000105"]
)
def test_malformed_access_gets_an_exception(octets):
    meter, _ = opened()
    assert meter.transceive(bytes.fromhex(octets)).hex() in ("d80103", "da400000010000000" + "0")


def test_access_too_long_without_general_blocks():
    meter, _ = opened(max_pdu=300, conformance=CONFORMANCE_LN & ~Conformance.GENERAL_BLOCK_TRANSFER)
    assert meter.transceive(access(0x40000001, (1, KEY["profile"], b"\0"))).hex() == "d80104"


# --- general block transfer


class Blocks:
    """A client's half of general block transfer, over a Line; ``lose`` names its received blocks to drop."""

    def __init__(self, meter, *, window=5, room=100, lose=(), wrap=lambda apdu: apdu, unwrap=lambda apdu: apdu):
        self.meter, self.window, self.room, self.lose = meter, window, room, list(lose)
        self.wrap, self.unwrap = wrap, unwrap
        self.number = 0
        self.got = {}
        self.bursts = []

    def exchange(self, apdu):
        settings = self.meter.settings
        frame = wrapper.encode(settings.client_sap, settings.server_sap, self.wrap(apdu))
        octets = self.meter.connection.receive(frame) + b"".join(self.meter.late)
        self.meter.late.clear()
        apdus = []
        while octets:
            length = int.from_bytes(octets[6:8], "big")
            apdus.append(self.unwrap(octets[8 : 8 + length]))
            octets = octets[8 + length :]
        return apdus

    def block(self, data, *, last, streaming=False, ack=0):
        self.number += 1
        return GeneralBlock(last, streaming, self.window, self.number, ack, data).encode()

    def ask(self, request, *, blockwise=True):
        if not blockwise:
            return self.fetch(self.exchange(request))
        pieces = [request[at : at + self.room] for at in range(0, len(request), self.room)]
        for n, piece in enumerate(pieces):
            last = n == len(pieces) - 1
            apdus = self.exchange(self.block(piece, last=last, streaming=not last and n % 3 != 2))
            if not last and n % 3 == 2:
                (ack,) = [decode(each) for each in apdus]
                assert (ack.data, ack.acknowledged) == (b"", self.number)
                self.got[ack.number] = ack
        return self.fetch(apdus)

    def fetch(self, apdus):
        while True:
            blocks = [decode(each) for each in apdus]
            assert all(each.streaming for each in blocks[:-1]) and not blocks[-1].streaming
            self.bursts.append(len(blocks))
            for each in blocks:
                if each.number in self.lose:
                    self.lose.remove(each.number)
                else:
                    self.got[each.number] = each
            ack = 0
            while ack + 1 in self.got:
                ack += 1
            if ack and self.got[ack].last and self.got[ack].data:
                return b"".join(self.got[number].data for number in range(1, ack + 1))
            apdus = self.exchange(self.block(b"", last=True, ack=ack))


GENERAL_ONLY = CONFORMANCE_LN & ~(
    Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.BLOCK_TRANSFER_WITH_SET
    | Conformance.BLOCK_TRANSFER_WITH_ACTION
)


@pytest.mark.parametrize("lose", [(), (1,), (3, 4), (5,), (2, 6, 7, 40)])
@pytest.mark.parametrize("window", [1, 4, 63])
def test_a_profile_streams_in_general_blocks_and_lost_blocks_come_again(window, lose):
    meter, device = opened(max_pdu=600, conformance=GENERAL_ONLY)
    blocks = Blocks(meter, window=window, lose=lose)
    got = blocks.ask(b"\xc0\x01\xc1" + KEY["profile"] + b"\0", blockwise=False)
    assert got == b"\xc4\x01\xc1\0" + whole_profile(device)
    assert blocks.bursts[0] == 1  # before the client has named its window
    assert max(blocks.bursts) == min(window, 32768 // 600)


def test_a_request_in_general_blocks_is_answered_in_them():
    meter, device = opened(max_pdu=600)
    value = axdr.octet_string(bytes(range(256)) * 9)
    assert Blocks(meter).ask(b"\xc1\x01\xc1" + KEY["note"] + b"\0" + value) == b"\xc5\x01\xc1\0"
    assert axdr.octet_string(meter.get(1, NOTE, 2)) == value
    got = Blocks(meter).ask(b"\xc0\x01\xc1" + KEY["profile"] + b"\0")
    assert got == b"\xc4\x01\xc1\0" + whole_profile(device)


def test_general_blocks_of_a_late_answer():
    meter, device = opened()
    device.breaker_later = True
    blocks = Blocks(meter)
    assert blocks.exchange(blocks.block(b"\xc3\x01\xc1" + KEY["open"] + b"\0", last=True)) == []
    device.pending.pop().answer(ActionResult.SUCCESS)
    assert blocks.fetch([each[8:] for each in meter.late]) == b"\xc7\x01\xc1\0\0"


@pytest.mark.parametrize("outside", [False, True])
def test_ciphered_general_blocks(outside):
    meter, device = opened("management", max_pdu=600, conformance=GENERAL_ONLY)
    cipher, title = meter.client._ciphering, meter.client._title

    def wrap(apdu):
        body = cipher.protect(0x30, apdu)
        return b"\xdb\x08" + title + axdr.encode_length(len(body)) + body

    def unwrap(apdu):
        assert apdu[0] == 0xDB and len(apdu) <= 600
        body, _ = axdr.take_octet_string(apdu, 10)
        return cipher.unprotect(meter.client.server_title, body, 0x30)[1]

    request = b"\xc0\x01\xc1" + KEY["profile"] + b"\0"
    if outside:
        got = Blocks(meter, wrap=wrap, unwrap=unwrap).ask(request)
    else:
        got = unwrapped = Blocks(meter).ask(wrap(request))
        body, _ = axdr.take_octet_string(unwrapped, 10)
        got = cipher.unprotect(meter.client.server_title, body, 0x30)[1]
    assert got == b"\xc4\x01\xc1\0" + whole_profile(device)


def test_general_blocks_do_not_lower_the_protection():
    meter, _ = opened("management")
    blocks = Blocks(meter)
    (answer,) = blocks.exchange(blocks.block(b"\xc0\x01\xc1" + KEY["energy"] + b"\0", last=True))
    assert decode(answer).data.hex() == "d80101"


def test_blocks_that_do_not_fit_end_the_transfer():
    meter, _ = opened(max_pdu=600, conformance=GENERAL_ONLY, limits=Limits(max_long_value=500))
    asked = b"\xc0\x01\xc1" + KEY["profile"] + b"\0"
    meter.transceive(asked)
    ack = GeneralBlock(True, False, 3, 1, 9, b"").encode()
    assert meter.transceive(ack).hex() == "d80103"  # acknowledges what was not sent
    assert meter.transceive(GeneralBlock(True, False, 3, 99, 0, b"x").encode()).hex() == "d80103"
    assert meter.transceive(GeneralBlock(False, False, 3, 1, 0, bytes(501)).encode()).hex() == "d80103"
    inner = GeneralBlock(True, False, 3, 1, 0, GeneralBlock(True, False, 1, 1, 0, asked).encode()).encode()
    assert meter.transceive(inner).hex() == "d80103"
    assert meter.transceive(asked)[0] == 0xE0


def test_who_has_proven_nothing_gets_one_block_at_a_time():
    meter, _ = opened("public", max_pdu=64, conformance=GENERAL_ONLY)
    blocks = Blocks(meter, window=63)
    assert (
        blocks.ask(b"\xc0\x01\xc1" + attribute_key(15, bytes((0, 0, 40, 0, 0, 255)), 2) + b"\0")[:4]
        == b"\xc4\x01\xc1\0"
    )
    assert set(blocks.bursts) == {1}


def test_a_long_profile_is_never_held_whole():
    meter, device = opened(max_pdu=600, conformance=GENERAL_ONLY)
    device.profile.count = 10**9
    frame = wrapper.encode(3, SAP, b"\xc0\x01\xc1" + KEY["profile"] + b"\0")
    meter.connection.receive(frame)
    assert device.profile.made < 100


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_comes_again(seed):
    chance = random.Random(seed)
    meter, device = opened(max_pdu=600, conformance=GENERAL_ONLY)
    lose = [chance.randrange(1, 70) for _ in range(40)]
    got = Blocks(meter, window=chance.randrange(1, 20), lose=lose).ask(b"\xc0\x01\xc1" + KEY["profile"] + b"\0")
    assert got == b"\xc4\x01\xc1\0" + whole_profile(device)


def test_blocks_of_a_request_that_are_lost_are_asked_for_again():
    transfer = GeneralTransfer(room=100, limit=1000)
    pieces = {n: GeneralBlock(n == 5, n not in (3, 5), 1, n, 0, bytes((n,))) for n in range(1, 6)}
    assert transfer.take(pieces[1]) == (None, [])
    message, (ack,) = transfer.take(pieces[3])
    assert (message, decode(ack).acknowledged) == (None, 1)
    assert transfer.take(pieces[2]) == (None, [])
    message, (ack,) = transfer.take(pieces[5])
    assert (message, decode(ack).acknowledged) == (None, 3)
    assert transfer.take(pieces[4]._replace(streaming=False)) == (b"\1\2\3\4\5", [])


# --- conformance


REQUESTS = {
    Conformance.GET: b"\xc0\x01\xc1" + KEY["energy"] + b"\0",
    Conformance.SET: b"\xc1\x01\xc1" + KEY["note"] + b"\0" + axdr.octet_string(b"x"),
    Conformance.ACTION: b"\xc3\x01\xc1" + KEY["open"] + b"\0",
    Conformance.MULTIPLE_REFERENCES: b"\xc0\x03\xc1\x01" + KEY["energy"] + b"\0",
    Conformance.SELECTIVE_ACCESS: b"\xc0\x01\xc1" + KEY["profile"] + b"\1\2"
    + axdr.structure(*(axdr.encode("double-long-unsigned", 1),) * 2, *(axdr.encode("long-unsigned", 1),) * 2),
    Conformance.BLOCK_TRANSFER_WITH_GET: b"\xc0\x01\xc1" + KEY["profile"] + b"\0",
    Conformance.BLOCK_TRANSFER_WITH_SET: b"\xc1\x02\xc1" + KEY["note"] + b"\0"
    + pdu.data_block(last=True, number=1, raw=axdr.octet_string(b"x")),
    Conformance.BLOCK_TRANSFER_WITH_ACTION: b"\xc3\x04\xc1" + KEY["open"]
    + pdu.data_block(last=True, number=1, raw=b"\0"),
    Conformance.ACCESS: access(0x40000001, (1, KEY["energy"], b"\0")),
    Conformance.GENERAL_BLOCK_TRANSFER: GeneralBlock(
        True, False, 1, 1, 0, b"\xc0\x01\xc1" + KEY["energy"] + b"\0"
    ).encode(),
}  # fmt: skip


def refused(bit, response):
    if bit == Conformance.BLOCK_TRANSFER_WITH_GET:
        return response[:2] == b"\xc4\x01" and response[3] == 1  # the value is there, but too long
    return response[:1] == b"\xd8"


@pytest.mark.parametrize("bit", REQUESTS, ids=lambda bit: bit.name)
def test_each_bit_of_conformance_stands_for_a_service(bit):
    meter, _ = opened(max_pdu=512)
    assert meter.client.conformance & bit
    assert not refused(bit, meter.transceive(REQUESTS[bit]))
    without = Conformance.GENERAL_BLOCK_TRANSFER if bit == Conformance.BLOCK_TRANSFER_WITH_GET else 0
    meter, _ = opened(max_pdu=512, conformance=(CONFORMANCE_LN | Conformance.ACCESS) & ~bit & ~without)
    assert not meter.client.conformance & bit
    assert refused(bit, meter.transceive(REQUESTS[bit]))


# --- selective access to the object list


def listed(meter, selector, parameters):
    asked = b"\xc0\x01\xc1" + attribute_key(15, ASSOCIATION_LN, 2) + bytes((1, selector)) + parameters
    response = meter.transceive(asked)
    if response[3]:
        return response[4]
    return [(class_id, name) for class_id, _, name, _ in axdr.decode(response[4:])]


def test_the_object_list_by_class_and_by_object():
    meter, _ = opened()
    everything = listed(meter, 1, axdr.NULL)
    assert len(everything) == 11
    by_class = axdr.array([axdr.encode("long-unsigned", each) for each in (3, 7)])
    assert listed(meter, 2, by_class) == [(3, ENERGY), (3, MISSING), (7, PROFILE)]
    ids = [
        axdr.structure(axdr.encode("long-unsigned", c), axdr.octet_string(n)) for c, n in ((1, NOTE), (3, POWER))
    ]
    assert listed(meter, 3, axdr.array(ids)) == [(1, NOTE)]
    assert listed(meter, 4, ids[0]) == [(1, NOTE)]
    assert listed(meter, 4, axdr.NULL) == listed(meter, 2, axdr.NULL) == 12
    assert listed(meter, 5, axdr.NULL) == 13


# --- attribute 0


def whole(class_id, name):
    return attribute_key(class_id, name, 0)


def test_attribute_0_is_all_attributes_and_null_data_for_what_cannot_be_read():
    meter, device = opened()
    response = meter.transceive(b"\xc0\x01\xc1" + whole(4, POWER) + b"\0")
    values = axdr.decode(response[4:])
    assert (response[:4].hex(), values[:4]) == ("c401c100", (POWER, -2305, (-1, 27), 0))
    assert len(values) == 5
    response = meter.transceive(b"\xc0\x01\xc1" + whole(3, POWER) + b"\0")  # the extended register as a register
    assert axdr.decode(response[4:]) == (POWER, -2305, (-1, 27))
    response = meter.transceive(b"\xc0\x01\xc1" + whole(3, MISSING) + b"\0")
    assert axdr.decode(response[4:]) == (MISSING, None, (-1, 35))
    association = axdr.decode(meter.transceive(b"\xc0\x01\xc1" + whole(15, ASSOCIATION_LN) + b"\0")[4:])
    assert association[0] == ASSOCIATION_LN and association[2] == (3, SAP) and association[6] is None
    response = meter.transceive(b"\xc0\x03\xc1\x02" + whole(3, ENERGY) + b"\0" + whole(3, bytes(6)) + b"\0")
    assert response[:4].hex() == "c403c102"
    assert response[4:] == b"\0" + axdr.structure(
        axdr.octet_string(ENERGY), axdr.encode("double-long-unsigned", 123456), b"\x02\x02\x0f\0\x16\x1e"
    ) + b"\x01\x04"  # fmt: skip
    del device


def test_attribute_0_of_a_profile_streams_its_rows():
    meter, device = opened(max_pdu=300, conformance=CONFORMANCE_LN & ~Conformance.GENERAL_BLOCK_TRANSFER)
    raw, response = b"", meter.transceive(b"\xc0\x01\xc1" + whole(7, PROFILE) + b"\0")
    assert device.profile.made < 100
    while True:
        piece, _ = axdr.take_octet_string(response, 9)
        raw += piece
        if response[3]:
            break
        response = meter.transceive(b"\xc0\x02\xc1" + response[4:8])
    elements = axdr.elements_of(raw)
    assert elements[0] == axdr.octet_string(PROFILE)
    assert elements[1] == whole_profile(device)
    assert len(elements) == 8


def test_attribute_0_follows_rights_and_refuses_selection():
    reader, _ = opened("public")
    assert reader.transceive(b"\xc0\x01\xc1" + whole(3, ENERGY) + b"\0").hex() == "c401c10103"
    assert reader.transceive(b"\xc0\x01\xc1" + whole(3, bytes(6)) + b"\0").hex() == "c401c10104"
    meter, _ = opened()
    chosen = b"\x01\x02" + axdr.structure(*(axdr.encode("double-long-unsigned", n) for n in (1, 2)),
                                          *(axdr.encode("long-unsigned", n) for n in (1, 0)))  # fmt: skip
    assert meter.transceive(b"\xc0\x01\xc1" + whole(7, PROFILE) + chosen).hex() == "c401c1010d"


def test_attribute_0_that_was_not_negotiated():
    bits = Conformance.ATTRIBUTE_0_WITH_GET | Conformance.ATTRIBUTE_0_WITH_SET
    meter, device = opened(conformance=CONFORMANCE_LN & ~bits)
    assert meter.transceive(b"\xc0\x01\xc1" + whole(3, ENERGY) + b"\0").hex() == "d80102"
    assert meter.transceive(b"\xc1\x01\xc1" + whole(1, NOTE) + b"\0" + note_of(b"a")).hex() == "d80102"
    access = b"\xd9\x40\0\0\1\0\x02\x01" + whole(3, ENERGY) + b"\x02" + whole(1, NOTE) + b"\x02\0" + note_of(b"a")
    assert meter.transceive(access).hex() == "da400000010000" + "020000" + "02" + "0104" + "0204"
    assert device.values[device.schema.slot(1, NOTE, 2)] == axdr.octet_string(b"")


def note_of(text, name=b"\0"):
    return axdr.structure(name, axdr.octet_string(text))


def test_attribute_0_is_written_where_there_is_no_null_data():
    meter, device = opened()
    slot = device.schema.slot(1, NOTE, 2)

    def write(value, class_id=1, name=NOTE):
        return meter.transceive(b"\xc1\x01\xc1" + whole(class_id, name) + b"\0" + value).hex()

    assert write(note_of(b"one")) == "c501c100"
    assert device.values[slot] == axdr.octet_string(b"one")
    assert write(note_of(b"two", axdr.octet_string(NOTE))) == "c501c100"  # its own name may stand there
    assert write(axdr.structure(b"\0", b"\0")) == "c501c100"  # nothing to write
    assert device.values[slot] == axdr.octet_string(b"two")
    assert write(note_of(b"three", axdr.octet_string(SERIAL))) == "c501c103"  # another name: nothing is written
    assert write(axdr.structure(b"\0", b"\x11\x05")) == "c501c10c"  # the device's own result
    assert write(axdr.structure(b"\0")) == "c501c10c"  # one attribute too few
    assert write(b"\x09\x00") == "c501c10c"
    assert write(axdr.structure(b"\0", b"\x06\0\0\0\x01", b"\0"), 3, ENERGY) == "c501c103"
    assert write(note_of(b"x"), 1, bytes(6)) == "c501c104"
    assert device.values[slot] == axdr.octet_string(b"two")
    long = note_of(bytes(1000))
    for number, at in enumerate(range(0, len(long), 400), 1):
        raw = long[at : at + 400]
        head = b"\xc1\x02\xc1" + whole(1, NOTE) + b"\0" if number == 1 else b"\xc1\x03\xc1"
        response = meter.transceive(head + pdu.data_block(last=at + 400 >= len(long), number=number, raw=raw))
    assert response.hex() == "c503c100" + "00000003"
    assert device.values[slot] == axdr.octet_string(bytes(1000))


def test_a_reader_cannot_write_attribute_0():
    meter, device = opened("reader")
    assert meter.transceive(b"\xc1\x01\xc1" + whole(1, NOTE) + b"\0" + note_of(b"a")).hex() == "c501c103"
    first = b"\xc1\x02\xc1" + whole(1, NOTE) + b"\0" + pdu.data_block(last=False, number=1, raw=b"\x02")
    assert meter.transceive(first).hex() == "c503c103" + "00000001"
    assert device.values[device.schema.slot(1, NOTE, 2)] == axdr.octet_string(b"")


# --- priority


def silent(meter, apdu):
    sap = meter.settings.client_sap
    return meter.connection.receive(wrapper.encode(sap, SAP, apdu))


NORMAL, HIGH = b"\x41", b"\xc2"


def test_a_request_of_high_priority_overtakes_one_that_waits():
    meter, device = opened()
    device.breaker_later = True
    assert silent(meter, b"\xc3\x01" + NORMAL + KEY["open"] + b"\0") == b""
    get = KEY["energy"] + b"\0"
    assert meter.transceive(b"\xc0\x01" + HIGH + get).hex() == "c401c200" + "060001e240"
    assert meter.transceive(b"\xc0\x01" + NORMAL + get).hex() == "c4014101" + "02"
    assert silent(meter, b"\xc3\x01" + HIGH + KEY["close"] + b"\0") == b""
    assert meter.transceive(b"\xc0\x01" + HIGH + get).hex() == "c401c201" + "02"
    access = b"\xd9\xc0\0\0\1\0\x01\x01" + KEY["energy"] + b"\x01\0"
    assert meter.transceive(access).hex() == "dac00000010000" + "0100" + "01" + "0102"
    first, second = device.pending
    second.answer(ActionResult.SUCCESS)
    assert [wrapper.decode_datagram(late).apdu.hex() for late in meter.late] == ["c701c20000"]
    first.answer(ActionResult.HARDWARE_FAULT)
    assert wrapper.decode_datagram(meter.late[1]).apdu.hex() == "c701410100"
    assert meter.transceive(b"\xc0\x01" + NORMAL + get).hex() == "c4014100" + "060001e240"


def test_without_priority_management_nothing_overtakes():
    meter, device = opened(conformance=CONFORMANCE_LN & ~Conformance.PRIORITY_MANAGEMENT)
    device.breaker_later = True
    assert silent(meter, b"\xc3\x01" + NORMAL + KEY["open"] + b"\0") == b""
    assert meter.transceive(b"\xc0\x01" + HIGH + KEY["energy"] + b"\0").hex() == "c401c201" + "02"


def test_a_request_of_high_priority_does_not_end_a_long_one():
    meter, device = opened(max_pdu=300, conformance=CONFORMANCE_LN & ~Conformance.GENERAL_BLOCK_TRANSFER)
    raw, response = b"", meter.transceive(b"\xc0\x01" + NORMAL + KEY["profile"] + b"\0")
    while True:
        piece, _ = axdr.take_octet_string(response, 9)
        raw += piece
        if response[3]:
            break
        urgent = meter.transceive(b"\xc0\x01" + HIGH + KEY["energy"] + b"\0")
        assert urgent.hex() == "c401c200" + "060001e240"
        response = meter.transceive(b"\xc0\x02" + NORMAL + response[4:8])
    assert raw == whole_profile(device)


def test_acknowledgements_are_acknowledged_too():
    """A client numbers the blocks without data that it sends; each burst says which of them came last."""
    meter, _ = opened(max_pdu=300, conformance=GENERAL_ONLY)
    first = decode(meter.transceive(b"\xc0\x01\xc1" + KEY["profile"] + b"\0"))
    assert (first.number, first.acknowledged) == (1, 0)
    for number in range(1, 6):
        block = decode(meter.transceive(GeneralBlock(True, False, 1, number, number, b"").encode()))
        assert (block.number, block.acknowledged) == (number + 1, number)
    again = decode(meter.transceive(GeneralBlock(True, False, 1, 6, 5, b"").encode()))
    assert (again.number, again.acknowledged) == (6, 6)
