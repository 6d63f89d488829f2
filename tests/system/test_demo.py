"""The demo as its users meet it: what it prints, what its commands say, that it stops."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gateway_harness import Gateway, flexmap, free_ports, gateway
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("demo"), source="concentrator") as running:
        running.wait_read()
        yield running


def read(demo, protocol, path, *arguments):
    port = {"mms": demo.mms, "dlms": demo.dlms}[protocol]
    done = flexmap("read", f"{protocol}://127.0.0.1:{port}{path}", "--config", demo.config, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_banner_says_what_is_where(demo):
    text = demo.text()
    assert f"127.0.0.1:{demo.mms}" in text
    assert f"127.0.0.1:{demo.dlms}" in text
    assert "flexmap verify" in text


def test_the_commands_of_the_banner_work(demo):
    """Every command that the banner names runs as it stands there."""
    commands = re.findall(r"^  flexmap (.*)$", demo.text(), re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = command.replace("substation.scd", str(demo.state / "substation.scd")).split()
        done = flexmap(*words)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        assert done.stdout.strip()


def test_verify_finds_every_point_equal(demo):
    done = flexmap("verify", demo.config, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    # three single-phase meters and the substation meter: points, rates, identity; a breaker has two names on MMS;
    # the channel of each
    assert len(rows) == 3 * (18 + 8 + 3 + 1) + 56 + 16 + 3 + 1 + 4 * 9
    assert {row["agree"] for row in rows} == {"yes"}


def test_verify_fails_when_a_point_differs(demo, tmp_path):
    """Told that the substation meter is no infeed, verify must find Dmd and Sup the wrong way round."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(demo.config.read_text().replace('direction = "supply"', 'direction = "demand"'))
    (tmp_path / "secrets.toml").write_bytes((demo.state / "secrets.toml").read_bytes())
    (tmp_path / "secrets.toml").chmod(0o600)
    done = flexmap("verify", wrong, "--as", "management")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "energy-active-import" in done.stdout


def test_read_shows_value_quality_and_time(demo):
    (row,) = json.loads(read(demo, "mms", "/FLEXGWSM0001/MMXN1.Vol", "--json"))
    assert 200 < row["value"] < 260
    assert (row["unit"], row["quality"]) == ("V", "good")
    (row,) = json.loads(read(demo, "dlms", "/1001/1-0:32.7.0", "--as", "reader-lls", "--json"))
    assert 200 < row["value"] < 260
    assert (row["unit"], row["quality"], row["class"]) == ("V", "good", 4)
    assert row["time"].endswith("Z")


def test_explain_follows_a_value_from_the_record_to_both_faces(demo):
    done = flexmap("explain", "FLEXGWSM0001/MMXN1.Vol", "--live", "--config", demo.config, "--json")
    assert done.returncode == 0, done.stderr
    steps = {row["stage"]: row["what"] for row in json.loads(done.stdout)}
    assert steps["frame"].startswith("measured[1]: octets 63 to 66 of metro_data_store_t")
    assert steps["agree"] == "yes"
    cosem = re.fullmatch(r"([\d.]+); octets 12 (\w\w) (\w\w)", steps["now on DLMS"])  # long-unsigned
    assert int(cosem[2] + cosem[3], 16) == round(float(cosem[1]) * 10)
    assert re.search(r"MMXN1\.Vol: [\d.]+, good, t .*Z; octets 87 05 08 ", steps["now on MMS"])  # floating-point


def test_read_lists_what_is_there(demo):
    assert "SUB1" in read(demo, "mms", "")
    assert "MMXN1.Watt" in read(demo, "mms", "/FLEXGWSM0001")
    assert "FMX0000000001000" in read(demo, "dlms", "", "--as", "reader")
    objects = read(demo, "dlms", "/1000", "--as", "management")
    assert "1-0:99.1.0.255" in objects
    assert "1-0:128.7.0.255" in objects
    several = read(demo, "dlms", "/1001/1-0:1.8.0", "1002/1-0:1.8.0", "--as", "reader")
    assert several.count("1-0:1.8.0.255") == 2


def test_the_public_client_sees_clock_identity_and_name_only(demo):
    rows = json.loads(read(demo, "dlms", "/1001", "--json"))
    assert [row["obis"] for row in rows] == [
        "0-0:40.0.0.255",
        "0-0:1.0.0.255",
        "0-0:96.1.0.255",
        "0-0:42.0.0.255",
        "0-0:0.2.0.255",
    ]
    done = flexmap("read", f"dlms://127.0.0.1:{demo.dlms}/1001/1-0:1.8.0")
    assert done.returncode == 1
    assert "not in the object list that this client sees" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("read", "http://127.0.0.1"), "is not a target"),
        (("read", "dlms://127.0.0.1:1/1"), "cannot reach"),
        (("read", "mms://127.0.0.1:1/A"), "127.0.0.1:1"),
        (("serve", "/nowhere/x.toml"), "cannot read"),
        (("map", "five-phase"), "is not a meter type"),
        (("demo", "--meters", "500", "--state"), "meters"),
        (("demo", "--mms", "here", "--state"), "--mms: 'here' is not HOST:PORT"),
        (("read", "dlms://127.0.0.1:1", "--as", "reader", "--config", "/nowhere/x.toml"), "cannot read"),
        (("scl", "icd", "-o", "/nowhere"), "/nowhere/single-phase.icd: cannot write"),
        (("demo", "--write-config", "/nowhere/x.toml"), "/nowhere/x.secrets.toml: cannot write"),
    ],
)
def test_mistakes_end_with_one_clear_line(tmp_path, arguments, what):
    if arguments[-1] == "--state":
        arguments = (*arguments, tmp_path / "state")
    done = flexmap(*arguments)
    assert done.returncode in (1, 2)
    assert done.stderr.count("error: ") == 1
    assert what in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("face", ["mms", "dlms", "web"])
def test_a_port_in_use_is_named(demo, tmp_path, face):
    ports = dict(zip(("mms", "dlms", "web"), free_ports(3), strict=True)) | {face: getattr(demo, face)}
    other = Gateway(tmp_path, ports=list(ports.values()))
    try:
        assert other.process.wait(20) == 2
    finally:
        other.close()
    assert f"error: [{face}] listen: cannot listen on 127.0.0.1:{ports[face]}" in other.text()
    assert "Traceback" not in other.text()


def test_a_second_demo_on_the_same_state_leaves_the_first_ones_files(demo, tmp_path):
    before = demo.config.read_bytes()
    done = flexmap("demo", "--state", demo.state, "--meters", "1")
    assert done.returncode == 2
    assert "another process uses this store" in done.stderr
    assert demo.config.read_bytes() == before


def test_a_server_that_stays_silent_is_given_up(tmp_path):
    """Neither client waits for ever for a peer that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        port = silent.getsockname()[1]
        runs = [pool.submit(flexmap, "read", f"{name}://127.0.0.1:{port}", timeout=30) for name in ("mms", "dlms")]
        for run in runs:
            done = run.result()
            assert done.returncode == 1
            assert done.stderr.startswith("error: no ")
            assert f"127.0.0.1:{port}" in done.stderr


def test_a_target_that_is_no_server_address_is_named(demo):
    done = flexmap("read", f"dlms://127.0.0.1:{demo.dlms}/99999")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'99999' is not SAP/OBIS" in done.stderr
    done = flexmap("read", f"dlms://127.0.0.1:{demo.dlms}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--as" in done.stderr
    done = flexmap("read", f"dlms://127.0.0.1:{demo.dlms}/999")
    assert "called ap title not recognized" in done.stderr


def test_metrics_and_health(demo):
    health = demo.health()
    assert health["mms"]["serving"]
    families = {family.name: family for family in text_string_to_metric_families(demo.metrics())}
    assert families["flexmap_samples_accepted"].type == "counter"
    assert families["flexmap_samples_accepted"].samples[0].value > 0
    parts = {sample.labels["part"]: sample.value for sample in families["flexmap_healthy"].samples}
    assert parts == {"dlms": 1, "mms": 1, "store": 1}
    documented = set(re.findall(r"`(flexmap_\w+?)(?:_total)?`", (ROOT / "docs" / "operation.md").read_text()))
    assert documented == {name for name in families if not name.endswith("_created")}


def test_write_config_gives_a_site_that_serves(tmp_path):
    path = tmp_path / "site.toml"
    ports = free_ports(3)
    flags = [f"--{name}=127.0.0.1:{port}" for name, port in zip(("mms", "dlms", "web"), ports, strict=True)]
    done = flexmap("demo", "--source", "model", "--meters", "1", *flags, "--write-config", path)
    assert done.returncode == 0, done.stderr
    assert flexmap("demo", "--write-config", path).returncode == 2
    secrets = tmp_path / "site.secrets.toml"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert "000102030405060708090A0B0C0D0E0F" not in secrets.read_text()
    serving = Gateway(tmp_path, "serve", path, command="serve", ports=ports)
    serving.config = path
    try:
        while flexmap("verify", path).returncode != 0:
            assert serving.process.poll() is None, serving.text()
        assert serving.stop() == 0
    finally:
        serving.close()


def test_ctrl_c_during_the_start_stops_cleanly(tmp_path):
    """At any time from when the log begins until it serves; Python's own start is not ours to guard."""
    for number, delay in enumerate((0, 0.05, 0.1, 0.15, 0.2)):
        state = tmp_path / str(number)
        state.mkdir()
        starting = Gateway(state, "--log-level", "debug", meters=20)
        try:
            while not (state / "flexmap.sqlite").exists():
                assert starting.process.poll() is None, starting.text()
                time.sleep(0.002)
            time.sleep(delay)
            assert starting.stop() == 0, starting.text()
            assert "Traceback" not in starting.text()
        finally:
            starting.close()


def test_ctrl_c_stops_cleanly(tmp_path):
    with gateway(tmp_path, meters=1) as running:
        worker = running.worker()
        assert running.stop() == 0
        assert "Traceback" not in running.text()
        assert not Path(f"/proc/{worker}").exists()
