"""The native MMS engine over real sockets: tshark, many clients, attacks beside honest ones, the whole gateway."""

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from gateway_harness import Gateway, flexmap, free_ports
from mms_harness import Rust, core, until
from mms_raw import Raw, RawError, define, delete, domain_name, name_list, read, read_list, variable, write
from mms_relay import SERVER, Relay
from mms_site import T0, sample

from flexmap.faces.mms_client import MmsClient

DEVICE = "FMTESTM1"
WATT = variable(DEVICE, "MMXN1$MX$Watt")
SITE = read_list("FMTESTGW", "LLN0$Site")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with core(tmp_path_factory.mktemp("native"), engine="native") as running:
        running.update(sample("SM_1"), sample("SM_2"))
        running.wait(lambda status: status["samples"] == 2)
        yield running


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed (apt install tshark)")
def test_a_session_of_three_clients_decodes_without_a_malformed_frame(engine, tmp_path):
    relay = Relay(engine.port)
    with MmsClient.open("127.0.0.1", relay.port) as client:
        client.browse()
        client.read(["FMTESTGW", "FMTESTM1", "FMTESTM2"])
    with Rust(relay.port) as client:
        client.dataset(ref="FMTESTGW/LLN0.Site")
        with contextlib.suppress(Exception):
            client.read(ref="FMTESTM1/NOPE.Watt", fc="MX")
    for tpdu in (7, 13):
        with Raw(relay.port, tpdu=tpdu) as client:
            for service in (
                SITE,
                read(WATT, echo=True),
                b"\x82\x00",
                b"\x80\x01\x00",
                name_list(0, DEVICE),
                name_list(5),
                define("@", "mine", WATT),
                read_list("@", "mine", echo=True),
                delete(domain_name("@", "mine")),
                write([WATT, variable(DEVICE, "NOPE")], [b"\x83\x01\x00"] * 2),
                b"\xa9\x00",
            ):
                client.ask(service)
            client.send(b"\x85\x01\x07")
            client.receive()
            client.send(b"\x8b\x00")
            client.receive()
    time.sleep(0.2)
    relay.close()
    capture = tmp_path / "session.pcap"
    relay.write_pcap(capture)

    def tshark(*arguments):
        command = ["tshark", "-r", str(capture), "-d", f"tcp.port=={SERVER[1]},tpkt", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    said = f"ip.src == {SERVER[0]} && (_ws.malformed || _ws.expert.severity == error)"
    assert tshark("-Y", said) == ""
    decoded = tshark()
    assert decoded.count("MMS") > 100
    kinds = (
        "initiate-ResponsePDU",
        "confirmed-ResponsePDU",
        "confirmed-ErrorPDU",
        "rejectPDU",
        "conclude-ResponsePDU",
    )
    for kind in (*kinds, "cancel-ErrorPDU"):
        assert kind in decoded, kind


def test_a_hundred_clients_read_at_once(engine):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(engine.port)) for _ in range(100)]
        assert engine.status()["clients"] == 100
        for client in clients:
            client.expected = client.ask(SITE)
        for number in range(5):
            engine.update(sample("SM_1", time=T0 + 1000 * number, power=float(number)))
            until(lambda value=number: float32(value) in clients[0].ask(read(WATT)).hex())
            answers = {client.ask(SITE) for client in clients}
            assert len(answers) == 1
    engine.wait(lambda status: status["clients"] == 0)


def float32(value):
    return "0508" + struct.pack(">f", value).hex()


class Poller(threading.Thread):
    """An honest client: reads a data set again and again, and notes each delay."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client = Raw(port)
        self.delays = []
        self.failure = None
        self.done = threading.Event()

    def run(self):
        try:
            while not self.done.is_set():
                start = time.monotonic()
                assert self.client.ask(SITE)[:2] == b"\xa1\xa4"
                self.delays.append(time.monotonic() - start)
                time.sleep(0.002)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            self.failure = error


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def garbage(chance):
    """What an attacker sends on a connection: raw octets, broken layers, floods of segments."""
    kind = chance.randrange(5)
    if kind == 0:
        return False, chance.randbytes(chance.randrange(1, 400))
    if kind == 1:
        return False, b"\x03\x00\xff\xff" + bytes(2000)
    if kind == 2:
        return True, b"\x03\x00\x00\x08\x02\xf0\x00x" * 5000
    if kind == 3:
        return True, b"\x03\x00\x01\x00\x02\xf0\x80" + chance.randbytes(249)
    return True, b"\x03\x00\x00\x0a\x02\xf0\x80\x01\x00\x01" * 20


def test_attackers_neither_stop_honest_clients_nor_fill_the_memory(engine):
    poller = Poller(engine.port)
    poller.start()
    until(lambda: len(poller.delays) > 100, 30)
    quiet = statistics.median(poller.delays)
    chance = random.Random(20260301)
    with contextlib.ExitStack() as stack:
        for _ in range(60):  # half-open ones that stay
            stack.enter_context(socket.create_connection(("127.0.0.1", engine.port)))
        greedy = stack.enter_context(Raw(engine.port))
        greedy.send_many(SITE, 3000)  # asks and never reads
        before = resident(engine.process.pid)
        for _ in range(150):
            associated, octets = garbage(chance)
            with contextlib.suppress(OSError, RawError), Raw(engine.port, connect=associated) as attacker:
                attacker.socket.sendall(octets)
                attacker.socket.settimeout(0.02)
                attacker.socket.recv(1 << 16)
        grown = resident(engine.process.pid) - before
    poller.done.set()
    poller.join(20)
    assert poller.failure is None
    assert statistics.median(poller.delays) < max(20 * quiet, 0.5)
    assert grown < 60 * 2**20
    with Raw(engine.port) as client:
        assert client.ask(SITE)[:2] == b"\xa1\xa4"


def healthy(running):
    assert running.process.poll() is None, running.text()
    with contextlib.suppress(OSError):
        return running.health()["healthy"]


def test_the_gateway_serves_with_the_native_engine(tmp_path):
    ports = free_ports(3)
    config = tmp_path / "site.toml"
    addresses = [f"127.0.0.1:{port}" for port in ports]
    flags = ["--mms", addresses[0], "--dlms", addresses[1], "--web", addresses[2], "--state", tmp_path / "state"]
    done = flexmap("demo", "--source", "model", "--meters", 30, *flags, "--write-config", config)
    assert done.returncode == 0, done.stderr
    text = config.read_text()
    limits = "\n[mms.limits]\nmax_connections = 40\n"
    native = text.replace('engine = "libiec61850"', 'engine = "native"').replace(
        "\n[dlms]", f"{limits}\n[dlms]", 1
    )
    config.write_text(native)
    running = Gateway(tmp_path, "serve", config, ports=ports, command="serve")
    try:
        until(lambda: healthy(running), 60)
        assert running.health()["mms"]["engine"] == "native"
        assert running.health()["mms"]["max_clients"] == 40
        verified = flexmap("verify", config, timeout=120)
        assert verified.returncode == 0, verified.stdout + verified.stderr
    finally:
        running.close()


def test_the_engine_that_has_its_own_limits_takes_no_others(tmp_path):
    config = tmp_path / "site.toml"
    flexmap("demo", "--source", "model", "--meters", 1, "--state", tmp_path / "state", "--write-config", config)
    config.write_text(config.read_text().replace("\n[dlms]", "\n[mms.limits]\nmax_connections = 40\n\n[dlms]", 1))
    done = flexmap("serve", config)
    assert done.returncode != 0
    assert "[mms.limits]" in done.stderr + done.stdout
    assert 'engine = "native"' in done.stderr + done.stdout


def test_files_are_listed_read_and_deleted_by_libiec61850s_client(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    (folder / "COMTRADE").mkdir(parents=True)
    record = random.Random(5).randbytes(300_000)
    (folder / "COMTRADE" / "load.dat").write_bytes(record)
    (folder / "site.cid").write_bytes(b"<SCL/>")
    os.utime(folder / "site.cid", (1_750_000_000, 1_750_000_000))
    monkeypatch.setenv("MMS_FILES", str(folder))
    script = Path(__file__).parents[1] / "clients" / "libiec_files.py"
    with core(tmp_path, engine="native") as engine:
        requests = [
            {"list": ""},
            {"list": "COMTRADE/"},
            {"get": "COMTRADE/load.dat"},
            {"get": "../core.log"},
            {"delete": "site.cid"},
            {"list": ""},
        ]
        done = subprocess.run(
            [sys.executable, script, "127.0.0.1", str(engine.port)],
            input="".join(json.dumps(request) + "\n" for request in requests),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    listed, inside, got, refused, deleted, left = map(json.loads, done.stdout.splitlines())
    assert "files" in listed, done.stdout
    names = {name: (size, time_) for name, size, time_ in listed["files"]}
    assert names["site.cid"] == (6, 1_750_000_000_000)
    assert set(names) == {"COMTRADE/", "site.cid"}
    assert inside["files"][0][:2] == ["COMTRADE/load.dat", 300_000]
    assert bytes.fromhex(got["hex"]) == record
    assert refused["error"]
    assert deleted["error"] == 0
    assert [name for name, *_ in left["files"]] == ["COMTRADE/"]
