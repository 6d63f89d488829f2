"""Captures of the line, read by an independent decoder (tshark)."""

import io
import json
import shutil
import struct
import subprocess

import msgspec
import pytest
from g3_nodes import KEY, PAN, network

from flexmap.g3 import frame
from flexmap.g3.capture import Capture
from flexmap.g3.ccm import Security
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.line import Place

TSHARK = shutil.which("tshark")
needs_tshark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed")


def decoded(path, *options):
    command = [TSHARK, "-r", str(path), "-T", "json", *options]
    for guesser in ("lwm", "zbee_nwk", "zbee_nwk_gp", "6lowpan"):  # they would guess at payloads made of counting
        command += ["--disable-protocol", guesser]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def flat(layer):
    """Every field of a layer, whatever tree it stands in."""
    fields = {}
    for name, value in layer.items():
        if isinstance(value, dict):
            fields |= flat(value)
        else:
            fields[name] = value
    return fields


def data_frame(payload, **fields):
    return Frame(
        kind=FrameKind.DATA,
        sequence=77,
        payload=payload,
        destination=5,
        destination_pan=PAN,
        source=0x0102,
        source_pan=PAN,
        ack_request=True,
        **fields,
    )


def as_2006(protected):
    """A secured frame as the decoder wants to see it: sealed and sent under frame version 1."""
    return b"\1\0\0" + frame.header(protected, 1) + protected.payload + protected.mic + b"\0\0"


def test_blocks_are_whole_and_aligned():
    stream = io.BytesIO()
    capture = Capture(stream)
    for size in range(1, 9):
        capture.packet("näme", 1.5, frame.encode(data_frame(bytes(size))))
    octets, kinds = stream.getvalue(), []
    while octets:
        kind, size = struct.unpack_from("<II", octets)
        assert size % 4 == 0
        assert octets[size - 4 : size] == octets[4:8]
        kinds.append(kind)
        octets = octets[size:]
    assert kinds == [0x0A0D0D0A, 1] + [6] * 8
    assert capture.packets == 8


@needs_tshark
def test_tshark_decrypts_and_checks_the_integrity_code(tmp_path):
    security = Security(0x01020304)
    security.set_key(0, KEY)
    good = security.protect(data_frame(b"\x00sealed by flexmap"), 1)
    bad = security.protect(data_frame(b"\x00sealed by flexmap"), 1)
    bad = msgspec.structs.replace(bad, mic=bytes(o ^ 1 for o in bad.mic))
    path = tmp_path / "sealed.pcapng"
    with path.open("wb") as stream:
        capture = Capture(stream)
        capture.packet("meter", 1.0, as_2006(good))
        capture.packet("meter", 2.0, as_2006(bad))
    first, second = decoded(
        path,
        "-o",
        f'uat:ieee802154_keys:"{KEY.hex()}","0","No hash"',
        "-o",
        'uat:802154_addresses:"0x0102","0x781d",781d00fffe000102',
    )
    wpan = flat(first["wpan"])
    assert wpan["wpan.aux_sec.frame_counter"] == str(0x01020304)
    assert wpan["wpan.aux_sec.sec_level"] == "0x05"
    assert wpan["wpan.key_number"] == "0"  # the key that opened it
    assert "_ws.expert.message" not in wpan
    assert bytes.fromhex(first["data"]["data.data"].replace(":", "")) == b"\x00sealed by flexmap"
    refused = flat(second["wpan"])
    assert "wpan.key_number" not in refused
    assert "decrypt" in refused["_ws.expert.message"]


@needs_tshark
def test_tshark_reads_a_pan_at_work(tmp_path):
    path = tmp_path / "line.pcapng"
    medium, nodes = network([Place(metres=20 * n) for n in range(3)])
    nodes[2].mac.reset()
    with path.open("wb") as stream:
        Capture(stream, {0: KEY}).line(medium)
        nodes[2].mac.scan(13, lambda found: None)
        medium.scheduler.run(20)
        nodes[0].send(1, bytes(n % 64 for n in range(200)))
        medium.scheduler.run(25)
        nodes[1].send(0xFFFF, b"\x00to all")
        medium.scheduler.run(30)
    packets = [
        flat(layers["wpan"]) | {"data": layers.get("data", {}).get("data.data")} for layers in decoded(path)
    ]
    request, *beacons = packets[:3]
    assert (request["wpan.frame_type"], request["wpan.cmd"]) == ("0x0003", "0x07")
    assert (request["wpan.dst_pan"], request["wpan.dst16"]) == ("0xffff", "0xffff")
    by_source = {b["wpan.src16"]: b for b in beacons}
    assert set(by_source) == {"0x0000", "0x0001"}
    assert all(b["wpan.frame_type"] == "0x0000" and b["wpan.src_pan"] == "0x781d" for b in beacons)
    assert by_source["0x0000"]["wpan.bcn_coord"] in ("1", "True")
    assert by_source["0x0001"]["wpan.bcn_coord"] in ("0", "False")
    data = [p for p in packets[3:] if p["wpan.frame_type"] == "0x0001"]
    sent = "".join(p["data"].replace(":", "") for p in data if p["wpan.dst16"] == "0x0001")
    assert bytes.fromhex(sent) == bytes(n % 64 for n in range(200))
    assert all(p["wpan.ack_request"] in ("1", "True") for p in data if p["wpan.dst16"] == "0x0001")
    (broadcast,) = [p for p in data if p["wpan.dst16"] == "0xffff"]
    assert broadcast["wpan.src16"] == "0x0001"
    assert bytes.fromhex(broadcast["data"].replace(":", "")) == b"\x00to all"
    assert any(p["wpan.frame_type"] == "0x0003" and p["wpan.src16"] == "0x0001" for p in packets[3:])


@needs_tshark
def test_a_node_sees_what_it_sends_and_takes(tmp_path):
    path = tmp_path / "node.pcapng"
    medium, nodes = network([Place(metres=20 * n) for n in range(3)])
    with path.open("wb") as stream:
        Capture(stream, {0: KEY}).node(nodes[1].mac.port)
        nodes[0].send(2, b"\x00for another")
        nodes[0].send(1, b"\x00for me")
        medium.scheduler.run(5)
    packets = [flat(layers["wpan"]) for layers in decoded(path)]
    assert {(p["wpan.src16"], p["wpan.dst16"]) for p in packets} == {("0x0000", "0x0001"), ("0x0001", "0x0000")}
