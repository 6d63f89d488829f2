"""Four clients that others wrote read every point; a breaker moved on one face shows on the other."""

import struct
import time

import cosem_client
import gurux_client
import pytest
from gateway_harness import GAK, GUEK, MANAGER_GAK, MANAGER_GUEK, flexmap, gateway
from mms_harness import Rust, RustError, until
from remote import RemoteFailure

from flexmap.faces.mms_client import MmsClient
from flexmap.mapping import cdc
from flexmap.mapping.table import load_builtin
from flexmap.mapping.value import engineering
from flexmap.model import Direction, Kind, Part, obis, quality

METERS = {
    "FLEXGWSM0001": (1001, "single-phase", Direction.DEMAND),
    "FLEXGWSUB1": (1000, "three-phase", Direction.SUPPLY),
}
POINTS = [
    (device, point) for device, (_, meter_type, _) in METERS.items() for point in load_builtin()[meter_type].served
]
BREAKER = "0.0.96.3.10.255"
REMOTE_DISCONNECT, REMOTE_RECONNECT = 1, 2
DATA_CHANGE = 1
STVAL = 2
"""Place of stVal in a controllable DPC: behind origin and ctlNum."""


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def running(tmp_path_factory, request):
    with gateway(tmp_path_factory.mktemp("two"), meters=2, engine=request.param) as demo:
        yield demo


def dlms_settings(running, sap, client, keys, title):
    return {"port": running.dlms, "client_sap": client, "server_sap": sap, "keys": keys, "title": title,
            "counter": int(time.time())}  # fmt: skip


@pytest.fixture(scope="module")
def clients(running):
    """Gurux and dlms-cosem per meter (HLS-GMAC, suite 0, authenticated and encrypted), Rust and libiec61850."""
    sessions = {}
    for device, (sap, _, _) in METERS.items():
        sessions[device] = tuple(
            client.connect(
                "127.0.0.1", **dlms_settings(running, sap, 2, (GUEK, GAK), f"{vendor}{sap:05d}".encode())
            )
            for vendor, client in (("GRX", gurux_client), ("COS", cosem_client))
        )
    rust = connect_rust(running)
    with MmsClient.open("127.0.0.1", running.mms) as libiec:
        yield sessions, rust, libiec
    for pair in sessions.values():
        for session in pair:
            session.end()
    rust.kill()


def connect_rust(running):
    return until(lambda: _try_rust(running), 10)


def _try_rust(running):
    try:
        return Rust(running.mms)
    except RustError:
        return None


def dotted(code):
    return ".".join(str(octet) for octet in obis.parse(code))


def cosem(session, point):
    """Value and time of a point as a DLMS client sees them."""
    wanted = []
    for register in point.registers:
        attributes = (2, 5) if register.class_id == 4 else (register.attribute,)
        wanted += [(register.class_id, dotted(register.obis), attribute) for attribute in attributes]
    answers = session.get_list(wanted)
    if point.registers[0].class_id != 4:
        return answers[0], None
    parts = dict(zip((register.part for register in point.registers), answers[::2], strict=True))
    raw = parts[Part.NET] if Part.NET in parts else parts[Part.PLUS] - parts[Part.MINUS]
    return engineering(point, raw), answers[1]


def as_mms(point, value):
    if point.reference.cdc == "DPC":
        return cdc.DPC_ON if value else cdc.DPC_OFF
    if point.kind is Kind.INSTANTANEOUS:
        return struct.unpack("f", struct.pack("f", value))[0]
    return value


@pytest.mark.parametrize(("device", "point"), POINTS, ids=lambda item: getattr(item, "name", item))
def test_four_independent_clients_read_the_same(clients, device, point):
    sessions, rust, libiec = clients
    reference = point.reference_for(METERS[device][2])
    name = f"{device}/{reference.ln}.{reference.do}"
    place = cdc.place(reference)
    for _ in range(10):
        before = libiec.read([name])[0]
        gurux, cosem_own = (cosem(session, point) for session in sessions[device])
        by_rust = rust.read(ref=f"{name}.{place.attribute}", fc=place.fc)
        after = libiec.read([name])[0]
        if before.time == after.time and gurux[1] == cosem_own[1]:
            break
    else:
        pytest.fail("no second was long enough for four clients")
    assert before.quality == quality.GOOD
    assert gurux == cosem_own
    assert as_mms(point, gurux[0]) == before.value
    assert rust_value(by_rust, place.basic_type) == before.value


def rust_value(value, basic_type):
    """The Rust client gives a Dbpos as its bits in the highest places of an octet, in hexadecimal."""
    return int(value, 16) >> 6 if basic_type == "Dbpos" else value


def test_opened_by_mms_closed_by_dlms(running):
    """SBO-enhanced on CSWI1.Pos opens; class 70 shows it; remote_reconnect closes; MMS shows and reports it."""
    rust = connect_rust(running)
    settings = dlms_settings(running, 1002, 1, (MANAGER_GUEK, MANAGER_GAK), b"COSBREAK")
    manager = cosem_client.connect("127.0.0.1", **settings)
    try:
        assert manager.get(70, BREAKER, 2) is True
        control = {"ref": "FLEXGWSM0002/CSWI1.Pos", "model": "sbo-enhanced", "value": False}
        assert rust.control(action="select_with_value", **control)["success"]
        assert rust.control(action="operate", **control)["success"]
        until(lambda: manager.get(70, BREAKER, 2) is False, 3)
        assert manager.get(70, BREAKER, 3) == 0
        until(lambda: position(running) == cdc.DPC_OFF, 3)
        assert "REMOTE_DISCONNECTION" in running.text()

        members, _ = rust.dataset(ref="FLEXGWGW/LLN0.AllState")
        place = members.index(["FLEXGWSM0002/XSWI1.Pos", "ST"])
        rust.enable(ref="FLEXGWGW/LLN0.BR.brAllState01")
        manager.action(70, BREAKER, REMOTE_RECONNECT)
        assert manager.get(70, BREAKER, 2) is True
        assert manager.get(70, BREAKER, 3) == 1
        until(lambda: position(running) == cdc.DPC_ON, 3)
        reports = rust.poll(milliseconds=2500)
        changes = [report["values"][place] for report in reports if report["reasons"][place] == DATA_CHANGE]
        assert [rust_value(value[STVAL], "Dbpos") for value in changes][-1] == cdc.DPC_ON, reports
    finally:
        rust.kill()
        manager.end()


def position(running):
    with MmsClient.open("127.0.0.1", running.mms) as client:
        switch, control = client.read(["FLEXGWSM0002/XSWI1.Pos", "FLEXGWSM0002/CSWI1.Pos"])
    assert switch.value == control.value
    return switch.value


def test_a_reader_may_not_switch(running):
    settings = dlms_settings(running, 1002, 2, (GUEK, GAK), b"COSREADR")
    with cosem_client.connect("127.0.0.1", **settings) as reader:
        with pytest.raises(RemoteFailure, match="READ_WRITE_DENIED"):
            reader.action(70, BREAKER, REMOTE_DISCONNECT)
        assert reader.get(70, BREAKER, 2) is True


def test_all_agree_with_verify(running):
    done = flexmap("verify", running.config)
    assert done.returncode == 0, done.stdout
