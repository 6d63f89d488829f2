"""The MMS engines: what clients read; how the libiec61850 worker lives through crashes, hangs, a lost core."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mms_site
import pytest
from mms_harness import Core, Rust, RustError, core, until
from mms_site import T0, sample

from flexmap.model import Meter, quality
from flexmap.model.quality import from_bits

T0_UTC = "684ee1801f7ced"
"""T0 as a UtcTime: seconds, then the fraction in 24 bits."""


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def running(request, tmp_path_factory):
    """Both engines: they answer alike."""
    with core(tmp_path_factory.mktemp("core"), engine=request.param) as engine:
        engine.update(sample("SM_1"), sample("SM_2"))
        with Rust(engine.port) as client:
            until(lambda: client.read(ref="FMTESTM2/MMTR1.SupWh", fc="ST")[0] != 0)
            yield engine, client


def test_an_independent_client_browses_the_model(running):
    _, client = running
    assert client.directory() == ["FMTESTGW", "FMTESTM1", "FMTESTM2"]
    assert set(client.nodes(device="FMTESTM1")) >= {"LLN0", "LPHD1", "MMTR1", "MMXU1", "XSWI1", "CSWI1"}


@pytest.mark.parametrize(
    ("ref", "fc", "value"),
    [
        ("FMTESTM1/MMTR1.DmdWh", "ST", 2**53 + 1),
        ("FMTESTM1/MMTR1.SupWh", "ST", 22),
        ("FMTESTM2/MMTR1.SupWh", "ST", 2**53 + 1),
        ("FMTESTM2/MMTR1.DmdWh", "ST", 22),
        ("FMTESTM1/MMXN1.Watt", "MX", [1500.5]),
        ("FMTESTM1/MMXU1.PhV.phsA", "MX", [[230.25]]),
        ("FMTESTM1/GGIO1.Ind1", "ST", False),
    ],
    ids=str,
)
def test_values_with_quality_and_the_meters_time(running, ref, fc, value):
    _, client = running
    assert client.read(ref=ref, fc=fc) == [value, "0000", T0_UTC + "0a"]


@pytest.mark.parametrize("ln", ["XSWI1", "CSWI1"])
def test_the_switch_controller_mirrors_the_switch(running, ln):
    _, client = running
    _origin, _number, position, q, t, _selected = client.read(ref=f"FMTESTM1/{ln}.Pos", fc="ST")
    assert (position, q, t) == ("80", "0000", T0_UTC + "0a")


def test_initial_values_of_the_scl_document_are_served(running):
    _, client = running
    assert client.read(ref="FMTESTM2/LPHD1.PhyNam", fc="DC") == ["flexmap", "SM_0002"]
    assert client.read(ref="FMTESTM1/LLN0.NamPlt", fc="DC")[3] == "7"
    assert client.read(ref="FMTESTM1/LLN0.NamPlt", fc="EX") == ["IEC 61850-7-4:2007B"]
    assert client.read(ref="FMTESTM1/LPHD1.Proxy", fc="ST")[0] is True
    assert client.read(ref="FMTESTM1/LLN0.Mod", fc="ST")[0] == 1
    assert client.read(ref="FMTESTM1/MMXN1.Watt", fc="CF") == [[38, 0]]
    assert client.read(ref="FMTESTM1/CSWI1.Pos", fc="CF")[:2] == [4, 5000]


def test_the_gateways_channel_is_alive_while_samples_arrive(running):
    _, client = running
    assert client.read(ref="FMTESTGW/LCCH1.ChLiv", fc="ST")[0] is True


def test_the_channel_is_dead_after_a_silent_minute_and_when_only_quality_changes():
    script = Path(__file__).parent / "mms_channel.py"
    said = subprocess.run([sys.executable, script], capture_output=True, check=True, text=True, timeout=30).stdout
    assert said.splitlines() == [
        "never-read False 0",
        "heard True 5000",
        "quiet True 5000",
        "silent False 66000",
        "again True 67000",
    ]


def test_a_site_wide_data_set_spans_logical_devices(running):
    _, client = running
    members, values = client.dataset(ref="FMTESTGW/LLN0.Site")
    assert len(members) == len(values) == 12
    assert members[6:8] == [["FMTESTM2/MMTR1.DmdWh", "ST"], ["FMTESTM2/MMXN1.Watt", "MX"]]
    assert [value[0] for value in values[6:8]] == [22, [1500.5]]


@pytest.mark.parametrize(
    ("ref", "fc", "value"),
    [("FMTESTM1/MMTR1.DmdWh.pulsQty", "CF", 5.0), ("FMTESTM1/LLN0.NamPlt.d", "DC", "mine")],
)
def test_clients_cannot_write_configuration(running, ref, fc, value):
    _, client = running
    with pytest.raises(RustError, match="ObjectAccessDenied"):
        client.write(ref=ref, fc=fc, value=value)


def test_an_invalid_or_missing_value_keeps_the_last_one_and_says_so(running):
    engine, client = running
    bad = (quality.INVALID | quality.FAILURE, 0, quality.QUESTIONABLE | quality.OLD_DATA, quality.INVALID, 0, 0, 0)
    engine.update(
        sample("SM_1"),
        sample(
            "SM_1", time=T0 + 1000, values=(None, 23, 7.5, 99.0, None, True, False), quality=bad, clock_status=2
        ),
    )
    until(lambda: client.read(ref="FMTESTM1/MMTR1.SupWh", fc="ST")[0] == 23)
    doubtful = "684ee1811f7ced2a"
    energy, q, t = client.read(ref="FMTESTM1/MMTR1.DmdWh", fc="ST")
    assert (energy, from_bits(bytes.fromhex(q)), t) == (2**53 + 1, bad[0], doubtful)
    power, q, t = client.read(ref="FMTESTM1/MMXN1.Watt", fc="MX")
    assert (power, from_bits(bytes.fromhex(q)), t) == ([7.5], bad[2], doubtful)
    assert client.read(ref="FMTESTM1/MMXU1.PhV.phsA", fc="MX")[0] == [[230.25]]
    assert client.read(ref="FMTESTM1/XSWI1.Pos", fc="ST")[2] == "80"


def test_a_value_that_does_not_fit_its_type_is_an_overflow_not_another_number(running):
    engine, client = running
    engine.update(
        sample("SM_2", T0 + 1000, **{"energy-import": 5}),
        sample("SM_2", T0 + 2000, **{"energy-import": 2**63}),
    )
    until(lambda: client.read(ref="FMTESTM2/MMTR1.DmdWh", fc="ST")[2].startswith("684ee182"))
    energy, q, _t = client.read(ref="FMTESTM2/MMTR1.SupWh", fc="ST")
    assert (energy, from_bits(bytes.fromhex(q))) == (5, quality.INVALID | quality.OVERFLOW)


def test_a_meter_never_read_is_invalid_with_failure(tmp_path):
    with core(tmp_path) as engine, Rust(engine.port) as client:
        for ref, fc in (("MMTR1.DmdWh", "ST"), ("MMXN1.Watt", "MX"), ("GGIO1.Ind1", "ST")):
            _value, q, _t = client.read(ref=f"FMTESTM1/{ref}", fc=fc)
            assert from_bits(bytes.fromhex(q)) == quality.NEVER_READ
        assert client.read(ref="FMTESTGW/LCCH1.ChLiv", fc="ST")[0] is False


def test_five_clients_are_served_and_a_sixth_is_turned_away(tmp_path):
    with core(tmp_path) as engine:
        clients = [Rust(engine.port) for _ in range(5)]
        engine.wait(lambda status: status["clients"] == 5)
        with pytest.raises(RustError):
            Rust(engine.port).read(ref="FMTESTM1/LLN0.Mod", fc="ST")
        clients.pop().kill()
        engine.wait(lambda status: status["clients"] == 4)
        with Rust(engine.port) as again:
            assert again.read(ref="FMTESTM1/LLN0.Mod", fc="ST")[0] == 1
        for client in clients:
            client.kill()


def test_a_killed_worker_is_back_in_three_seconds_with_every_value(tmp_path):
    with core(tmp_path) as engine:
        engine.update(sample("SM_1"), sample("SM_2", power=-20.5))
        before = engine.wait(lambda status: status["samples"] == 2)
        killed = time.monotonic()
        os.kill(before["pid"], signal.SIGKILL)

        def serving_again():
            try:
                with Rust(engine.port) as client:
                    return client.read(ref="FMTESTM2/MMXN1.Watt", fc="MX")
            except RustError:
                return None

        value = until(serving_again)
        seconds = time.monotonic() - killed
        assert value == [[-20.5], "0000", T0_UTC + "0a"]
        assert seconds < 3
        with Rust(engine.port) as client:
            assert client.read(ref="FMTESTM1/MMTR1.DmdWh", fc="ST") == [2**53 + 1, "0000", T0_UTC + "0a"]
        after = engine.status()
        assert (after["restarts"], after["port"]) == (1, engine.port)
        assert after["pid"] != before["pid"]
        assert "signal 9" in after["error"]


def test_a_hung_worker_is_killed_and_replaced(tmp_path):
    with core(tmp_path, silence=1.5) as engine:
        engine.update(sample("SM_1"))
        pid = engine.wait(lambda status: status["samples"] == 1)["pid"]
        os.kill(pid, signal.SIGSTOP)
        after = engine.wait(lambda status: status["restarts"] == 1 and status["samples"] == 1)
        assert "no sign of life" in after["error"]
        with Rust(engine.port) as client:
            assert client.read(ref="FMTESTM1/MMTR1.DmdWh", fc="ST")[0] == 2**53 + 1


def test_the_worker_ends_when_the_core_is_killed(tmp_path):
    engine = Core(tmp_path)
    engine.hear("port")
    pid = engine.status()["pid"]
    engine.process.kill()
    engine.process.wait()
    until(lambda: not Path(f"/proc/{pid}/exe").exists())


def test_a_clean_stop_leaves_neither_process_nor_port(tmp_path):
    engine = Core(tmp_path)
    port = engine.hear("port")
    pid = engine.status()["pid"]
    engine.say(stop=True)
    assert engine.hear("stopped") is True
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    assert engine.process.wait(5) == 0


def test_samples_that_fit_no_meter_are_counted_and_harm_nothing(tmp_path):
    with core(tmp_path) as engine:
        engine.update(sample("nobody"), sample("SM_1", values=None), sample("SM_1"))
        status = engine.wait(lambda status: status["samples"] == 2)
        assert status["skipped"] == 1


def test_a_taken_port_is_a_clear_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = Core(tmp_path, port=taken.getsockname()[1])
        assert "in use" in engine.hear("failed")
        engine.close()


def test_a_document_without_the_meter_is_a_clear_error(tmp_path):
    site = mms_site.SITE
    extra = Meter(id="SM_3", type="mini", ld="M3", sap=19)
    engine = Core(tmp_path, site=type(site)(name="", ied=site.ied, meters=(*site.meters, extra), types=site.types))
    failed = engine.hear("failed")
    engine.close()
    assert "SM_3" in failed
    assert "flexmap scl export" in failed
