"""Covers of meters on the power line are opened while the head-end is down: it gets each alarm once, in order."""

import ast
import re
import subprocess
import sys
import time
import tomllib

import gurux_client
import pytest
from concentrator_harness import Process, Terminal
from gateway_harness import flexmap, free_ports, wait_read
from mms_harness import until
from test_demo_plc import manager_keys
from test_dlms_push import HeadEnd

REGISTER, FRAUD_LOG = "0.0.97.98.0.255", "0.0.99.98.1.255"
DESCRIPTOR, OTHER_DESCRIPTOR = "0.0.97.98.20.255", "0.0.97.98.21.255"
FILTERS = {"0.0.97.98.10.255": 1 << 13, "0.0.97.98.11.255": 0}
FRAUD, COVER_OPENED = 1 << 13, 40
ALARM_SETUP = bytes((0, 4, 25, 9, 0, 255))
READER_SAP = 18
SECONDS = 60
QUIET = 8
"""Seconds in which a copy would have come: a push counts as delivered after one, is repeated after another."""


class Site:
    """Two meters and a substation meter on a power line; alarms go to a port of this host."""

    def __init__(self, folder, port, processes):
        self.folder = folder
        self.config = folder / "site.toml"
        self.ports = free_ports(3)
        flags = [f"--{name}=127.0.0.1:{own}" for name, own in zip(("mms", "dlms", "web"), self.ports, strict=True)]
        assert flexmap("demo", "--meters", 2, *flags, "--write-config", self.config).returncode == 0
        push = (
            f'[dlms.push]\ndestination = "127.0.0.1:{port}"\nclient = "reader-lls"\ninterval = 0\n'
            "repetition_delay = 1\nretries = 200\n\n"
        )
        text = self.config.read_text()
        self.config.write_text(text.replace("[[dlms.client]]", push + "[[dlms.client]]", 1))
        secrets = folder / "site.secrets.toml"
        self.keys = manager_keys(secrets)
        self.password = tomllib.loads(secrets.read_text())["reader-lls"]["password"].encode()
        ends = [f"--port=pty:{folder}/{name}" for name in ("gateway-shell", "shell")]
        line = Process(
            folder / "line.log", "concentrator", *ends, "--meters", 2, "--settle", 300, "--state", folder / "pan"
        )
        processes.append(line)
        line.wait_for("shell: ", SECONDS)
        self.core = Process(folder / "core.log", "serve", self.config, "--log-level", "info")
        processes.append(self.core)
        self.core.wait_for("connected to", SECONDS)
        wait_read(self.config)

    def manager(self, number):
        return gurux_client.connect(
            "127.0.0.1", port=self.ports[1], client_sap=1, server_sap=1000 + number, keys=self.keys,
            title=b"GRXTAMP%d" % number, counter=int(time.time()),
        )  # fmt: skip

    def reader(self, number):
        return gurux_client.connect(
            "127.0.0.1", self.ports[1], client_sap=READER_SAP, server_sap=1000 + number, secret=self.password,
            more=["DATA_NOTIFICATION"],
        )  # fmt: skip

    def cover(self, number, is_open):
        """Open or close the cover of a meter, as somebody at the concentrator's shell does for a test."""
        terminal = Terminal(self.folder / "shell")
        try:
            terminal.type(f"LINE COVER SM000{number} {int(is_open)}\r", "= OK")
        finally:
            terminal.close()


def by_cosem(apdu):
    """A data notification as dlms-cosem decodes it, its body too: invoke id and values."""
    code = """
import sys
from dlms_cosem.protocol.xdlms.data_notification import DataNotification
from dlms_cosem.utils import parse_as_dlms_data
notification = DataNotification.from_bytes(bytes.fromhex(sys.argv[1]))
values = [bytes(each) if isinstance(each, bytearray) else each for each in parse_as_dlms_data(notification.body)]
print((notification.long_invoke_id_and_priority.long_invoke_id, values))
"""
    command = [sys.executable, "-c", code, apdu.hex()]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return ast.literal_eval(run.stdout)


def tampered(site, client, number, times):
    """Open a cover; return when the meter has logged it ``times`` times and the alarm stands in its descriptor."""
    site.cover(number, is_open=True)

    def logged():
        rows = client.rows_by_entry(FRAUD_LOG, 1, 1000) or []
        return [row[1] for row in rows].count(COVER_OPENED) == times

    until(logged, SECONDS)
    until(lambda: client.get(1, DESCRIPTOR, 2) & FRAUD, SECONDS)


@pytest.fixture
def head_end():
    there = HeadEnd()
    yield there
    there.close()


def test_tampering_while_the_head_end_is_down_is_told_once_and_in_order(tmp_path, processes, head_end):
    site = Site(tmp_path, head_end.port, processes)
    with site.manager(1) as first, site.manager(2) as second:
        for client in (first, second):  # the head-end wants to be told of fraud alone
            for name, word in FILTERS.items():
                client.set_number(1, name, 2, word, 32)
            for name in (DESCRIPTOR, OTHER_DESCRIPTOR):
                client.set_number(1, name, 2, 0, 32)
        tampered(site, second, 2, 1)
        tampered(site, first, 1, 1)
        site.cover(1, is_open=False)
        until(lambda: len(first.rows_by_entry(FRAUD_LOG, 1, 1000)) == 2, SECONDS)
        first.set_number(1, REGISTER, 2, 0, 32)
        first.set_number(1, DESCRIPTOR, 2, 0, 32)
        tampered(site, first, 1, 2)

        def tried():
            return len(
                re.findall(
                    rf"push to 127\.0\.0\.1:{head_end.port}: .*refused.*; again in", site.core.log.read_text()
                )
            )

        before = tried()
        until(lambda: tried() > before > 0, SECONDS)
        head_end.listen()
        frames = []
        while len(frames) < 3:
            frame = head_end.frame()
            assert frame[:2] + frame[4:6] == bytes((0, 1, 0, READER_SAP))
            if by_cosem(frame[8:])[1][3] & FRAUD:  # what came before the filters has no place here
                frames.append(frame)
        head_end.connection.settimeout(QUIET)
        with pytest.raises(TimeoutError):
            head_end.connection.recv(1)

        told = [int.from_bytes(frame[2:4], "big") for frame in frames]
        assert told == [1002, 1001, 1001]
        decoded = [by_cosem(frame[8:]) for frame in frames]
        numbers = [number for number, _ in decoded]
        assert numbers == sorted(set(numbers))
        names = {1001: bytes(first.get(1, "0.0.42.0.0.255", 2)), 1002: bytes(second.get(1, "0.0.42.0.0.255", 2))}
        for sap, frame, (_, values) in zip(told, frames, decoded, strict=True):
            assert values == [ALARM_SETUP, names[sap], values[2], FRAUD, 0]
            with site.reader(sap - 1000) as gurux:
                assert gurux.notified(frame) == values
                gurux.close()
        earlier, later = (values[2] for _, values in decoded[1:])
        assert earlier[:4] + earlier[5:8] < later[:4] + later[5:8]
        first.close()
        second.close()
