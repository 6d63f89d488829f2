"""Push to a listening head-end: data notifications, decoded by Gurux's and dlms-cosem's code."""

import re
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gurux_client
import pytest
from dlms_push_server import HEAD_END
from dlms_toy import CLIENT_TITLE, KEYS, NOW, SAP, SECRET, TITLE, octets_of
from gateway_harness import FLEXMAP, Gateway, free_ports
from remote import RemoteFailure

from flexmap.dlms import axdr, hdlc
from flexmap.dlms.security import Ciphering, MemoryCounterStore

PUSH, SERIAL, ENERGY = "0.0.25.9.0.255", "0.0.96.1.0.255", "1.0.1.8.0.255"
EXPECTED = [bytes((0, 0, 25, 9, 0, 255)), b"FLX%08d" % SAP, octets_of(NOW // 1000), 123456, None]


class HeadEnd:
    """A listening socket, or the address of one that is down."""

    def __init__(self, kind=socket.SOCK_STREAM):
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.socket.settimeout(20)
        self.connection = None

    def listen(self):
        self.socket.listen()

    def read(self, count):
        if self.connection is None:
            self.connection, _ = self.socket.accept()
            self.connection.settimeout(20)
        octets = b""
        while len(octets) < count:
            more = self.connection.recv(count - len(octets))
            assert more, "closed"
            octets += more
        return octets

    def frame(self):
        head = self.read(8)
        return head + self.read(int.from_bytes(head[6:], "big"))

    def hang_up(self):
        """Close the connection, if there is one; the next frame comes by another."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def close(self):
        for each in (self.connection, self.socket):
            if each is not None:
                each.close()


@pytest.fixture
def head_end():
    there = HeadEnd()
    yield there
    there.close()


@pytest.fixture
def serve(tmp_path):
    processes = []

    def start(port, *, version=0, transport=0, ciphered=False, interval=0):
        script = Path(gurux_client.__file__).parent / "dlms_push_server.py"
        arguments = [str(each) for each in (tmp_path, version, transport, port, int(ciphered), interval)]
        process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return int(process.stdout.readline())

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def manager(port, **settings):
    return gurux_client.connect("127.0.0.1", port, server_sap=SAP, client_sap=3, secret=SECRET, **settings)


def decoded_by_cosem(apdu):
    code = """
import sys
from dlms_cosem.protocol.xdlms.data_notification import DataNotification
notification = DataNotification.from_bytes(bytes.fromhex(sys.argv[1]))
print(notification.body.hex())
"""
    command = [sys.executable, "-c", code, apdu.hex()]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return bytes.fromhex(run.stdout.strip())


def test_every_meter_of_a_gateway_pushes_and_shows_its_push_setup(tmp_path, head_end):
    head_end.listen()
    mms, dlms, web = free_ports(3)
    config = tmp_path / "site.toml"
    subprocess.run([FLEXMAP, "demo", "--meters", "3", "--source", "model", "--write-config", config], check=True)
    text = config.read_text()
    for section, port in (("mms", mms), ("dlms", dlms), ("web", web)):
        text = re.sub(
            rf'(\[{section}\].*?listen = ")[^"]*', rf"\g<1>127.0.0.1:{port}", text, count=1, flags=re.DOTALL
        )
    push = f'[dlms.push]\ndestination = "127.0.0.1:{head_end.port}"\nclient = "reader-lls"\ninterval = 3\n\n'
    config.write_text(text.replace("[[dlms.client]]", push + "[[dlms.client]]", 1))
    saps = {meter["sap"] for meter in tomllib.loads(text)["meter"]}
    secrets = next(path for path in tmp_path.glob("*.toml") if path != config).read_text()
    password = re.search(r'\[reader-lls\]\s*password = "([^"]+)"', secrets)[1].encode()
    gateway = Gateway(tmp_path, "serve", config, command="serve", ports=(mms, dlms, web))
    try:
        for _ in range(10):  # until every meter has been read
            frames = [head_end.frame() for _ in saps]
            values = {int.from_bytes(frame[2:4], "big"): axdr.decode(frame[8 + 18 :]) for frame in frames}
            if None not in [each for value in values.values() for each in value[:4]]:
                break
        assert values.keys() == saps
        sap = min(saps)
        setup, name, clock, imported = values[sap][:4]
        assert setup == bytes((0, 0, 25, 9, 0, 255))
        assert len(clock) == 12
        with gurux_client.connect("127.0.0.1", dlms, server_sap=sap, client_sap=18, secret=password) as meter:
            assert bytes(meter.get(1, "0.0.42.0.0.255", 2)) == name
            assert 0 <= meter.get(3, ENERGY, 2) - imported < 100
            assert (40, PUSH) in meter.objects()
            assert meter.get(40, PUSH, 3) == [0, f"127.0.0.1:{head_end.port}".encode(), 0]
            meter.close()
        sent, end = 0, time.monotonic() + 10
        while sent < len(saps) and time.monotonic() < end:  # a second after they went out they count
            time.sleep(0.2)
            sent = float(re.search(r"^flexmap_dlms_push_sent_total (\S+)", gateway.metrics(), re.MULTILINE)[1])
        assert sent >= len(saps)
    finally:
        gateway.close()


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_push_is_decoded_by_gurux_and_by_dlms_cosem(serve, head_end, version):
    head_end.listen()
    port = serve(head_end.port, version=version)
    with manager(port, more=["DATA_NOTIFICATION"]) as meter:
        assert "DATA_NOTIFICATION" in meter.conformance_names()
        assert meter.get(40, PUSH, 3) == [0, f"127.0.0.1:{head_end.port}".encode(), 0]
        meter.action(40, PUSH, 1)
        frame = head_end.frame()
        assert frame[:6].hex() == f"0001{SAP:04x}{HEAD_END:04x}"
        assert meter.notified(frame) == EXPECTED
        assert list(axdr.decode(decoded_by_cosem(frame[8:]))) == EXPECTED
        meter.close()


def test_what_a_head_end_writes_holds_after_a_restart(serve, head_end):
    head_end.listen()
    port = serve(1)
    with manager(port) as meter:
        meter.set_push(PUSH, (0, f"127.0.0.1:{head_end.port}"), [(1, SERIAL, 2), (3, ENERGY, 2), (3, ENERGY, 0)])
        meter.close()
    port = serve(1)
    with manager(port) as meter:
        meter.action(40, PUSH, 1)
        whole = [bytes((1, 0, 1, 8, 0, 255)), 123456, [0, 30]]
        assert meter.notified(head_end.frame()) == [b"FLX%08d" % SAP, 123456, whole]
        meter.close()


def test_a_destination_elsewhere_and_a_reader_are_refused(serve):
    port = serve(1)
    with manager(port) as meter:
        for elsewhere in ("192.0.2.1:4059", "head-end.example:4059"):
            with pytest.raises(RemoteFailure, match="error 3"):
                meter.set_push(PUSH, (0, elsewhere), [])
        with pytest.raises(RemoteFailure, match="error 12"):
            meter.set_push(PUSH, (0, "127.0.0.1"), [])
        meter.close()
    with gurux_client.connect("127.0.0.1", port, server_sap=SAP, client_sap=2, secret=SECRET) as reader:
        with pytest.raises(RemoteFailure, match="error 3"):
            reader.set_push(PUSH, (0, "127.0.0.1:4059"), [])
        with pytest.raises(RemoteFailure, match="error 3"):
            reader.action(40, PUSH, 1)
        reader.close()


def test_what_was_pushed_while_the_head_end_was_down_comes_once_it_is_back(serve, head_end):
    port = serve(head_end.port)
    with manager(port) as meter:
        for _ in range(3):
            meter.action(40, PUSH, 1)
        time.sleep(2.5)
        head_end.listen()
        assert [head_end.frame()[9:13].hex() for _ in range(3)] == ["00000001", "00000002", "00000003"]
        meter.close()


def test_a_confirmed_push_comes_until_it_is_confirmed(serve, head_end):
    head_end.listen()
    port = serve(head_end.port, version=2)
    with manager(port) as meter:
        meter.set_enum(40, PUSH, 11, 2)
        never = meter.get(40, PUSH, 13)
        meter.action(40, PUSH, 1)
        first = head_end.frame()
        assert first[9:13].hex() == "40000001"
        head_end.hang_up()  # lost before it was confirmed
        assert head_end.frame()[8:] == first[8:]
        confirm = bytes.fromhex("10" + "00000001" + "00")
        head_end.connection.sendall(
            bytes.fromhex(f"0001{HEAD_END:04x}{SAP:04x}") + len(confirm).to_bytes(2, "big") + confirm
        )
        deadline = time.monotonic() + 10
        while meter.get(40, PUSH, 13) == never and time.monotonic() < deadline:
            time.sleep(0.1)
        assert meter.get(40, PUSH, 13) != never
        meter.action(40, PUSH, 1)
        assert head_end.frame()[9:13].hex() == "40000002"
        meter.close()


def test_a_ciphered_push(serve, head_end):
    head_end.listen()
    port = serve(head_end.port, ciphered=True, interval=1)
    cipher = Ciphering(KEYS, CLIENT_TITLE, MemoryCounterStore())
    for _ in range(2):
        apdu = head_end.frame()[8:]
        assert apdu[:10] == b"\xdb\x08" + TITLE
        body, end = axdr.take_octet_string(apdu, 10)
        assert end == len(apdu)
        plain = cipher.unprotect(TITLE, body, 0x30)[1]
        assert list(axdr.decode(plain[18:])) == EXPECTED
    del port


def test_a_push_by_udp(serve):
    there = HeadEnd(socket.SOCK_DGRAM)
    serve(there.port, transport=1, interval=1)
    frame = there.socket.recv(65535)
    there.close()
    assert list(axdr.decode(frame[8 + 18 :])) == EXPECTED


def test_a_push_in_hdlc_frames(serve, head_end):
    head_end.listen()
    serve(head_end.port, transport=5, interval=1)
    splitter = hdlc.Splitter(60)
    frame = None
    while frame is None:
        splitter.add(head_end.read(1), 0)
        frame = splitter.next()
    assert frame.control & ~hdlc.POLL == hdlc.Command.UI
    assert frame.information[:3].hex() == "e6e700"
    assert list(axdr.decode(frame.information[3 + 18 :])) == EXPECTED
