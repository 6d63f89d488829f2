"""6LoWPAN: header compression, fragments, mesh headers; scapy as an independent decoder where it is right."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import sixlowpan as scapy_sixlowpan
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from flexmap.g3 import iphc, ipv6, sixlowpan
from flexmap.model.error import LocalError, RemoteError

PAN = 0x781D
CONTEXTS = (iphc.pan_context(PAN), iphc.Context(bytes.fromhex("fd00") + bytes(14), 64))
SHORT = st.integers(0, 0xFFF0)
EUI64 = st.binary(min_size=8, max_size=8)
ADDRESS = st.one_of(SHORT, EUI64)
UNICAST = st.one_of(
    SHORT.map(lambda short: ipv6.link_local(PAN, short)),
    EUI64.map(lambda eui64: ipv6.link_local(PAN, eui64)),
    st.binary(min_size=8, max_size=8).map(lambda tail: ipv6.LINK_LOCAL_PREFIX + tail),
    SHORT.map(lambda short: bytes.fromhex("fd00000000000000") + ipv6.short_interface_id(PAN, short)),
    st.binary(min_size=8, max_size=8).map(lambda tail: bytes.fromhex("fd00000000000000") + tail),
    st.binary(min_size=16, max_size=16).filter(lambda address: address[0] != 0xFF),
)
MULTICAST = st.one_of(
    st.just(ipv6.ALL_NODES),
    st.binary(min_size=4, max_size=4).map(lambda octets: b"\xff" + octets[:1] + bytes(11) + octets[1:]),
    st.binary(min_size=6, max_size=6).map(lambda octets: b"\xff" + octets[:1] + bytes(9) + octets[1:]),
    st.binary(min_size=15, max_size=15).map(lambda octets: b"\xff" + octets),
)
PORT = st.one_of(st.integers(0, 0xFFFF), st.integers(0xF000, 0xF0FF), st.integers(0xF0B0, 0xF0BF))
HEADER = st.builds(
    ipv6.Header,
    source=st.one_of(UNICAST, st.just(bytes(16))),
    destination=st.one_of(UNICAST, MULTICAST),
    next_header=st.one_of(st.just(17), st.integers(0, 255)),
    hop_limit=st.one_of(st.sampled_from((1, 64, 255)), st.integers(0, 255)),
    traffic_class=st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 255)),
    flow_label=st.one_of(st.just(0), st.integers(0, 0xFFFFF)),
)
DATAGRAM = st.builds(
    ipv6.Datagram,
    source=UNICAST,
    destination=st.one_of(UNICAST, MULTICAST),
    source_port=PORT,
    destination_port=PORT,
    payload=st.binary(max_size=200),
)


def link(source=5, destination=0, contexts=CONTEXTS):
    return iphc.Link(source, destination, PAN, contexts)


def udp(source=5, destination=0, size=29, *, ports=(0xF0B1, 0xF0B1)):
    payload = bytes(range(256)) * 5
    return ipv6.build_udp(
        ipv6.Datagram(ipv6.link_local(PAN, source), ipv6.link_local(PAN, destination), *ports, payload[:size])
    )


def test_addresses_of_a_pan():
    assert ipv6.link_local(PAN, 5) == bytes.fromhex("fe80000000000000781d00fffe000005")
    assert ipv6.short_address_of(ipv6.link_local(PAN, 5), PAN) == 5
    assert ipv6.short_address_of(ipv6.link_local(PAN, 5), PAN + 1) is None
    assert ipv6.short_address_of(ipv6.ALL_NODES, PAN) is None


def test_the_usual_read_is_compressed_to_six_octets():
    """IPHC with everything left out, NHC with 4-bit ports, and the checksum."""
    packet = udp()
    payloads = sixlowpan.encode(packet, link(), 0, 395)
    assert len(payloads) == 1
    assert payloads[0][:4].hex() == "7e33f311"
    assert len(payloads[0]) == 2 + 4 + 29
    assert sixlowpan.decode(payloads[0], link()) == packet


def test_published_example_of_udp_compression():
    """RFC 6282 section 4.3.3: NHC 0b11110011, source and destination port in four bits each."""
    header, consumed = iphc.compress(udp(ports=(0xF0B3, 0xF0BA)), link())
    assert header[2:4] == bytes((0xF3, 0x3A))
    assert consumed == 48


@given(DATAGRAM, ADDRESS, ADDRESS)
@settings(max_examples=250, deadline=None)
def test_udp_comes_back(datagram, source, destination):
    packet = ipv6.build_udp(datagram)
    assert ipv6.parse_udp(packet) == datagram
    across = link(source, destination)
    header, consumed = iphc.compress(packet, across)
    assert len(header) <= consumed
    assert iphc.decompress(header + packet[consumed:], across) == packet


@given(HEADER, st.binary(max_size=60), ADDRESS, ADDRESS)
@settings(max_examples=250, deadline=None)
def test_any_header_comes_back(header, payload, source, destination):
    packet = ipv6.build(header, payload)
    across = link(source, destination)
    compressed, consumed = iphc.compress(packet, across)
    assert iphc.decompress(compressed + packet[consumed:], across) == packet


@given(st.integers(0, 1232), st.integers(40, 395), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_fragments_come_together_in_any_order(size, limit, compressed, shuffler):
    packet = udp(size=size)
    across = link()
    payloads = sixlowpan.encode(packet, across, 77, max(limit, 64), compressed=compressed)
    assert all(len(payload) <= max(limit, 64) for payload in payloads)
    if len(payloads) == 1:
        assert sixlowpan.decode(payloads[0], across) == packet
        return
    reassembler = sixlowpan.Reassembler(lambda: 0.0)
    shuffler.shuffle(payloads)
    results = [reassembler.add(payload, across) for payload in payloads]
    assert results[-1] == packet
    assert not any(results[:-1])
    assert len(reassembler) == 0


def test_a_fragment_twice_is_harmless_and_an_overlap_starts_anew():
    packet = udp(size=600)
    across = link()
    first, second, third = sixlowpan.encode(packet, across, 1, 300)
    reassembler = sixlowpan.Reassembler(lambda: 0.0)
    assert reassembler.add(first, across) is None
    assert reassembler.add(first, across) is None
    moved = second[:4] + bytes((second[4] - 1,)) + second[5:]
    assert reassembler.add(moved, across) is None
    assert reassembler.dropped == 1
    assert reassembler.add(third, across) is None
    assert reassembler.add(second, across) is None, "overlaps what was moved"
    assert reassembler.add(first, across) is None
    assert reassembler.add(third, across) == packet


def test_incomplete_datagrams_time_out_and_are_bounded():
    now = [0.0]
    across = link()
    reassembler = sixlowpan.Reassembler(lambda: now[0])
    trains = [sixlowpan.encode(udp(size=600), across, tag, 300) for tag in range(100)]
    for train in trains:
        assert reassembler.add(train[0], across) is None
        assert len(reassembler) <= sixlowpan.REASSEMBLY_LIMIT
    now[0] = sixlowpan.REASSEMBLY_TIMEOUT
    assert reassembler.add(trains[-1][1], across) is None
    assert len(reassembler) == 1, "the first fragment had timed out"
    assert reassembler.dropped == 100


@pytest.mark.parametrize(
    ("payload", "wrong"),
    [
        ("c027 0001 41", "of 39 octets"),
        ("c7ff 0001 41", "of 2047 octets"),
        ("c100 0001", "cut short"),
        ("e100 0001 00 aa", "offset 0"),
        ("e100 0001 1f 0102030405060708 09", "does not fit"),
        ("e100 0001 01 010203", "does not fit"),
        ("c100 0001 99", "unknown dispatch"),
        ("c02a 0001 7e33f311aaaa", "does not fit"),
    ],
)
def test_bad_fragments(payload, wrong):
    with pytest.raises(RemoteError, match=wrong):
        sixlowpan.Reassembler(lambda: 0.0).add(bytes.fromhex(payload), link())


@pytest.mark.parametrize(
    "compressed",
    [
        "7e",
        "7e33",
        "7e33f3",
        "7e33e3110000",
        "7e34f3110000",
        "7e3cf3110000",
        "7a3d",
        "7a3f",
        "7ef533f3110000",
        "6000",
    ],
)
def test_bad_compressed_headers(compressed):
    """Cut short, NHC that is not UDP's, reserved modes, context 3 that nobody knows."""
    with pytest.raises(RemoteError):
        iphc.decompress(bytes.fromhex(compressed), link())


def test_multicast_with_a_prefix():
    """RFC 3306 address over context 1: ff32:0040:fd00:…"""
    packet = iphc.decompress(bytes.fromhex("7abc 01 3a 3200 00000001".replace(" ", "")), link())
    assert packet[24:40] == bytes.fromhex("ff320040fd0000000000000000000001")


def test_an_elided_checksum_is_restored():
    packet = udp()
    header, consumed = iphc.compress(packet, link())
    elided = header[:2] + bytes((header[2] | 0x04,)) + header[3:4] + packet[consumed:]
    assert iphc.decompress(elided, link()) == packet


def test_mesh_header():
    frame = sixlowpan.mesh_header(8, 0x0005, 0x8001) + sixlowpan.broadcast_header(0x1FF) + b"\x7e"
    assert frame.hex() == "b80005800150ff7e"
    assert sixlowpan.parse_headers(frame) == (5, 0x8001, 8, 0xFF, 7)
    assert sixlowpan.one_hop_less(frame, 7) == b"\xb7" + frame[1:]
    deep = bytes.fromhex("bf 20 0005 0000 41".replace(" ", ""))
    assert sixlowpan.parse_headers(deep) == (5, 0, 32, None, 6)
    assert sixlowpan.one_hop_less(deep, 7) == bytes.fromhex("b70005000041")
    long = bytes.fromhex("83") + bytes(range(8)) + bytes(range(8, 16)) + b"\x41"
    assert sixlowpan.parse_headers(long) == (bytes(range(8)), bytes(range(8, 16)), 3, None, 17)
    with pytest.raises(LocalError):
        sixlowpan.mesh_header(15, 1, 2)
    for cut in ("", "50", "5001", "b8", "b80005", "b800050000", "b8000580015", "b80005800150", "b8000580015001"):
        with pytest.raises(RemoteError):
            sixlowpan.parse_headers(bytes.fromhex(cut + "0" * (len(cut) % 2)))


def test_packets_and_datagrams_that_are_none():
    good = udp()
    for bad in (
        good[:39],
        good[:-1],
        b"\x40" + good[1:],
        good[:50] + b"\x00" + good[51:],
        good[:46] + b"\0\0" + good[48:],
    ):
        with pytest.raises(RemoteError):
            ipv6.parse_udp(bad)
    with pytest.raises(LocalError):
        udp(size=1233)
    with pytest.raises(LocalError):
        iphc.compress(good[:-1], link())


def test_echo():
    one, other = ipv6.link_local(PAN, 1), ipv6.link_local(PAN, 2)
    request = ipv6.echo_request(one, other, 7, 1, b"ping")
    reply = ipv6.echo_reply(request)
    header, payload = ipv6.parse(reply)
    assert (header.source, header.destination, payload[0], payload[4:]) == (other, one, 129, b"\0\x07\0\x01ping")
    assert ipv6.echo_reply(reply) is None
    assert ipv6.echo_reply(udp()) is None
    with pytest.raises(RemoteError):
        ipv6.echo_reply(request[:-1] + b"X")


def test_mutated_frames_raise_nothing_but_remote_error():
    """20,000 frames: valid ones with octets changed, cut and lengthened, and noise."""
    dice = random.Random(1)
    across = link()
    seeds = []
    for size in (0, 29, 100, 700):
        for frame in sixlowpan.encode(udp(size=size), across, size, 200):
            seeds += [frame, sixlowpan.mesh_header(8, 1, 2) + frame]
            seeds.append(sixlowpan.mesh_header(8, 1, 0x8001) + sixlowpan.broadcast_header(3) + frame)
    reassembler = sixlowpan.Reassembler(lambda: 0.0)
    refused = 0
    for _ in range(20_000):
        frame = (
            bytearray(dice.choice(seeds)) if dice.random() < 0.9 else bytearray(dice.randbytes(dice.randrange(40)))
        )
        for _ in range(dice.randrange(4)):
            if frame:
                frame[dice.randrange(min(len(frame), 16))] = dice.randrange(256)
        if dice.random() < 0.3:
            del frame[dice.randrange(len(frame) + 1) :]
        try:
            headers = sixlowpan.parse_headers(bytes(frame))
            payload = bytes(frame[headers.offset :])
            if sixlowpan.is_fragment(payload):
                reassembler.add(payload, across)
            else:
                ipv6.parse_udp(sixlowpan.decode(payload, across))
        except RemoteError:
            refused += 1
        assert len(reassembler) <= sixlowpan.REASSEMBLY_LIMIT
    assert 5_000 < refused < 20_000


class TestScapy:
    """scapy's 6LoWPAN: right for IPHC with 64-bit interface ids inline, NHC-UDP, and the mesh header."""

    @pytest.mark.parametrize("ports", [(0xF0B1, 0xF0B1), (4059, 0xF0B1), (0xF012, 4059), (4059, 4060)])
    @pytest.mark.parametrize("hop_limit", [1, 64, 255, 17])
    def test_decodes_ours(self, ports, hop_limit):
        source, destination = (ipv6.LINK_LOCAL_PREFIX + bytes.fromhex(tail) for tail in ("0212" * 4, "0456" * 4))
        datagram = ipv6.Datagram(source, destination, *ports, b"flexmeter", hop_limit)
        packet = ipv6.build_udp(datagram)
        header, consumed = iphc.compress(packet, link())
        decoded = scapy_sixlowpan.LoWPAN_IPHC(header + packet[consumed:])
        assert bytes(decoded[IPv6])[:40] == packet[:40]
        assert (decoded[UDP].sport, decoded[UDP].dport) == ports
        assert struct.pack(">H", decoded[UDP].chksum) == packet[46:48]

    def test_mesh_header(self):
        mesh = scapy_sixlowpan.LoWPANMesh(sixlowpan.mesh_header(8, 0x0102, 0x0304))
        assert (mesh.hopsLeft, mesh.src, mesh.dst) == (8, 0x0102, 0x0304)
