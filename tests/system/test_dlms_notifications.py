"""Events told at once: a meter's events reach clients with an open association, and Gurux decodes them."""

import contextlib
import re
import subprocess
import time
import tomllib
import xml.etree.ElementTree as ET

import cosem_client
import gurux_client
import pytest
from gateway_harness import FLEXMAP, Gateway, free_ports
from remote import Remote

BREAKER, DISCONNECT_CODE = "0.0.96.3.10.255", "0.0.96.11.2.255"
SAP = 1001
OPEN, CLOSE = 1, 2
LN, SN = ("EVENT_NOTIFICATION",), ("INFORMATION_REPORT",)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A gateway whose readers are told of what breakers do; its port, and each client's secret or keys."""
    folder = tmp_path_factory.mktemp("events")
    ports = free_ports(4)
    config = folder / "site.toml"
    subprocess.run([FLEXMAP, "demo", "--meters", "3", "--source", "model", "--write-config", config], check=True)
    text = config.read_text()
    for section, port in zip(("mms", "dlms", "web"), ports, strict=False):
        text = re.sub(
            rf'(\[{section}\].*?listen = ")[^"]*', rf"\g<1>127.0.0.1:{port}", text, count=1, flags=re.DOTALL
        )
    text = re.sub(r'(name = "reader[-a-z]*"\n)', r'\1notify = ["disconnect", "fraud"]\n', text)
    listener = f'[[dlms.listener]]\ntransport = "hdlc-tcp"\nlisten = "127.0.0.1:{ports[3]}"\n\n[store]'
    config.write_text(text.replace("[store]", listener, 1))
    secrets = tomllib.loads((folder / "site.secrets.toml").read_text())
    gateway = Gateway(folder, "serve", config, command="serve", ports=ports[:3])
    try:
        end = time.monotonic() + 60
        healthy = False
        while not healthy:
            assert time.monotonic() < end, gateway.text()
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                healthy = gateway.health()["healthy"]
        gateway.hdlc = ports[3]
        gateway.secrets = secrets
        yield gateway
    finally:
        gateway.close()


def keys(site, name):
    secret = site.secrets[name]
    return bytes.fromhex(secret["encryption_key"]), bytes.fromhex(secret["authentication_key"])


def manager(site, title):
    return cosem_client.connect(
        "127.0.0.1", site.dlms, server_sap=SAP, client_sap=1, keys=keys(site, "management"), title=title
    )


def reader(site, title, **settings):
    return gurux_client.connect(
        "127.0.0.1", site.dlms, server_sap=SAP, client_sap=2, keys=keys(site, "reader"), title=title, **settings
    )


def by_password(site, **settings):
    password = site.secrets["reader-lls"]["password"].encode()
    return gurux_client.connect("127.0.0.1", site.dlms, server_sap=SAP, client_sap=18, secret=password, **settings)


def values(text):
    """Name of a notification, and the values of its elements by name, in their order."""
    root = ET.fromstring(text)
    leaves = [(each.tag, each.get("Value")) for each in root.iter() if each.get("Value") is not None]
    return root.tag, leaves


def is_event(text, code):
    name, leaves = values(text)
    (_, time), *rest = leaves
    assert (name, len(bytes.fromhex(time))) == ("EventNotificationRequest", 12)
    expected = [
        ("ClassId", "0001"),
        ("InstanceId", "0000600B02FF"),
        ("AttributeId", "02"),
        ("UInt8", f"{code:02X}"),
    ]
    return rest == expected


def is_report(text, code):
    name, leaves = values(text)
    clock, changed, (_, time), value = leaves
    assert (name, len(bytes.fromhex(time))) == ("InformationReportRequest", 12)
    return (clock[0], changed[0], value) == ("VariableName", "VariableName", ("UInt8", f"{code:02X}"))


def test_ciphered_plain_and_by_short_names(site):
    with (
        manager(site, b"COSEVT01") as switch,
        reader(site, b"GRXEVT01", more=LN) as ciphered,
        by_password(site, more=LN) as plain,
        by_password(site, more=SN, short_names=True) as short,
        reader(site, b"GRXEVT02", less=LN) as silent,
    ):
        assert "EVENT_NOTIFICATION" in ciphered.conformance_names()
        assert "INFORMATION_REPORT" in short.conformance_names()
        assert "EVENT_NOTIFICATION" not in silent.conformance_names()
        for method, code in ((OPEN, 62), (CLOSE, 63)):
            switch.action(70, BREAKER, method)
            assert is_event(ciphered.told(), code)
            assert is_event(plain.told(), code)
            assert is_report(short.told(), code)
        assert ciphered.get(1, DISCONNECT_CODE, 2) == 63
        assert silent.get(1, DISCONNECT_CODE, 2) == 63  # an answer, and nothing before it
        for client in (ciphered, plain, short, silent):
            client.close()
    assert float(re.search(r"^flexmap_dlms_notifications_total (\S+)", site.metrics(), re.MULTILINE)[1]) >= 6


@pytest.mark.parametrize("how", ["poll", "trigger"])
def test_on_hdlc_when_the_client_polls(site, how):
    password = site.secrets["reader-lls"]["password"].encode()
    with (
        manager(site, b"COSEVT02" if how == "poll" else b"COSEVT03") as switch,
        Remote(
            "gurux_hdlc_session.py", site.hdlc, client_sap=18, server_sap=SAP, secret=password, more=LN
        ) as line,
    ):
        switch.action(70, BREAKER, OPEN)
        assert line.get(1, DISCONNECT_CODE, 2) == 62  # the answer comes alone
        assert is_event(line.fetch_notification(how), 62)
        switch.action(70, BREAKER, CLOSE)
        if how == "trigger":  # after a poll of its own Gurux's client has lost count
            assert line.get(1, DISCONNECT_CODE, 2) == 63
            line.close()
