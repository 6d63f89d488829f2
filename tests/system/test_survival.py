"""What a kill -9 costs: of the MMS worker nothing on DLMS, of the core nothing that was stored."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from gateway_harness import Gateway, Poller, flexmap, gateway
from mms_harness import until

from flexmap.faces.dlms.client import Credentials, DlmsConnection
from flexmap.faces.mms_client import MmsClient
from flexmap.model import RemoteError


def mms_serves(running):
    try:
        with MmsClient.open("127.0.0.1", running.mms) as client:
            readings = client.read(["FLEXGWSM0001/MMXN1.Vol", "FLEXGWSUB1/MMXU1.TotW"])
        return all(reading.quality == 0 for reading in readings)
    except RemoteError:
        return False


def test_kill_of_the_mms_worker_is_healed_and_dlms_does_not_notice(tmp_path):
    with gateway(tmp_path) as running:
        poller = Poller(running.dlms)
        poller.start()
        until(lambda: len(poller.delays) > 100)
        worker = running.worker()
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: mms_serves(running), 10)
        back = time.monotonic() - killed
        poller.done.set()
        poller.join(5)
        assert poller.failure is None
        assert running.worker() != worker
        assert flexmap("verify", running.config).returncode == 0
        print(f"MMS back after {back:.2f} s; DLMS: {len(poller.delays)} reads, slowest {max(poller.delays):.3f} s")
        assert back < 3


def rows_of(running, name):
    with DlmsConnection("127.0.0.1", running.dlms, Credentials(18, 1, b"flexmap-demo")) as connection:
        return connection.get(1001, 7, name, 2)


EVENTS = bytes((0, 0, 99, 98, 2, 255))
PROFILE = bytes((1, 0, 99, 1, 0, 255))
ENERGY = bytes((1, 0, 1, 8, 0, 255))


def test_kill_of_the_core_keeps_profile_events_and_registers(tmp_path):
    first = Gateway(tmp_path, meters=1)
    try:
        first.wait()
        breaker = ["read", f"mms://127.0.0.1:{first.mms}/FLEXGWSM0001/XSWI1.OpCnt"]
        operate(first)
        time.sleep(3)  # one flush of the store
        with DlmsConnection("127.0.0.1", first.dlms, Credentials(18, 1, b"flexmap-demo")) as connection:
            energy = connection.get(1001, 4, ENERGY, 2)
        events = rows_of(first, EVENTS)
        profile = rows_of(first, PROFILE)
        worker = first.worker()
        assert events
        first.kill()
        until(lambda: not Path(f"/proc/{worker}").exists())
    finally:
        first.close()
    ports = (first.mms, first.dlms, first.web)
    second = Gateway(tmp_path, meters=1, ports=ports)
    try:
        until(lambda: second.text().count("Ctrl-C") == 2, 20)
        assert rows_of(second, EVENTS)[: len(events)] == events
        assert rows_of(second, PROFILE)[: len(profile)] == profile
        with DlmsConnection("127.0.0.1", second.dlms, Credentials(18, 1, b"flexmap-demo")) as connection:
            assert energy <= connection.get(1001, 4, ENERGY, 2) <= energy + 50
        assert "did not end cleanly" in second.text()
        assert flexmap(*breaker).returncode == 0
    finally:
        second.close()


def operate(running):
    """Open and close the breaker by class 70, as management."""
    from flexmap.cli.target import credentials  # noqa: PLC0415 - only this test needs it

    with DlmsConnection("127.0.0.1", running.dlms, credentials("management", running.config)) as connection:
        connection.act(1001, 70, bytes((0, 0, 96, 3, 10, 255)), 1)
        connection.act(1001, 70, bytes((0, 0, 96, 3, 10, 255)), 2)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_the_core_and_its_worker(tmp_path, signal_number):
    with gateway(tmp_path, meters=1) as running:
        worker = running.worker()
        running.process.send_signal(signal_number)
        assert running.process.wait(10) == 0
        assert not Path(f"/proc/{worker}").exists()


def test_no_process_holds_both_gpl_libraries(tmp_path):
    """libiec61850's shared object is in the worker alone, and gurux in none of flexmap's processes."""
    with gateway(tmp_path, meters=1) as running:
        core = Path(f"/proc/{running.process.pid}/maps").read_text()
        worker = Path(f"/proc/{running.worker()}/maps").read_text()
        assert not re.search(r"iec61850.*\.so", core)
        assert re.search(r"iec61850.*\.so", worker)
        assert "gurux" not in core + worker
