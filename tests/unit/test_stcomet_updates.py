"""Firmware through the concentrator's shell: images line by line, blocks to real STCOMET meters, activation."""

from __future__ import annotations

import binascii
import hashlib
import itertools
import random

import pytest
from test_stcomet_concentrator import Terminal

from flexmap.stcomet import firmware
from flexmap.stcomet.catalogue import BLOCK
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.firmware import Binary, FwUp, FwUpRequest, FwUpResult
from flexmap.stcomet.mnsh import MAX_REQUEST, Mark
from flexmap.stcomet.updates import MOST_REFUSALS, State

IMAGE = random.Random(5).randbytes(4000)
DIGEST = hashlib.sha256(IMAGE).hexdigest()


def announce(name="plc", binary=2, version=7, image=IMAGE):
    return f"FW IMAGE {name} {binary} {version} {len(image)} {hashlib.sha256(image).hexdigest()}"


def block(offset, octets, name="plc"):
    return f"FW BLOCK {name} {offset} 0x{binascii.crc_hqx(octets, 0xFFFF):04x} {octets.hex()}"


def upload(terminal, image=IMAGE, start=0, name="plc"):
    have = start
    while have < len(image):
        (end,) = terminal.reply(block(have, image[have : have + BLOCK], name), 0.01)
        assert end.done, end
        assert int(end.fields["have"]) > have
        have = int(end.fields["have"])


def status(terminal, meter="SM_ID1"):
    (end,) = terminal.reply(f"FW STATUS {meter}", 0.01)
    return end.fields


@pytest.fixture
def terminal():
    return Terminal()


def loaded(terminal):
    assert terminal.reply(announce())[-1].fields == {"have": "0"}
    upload(terminal)
    return terminal


def test_the_longest_block_fits_into_a_line():
    line = f"#65535 {block(512 * 1024, bytes(BLOCK), 'x' * 16)}"
    assert len(line) <= MAX_REQUEST


def test_an_image_is_given_resumed_and_checked(terminal):
    terminal.reply(announce())
    assert terminal.reply(block(0, IMAGE[:BLOCK]))[-1].fields == {"have": f"{BLOCK}"}
    # Again, overlapping, and beyond: what is there stays, the reply says where to go on.
    assert terminal.reply(block(0, IMAGE[:BLOCK]))[-1].fields == {"have": f"{BLOCK}"}
    assert terminal.reply(block(40, IMAGE[40 : 40 + BLOCK]))[-1].fields == {"have": f"{BLOCK + 40}"}
    assert terminal.reply(block(3000, IMAGE[3000:3010]))[-1].fields == {"have": f"{BLOCK + 40}"}
    assert terminal.reply(block(8, IMAGE[:BLOCK]))[-1].fields == {"have": f"{BLOCK + 40}"}
    assert terminal.error("FW SEND plc SM_ID1") == "IMAGE"
    assert terminal.error(f"FW BLOCK plc 0 1 {IMAGE[:4].hex()}") == "PARAMETER"
    assert terminal.reply(announce())[-1].fields == {"have": f"{BLOCK + 40}"}
    upload(terminal, start=BLOCK + 40)
    image, end = terminal.reply("FW IMAGES")
    assert end.fields == {"images": "1"}
    assert image.words == ("plc",)
    assert image.fields == {"binary": "PLC", "version": "7", "have": "4000", "of": "4000", "sha256": DIGEST}


def test_an_image_unlike_its_announcement_is_emptied(terminal):
    terminal.reply(announce(image=IMAGE[:96]))
    assert terminal.error(block(0, bytes(96))) == "IMAGE"
    assert terminal.reply(announce(image=IMAGE[:96]))[-1].fields == {"have": "0"}
    assert terminal.reply(block(0, IMAGE[:96]))[-1].fields == {"have": "96"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (announce(binary=0), "REFUSED"),
        (announce(binary=1), "REFUSED"),
        (announce(binary=4), "PARAMETER"),
        (announce(name="a/b"), "PARAMETER"),
        (announce(name=".a"), "PARAMETER"),
        (f"FW IMAGE plc 2 7 0 {DIGEST}", "PARAMETER"),
        (f"FW IMAGE plc 2 7 {firmware.LARGEST + 1} {DIGEST}", "PARAMETER"),
        (f"FW IMAGE plc 2 7 100 {DIGEST}00", "PARAMETER"),
        ("FW BLOCK other 0 0xffff 00", "PARAMETER"),
        (f"FW BLOCK other 0 {binascii.crc_hqx(b'x', 0xFFFF)} 78", "IMAGE"),
        ("FW SEND other SM_ID1", "IMAGE"),
        ("FW DROP other", "IMAGE"),
        ("FW STATUS SM_ID1", "REFUSED"),
        ("FW ACTIVATE SM_ID1", "REFUSED"),
        ("FW STOP SM_ID1", "REFUSED"),
        ("FW STATUS SM_ID9", "METER"),
    ],
)
def test_refusals_tell_the_cause(terminal, line, code):
    assert terminal.error(line) == code


def test_images_are_few(terminal):
    for number in range(8):
        assert terminal.reply(announce(f"i{number}"))[-1].done
    assert terminal.error(announce("i8")) == "BUSY"
    assert terminal.error(announce("i3", version=8)) == "REFUSED"
    assert terminal.reply("FW DROP i3")[-1].done
    assert terminal.reply(announce("i3", version=8))[-1].done


@pytest.mark.parametrize("binary", [Binary.PLC, Binary.NON_LEGAL])
def test_several_meters_from_one_image_each_checked_and_activated(terminal, binary):
    terminal.reply(announce(binary=binary))
    upload(terminal)
    meters = ("SM_ID0", "SM_ID1", "SM_ID2")
    for meter in meters:
        assert terminal.reply(f"FW SEND plc {meter}", 0.01)[-1].fields["state"] == "sending"
    assert terminal.error("FW DROP plc", 0.01) == "REFUSED"
    lines = terminal.type("SYS VERSION", 30)
    told = [line.fields for line in lines if line.mark is Mark.UNASKED and line.words == ("FIRMWARE",)]
    assert sorted(fields["meter"] for fields in told) == sorted(meters), told
    assert {(fields["state"], fields["offset"], fields["of"]) for fields in told} == {("verified", "4000", "4000")}
    assert terminal.pan.meters[1].firmware.versions[binary] == 1
    lines = terminal.type("FW ACTIVATE SM_ID1", 20)
    assert next(line for line in lines if line.done).fields["state"] == "activating"
    assert status(terminal)["state"] == "active"
    assert status(terminal)["running"] == "7"
    assert terminal.pan.meters[2].firmware.versions[binary] == 7
    assert terminal.pan.meters[1].firmware.versions[binary] == 1
    assert terminal.reply("FW ACTIVATE SM_ID1")[-1].fields["state"] == "active"
    *transfers, _ = terminal.reply("FW TRANSFERS")
    assert [line.fields["state"] for line in transfers] == ["verified", "active", "verified"]


def test_a_silent_meter_gets_the_rest_later_and_one_that_comes_back_at_once(terminal):
    loaded(terminal)
    terminal.reply("FW SEND plc SM_ID1", 1)
    before = int(status(terminal)["offset"])
    assert 0 < before < 4000
    terminal.pan.deaf.add(2)
    terminal.run(60)
    assert status(terminal)["cause"] == "silent"
    terminal.pan.deaf.clear()
    terminal.run(60)
    assert status(terminal)["state"] == "verified"
    terminal.reply("FW SEND plc SM_ID2", 0.5)
    terminal.pan.kick(f"{3:016x}")
    terminal.run(200)
    terminal.pan.join(3)
    terminal.run(10)
    assert status(terminal, "SM_ID2")["state"] == "verified"


def test_lost_replies_and_a_meter_that_has_forgotten_do_no_harm(terminal):
    loaded(terminal)
    terminal.reply("FW SEND plc SM_ID1", 0.9)
    terminal.pan.lose_replies = 3
    terminal.run(120)
    assert status(terminal)["state"] == "verified"
    terminal.reply("FW SEND plc SM_ID2", 0.9)
    terminal.pan.meters[3].firmware._image = None
    terminal.pan.meters[3].firmware._octets.clear()
    terminal.run(20)
    assert status(terminal, "SM_ID2")["state"] == "verified"


def test_an_activation_whose_answers_are_lost_is_found_out(terminal):
    loaded(terminal)
    terminal.reply("FW SEND plc SM_ID1", 10)
    terminal.pan.lose_replies = 3  # two answers, and the event that the new version runs
    assert terminal.error("FW ACTIVATE SM_ID1", 30) == "SILENT"
    terminal.run(60)
    assert status(terminal)["state"] == "active"


def test_damage_in_the_meter_is_sent_again_and_a_meter_that_refuses_for_ever_is_given_up(terminal):
    loaded(terminal)
    meter = terminal.pan.meters[2].firmware
    terminal.reply("FW SEND plc SM_ID1", 1)
    meter._octets[5] ^= 1
    terminal.run(60)
    assert status(terminal)["state"] == "verified"
    assert bytes(meter._octets) == IMAGE
    meter.handle = lambda request: firmware.FwUpReply(request.operation, request.id, FwUpResult.ORDER, 0, 1)
    terminal.reply("FW STOP SM_ID1")
    terminal.reply("FW SEND plc SM_ID1", 10 * MOST_REFUSALS)
    assert status(terminal)["state"] == "failed"
    assert status(terminal)["cause"] == "the meter refuses: order"


def test_reads_go_before_blocks_and_blocks_are_not_starved(terminal):
    loaded(terminal)
    terminal.pan.sent.clear()
    terminal.reply("FW SEND plc SM_ID2", 0.01)
    for tag in range(200):
        terminal.shell.feed(f"#{tag} APP READ SM_ID{tag % 2} 2 0 1\n".encode())
    terminal.run(60)
    kinds = [octets[0] for _, _, octets, _ in terminal.pan.sent if octets[0] in {0x01, 0x10}]
    places = [place for place, kind in enumerate(kinds) if kind == 0x01]
    assert len(places) == 14  # BEGIN, twelve blocks, VERIFY
    between = [after - before - 1 for before, after in itertools.pairwise(places)]
    assert set(between[:12]) <= {8, 9}
    assert status(terminal, "SM_ID2")["state"] == "verified"


def test_what_is_kept_goes_on_in_another_concentrator(terminal):
    loaded(terminal)
    terminal.reply("FW SEND plc SM_ID1", 1)
    kept = terminal.core.updates.kept()
    terminal.core.updates.stop(terminal.core.find("SM_ID1"))
    again = terminal.pan.user = Concentrator(terminal.pan, terminal.pan.time, 77, shelf=terminal.core.shelf)
    again.updates.resume(kept)
    terminal.run(10)
    assert [(each.state, each.offset) for each in again.updates] == [(State.VERIFIED, 4000)]


def test_the_update_protocol_has_verification_without_consequences(terminal):
    meter = terminal.pan.meters[2].firmware

    def ask(operation, **fields):
        octets = firmware.encode_request(FwUpRequest(operation, 1, **fields))
        return meter.handle(firmware.decode_request(octets)).result

    digest = hashlib.sha256(b"new").digest()
    assert ask(FwUp.VERIFY) is FwUpResult.ORDER
    ask(FwUp.BEGIN, binary=2, version=3, size=3, digest=digest)
    assert ask(FwUp.VERIFY) is FwUpResult.DIGEST
    ask(FwUp.BLOCK, offset=0, octets=b"new")
    assert ask(FwUp.VERIFY) is FwUpResult.DONE
    assert meter.replacing is None
    assert meter.versions[Binary.PLC] == 1
    meter.replace()
    for _ in range(3):
        meter.tick()
    assert meter.versions[Binary.PLC] == 3
    assert ask(FwUp.ACTIVATE) is FwUpResult.DONE  # the answer before was lost
    assert ask(FwUp.VERIFY) is FwUpResult.ORDER


def test_forged_and_mutated_replies_move_nothing_but_counters():
    terminal = loaded(Terminal())
    draw = random.Random(3)
    terminal.pan.deaf.add(2)
    terminal.reply("FW SEND plc SM_ID1", 0.01)
    for _ in range(20_000):
        reply = firmware.FwUpReply(draw.choice(list(FwUp)), draw.randrange(0x10000), FwUpResult.DONE, 4000, 7)
        octets = bytearray(firmware.encode_reply(reply))
        for _ in range(draw.choice([0, 1, 1, 3])):
            match draw.randrange(3):
                case 0:
                    octets[draw.randrange(len(octets))] = draw.randrange(256)
                case 1:
                    octets += draw.randbytes(draw.randrange(9))
                case _:
                    del octets[draw.randrange(len(octets)) :]
                    octets = octets or bytearray(b"\x02")
        terminal.core.datagram(draw.choice([1, 3, 9]), bytes(octets))  # of others than the meter that is asked
    assert status(terminal)["state"] == "sending"
    assert status(terminal)["offset"] == "0"
    total = terminal.core.requests.total
    assert total.late + total.malformed == 20_000
    assert min(total.late, total.malformed) > 1000
