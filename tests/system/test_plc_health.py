"""A meter behind an open circuit, and the health of its power line, as clients of both faces see them."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gurux_client
import pytest
from gateway_harness import FLEXMAP, GAK, GUEK, flexmap, free_ports
from mms_harness import Rust, until
from remote import RemoteFailure

from flexmap.gateway import secrets
from flexmap.gateway.demo import SECRETS, DemoOptions, write_config
from flexmap.mapping.table import load_products
from flexmap.model import obis, quality

HERE = Path(__file__).parent
MAX_AGE = 25.0
CUT = "SM0003"
"""The meter behind the open circuit, as cut_concentrator.py has it: the last one."""
LIVE, HOPS, VOLTAGE = "0.0.29.128.0.255", "0.0.29.128.5.255", "1.0.32.7.0.255"
SAPS = {"SM0001": 1001, CUT: 1003}
CHANNEL = load_products()["single-phase-g3-plc"].channel
OLD, LOST = quality.QUESTIONABLE | quality.OLD_DATA, quality.INVALID | quality.OLD_DATA
DATA_CHANGE = 1
SILENT_REQUESTS = 'flexmap_concentrator_plc_silent_total{source="concentrator"}'


class Town:
    """A concentrator with three meters and the substation's, and the gateway that reads it."""

    def __init__(self, folder):
        self.mms, self.dlms, self.web = free_ports(3)
        self.config = folder / "site.toml"
        addresses = {name: f"127.0.0.1:{getattr(self, name)}" for name in ("mms", "dlms", "web")}
        text = write_config(DemoOptions(meters=3, port=f"pty:{folder}/shell", **addresses))
        for entry, value in (("interval", 5.0), ("max_age", MAX_AGE)):
            (line,) = [line for line in text.splitlines() if line.startswith(f"{entry} = ")]
            text = text.replace(line, f"{entry} = {value}")
        self.config.write_text(text)
        secrets.write(folder / "secrets.toml", SECRETS)
        self.logs = {name: folder / f"{name}.log" for name in ("concentrator", "gateway")}
        script = [sys.executable, HERE / "cut_concentrator.py", self.config, f"pty:{folder}/shell", folder / "pan"]
        self.concentrator = self._start("concentrator", script)
        until(lambda: "shell: " in self.text("concentrator"), 60)
        self.gateway = self._start("gateway", [FLEXMAP, "serve", self.config, "--log-level", "info"])
        until(lambda: "connected to" in self.text("gateway"), 60)

    def _start(self, name, command):
        return subprocess.Popen(
            [*map(str, command)], stdout=self.logs[name].open("ab"), stderr=subprocess.STDOUT, env=os.environ
        )

    def text(self, name):
        return self.logs[name].read_text()

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/metrics", timeout=5) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in lines}

    def client(self, sap):
        return gurux_client.connect(
            "127.0.0.1",
            self.dlms,
            client_sap=2,
            server_sap=sap,
            keys=(GUEK, GAK),
            title=f"GRX{sap:05d}".encode(),
            counter=int(time.time()),
        )

    def close(self):
        for process in (self.gateway, self.concentrator):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    running = Town(tmp_path_factory.mktemp("plc"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def clients(town):
    """Gurux's client of each meter, and the Rust MMS client."""
    with contextlib.ExitStack() as stack:
        meters = {name: stack.enter_context(town.client(sap)) for name, sap in SAPS.items()}
        rust = stack.enter_context(Rust(town.mms))
        for name in SAPS:
            until(lambda name=name: view(meters, rust, name)["live"] == (1, True), 90)
        yield meters, rust


def status(bits):
    return quality.from_bits(int(bits + "000", 2).to_bytes(2, "big"))


def view(meters, rust, name):
    """What both faces say of a meter: whether it answers and since when, its voltage's quality."""
    meter, path = meters[name], f"FLEXGW{name}"
    live = [value_or_none(meter, LIVE, 2), rust.read(ref=f"{path}/LCCH1.ChLiv.stVal", fc="ST")]
    marks = [status(meter.get(4, VOLTAGE, 4)), rust_quality(rust.read(ref=f"{path}/MMXN1.Vol.q", fc="MX"))]
    return {"live": tuple(live), "quality": tuple(marks)}


def value_or_none(session, name, attribute, class_id=4):
    try:
        return session.get(class_id, name, attribute)
    except RemoteFailure as error:
        assert "error 2" in str(error), error  # temporary-failure
        return None


def rust_quality(text):
    """The Rust client gives a bit string as hexadecimal."""
    return quality.from_bits(bytes.fromhex(text))


def test_health_points_agree_and_verify_covers_them(town, clients):
    meters, rust = clients
    values = {}
    for point in CHANNEL:
        name = ".".join(str(octet) for octet in obis.parse(point.registers[0].obis))

        def both(name=name, point=point):
            place = f"FLEXGWSM0001/{point.reference.ln}.{point.reference.do}"
            attribute, fc = {"SPS": ("stVal", "ST"), "BCR": ("actVal", "ST"), "MV": ("mag.f", "MX")}[
                point.reference.cdc
            ]
            return value_or_none(meters["SM0001"], name, 2), rust.read(ref=f"{place}.{attribute}", fc=fc)

        values[point.name], _ = until(lambda: (pair := both())[0] is not None and pair[0] == pair[1] and pair, 30)
        assert status(meters["SM0001"].get(4, name, 4)) == quality.GOOD
    assert values["channel-live"] == 1
    assert 1 <= values["route-hops"] <= 3
    assert 0 < values["messages-received"] <= values["messages-sent"]
    assert 0 < values["first-link-lqi"] <= 255
    verified = flexmap("verify", town.config, "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert all(point.name in verified.stdout for point in CHANNEL)


def test_gurux_understands_the_coordinators_objects(town):
    with town.client(1) as management:
        until(lambda: value_or_none(management, "0.0.29.2.0.255", 2, 92) is not None, 30)
        counters = management.get_object(90, "0.0.29.0.0.255")
        setup = management.get_object(91, "0.0.29.1.0.255")
        adaptation = management.get_object(92, "0.0.29.2.0.255")
        with pytest.raises(RemoteFailure, match="error 3"):
            management.get(91, "0.0.29.1.0.255", 5)  # keys are not to be read
    assert list(counters) == list(range(1, 11))
    assert counters[2] > 0
    assert counters[3] > 0
    assert list(setup) == [index for index in range(1, 27) if index != 5]
    assert (setup[2], setup[3]) == (0, 0)
    assert setup[7].count("1") == 36
    assert setup[25], "it has heard its neighbours"
    assert list(adaptation) == list(range(1, 24))
    assert adaptation[2] == 8
    assert {route["destinationAddress"] for route in adaptation[8]} >= {1, 2, 3, 4}
    assert max(route["hopCount"] for route in adaptation[8]) >= 1
    assert adaptation[19] in {1, "1", "DeviceType.PAN_COORDINATOR", "PanCoordinator"}


def test_an_open_circuit_shows_on_both_faces_at_the_same_time_and_so_does_its_end(town, clients):
    meters, rust = clients
    members, _ = rust.dataset(ref=f"FLEXGW{CUT}/LLN0.State")
    place = members.index([f"FLEXGW{CUT}/LCCH1.ChLiv", "ST"])
    rust.enable(ref=f"FLEXGW{CUT}/LLN0.BR.brState01")
    rust.poll(milliseconds=500)
    cut = time.time()
    town.concentrator.send_signal(signal.SIGUSR1)
    ladder = []
    while time.time() < cut + 100:
        seen = view(meters, rust, CUT)
        if not ladder or ladder[-1] != seen:
            ladder.append(seen)
        if seen == {"live": (0, False), "quality": (LOST, LOST)}:
            break
        time.sleep(0.1)
    print("ladder", round(time.time() - cut), ladder)
    steps = [step["quality"] for step in ladder if step["quality"][0] == step["quality"][1]]
    steps = [step for step, _ in itertools.groupby(steps)]  # the channel's state may follow a moment later
    assert steps == [(quality.GOOD,) * 2, (OLD,) * 2, (LOST,) * 2]
    assert ladder[-1]["live"] == (0, False)
    assert all(step["live"] != (0, False) for step in ladder if step["quality"] == (OLD, OLD))
    assert value_or_none(meters[CUT], VOLTAGE, 2) is None
    assert view(meters, rust, "SM0001") == {"live": (1, True), "quality": (quality.GOOD,) * 2}
    changes = [r["values"][place] for r in rust.poll(milliseconds=1500) if r["reasons"][place] == DATA_CHANGE]
    assert changes, "a report of its silence"
    assert changes[-1][0] is False
    figures = town.metrics()
    assert figures['flexmap_concentrator_meters_silent{source="concentrator"}'] == 1
    assert figures['flexmap_concentrator_meters{source="concentrator"}'] == 4
    assert until(lambda: town.metrics()[SILENT_REQUESTS] >= 1, 30)
    assert 0 < figures['flexmap_concentrator_plc_airtime_seconds_total{source="concentrator"}'] < 200
    verified = flexmap("verify", town.config)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    town.concentrator.send_signal(signal.SIGUSR2)
    back = until(lambda: (seen := view(meters, rust, CUT))["live"] == (1, True) and seen, 90)
    assert back["quality"] == (quality.GOOD,) * 2, "values come back with the channel"
    assert town.metrics()['flexmap_concentrator_meters_silent{source="concentrator"}'] == 0
