"""The MAC of G3-PLC on the line: delivery, contention, repetition, segments, security, scan."""

import random

import pytest
from g3_nodes import KEY, PAN, Node, network
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmap.g3 import frame, phy
from flexmap.g3.ccm import Security, SecurityError
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.interface import BROADCAST, MacStatus, SecurityFailure
from flexmap.g3.line import LineModel, Place
from flexmap.g3.mac import Mac
from flexmap.g3.medium import LONGEST_FRAME, RECENT, Transmission
from flexmap.g3.noise import BurstModel, Bursts
from flexmap.g3.phy import CENELEC_A, FCC, Modulation
from flexmap.model.error import LocalError

BESIDE = [Place(), Place(metres=10)]


def inject(medium, node, psdu, key=None):
    """Let a stranger beside a node send these octets."""
    port = medium.attach("stranger", Node.__new__(Node), node.mac.port.place)
    port.user = type("Deaf", (), {"phy_data": lambda *a: None, "phy_ack": lambda *a, **k: None})()
    medium.transmit(port, psdu, key)
    medium.scheduler.run(medium.scheduler.seconds() + 1)


def captured(medium):
    frames = []
    medium.capture = lambda time, port, psdu: frames.append((time, port, psdu))
    return frames


def test_unicast_arrives_encrypted_acknowledged_and_confirmed():
    medium, (one, two) = network(BESIDE)
    frames = captured(medium)
    one.send(1, b"hello meter")
    medium.scheduler.run(5)
    (got,) = two.got
    assert (got.msdu, got.source, got.destination, got.pan_id, got.secured) == (b"hello meter", 0, 1, PAN, True)
    assert one.confirmed == [MacStatus.SUCCESS]
    assert all(b"hello" not in psdu for _, _, psdu in frames)
    assert medium.statistics.acknowledgements == 1
    assert one.mac.get("macTxDataPacketCount") == two.mac.get("macRxDataPacketCount") == 1


def test_broadcast_arrives_everywhere_unacknowledged():
    medium, nodes = network([Place(metres=10 * n) for n in range(5)])
    nodes[2].send(BROADCAST, b"to all")
    medium.scheduler.run(5)
    assert [len(node.got) for node in nodes] == [1, 1, 0, 1, 1]
    assert nodes[2].confirmed == [MacStatus.SUCCESS]
    assert medium.statistics.acknowledgements == 0
    assert nodes[2].mac.counters.tx_broadcast == nodes[0].mac.counters.rx_broadcast == 1


@pytest.mark.parametrize("band", [CENELEC_A, FCC])
@pytest.mark.parametrize("size", [1, 109, 110, 133, 239, 250, 399, 400])
def test_every_length_arrives_in_segments_each_acknowledged(band, size):
    medium, (one, two) = network(BESIDE, band=band)
    frames = captured(medium)
    msdu = random.Random(size).randbytes(size)
    one.send(1, msdu)
    medium.scheduler.run(10)
    assert [got.msdu for got in two.got] == [msdu]
    assert one.confirmed == [MacStatus.SUCCESS]
    data = [frame.decode(psdu) for _, port, psdu in frames if port is one.mac.port]
    room = band.max_psdu[Modulation.ROBO] - 24
    assert len(data) == -(-size // room)
    assert [f.segment for f in data] == list(range(len(data)))
    assert [f.last for f in data] == [False] * (len(data) - 1) + [True]
    assert len({f.sequence for f in data}) == 1
    assert medium.statistics.acknowledgements == len(data)


def test_a_tone_map_raises_the_modulation_until_its_time_is_over():
    medium, (one, two) = network(BESIDE)
    modulations = []
    transmit = medium.transmit

    def watch(port, psdu, key, modulation, **how):
        modulations.append(modulation)
        return transmit(port, psdu, key, modulation, **how)

    medium.transmit = watch
    one.send(1, bytes(50))
    medium.scheduler.run(2)
    assert modulations == [Modulation.ROBO, Modulation.ROBO]  # data, tone map response
    link = one.mac.link(1)
    assert (link.modulation, link.robo, link.active_tones, link.max_tones) == (3, False, 36, 36)
    assert link.reverse_lqi == phy.lqi(medium.snr(one.mac.port, two.mac.port))
    assert two.mac.link(0).reverse_lqi is None
    one.send(1, bytes(200))
    medium.scheduler.run(4)
    assert modulations[2:] == [Modulation.D8PSK]
    medium.scheduler.run(4 + 10 * 60)
    assert one.mac.link(1).robo
    one.send(1, bytes(50))
    medium.scheduler.run(4 + 10 * 60 + 2)
    assert modulations[3:] == [Modulation.ROBO, Modulation.ROBO]
    (neighbour,) = one.mac.get("macNeighbourTable")
    assert (neighbour["short"], neighbour["lqi"]) == (1, link.reverse_lqi)
    assert neighbour["tone_map"] == "0b111111"
    assert (neighbour["modulation"], neighbour["tmr_valid"], neighbour["valid"]) == (Modulation.D8PSK, 10, 255)
    there = phy.lqi(medium.snr(two.mac.port, one.mac.port))
    assert one.mac.get("macPOSTable") == [{"short": 1, "lqi": there, "valid": 255}]
    assert one.mac.get("macToneMask") == "0b" + 36 * "1"
    assert one.mac.link(99) is None


def test_unicast_throughput_is_the_computed_bound():
    medium, (one, two) = network(BESIDE)
    one.mac.set("macTMRTTL", 255)
    one.send(1, b"for the tone map")
    medium.scheduler.run(2)
    assert one.mac.link(1).modulation == Modulation.D8PSK
    begin, count = medium.scheduler.seconds(), 100

    def again(status=MacStatus.SUCCESS):
        one.confirmed.append(status)
        if len(one.confirmed) < count + 2:
            one.mac.data(1, bytes(200), again)

    again()
    medium.scheduler.run_all(1000)
    took = medium.scheduler.seconds() - begin
    band = CENELEC_A
    frame_time = phy.airtime(band, Modulation.D8PSK, 224)
    fixed = frame_time + band.ifs + band.fch_time + band.ifs + 8 * band.slot
    mean_backoff = 3.5 * band.slot
    assert took == pytest.approx(count * (fixed + mean_backoff), rel=0.02)
    assert len(two.got) == count + 1


def test_no_answer_is_repeated_then_confirmed_as_such():
    medium, (one, two) = network(BESIDE)
    medium.cut("", 5)
    one.send(1, b"are you there")
    medium.scheduler.run(10)
    assert one.confirmed == [MacStatus.NO_ACK]
    assert medium.statistics.frames == 6
    assert one.mac.get("macCSMANoACKCount") == 6
    assert two.got == []
    medium.mend("")
    one.send(1, b"and now")
    medium.scheduler.run(20)
    assert one.confirmed == [MacStatus.NO_ACK, MacStatus.SUCCESS]


def test_lost_frames_and_acknowledgements_are_repaired_without_doubles():
    medium, (one, two) = network(BESIDE)
    medium.frame_loss = 0.2
    sent = [n.to_bytes(2, "big") * 60 for n in range(300)]

    def again(_status=None):
        if sent_now := sent[len(one.confirmed) : len(one.confirmed) + 1]:
            one.confirmed.append(None)
            one.mac.data(1, sent_now[0], again)

    again()
    medium.scheduler.run_all(1000)
    got = [g.msdu for g in two.got]
    assert len(set(got)) == len(got)
    assert len(got) >= 298  # 0.36 ** 6 of them are lost for good
    assert got == [m for m in sent if m in set(got)]
    assert one.mac.counters.retries > 60
    assert two.mac.counters.duplicates > 30
    assert two.mac.counters.bad_crc > 30
    assert one.mac.counters.nack > 20


def test_a_failing_fast_modulation_falls_back_to_robo():
    medium, (one, two) = network(BESIDE)
    one.send(1, b"for the tone map")
    medium.scheduler.run(2)
    assert one.mac.link(1).modulation == Modulation.D8PSK
    medium.set_loss(one.mac.port, two.mac.port, 49)  # 1 dB: ROBO only
    one.send(1, bytes(100))
    medium.scheduler.run(5)
    assert one.confirmed == [MacStatus.SUCCESS] * 2
    assert one.mac.counters.retries == 3
    assert one.mac.link(1).robo


def test_busy_neighbours_share_the_line_fairly():
    places = [Place()] + [Place(metres=20 + 2 * n) for n in range(20)]
    medium, nodes = network(places, seed=3)
    for node in nodes[1:]:
        keep_sending(node, 0, bytes(60))
    medium.scheduler.run(300)
    done = [node.confirmed.count(MacStatus.SUCCESS) for node in nodes[1:]]
    assert len(nodes[0].got) == pytest.approx(sum(done), abs=20)
    assert sum(done) ** 2 / (len(done) * sum(d * d for d in done)) > 0.85  # Jain's index
    assert medium.statistics.collisions > 0
    assert sum(node.confirmed.count(MacStatus.NO_ACK) for node in nodes) < 0.02 * sum(done)


def keep_sending(node, destination, msdu):
    def again(status):
        node.confirmed.append(status)
        node.mac.data(destination, msdu, again)

    node.mac.data(destination, msdu, again)


def hidden(*, hear_each_other):
    medium, nodes = network([Place(), Place(), Place()], seed=5)
    one, middle, other = nodes
    loss = 20 if hear_each_other else 90
    medium.set_loss(one.mac.port, other.mac.port, loss)
    keep_sending(one, 1, bytes(90))
    keep_sending(other, 1, bytes(90))
    medium.scheduler.run(120)
    return medium, middle


def test_hidden_nodes_collide_more_than_those_that_hear_each_other():
    heard, middle_heard = hidden(hear_each_other=True)
    unheard, middle_unheard = hidden(hear_each_other=False)
    share_heard = heard.statistics.collisions / heard.statistics.frames
    share_unheard = unheard.statistics.collisions / unheard.statistics.frames
    assert share_heard < 0.15
    assert share_unheard > 2 * share_heard
    assert len(middle_unheard.got) < len(middle_heard.got)


def test_the_stronger_frame_is_captured():
    medium, (one, weak, strong) = network([Place(), Place(), Place()])
    medium.set_loss(weak.mac.port, one.mac.port, 45)
    medium.set_loss(strong.mac.port, one.mac.port, 5)
    medium.set_loss(strong.mac.port, weak.mac.port, 90)
    for node in (weak, strong):
        head = Frame(
            kind=FrameKind.DATA,
            sequence=1,
            payload=b"at the same time",
            destination=0,
            destination_pan=PAN,
            source=node.mac.short_address,
            source_pan=PAN,
        )
        medium.transmit(node.mac.port, frame.encode(head), PAN << 16)
    medium.scheduler.run(1)
    assert [g.source for g in one.got] == [2]
    assert medium.statistics.collisions == 1


def test_urgent_frames_pass_what_waits():
    medium, (one, two) = network(BESIDE)
    for n in range(5):
        one.send(1, b"bulk %d" % n)
    one.send(1, b"breaker", priority=True)
    medium.scheduler.run(5)
    assert [g.msdu for g in two.got].index(b"breaker") == 1


def test_urgent_frames_win_the_line():
    medium, (zero, bulk, urgent) = network([Place(), Place(metres=5), Place(metres=9)])
    wins = 0
    for _ in range(30):
        before = len(zero.got)
        bulk.send(0, b"bulk")
        urgent.send(0, b"urgent", priority=True)
        medium.scheduler.run(medium.scheduler.seconds() + 2)
        wins += zero.got[before].msdu == b"urgent"
    assert wins == 30


def test_a_line_that_is_never_free_is_given_up():
    medium, (one, _two) = network(BESIDE)
    medium.free_from = lambda port: medium.scheduler.seconds() + 0.1
    one.send(1, b"never")
    medium.scheduler.run(600)
    assert one.confirmed == [MacStatus.CHANNEL_ACCESS_FAILURE]
    assert one.mac.get("macCSMAFailCount") == 1
    assert medium.statistics.frames == 0


def test_requests_that_cannot_be_met_are_confirmed_so():
    medium, (one, _two) = network(BESIDE, keys=False)
    one.send(1, bytes(401), secured=False)
    one.send(1, b"", secured=False)
    one.send(0x10000, b"x", secured=False)
    one.send(b"short", b"x", secured=False)
    one.send(1, b"x")
    one.mac.short_address = 0xFFFF
    one.send(1, b"x")
    assert one.confirmed == []
    medium.scheduler.run(1)
    assert one.confirmed == [
        MacStatus.FRAME_TOO_LONG,
        MacStatus.INVALID_PARAMETER,
        MacStatus.INVALID_PARAMETER,
        MacStatus.INVALID_PARAMETER,
        MacStatus.UNAVAILABLE_KEY,
        MacStatus.NO_SHORT_ADDRESS,
    ]


def test_more_than_the_queue_holds_is_denied():
    medium, (one, _two) = network(BESIDE)
    for _ in range(130):
        one.send(1, b"x")
    medium.scheduler.run(60)
    assert one.confirmed.count(MacStatus.DENIED) == 2
    assert one.confirmed.count(MacStatus.SUCCESS) == 128


def test_a_device_without_short_address_talks_by_eui64():
    medium, (agent, device) = network(BESIDE)
    device.mac.reset()
    device.mac.pan_id = PAN
    device.send(0, b"joining", secured=False)
    medium.scheduler.run(2)
    assert [(g.source, g.msdu, g.secured) for g in agent.got] == [(device.mac.eui64, b"joining", False)]
    agent.send(device.mac.eui64, b"challenge", secured=False)
    medium.scheduler.run(4)
    assert [(g.source, g.destination, g.msdu) for g in device.got] == [(0, device.mac.eui64, b"challenge")]
    assert device.confirmed == agent.confirmed == [MacStatus.SUCCESS]


def test_scan_finds_who_answers():
    medium, nodes = network([Place(metres=30 * n) for n in range(4)])
    nodes[2].rc_coord = None
    nodes[3].mac.reset()
    found = []
    nodes[3].mac.scan(15, found.append)
    medium.scheduler.run(14.9)
    assert found == []
    medium.scheduler.run(16)
    beacons = {b.source: b for b in found[0]}
    assert set(beacons) == {0, 1}
    assert (beacons[0].pan_id, beacons[0].rc_coord) == (PAN, 0)
    assert beacons[1].rc_coord == 0x7FFF
    assert beacons[1].lqi == phy.lqi(medium.snr(nodes[1].mac.port, nodes[3].mac.port))


def secured_frame(counter, msdu=b"forged", key=KEY, sequence=7, **fields):
    security = Security(counter)
    security.set_key(0, key)
    head = Frame(
        kind=FrameKind.DATA,
        sequence=sequence,
        payload=msdu,
        destination=1,
        destination_pan=PAN,
        source=0,
        source_pan=PAN,
        **fields,
    )
    return security.protect(head)


ME = PAN << 16 | 1


def test_forged_and_copied_frames_are_refused_and_counted():
    medium, (one, two) = network(BESIDE)
    frames = captured(medium)
    one.send(1, b"genuine")
    medium.scheduler.run(2)
    genuine = frames[0][2]
    inject(medium, two, genuine, ME)  # same octets, within the TTL: a repetition
    assert two.mac.counters.duplicates == 1
    medium.scheduler.run(60)
    inject(medium, two, genuine, ME)  # and later: an old counter
    assert two.insecure[-1] is SecurityFailure.OLD_COUNTER
    inject(medium, two, frame.encode(secured_frame(100, key=bytes(16))), ME)
    assert two.insecure[-1] is SecurityFailure.WRONG_MIC
    good = secured_frame(100)
    unknown = Frame(**{f: getattr(good, f) for f in good.__struct_fields__} | {"key_index": 1})
    inject(medium, two, frame.encode(unknown), ME)
    assert two.insecure[-1] is SecurityFailure.UNKNOWN_KEY
    counters = two.mac.counters
    assert (counters.security, counters.old_counter, counters.wrong_mic, counters.unknown_key) == (3, 1, 1, 1)
    assert [g.msdu for g in two.got] == [b"genuine"]
    inject(medium, two, frame.encode(good), ME)
    assert two.got[-1].msdu == b"forged"  # by one who has the key


def test_an_unprotected_tone_map_response_does_not_count_with_keys_installed():
    medium, (one, _two) = network(BESIDE)
    one.send(1, b"hello")
    medium.scheduler.run(2)
    response = bytes.fromhex("0a 00 01 00 000000 00")
    head = Frame(
        kind=FrameKind.COMMAND,
        sequence=1,
        payload=response,
        destination=0,
        destination_pan=PAN,
        source=1,
        source_pan=PAN,
    )
    inject(medium, one, frame.encode(head), PAN << 16)
    assert one.mac.link(1).modulation == Modulation.D8PSK


def test_keys_change_without_a_gap():
    medium, (one, two) = network(BESIDE)
    new = bytes(16)
    for node in (one, two):
        node.mac.set_key(1, new)
    one.mac.activate_key(1)
    one.send(1, b"new key")
    two.send(0, b"old key")
    medium.scheduler.run(3)
    assert (two.got[0].msdu, two.got[0].key_index) == (b"new key", 1)
    assert (one.got[0].msdu, one.got[0].key_index) == (b"old key", 0)
    for node in (one, two):
        node.mac.remove_key(0)
    two.send(0, b"none")
    medium.scheduler.run(6)
    assert two.confirmed[-1] == MacStatus.UNAVAILABLE_KEY
    with pytest.raises(LocalError):
        one.mac.activate_key(0)


def test_what_cannot_be_secured_any_longer_is_given_up():
    medium, (one, two) = network(BESIDE)
    for _ in range(3):
        one.send(1, bytes(300))
    one.mac.remove_key(0)
    medium.scheduler.run(10)
    assert one.confirmed == [MacStatus.SECURITY_ERROR] * 3
    assert two.got == []
    one.mac.set_key(0, KEY)
    one.send(1, b"again")
    medium.scheduler.run(20)
    assert one.confirmed[-1] == MacStatus.SUCCESS


def test_frame_counter_goes_on_over_resets_and_keys():
    medium, (one, _two) = network(BESIDE)
    one.send(1, b"x")
    medium.scheduler.run(2)
    assert one.mac.get("macFrameCounter") == 1
    one.mac.reset()
    one.mac.set_key(0, bytes(16))
    assert one.mac.frame_counter == 1


def test_counter_is_used_up_at_the_end():
    security = Security(0xFFFFFFFF)
    security.set_key(0, KEY)
    with pytest.raises(LocalError, match="used up"):
        security.protect(Frame(kind=FrameKind.DATA, sequence=0, payload=b"", source=1))


def test_ccm_is_what_an_independent_library_computes():
    aes = pytest.importorskip("Crypto.Cipher.AES")
    protected = secured_frame(0x01020304, b"nobody else may read this")
    nonce = bytes.fromhex("781d00fffe000000 01020304 05")
    cipher = aes.new(KEY, aes.MODE_CCM, nonce=nonce, mac_len=4)
    cipher.update(frame.header(protected))
    assert cipher.decrypt_and_verify(protected.payload, protected.mic) == (b"nobody else may read this")


@given(st.integers(0, 2000), st.integers(0, 7))
def test_any_flipped_bit_of_a_secured_frame_is_refused(position, bit):
    protected = secured_frame(5, b"sixteen octets..")
    receiver = Security()
    receiver.set_key(0, KEY)
    octets = bytearray(frame.encode(protected)[3:-2])
    octets[position % len(octets)] ^= 1 << bit
    body = frame.encode(protected)[:3] + bytes(octets)
    try:
        changed = frame.decode(body + frame.crc16(body).to_bytes(2, "little"))
    except frame.FrameError:
        return
    if changed.counter is not None:
        with pytest.raises(SecurityError):
            receiver.unprotect(changed)
    assert receiver.unprotect(protected) == b"sixteen octets.."
    with pytest.raises(SecurityError, match="is not above"):
        receiver.unprotect(protected)


def test_segments_that_do_not_follow_are_dropped():
    medium, (_one, two) = network(BESIDE, keys=False)

    def part(sequence, segment, last, payload=bytes(100)):
        head = Frame(
            kind=FrameKind.DATA,
            sequence=sequence,
            payload=payload,
            destination=1,
            destination_pan=PAN,
            source=0,
            source_pan=PAN,
            segment=segment,
            last=last,
        )
        inject(medium, two, frame.encode(head), ME)

    part(1, 1, last=True)
    part(2, 0, last=False)
    part(2, 2, last=True)
    part(3, 0, last=False)
    part(4, 1, last=True)
    for segment in range(6):
        part(5, segment, last=segment == 5)
    assert two.got == []
    assert two.mac.counters.malformed >= 4
    part(6, 0, last=False, payload=b"first ")
    part(6, 1, last=True, payload=b"second")
    assert [g.msdu for g in two.got] == [b"first second"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_frames_never_break_a_receiver(data):
    medium, (one, two) = network(BESIDE)
    genuine = frame.encode(secured_frame(3, bytes(30), ack_request=True, tone_map_request=True))
    kind = data.draw(st.sampled_from(["secured", "plain", "noise"]))
    if kind == "noise":
        body = bytearray(data.draw(st.binary(min_size=1, max_size=100)))
    else:
        if kind == "plain":
            head = Frame(
                kind=data.draw(st.sampled_from(FrameKind)),
                sequence=1,
                payload=data.draw(st.binary(max_size=20)),
                destination=1,
                destination_pan=PAN,
                source=data.draw(st.none() | st.integers(0, 3) | st.binary(min_size=8, max_size=8)),
                source_pan=PAN,
            )
            genuine = frame.encode(head)
        body = bytearray(genuine[:-2])
        for _ in range(data.draw(st.integers(0, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(0, 255))
    psdu = bytes(body) + frame.crc16(bytes(body)).to_bytes(2, "little")
    inject(medium, two, psdu, ME)
    one.mac.security.counter = 100
    one.send(1, b"still alive")
    medium.scheduler.run(medium.scheduler.seconds() + 10)
    assert b"still alive" in [g.msdu for g in two.got]


def test_twenty_thousand_mutated_frames():
    """Whatever arrives is taken, refused and counted, or not for this node; nothing else happens."""
    medium, (one, two) = network(BESIDE)
    source, mac = random.Random(2), two.mac
    seeds = [
        frame.encode(secured_frame(n, bytes(n), sequence=n, ack_request=n % 2 == 0, tone_map_request=n % 3 == 0))
        for n in range(1, 60)
    ]
    for number, kind in enumerate(list(FrameKind) * 10):
        head = Frame(
            kind=kind,
            sequence=number,
            payload=bytes([7 + number % 4] * number),
            destination=1,
            destination_pan=PAN,
            source=number % 3,
            source_pan=PAN,
            segment=number % 2,
            last=number % 3 > 0,
        )
        seeds.append(frame.encode(head))
    transmission = Transmission(one.mac.port, b"x", Modulation.ROBO, 0, 0)
    for number in range(20_000):
        body = bytearray(seeds[number % len(seeds)][:-2])
        for _ in range(source.randrange(4)):
            body[source.randrange(len(body))] ^= 1 << source.randrange(8)
        octets = bytes(body)
        mac.phy_data(octets + frame.crc16(octets).to_bytes(2, "little"), 20.0, transmission)
        if number % 100 == 0:
            medium.scheduler.run(medium.scheduler.seconds() + 5)
    counters = mac.counters
    assert counters.security > 2000
    assert counters.malformed > 2000
    assert counters.rx_data > 50
    assert len(mac.get("macPOSTable")) <= 512
    assert all(len(got.msdu) <= 400 for got in two.got)
    one.mac.security.counter = 1000
    one.send(1, b"still alive")
    medium.scheduler.run(medium.scheduler.seconds() + 60)
    assert two.got[-1].msdu == b"still alive"


def test_attributes_by_name():
    _medium, (one, _two) = network(BESIDE)
    assert (one.mac.get("macMinBE"), one.mac.get("macMaxBE"), one.mac.get("macMaxCSMABackoffs")) == (3, 8, 50)
    one.mac.set("macMaxFrameRetries", 2)
    assert one.mac.pib.max_frame_retries == 2
    one.mac.set("macShortAddress", 9)
    assert one.mac.short_address == 9
    one.mac.counters.bad_crc = 4
    one.mac.set("macBadCRCCount", 0)
    assert one.mac.get("macBadCRCCount") == 0
    for name, value in (("macMaxBE", 15), ("macNonsense", 1), ("macFrameCounter", 0), ("macBadCRCCount", 1)):
        with pytest.raises(LocalError):
            one.mac.set(name, value)
    with pytest.raises(LocalError):
        one.mac.get("macNonsense")


def test_open_circuit_and_bursts():
    medium, nodes = network(
        [Place(), *(Place(feeder="a", metres=20 * n) for n in range(1, 4)), Place(feeder="b", metres=30)]
    )
    medium.cut("a", 30)
    assert [node.mac.port.live for node in nodes] == [True, True, False, False, True]
    assert medium.snr(nodes[0].mac.port, nodes[2].mac.port) is None
    assert set(medium.neighbours(nodes[0].mac.port)) == {nodes[1].mac.port, nodes[4].mac.port}
    medium.mend("a")
    assert len(medium.neighbours(nodes[0].mac.port)) == 4
    medium.burst(30, 60.0, feeder="a")
    nodes[0].send(1, b"through the noise")
    nodes[0].send(4, b"the other feeder")
    medium.scheduler.run(20)
    assert nodes[0].confirmed == [MacStatus.NO_ACK, MacStatus.SUCCESS]
    medium.scheduler.run(40)
    nodes[0].send(1, b"after it")
    medium.scheduler.run(50)
    assert nodes[0].confirmed[-1] == MacStatus.SUCCESS


def test_a_node_that_is_off_stays_off_when_the_circuit_closes():
    medium, (one, two) = network(BESIDE)
    medium.switch(two.mac.port, on=False)
    medium.cut("", 5)
    medium.mend("")
    one.send(1, b"off")
    medium.scheduler.run(10)
    assert one.confirmed == [MacStatus.NO_ACK]
    medium.switch(two.mac.port, on=True)
    one.send(1, b"on")
    medium.scheduler.run(20)
    assert one.confirmed[-1] == MacStatus.SUCCESS


def test_random_bursts_come_at_their_rate_and_disturb():
    medium, (one, two) = network(BESIDE, seed=11)
    bursts = Bursts(medium, random.Random(11), BurstModel(per_hour=3600, seconds=0.1, level_db=60))
    keep_sending(one, 1, bytes(60))
    medium.scheduler.run(400)
    assert bursts.count == pytest.approx(400, rel=0.15)
    assert medium.statistics.losses > 100
    assert len(medium._bursts) < 5
    assert len(two.got) > 2000
    bursts.stop()
    count = bursts.count
    medium.scheduler.run(450)
    assert bursts.count == count
    with pytest.raises(LocalError):
        Bursts(medium, random.Random(1), BurstModel(per_hour=0, seconds=1, level_db=1))


def test_no_frame_is_longer_than_is_remembered():
    for band in (CENELEC_A, FCC):
        for modulation in Modulation:
            assert phy.airtime(band, modulation, band.max_psdu[modulation]) < LONGEST_FRAME
            assert band.ifs + 8 * band.slot < RECENT


def test_attenuation_grows_with_metres_taps_phases_and_feeders():
    places = [
        Place(),
        Place(metres=100),
        Place(metres=200),
        Place(metres=100, phase=1),
        Place(feeder="b", metres=100),
    ]
    medium, nodes = network(places, model=LineModel(per_tap_db=0.5))
    ports = [node.mac.port for node in nodes]

    def loss(a, b):
        return medium.line.model.budget_db - medium.snr(ports[a], ports[b])

    assert loss(0, 1) == pytest.approx(6.0)
    assert loss(0, 2) == pytest.approx(12.0 + 2 * 0.5)
    assert loss(0, 3) == pytest.approx(6.0 + 8.0)
    assert loss(0, 4) == pytest.approx(6.0 + 8.0)
    assert loss(1, 4) == pytest.approx(12.0 + 8.0 + 0.5)
    assert loss(1, 2) == loss(2, 1)


def test_the_same_seed_gives_the_same_run():
    def run(seed):
        medium, nodes = network([Place(metres=100 * n) for n in range(6)], seed=seed)
        frames = captured(medium)
        for node in nodes[1:]:
            keep_sending(node, 0, bytes(40))
        medium.scheduler.run(30)
        return [(time, port.name, psdu) for time, port, psdu in frames]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_mac_refuses_an_eui64_of_another_length():
    medium, _nodes = network(BESIDE)
    with pytest.raises(LocalError):
        Mac(medium, b"short", random.Random(1))


def test_a_crowd_does_not_answer_a_scan_as_one():
    """Of forty neighbours the nearest to the coordinator answer; others hear it and stay silent."""
    places = [Place("1", 10.0 * number) for number in range(42)]
    medium, nodes = network(places, model=LineModel(per_metre_db=0.02, per_tap_db=0.0))
    for number, node in enumerate(nodes):
        node.rc_coord = number
    found = []
    scanner = nodes[41]
    scanner.mac.pan_id = scanner.mac.short_address = 0xFFFF
    for _ in range(5):
        scanner.mac.scan(12, found.append)
        medium.scheduler.run(medium.scheduler.seconds() + 20)
    for beacons in found:
        costs = {beacon.rc_coord for beacon in beacons}
        assert costs >= {0, 1, 2}
        assert 3 <= len(costs) < 25


def test_a_tone_map_response_waits_no_longer_than_a_data_frame():
    """macBroadcastMaxCWEnable is about broadcasts: an answer to one node takes the window of the others."""
    medium, nodes = network([Place("1", 0.0), Place("1", 10.0)])
    for node in nodes:
        node.mac.set("macBroadcastMaxCWEnable", 1)
    starts = []
    medium.capture = lambda start, _port, psdu: starts.append((start, frame.decode(psdu).kind))
    waits = []
    for _ in range(20):
        starts.clear()
        nodes[0].mac._neighbours.lost(1)
        nodes[0].send(1, b"x" * 20)
        medium.scheduler.run(medium.scheduler.seconds() + 5)
        (asked, _), (answered, kind) = starts
        assert kind is FrameKind.COMMAND
        waits.append(answered - asked)
    assert max(waits) - min(waits) <= (1 << 3) * CENELEC_A.slot
