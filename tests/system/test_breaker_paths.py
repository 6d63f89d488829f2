"""The breaker is opened by a head-end, by SCADA, by the limiter; alarms reach a head-end that was down, once."""

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gurux_client
import pytest
from gateway_harness import FLEXMAP, Gateway, free_ports
from mms_harness import until
from remote import RemoteFailure
from test_dlms_push import HeadEnd, decoded_by_cosem

from flexmap.dlms import axdr
from flexmap.faces.mms_client import MmsClient
from flexmap.mapping import cdc
from flexmap.model import RemoteError

CLIENTS = Path(__file__).parents[1] / "clients"
BREAKER, LOG, LIMITER = "0.0.96.3.10.255", "0.0.99.98.2.255", "0.0.17.0.0.255"
SCRIPTS, DESCRIPTOR, FILTER = "0.0.10.0.106.255", "0.0.97.98.21.255", "0.0.97.98.11.255"
LOCALLY_DISCONNECTED = 1 << 24
REMOTE_OFF, REMOTE_ON, LOCAL_OFF, EXCEEDED, FAILURE = 62, 63, 64, 65, 68
SECONDS = 40


class Running:
    """A site whose alarms go to a head-end, and the keys of its clients."""

    def __init__(self, folder, port):
        self.folder = folder
        self.ports = free_ports(3)
        self.config = folder / "site.toml"
        subprocess.run(
            [FLEXMAP, "demo", "--meters", "2", "--source", "model", "--write-config", self.config], check=True
        )
        text = self.config.read_text()
        for section, own in zip(("mms", "dlms", "web"), self.ports, strict=True):
            text = re.sub(
                rf'(\[{section}\].*?listen = ")[^"]*', rf"\g<1>127.0.0.1:{own}", text, count=1, flags=re.DOTALL
            )
        push = (
            f'[dlms.push]\ndestination = "127.0.0.1:{port}"\nclient = "reader-lls"\ninterval = 0\n'
            "repetition_delay = 1\n\n"
        )
        self.config.write_text(text.replace("[[dlms.client]]", push + "[[dlms.client]]", 1))
        site = tomllib.loads(text)
        self.meter = next(meter for meter in site["meter"] if meter["sap"] == 1001)
        secrets = next(path for path in folder.glob("*.toml") if path != self.config)
        self.keys = tomllib.loads(secrets.read_text())
        self.counter = 0
        self.begin()

    def begin(self):
        self.gateway = Gateway(self.folder, "serve", self.config, command="serve", ports=self.ports)
        until(self.serves, SECONDS)

    def serves(self):
        try:
            return self.gateway.health()["healthy"] and self.position() is not None
        except (OSError, RemoteError):
            return False

    def client(self, sap, name):
        self.counter = max(self.counter + 1000, int(time.time()))
        keys = tuple(bytes.fromhex(self.keys[name][each]) for each in ("encryption_key", "authentication_key"))
        title = f"GRX{sap:05d}".encode()
        settings = {"server_sap": 1001, "client_sap": sap, "keys": keys, "title": title, "counter": self.counter}
        return gurux_client.connect("127.0.0.1", self.ports[1], **settings)

    def position(self):
        with MmsClient.open("127.0.0.1", self.ports[0]) as client:
            return client.read([f"FLEXGW{self.meter['ld']}/XSWI1.Pos"])[0].value

    def scada(self, close):
        program = [sys.executable, str(CLIENTS / "libiec_control.py"), "127.0.0.1", str(self.ports[0])]
        program += [f"FLEXGW{self.meter['ld']}/CSWI1.Pos", str(close).lower()]
        return json.loads(subprocess.run(program, capture_output=True, timeout=60, check=True).stdout)


@pytest.fixture
def site(tmp_path):
    head_end = HeadEnd()
    running = Running(tmp_path, head_end.port)
    running.head_end = head_end
    yield running
    running.gateway.close()
    head_end.close()


def rows(client):
    return [(row[1], bytes(row[2]).decode()) for row in client.rows_by_entry(LOG, 1, 1000)]


def opened_and_named(site, client, code, name):
    until(lambda: client.get(70, BREAKER, 2) is False, SECONDS)
    until(lambda: site.position() == cdc.DPC_OFF, SECONDS)
    until(lambda: any(each == code and name in text for each, text in rows(client)), SECONDS)


def test_head_end_and_scada_agree_and_the_log_names_them(site):
    head = site.client(1, "management")
    head.action(70, BREAKER, 1)
    opened_and_named(site, head, REMOTE_OFF, "by DLMS client management (1)")
    head.action(70, BREAKER, 2)
    until(lambda: site.position() == cdc.DPC_ON, SECONDS)

    outcome = site.scada(False)
    assert (outcome["select"], outcome["operate"], outcome["termination"]) == (True, True, 0)
    opened_and_named(site, head, REMOTE_OFF, "by mms 127.0.0.1")

    head.set_enum(70, BREAKER, 4, 3)  # reconnection wants a hand at the meter
    until(lambda: head.get(70, BREAKER, 4) == 3, SECONDS)
    head.action(70, BREAKER, 2)
    until(lambda: head.get(70, BREAKER, 3) == 2, SECONDS)
    with pytest.raises(RemoteFailure, match="error 250"):  # other-reason
        head.action(70, BREAKER, 2)
    outcome = site.scada(True)
    assert outcome["termination"] != 0
    until(lambda: any(code == FAILURE and "mms" in text and "push button" in text for code, text in rows(head)), 9)
    head.set_enum(70, BREAKER, 4, 4)
    until(lambda: head.get(70, BREAKER, 4) == 4, SECONDS)

    head.set_enum(70, BREAKER, 4, 0)  # never to be opened
    until(lambda: head.get(70, BREAKER, 4) == 0, SECONDS)
    with pytest.raises(RemoteFailure, match=r"error 3$"):  # read-write-denied
        head.action(70, BREAKER, 1)
    with pytest.raises(RemoteFailure, match=r"error 3$"):
        head.script(SCRIPTS, 1)
    assert head.get(70, BREAKER, 2) is True
    until(
        lambda: any(code == FAILURE and "management" in text and "mode 0" in text for code, text in rows(head)), 9
    )
    head.close()


def test_the_limiter_opens_and_its_alarm_is_delivered_once_over_a_kill(site):
    head = site.client(1, "management")
    reader = site.client(2, "reader")
    for refused in (
        lambda: reader.set_number(71, LIMITER, 4, 1, 32),
        lambda: reader.set_enum(70, BREAKER, 4, 0),
        lambda: reader.set_number(1, FILTER, 2, 1, 32),
    ):
        with pytest.raises(RemoteFailure):
            refused()
    with pytest.raises(RemoteFailure):
        head.set_number(1, DESCRIPTOR, 2, 1 << 5, 32)  # bits can be cleared alone
    head.set_number(71, LIMITER, 6, 2, 32)
    head.set_limiter(LIMITER, SCRIPTS, 1, 0)
    assert head.get(1, DESCRIPTOR, 2) & LOCALLY_DISCONNECTED == 0
    head.set_number(71, LIMITER, 4, 0, 32)
    opened_and_named(site, head, LOCAL_OFF, "by limiter 0-0:17.0.0")
    assert EXCEEDED in [code for code, _ in rows(head)]
    assert head.get(71, LIMITER, 4) == head.get(71, LIMITER, 3) == 0
    until(lambda: head.get(1, DESCRIPTOR, 2) & LOCALLY_DISCONNECTED, SECONDS)
    head.close()
    reader.close()

    site.gateway.kill()
    site.begin()
    head = site.client(1, "management")
    assert head.get(71, LIMITER, 6) == 2
    assert head.get(1, DESCRIPTOR, 2) & LOCALLY_DISCONNECTED
    site.head_end.listen()
    told = []
    for _ in range(8):
        frame = site.head_end.frame()
        body = axdr.decode(decoded_by_cosem(frame[8:]))
        assert body[0] == bytes((0, 4, 25, 9, 0, 255))
        told.append((int.from_bytes(frame[2:4], "big"), body[4] & LOCALLY_DISCONNECTED, frame[9:13]))
        if told[-1][1]:
            break
    assert [each for each in told if each[1]] == [(1001, LOCALLY_DISCONNECTED, told[-1][2])]
    assert len({number for _, _, number in told}) == len(told)
    head.close()
