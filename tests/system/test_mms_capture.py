"""Wireshark's dissector finds nothing malformed in what clients and the engine say to each other."""

import shutil
import subprocess
import time

import pytest
from mms_harness import Rust, core
from mms_relay import SERVER, Relay
from mms_site import T0, sample

from flexmap.faces.mms_client import MmsClient

pytestmark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed (apt install tshark)"
)


def tshark(capture, *arguments):
    command = ["tshark", "-r", str(capture), "-d", f"tcp.port=={SERVER[1]},tpkt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def capture(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("capture")
    with core(folder, engine=request.param) as engine:
        engine.update(sample("SM_1"), sample("SM_2"))
        relay = Relay(engine.port)
        with MmsClient.open("127.0.0.1", relay.port) as client:
            client.browse()
            client.read(["FMTESTGW", "FMTESTM1", "FMTESTM2"])
        with Rust(relay.port) as client:
            client.enable(ref="FMTESTM1/LLN0.BR.brAll01")
            client.gi(ref="FMTESTM1/LLN0.BR.brAll01")
            engine.update(sample("SM_1", time=T0 + 1000, power=1.0))
            client.poll(milliseconds=300)
            order = {"ref": "FMTESTM1/CSWI1.Pos", "model": "sbo-enhanced", "value": False}
            client.control(**order, action="select_with_value")
            client.ask("control", **order, action="operate")
            engine.say(result=[engine.hear("command")[0], True, ""])
            assert client.hear(10)["success"]
            client.dataset(ref="FMTESTGW/LLN0.Site")
        time.sleep(0.2)
        relay.close()
        relay.write_pcap(folder / "session.pcap")
    return folder / "session.pcap"


def test_the_session_decodes_without_a_malformed_frame(capture):
    assert tshark(capture, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""


def test_the_session_holds_every_kind_of_exchange(capture):
    decoded = tshark(capture)
    assert decoded.count("MMS") > 50
    for kind in (
        "initiate-RequestPDU",
        "confirmed-ResponsePDU",
        "unconfirmed-PDU",
        "LLN0$BR$brAll01$RptEna",
        "CSWI1$CO$Pos$SBOw",
        "CSWI1$CO$Pos$Oper",
    ):
        assert kind in decoded


def test_a_damaged_frame_would_have_been_found(capture, tmp_path):
    octets = bytearray(capture.read_bytes())
    place = octets.index(b"FMTESTM1\x1a")
    octets[place + 9] = 0x7F
    damaged = tmp_path / "damaged.pcap"
    damaged.write_bytes(octets)
    assert tshark(damaged, "-Y", "_ws.malformed || _ws.expert.severity == error") != ""
