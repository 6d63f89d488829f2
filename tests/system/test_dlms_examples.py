"""The worked examples of the page "Connect your head-end" run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_harness import Gateway, flexmap, free_ports

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
        config.write_text(config.read_text() + listener)
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
