"""The MMS server core without sockets: layers, negotiation, services, plans, what a client may define."""

import pytest
from mms_raw import (
    INITIATE,
    attributes,
    define,
    delete,
    domain_name,
    list_attributes,
    name_list,
    read,
    read_list,
    variable,
    write,
)
from mms_toy import Toy, answer, association_request, connect_request, frames, unit_of

from flexmap.mms import ber, data, pdu, session
from flexmap.mms.cotp import TransportError
from flexmap.mms.data import DataAccessError
from flexmap.mms.server import Limits, Selectors
from flexmap.mms.session import Kind
from flexmap.model.error import RemoteError

TOTW = variable("TOY1", "MMXU1$MX$TotW")
LIM = variable("TOY1", "LLN0$SP$Lim$setMag")
NAME = variable("TOY1", "LLN0$SP$Lim$d")
OPER = variable("TOY1", "LLN0$CO$Oper$ctlVal")


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def client(toy):
    return toy.client()


def results(response, number=1):
    """The access results of a read response, joined."""
    head = b"\x02\x01" + bytes((number,))
    assert response[0] == 0xA1
    _, begin, end = ber.element(response, 0, len(response))
    assert response[begin : begin + 3] == head
    first, last = ber.expect(response, begin + 3, end, 0xA4)
    tag, a, b = ber.element(response, first, last)
    while tag != 0xA1:
        tag, a, b = ber.element(response, b, last)
    return response[a:b]


# transport


def test_a_stream_in_single_octets_is_the_same_stream(toy):
    connection = toy.server.connection(lambda _: None)
    octets = connect_request() + b"".join(frames(association_request()))
    replies = [connection.receive(octets[at : at + 1]) for at in range(len(octets))]
    assert [len(reply) > 0 for reply in replies].count(True) == 2
    assert connection.association is not None


@pytest.mark.parametrize("exponent", range(7, 14))
def test_answers_are_cut_into_tpdus_of_the_negotiated_size(toy, exponent):
    client = toy.client(tpdu=exponent)
    assert client.confirm[11:14] == bytes((0xC0, 1, exponent))
    octets = client.connection.receive(client.frame(attributes("TOY1", "MMXU1")))
    sizes, at = [], 0
    while at < len(octets):
        sizes.append(int.from_bytes(octets[at + 2 : at + 4], "big") - 4)
        at += sizes[-1] + 4
    assert max(sizes) <= 1 << exponent
    assert answer(octets)[0] == 0xA1
    if exponent == 7:
        assert len(sizes) == 3


def test_a_larger_tpdu_size_than_there_is_is_made_smaller(toy):
    connection = toy.server.connection(lambda _: None)
    assert b"\xc0\x01\x0d" in connection.receive(connect_request(14))


def test_without_a_tpdu_size_none_is_answered(toy):
    connection = toy.server.connection(lambda _: None)
    assert b"\xc0" not in connection.receive(connect_request(0))


def test_segments_of_a_request_are_joined(toy, client):
    whole = unit_of(client.frame(read(TOTW)))
    replies = [client.connection.receive(frame) for frame in frames(whole, 5)]
    assert not any(replies[:-1])
    assert results(answer(replies[-1])) == toy.first.find("MMXU1$MX$TotW").encoded()


def test_a_service_data_unit_has_a_limit():
    toy = Toy(limits=Limits(max_pdu=1000))
    client = toy.client()
    with pytest.raises(TransportError, match="more than"):
        for frame in frames(bytes(2000), 500):
            client.connection.receive(frame)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "no TPKT"),
        (b"\x03\x00\x00\x03", "of 3 octets"),
        (b"\x03\x00\xff\xff", "a connection request of"),
        (b"\x03\x00\x00\x07\x02\xf0\x80", "before a connection request"),
        (connect_request().replace(b"\xc2\x02", b"\xc2\x09"), "ends behind"),
    ],
)
def test_what_is_no_connection_request_ends_the_connection(toy, octets, words):
    connection = toy.server.connection(lambda _: None)
    with pytest.raises(RemoteError, match=words):
        connection.receive(octets + b"\x03\x00\x00\x07\x02\xf0\x80")


@pytest.mark.parametrize(
    ("selectors", "refused"),
    [
        (Selectors(), False),
        (Selectors(b"\0\1", b"\0\1", b"\0\0\0\1"), False),
        (Selectors(transport=b"\0\2"), True),
        (Selectors(session=b"\0\2"), True),
        (Selectors(presentation=b"\0\2"), True),
    ],
)
def test_called_selectors_are_those_configured(selectors, refused):
    client = Toy(selectors=selectors).client()
    assert (client.association is None) == refused
    assert client.connection.ended == refused


# session, presentation, association


def test_session_parameters_come_in_any_order_and_with_long_lengths(toy):
    spdu = session.decode(association_request())

    def parameter(identifier, value):
        return bytes((identifier, 0xFF)) + len(value).to_bytes(2, "big") + value

    body = parameter(193, spdu.user_data) + parameter(52, b"\0\1") + parameter(5, parameter(22, b"\x02"))
    unit = b"\x0d\xff" + len(body).to_bytes(2, "big") + body
    connection = toy.server.connection(lambda _: None)
    connection.receive(connect_request())
    assert session.decode(unit_of(connection.receive(b"".join(frames(unit))))).kind is Kind.ACCEPT
    assert connection.association is not None


@pytest.mark.parametrize("contexts", [(1, 3), (3, 1), (5, 7), (101, 99)])
def test_presentation_contexts_are_the_clients_choice(toy, contexts):
    client = toy.client(contexts=contexts)
    octets = client.connection.receive(client.frame(b"\x82\x00"))
    assert octets[11:13] != b""
    assert bytes((0x02, 1, contexts[1])) in octets
    assert answer(octets)[0] == 0xA1


def test_data_in_another_context_end_the_connection(toy, client):
    client.contexts = (1, 9)
    with pytest.raises(RemoteError, match="presentation context 9"):
        client.ask(b"\x82\x00")


def test_a_client_that_proposes_no_context_for_mms_is_refused(toy):
    unit = association_request().replace(bytes.fromhex("28ca220201"), bytes.fromhex("28ca220209"))
    connection = toy.server.connection(lambda _: None)
    connection.receive(connect_request())
    assert session.decode(unit_of(connection.receive(b"".join(frames(unit))))).kind is Kind.REFUSE
    assert connection.ended
    assert "no presentation contexts" in toy.events[-1][1]


@pytest.mark.parametrize(
    ("password", "user", "diagnostic"),
    [(b"secret", "operator", None), (b"wrong", None, 13), (None, None, 14)],
)
def test_a_password_is_asked_for(password, user, diagnostic):
    toy = Toy(authenticate=lambda given: "operator" if given == b"secret" else None)
    client = toy.client(password=password)
    if diagnostic is None:
        assert client.association.user == user
        return
    assert client.association is None
    assert client.connection.ended
    refused = session.decode(unit_of(client.accepted))
    assert refused.kind is Kind.REFUSE
    assert bytes((0xA3, 5, 0xA1, 3, 2, 1, diagnostic)) in unit_of(client.accepted)


def test_an_unknown_mechanism_is_refused(toy):
    unit = association_request(password=b"x").replace(bytes.fromhex("8b03520301"), bytes.fromhex("8b03520309"))
    connection = toy.server.connection(lambda _: None)
    connection.receive(connect_request())
    assert bytes((2, 1, 11)) in connection.receive(b"".join(frames(unit)))
    assert connection.association is None


def test_pdu_size_and_outstanding_requests_are_negotiated(toy):
    small = INITIATE.replace(bytes.fromhex("800300fde8"), bytes.fromhex("8003000800")).replace(
        bytes.fromhex("810105"), bytes.fromhex("810102")
    )
    client = toy.client(initiate=small)
    negotiated = client.association.negotiated
    assert (negotiated.max_pdu, negotiated.calling, negotiated.nesting) == (2048, 2, 10)
    assert bytes.fromhex("80020800810102820105") in client.accepted


def test_an_answer_larger_than_the_negotiated_pdu_is_an_error(toy):
    small = INITIATE.replace(bytes.fromhex("800300fde8"), bytes.fromhex("8003000200"))
    client = toy.client(initiate=small)
    assert client.association.negotiated.max_pdu == 512
    for _ in range(2):  # the second one would be answered from a plan
        assert client.ask(read(*[TOTW] * 30))[0] == pdu.CONFIRMED_ERROR
    assert client.ask(read(TOTW))[0] == pdu.CONFIRMED_RESPONSE


def test_a_release_is_answered_and_ends_the_connection(client):
    finish = b"\x09\x09\xc1\x07" + bytes.fromhex("610530030201 01".replace(" ", ""))
    released = client.connection.receive(b"".join(frames(finish)))
    assert session.decode(unit_of(released)).kind is Kind.DISCONNECT
    assert client.connection.ended
    assert not client.association.open


def test_an_abort_ends_the_association(toy, client):
    ended = []
    client.association.on_close(ended.append)
    assert client.connection.receive(b"".join(frames(b"\x19\x03\x11\x01\x0b"))) == b""
    assert ended == [client.association]
    assert client.association not in toy.server.associations


# names and types


def test_names_are_paged_to_the_pdu(toy):
    small = INITIATE.replace(bytes.fromhex("800300fde8"), bytes.fromhex("8003000200"))
    client = toy.client(initiate=small)
    found, after, pages = [], None, 0
    while True:
        response = client.ask(name_list(0, "TOY1", after))
        assert len(response) <= 512
        pages += 1
        names = response.split(b"\x1a")[1:]
        found += [name[1 : 1 + name[0]].decode() for name in names]
        if response.endswith(b"\x81\x01\x00"):
            break
        after = found[-1]
    assert pages > 1
    assert found == sorted(found) == toy.first.schema.names.names
    assert {"LLN0", "LLN0$SP", "MMXU1$MX$TotW$mag$f", "MMXU1$MX$HA"} <= set(found)
    assert not any(name.startswith("MMXU1$MX$HA$") for name in found)


def test_a_type_is_described_with_its_array(client):
    response = client.ask(attributes("TOY1", "MMXU1$MX$HA"))
    assert b"\xa1\x38\x81\x01\x03\xa2\x33\xa2\x31" in response


# read


def test_a_structure_reads_as_its_leaves_with_headers(toy, client):
    toy.first.set(toy.first.find("MMXU1$MX$TotW$mag$f").start, data.float32(1.5))
    expected = bytes.fromhex("a218a2078705083fc000008403030000 91080000000000000000".replace(" ", ""))
    assert results(client.ask(read(TOTW))) == expected


@pytest.mark.parametrize("value", [0, 127, 128, 2**31, 2**63 - 1, -(2**63), 5])
def test_lengths_are_mended_when_a_value_grows_or_shrinks(toy, client, value):
    assert toy.first.set(toy.first.find("LLN0$ST$Cnt$actVal").start, data.integer(value)) == (value != 0)
    for item in ("LLN0$ST$Cnt", "LLN0$ST", "LLN0"):
        encoded = toy.first.find(item).encoded()
        assert toy.first.find(item).component.type.fits(encoded, 0, len(encoded))
        assert results(client.ask(read(variable("TOY1", item)))) == encoded
    assert data.to_integer(toy.first.find("LLN0$ST$Cnt$actVal").encoded()) == value


def test_a_header_grows_past_127_octets(toy):
    device = toy.first
    position = device.find("LLN0$SP$Lim$d").start
    for size in (0, 100, 130, 300, 70_000, 3, 0):
        device.values[position]  # what it was does not matter
        device.set(position, data.octet_string(bytes(size)))
        encoded = device.find("LLN0").encoded()
        assert ber.element(encoded, 0, len(encoded))[2] == len(encoded)
        inner = device.find("LLN0$SP$Lim").encoded()
        assert ber.element(inner, 0, len(inner))[2] == len(inner)
        assert inner in encoded


ALTERNATES = {
    "component": (b"\x81\x01q", "MX$TotW", lambda v: v(1)),
    "component of a component": (
        ber.tlv(0xA0, ber.tlv(0x80, b"mag"), ber.tlv(0x30, b"\x81\x01f")),
        "MX$TotW",
        lambda v: data.float32(0),
    ),
    "all": (b"\x84\x00", "MX$TotW", lambda v: v()),
    "element": (b"\x82\x01\x02", "MX$HA", lambda v: v(2)),
    "component of an element": (
        ber.tlv(0xA0, b"\x81\x01\x01", ber.tlv(0x30, b"\x81\x01q")),
        "MX$HA",
        lambda v: data.bit_string(0, 13),
    ),
    "range": (ber.tlv(0xA3, b"\x80\x01\x01\x81\x01\x02"), "MX$HA", lambda v: ber.tlv(0xA1, v(1), v(2))),
    "two components": (b"\x81\x01t\x81\x01q", "MX$TotW", lambda v: ber.tlv(0xA2, v(2), v(1))),
    "a named component": (ber.tlv(0xA5, b"\x80\x01x\x81\x01q"), "MX$TotW", lambda v: v(1)),
    "element that is not there": (b"\x82\x01\x03", "MX$HA", lambda v: b"\x80\x01\x0a"),
    "range that is not there": (ber.tlv(0xA3, b"\x80\x01\x01\x81\x01\x03"), "MX$HA", lambda v: b"\x80\x01\x0a"),
    "component that is not there": (b"\x81\x01z", "MX$TotW", lambda v: b"\x80\x01\x0a"),
}


@pytest.mark.parametrize("name", ALTERNATES)
def test_alternate_access(toy, client, name):
    alternate, item, expected = ALTERNATES[name]
    for index in range(3):
        where = toy.first.find("MMXU1$MX$HA")
        toy.first.set(where.offset + where.component.children[index].start + 2, data.float32(index))

    def part(index=None):
        found = toy.first.find(f"MMXU1${item}")
        if index is None:
            return found.encoded()
        child = found.component.children[index]
        return b"".join(toy.first.values[found.offset + child.start : found.offset + child.stop])

    for _ in range(2):
        assert results(client.ask(read(variable("TOY1", f"MMXU1${item}", alternate)))) == expected(part)


def test_alternate_access_has_a_depth(client):
    alternate = b"\x84\x00"
    for _ in range(20):
        alternate = ber.tlv(0xA0, b"\x83\x00", ber.tlv(0x30, alternate))
    assert client.ask(read(variable("TOY1", "MMXU1", alternate)))[0] == pdu.REJECT


def test_a_component_with_a_reader_is_asked_each_time(toy):
    clients = [toy.client(peer=peer) for peer in ("one", "two")]
    for client in clients * 2:
        answered = results(client.ask(read(variable("TOY1", "LLN0$CO$SBO"))))
        assert answered == data.visible_string(f"for {client.association.peer}")


# plans


def test_a_repeated_request_is_answered_from_its_plan_with_new_values(toy, client):
    requests = [read(TOTW), read_list("TOY1", "LLN0$Meas"), read_list("TOY1", "LLN0$Meas", echo=True)]
    position = toy.first.find("MMXU1$MX$TotW$mag$f").start
    for round_ in range(4):
        toy.first.set(position, data.float32(round_))
        toy.devices[1].set(toy.devices[1].find("MMXU1$ST$Cnt$actVal").start, data.integer(10**round_ * 100))
        for request in requests:
            number = 100 + round_
            got = client.ask(request, number)
            fresh = toy.client().ask(request, number)
            assert got == fresh
            assert data.float32(round_) in got


def test_plans_are_bounded_and_forgotten_when_data_sets_change(toy, client):
    connection = client.connection
    for number in range(600):
        client.ask(read(*[TOTW] * (1 + number % 300), variable("TOY1", f"no{number:04}")))
    assert connection._kept <= toy.server.limits.max_plans
    assert 0 < len(connection._plans) < 600
    assert client.ask(define("@", "mine", TOTW))[0] == 0xA1
    request = read_list("@", "mine")
    assert [client.ask(request)[0] for _ in range(3)] == [0xA1] * 3
    assert client.ask(delete(domain_name("@", "mine")))[0] == 0xA1
    assert client.ask(request)[0] == pdu.CONFIRMED_ERROR


def test_invoke_identifiers_come_back_as_they_came(client):
    for octets in (b"\x00", b"\x00\x05", b"\x00\x00\x00\x01", b"\x7f\xff\xff\xff", b"\x00\xff\xff\xff\xff"):
        for _ in range(2):
            request = ber.tlv(0xA0, ber.tlv(0x02, octets), read(TOTW))
            response = answer(client.connection.receive(client.pdu(request)))
            assert ber.tlv(0x02, octets) in response[:12]
    response = answer(client.connection.receive(client.pdu(ber.tlv(0xA0, ber.tlv(0x02, bytes(6)), read(TOTW)))))
    assert response[0] == pdu.REJECT


# write


def test_a_write_goes_to_the_nearest_writer(toy, client):
    both = data.integer(5), data.visible_string("five")
    assert client.ask(write([LIM], [both[0]])) == bytes.fromhex("a107020101a5028100")
    assert client.ask(write([variable("TOY1", "LLN0$SP$Lim")], [ber.tlv(0xA2, *both)]))[-2:] == b"\x81\x00"
    assert toy.written[-1] == ("client", ("SP", "Lim"), ber.tlv(0xA2, *both))
    assert results(client.ask(read(NAME))) == both[1]


@pytest.mark.parametrize(
    ("target", "value", "error"),
    [
        (LIM, data.integer(40_000), DataAccessError.TYPE_INCONSISTENT),
        (LIM, data.boolean(True), DataAccessError.TYPE_INCONSISTENT),
        (NAME, data.visible_string("too long for it"), DataAccessError.TYPE_INCONSISTENT),
        (NAME, data.visible_string("bad"), DataAccessError.OBJECT_VALUE_INVALID),
        (TOTW, ber.tlv(0xA2), DataAccessError.TYPE_INCONSISTENT),
        (variable("TOY2", "LLN0$SP$Lim$setMag"), data.integer(5), DataAccessError.OBJECT_ACCESS_DENIED),
        (variable("TOY1", "LLN0$SP$None"), data.integer(5), DataAccessError.OBJECT_NON_EXISTENT),
    ],
)
def test_a_write_that_fails(client, target, value, error):
    assert client.ask(write([target, LIM], [value, data.integer(1)]))[-5:] == data.failure(error) + b"\x81\x00"


def test_a_pending_write_is_answered_later_others_meanwhile(toy, client):
    assert client.ask(write([OPER], [data.TRUE]), 7) == b""
    assert client.ask(read(TOTW), 8)[0] == 0xA1
    toy.pending[0].answer(DataAccessError.HARDWARE_FAULT)
    assert answer(client.late.pop()) == bytes.fromhex("a108020107a503800101")
    toy.pending[0].answer()
    assert not client.late


def test_a_write_of_several_pending_variables_is_answered_once(toy, client):
    assert client.ask(write([OPER, LIM, OPER], [data.TRUE, data.integer(3), data.FALSE]), 9) == b""
    toy.pending[1].answer()
    assert not client.late
    toy.pending[0].answer(DataAccessError.OBJECT_ACCESS_DENIED)
    assert answer(client.late.pop())[-7:] == b"\x80\x01\x03\x81\x00\x81\x00"


def test_outstanding_requests_have_the_negotiated_limit(toy, client):
    assert client.ask(read(TOTW), 6)[0] == client.ask(read(TOTW), 6)[0] == 0xA1
    for number in range(5):
        assert client.ask(write([OPER], [data.TRUE]), number) == b""
    assert client.ask(read(TOTW), 6)[0] == pdu.REJECT
    toy.pending[0].answer()
    assert client.ask(read(TOTW), 6)[0] == 0xA1
    assert client.ask(write([OPER], [data.TRUE]), 1)[0] == pdu.REJECT


def test_what_waits_is_cancelled_with_its_client(toy, client):
    client.ask(write([OPER], [data.TRUE]))
    client.connection.close()
    assert toy.pending[0].cancelled
    toy.pending[0].answer()
    assert not client.late


def test_cancel_tells_what_is_outstanding(toy, client):
    client.ask(write([OPER], [data.TRUE]), 7)
    for number, code in ((7, 2), (8, 1)):
        response = answer(client.connection.receive(client.pdu(bytes((0x85, 1, number)))))
        assert response == bytes.fromhex(f"a70a80010{number}a105a0038a010{code}")


# data sets


@pytest.mark.parametrize(("domain", "item"), [("TOY1", "LLN0$Mine"), (None, "Mine"), ("@", "Mine")])
def test_a_data_set_of_a_client(toy, client, domain, item):
    other = toy.client()
    assert client.ask(define(domain, item, TOTW, variable("TOY2", "LLN0$ST$Cnt")))[-2:] == b"\x8b\x00"
    assert client.ask(define(domain, item, TOTW))[0] == pdu.CONFIRMED_ERROR
    assert item.encode() in client.ask(name_list(2, domain))
    response = client.ask(list_attributes(domain, item))
    assert b"\x80\x01\xff" in response
    assert b"TOY2\x1a\x0bLLN0$ST$Cnt" in response
    assert len(data.parts(ber.tlv(0xA2, results(client.ask(read_list(domain, item)))))) == 2
    seen = other.ask(read_list(domain, item))[0]
    assert seen == (pdu.CONFIRMED_ERROR if domain == "@" else pdu.CONFIRMED_RESPONSE)
    assert client.ask(delete(domain_name(domain, item)))[-6:] == bytes.fromhex("800101810101")
    assert client.ask(read_list(domain, item))[0] == pdu.CONFIRMED_ERROR


def test_data_sets_of_the_scl_file_stay(toy, client):
    assert client.ask(delete(domain_name("TOY1", "LLN0$Meas")))[-6:] == bytes.fromhex("800101810100")
    assert client.ask(read_list("TOY1", "LLN0$Meas"))[0] == 0xA1


def test_data_sets_in_use_stay(toy, client):
    toy.server.list_users.append(lambda name: name == ("TOY1", "LLN0$Mine"))
    client.ask(define("TOY1", "LLN0$Mine", TOTW))
    assert client.ask(delete(domain_name("TOY1", "LLN0$Mine")))[-6:] == bytes.fromhex("800101810100")


@pytest.mark.parametrize("scope", [1, 2, 3])
def test_all_data_sets_of_a_scope_are_deleted(toy, client, scope):
    domain = {1: "@", 2: "TOY1", 3: None}[scope]
    for number in range(3):
        client.ask(define(domain, f"Mine{number}", TOTW))
    request = delete(scope=scope) + b""
    if scope == 2:
        request = ber.tlv(0xAD, b"\x80\x01\x02", ber.tlv(0x82, b"TOY1"))
    counts = 4 if scope == 2 else 3
    assert client.ask(request)[-6:] == bytes((0x80, 1, counts, 0x81, 1, 3))


def test_data_sets_have_limits():
    toy = Toy(limits=Limits(max_lists=2, max_members=3))
    client = toy.client()
    assert client.ask(define("@", "a", *[TOTW] * 4))[0] == pdu.CONFIRMED_ERROR
    assert client.ask(define("@", "a", variable("TOY1", "NOPE")))[0] == pdu.CONFIRMED_ERROR
    assert client.ask(define("@", "x" * 33, TOTW))[0] == pdu.CONFIRMED_ERROR
    assert client.ask(define("NOPE", "a", TOTW))[0] == pdu.CONFIRMED_ERROR
    assert client.ask(define("@", "a"))[0] == pdu.REJECT
    answers = [client.ask(define("@", name, TOTW))[0] for name in ("a", "b", "c")]
    assert answers == [0xA1, 0xA1, pdu.CONFIRMED_ERROR]
    client.connection.close()
    assert toy.client().ask(name_list(2, "@"))[-7:] == bytes.fromhex("a1 05 a000 8101 00".replace(" ", ""))


def test_a_written_data_set(toy, client):
    client.ask(define("@", "limits", LIM, NAME))
    values = data.integer(9), data.visible_string("nine")
    request = ber.tlv(0xA5, ber.tlv(0xA1, domain_name("@", "limits")), ber.tlv(0xA0, *values))
    assert client.ask(request)[-4:] == b"\x81\x00\x81\x00"
    assert results(client.ask(read_list("@", "limits"))) == b"".join(values)


# reports, backlog


def test_an_information_report_goes_out_by_itself(client):
    client.association.send(pdu.information_report((None, "RPT"), data.TRUE))
    assert answer(client.late.pop()) == bytes.fromhex("a30ea00ca1058003525054a003830101")
    client.connection.close()
    client.association.send(b"\xa3\x00")
    assert not client.late


def test_many_requests_at_once_are_answered_in_turns():
    toy = Toy(limits=Limits(max_replies=2000))
    client = toy.client()
    octets = b"".join(client.frame(read(TOTW), number) for number in range(200))
    replies = [client.connection.receive(octets)]
    while client.connection.backlog:
        assert len(replies[-1]) < 3000
        replies.append(client.connection.receive(b""))
    assert len(replies) > 3
    one_by_one = toy.client()
    expected = [one_by_one.connection.receive(one_by_one.frame(read(TOTW), number)) for number in range(200)]
    assert b"".join(replies) == b"".join(expected)
