"""Serial lines and TCP as bearers of the shell: two processes each, unplugged, locked, logged in."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty

import pytest
from concentrator_harness import Process, Terminal, catch_up, concentrator, gateway, store_of
from gateway_harness import FLEXMAP

from flexmap.stcomet.login import proof

OPTIONS = "?baud=230400&rtscts=1"


class Cable:
    """A serial cable of two pseudo-terminals: what is written at one end is read at the other."""

    def __init__(self, folder):
        self.ends = (folder / "ttyA", folder / "ttyB")
        self._held = []
        self._thread = None

    def plug(self):
        masters = []
        for end in self.ends:
            master, slave = os.openpty()
            tty.setraw(slave)
            end.symlink_to(os.ttyname(slave))
            masters.append(master)
            self._held += [master, slave]
        wake, self._stop = os.pipe()
        self._held += [wake, self._stop]
        self._thread = threading.Thread(target=self._relay, args=(*masters, wake), daemon=True)
        self._thread.start()

    def _relay(self, one, other, wake):
        while True:
            ready, _, _ = select.select([one, other, wake], [], [])
            if wake in ready:
                return
            for descriptor in ready:
                octets = os.read(descriptor, 65536)
                os.write(other if descriptor == one else one, octets)

    def unplug(self):
        if self._thread is not None:
            os.write(self._stop, b".")
            self._thread.join()
            self._thread = None
            for end in self.ends:
                end.unlink()
            for descriptor in self._held:
                os.close(descriptor)
            self._held.clear()


@pytest.fixture
def cable(tmp_path):
    made = Cable(tmp_path)
    made.plug()
    yield made
    made.unplug()


def no_second_is_missing(tmp_path, meters=3):
    store, site = store_of(tmp_path)
    with contextlib.closing(store):
        counted = []
        for meter in site.meters:
            seconds = [sample.time // 1000 for sample in store.samples(meter.id)]
            assert seconds, meter.id
            assert seconds == list(range(seconds[0], seconds[-1] + 1)), meter.id
            counted.append((len(seconds), seconds[-1]))
    assert len(counted) == meters + 1
    return counted


def test_a_serial_line_unplugged_and_plugged_in_again(processes, tmp_path, cable):
    near, far = cable.ends
    process = concentrator(processes, tmp_path, port=f"serial:{near}{OPTIONS}")
    core = gateway(processes, tmp_path, "core.log", port=f"serial:{far}{OPTIONS}")
    core.wait_for("connected to")
    catch_up(tmp_path, time.time())
    # The line belongs to one program at each end.
    second = Process(tmp_path / "second.log", "concentrator", "--port", f"serial:{near}{OPTIONS}", "--meters", 1,
                     "--state", tmp_path / "second")  # fmt: skip
    processes.append(second)
    assert second.process.wait(60) == 2
    assert "another program uses it" in (tmp_path / "second.log").read_text()
    cable.unplug()
    core.wait_for("the line is gone")
    process.wait_for("has gone; it is opened again")
    time.sleep(6)
    cable.plug()
    process.wait_for("is back")
    deadline = time.monotonic() + 60
    while core.log.read_text().count("connected to") < 2:
        assert time.monotonic() < deadline, core.log.read_text()
        time.sleep(0.2)
    back = time.time()
    catch_up(tmp_path, back)
    core.end()
    process.end()
    counted = no_second_is_missing(tmp_path)
    assert min(last for _, last in counted) >= back
    assert min(count for count, _ in counted) > 180


@pytest.mark.parametrize(
    ("port", "complaint"),
    [
        ("serial:{}/none" + OPTIONS, "No such file or directory"),
        ("serial:/dev/null" + OPTIONS, "it is no serial line"),
        ("serial:{}/none?baud=230401", "is no port"),
        ("tcp:127.0.0.1:{taken}", "Address already in use"),
    ],
)
def test_what_cannot_be_offered_is_said(tmp_path, port, complaint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = port.format(tmp_path, taken=taken.getsockname()[1])
        command = [str(FLEXMAP), "concentrator", "--port", text, "--meters", "0", "--state", str(tmp_path / "s")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


class Connection:
    """A person or a program at the TCP port."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self.socket.makefile("r", newline="\r\n")

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.read()

    def read(self):
        while not (line := self._file.readline()).startswith("="):
            assert line, "the connection has ended"
        return line.rstrip()

    def close(self):
        self._file.close()
        self.socket.close()

    def login(self, password):
        nonce = re.search(r"nonce=(\w+)", self.ask("SYS CHALLENGE"))[1]
        return self.ask(f"SYS LOGIN {proof(password, nonce).hex()}")


def test_tcp_wants_a_login_and_the_gateway_logs_in(processes, tmp_path):
    path = tmp_path / "c.toml"
    flags = ("--port", "tcp:127.0.0.1:0", "--meters", "2", "--settle", "180", "--sessions", "3")
    command = [str(FLEXMAP), "concentrator", *flags, "--write-config", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    password = re.search(r'password = "([^"]+)"', (tmp_path / "c.secrets.toml").read_text())[1]
    process = Process(tmp_path / "c.log", "concentrator", "--config", path, "--log-level", "info")
    processes.append(process)
    process.wait_for("shell: ")
    port = int(re.search(r"tcp:127\.0\.0\.1:(\d+)", process.log.read_text())[1])

    one = Connection(port)
    assert "login=due" in one.ask("SYS VERSION")
    assert one.ask("APP METERS").startswith("= ERROR LOGIN")
    assert one.login("not the password").startswith("= ERROR LOGIN")
    assert one.login(password).startswith("= ERROR BUSY")
    time.sleep(1.1)
    assert one.login(password) == "= OK"
    assert one.ask("APP METERS") == "= OK meters=3"
    others = [Connection(port) for _ in range(3)]
    assert others[2].read() == '= ERROR BUSY text="too many sessions"'
    for each in (one, *others):
        each.close()

    core = gateway(processes, tmp_path, "core.log", meters=2, port=f"tcp:127.0.0.1:{port}")
    core.wait_for("the shell wants a login, and there is no password for it")
    core.end()
    secrets = tmp_path / "site.secrets.toml"
    secrets.write_text(secrets.read_text() + f'\n[concentrator]\npassword = "{password}"\n')
    core = gateway(processes, tmp_path, "core2.log", meters=2, port=f"tcp:127.0.0.1:{port}")
    core.wait_for("connected to")
    catch_up(tmp_path, time.time())
    core.end()
    no_second_is_missing(tmp_path, meters=2)
    for log in (process.log, core.log):
        assert password not in log.read_text()


def test_hands_on_a_terminal(processes, tmp_path):
    """What a terminal program sends: keys one by one, CR, CR LF, escape sequences, mistakes of all kinds."""
    process = concentrator(processes, tmp_path, meters=1)
    terminal = Terminal(tmp_path / "shell")
    assert terminal.type("SYS ECHO 1\r", "MNSH> ") == "= OK\r\nMNSH> "
    prompt = "MNSH> "

    def keys(text):
        seen = ""
        for key in text[:-1]:
            seen += terminal.type(key, "", 5)
        return seen + terminal.type(text[-1], prompt)

    assert keys("sys versoin\x08\x08\x08\x08\x7fsion\r").endswith(f"\r\n{prompt}")
    typed = terminal.type("SYS\x1b[D\x1b[3~ TIME\r\n", prompt)
    assert typed.startswith("SYS TIME\r\n= OK time=")
    assert typed.count(prompt) == 1
    assert terminal.type("\r", prompt) == f"\r\n{prompt}"
    for line, code in [
        ("GO HOME", "MODULE"),
        ("APP HOME", "COMMAND"),
        ("APP", "COMMAND"),
        ("APP GET_DATA_STREAM", "COUNT"),
        ("APP GET_DATA_STREAM 10 SM0001 1", "COUNT"),
        ("APP GET_DATA_STREAM ten SM0001", "PARAMETER"),
        ("APP GET_DATA_STREAM 0x100000000 SM0001", "PARAMETER"),
        ("APP GET_DATA_STREAM 10 SM_ID1", "METER"),
        ('APP IDENTITY "SM0001', "SYNTAX"),
        ("#70000 SYS TIME", "SYNTAX"),
        ("FW SEND none SM0001", "IMAGE"),
        ("HELP GO", "MODULE"),
    ]:
        assert f"\r\n= ERROR {code} text=" in terminal.type(f"{line}\r", prompt), line
    assert "\a" in terminal.type("x" * 300 + "\r", prompt)
    assert "\a" in terminal.type("SYS TIME\x00\xff\r".encode("latin1").decode("latin1"), prompt)
    shown = terminal.type("HELP FW BLOCK\r", prompt)
    assert "octets, up to 192 hexadecimal digits" in shown
    assert "changed=1" in terminal.type("APP BREAKER <SM0001> 0 0\r", "= OK changed=1")
    # A line that was left half typed does not harm the gateway that sits down after it.
    terminal.type("APP BREAKER SM0001 1", "SM0001 1")
    terminal.close()
    core = gateway(processes, tmp_path, "core.log", meters=1)
    core.wait_for("connected to")
    core.end()
    process.end()


def test_a_terminal_program_that_others_wrote(processes, tmp_path):
    """A person's session in pyserial's miniterm, which sits at the pseudo-terminal as at a serial line."""
    process = concentrator(processes, tmp_path, meters=1)
    options = ("--raw", "--eol", "CR", str(tmp_path / "shell"), "230400")
    pid, screen = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-m", "serial.tools.miniterm", *options])

    def read(until):
        seen, deadline = "", time.monotonic() + 20
        while until not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([screen], [], [], 0.2)[0]:
                seen += os.read(screen, 65536).decode()
                seen = seen.replace("\r\r\n", "\r\n")  # the screen's own terminal adds a CR
        return seen

    def typed(line):
        for key in line:
            os.write(screen, key.encode())
            time.sleep(0.005)
        os.write(screen, b"\r")
        return read("MNSH> ")

    try:
        read("--- Quit")
        os.write(screen, b"SYS ECHO 1\r")
        read("= OK\r\nMNSH> ")
        records = re.findall(r": seq=(\d+) time=(\d+) .* w=\d+ ", typed("APP GET_DATA_STREAM 10 SM0001"))
        assert [int(number) for number, _ in records] == list(range(10))
        assert "= ERROR COUNT" in typed("APP GET_DATA_STREAM 10")
        assert "\r\n= ERROR MODULE" in typed("GO HOME")
        assert "SYS X\b \bVERSION\r\n= OK mnsh=" in typed("SYS X\x7fVERSION")
        assert ": APP GET_DATA_STREAM <count> <meter>\r\n" in typed("HELP APP GET_DATA_STREAM")
        os.write(screen, b"\x1d")  # Ctrl-]: miniterm ends, the shell stays
        os.waitpid(pid, 0)
    finally:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
        os.close(screen)
    terminal = Terminal(tmp_path / "shell")
    assert "= OK mnsh=" in terminal.type("SYS VERSION\r", "MNSH> ")
    terminal.close()
    process.end()


def test_firmware_goes_on_after_a_crash(processes, tmp_path):
    """`flexmap firmware`, its concentrator killed under it: run again, it goes on; the version stays."""
    image = tmp_path / "plc-5.bin"
    image.write_bytes(bytes(range(256)) * 24)
    port = f"pty:{tmp_path}/shell"
    flags = (image, "SM0001", "--port", port, "--binary", "plc", "--version", 5, "--activate")
    process = concentrator(processes, tmp_path, "1.log", meters=1)
    host = Process(tmp_path / "host1.log", "firmware", *flags)
    processes.append(host)
    host.wait_for("SM0001 sending: ")
    process.end(signal.SIGKILL)
    assert host.process.wait(30) == 1
    said = host.log.read_text()
    assert "concentrator: 6144 of 6144 octets" in said
    assert "line to the concentrator" in said.splitlines()[-1]
    process = concentrator(processes, tmp_path, "2.log", meters=1)
    host = Process(tmp_path / "host2.log", "firmware", *flags)
    processes.append(host)
    assert host.process.wait(120) == 0, host.log.read_text()
    said = host.log.read_text()
    assert "concentrator:" not in said  # it had the whole image
    assert "SM0001 active: 6144 of 6144 octets" in said
    process.end()
    process = concentrator(processes, tmp_path, "3.log", meters=1)
    terminal = Terminal(tmp_path / "shell")
    assert "state=active" in terminal.type("FW TRANSFERS\r", "= OK meters=1")
    # The meter itself says which version runs.
    terminal.type("FW SEND plc_5 SM0001\r", "= OK meter=SM0001")
    deadline = time.monotonic() + 60
    while "running=5" not in (said := terminal.type("FW STATUS SM0001\r", "running=")):
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
    terminal.close()
    process.end()
