"""HDLC as the standard has it: frames and their checks, negotiation, windows, segments, rejects, lost frames."""

import contextlib
import random

import pytest
from dlms_mutants import LLS, get, mutate, seeds
from dlms_toy import BREAKER, ENERGY, NOTE, PROFILE, SAP, SECRET, SERIAL, toy_server
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmap.dlms import axdr, hdlc
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.client import Client, ClientSettings, drive
from flexmap.dlms.hdlc import POLL, Command, HdlcError, Parameters, Splitter, decode_parameters, encode
from flexmap.dlms.hdlc_client import HdlcLink
from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.profile import Limits
from flexmap.model.error import RemoteError

LOWER = 16
SNRM = Command.SNRM | POLL
DISC = Command.DISC | POLL


# --- frames


def test_check_value_of_the_crc():
    """Catalogue of CRC algorithms: CRC-16/X-25 (IBM-SDLC) of "123456789" is 906E; on the line low octet first."""
    assert hdlc.check_sequence(b"123456789").hex() == "6e90"


@pytest.mark.parametrize(
    "frame",
    [
        # SNRM and UA as every meter's manual prints them: server 1, client 16, then public client and defaults
        "7ea00703219 30f017e",
        "7ea01e210373c37a81801205018006018007040000000108040000000153 3b7e",
        # I frames recorded from a meter: server address in two octets, 1 and 43
        "7ea0192102575251 5be6e700c402c10000000001000201 5099f47e",
        "7ea02a2102577478d6e6e700c402c1000000000200130204120008110009060000010000ff02020109ca737e",
    ],
)
def test_frames_of_others(frame):
    octets = bytes.fromhex(frame.replace(" ", ""))
    splitter = Splitter(1)
    splitter.add(octets, 0)
    found = splitter.next()
    assert found is not None
    assert encode(*found[:3], segmented=found.segmented) == octets
    assert splitter.next() is None
    assert splitter.skipped == 0


@pytest.mark.parametrize(
    ("upper", "lower", "octets", "encoded"),
    [
        (1, None, 1, "03"),
        (0x7F, None, 1, "ff"),
        (1, 16, 2, "0221"),
        (1, 16, 4, "00020021"),
        (0x3FFF, 0x3FFF, 4, "fefefeff"),
        (0x1234, 0x2345, 4, "48688c8b"),
        (1001, 16, None, "0e d2 00 21"),
    ],
)
def test_addresses(upper, lower, octets, encoded):
    address = hdlc.encode_station(upper, lower, octets)
    assert address == bytes.fromhex(encoded)
    station, client = hdlc.decode_addresses(address + b"\x21")
    assert station[:2] == (upper, lower)
    assert station.octets == len(address)
    assert client == 16


@pytest.mark.parametrize("addresses", ["020402 21", "02 0203", "03 0221", "21", "03"])
def test_addresses_that_are_none(addresses):
    with pytest.raises(HdlcError):
        hdlc.decode_addresses(bytes.fromhex(addresses))


def test_parameters_both_ways():
    asked = Parameters(200, 1024, 1, 5)
    assert decode_parameters(asked.encode()) == asked
    assert decode_parameters(b"") == Parameters(128, 128, 1, 1)
    # of other lengths, in another order, with one that is not known
    assert decode_parameters(
        bytes.fromhex("818010 080103 06020400 0504000000c8 090155".replace(" ", ""))
    ) == Parameters(200, 1024, 1, 3)
    assert Parameters(2030, 2030, 7, 7).answer(asked) == Parameters(1024, 200, 5, 1)
    assert decode_parameters(Parameters(9999, 9999, 9, 9).encode()) == Parameters(2030, 2030, 7, 7)


@pytest.mark.parametrize(
    "information",
    [
        b"\x81\x80",
        b"\x80\x81\x00",
        b"\x81\x80\x03\x05\x02\x01",
        b"\x81\x80\x02\x05\x00",
        b"\x81\x80\x01\x05",
        b"\x81\x80\x03\x05\x01\x1f",
        b"\x81\x80\x03\x07\x01\x00",
    ],
)
def test_parameters_out_of_range_or_format(information):
    with pytest.raises(HdlcError):
        decode_parameters(information)


def frames_of(octets, timeout=1.0):
    splitter = Splitter(timeout)
    splitter.add(octets, 0)
    return list(iter(splitter.next, None))


INFORMATION = encode(b"\x03\x21", 0x10, b"\xe6\xe6\x00~\x7e\xa0\x07~~")


def test_flags_inside_between_and_shared_by_frames():
    both = INFORMATION + INFORMATION
    assert [frame.information for frame in frames_of(both)] == [b"\xe6\xe6\x00~\x7e\xa0\x07~~"] * 2
    assert len(frames_of(INFORMATION[:-1] + INFORMATION)) == 2
    assert len(frames_of(b"~~~" + INFORMATION + b"~~~~" + INFORMATION + b"~")) == 2


def test_octet_by_octet():
    splitter, found = Splitter(1), []
    for number, octet in enumerate(INFORMATION * 3):
        splitter.add(bytes((octet,)), number / 1000)
        found += iter(splitter.next, None)
    assert len(found) == 3


@pytest.mark.parametrize(
    "junk", [b"\x00\xff" * 20, b"~\xa0", b"~\xa7\xff\x03\x21\x10", b"~\xa0\x30\x03", b"~\xaf~"]
)
def test_a_frame_behind_junk_is_found(junk):
    """What looks like the head of a long frame ends with the first octet that comes late."""
    splitter = Splitter(0.5)
    splitter.add(junk, 0)
    assert splitter.next() is None
    splitter.add(INFORMATION, 1)
    assert splitter.next().information
    # or as soon as its check sequence proves wrong
    assert len(frames_of(junk + INFORMATION * 60)) >= 58


def test_octets_of_one_frame_may_not_come_too_late():
    splitter = Splitter(0.5)
    splitter.add(INFORMATION[:10], 0)
    assert splitter.next() is None
    splitter.add(INFORMATION[10:], 0.4)
    assert splitter.next()
    splitter.add(INFORMATION[:10], 1)
    assert splitter.next() is None
    splitter.add(INFORMATION[10:], 1.6)
    assert splitter.next() is None
    splitter.add(INFORMATION, 2.2)
    assert splitter.next()


@pytest.mark.parametrize("position", range(1, len(INFORMATION) - 1))
def test_a_flipped_bit_anywhere_is_found(position):
    broken = bytearray(INFORMATION)
    broken[position] ^= 0x04
    assert frames_of(bytes(broken) + bytes(2050)) == []


def test_a_stream_of_heads_does_not_pile_up():
    head = b"\xa7\xff\x03\x21\x10"
    splitter = Splitter(10)
    for _ in range(100):
        splitter.add(b"~" + head + hdlc.check_sequence(head) + bytes(1000), 0)
        assert splitter.next() is None
    assert len(splitter._octets) < 2100 + 1008


# --- a link


class Peer:
    """A client that sends what a test wants, and keeps the sequence numbers."""

    def __init__(self, line, *, upper=SAP, client=3, octets=2, asked=None, lower=LOWER):
        self.line = line
        station = hdlc.encode_station(upper, None if octets == 1 else lower, octets)
        self.addresses = station + bytes((client << 1 | 1,))
        self.back = self.addresses[-1:] + self.addresses[:-1]
        self.asked = asked
        self.sent = self.received = 0
        self.accepted = Parameters()

    def transceive(self, control, information=b"", *, segmented=False):
        answer = frames_of(self.line.receive(encode(self.addresses, control, information, segmented=segmented)))
        assert all(frame.addresses == self.back for frame in answer)
        return answer

    def connect(self):
        (answer,) = self.transceive(SNRM, self.asked.encode() if self.asked else b"")
        assert answer.control == Command.UA | POLL
        self.accepted = decode_parameters(answer.information)
        self.sent = self.received = 0
        return self

    def information(self, octets, *, poll=True, segmented=False):
        control = self.received << 5 | self.sent << 1 | (POLL if poll else 0)
        self.sent = self.sent + 1 & 7
        return self.transceive(control, octets, segmented=segmented)

    def ready(self, command=Command.RR):
        return self.transceive(self.received << 5 | POLL | command)

    def collect(self, answer):
        """All segments of a reply, asking on until the last."""
        whole = b""
        while True:
            assert answer
            for frame in answer:
                assert not frame.control & 1
                assert frame.control >> 1 & 7 == self.received
                assert frame.control >> 5 == self.sent
                assert len(frame.information) <= self.accepted.max_transmit
                self.received = self.received + 1 & 7
                whole += frame.information
            assert [bool(frame.control & POLL) for frame in answer] == [False] * (len(answer) - 1) + [True]
            if not answer[-1].segmented:
                assert whole[:3] == hdlc.LLC_RESPONSE
                return whole[3:]
            answer = self.ready()

    def ask(self, apdu):
        """One request with window and segments as negotiated; the reply."""
        octets = hdlc.LLC_COMMAND + apdu
        size, window = self.accepted.max_receive, self.accepted.window_receive
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        answer = []
        for position, piece in enumerate(pieces):
            last = position == len(pieces) - 1
            poll = last or position % window == window - 1
            answer = self.information(piece, poll=poll, segmented=not last)
            if poll and not last:
                assert [frame.control for frame in answer] == [self.sent << 5 | POLL | Command.RR]
        return self.collect(answer)


@pytest.fixture
def clock():
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


def open_line(clock, limits=None, late=None, **settings):
    server, device = toy_server(limits=limits)
    deliver = late.append if late is not None else lambda _: None
    return server.line(HdlcSettings(**settings), deliver, clock), device


NAME = b"\xc4\x01\xc1\x00" + axdr.octet_string(b"FLX%08d" % SAP)
GET_NAME = get(1, SERIAL, 2)


def associated(line, **settings):
    peer = Peer(line, **settings).connect()
    assert bytes.fromhex("a203020100") in peer.ask(LLS)
    return peer


@pytest.mark.parametrize("octets", [1, 2, 4])
def test_association_and_get_with_each_length_of_address(clock, octets):
    line, _ = open_line(clock)
    peer = associated(line, octets=octets)
    for _ in range(20):  # the numbers go round
        assert peer.ask(GET_NAME) == NAME
    (answer,) = peer.transceive(DISC)
    assert answer.control == Command.UA | POLL
    (answer,) = peer.transceive(DISC)
    assert answer.control == Command.DM | POLL
    assert (line.links, line.associations) == (0, 0)


@pytest.mark.parametrize(
    "asked", [None, Parameters(32, 32, 1, 1), Parameters(64, 40, 7, 3), Parameters(2030, 2030, 7, 7)]
)
def test_windows_and_segments_both_ways(clock, asked):
    line, _ = open_line(clock)
    peer = associated(line, asked=asked)
    wanted = asked or Parameters()
    assert (peer.accepted.max_transmit, peer.accepted.max_receive) == (wanted.max_receive, wanted.max_transmit)
    assert (peer.accepted.window_transmit, peer.accepted.window_receive) == (
        wanted.window_receive,
        wanted.window_transmit,
    )
    text = random.Random(1).randbytes(700)
    assert peer.ask(b"\xc1\x01\xc1\0\1" + NOTE + b"\2\0" + axdr.octet_string(text)).hex() == "c501c100"
    assert peer.ask(get(1, NOTE, 2))[:4].hex() in {"c401c100", "c402c100"}  # 512 octets are the AARQ's largest PDU


def test_a_profile_in_blocks_over_segments(clock):
    line, _ = open_line(clock)
    peer = associated(line, asked=Parameters(128, 128, 3, 3))
    client = Client(ClientSettings(client_sap=3, server_sap=SAP), random=bytes)
    rows = drive(client.get(7, PROFILE, 2), peer.ask)
    assert len(rows) == 1440
    assert line._links[peer.addresses].held < 1000


def test_the_server_sends_no_more_than_the_window_and_what_is_lost_again(clock):
    line, _ = open_line(clock)
    peer = associated(line, asked=Parameters(128, 40, 1, 4))
    answer = peer.information(hdlc.LLC_COMMAND + get(15, bytes((0, 0, 40, 0, 0, 255)), 2))
    assert [frame.control >> 1 & 7 for frame in answer] == [(peer.received + n) & 7 for n in range(4)]
    assert [bool(frame.control & POLL) for frame in answer] == [False, False, False, True]
    # the third is lost: acknowledged are two
    peer.received = peer.received + 2 & 7
    again = peer.ready()
    assert [frame.information for frame in again[:2]] == [frame.information for frame in answer[2:]]
    assert len(again) == 4
    # nothing has arrived: all four again
    assert peer.ready() == again
    peer.received = peer.received - 2 & 7
    whole = peer.collect(answer[:2] + again)
    assert whole[:4].hex() == "c402c100"


def test_a_request_that_comes_twice_is_answered_twice_and_carried_out_once(clock):
    line, device = open_line(clock)
    peer = associated(line)
    seen = []
    device_set = type(device).on_set

    def on_set(*arguments):
        seen.append(arguments)
        return device_set(device, *arguments)

    line._server.devices[SAP] = device
    type(device).on_set, saved = lambda self, *arguments: on_set(*arguments), type(device).on_set
    try:
        control = peer.received << 5 | peer.sent << 1 | POLL
        request = hdlc.LLC_COMMAND + b"\xc1\x01\xc1\0\1" + NOTE + b"\2\0" + axdr.octet_string(b"once")
        first = peer.transceive(control, request)
        assert peer.transceive(control, request) == first
        assert len(seen) == 1
    finally:
        type(device).on_set = saved
    peer.sent = peer.sent + 1 & 7
    assert peer.collect(first).hex() == "c501c100"
    assert peer.ask(GET_NAME) == NAME


def test_a_gap_in_the_numbers_is_not_filled_with_what_comes_after(clock):
    line, _ = open_line(clock)
    peer = associated(line, asked=Parameters(40, 128, 3, 1))
    octets = hdlc.LLC_COMMAND + b"\xc1\x01\xc1\0\1" + NOTE + b"\2\0" + axdr.octet_string(bytes(80))
    pieces = [octets[:40], octets[40:80], octets[80:]]
    peer.information(pieces[0], poll=False, segmented=True)
    peer.sent = peer.sent + 1 & 7  # the second is lost
    (answer,) = peer.information(pieces[2])
    assert answer.control == ((peer.sent - 2) & 7) << 5 | POLL | Command.RR
    peer.sent = peer.sent - 2 & 7
    assert peer.information(pieces[1], poll=False, segmented=True) == []
    assert peer.collect(peer.information(pieces[2])).hex() == "c501c100"


def test_a_client_that_is_not_ready_is_not_sent_information(clock):
    line, _ = open_line(clock)
    peer = associated(line, asked=Parameters(128, 40, 1, 1))
    (answer,) = peer.information(hdlc.LLC_COMMAND + get(15, bytes((0, 0, 40, 0, 0, 255)), 2))
    peer.received = peer.received + 1 & 7
    (busy,) = peer.ready(Command.RNR)
    assert busy.control == peer.sent << 5 | POLL | Command.RR
    (again,) = peer.ready()
    assert again.segmented
    assert again.information != answer.information


@pytest.mark.parametrize(
    ("control", "information", "why"),
    [
        (0x09 | POLL, b"", 1),  # REJ is not in the standard's repertoire
        (0x0D | POLL, b"", 1),  # SREJ
        (0xA3 | POLL, b"", 1),
        (0xA3 | POLL, b"x", 3),
        (0x01 | POLL, b"x", 3),  # RR with information
        (0x10, bytes(129), 4),
        (0xE0 | 0x10, b"x", 8),  # acknowledges what was never sent
        (0xE1 | POLL, b"", 8),
    ],
)
def test_frame_reject_until_the_link_is_set_up_again(clock, control, information, why):
    line, _ = open_line(clock)
    peer = Peer(line).connect()
    (answer,) = peer.transceive(control, information)
    assert answer.control == Command.FRMR | POLL
    assert answer.information == bytes((control, 0, why))
    (answer,) = peer.information(hdlc.LLC_COMMAND + LLS)
    assert answer.control == Command.FRMR | POLL
    peer.connect()
    assert bytes.fromhex("a203020100") in peer.ask(LLS)


def test_without_a_link_there_is_only_dm(clock):
    line, _ = open_line(clock)
    peer = Peer(line)
    for control in (0x10, Command.RR | POLL, Command.UI | POLL, DISC, 0xA3 | POLL):
        assert [frame.control for frame in peer.transceive(control)] == [Command.DM | POLL]
    for control in (0x00, Command.RR, Command.UI, Command.UA | POLL, Command.DM | POLL, Command.FRMR | POLL):
        assert peer.transceive(control) == []
    assert [frame.control for frame in Peer(line, upper=99).transceive(SNRM)] == [Command.DM | POLL]
    bad = peer.transceive(SNRM, b"\x81\x80\x03\x05\x01\x05")
    assert [frame.control for frame in bad] == [Command.DM | POLL]


@pytest.mark.parametrize(
    "peer",
    [
        {"lower": 17},
        {"lower": 0},
        {"lower": 0x7F},
        {"lower": 0x7E},
        {"upper": 0x7F},
        {"upper": 0},
        {"upper": 0x3FFF, "octets": 4},
        {"lower": 0x3FFF, "octets": 4},
        {"client": 0},
        {"client": 0x7F},
    ],
)
def test_who_is_not_meant_is_silent(clock, peer):
    line, _ = open_line(clock)
    other = Peer(line, **peer)
    for control in (SNRM, DISC, 0x10, Command.UI | POLL, Command.UI):
        assert other.transceive(control, b"") == []
    assert other.transceive(Command.UI, hdlc.LLC_COMMAND + LLS) == []
    assert line.associations == 0


def test_unnumbered_information(clock):
    line, _ = open_line(clock)
    peer = associated(line)
    (answer,) = peer.transceive(Command.UI | POLL, hdlc.LLC_COMMAND + GET_NAME)
    assert (answer.control, answer.information) == (Command.UI | POLL, hdlc.LLC_RESPONSE + NAME)
    assert peer.transceive(Command.UI, hdlc.LLC_COMMAND + GET_NAME) == []
    assert peer.transceive(Command.UI | POLL, b"\x00" + GET_NAME) == []
    assert peer.ask(GET_NAME) == NAME


def test_wrong_llc_is_not_answered_as_a_request(clock):
    line, _ = open_line(clock)
    peer = Peer(line).connect()
    for start in (b"", b"\xe6", hdlc.LLC_RESPONSE):
        (answer,) = peer.information(start + LLS)
        assert answer.control == peer.sent << 5 | POLL | Command.RR
    assert line.associations == 0


def test_an_answer_that_comes_late_holds_the_poll(clock):
    late = []
    line, device = open_line(clock, late=late)
    device.breaker_later = True
    peer = associated(line)
    control = peer.received << 5 | peer.sent << 1 | POLL
    request = hdlc.LLC_COMMAND + b"\xc3\x01\xc1\0\x46" + BREAKER + b"\1\1\x0f\0"
    assert peer.information(request) == []
    assert peer.transceive(control, request) == []  # sent again: carried out once, and still no answer
    assert len(device.pending) == 1
    device.pending[0].answer(ActionResult.SUCCESS)
    assert peer.collect(frames_of(b"".join(late))).hex() == "c701c10000"
    # one that takes longer than a poll is held: the client is told RR, and polls again
    late.clear()
    assert peer.information(request) == []
    clock.now += 8
    line.expire()
    assert [frame.control for frame in frames_of(b"".join(late))] == [peer.sent << 5 | POLL | Command.RR]
    late.clear()
    assert [frame.control & 0x0F for frame in peer.ready()] == [Command.RR]
    device.pending[1].answer(ActionResult.SUCCESS)
    assert late == []
    assert peer.collect(peer.ready()).hex() == "c701c10000"


def test_silence_ends_the_link_and_its_association(clock):
    line, _ = open_line(clock, inactivity_timeout=120)
    peer, other = associated(line), associated(line, client=2)
    clock.now += 100
    assert peer.ask(GET_NAME) == NAME
    line.expire()
    assert (line.links, line.associations) == (2, 2)
    clock.now += 100
    line.expire()
    assert (line.links, line.associations) == (1, 1)
    assert [frame.control for frame in other.ready()] == [Command.DM | POLL]
    assert peer.ask(GET_NAME) == NAME


def test_snrm_begins_anew(clock):
    line, _ = open_line(clock)
    peer = associated(line)
    peer.connect()
    assert line.associations == 0
    assert peer.ask(GET_NAME)[:1] == b"\xd8"


def test_links_of_several_clients_do_not_mix(clock):
    line, _ = open_line(clock)
    first, second, third = associated(line), associated(line, client=2), associated(line, octets=4)
    request = get(15, bytes((0, 0, 40, 0, 0, 255)), 2)
    answers = [peer.information(hdlc.LLC_COMMAND + request) for peer in (first, second, third)]
    wholes = [peer.collect(answer) for peer, answer in zip((first, second, third), answers, strict=True)]
    assert wholes[0] == wholes[2] != wholes[1]
    assert (line.links, line.associations) == (3, 3)


def test_links_and_what_they_hold_are_bounded(clock):
    line, device = open_line(clock, max_links=4, max_held=5000)
    for sap in range(20, 40):
        line._server.devices[sap] = device
    answers = [Peer(line, upper=sap).transceive(SNRM)[0].control & ~POLL for sap in range(20, 40)]
    assert answers == [Command.UA] * 4 + [Command.DM] * 16
    peers = [associated(line, upper=sap) for sap in range(20, 24)]
    # requests that never end
    for peer in peers[:2]:
        answers = [peer.information(bytes(128), segmented=True)[0].control & 0x0F for _ in range(100)]
        assert answers == [Command.RR] * answers.count(Command.RR) + [Command.RNR] * answers.count(Command.RNR)
        assert Command.RNR in answers
        assert sum(link.held for link in line._links.values()) <= 5000
    # replies that nobody fetches
    device.put(1, NOTE, 2, axdr.octet_string(bytes(400)))
    for peer in peers[2:]:
        replies = [peer.information(hdlc.LLC_COMMAND + get(1, NOTE, 2)) for _ in range(50)]
        assert replies[-1]
    assert sum(link.held for link in line._links.values()) <= 5000 + 50 * 2 * 8


def test_the_server_is_not_ready_while_others_hold_its_room(clock):
    line, device = open_line(clock, max_held=3000)
    line._server.devices[20] = device
    greedy, honest = associated(line, upper=20), associated(line)
    while greedy.information(bytes(128), segmented=True)[0].control & 0x0F == Command.RR:
        pass
    octets = hdlc.LLC_COMMAND + b"\xc1\x01\xc1" + b"\0\1" + NOTE + b"\2\0" + axdr.octet_string(bytes(200))
    pieces = [octets[at : at + 100] for at in range(0, len(octets), 100)]
    (answer,) = honest.information(pieces[0], segmented=True)
    assert answer.control == 0x20 | POLL | Command.RNR  # N(R) is still that of the refused frame
    (answer,) = honest.ready()
    assert answer.control == 0x20 | POLL | Command.RNR
    greedy.transceive(Command.DISC | POLL)
    (answer,) = honest.ready()
    assert answer.control == 0x20 | POLL | Command.RR
    honest.sent -= 1
    for piece in pieces[:-1]:
        (answer,) = honest.information(piece, segmented=True)
        assert answer.control & 0x0F == Command.RR
    assert honest.collect(honest.information(pieces[-1])).hex() == "c501c100"


def test_a_request_longer_than_any_is_rejected(clock):
    line, _ = open_line(clock, max_held=1 << 20)
    peer = associated(line, asked=Parameters(2030, 2030, 1, 1))
    answers = [peer.information(bytes(2030), segmented=True)[0].control & ~POLL for _ in range(40)]
    assert answers.index(Command.FRMR) == 65538 // 2030


def test_many_requests_at_once_leave_a_turn_to_others(clock):
    line, _ = open_line(clock)
    peer = associated(line)
    flood = encode(peer.addresses, peer.received << 5 | POLL | Command.RR) * 1000
    sizes = [len(line.receive(flood))]
    while line.backlog:
        sizes.append(len(line.receive(b"")))
    assert sizes[0] == 256 * 10
    assert sum(sizes) == 1000 * 10


# --- our own client


class Cable:
    """Runs a client's operations on a line."""

    def __init__(self, line):
        self.line = line

    def run(self, operation):
        octets = next(operation)
        splitter = Splitter(1)
        while True:
            splitter.add(self.line.receive(octets), 0)
            try:
                while (frame := splitter.next()) is not None:
                    octets = operation.send(frame)
            except StopIteration as end:
                return end.value


@pytest.mark.parametrize("options", [{}, {"max_info": 64, "window": 3}, {"max_info": 32, "window": 7}])
def test_our_client_and_our_server(clock, options):
    line, _ = open_line(clock, **options)
    link = HdlcLink(hdlc.encode_station(SAP, LOWER), 3)
    cable = Cable(line)
    cable.run(link.connect())
    client = Client(
        ClientSettings(client_sap=3, server_sap=SAP, mechanism=Mechanism.LLS, secret=SECRET), random=bytes
    )

    def transceive(apdu):
        return cable.run(link.exchange(apdu))

    drive(client.connect(), transceive)
    assert len(drive(client.get(7, PROFILE, 2), transceive)) == 1440
    assert transceive(b"\xc1\x01\xc1\0\1" + NOTE + b"\2\0" + axdr.octet_string(bytes(900))).hex() == "c501c100"
    for _ in range(10):
        assert drive(client.get(3, ENERGY, 2), transceive) == 123456
    cable.run(link.disconnect())
    assert line.links == 0
    with pytest.raises(RemoteError, match="DM"):
        transceive(GET_NAME)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40), st.booleans()), max_size=20))
@settings(max_examples=100, deadline=None)
def test_our_client_survives_any_answers(answers):
    link = HdlcLink(hdlc.encode_station(SAP, LOWER), 3)
    for operation in (link.connect(), link.disconnect()):
        next(operation)
        with contextlib.suppress(RemoteError, StopIteration):
            for control, information, segmented in answers:
                operation.send(hdlc.Frame(link.answers, control, information, segmented))
    link._longest = 50
    operation = link.exchange(bytes(200))
    next(operation)
    with contextlib.suppress(RemoteError, StopIteration):
        for control, information, segmented in answers:
            operation.send(hdlc.Frame(link.answers, control, information, segmented))


# --- hostile lines


@given(st.lists(st.binary(max_size=80) | st.just(encode(b"\x22\x21\x07", SNRM)) | st.just(b"~"), max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_stream(chunks):
    line, _ = open_line(lambda: 1.0)
    for chunk in chunks:
        octets = line.receive(chunk)
        assert len(frames_of(octets)) == octets.count(encode(b"\x07\x22\x21", Command.UA | POLL)[3:7])
    assert len(line._splitter._octets) < 2200


def test_mutated_frames(clock):
    """Broken frames, and unbroken ones with broken content: only valid frames come back, memory is flat."""
    chance = random.Random(20260202)
    line, device = open_line(clock, limits=Limits(max_long_value=4096))
    device.breaker_later = True
    peers = [Peer(line, client=client, octets=octets) for client in (1, 3, 16) for octets in (1, 2, 4)]
    samples, answered = seeds(), 0
    for number in range(4000):
        clock.now += chance.choice((0.001, 0.001, 0.01, 7))
        peer = chance.choice(peers)
        if number % 25 == 0:
            line.receive(encode(peer.addresses, SNRM, Parameters(128, 64, 3, 3).encode()))
            line.receive(encode(peer.addresses, POLL, hdlc.LLC_COMMAND + LLS))
        link = line._links.get(peer.addresses)
        control = link._next << 1 | (link._acknowledged + link._flight & 7) << 5 | POLL if link else 0x10
        if chance.random() < 0.3:
            control = chance.randrange(256)
        body = hdlc.LLC_COMMAND + chance.choice(samples)
        if chance.random() < 0.5:
            frame = mutate(chance, encode(peer.addresses, control, body[:128]))
        else:
            broken = mutate(chance, body) if chance.random() < 0.8 else chance.randbytes(chance.randrange(200))
            frame = encode(peer.addresses, control, broken[:1900], segmented=chance.random() < 0.2)
        octets = line.receive(frame)
        while line.backlog:
            octets += line.receive(b"")
        found = frames_of(octets)
        assert len(b"".join(encode(*f[:3], segmented=f.segmented) for f in found)) == len(octets)
        answered += bool(found)
        device.pending.clear()
        if number % 500 == 0:
            line.expire()
    assert answered > 1000
    assert line.links <= 64
    assert sum(link.held for link in line._links.values()) <= line._settings.max_held
    clock.now += 10
    peer = associated(line)
    assert peer.ask(get(3, ENERGY, 2)).hex() == "c401c1000600" + "01e240"
