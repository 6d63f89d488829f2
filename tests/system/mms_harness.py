"""Starts the MMS engine's core (mms_core.py) and talks to it from a test."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import mms_site
import msgspec

HERE = Path(__file__).parent


class Core:
    """The core process; messages that it says are sorted by their key."""

    def __init__(
        self,
        tmp_path,
        *,
        engine="libiec61850",
        site=mms_site.SITE,
        cid=mms_site.CID,
        port=0,
        command_timeout=10.0,
        silence=6.0,
        store=None,
    ):
        site_file = tmp_path / "site.json"
        site_file.write_bytes(msgspec.json.encode(site))
        self.log = tmp_path / "core.log"
        limits = [port, command_timeout, silence, *(() if store is None else (store,))]
        arguments = [str(argument) for argument in (engine, site_file, cid, *limits)]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "mms_core.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
        )
        self.said = {key: queue.Queue() for key in ("port", "failed", "command", "status", "stopped")}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            for key, value in json.loads(line).items():
                self.said[key].put(value)

    def say(self, **message):
        self.process.stdin.write(msgspec.json.encode(message) + b"\n")
        self.process.stdin.flush()

    def hear(self, key, timeout=15.0):
        try:
            return self.said[key].get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no '{key}' from the core in {timeout} s:\n{self.log.read_text()}") from None

    def status(self):
        self.say(status=True)
        return self.hear("status")

    def update(self, *samples):
        """Hand samples to the engine."""
        self.say(samples=samples)

    def wait(self, condition, timeout=10.0):
        """Wait until the status fulfils a condition; return it."""
        end = time.monotonic() + timeout
        while not condition(status := self.status()):
            assert time.monotonic() < end, f"{status}\n{self.log.read_text()}"
            time.sleep(0.05)
        return status

    def close(self):
        with contextlib.suppress(OSError):
            self.say(stop=True)
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(condition, timeout=5.0):
    """Wait until a condition gives something true; return that."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return result


@contextlib.contextmanager
def core(tmp_path, **options):
    """Start a core, wait until it serves; yields it with ``port`` set."""
    process = Core(tmp_path, **options)
    try:
        process.port = process.hear("port")
        yield process
    finally:
        process.close()


class RustError(Exception):
    """The Rust client's error text."""


class Rust:
    """The Rust MMS client; every method of its Session (tests/clients/rust_mms.py) can be called by name."""

    def __init__(self, port, host="127.0.0.1"):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE.parent / "clients" / "rust_mms.py"), host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.answers = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.hear(10)

    def _listen(self):
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put({"error": "the Rust client has ended"})

    def hear(self, timeout):
        answer = self.answers.get(timeout=timeout)
        if "error" in answer:
            raise RustError(answer["error"])
        return answer["result"]

    def ask(self, op, **arguments):
        """Send a request without waiting for its answer."""
        self.process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def __getattr__(self, op):
        def call(timeout=20, **arguments):
            self.ask(op, **arguments)
            return self.hear(timeout)

        return call

    def kill(self):
        """Break the connection without a word."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()
