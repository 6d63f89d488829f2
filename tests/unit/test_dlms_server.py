"""The server core, driven by the client core and by frames written out by hand."""

import os

import pytest
from dlms_toy import (
    BREAKER,
    CLIENT_TITLE,
    COLUMNS,
    ENERGY,
    FIRST_ROW,
    KEYS,
    MISSING,
    NOTE,
    NOW,
    PERIOD,
    POWER,
    PROFILE,
    SAP,
    SECRET,
    SERIAL,
    TITLE,
    octets_of,
    toy_server,
)

from flexmap.dlms import acse, axdr, classes, cosem_time, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.client import (
    AssociationError,
    AttributeReference,
    Client,
    ClientSettings,
    ExceptionResponseError,
    ResultError,
    drive,
)
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.profile import EventKind, Limits
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, MemoryCounterStore
from flexmap.dlms.selection import CaptureObject, EntrySelection, RangeSelection

NONE_AARQ = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
NOT_ALLOWED = "d80101"


class Line:
    """A client core and a connection of the server core, back to back."""

    def __init__(self, server, settings, ciphering=None, proof=None):
        self.late = []
        self.connection = server.connection(self.late.append)
        self.settings = settings
        self.client = Client(settings, random=os.urandom, ciphering=ciphering, proof=proof)
        self.sizes = []
        self.requests = 0

    def transceive(self, apdu):
        self.requests += 1
        frame = wrapper.encode(self.settings.client_sap, self.settings.server_sap, apdu)
        reply = self.connection.receive(frame)
        assert reply, "no reply"
        answer = wrapper.decode_datagram(reply)
        assert (answer.source, answer.destination) == (self.settings.server_sap, self.settings.client_sap)
        self.sizes.append(len(answer.apdu))
        return answer.apdu

    def __getattr__(self, name):
        operation = getattr(self.client, name)
        return lambda *args: drive(operation(*args), self.transceive)


def line(server, kind="reader", max_pdu=0xFFFF, **changes):
    ciphering = None
    if kind == "public":
        settings = ClientSettings(client_sap=16, server_sap=SAP, max_pdu=max_pdu, **changes)
    elif kind in ("reader", "lls-manager"):
        settings = ClientSettings(
            client_sap=2 if kind == "reader" else 3,
            server_sap=SAP,
            max_pdu=max_pdu,
            **({"mechanism": Mechanism.LLS, "secret": SECRET} | changes),
        )
    else:
        store = changes.pop("store", None) or MemoryCounterStore()
        ciphering = Ciphering(changes.pop("keys", KEYS), changes.pop("title", CLIENT_TITLE), store)
        settings = ClientSettings(
            client_sap=1,
            server_sap=SAP,
            max_pdu=max_pdu,
            **({"mechanism": Mechanism.HLS_GMAC, "protection": AUTHENTICATED_ENCRYPTED} | changes),
        )
    return Line(server, settings, ciphering)


def opened(kind="reader", max_pdu=0xFFFF, **changes):
    server, device = toy_server()
    result = line(server, kind, max_pdu, **changes)
    result.connect()
    return result, device


# --- associations


@pytest.mark.parametrize("kind", ["public", "reader", "management"])
def test_associate_read_release(kind):
    meter, _ = opened(kind)
    assert cosem_time.to_epoch_ms(meter.get(8, classes.CLOCK_LN, 2)) == NOW
    assert meter.get(1, SERIAL, 2) == b"FLX%08d" % SAP
    assert meter.get(8, classes.CLOCK_LN, 1) == classes.CLOCK_LN
    meter.release()
    assert meter.connection.associations == 0
    with pytest.raises(ExceptionResponseError):
        meter.get(1, SERIAL, 2)


def test_rights_differ_by_client():
    public, _ = opened("public")
    with pytest.raises(ResultError, match="read-write-denied"):
        public.get(3, ENERGY, 2)
    reader, _ = opened("reader")
    assert reader.get(3, ENERGY, 2) == 123456
    with pytest.raises(ResultError, match="read-write-denied"):
        reader.set(1, NOTE, 2, axdr.octet_string(b"x"))
    assert reader.action(70, BREAKER, 1, axdr.encode("integer", 0)).result == ActionResult.READ_WRITE_DENIED
    manager, _ = opened("management")
    manager.set(1, NOTE, 2, axdr.octet_string(b"x"))
    assert manager.get(1, NOTE, 2) == b"x"
    assert manager.action(70, BREAKER, 1, axdr.encode("integer", 0)).result == ActionResult.SUCCESS
    assert manager.get(70, BREAKER, 2) is False


@pytest.mark.parametrize(
    ("kind", "changes", "diagnostic"),
    [
        ("reader", {"secret": b"wrong"}, 13),
        ("reader", {"secret": b""}, 13),
        ("reader", {"mechanism": Mechanism.NONE}, 12),
        ("public", {"mechanism": Mechanism.LLS}, 11),
        ("management", {"mechanism": Mechanism.LLS}, 11),
        ("management", {"protection": 0}, 2),
        ("management", {"protection": 0x10}, 13),
        ("management", {"protection": 0x20}, 13),
        ("management", {"keys": Keys(bytes(16), KEYS.gak)}, 13),
        ("management", {"keys": Keys(KEYS.guek, bytes(16))}, 13),
        ("management", {"title": TITLE}, 3),
        ("public", {"max_pdu": 63}, 1),
    ],
)
def test_refused_associations_say_why(kind, changes, diagnostic):
    events = []
    server, _ = toy_server(on_event=events.append)
    meter = line(server, kind, **changes)
    words = acse.Diagnostic(diagnostic).name.lower().replace("_", " ")
    with pytest.raises(AssociationError, match=words):
        meter.connect()
    assert meter.connection.associations == 0
    assert events[-1].kind == EventKind.REFUSED
    assert not any(SECRET.decode() in str(event) or KEYS.guek.hex() in str(event) for event in events)


def test_unknown_client_and_server_and_other_application_contexts():
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    for client, sap in ((99, SAP), (16, 999)):
        reply = connection.receive(wrapper.encode(client, sap, NONE_AARQ))
        assert wrapper.decode_datagram(reply).apdu[:1] == b"\x61"
        assert b"\xa2\x03\x02\x01\x01" in reply
    other = NONE_AARQ.replace(bytes.fromhex("60857405080101"), bytes.fromhex("60857405080105"))
    assert bytes.fromhex("a305a103020102") in connection.receive(wrapper.encode(16, SAP, other))
    assert connection.receive(wrapper.encode(16, 127, NONE_AARQ)) == b""
    assert connection.receive(wrapper.encode(16, SAP, bytes.fromhex("c001c1")))[8:].hex() == NOT_ALLOWED


def test_only_the_conformance_that_is_implemented_is_negotiated():
    server, _ = toy_server()
    everything = NONE_AARQ.replace(bytes.fromhex("007e1f"), b"\xff\xff\xff")
    reply = server.connection(lambda _: None).receive(wrapper.encode(16, SAP, everything))
    assert reply[-11:].hex() == "5f1f0400" + "20fe5d" + "ffff" + "0007"


def test_half_open_association_can_only_answer_the_challenge():
    server, device = toy_server()
    meter = line(server, "management")
    exchange = meter.client.connect()
    reply = meter.transceive(next(exchange))
    pass_3 = exchange.send(reply)
    with pytest.raises(ResultError, match="read-write-denied"):
        meter.get(1, SERIAL, 2)
    assert meter.action(70, BREAKER, 1).result == ActionResult.READ_WRITE_DENIED
    assert axdr.decode(device.values[device.schema.slot(70, BREAKER, 2)]) is True
    # The counter of pass 3 was taken before: too late now, as any replay is.
    assert meter.transceive(pass_3)[:3].hex() == "d80106"


def test_wrong_answer_to_the_challenge():
    events = []
    server, _ = toy_server(on_event=events.append)
    meter = line(server, "management")
    exchange = meter.client.connect()
    exchange.send(meter.transceive(next(exchange)))
    answer = axdr.octet_string(meter.client._ciphering.answer_challenge(b"not the challenge"))
    assert meter.action(15, ASSOCIATION_LN, 1, answer).result == ActionResult.READ_WRITE_DENIED
    assert events[-1].kind == EventKind.SECURITY_FAILURE
    with pytest.raises(ResultError):
        meter.get(3, ENERGY, 2)


def test_recorded_session_cannot_be_replayed_even_after_a_restart():
    store = MemoryCounterStore()
    server, _ = toy_server(counters=store)
    recorded = []
    meter = line(server, "management")
    transceive = meter.transceive
    meter.transceive = lambda apdu: (recorded.append(apdu), transceive(apdu))[1]
    meter.connect()
    meter.set(1, NOTE, 2, axdr.octet_string(b"original"))
    restarted, device = toy_server(counters=store)
    for again in (server, restarted):
        connection = again.connection(lambda _: None)
        replies = [connection.receive(wrapper.encode(1, SAP, apdu))[8:] for apdu in recorded]
        assert bytes.fromhex("a203020101") in replies[0]
        assert all(reply.hex() == NOT_ALLOWED for reply in replies[1:])
    assert axdr.decode(device.values[device.schema.slot(1, NOTE, 2)]) == b""


def test_plain_and_damaged_requests_on_a_ciphered_association():
    events = []
    server, _ = toy_server(on_event=events.append)
    meter = line(server, "management")
    meter.connect()
    get = bytes.fromhex("c001c1") + b"\0\3" + ENERGY + b"\2\0"
    assert meter.transceive(get).hex() == NOT_ALLOWED
    body = meter.client._ciphering.protect(AUTHENTICATED_ENCRYPTED, get)
    damaged = b"\xc8" + bytes((len(body),)) + body[:-1] + bytes((body[-1] ^ 1,))
    assert meter.transceive(damaged).hex() == "d80105"
    wrong_service = b"\xc9" + bytes((len(body),)) + body
    assert meter.transceive(wrong_service).hex() == "d80105"
    assert [event.kind for event in events] == [EventKind.OPENED, *[EventKind.SECURITY_FAILURE] * 3]
    assert meter.get(3, ENERGY, 2) == 123456


def test_general_glo_ciphering_is_answered_in_kind():
    meter, _ = opened("management")
    get = bytes.fromhex("c001c1") + b"\0\3" + ENERGY + b"\2\0"
    side = meter.client._ciphering
    body = side.protect(AUTHENTICATED_ENCRYPTED, get)
    reply = meter.transceive(b"\xdb\x08" + CLIENT_TITLE + bytes((len(body),)) + body)
    assert reply[:10] == b"\xdb\x08" + TITLE
    _, plain = side.unprotect(TITLE, reply[11:], AUTHENTICATED_ENCRYPTED)
    assert plain.hex() == "c401c100" + axdr.encode("double-long-unsigned", 123456).hex()
    body = side.protect(AUTHENTICATED_ENCRYPTED, get)
    assert meter.transceive(b"\xdb\x08" + bytes(8) + bytes((len(body),)) + body).hex() == "d80105"


def test_many_associations_on_one_connection_are_apart():
    server, _ = toy_server(limits=Limits(max_associations=2))
    connection = server.connection(lambda _: None)

    def speak(client, apdu):
        return connection.receive(wrapper.encode(client, SAP, apdu))[8:]

    lls = bytes.fromhex(
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
        "BE10040E01000000065F1F0400007E1F04B0"
    )
    assert bytes.fromhex("a203020100") in speak(16, NONE_AARQ)
    assert bytes.fromhex("a203020100") in speak(2, lls)
    assert bytes.fromhex("a203020102") in speak(3, lls)  # full: rejected transient
    get = bytes.fromhex("c001c1") + b"\0\3" + ENERGY + b"\2\0"
    assert speak(16, get).hex() == "c401c10103"
    assert speak(2, get).hex() == "c401c1000600" + "01e240"
    assert speak(16, b"\x62\x00").hex() == "6303800100"
    assert bytes.fromhex("a203020100") in speak(3, lls)


# --- GET


def test_nothing_is_met_with_silence():
    meter, _ = opened()
    for class_id, name, attribute, result in [
        (3, bytes(6), 2, "object-undefined"),
        (7, ENERGY, 2, "object-class-inconsistent"),
        (4, ENERGY, 2, "object-class-inconsistent"),
        (3, ENERGY, 9, "object-undefined"),
        (3, MISSING, 2, "temporary-failure"),
        (15, ASSOCIATION_LN, 7, "read-write-denied"),
    ]:
        with pytest.raises(ResultError, match=result):
            meter.get(class_id, name, attribute)
    selection = EntrySelection(1)
    with pytest.raises(ResultError, match="scope-of-access-violated"):
        meter.get(3, ENERGY, 2, selection)


def test_an_extended_register_reads_as_a_register():
    meter, _ = opened()
    for attribute in (1, 2, 3):
        assert meter.get(3, POWER, attribute) == meter.get(4, POWER, attribute)
    with pytest.raises(ResultError, match="object-class-inconsistent"):
        meter.get(3, POWER, 5)


def test_with_list_keeps_order_and_failures():
    meter, _ = opened()
    values = meter.get_with_list(
        [
            AttributeReference(3, ENERGY, 2),
            AttributeReference(3, MISSING, 2),
            AttributeReference(4, POWER, 3),
            AttributeReference(7, PROFILE, 2, EntrySelection(1, 1, 2, 2)),
        ]
    )
    assert values == [123456, DataAccessResult.TEMPORARY_FAILURE, (-1, 27), [(1000,)]]


@pytest.mark.parametrize("kind", ["reader", "management"])
@pytest.mark.parametrize("max_pdu", [64, 65, 100, 256, 1024, 4096, 65535])
def test_profile_in_blocks_never_exceeds_the_client_pdu(kind, max_pdu):
    meter, _ = opened(kind, max_pdu)
    meter.sizes.clear()  # ACSE APDUs are not subject to the limit
    rows = meter.get(7, PROFILE, 2, EntrySelection(1, 200))
    assert [row[1] for row in rows] == list(range(1000, 1200))
    assert max(meter.sizes) <= max_pdu
    assert all(size >= min(max_pdu, 5000) - 32 for size in meter.sizes[:-1])  # and blocks are full
    names = {element[2] for element in meter.get(15, ASSOCIATION_LN, 2)}
    assert ENERGY in names


@pytest.mark.parametrize("kind", ["reader", "management"])
@pytest.mark.parametrize("size", range(20, 100))
def test_value_around_the_pdu_size(kind, size):
    meter, device = opened(kind, 64)
    meter.sizes.clear()
    device.put(1, NOTE, 2, axdr.octet_string(bytes(range(size))))
    assert meter.get(1, NOTE, 2) == bytes(range(size))
    assert meter.get_with_list([AttributeReference(1, NOTE, 2)] * 2) == [bytes(range(size))] * 2
    assert max(meter.sizes) <= 64


def test_rows_are_made_only_as_blocks_go_out():
    meter, device = opened("reader", 256)
    exchange = meter.client.get(7, PROFILE, 2)
    request = next(exchange)
    for _ in range(3):
        request = exchange.send(meter.transceive(request))
    assert device.profile.made < 60
    device.profile.count += 10  # new rows arrive meanwhile
    with pytest.raises(StopIteration) as end:
        while True:
            request = exchange.send(meter.transceive(request))
    assert len(end.value.value) == 1440


def test_selection_by_range_and_columns():
    meter, _ = opened("reader", 1024)
    start, end = FIRST_ROW + 10 * PERIOD, FIRST_ROW + 13 * PERIOD
    rows = meter.get(7, PROFILE, 2, RangeSelection(COLUMNS[0], octets_of(start), octets_of(end)))
    assert [row[1] for row in rows] == [1010, 1011, 1012, 1013]
    assert cosem_time.to_epoch_ms(rows[0][0]) == start * 1000
    rows = meter.get(7, PROFILE, 2, RangeSelection(COLUMNS[0], octets_of(start + 1), octets_of(end), COLUMNS[1:2]))
    assert rows == [(1011,), (1012,), (1013,)]
    unknown = RangeSelection(COLUMNS[0], octets_of(start), octets_of(end), (CaptureObject(3, MISSING, 2),))
    with pytest.raises(ResultError, match="scope-of-access-violated"):
        meter.get(7, PROFILE, 2, unknown)
    assert meter.get(7, PROFILE, 2, RangeSelection(COLUMNS[0], octets_of(0), octets_of(1))) == []


@pytest.mark.parametrize(
    ("selection", "rows", "columns"),
    [
        (EntrySelection(1, 3), [1000, 1001, 1002], 3),
        (EntrySelection(1439), [2438, 2439], 3),
        (EntrySelection(1440, 5000), [2439], 3),
        (EntrySelection(1441), [], 3),
        (EntrySelection(5, 4), [], 3),
        (EntrySelection(2, 2, 1, 2), [1001], 2),
    ],
)
def test_selection_by_entry(selection, rows, columns):
    meter, _ = opened()
    found = meter.get(7, PROFILE, 2, selection)
    assert [row[1] for row in found] == rows
    assert all(len(row) == columns for row in found)


def test_block_numbers_are_checked():
    meter, _ = opened("reader", 64)
    get = bytes.fromhex("c001c1") + b"\0\7" + PROFILE + b"\2\0"
    following = bytes.fromhex("c002c1")
    assert meter.transceive(following + b"\0\0\0\1").hex() == "c402c1010000000101" + "10"
    assert meter.transceive(get)[:8].hex() == "c402c10000000001"
    assert meter.transceive(following + b"\0\0\0\1")[:8].hex() == "c402c10000000002"
    assert meter.transceive(following + b"\0\0\0\1").hex() == "c402c1010000000101" + "13"
    assert meter.transceive(following + b"\0\0\0\2").hex() == "c402c1010000000201" + "10"


def test_without_negotiated_blocks_a_long_value_is_refused():
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    lls = bytes.fromhex(
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
        "BE10040E01000000065F1F04000000100040"
    )
    assert bytes.fromhex("a203020100") in connection.receive(wrapper.encode(2, SAP, lls))
    get = bytes.fromhex("c001c1") + b"\0\7" + PROFILE + b"\2\0"
    assert connection.receive(wrapper.encode(2, SAP, get))[8:].hex() == "c401c101fa"


# --- SET


@pytest.mark.parametrize("kind", ["lls-manager", "management"])
@pytest.mark.parametrize("max_pdu", [64, 256, 65535])
def test_long_values_come_in_blocks(kind, max_pdu):
    server, device = toy_server(limits=Limits(max_pdu=max(max_pdu, 100)))
    meter = line(server, kind)
    meter.connect()
    text = os.urandom(5000)
    meter.set(1, NOTE, 2, axdr.octet_string(text))
    assert axdr.decode(device.values[device.schema.slot(1, NOTE, 2)]) == text
    with pytest.raises(ResultError, match="type-unmatched"):
        meter.set(1, NOTE, 2, axdr.encode("visible-string", "x" * 3000))


def test_broken_long_sets():
    server, device = toy_server(limits=Limits(max_long_value=1000))
    meter = line(server, "lls-manager")
    meter.connect()
    first = bytes.fromhex("c102c1") + b"\0\1" + NOTE + b"\2\0"

    def block(last, number, raw):
        return pdu.data_block(last=last, number=number, raw=raw)

    assert meter.transceive(b"\xc1\x03\xc1" + block(False, 1, b"x")).hex() == "c503c11200000001"
    assert meter.transceive(first + block(False, 2, b"x")).hex() == "c503c11300000002"
    assert meter.transceive(first + block(False, 1, b"\x09\x03a")).hex() == "c502c100000001"
    assert meter.transceive(b"\xc1\x03\xc1" + block(False, 3, b"b")).hex() == "c503c11300000003"
    assert meter.transceive(b"\xc1\x03\xc1" + block(True, 2, b"b")).hex() == "c503c11200000002"
    assert meter.transceive(first + block(False, 1, b"\x09\x82\x04\x00" + bytes(600)))[:2].hex() == "c502"
    assert meter.transceive(b"\xc1\x03\xc1" + block(False, 2, bytes(600))).hex() == "c503c11100000002"
    assert meter.transceive(first + block(True, 1, b"\x09\x05a")).hex() == "c503c10c00000001"
    assert axdr.decode(device.values[device.schema.slot(1, NOTE, 2)]) == b""


def test_set_with_list_plain_and_in_blocks():
    meter, _ = opened("lls-manager")
    targets = b"\x02" + b"\0\1" + NOTE + b"\2\0" + b"\0\1" + SERIAL + b"\2\0"
    values = b"\x02" + axdr.octet_string(b"n") + axdr.octet_string(b"s")
    assert meter.transceive(b"\xc1\x04\xc1" + targets + values).hex() == "c505c1020003"
    head = b"\xc1\x05\xc1" + targets + pdu.data_block(last=False, number=1, raw=values[:4])
    assert meter.transceive(head).hex() == "c502c100000001"
    tail = b"\xc1\x03\xc1" + pdu.data_block(last=True, number=2, raw=values[4:])
    assert meter.transceive(tail).hex() == "c504c1020003" + "00000002"


def test_unconfirmed_set_is_done_in_silence():
    meter, device = opened("lls-manager")
    apdu = bytes.fromhex("c10181") + b"\0\1" + NOTE + b"\2\0" + axdr.octet_string(b"q")
    assert meter.connection.receive(wrapper.encode(3, SAP, apdu)) == b""
    assert axdr.decode(device.values[device.schema.slot(1, NOTE, 2)]) == b"q"


# --- ACTION


@pytest.mark.parametrize("kind", ["lls-manager", "management"])
def test_an_action_is_answered_when_the_meter_has_answered(kind):
    meter, device = opened(kind)
    device.breaker_later = True
    exchange = meter.client.action(70, BREAKER, 1, axdr.encode("integer", 0))
    request = next(exchange)
    sap = meter.settings.client_sap
    assert meter.connection.receive(wrapper.encode(sap, SAP, request)) == b""
    # meanwhile everything else of this association is refused, and nothing is forgotten
    with pytest.raises(ResultError, match="temporary-failure"):
        meter.get(3, ENERGY, 2)
    assert meter.get_with_list([AttributeReference(3, ENERGY, 2)]) == [DataAccessResult.TEMPORARY_FAILURE]
    assert meter.action(70, BREAKER, 2).result == ActionResult.TEMPORARY_FAILURE
    (pending,) = device.pending
    assert not meter.late
    pending.answer(ActionResult.SUCCESS)
    pending.answer(ActionResult.HARDWARE_FAULT)
    (late,) = meter.late
    frame = wrapper.decode_datagram(late)
    assert (frame.source, frame.destination) == (SAP, sap)
    if kind == "lls-manager":
        assert frame.apdu.hex() == f"c701{request[2]:02x}0000"
    else:
        assert frame.apdu[0] == pdu.Tag.GLO_ACTION_RESPONSE
    assert meter.get(3, ENERGY, 2) == 123456


def test_the_answer_to_a_client_that_went_away_goes_nowhere():
    meter, device = opened("lls-manager")
    device.breaker_later = True
    request = next(meter.client.action(70, BREAKER, 1))
    meter.connection.receive(wrapper.encode(3, SAP, request))
    meter.connection.close()
    assert device.pending[0].cancelled
    device.pending[0].answer(ActionResult.SUCCESS)
    assert meter.late == []


def test_actions_in_a_list_wait_for_each_other():
    meter, device = opened("lls-manager")
    device.breaker_later = True
    methods = b"\x02" + b"\0\x46" + BREAKER + b"\1" + b"\0\x46" + BREAKER + b"\2"
    apdu = b"\xc3\x03\xc1" + methods + b"\x02\x0f\0\x0f\0"
    assert meter.connection.receive(wrapper.encode(3, SAP, apdu)) == b""
    assert len(device.pending) == 1
    device.pending[0].answer(ActionResult.SUCCESS)
    assert len(device.pending) == 2
    assert meter.late == []
    device.pending[1].answer(ActionResult.HARDWARE_FAULT)
    assert meter.late[0][8:].hex() == "c703c102" + "0000" + "0100"


def test_action_parameter_in_blocks():
    meter, _ = opened("lls-manager")
    key = b"\0\x46" + BREAKER + b"\1"
    head = b"\xc3\x04\xc1" + key + pdu.data_block(last=False, number=1, raw=b"\x0f")
    assert meter.transceive(head).hex() == "c704c100000001"
    tail = b"\xc3\x06\xc1" + pdu.data_block(last=True, number=2, raw=b"\x00")
    assert meter.transceive(tail).hex() == "c701c10000"
    assert meter.get(70, BREAKER, 2) is False


# --- the current association


def test_object_list_shows_the_rights_of_the_client_that_asks():
    def rights(kind):
        meter, _ = opened(kind)
        return {
            (class_id, name): tuple({right[0]: right[1] for right in rights} for rights in access)
            for class_id, _, name, access in meter.get(15, ASSOCIATION_LN, 2)
        }

    public, reader, manager = rights("public"), rights("reader"), rights("management")
    assert set(public) == {(15, ASSOCIATION_LN), (8, classes.CLOCK_LN), (1, SERIAL)}
    assert reader[1, NOTE][0] == {1: 1, 2: 1}
    assert manager[1, NOTE][0] == {1: 1, 2: 3}
    assert reader[70, BREAKER][1] == {1: 0, 2: 0}
    assert manager[70, BREAKER][1] == {1: 1, 2: 1}


def test_current_association():
    meter, _ = opened("management", 1000)
    assert meter.get(15, ASSOCIATION_LN, 3) == (1, SAP)
    assert meter.get(15, ASSOCIATION_LN, 4).hex() == "60857405080103"
    conformance, receive, send, version, _, _ = meter.get(15, ASSOCIATION_LN, 5)
    assert (int(conformance, 2), len(conformance)) == (0x401E1D, 24)
    assert (receive, send, version) == (65535, 1000, 6)
    assert meter.get(15, ASSOCIATION_LN, 6).hex() == "60857405080205"
    assert meter.get(15, ASSOCIATION_LN, 8) == 2
    assert meter.get(64, classes.SECURITY_SETUP_LN, 2) == 0b01101100
    assert meter.get(17, classes.SAP_ASSIGNMENT_LN, 2)[1] == (SAP, b"FLXTOY")


# --- frames


def test_frames_in_any_pieces_and_many_at_once():
    server, _ = toy_server()
    get = bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0"
    stream = wrapper.encode(16, SAP, NONE_AARQ) + wrapper.encode(16, SAP, get) * 3
    whole = server.connection(lambda _: None).receive(stream)
    pieces = server.connection(lambda _: None)
    assert b"".join(pieces.receive(stream[at : at + 1]) for at in range(len(stream))) == whole
    assert whole.count(wrapper.HEADER.pack(1, SAP, 16, 0)[:6]) == 4


def test_a_stream_out_of_step_must_be_closed():
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    with pytest.raises(wrapper.WrapperError):
        connection.receive(b"GET / HTTP/1.1\r\n\r\n")


def test_replies_wait_when_the_client_asks_for_much_at_once():
    server, _ = toy_server(limits=Limits(max_replies=100_000))
    meter = line(server, "reader")
    meter.connect()
    get = wrapper.encode(2, SAP, bytes.fromhex("c001c1") + b"\0\7" + PROFILE + b"\2\0")
    sizes = [len(meter.connection.receive(get * 100))]
    while meter.connection.backlog:
        sizes.append(len(meter.connection.receive(b"")))
    assert max(sizes) < 170_000
    assert sum(sizes) > 3_000_000


def test_longer_apdu_than_announced_is_refused():
    server, _ = toy_server(limits=Limits(max_pdu=200))
    meter = line(server, "reader")
    meter.connect()
    assert meter.transceive(bytes.fromhex("c001c1") + bytes(300)).hex() == "d80104"


def test_datagrams_keep_peers_apart_and_forget_the_oldest():
    server, _ = toy_server(limits=Limits(max_datagram_peers=2))
    port = server.datagrams(lambda peer, octets: None)
    aarq = wrapper.encode(16, SAP, NONE_AARQ)
    get = wrapper.encode(16, SAP, bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0")
    assert port.receive("a", get)[8:].hex() == NOT_ALLOWED
    for peer in "abc":
        assert bytes.fromhex("a203020100") in port.receive(peer, aarq)
    assert port.receive("a", get)[8:].hex() == NOT_ALLOWED
    assert port.receive("c", get)[8:12].hex() == "c401c100"
    for noise in (b"", b"\0\1", get + b"x", get[:-1], b"\0\2" + get[2:]):
        assert port.receive("c", noise) == b""


def test_late_answer_over_datagrams_names_the_peer():
    server, device = toy_server()
    late = []
    port = server.datagrams(lambda peer, octets: late.append((peer, octets)))
    device.breaker_later = True
    lls = bytes.fromhex(
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
        "BE10040E01000000065F1F0400007E1F04B0"
    )
    port.receive("peer", wrapper.encode(3, SAP, lls))
    port.receive("peer", wrapper.encode(3, SAP, b"\xc3\x01\xc1\0\x46" + BREAKER + b"\1\0"))
    device.pending[0].answer(ActionResult.SUCCESS)
    assert late[0][0] == "peer"
    assert late[0][1][8:].hex() == "c701c10000"


def test_sort_object_and_other_attributes_of_a_profile():
    meter, _ = opened()
    assert meter.get(7, PROFILE, 5) == 1
    assert meter.get(7, PROFILE, 6) == (0, bytes(6), 0, 0)
    assert meter.get(7, PROFILE, 4) == PERIOD
    assert [column[:3] for column in meter.get(7, PROFILE, 3)][1] == (3, ENERGY, 2)
    assert meter.get(7, PROFILE, 8) == 1440


def test_a_datagram_never_exceeds_what_udp_carries():
    server, _ = toy_server()
    port = server.datagrams(lambda peer, octets: None)
    initiate = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0))
    aarq = acse.encode_aarq(acse.Aarq(context=1, mechanism=1, authentication=SECRET, user_information=initiate))
    reply = port.receive("peer", wrapper.encode(2, SAP, aarq))
    assert pdu.decode_initiate_response(acse.decode_aare(reply[8:]).user_information).max_pdu == 65499
    long = b"\xc0\x03\xc1\x04" + (b"\0\7" + PROFILE + b"\2\0") * 4
    reply = port.receive("peer", wrapper.encode(2, SAP, long))
    assert 65400 < len(reply) <= 65507
