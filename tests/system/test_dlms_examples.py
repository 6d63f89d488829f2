"""The worked examples of the page "Connect your head-end" run as they stand there."""

import re
import subprocess
import sys
import time
from pathlib import Path

import cosem_client
import pytest
from gateway_harness import MANAGER_GAK, MANAGER_GUEK, Gateway, flexmap, free_ports

PAGE = (Path(__file__).parents[2] / "docs" / "connect-head-end.md").read_text()
EXAMPLES = dict(re.findall(r"## Worked example: ([\w-]+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """An HDLC port of a demo whose well-known keys are those of the page."""
    folder = tmp_path_factory.mktemp("demo")
    (hdlc,) = free_ports(1)
    first = Gateway(folder, meters=1)
    try:
        first.wait()
        first.stop()
        config = folder / "demo.toml"
        listener = f'\n[[dlms.listener]]\ntransport = "hdlc-tcp"\nlisten = "127.0.0.1:{hdlc}"\n'
        text = config.read_text().replace('name = "reader"\n', 'name = "reader"\nnotify = ["disconnect"]\n')
        config.write_text(text + listener)
        ports = (first.mms, first.dlms, first.web)
        second = Gateway(folder, "serve", config, command="serve", ports=ports)
        try:
            second.wait()
            second.wait_read()
            yield hdlc, f"dlms://127.0.0.1:{first.dlms}", config
        finally:
            second.close()
    finally:
        first.close()


@pytest.mark.parametrize("library", ["Gurux", "dlms-cosem"])
def test_example(library, port):
    hdlc, url, config = port
    script = EXAMPLES[library].replace("4060", str(hdlc))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    shown = int(re.search(r"(\d+) Wh", done.stdout)[1])
    read = flexmap("read", f"{url}/1001/1-0:1.8.0", "--as", "reader", "--config", config).stdout
    assert shown > 0
    assert f"{shown}"[:3] in read


def test_example_of_events(port):
    _, url, _ = port
    script = EXAMPLES["events"].replace("4059", url.rpartition(":")[2])
    listener = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert "listening\n" in iter(listener.stdout.readline, "")  # Gurux prints before that
        keys = (MANAGER_GUEK, MANAGER_GAK)
        where = {
            "server_sap": 1001,
            "client_sap": 1,
            "keys": keys,
            "title": b"COSEXMPL",
            "counter": int(time.time()),
        }
        with cosem_client.connect("127.0.0.1", int(url.rpartition(":")[2]), **where) as manager:
            manager.action(70, "0.0.96.3.10.255", 1)
            told, _ = listener.communicate(timeout=60)
            manager.action(70, "0.0.96.3.10.255", 2)
        assert 'InstanceId Value="0000600B02FF"' in told
        assert 'UInt8 Value="3E"' in told
        assert listener.returncode == 0
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()
