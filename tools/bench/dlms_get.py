"""DLMS GET-Request-Normal per second of a running demo, against a Twisted echo of the same bytes.

Usage: python tools/bench/dlms_get.py [--requests N] [--rounds N] [--meters N] [--connections N]
       [--transport wrapper|hdlc]

On each connection one request at a time, the load client in C (needs ``cc``). Each round runs echo, plain, suite 0
(HLS-GMAC, authentication and encryption) and plain GET-with-list of 20 registers one after the other; the medians
are compared. With ``--transport hdlc``
plain and suite 0 run over HDLC on TCP too, each right after its run over the wrapper. Processor time is the server
process's own, per request.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from flexmap.dlms import hdlc, wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import AttributeReference, Client, ClientSettings, drive
from flexmap.dlms.hdlc import POLL, Command
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, MemoryCounterStore
from flexmap.model import obis

ECHO = """
from twisted.internet import protocol, reactor
class Echo(protocol.Protocol):
    def connectionMade(self): self.transport.setTcpNoDelay(True)
    def dataReceived(self, data): self.transport.write(data)
port = reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""
SAP = 1001
"""The demo's first single-phase meter."""
LOWER = 16
"""HDLC address of flexmap."""
NAME = AttributeReference(1, obis.parse("0-0:42.0.0"), 2)
ENERGY = AttributeReference(4, obis.parse("1-0:1.8.0"), 2)
LLS_SAP = 18
LISTED = 20


def list_request() -> bytes:
    """A GET-with-list of 20 values and units of registers."""
    energies = [
        AttributeReference(4, obis.parse(f"1-0:{c}.8.0"), index) for c in (1, 2, 3, 4, 9) for index in (2, 3)
    ]
    return b"\xc0\x03\xc1" + bytes((LISTED,)) + b"".join(each.encode() for each in energies) * 2


class Run(NamedTuple):
    rate: float
    """Requests per second."""
    cpu: float
    """Server's processor time per request, microseconds."""


def request(reference: AttributeReference) -> bytes:
    return b"\xc0\x01\xc1" + reference.encode()


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Wire:
    """The wrapper as one client speaks it."""

    def __init__(self, connection: socket.socket, client_sap: int) -> None:
        self.connection = connection
        self.client_sap = client_sap

    def frame(self, apdu: bytes) -> bytes:
        """The next request's frame."""
        return wrapper.encode(self.client_sap, SAP, apdu)

    def transceive(self, apdu: bytes) -> bytes:
        self.connection.sendall(self.frame(apdu))
        head = self.connection.recv(8, socket.MSG_WAITALL)
        return self.connection.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)


class HdlcWire(Wire):
    """HDLC; each request acknowledges the answer to the one before."""

    def __init__(self, connection: socket.socket, client_sap: int) -> None:
        super().__init__(connection, client_sap)
        self._addresses = hdlc.encode_station(SAP, LOWER) + bytes((client_sap << 1 | 1,))
        self._number = 0
        connection.sendall(hdlc.encode(self._addresses, Command.SNRM | POLL, hdlc.Parameters(2030, 2030).encode()))
        self._receive()

    def frame(self, apdu: bytes) -> bytes:
        control = self._number << 5 | POLL | self._number << 1
        self._number = self._number + 1 & 7
        return hdlc.encode(self._addresses, control, hdlc.LLC_COMMAND + apdu)

    def transceive(self, apdu: bytes) -> bytes:
        self.connection.sendall(self.frame(apdu))
        return self._receive().removeprefix(hdlc.LLC_RESPONSE)

    def _receive(self) -> bytes:
        splitter = hdlc.Splitter(10.0)
        while True:
            splitter.add(self.connection.recv(4096), 0.0)
            frame = splitter.next()
            if frame is not None:
                return frame.information


def associate(wire: Wire, ciphering: Ciphering | None, password: bytes | None = None) -> None:
    settings = ClientSettings(
        client_sap=wire.client_sap,
        server_sap=SAP,
        secret=password or b"",
        mechanism=Mechanism.HLS_GMAC if ciphering else Mechanism.NONE if password is None else Mechanism.LLS,
        protection=0 if ciphering is None else AUTHENTICATED_ENCRYPTED,
    )
    client = Client(settings, random=os.urandom, ciphering=ciphering)
    drive(client.connect(), wire.transceive)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, folder: Path, requests: int, connections: int, demo: Demo) -> None:
        self.folder = folder
        self.requests = requests
        self.connections = connections
        self.demo = demo
        self.load = folder / "dlms_load"
        source = Path(__file__).with_name("dlms_load.c")
        subprocess.run(["cc", "-O2", "-o", self.load, source], check=True)

    def run(self, wires: list[tuple[socket.socket, bytes]], pid: int, repeat: int) -> Run:
        """Send each connection's frames so many times."""
        arguments, count = [str(repeat)], 0
        for number, (connection, frames) in enumerate(wires):
            path = self.folder / f"frames{number}"
            path.write_bytes(frames)
            connection.settimeout(None)
            arguments += [str(connection.fileno()), str(path)]
        before = processor_seconds(pid)
        answer = subprocess.run(
            [self.load, *arguments],
            pass_fds=[connection.fileno() for connection, _ in wires],
            capture_output=True,
            check=True,
            timeout=120,
        )
        cpu = processor_seconds(pid) - before
        for connection, _ in wires:
            connection.close()
        count = self.each * len(wires)
        return Run(float(answer.stdout), cpu / count * 1e6)

    @property
    def each(self) -> int:
        """Requests on each connection."""
        return self.requests // self.connections // 100 * 100

    def echo(self) -> Run:
        process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            frames = wrapper.encode(16, SAP, request(NAME)) * 100
            wires = [(connect(port), frames) for _ in range(self.connections)]
            return self.run(wires, process.pid, self.each // 100)
        finally:
            process.kill()
            process.wait()

    def plain(self, port: int, kind: type[Wire], apdu: bytes = request(NAME), sap: int = 16) -> Run:
        wires = []
        for _ in range(self.connections):
            wire = kind(connect(port), sap)
            associate(wire, None, self.demo.password if sap == LLS_SAP else None)
            wires.append((wire.connection, b"".join(wire.frame(apdu) for _ in range(100))))
        return self.run(wires, self.demo.process.pid, self.each // 100)

    def suite_0(self, port: int, kind: type[Wire]) -> Run:
        wires, plain = [], request(ENERGY)
        for _ in range(self.connections):
            ciphering = Ciphering(self.demo.keys, b"BEN" + os.urandom(5), MemoryCounterStore())
            wire = kind(connect(port), 2)
            associate(wire, ciphering)
            frames = bytearray()
            for _ in range(self.each):
                body = ciphering.protect(AUTHENTICATED_ENCRYPTED, plain)
                frames += wire.frame(b"\xc8" + bytes((len(body),)) + body)
            wires.append((wire.connection, bytes(frames)))
        return self.run(wires, self.demo.process.pid, 1)


class Demo(NamedTuple):
    """A running gateway."""

    process: subprocess.Popen[bytes]
    wrapper: int
    """Port."""
    hdlc: int
    keys: Keys
    password: bytes
    """Of the client with low level security."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]


def start_demo(folder: Path, meters: int) -> Demo:
    """Start a site like the demo's, with an HDLC port too, and wait until it serves DLMS."""
    ports = free_ports(4)
    mms, dlms, web, line = (f"127.0.0.1:{port}" for port in ports)
    flexmap, config = Path(sys.executable).with_name("flexmap"), folder / "site.toml"
    flags = f"--source model --meters {meters} --mms {mms} --dlms {dlms} --web {web} --write-config {config}"
    subprocess.run([flexmap, "demo", *flags.split()], check=True, stdout=subprocess.DEVNULL)
    with config.open("a") as file:
        file.write(f'\n[[dlms.listener]]\ntransport = "hdlc-tcp"\nlisten = "{line}"\n')
    secrets = tomllib.loads((folder / "site.secrets.toml").read_text())
    secret, password = secrets["reader"], secrets["reader-lls"]["password"].encode()
    keys = Keys(bytes.fromhex(secret["encryption_key"]), bytes.fromhex(secret["authentication_key"]))
    process = subprocess.Popen([flexmap, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            connect(ports[1]).close()
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(3)  # until the meters have been read
            return Demo(process, ports[1], ports[3], keys, password)
    process.kill()
    raise SystemExit("the demo does not serve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--meters", type=int, default=20)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--transport", choices=("wrapper", "hdlc"), default="wrapper")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        demo = start_demo(Path(name), options.meters)
        try:
            bench = Bench(Path(name), options.requests, options.connections, demo)
            kinds: dict[str, Callable[[], Run]] = {"echo": bench.echo}
            for label, run in (("plain", bench.plain), ("suite 0", bench.suite_0)):
                kinds[label] = partial(run, demo.wrapper, Wire)
                if options.transport == "hdlc":
                    kinds[f"{label}, HDLC"] = partial(run, demo.hdlc, HdlcWire)
            kinds["list of 20"] = partial(bench.plain, demo.wrapper, Wire, list_request(), LLS_SAP)
            runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
            for _ in range(options.rounds):
                for kind, make in kinds.items():
                    runs[kind].append(make())
        finally:
            demo.process.terminate()
            demo.process.wait(15)
    report = {
        kind: {
            "requests_per_second": round(statistics.median(run.rate for run in taken)),
            "cpu_us": round(statistics.median(run.cpu for run in taken), 1),
            "of_echo": round(
                statistics.median(a.rate / b.rate for a, b in zip(taken, runs["echo"], strict=True)), 2
            ),
        }
        for kind, taken in runs.items()
    }
    for label in [label for label in report if label.endswith(", HDLC")]:
        pairs = zip(runs[label], runs[label.removesuffix(", HDLC")], strict=True)
        report[label]["of_wrapper"] = round(statistics.median(a.rate / b.rate for a, b in pairs), 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
