"""The page's worked example of firmware, run as it stands there; the new version stands on both faces."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gurux_client
from gateway_harness import MANAGER_GAK, MANAGER_GUEK, gateway
from mms_harness import until

from flexmap.faces.mms_client import MmsClient
from flexmap.model import RemoteError

PAGE = (Path(__file__).parents[2] / "docs" / "connect-head-end.md").read_text()
(EXAMPLE,) = re.findall(r"## Worked example: firmware\n.*?```python\n(.*?)```", PAGE, re.DOTALL)


def on_mms(port):
    try:
        with MmsClient.open("127.0.0.1", port) as client:
            (reading,) = client.read(["FLEXGWSM0001/LPHD1.PhyNam.swRev"])
            return reading.value
    except RemoteError as error:
        return error


def on_dlms(port, title):
    keys = (MANAGER_GUEK, MANAGER_GAK)
    settings = {"client_sap": 1, "server_sap": 1001, "keys": keys, "title": title, "counter": int(time.time())}
    with gurux_client.connect("127.0.0.1", port, **settings) as meter:
        return bytes(meter.get(1, "0.0.0.2.0.255", 2)).decode()


def test_the_example_and_the_new_version_on_both_faces(tmp_path):
    (tmp_path / "plc-2.bin").write_bytes(random.Random(11).randbytes(2500))
    with gateway(tmp_path, meters=1, source="concentrator") as demo:
        demo.wait_read(120)
        before = on_dlms(demo.dlms, b"IMG00001")
        assert on_mms(demo.mms) == before
        script = EXAMPLE.replace("4059", str(demo.dlms))
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )
        said = [line for line in done.stdout.splitlines() if not line.endswith(" is applied.")]  # Gurux says so
        assert said == ["the meter has it", "it runs"], done.stderr
        after = f"{before}+plc.2"
        assert on_dlms(demo.dlms, b"IMG00002") == after
        until(lambda: on_mms(demo.mms) == after, 10)
        os.kill(demo.worker(), signal.SIGKILL)
        until(lambda: on_mms(demo.mms) == after, 30)
