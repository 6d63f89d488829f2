"""Runs `flexmap concentrator` and the gateway as processes of their own, and sits down at the shell."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
import urllib.request

from gateway_harness import FLEXMAP, free_ports

from flexmap.gateway import config as configuration
from flexmap.store import Store


class Process:
    """A `flexmap` command in a process of its own."""

    def __init__(self, log, *arguments):
        self.log = log
        self.process = subprocess.Popen(
            [FLEXMAP, *map(str, arguments)],
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for(self, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)


def concentrator(processes, tmp_path, name="concentrator.log", *, meters=3, settle=180, port=None):
    arguments = ("--port", port or f"pty:{tmp_path}/shell", "--meters", meters, "--settle", settle)
    made = Process(tmp_path / name, "concentrator", *arguments, "--state", tmp_path / "pan", "--log-level", "info")
    processes.append(made)
    made.wait_for("shell: ")
    return made


def gateway(processes, tmp_path, name, *, meters=3, port=None):
    path = tmp_path / "site.toml"
    if not path.exists():
        mms, dlms, web = free_ports(3)
        flags = ("--mms", f"127.0.0.1:{mms}", "--dlms", f"127.0.0.1:{dlms}", "--web", f"127.0.0.1:{web}")
        demo = [FLEXMAP, "demo", "--meters", str(meters), *flags, "--write-config", path]
        subprocess.run([*map(str, demo)], check=True, timeout=60, capture_output=True)
        text = path.read_text().replace("interval = 10.0", "interval = 2.0")
        path.write_text(text.replace("pty:gateway-shell", port or f"pty:{tmp_path}/shell"))
    made = Process(tmp_path / name, "serve", path, "--log-level", "info")
    processes.append(made)
    return made


def catch_up(tmp_path, since, name="site.toml", timeout=120):
    """Wait until every meter has answered after a time, and no second that is known to be missing is left."""
    web = configuration.load(tmp_path / name).web.listen
    deadline = time.monotonic() + timeout
    while True:
        with urllib.request.urlopen(f"http://{web}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        told = re.findall(r"^flexmap_(meters_old|concentrator_\w+)(?:{.*?})? (\S+)$", text, re.MULTILINE)
        figures = {figure.removeprefix("concentrator_"): float(value) for figure, value in told}
        missing = figures["meters_silent"] + figures["meters_old"] + figures["behind_seconds"]
        read = figures["connected"] and figures["reads_total"] >= 2 * figures["meters"] > 0
        answered = time.time() - figures["round_seconds"] > since + 3  # a latest record is of the second before
        if read and answered and not missing:
            return
        assert time.monotonic() < deadline, figures
        time.sleep(0.5)


def store_of(tmp_path, name="site.toml"):
    site = configuration.load(tmp_path / name)
    return Store(site.resolve(site.store.folder) / "flexmap.sqlite", site.site), site.site


class Terminal:
    """A person at the pseudo-terminal."""

    def __init__(self, path):
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)

    def type(self, text, until, timeout=30):
        os.write(self._descriptor, text.encode())
        seen, deadline = "", time.monotonic() + timeout
        while until not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self._descriptor], [], [], 0.2)[0]:
                seen += os.read(self._descriptor, 65536).decode()
        return seen

    def close(self):
        os.close(self._descriptor)
