"""What an attacker on the network, or a client with rights it abuses, can try against the server core."""

import os
import tracemalloc

import pytest
from dlms_toy import BREAKER, CLIENT_TITLE, ENERGY, KEYS, NOTE, PROFILE, SAP, SERIAL, toy_server
from test_dlms_server import NONE_AARQ, NOT_ALLOWED, line

from flexmap.dlms import acse, axdr, classes, selection, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Context, Mechanism
from flexmap.dlms.apdu import ApduError, DataAccessResult
from flexmap.dlms.client import Client, ClientSettings, ResultError
from flexmap.dlms.objects import ASSOCIATION_LN, Rows
from flexmap.dlms.profile import ClientProfile, EventKind, Limits, Role
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    Ciphering,
    CounterError,
    MemoryCounterStore,
)
from flexmap.dlms.selection import EntrySelection, RangeSelection
from flexmap.faces.dlms.client import Credentials
from flexmap.faces.dlms.counters import StoredCounters
from flexmap.model import RemoteError, Site
from flexmap.store import Store

FREE_SAP = 5
"""A client with HLS-GMAC whose messages need no protection."""
GET_NAME = bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0"
OBJECT_LIST = b"\0\x0f" + ASSOCIATION_LN + b"\2\0"
ACCEPTED = bytes.fromhex("a203020100")


def server_with_free_client(**options):
    server, device = toy_server(**options)
    server.clients[FREE_SAP] = ClientProfile(
        sap=FREE_SAP, name="free", role=Role.MANAGEMENT, mechanism=Mechanism.HLS_GMAC, keys=KEYS
    )
    return server, device


def free_line(server, protection=AUTHENTICATED_ENCRYPTED, store=None):
    meter = line(server, "management", protection=protection, store=store)
    changed = type(meter.settings)(
        client_sap=FREE_SAP, server_sap=SAP, mechanism=Mechanism.HLS_GMAC, protection=protection
    )
    meter.settings = meter.client.settings = changed
    return meter


def aarq(body, title=CLIENT_TITLE):
    return acse.encode_aarq(
        acse.Aarq(
            context=Context.LN_CIPHERED,
            mechanism=Mechanism.HLS_GMAC,
            calling_title=title,
            authentication=b"c" * 16,
            user_information=b"\x21" + bytes((len(body),)) + body,
        )
    )


# --- protection


def test_nobody_without_keys_can_use_up_a_clients_counters():
    store = MemoryCounterStore()
    server, _ = server_with_free_client(counters=store)
    forged = bytes((ENCRYPTED,)) + b"\xff\xff\xff\xff" + os.urandom(14)
    connection = server.connection(lambda _: None)
    reply = connection.receive(wrapper.encode(FREE_SAP, SAP, aarq(forged)))
    assert ACCEPTED not in reply
    assert store.last_received(KEYS.id, CLIENT_TITLE) == 0
    meter = free_line(server)
    meter.connect()
    assert meter.get(3, ENERGY, 2) == 123456
    # nor can it be done within the half-open association that anybody may have
    plain = acse.encode_aarq(
        acse.Aarq(
            context=Context.LN_CIPHERED,
            mechanism=Mechanism.HLS_GMAC,
            calling_title=CLIENT_TITLE,
            authentication=b"c" * 16,
            user_information=pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0)),
        )
    )
    assert ACCEPTED in connection.receive(wrapper.encode(FREE_SAP, SAP, plain))
    request = b"\xc8" + bytes((len(forged),)) + forged
    assert connection.receive(wrapper.encode(FREE_SAP, SAP, request))[8:].hex() == "d80105"
    assert meter.get(3, ENERGY, 2) == 123456


@pytest.mark.parametrize("less", [0, AUTHENTICATED, ENCRYPTED])
def test_an_association_keeps_the_protection_that_it_was_opened_with(less):
    server, device = server_with_free_client()
    meter = free_line(server)
    meter.connect()
    change = bytes.fromhex("c101c1") + b"\0\1" + NOTE + b"\2\0" + axdr.octet_string(b"slipped in")
    request = change
    if less:
        body = meter.client._ciphering.protect(less, change)
        request = b"\xc9" + bytes((len(body),)) + body
    assert meter.transceive(request).hex() == ("d80105" if less else NOT_ALLOWED)
    assert axdr.decode(device.values[device.schema.slot(1, NOTE, 2)]) == b""
    assert meter.get(3, ENERGY, 2) == 123456


def test_a_client_that_needs_no_protection_can_do_without_it():
    server, _ = server_with_free_client()
    meter = free_line(server, protection=0)
    meter.connect()
    assert meter.get(3, ENERGY, 2) == 123456


def test_a_refused_request_does_not_end_the_association_that_is_open():
    server, _ = toy_server()
    meter = line(server, "management")
    meter.connect()
    assert ACCEPTED not in meter.transceive(aarq(bytes((AUTHENTICATED_ENCRYPTED,)) + bytes(30)))
    assert meter.get(3, ENERGY, 2) == 123456
    assert meter.connection.associations == 1


# --- counters


def test_titles_are_bounded_in_memory_and_in_the_store_and_nothing_is_replayed(tmp_path):
    store = Store(tmp_path / "s.sqlite", Site(name="s", ied="S", meters=(), types={}))
    counters = StoredCounters(store, most=8)
    for number in range(20):
        counters.record_received("k", b"TITLE%03d" % number, 100 + number)
    counters.record_received("other", b"TITLE000", 5)
    rows = store._database.execute("SELECT name, value FROM counter").fetchall()
    assert len(rows) == 8 + 1 + 1
    # those forgotten must exceed what the highest of them had, as must those never seen
    assert counters.last_received("k", b"TITLE000") == counters.last_received("k", b"new     ") == 111
    assert counters.last_received("k", b"TITLE012") == 112
    assert counters.last_received("other", b"new     ") == 0
    store.close()


def test_a_peer_forgotten_in_memory_is_recorded_first():
    store = MemoryCounterStore()
    server = Ciphering(KEYS, b"SERVER01", store)
    peers = [Ciphering(KEYS, b"PEER%04d" % number, MemoryCounterStore(first=7)) for number in range(1100)]
    sent = [peer.protect(AUTHENTICATED_ENCRYPTED, GET_NAME) for peer in peers]
    for peer, body in zip(peers, sent, strict=True):
        server.unprotect(peer.title, body)
    assert len(server._peers) <= 1024
    for peer, body in zip(peers, sent, strict=True):
        with pytest.raises(CounterError):
            server.unprotect(peer.title, body)


# --- memory and time


def lls_manager(**limits):
    server, device = toy_server(limits=Limits(**limits) if limits else None)
    meter = line(server, "lls-manager")
    meter.connect()
    return meter, device


def test_a_list_is_bounded():
    meter, _ = lls_manager()
    one = b"\0\1" + SERIAL + b"\2\0"
    assert meter.transceive(b"\xc0\x03\xc1\x82\x01\x00" + one * 256)[:2].hex() == "c403"
    reply = meter.transceive(b"\xc0\x03\xc1\x82\x01\x01" + one * 257)
    assert reply == b"\xc4\x03\xc1\x82\x01\x01" + b"\x01\xfa" * 257


def test_lists_that_are_never_fetched_hold_little_memory():
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    server.devices = dict.fromkeys(range(20, 60), server.devices[SAP])
    server.devices[SAP] = server.devices[20]
    small = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=64))
    opening = acse.encode_aarq(acse.Aarq(context=1, user_information=small))
    lists = b"\xc0\x03\xc1\x82\x01\x00" + OBJECT_LIST * 256
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for sap in range(20, 60):
        assert ACCEPTED in connection.receive(wrapper.encode(16, sap, opening))
        assert connection.receive(wrapper.encode(16, sap, lists))[8:10] == b"\xc4\x02"
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held / 40 < 8_000


def test_a_long_value_that_may_not_be_written_is_refused_with_its_first_block():
    server, _ = toy_server()
    meter = line(server, "reader")
    meter.connect()
    block = pdu.data_block(last=False, number=1, raw=bytes(1000))
    assert meter.transceive(b"\xc1\x02\xc1\0\1" + NOTE + b"\2\0" + block).hex() == "c503c10300000001"
    assert meter.transceive(b"\xc3\x04\xc1\0\x46" + BREAKER + b"\1" + block).hex() == "c701c10300"
    following = b"\xc1\x03\xc1" + pdu.data_block(last=False, number=2, raw=b"")
    assert meter.transceive(following).hex() == "c503c11200000002"


def test_associations_are_bounded_over_all_connections_and_made_free_again():
    server, _ = toy_server(limits=Limits(max_all_associations=2))
    lines = [server.connection(lambda _: None) for _ in range(3)]
    opening = wrapper.encode(2, SAP, LLS)
    assert [ACCEPTED in connection.receive(opening) for connection in lines] == [True, True, False]
    assert ACCEPTED in lines[0].receive(opening)  # again: it takes no second place
    lines[0].close()
    assert ACCEPTED in lines[2].receive(opening)
    lines[1].receive(wrapper.encode(2, SAP, b"\x62\x00"))
    assert ACCEPTED in server.connection(lambda _: None).receive(opening)


def test_whoever_proves_nothing_makes_room_and_drives_out_nobody_who_did():
    """Half-open associations of an attacker must not keep honest clients out, nor cost memory without end."""
    server, _ = toy_server(limits=Limits(max_all_associations=40, max_unproven_associations=10))
    honest = [server.connection(lambda _: None) for _ in range(5)]
    for connection in honest:
        assert ACCEPTED in connection.receive(wrapper.encode(2, SAP, LLS))
    crowd = [server.connection(lambda _: None) for _ in range(200)]
    for connection in crowd:
        assert ACCEPTED in connection.receive(wrapper.encode(16, SAP, NONE_AARQ))
    assert sum(connection.associations for connection in crowd) <= 10
    assert server._pool.used <= 15
    read = wrapper.encode(2, SAP, GET_NAME)
    assert all(connection.receive(read)[8:12].hex() == "c401c100" for connection in honest)
    assert crowd[0].receive(wrapper.encode(16, SAP, GET_NAME))[8:].hex() == NOT_ALLOWED
    assert crowd[-1].receive(wrapper.encode(16, SAP, GET_NAME))[8:12].hex() == "c401c100"
    for connection in (*crowd, *honest):
        connection.close()
    assert server._pool.used == 0
    assert not server._pool._unproven


def test_many_small_requests_at_once_leave_a_turn_to_others():
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    connection.receive(wrapper.encode(16, SAP, NONE_AARQ))
    get = wrapper.encode(16, SAP, GET_NAME)
    size = len(connection.receive(get))
    sizes = [len(connection.receive(get * 1000))]
    while connection.backlog:
        sizes.append(len(connection.receive(b"")))
    assert sizes[0] == 256 * size
    assert sum(sizes) == 1000 * size


# --- datagrams


def datagrams(**limits):
    server, device = toy_server(limits=Limits(**limits) if limits else None)
    return server.datagrams(lambda peer, octets: None), device


LLS = bytes.fromhex(
    "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738BE10040E01000000065F1F0400007E1F04B0"
)


@pytest.mark.parametrize("sap", [SAP, 16])
def test_two_servers_never_answer_each_other(sap):
    """A datagram with a server's own address as its source must not start a storm of exception responses."""
    server, device = toy_server()
    server.devices[16] = device
    port = server.datagrams(lambda peer, octets: None)
    for first in (NONE_AARQ, GET_NAME, b"\x62\x00", b"\xdb\x00", b"\x99"):
        datagram, turns = wrapper.encode(16, sap, first), 0
        while datagram and turns < 10:
            datagram, turns = port.receive("the server itself", datagram), turns + 1
        assert turns < 5, first


def test_an_unproven_peer_cannot_turn_the_server_on_another_host():
    port, _ = datagrams()
    port.receive("victim", wrapper.encode(16, SAP, NONE_AARQ))
    for request in (b"\xc0\x01\xc1" + OBJECT_LIST, b"\xc0\x03\xc1\x7f" + OBJECT_LIST * 127):
        datagram = wrapper.encode(16, SAP, request)
        assert len(port.receive("victim", datagram)) <= 8 + 128
    # who has proven itself gets what it asked for
    port.receive("reader", wrapper.encode(2, SAP, LLS))
    assert len(port.receive("reader", wrapper.encode(2, SAP, b"\xc0\x01\xc1" + OBJECT_LIST))) > 500


def test_forged_peers_do_not_drive_out_those_that_are_proven():
    port, _ = datagrams(max_datagram_peers=10, max_all_associations=4 * 20)
    port.receive("reader", wrapper.encode(2, SAP, LLS))
    for number in range(100):
        assert ACCEPTED in port.receive(number, wrapper.encode(16, SAP, NONE_AARQ))
        port.receive(-number, b"\0\1\0\x10\0\x11\0\1\xc0")
    assert len(port._unproven) + len(port._proven) <= 10
    assert port.receive("reader", wrapper.encode(2, SAP, GET_NAME))[8:12].hex() == "c401c100"
    assert port.receive(99, wrapper.encode(16, SAP, GET_NAME))[8:12].hex() == "c401c100"


def test_associations_over_datagrams_are_bounded():
    server, device = toy_server(limits=Limits(max_all_associations=4 * 20))
    for sap in range(20, 80):
        server.devices[sap] = device
    port = server.datagrams(lambda peer, octets: None)
    for sap in range(20, 80):
        port.receive(sap % 7, wrapper.encode(16, sap, NONE_AARQ))
    assert port._pool.used == sum(peer.associations for peer in port._unproven.values()) <= 20
    # one peer alone that fills it drives out its own oldest
    port = server.datagrams(lambda peer, octets: None)
    replies = [port.receive("greedy", wrapper.encode(16, sap, NONE_AARQ)) for sap in range(20, 80)]
    assert all(ACCEPTED in reply for reply in replies)
    assert port._pool.used == 20
    assert port.receive("greedy", wrapper.encode(16, 20, GET_NAME))[8:].hex() == NOT_ALLOWED
    assert port.receive("greedy", wrapper.encode(16, 79, GET_NAME))[8:12].hex() == "c401c100"


# --- selection


@pytest.mark.parametrize("end", [-1, 1 << 32, (1 << 64) - 1, 1.5, "now", b"\x07"])
def test_an_end_of_a_period_that_cannot_be_is_refused(end):
    restricting = selection.CaptureObject(8, classes.CLOCK_LN, 2)
    with pytest.raises(RemoteError):
        RangeSelection(restricting, end, None).period()


class _Shrinking:
    """Three rows announced, two there."""

    def select(self, chosen):
        return Rows(3, iter([axdr.structure(axdr.octet_string(bytes(50)))] * 2))


@pytest.mark.parametrize("max_pdu", [64, 65535])
def test_rows_deleted_meanwhile_abort_the_transfer(max_pdu):
    server, device = toy_server()
    device.put(7, PROFILE, 2, _Shrinking())
    meter = line(server, "reader", max_pdu)
    meter.connect()
    with pytest.raises(ResultError, match="long-get-aborted"):
        meter.get(7, PROFILE, 2)
    with pytest.raises(ResultError, match="long-get-aborted"):
        meter.get(7, PROFILE, 2, EntrySelection(1))
    assert meter.get(3, ENERGY, 2) == 123456
    assert meter.transceive(bytes.fromhex("c002c100000001"))[-1] == DataAccessResult.NO_LONG_GET_IN_PROGRESS


def test_events_name_no_secret():
    events = []
    server, _ = toy_server(on_event=events.append)
    meter = line(server, "reader", secret=b"s3cret-guess")
    with pytest.raises(Exception, match="refused"):
        meter.connect()
    assert events[-1].kind == EventKind.REFUSED
    assert "s3cret" not in str(events)


def test_no_repr_shows_a_secret():
    secret = b"s3cret-word"
    settings = ClientSettings(client_sap=2, server_sap=1, secret=secret)
    profile = ClientProfile(sap=2, name="r", role=Role.READER, mechanism=Mechanism.LLS, secret=secret, keys=KEYS)
    request = acse.Aarq(context=1, mechanism=1, authentication=secret)
    for thing in (settings, profile, request, Credentials(2, Mechanism.LLS, secret), KEYS):
        assert "s3cret" not in repr([thing]), type(thing)
        assert str(KEYS.guek) not in repr([thing])


def test_the_security_setup_tells_what_the_association_must_keep():
    server, _ = server_with_free_client()
    for protection, policy in ((0, 0), (AUTHENTICATED, 0b00100100), (AUTHENTICATED_ENCRYPTED, 0b01101100)):
        meter = free_line(server, protection, MemoryCounterStore(first=1000 * (1 + policy)))
        meter.connect()
        assert meter.get(64, classes.SECURITY_SETUP_LN, 2) == policy


def test_a_server_that_sends_empty_blocks_for_ever_is_left():
    empty = bytes.fromhex("c402c1000000000100") + b"\0"
    exchange = Client(ClientSettings(client_sap=16, server_sap=1), random=bytes).get(1, SERIAL, 2)
    next(exchange)
    with pytest.raises(ApduError):
        exchange.send(empty)
