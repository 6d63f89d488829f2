"""Starts the gateway as a user does, in a process of its own, and tells when it serves."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

FLEXMAP = Path(sys.executable).with_name("flexmap")
GUEK, GAK = (
    bytes.fromhex(text) for text in ("000102030405060708090A0B0C0D0E0F", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
)
MANAGER_GUEK, MANAGER_GAK = (
    bytes.fromhex(text) for text in ("101112131415161718191A1B1C1D1E1F", "E0E1E2E3E4E5E6E7E8E9EAEBECEDEEEF")
)
"""The demo's well-known keys."""


def free_ports(count):
    """Ports that nobody listens on, neither TCP nor UDP."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            tcp = stack.enter_context(socket.socket())
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


class Gateway:
    """A `flexmap` process that serves; ``arguments`` are those of the command line.

    The demo's meters are simulated in the gateway, where values are there at once, unless ``source`` is another.
    """

    def __init__(self, tmp_path, *arguments, meters=3, ports=None, command="demo", source="model", engine=None):
        self.state = tmp_path
        self.mms, self.dlms, self.web = ports or free_ports(3)
        self.log = tmp_path / "gateway.log"
        self.config = tmp_path / "demo.toml"
        if command == "demo":
            arguments = (
                "demo", "--meters", meters, "--state", tmp_path, "--mms", f"127.0.0.1:{self.mms}",
                "--dlms", f"127.0.0.1:{self.dlms}", "--web", f"127.0.0.1:{self.web}", "--log-level", "info",
                "--source", source,
                *(() if engine is None else ("--engine", engine)),
                *arguments,
            )  # fmt: skip
        self.process = subprocess.Popen(
            [FLEXMAP, *map(str, arguments)],
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self, seconds=30.0):
        """Wait until both faces serve."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.text()
            with contextlib.suppress(OSError):
                if self.health()["healthy"] and "Ctrl-C" in self.text():
                    return self
            time.sleep(0.1)
        raise AssertionError(f"not serving after {seconds} s:\n{self.text()}")

    def wait_read(self, seconds=150.0):
        """Wait until every point has been read; returns how long that took."""
        return wait_read(self.config, seconds)

    def health(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/healthz", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def text(self):
        return self.log.read_text()

    def worker(self):
        """Process id of the MMS worker."""
        return self._child(b"flexmap.faces.libiec61850")

    def concentrator(self):
        """Process id of the concentrator."""
        return self._child(b"\0concentrator\0")

    def _child(self, words):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = [int(child) for child in children if words in Path(f"/proc/{child}/cmdline").read_bytes()]
        assert len(found) == 1, children
        return found[0]

    def stop(self):
        """Interrupt it as Ctrl-C does; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(15)

    def kill(self):
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.wait(5)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)


def wait_read(config, seconds=150.0):
    """Wait until every point of a site has been read; returns how long that took."""
    start = time.monotonic()
    while re.search(r"\d\d of S", told := flexmap("verify", config).stdout):
        assert time.monotonic() < start + seconds, told
    return time.monotonic() - start


@contextlib.contextmanager
def gateway(tmp_path, *arguments, **options):
    """A gateway that serves, ended when the block ends."""
    running = Gateway(tmp_path, *arguments, **options)
    try:
        yield running.wait()
    finally:
        running.close()


def flexmap(*arguments, timeout=60):
    """Run a command of the command line to its end."""
    return subprocess.run(
        [FLEXMAP, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )


PUBLIC_AARQ = bytes.fromhex("601da109060760857405080101be10040e01000000065f1f040000001dffff")
GET_CLOCK = bytes.fromhex("c001c100080000010000ff0200")


class Poller(threading.Thread):
    """A DLMS client that reads the clock as fast as it is answered, and notes each delay."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.delays = []
        self.failure = None
        self.done = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), 5)

    def run(self):
        try:
            self._exchange(PUBLIC_AARQ)
            while not self.done.is_set():
                start = time.monotonic()
                assert self._exchange(GET_CLOCK)[:4] == b"\xc4\x01\xc1\x00"
                self.delays.append(time.monotonic() - start)
                time.sleep(0.002)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            self.failure = error

    def _exchange(self, apdu):
        self._socket.sendall(struct.pack(">HHHH", 1, 16, 1001, len(apdu)) + apdu)
        answer = b""
        while len(answer) < 8 or len(answer) < 8 + int.from_bytes(answer[6:8], "big"):
            chunk = self._socket.recv(4096)
            assert chunk, "the server closed the connection"
            answer += chunk
        return answer[8:]
