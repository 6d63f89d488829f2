"""Foreign DLMS clients against the server core on real sockets: Gurux's and dlms-cosem's."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import cosem_client
import gurux_client
import pytest
from dlms_toy import FIRST_ROW, KEYS, NOW, PERIOD, SAP, SECRET, octets_of
from remote import RemoteFailure

CLOCK, SERIAL, NOTE = "0.0.1.0.0.255", "0.0.96.1.0.255", "0.0.96.13.0.255"
ENERGY, POWER, MISSING = "1.0.1.8.0.255", "1.0.16.7.0.255", "1.0.32.7.0.255"
PROFILE, BREAKER = "1.0.99.1.0.255", "0.0.96.3.10.255"
KEY_PAIR = (KEYS.guek, KEYS.gak)

titles = (b"TST" + number.to_bytes(5, "big") for number in count(1))


@pytest.fixture(scope="module")
def ports():
    script = Path(gurux_client.__file__).parent / "dlms_toy_server.py"
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        tcp, udp = process.stdout.readline().split()
        yield {"tcp": int(tcp), "udp": int(udp)}
        assert process.poll() is None, "the server died"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def settings(kind):
    """Every ciphering client has a title, and so counters, of its own."""
    return {
        "public": {"client_sap": 16},
        "reader": {"client_sap": 2, "secret": SECRET},
        "manager": {"client_sap": 3, "secret": SECRET},
        "management": {"client_sap": 1, "keys": KEY_PAIR, "title": next(titles)},
    }[kind]


@pytest.fixture(params=["gurux", "cosem"])
def library(request):
    return {"gurux": gurux_client, "cosem": cosem_client}[request.param]


def rows_of(rows):
    return [(bytes(time), energy, power) for time, energy, power in rows]


def expected_rows(first, last):
    return [(octets_of(FIRST_ROW + n * PERIOD), 1000 + n, -n) for n in range(first, last + 1)]


@pytest.mark.parametrize("kind", ["public", "reader", "management"])
def test_get(library, ports, kind):
    with library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings(kind)) as meter:
        assert bytes(meter.get(8, CLOCK, 2)) == octets_of(NOW // 1000)
        assert bytes(meter.get(1, SERIAL, 2)) == b"FLX%08d" % SAP
        if kind == "public":
            with pytest.raises(RemoteFailure, match=r"(error 3|READ_WRITE_DENIED)"):
                meter.get(3, ENERGY, 2)
        else:
            assert meter.get(3, ENERGY, 2) == 123456
            assert list(meter.get(4, POWER, 3)) == [-1, 27]
            assert meter.get(3, POWER, 2) == meter.get(4, POWER, 2) == -2305
            assert meter.get_list([(3, ENERGY, 2), (4, POWER, 2)]) == [123456, -2305]
            with pytest.raises(RemoteFailure, match=r"(error 2|TEMPORARY_FAILURE)"):
                meter.get(3, MISSING, 2)
            with pytest.raises(RemoteFailure, match=r"(error 4|OBJECT_UNDEFINED)"):
                meter.get(3, "1.0.99.99.99.255", 2)
        meter.close()


@pytest.mark.parametrize("kind", ["reader", "management"])
@pytest.mark.parametrize("max_pdu", [65535, 1024, 128])
def test_profile_whole_and_by_range(library, ports, kind, max_pdu):
    with library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, max_pdu=max_pdu, **settings(kind)) as meter:
        if max_pdu > 128:
            assert rows_of(meter.get(7, PROFILE, 2)) == expected_rows(0, 1439)
        chosen = meter.rows_by_range(PROFILE, FIRST_ROW + 100 * PERIOD, FIRST_ROW + 160 * PERIOD)
        assert rows_of(chosen) == expected_rows(100, 160)
        meter.close()


@pytest.mark.parametrize("kind", ["reader", "management"])
@pytest.mark.parametrize("max_pdu", [65535, 256])
def test_profile_by_entry_and_object_list_with_gurux(ports, kind, max_pdu):
    where = {"server_sap": SAP, "max_pdu": max_pdu}
    with gurux_client.connect("127.0.0.1", ports["tcp"], **where, **settings(kind)) as meter:
        assert rows_of(meter.rows_by_entry(PROFILE, 11, 30)) == expected_rows(10, 39)
        objects = meter.objects()
        assert (4, POWER) in objects
        assert len(objects) == 11
        meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_set_and_action(library, ports, kind):
    with library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings(kind)) as meter:
        note = f"{library.__name__} {kind}".encode()
        meter.set(1, NOTE, 2, note)
        assert bytes(meter.get(1, NOTE, 2)) == note
        meter.action(70, BREAKER, 1)
        assert meter.get(70, BREAKER, 2) is False
        assert meter.get(70, BREAKER, 3) == 0
        meter.action(70, BREAKER, 2)
        assert meter.get(70, BREAKER, 2) is True
        meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_a_reader_may_not_write_and_long_values_go_in_blocks_with_gurux(ports, kind):
    where = {"server_sap": SAP, "max_pdu": 200}
    text = bytes(range(256)) * 20
    with gurux_client.connect("127.0.0.1", ports["tcp"], **where, **settings(kind)) as meter:
        meter.set(1, NOTE, 2, text)
        assert meter.get(1, NOTE, 2) == text
        meter.close()
    with gurux_client.connect("127.0.0.1", ports["tcp"], **where, **settings("reader")) as meter:
        with pytest.raises(RemoteFailure, match="error 3"):
            meter.set(1, NOTE, 2, b"x")
        assert meter.get(1, NOTE, 2) == text
        meter.close()


@pytest.mark.parametrize("max_pdu", [65535, 300])
def test_short_names_with_gurux(ports, max_pdu):
    where = {
        "server_sap": SAP,
        "max_pdu": max_pdu,
        "short_names": True,
        "more": ["BLOCK_TRANSFER_WITH_SET_OR_WRITE"],
    }
    with gurux_client.connect("127.0.0.1", ports["tcp"], **where, **settings("manager")) as meter:
        objects = meter.objects()
        assert objects[0] == (12, "0.0.40.0.0.255")
        assert {(4, POWER), (7, PROFILE), (70, BREAKER), (17, "0.0.41.0.0.255")} <= set(objects)
        assert len(objects) == 11
        assert meter.get(4, POWER, 2) == -2305
        assert meter.get_list([(3, ENERGY, 2), (4, POWER, 2)]) == [123456, -2305]
        text = bytes(range(256)) * 3 if max_pdu == 300 else b"short"  # in blocks where it is long
        meter.set(1, NOTE, 2, text[: max_pdu // 2])
        assert meter.get(1, NOTE, 2) == text[: max_pdu // 2]
        meter.action(70, BREAKER, 1)
        assert meter.get(70, BREAKER, 2) is False
        meter.action(70, BREAKER, 2)
        assert rows_of(meter.rows_by_entry(PROFILE, 11, 3)) == expected_rows(10, 12)
        rows = meter.rows_by_range(PROFILE, FIRST_ROW, FIRST_ROW + 5 * PERIOD)
        assert rows_of(rows) == expected_rows(0, 5)
        with pytest.raises(RemoteFailure, match="error 2"):
            meter.get(3, MISSING, 2)
        meter.close()
    with gurux_client.connect("127.0.0.1", ports["tcp"], **where, **settings("reader")) as meter:
        with pytest.raises(RemoteFailure, match="error 3"):
            meter.set(1, NOTE, 2, b"x")
        with pytest.raises(RemoteFailure, match="error 3"):
            meter.action(70, BREAKER, 1)
        meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_access_with_gurux(ports, kind):
    with gurux_client.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings(kind)) as meter:
        asked = [
            (1, 3, ENERGY, 2, None),
            (2, 1, NOTE, 2, kind.encode()),
            (1, 1, NOTE, 2, None),
            (3, 70, BREAKER, 1, None),
            (1, 70, BREAKER, 2, None),
            (3, 70, BREAKER, 2, None),
        ]
        got = meter.access(asked)
        assert got == [(0, 123456), (0, None), (0, kind.encode()), (0, None), (0, False), (0, None)]
        meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_gurux_writes_in_general_blocks(ports, kind):
    """Gurux fetches general blocks with an AttributeError, but it sends them."""
    own = ["BLOCK_TRANSFER_WITH_GET_OR_READ", "BLOCK_TRANSFER_WITH_SET_OR_WRITE", "BLOCK_TRANSFER_WITH_ACTION"]
    text = bytes(range(256)) * 3
    where = {"server_sap": SAP, "more": ["GENERAL_BLOCK_TRANSFER"], "less": own}
    with gurux_client.connect("127.0.0.1", ports["tcp"], max_pdu=300, **where, **settings(kind)) as meter:
        meter.set(1, NOTE, 2, text)
        meter.close()
    with gurux_client.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings(kind)) as meter:
        assert meter.get(1, NOTE, 2) == text
        meter.close()


@pytest.mark.parametrize("kind", ["public", "reader", "management"])
def test_udp_with_gurux(ports, kind):
    with gurux_client.connect("127.0.0.1", ports["udp"], udp=True, server_sap=SAP, **settings(kind)) as meter:
        assert meter.get(1, SERIAL, 2) == b"FLX%08d" % SAP
        if kind == "management":
            meter.action(70, BREAKER, 2)  # its answer comes late, to the right peer
            assert rows_of(meter.rows_by_entry(PROFILE, 1, 40)) == expected_rows(0, 39)
        meter.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_sap": 2, "secret": b"87654321"},
        {"client_sap": 2},
        {"client_sap": 99},
        {"client_sap": 1},
        {"client_sap": 1, "secret": SECRET},
        {"client_sap": 1, "keys": (bytes(16), KEYS.gak)},
        {"client_sap": 1, "keys": (KEYS.guek, bytes(16))},
    ],
)
def test_wrong_credentials_are_refused(library, ports, wrong):
    with pytest.raises(RemoteFailure, match=r"(?i)association|rejected|authentication"):
        library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, title=next(titles), **wrong)


def test_invocation_counters_must_rise_across_connections(library, ports):
    who = settings("management")
    with library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, counter=1000, **who) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()
    with pytest.raises(RemoteFailure):
        library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, counter=1000, **who)
    with library.connect("127.0.0.1", ports["tcp"], server_sap=SAP, counter=2000, **who) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


def test_two_clients_at_once_keep_apart(ports):
    with (
        gurux_client.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings("management")) as first,
        cosem_client.connect("127.0.0.1", ports["tcp"], server_sap=SAP, **settings("management")) as second,
    ):
        for _ in range(5):
            assert first.get(3, ENERGY, 2) == second.get(3, ENERGY, 2) == 123456
        first.close()
        second.close()


def test_attribute_0_with_gurux(ports):
    more = ("ATTRIBUTE_0_SUPPORTED_WITH_GET", "ATTRIBUTE_0_SUPPORTED_WITH_SET", "PRIORITY_MGMT_SUPPORTED")
    with gurux_client.connect(
        "127.0.0.1", ports["tcp"], server_sap=SAP, more=more, **settings("manager")
    ) as meter:
        assert set(more) <= set(meter.conformance_names())
        # Its get takes no attribute 0, its get of a list does.
        energy, profile = meter.get_list([(3, ENERGY, 0), (7, PROFILE, 0)])
        assert energy == [bytes((1, 0, 1, 8, 0, 255)), 123456, [0, 30]]
        assert rows_of(profile[1]) == expected_rows(0, 1439)
        assert (profile[0], profile[6], len(profile)) == (bytes((1, 0, 99, 1, 0, 255)), 1440, 8)
        meter.close()


def test_attribute_0_with_dlms_cosem(ports):
    with cosem_client.connect(
        "127.0.0.1", ports["tcp"], server_sap=SAP, whole=True, **settings("management")
    ) as meter:
        assert meter.get(3, ENERGY, 0)[1:] == [123456, [0, 30]]
        meter.close()


GENERAL_BLOCKS = {"more": ("GENERAL_BLOCK_TRANSFER",), "less": ("BLOCK_TRANSFER_WITH_GET_OR_READ",)}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("window", [1, 5, 40])
@pytest.mark.parametrize("kind", ["reader", "management"])
def test_general_blocks_with_gurux(ports, transport, window, kind):
    where = {"server_sap": SAP, "max_pdu": 512, "udp": transport == "udp", "window": window, **GENERAL_BLOCKS}
    with gurux_client.connect("127.0.0.1", ports[transport], **where, **settings(kind)) as meter:
        names = meter.conformance_names()
        assert "GENERAL_BLOCK_TRANSFER" in names
        assert "BLOCK_TRANSFER_WITH_GET_OR_READ" not in names
        for _ in range(2):
            assert rows_of(meter.get(7, PROFILE, 2)) == expected_rows(0, 1439)
            assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(("window", "lose"), [(1, (6, 7, 31)), (5, (6, 20, 29))])
def test_general_blocks_that_are_lost_come_again(ports, transport, window, lose):
    """Gurux's client acknowledges the last block that it has, and does not see a gap within a window."""
    lost = {"window": window, "lose": lose}
    where = {"server_sap": SAP, "max_pdu": 512, "udp": transport == "udp", **lost, **GENERAL_BLOCKS}
    with gurux_client.connect("127.0.0.1", ports[transport], **where, **settings("reader")) as meter:
        assert rows_of(meter.get(7, PROFILE, 2)) == expected_rows(0, 1439)
        assert meter.all_lost()
        meter.close()
