"""DLMS GET-Request-Normal per second of a running demo, against a Twisted echo of the same bytes.

Usage: python tools/bench/dlms_get.py [--requests N] [--rounds N] [--meters N]

One connection, one request at a time, the load client in C (needs ``cc``). Each round runs echo, plain and suite 0
(HLS-GMAC, authentication and encryption) one after the other; the medians are compared. Processor time is the
server process's own, per request.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flexmap.dlms import wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import AttributeReference, Client, ClientSettings, drive
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
NAME = AttributeReference(1, obis.parse("0-0:42.0.0"), 2)
ENERGY = AttributeReference(4, obis.parse("1-0:1.8.0"), 2)
DEMO_KEYS = Keys(
    bytes.fromhex("000102030405060708090A0B0C0D0E0F"), bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
)


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


def associate(connection: socket.socket, client_sap: int, ciphering: Ciphering | None) -> None:
    settings = ClientSettings(
        client_sap=client_sap,
        server_sap=SAP,
        mechanism=Mechanism.NONE if ciphering is None else Mechanism.HLS_GMAC,
        protection=0 if ciphering is None else AUTHENTICATED_ENCRYPTED,
    )

    def transceive(apdu: bytes) -> bytes:
        connection.sendall(wrapper.encode(client_sap, SAP, apdu))
        head = connection.recv(8, socket.MSG_WAITALL)
        return connection.recv(int.from_bytes(head[6:], "big"), socket.MSG_WAITALL)

    client = Client(settings, random=os.urandom, ciphering=ciphering)
    drive(client.connect(), transceive)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, folder: Path, requests: int, demo: int, demo_pid: int) -> None:
        self.folder = folder
        self.requests = requests
        self.demo = demo
        self.demo_pid = demo_pid
        self.load = folder / "dlms_load"
        source = Path(__file__).with_name("dlms_load.c")
        subprocess.run(["cc", "-O2", "-o", self.load, source], check=True)
        self.plain_frames = wrapper.encode(16, SAP, request(NAME)) * 1000

    def run(self, connection: socket.socket, pid: int, frames: bytes, repeat: int) -> Run:
        path = self.folder / "frames"
        path.write_bytes(frames)
        connection.settimeout(None)
        descriptor = connection.fileno()
        before = processor_seconds(pid)
        answer = subprocess.run(
            [self.load, str(descriptor), path, str(repeat)],
            pass_fds=[descriptor],
            capture_output=True,
            check=True,
            timeout=120,
        )
        cpu = processor_seconds(pid) - before
        connection.close()
        return Run(float(answer.stdout), cpu / self.requests * 1e6)

    def echo(self) -> Run:
        process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            return self.run(connect(port), process.pid, self.plain_frames, self.requests // 1000)
        finally:
            process.kill()
            process.wait()

    def plain(self) -> Run:
        connection = connect(self.demo)
        associate(connection, 16, None)
        return self.run(connection, self.demo_pid, self.plain_frames, self.requests // 1000)

    def suite_0(self) -> Run:
        ciphering = Ciphering(DEMO_KEYS, b"BEN" + os.urandom(5), MemoryCounterStore())
        connection = connect(self.demo)
        associate(connection, 2, ciphering)
        plain = request(ENERGY)
        frames = bytearray()
        for _ in range(self.requests):
            body = ciphering.protect(AUTHENTICATED_ENCRYPTED, plain)
            frames += wrapper.encode(2, SAP, b"\xc8" + bytes((len(body),)) + body)
        return self.run(connection, self.demo_pid, bytes(frames), 1)


def start_demo(folder: Path, meters: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the demo on ports that were free a moment ago and wait until it serves DLMS."""
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        ports = []
        for holder in (first, second, third):
            holder.bind(("127.0.0.1", 0))
            ports.append(holder.getsockname()[1])
    mms, dlms, web = (f"127.0.0.1:{port}" for port in ports)
    flags = f"--source model --meters {meters} --state {folder}/state --mms {mms} --dlms {dlms} --web {web}"
    process = subprocess.Popen(
        [Path(sys.executable).with_name("flexmap"), "demo", *flags.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            connect(ports[1]).close()
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(3)  # until the meters have been read
            return process, ports[1]
    process.kill()
    raise SystemExit("the demo does not serve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--meters", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        process, port = start_demo(Path(name), options.meters)
        try:
            bench = Bench(Path(name), options.requests, port, process.pid)
            kinds: dict[str, Callable[[], Run]] = {
                "echo": bench.echo,
                "plain": bench.plain,
                "suite 0": bench.suite_0,
            }
            runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
            for _ in range(options.rounds):
                for kind, make in kinds.items():
                    runs[kind].append(make())
        finally:
            process.terminate()
            process.wait(15)
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
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
