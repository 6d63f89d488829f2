"""Foreign clients over HDLC: Gurux's and dlms-cosem's, on TCP, on pseudo-terminals, and through mode E."""

import contextlib
import json
import os
import select
import subprocess
import sys
import termios
import threading
import time
import tty
from itertools import count
from pathlib import Path

import pytest
from dlms_toy import FIRST_ROW, KEYS, NOW, PERIOD, SAP, SECRET, octets_of
from remote import Remote, RemoteFailure

CLIENTS = Path(__file__).parents[1] / "clients"
CLOCK, SERIAL, NOTE = "0.0.1.0.0.255", "0.0.96.1.0.255", "0.0.96.13.0.255"
ENERGY, PROFILE, BREAKER = "1.0.1.8.0.255", "1.0.99.1.0.255", "0.0.96.3.10.255"
WHO = {
    "public": {"client_sap": 16},
    "reader": {"client_sap": 2, "secret": SECRET},
    "manager": {"client_sap": 3, "secret": SECRET},
    "management": {"client_sap": 1, "keys": (KEYS.guek, KEYS.gak)},
}
titles = (b"TSH" + number.to_bytes(5, "big") for number in count(1))


def settings(kind):
    """Every ciphering client has a title, and so counters, of its own."""
    return WHO[kind] | ({"title": next(titles)} if kind == "management" else {})


class OpticalHead:
    """Two terminals joined by light: octets pass where both ends have the same speed, and are noise where not."""

    def __init__(self):
        self.masters, slaves = zip(*(os.openpty() for _ in range(2)), strict=True)
        for slave in slaves:
            tty.setraw(slave)
        self.meter, self.reader = (os.ttyname(slave) for slave in slaves)
        self._slaves = slaves  # held, so that a line stays when one lets go of it
        self.speeds = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._end.is_set():
            for master in select.select(self.masters, [], [], 0.05)[0]:
                octets = os.read(master, 4096)
                speeds = [termios.tcgetattr(one)[4] for one in self.masters]
                if speeds not in self.speeds:
                    self.speeds.append(speeds)
                other = self.masters[1 - self.masters.index(master)]
                os.write(other, octets if speeds[0] == speeds[1] else bytes(octet ^ 0x55 for octet in octets))

    def wait_for(self, speed):
        end = time.monotonic() + 5
        while termios.tcgetattr(self.masters[0])[4] != speed:
            assert time.monotonic() < end
            time.sleep(0.02)

    def close(self):
        self._end.set()
        self._thread.join(5)
        for descriptor in (*self.masters, *self._slaves):
            os.close(descriptor)


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    folder, head = tmp_path_factory.mktemp("lines"), OpticalHead()
    process = subprocess.Popen(
        [sys.executable, str(CLIENTS / "dlms_line_server.py"), str(folder), head.meter],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        hdlc, wrapper, udp = json.loads(process.stdout.readline())
        yield {
            "tcp": hdlc,
            "wrapper": wrapper,
            "udp": udp,
            "direct": str(folder / "direct"),
            "optical": str(folder / "optical"),
            "head": head,
        }
        assert process.poll() is None, "the server died"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        head.close()


def gurux(where, kind, **options):
    return Remote("gurux_hdlc_session.py", where, server_sap=SAP, **settings(kind), **options)


def cosem(where, kind, **options):
    return Remote("cosem_hdlc_session.py", where, server_sap=SAP, **settings(kind), **options)


@pytest.fixture(params=["gurux", "cosem"])
def library(request):
    return {"gurux": gurux, "cosem": cosem}[request.param]


@pytest.fixture(params=["tcp", "direct"])
def where(request, ports):
    return ports[request.param]


def rows_of(rows):
    return [(bytes(time), energy, power) for time, energy, power in rows]


def expected_rows(first, last):
    return [(octets_of(FIRST_ROW + n * PERIOD), 1000 + n, -n) for n in range(first, last + 1)]


@pytest.mark.parametrize("kind", ["public", "reader", "management"])
def test_get(library, where, kind):
    with library(where, kind) as meter:
        for _ in range(10):  # the sequence numbers go round
            assert bytes(meter.get(8, CLOCK, 2)) == octets_of(NOW // 1000)
        assert bytes(meter.get(1, SERIAL, 2)) == b"FLX%08d" % SAP
        if kind == "public":
            with pytest.raises(RemoteFailure, match=r"(error 3|READ_WRITE_DENIED)"):
                meter.get(3, ENERGY, 2)
        else:
            assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


@pytest.mark.parametrize("octets", [1, 2, 4])
@pytest.mark.parametrize("kind", ["reader", "management"])
def test_lengths_of_addresses_with_gurux(where, octets, kind):
    with gurux(where, kind, octets=octets) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


@pytest.mark.parametrize("address", [{"lower": None}, {"lower": 16}, {"lower": 16, "extended": True}])
def test_lengths_of_addresses_with_dlms_cosem(where, address):
    with cosem(where, "reader", **address) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


@pytest.mark.parametrize("kind", ["reader", "management"])
# Gurux asks for the object list in one segment, whatever it needs: not below 64 octets.
@pytest.mark.parametrize("max_info", [None, (64, 32), (64, 250), (1000, 2030)])
def test_segments_with_gurux(where, kind, max_info):
    with gurux(where, kind, max_info=max_info) as meter:
        assert meter.negotiated() == (*(max_info or (128, 128)), 1, 1)
        assert rows_of(meter.rows_by_entry(PROFILE, 11, 40)) == expected_rows(10, 49)
        longest = (max_info or (128, 128))[1]
        before = meter.received_frames()
        assert len(meter.objects()) >= 10
        assert meter.received_frames() - before >= 500 // longest
        meter.close()


@pytest.mark.parametrize("kind", ["reader", "management"])
def test_blocks_over_segments(library, where, kind):
    with library(where, kind, max_pdu=512) as meter:
        chosen = meter.rows_by_range(PROFILE, FIRST_ROW + 100 * PERIOD, FIRST_ROW + 160 * PERIOD)
        assert rows_of(chosen) == expected_rows(100, 160)
        meter.close()


def test_a_whole_profile_in_one_apdu(ports):
    """Not with dlms-cosem: among 300 frames one ends 7E 7E, its FCS and the flag, and it waits there for ever."""
    with gurux(ports["tcp"], "reader") as meter:
        assert rows_of(meter.get(7, PROFILE, 2)) == expected_rows(0, 1439)
        meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_long_values_are_written_in_segments_and_blocks(where, kind):
    text = bytes(range(256)) * 8
    for max_pdu in (200, 65535):
        with gurux(where, kind, max_pdu=max_pdu, max_info=(100, 100)) as meter:
            meter.set(1, NOTE, 2, text + bytes((max_pdu & 0xFF,)))
            assert meter.get(1, NOTE, 2) == text + bytes((max_pdu & 0xFF,))
            meter.close()


@pytest.mark.parametrize("kind", ["manager", "management"])
def test_actions_whose_answer_comes_late(library, where, kind):
    with library(where, kind) as meter:
        meter.action(70, BREAKER, 1)
        assert meter.get(70, BREAKER, 2) is False
        meter.action(70, BREAKER, 2)
        assert meter.get(70, BREAKER, 2) is True
        meter.close()


def test_a_request_sent_again_is_answered_again(where):
    with gurux(where, "reader") as meter:
        assert meter.send_twice(3, ENERGY, 2) == 123456
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


def test_octets_that_come_one_after_the_other(ports):
    with gurux(ports["direct"], "management", pieces=True) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


@pytest.mark.parametrize(
    "wrong",
    [{"server_sap": 99}, {"lower": 17}, {"secret": b"87654321"}],
    ids=["no such device", "another physical device", "wrong password"],
)
def test_who_is_not_let_in(ports, wrong):
    with pytest.raises(RemoteFailure, match=r"(?i)reject|error|timed out|password"):
        Remote(
            "gurux_hdlc_session.py", ports["tcp"], timeout=2, **({"server_sap": SAP} | settings("reader") | wrong)
        )


def test_a_line_serves_one_client_after_the_other(library, ports):
    for kind in ("reader", "public", "management", "reader"):
        with library(ports["direct"], kind) as meter:
            assert bytes(meter.get(1, SERIAL, 2)) == b"FLX%08d" % SAP
            meter.close()


def test_a_client_that_vanished_leaves_the_line_to_the_next(ports):
    with gurux(ports["direct"], "management") as meter:
        assert meter.get(3, ENERGY, 2) == 123456
    with gurux(ports["direct"], "reader") as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()


# --- the optical port


@pytest.mark.parametrize("kind", ["reader", "management"])
def test_mode_e_with_gurux(ports, kind):
    for _ in range(2):  # after the disconnection the port opens at 300 bit/s again
        with gurux(ports["optical"], kind, mode_e="listen") as meter:
            assert meter.sign_on_result() == ("/FLX5\\2flexmap\r\n", b"\x06252\r\n")
            assert meter.get(3, ENERGY, 2) == 123456
            meter.close()


@pytest.mark.parametrize("how", ["listen", "blind"])
def test_mode_e_where_only_equal_speeds_understand_each_other(ports, how):
    head = ports["head"]
    for _ in range(2):
        head.wait_for(termios.B300)  # reading devices wait a second or more between two sign-ons
        head.speeds.clear()
        with gurux(head.reader, "management", mode_e=how) as meter:
            assert meter.sign_on_result() == ("/FLX4\\2flexmap\r\n", b"\x06242\r\n" if how == "listen" else b"")
            assert rows_of(meter.rows_by_entry(PROFILE, 1, 20)) == expected_rows(0, 19)
            meter.close()
        assert [termios.B300] * 2 in head.speeds
        assert [termios.B4800] * 2 in head.speeds


def test_hdlc_without_the_sign_on_is_not_answered_by_an_optical_port(ports):
    with pytest.raises(RemoteFailure, match=r"(?i)no answer|timeout"):
        gurux(ports["optical"], "reader", timeout=2)


# --- addresses of the other transports


@contextlib.contextmanager
def wrapped(library, port, **options):
    with library.connect("127.0.0.1", port, server_sap=SAP, **settings("reader"), **options) as meter:
        yield meter


def test_the_same_objects_over_the_wrapper(ports):
    import gurux_client  # noqa: PLC0415

    with wrapped(gurux_client, ports["wrapper"]) as meter, gurux(ports["tcp"], "reader") as other:
        assert meter.objects() == other.objects()
        assert meter.get(3, ENERGY, 2) == other.get(3, ENERGY, 2)
        meter.close()
        other.close()
    with wrapped(gurux_client, ports["udp"], udp=True) as meter:
        assert meter.get(3, ENERGY, 2) == 123456
        meter.close()
