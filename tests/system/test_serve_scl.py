"""`flexmap serve --scl`: the MMS face of a running gateway is what an engineering tool's file says."""

import os
import queue
import re
import signal
import subprocess
import time

import pytest
from gateway_harness import FLEXMAP, flexmap, free_ports
from mms_harness import Rust, RustError, until


def engineered(path, text):
    """As an engineering tool changes a file: another IED name, node, data set and control block."""
    text = text.replace('name="FLEXGW"', 'name="BAY7"').replace('iedName="FLEXGW"', 'iedName="BAY7"')
    for attribute in ("inst", "lnInst"):
        text = text.replace(f'lnClass="MMXN" {attribute}="1"', f'lnClass="MMXN" {attribute}="4"')
    data_set = (
        '<DataSet name="Picked"><FCDA ldInst="SM0001" lnClass="MMXN" lnInst="4" doName="Vol" fc="MX"/></DataSet>'
    )
    control = (
        '<ReportControl name="picked" rptID="picked" datSet="Picked" confRev="30001" indexed="false">'
        '<TrgOps dchg="true" gi="true"/><OptFields seqNum="true"/><RptEnabled max="1"/></ReportControl>'
    )
    start = text.index('<LDevice inst="SM0001"')
    head, body = text[:start], text[start:]
    body = re.sub(r"(?=<DataSet )", data_set, body, count=1)
    body = re.sub(r"(?=<ReportControl )", control, body, count=1)
    body = body.replace(' sAddr="1-0:13.7.0.255;4;2"', "", 1)  # the power factor has no place any more
    path.write_text(head + body)


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scl")
    config, station, log = folder / "site.toml", folder / "station.cid", folder / "log"
    mms, dlms, web = free_ports(3)
    written = flexmap("demo", "--meters", 1, "--source", "model", "--write-config", config)
    assert written.returncode == 0, written.stderr
    text = (
        config.read_text()
        .replace("127.0.0.1:4059", f"127.0.0.1:{dlms}")
        .replace("127.0.0.1:8080", f"127.0.0.1:{web}")
    )
    config.write_text(text.replace('engine = "libiec61850"', f'engine = "{request.param}"'))
    exported = flexmap("scl", "export", config, "-o", station)
    assert exported.returncode == 0, exported.stderr
    engineered(station, station.read_text().replace('type="MMS-Port">10102', f'type="MMS-Port">{mms}'))
    command = [FLEXMAP, "serve", config, "--scl", station]
    process = subprocess.Popen(
        [str(word) for word in command], stdout=log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        client = connect(mms, process, log)
        yield client, config, station
        client.kill()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def connect(port, process, log):
    end = time.monotonic() + 90
    while True:
        assert process.poll() is None, log.read_text()
        try:
            return Rust(port)
        except (RustError, OSError, queue.Empty):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)


def test_the_names_are_those_of_the_file(served):
    client, _, _ = served
    assert {"BAY7GW", "BAY7SUB1", "BAY7SM0001"} == set(client.directory())
    names = str(client.nodes(device="BAY7SM0001"))
    assert "MMXN4" in names
    assert "MMXN1" not in names


def test_values_stand_where_the_file_binds_them(served):
    client, _, _ = served
    assert until(lambda: 200 < client.read(ref="BAY7SM0001/MMXN4.Vol.mag.f", fc="MX") < 260, 60)
    assert client.read(ref="BAY7SM0001/MMTR1.DmdWh.actVal", fc="ST") > 0


def test_what_is_not_bound_has_no_value(served):
    client, _, _ = served
    assert until(lambda: client.read(ref="BAY7SM0001/MMXN4.Vol.mag.f", fc="MX") > 200, 60)
    assert client.read(ref="BAY7SM0001/MMXN4.PwrFact.mag.f", fc="MX") == 0
    assert client.read(ref="BAY7SUB1/MMXU1.TotPF.mag.f", fc="MX") != 0  # the other meter's is bound


def test_data_set_and_control_block_of_the_file(served):
    client, _, _ = served
    members, values = client.dataset(ref="BAY7SM0001/LLN0.Picked")
    assert [reference for reference, _ in members] == ["BAY7SM0001/MMXN4.Vol"]
    assert len(values) == 1
    block = client.rcb(ref="BAY7SM0001/LLN0.RP.picked")
    assert (block["rpt_id"], block["conf_rev"]) == ("picked", 30001)


def test_what_cannot_be_served_is_refused(served, tmp_path):
    _, config, station = served
    text = station.read_text()
    wanted = re.sub(r"(?=<ReportControl )", '<GSEControl name="gcb" appID="a"/>', text, count=1)
    path = tmp_path / "goose.cid"
    path.write_text(wanted)
    done = flexmap("serve", config, "--scl", path)
    line = wanted[: wanted.index("<GSEControl")].count("\n") + 1
    assert done.returncode == 2
    assert f"{path}, line {line}: GSEControl 'gcb': the engine" in done.stderr
    assert flexmap("serve", config, "--listen", "127.0.0.1").returncode == 2
