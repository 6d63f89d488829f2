"""The demo on its own way to the meters: breakers from both faces, silent meters, a concentrator that dies."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gurux_client
import pytest
from concentrator_harness import Process, Terminal, catch_up, store_of
from gateway_harness import (
    FLEXMAP,
    MANAGER_GAK,
    MANAGER_GUEK,
    Gateway,
    Poller,
    flexmap,
    free_ports,
    gateway,
    wait_read,
)
from mms_harness import until
from remote import RemoteFailure

from flexmap.faces.mms_client import MmsClient
from flexmap.gateway.service import COMMAND_TIMEOUT
from flexmap.mapping import cdc
from flexmap.model import RemoteError
from flexmap.stcomet.mnsh import parse_line

CLIENTS = Path(__file__).parents[1] / "clients"
BREAKER = "0.0.96.3.10.255"
REMOTE_DISCONNECT, REMOTE_RECONNECT = 1, 2
SUCCESS, TIME_LIMIT_OVER = 0, 16
UNANSWERED = r"(error 2|TEMPORARY_FAILURE|Temporary)"


def operate(port, meter, value):
    """A command of libiec61850's own client to CSWI1.Pos (SBO with enhanced security): its outcome."""
    arguments = ["127.0.0.1", str(port), f"FLEXGW{meter}/CSWI1.Pos", str(value).lower()]
    program = [sys.executable, str(CLIENTS / "libiec_control.py"), *arguments]
    return json.loads(subprocess.run(program, capture_output=True, timeout=60, check=True).stdout)


TRIES = 12
"""A person gives a command again that was lost on its way over several hops: they are told that it was."""


def operate_over_hops(port, meter, value):
    """The same until the meter has answered; each attempt before it ends as time-limit-over."""
    for _ in range(TRIES):
        outcome = operate(port, meter, value)
        assert (outcome["select"], outcome["operate"]) == (True, True)
        if outcome["termination"] != TIME_LIMIT_OVER:
            break
    assert outcome["termination"] == SUCCESS
    return outcome


def action_over_hops(client, method):
    """A method of the breaker until the meter has answered; each attempt before it ends as temporary-failure."""
    for number in range(TRIES):
        try:
            client.action(70, BREAKER, method)
            break
        except RemoteFailure as error:
            if number == TRIES - 1 or not re.search(UNANSWERED, str(error)):
                raise


def manager(port, meter, title):
    """Gurux's client as management."""
    return gurux_client.connect(
        "127.0.0.1", port=port, client_sap=1, server_sap=1000 + int(meter.removeprefix("SM")),
        keys=(MANAGER_GUEK, MANAGER_GAK), title=title, counter=int(time.time()),
    )  # fmt: skip


def position(port, meter):
    with MmsClient.open("127.0.0.1", port) as client:
        switch, control = client.read([f"FLEXGW{meter}/XSWI1.Pos", f"FLEXGW{meter}/CSWI1.Pos"])
    assert switch.value == control.value
    return switch.value


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo as `tools/run` starts it: 21 meters."""
    with gateway(tmp_path_factory.mktemp("plc"), source="concentrator", meters=20) as running:
        took = running.wait_read()
        print(f"every point of 21 meters read {took:.1f} s after the banner")
        yield running


def farthest(demo):
    """The single-phase meter behind the most hops, as the concentrator's shell tells a person, and its hops."""
    terminal = Terminal(demo.state / "shell")
    lines = terminal.type("PLC TOPOLOGY\r", "= OK").splitlines()
    terminal.close()
    routes = [parse_line(line) for line in lines if line.startswith(": SM")]
    return max((int(route.fields["hops"]), route.words[0]) for route in routes)


def expect(descriptor, text, seconds=10):
    """Read until a text has come."""
    seen, end = b"", time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < end, seen
        if select.select([descriptor], [], [], 0.2)[0]:
            seen += os.read(descriptor, 65536)


def test_the_banner_tells_of_the_power_line_and_of_a_terminal_that_works(demo):
    assert "21 of 21 meters in the PAN" in demo.text()
    command = re.search(r"^  pyserial-(miniterm .*/shell)   ", demo.text(), re.MULTILINE)[1].split()
    ours, theirs = os.openpty()
    program = [FLEXMAP.with_name(f"pyserial-{command[0]}"), *command[1:]]
    person = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    try:
        expect(ours, b"Quit")
        os.write(ours, b"APP METERS\r")
        expect(ours, b"= OK meters=21")
        os.write(ours, b"\x1d")
        assert person.wait(10) == 0
    finally:
        person.kill()
        os.close(ours)
        os.close(theirs)


def test_a_breaker_over_several_hops_from_both_faces(demo):
    hops, meter = farthest(demo)
    assert hops >= 2
    opened = operate_over_hops(demo.mms, meter, value=False)
    with manager(demo.dlms, meter, b"GRXBREAK") as client:
        until(lambda: client.get(70, BREAKER, 2) is False, 20)
        until(lambda: position(demo.mms, meter) == cdc.DPC_OFF, 5)
        assert client.get(70, BREAKER, 3) == 0
        asked = time.monotonic()
        action_over_hops(client, REMOTE_RECONNECT)
        print(f"{meter}, {hops} hops: MMS {opened['seconds']:.2f} s, DLMS {time.monotonic() - asked:.2f} s")
        until(lambda: client.get(70, BREAKER, 2) is True, 20)
        action_over_hops(client, REMOTE_DISCONNECT)
        until(lambda: position(demo.mms, meter) == cdc.DPC_OFF, 20)
        client.close()
    operate_over_hops(demo.mms, meter, value=True)
    until(lambda: position(demo.mms, meter) == cdc.DPC_ON, 20)


def test_a_command_that_nobody_waits_for_any_more_moves_nothing(demo):
    """The concentrator stands still until both clients have been refused; then the commands reach the meter."""
    meter = "SM0001"
    stopped = demo.concentrator()
    os.kill(stopped, signal.SIGSTOP)
    try:
        refused = operate(demo.mms, meter, value=False)
        assert (refused["operate"], refused["termination"]) == (True, TIME_LIMIT_OVER)
        assert COMMAND_TIMEOUT <= refused["seconds"] < COMMAND_TIMEOUT + 3
    finally:
        os.kill(stopped, signal.SIGCONT)
    time.sleep(20)
    assert position(demo.mms, meter) == cdc.DPC_ON
    assert demo.concentrator() == stopped


class MmsPoller(Poller):
    """The same over MMS."""

    def run(self):
        try:
            with MmsClient.open("127.0.0.1", self.port) as client:
                while not self.done.is_set():
                    start = time.monotonic()
                    assert client.read(["FLEXGWSM0001/MMXN1.Vol"])[0].value > 200
                    self.delays.append(time.monotonic() - start)
                    time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            self.failure = error

    def __init__(self, port):
        super().__init__(port)
        self.port = port


def test_kill_of_the_concentrator_is_healed_and_no_second_is_missing(tmp_path):
    with gateway(tmp_path, source="concentrator") as running:
        running.wait_read()
        pollers = [Poller(running.dlms), MmsPoller(running.mms)]
        for poller in pollers:
            poller.start()
        for kills in (1, 2):
            killed, before = time.monotonic(), running.concentrator()
            os.kill(before, signal.SIGKILL)
            until(lambda kills=kills: running.text().count(": connected to") > kills, 30)
            print(f"concentrator back after {time.monotonic() - killed:.2f} s")
            assert running.concentrator() != before
            terminal = Terminal(tmp_path / "shell")
            terminal.type("APP METERS\r", "= OK meters=4")
            terminal.close()
            time.sleep(8)
        now = time.time()
        until(lambda: all(second > now + 1 for second in newest(running)), 60)
        catch_up(tmp_path, now, "demo.toml")
        for poller in pollers:
            poller.done.set()
            poller.join(5)
            assert poller.failure is None
            assert len(poller.delays) > 100
        assert running.stop() == 0
    store, site = store_of(tmp_path, "demo.toml")
    for meter in site.meters:
        seconds = [sample.time // 1000 for sample in store.samples(meter.id)]
        assert seconds == list(range(seconds[0], seconds[-1] + 1)), meter.id
        assert seconds[-1] > now
    store.close()


def newest(running):
    """Times of the last samples of all meters on MMS, in seconds."""
    names = [f"FLEXGWSM{number:04d}/MMXN1.Vol" for number in (1, 2, 3)]
    try:
        with MmsClient.open("127.0.0.1", running.mms) as client:
            return [reading.time / 1000 for reading in client.read([*names, "FLEXGWSUB1/MMXU1.Hz"])]
    except RemoteError:
        return [0]


def test_a_concentrator_that_cannot_start_is_told_in_one_line(tmp_path):
    (tmp_path / "shell").write_text("somebody's file")
    demo = Gateway(tmp_path, source="concentrator")
    try:
        assert demo.process.wait(30) == 1
    finally:
        demo.close()
    assert "error: the concentrator does not start: " in demo.text()
    assert "shell: cannot be opened: there is something else of that name" in demo.text()
    assert "Traceback" not in demo.text()


def test_the_concentrator_ends_with_the_demo(tmp_path):
    with gateway(tmp_path, source="concentrator", meters=1) as running:
        child = Path(f"/proc/{running.concentrator()}")
        running.kill()
        until(lambda: not child.exists(), 10)
        assert not (tmp_path / "shell").is_symlink()


def test_silent_meters_and_restarts_in_any_order(processes, tmp_path):
    """`flexmap serve` with a written configuration, against a concentrator started apart from it."""
    mms, dlms, _ = ports = free_ports(3)
    path = tmp_path / "site.toml"
    flags = [f"--{name}=127.0.0.1:{port}" for name, port in zip(("mms", "dlms", "web"), ports, strict=True)]
    assert flexmap("demo", "--meters", 3, *flags, "--write-config", path).returncode == 0
    arguments = [
        "--port",
        f"pty:{tmp_path}/gateway-shell",
        "--meters",
        3,
        "--settle",
        300,
        "--state",
        tmp_path / "pan",
    ]

    def serve(name):
        processes.append(Process(tmp_path / name, "serve", path, "--log-level", "info"))
        return processes[-1]

    def dark(name):
        processes.append(Dark(tmp_path / name, *arguments))
        return processes[-1]

    core = serve("core1.log")
    core.wait_for("next attempt")
    line = dark("line1.log")
    core.wait_for("connected to")
    wait_read(path)

    line.process.send_signal(signal.SIGUSR1)
    refused = operate(mms, "SM0002", value=False)
    assert refused["termination"] == TIME_LIMIT_OVER
    secrets = path.with_name("site.secrets.toml")
    keys = manager_keys(secrets)
    with gurux_client.connect(
        "127.0.0.1", port=dlms, client_sap=1, server_sap=1002, keys=keys, title=b"GRXSILEN", counter=1
    ) as client:
        asked = time.monotonic()
        with pytest.raises(RemoteFailure, match=UNANSWERED):
            client.action(70, BREAKER, REMOTE_DISCONNECT)
        assert COMMAND_TIMEOUT <= time.monotonic() - asked < COMMAND_TIMEOUT + 3
        client.close()
    line.process.send_signal(signal.SIGUSR2)
    assert position(mms, "SM0002") == cdc.DPC_ON

    core.end(signal.SIGKILL)
    core = serve("core2.log")
    core.wait_for("connected to")
    line.end(signal.SIGKILL)
    core.wait_for("the line is gone")
    core.end()
    dark("line2.log").wait_for("shell: ")
    core = serve("core3.log")
    core.wait_for("connected to")
    assert flexmap("verify", path).returncode == 0


class Dark(Process):
    """A concentrator whose line can be cut."""

    def __init__(self, log, *arguments):
        self.log = log
        script = Path(__file__).with_name("dark_concentrator.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def manager_keys(secrets):
    told = tomllib.loads(secrets.read_text())["management"]
    return bytes.fromhex(told["encryption_key"]), bytes.fromhex(told["authentication_key"])
