"""Wireshark's tshark reads our 6LoWPAN frames: nothing malformed, addresses as meant, UDP checksum good."""

import itertools
import json
import shutil
import struct
import subprocess

import pytest

from flexmap.g3 import iphc, ipv6, sixlowpan

PAN = 0x781D
LINKTYPE_IEEE802154_NOFCS = 230
PREFERENCES = (
    "6lowpan.rfc4944_short_address_format:TRUE",
    f"6lowpan.context0:fe80::{PAN:x}:0:0:0/80",
    "6lowpan.context1:fd00::/64",
    "udp.check_checksum:TRUE",
)
pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def mac_frame(sequence, source, destination, msdu):
    """An unsecured 802.15.4-2003 data frame inside one PAN with short addresses, without FCS."""
    return struct.pack("<HBHHH", 0x8841, sequence & 0xFF, PAN, destination, source) + msdu


def capture(path, frames):
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_IEEE802154_NOFCS)
    records = (
        struct.pack("<IIII", 0, number, len(frame), len(frame)) + frame for number, frame in enumerate(frames)
    )
    path.write_bytes(header + b"".join(records))


def dissect(path):
    """Layers of every packet; ZigBee is off, for its heuristics claim the octet that starts FRAG1."""
    command = ["tshark", "-r", str(path), "-T", "json", "-n", "--disable-protocol", "zbee_nwk"]
    for preference in PREFERENCES:
        command += ["-o", preference]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def flatten(tree):
    for key, value in tree.items():
        yield key, value
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                yield from flatten(entry)


def datagram(source, destination, ports, payload, **fields):
    return ipv6.build_udp(ipv6.Datagram(source, destination, *ports, payload, **fields))


def test_tshark_decodes_every_form(tmp_path):
    """Each interface id mode, port form, hop limit and traffic class; mesh; broadcast; fragments."""
    contexts = (iphc.pan_context(PAN), iphc.Context(bytes.fromhex("fd00") + bytes(14), 64))
    five, seven = ipv6.link_local(PAN, 5), ipv6.link_local(PAN, 7)
    eui64 = ipv6.link_local(PAN, bytes.fromhex("0011223344556677"))
    ula = bytes.fromhex("fd00000000000000") + ipv6.short_interface_id(PAN, 5)
    ports = ((0xF0B1, 0xF0BF), (4059, 0xF0B1), (0xF012, 4059), (4059, 4061))
    cases = itertools.product(ports, (five, seven, eui64, ula), (1, 17, 64, 255), (0, 2, 0xB8))
    frames = []
    for number, (pair, source, hop_limit, traffic_class) in enumerate(cases):
        packet = datagram(source, seven, pair, b"flexmeter", hop_limit=hop_limit, traffic_class=traffic_class)
        (payload,) = sixlowpan.encode(packet, iphc.Link(5, 7, PAN, contexts), number, 395)
        frames.append(mac_frame(number, 5, 7, payload))
        frames.append(mac_frame(number, 3, 4, sixlowpan.mesh_header(6, 5, 7) + payload))
    everyone = datagram(five, ipv6.ALL_NODES, (0xF0B1, 0xF0B1), b"to all")
    (payload,) = sixlowpan.encode(everyone, iphc.Link(5, 0x8001, PAN, contexts), 0, 393)
    flood = sixlowpan.mesh_header(8, 5, 0x8001) + sixlowpan.broadcast_header(9) + payload
    frames.append(mac_frame(1, 5, 0xFFFF, flood))
    path = tmp_path / "forms.pcap"
    capture(path, frames)
    packets = dissect(path)
    assert len(packets) == len(frames) == 385
    good = malformed = 0
    for packet in packets:
        fields = list(flatten(packet))
        malformed += sum(key in {"_ws.malformed", "_ws.expert"} for key, _ in fields)
        good += dict(fields).get("udp.checksum.status") == "1"
    assert (malformed, good) == (0, len(frames))
    first, mesh, last = packets[0], packets[1], packets[-1]
    assert first["ipv6"]["ipv6.src"] == mesh["ipv6"]["ipv6.src"] == "fe80::781d:ff:fe00:5"
    assert last["ipv6"]["ipv6.dst"] == "ff02::1"
    assert dict(flatten(last))["6lowpan.bcast.seqnum"] == "9"


def test_tshark_reassembles_our_fragments(tmp_path):
    packet = datagram(ipv6.link_local(PAN, 5), ipv6.link_local(PAN, 7), (0xF0B1, 0xF0B1), bytes(range(250)) * 4)
    payloads = sixlowpan.encode(packet, iphc.Link(5, 7, PAN), 321, 395)
    assert len(payloads) == 3
    path = tmp_path / "fragments.pcap"
    capture(path, [mac_frame(number, 5, 7, payload) for number, payload in enumerate(payloads)])
    packets = dissect(path)
    fields = dict(flatten(packets[-1]))
    assert fields["6lowpan.reassembled.length"] == str(len(packet))
    assert fields["udp.checksum.status"] == "1"
    assert not any(key == "_ws.malformed" for layers in packets for key, _ in flatten(layers))
