"""A whole meter: its tasks and messages, commands that come twice, LCD, replacement of binaries."""

import hashlib
import random

import pytest
from stcomet_site import START, site

from flexmap.model import EventCode, LocalError, RemoteError
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.stcomet import firmware, payload
from flexmap.stcomet.app import DATA_PORT, RESPONDER_PORT, Datagram
from flexmap.stcomet.firmware import Binary, FwUp, FwUpRequest, FwUpResult
from flexmap.stcomet.meter import Meter
from flexmap.stcomet.metro import MeterIdentity
from flexmap.stcomet.metrology import UNIT, Metrology
from flexmap.stcomet.payload import (
    BreakerRequest,
    EventsRequest,
    IdentityRequest,
    Origin,
    ReadRequest,
    Reason,
    Refusal,
    Result,
)
from flexmap.stcomet.record import Layout, Status
from flexmap.stcomet.rtos import QUEUE, MessageId, Rtos, Task


class Bench:
    """One meter with a line of its own."""

    def __init__(self, name="M0", depth=100, **settings):
        self.model = site(1, **settings)
        self.feed = SiteFeed(self.model).meter(name)
        layout = Layout.THREE_PHASE if name == "SUB" else Layout.SINGLE_PHASE
        metrology = Metrology(layout, self.feed, registers=self.feed.registers(), depth=depth)
        self.sent: list[Datagram] = []
        self.meter = Meter(metrology, self.feed, MeterIdentity("FM1", "Meter one", "1.0"), self.sent.append)
        self.now = START

    def run(self, seconds: int = 1):
        for _ in range(seconds):
            self.meter.tick(self.now)
            self.now += 1

    def ask_raw(self, octets: bytes, port: int = DATA_PORT, peer_port: int = 0xF0B1) -> bytes | None:
        self.sent.clear()
        self.meter.receive(Datagram(0, peer_port, port, octets))
        replies = [each for each in self.sent if each.peer_port == peer_port]
        assert len(replies) <= 1
        return replies[0].octets if replies else None

    def ask(self, message):
        octets = self.ask_raw(payload.encode(message))
        return None if octets is None else payload.decode(octets)

    def notices(self):
        return [payload.decode(each.octets) for each in self.sent if each.peer_port == DATA_PORT]


@pytest.fixture
def bench():
    made = Bench()
    made.run(10)
    return made


def test_a_request_takes_the_documented_way(bench, monkeypatch):
    seen = []
    send = bench.meter.rtos.send

    def spy(destination, name, body=None):
        seen.append((destination.name, name.value))
        send(destination, name, body)

    # Tasks hold the method itself: they are created anew under the spy.
    monkeypatch.setattr(bench.meter.rtos, "send", spy)
    for binary in (Binary.NON_LEGAL,):
        for task in firmware.TASKS[binary]:
            bench.meter.rtos.delete(task)
        bench.meter._enter(binary)
    bench.meter._metro._send = spy
    assert bench.ask(ReadRequest(1)).records[0].time == START + 9
    assert seen == [
        ("PLC", "X_PLC_RX_EVENT"),
        ("TCPIP", "X_TCPIP_RX_EVENT"),
        ("PLC", "X_PLC_UDPDATAINDPAYLOAD_EVENT"),
        ("APP", "X_APP_RX_EVENT"),
        ("PARSER", "X_PARSER_INDICATION"),
        ("METRO", "X_METRO_GET_DATA"),
        ("APP", "X_METRO_SET_DATA"),
        ("TCPIP", "X_TCPIP_TX_EVENT"),
        ("PLC", "X_PLC_TX_EVENT"),
    ]


def test_identity(bench):
    who = bench.ask(IdentityRequest(7))
    assert (who.id, who.layout, who.depth, who.oldest, who.next) == (7, Layout.SINGLE_PHASE, 100, 0, 10)
    assert (who.serial, who.name, who.firmware, who.time) == ("FM1", "Meter one", "1.0", (START + 9) * 1000)


def test_reads_by_time_sequence_and_tail(bench):
    everything = bench.ask(ReadRequest(1, Origin.SEQUENCE, 0, 1000))
    assert [record.time for record in everything.records] == list(range(START, START + 10))
    assert bench.ask(ReadRequest(2, Origin.TIME, START + 7, 1000)).records == everything.records[7:]
    assert bench.ask(ReadRequest(3, Origin.TIME, START + 99, 1000)).records == ()
    assert bench.ask(ReadRequest(4, Origin.SEQUENCE, 4, 2)).records == everything.records[4:6]
    # The tail moves only by what the next request confirms; a repeated request finds the same.
    for _ in range(2):
        assert bench.ask(ReadRequest(5, Origin.TAIL, 0, 3)).records == everything.records[:3]
    for _ in range(2):
        assert bench.ask(ReadRequest(6, Origin.TAIL, 3, 3)).records == everything.records[3:6]
    assert bench.ask(ReadRequest(7, Origin.TAIL, 10, 3)).records == ()


def test_overwritten_records_are_said_to_be_lost():
    bench = Bench(depth=10)
    bench.run(25)
    for request in (ReadRequest(1, Origin.SEQUENCE, 3, 99), ReadRequest(1, Origin.TIME, START + 3, 99)):
        reply = bench.ask(request)
        assert reply.lost
        assert [record.sequence for record in reply.records] == list(range(15, 25))
    assert bench.ask(ReadRequest(1, Origin.TAIL, 0, 99)).lost
    assert not bench.ask(ReadRequest(1, Origin.SEQUENCE, 15, 99)).lost


def test_more_to_come_leads_to_every_record_once():
    bench = Bench(depth=900)
    bench.run(900)
    records, start, more = [], 0, True
    while more:
        reply = bench.ask(ReadRequest(1, Origin.SEQUENCE, start, 65535, 380))
        records += reply.records
        start, more = records[-1].sequence + 1, reply.more
    assert [record.sequence for record in records] == list(range(900))
    assert [record.time for record in records] == list(range(START, START + 900))


def test_breaker_command_acts_once(bench):
    operations = bench.model.meters["M0"].breaker.operations
    request = BreakerRequest(21, False, START + 60)
    assert bench.ask(request).result is Result.DONE
    assert [event.code for notice in bench.notices() for event in notice.events] == [
        EventCode.REMOTE_DISCONNECTION
    ]
    for _ in range(3):
        assert bench.ask(request).result is Result.DONE  # the same reply, not the same deed
    assert bench.model.meters["M0"].breaker.operations == operations + 1
    assert bench.ask(BreakerRequest(22, False)).result is Result.UNCHANGED
    bench.run(2)
    latest = bench.ask(ReadRequest(1)).records[0]
    assert not latest.state.status & Status.BREAKER_CLOSED
    assert latest.state.breaker_operations == operations + 1
    assert latest.measured[2:] == (0, 0, 0, 0)
    assert bench.ask(BreakerRequest(23, True)).result is Result.DONE


def test_breaker_refusals_tell_the_cause(bench):
    late = bench.ask(BreakerRequest(30, False, START + 2))
    assert (late.result, late.cause) == (Result.REFUSED, "the command came too late")
    fixed = Bench(control_mode=0)
    fixed.run()
    refused = fixed.ask(BreakerRequest(31, False))
    assert refused.result is Result.REFUSED
    assert "control mode 0" in refused.cause


def test_tampering_reaches_concentrator_log_and_records(bench):
    bench.model.meters["M0"].force_cover(True)
    bench.sent.clear()
    bench.run()
    (notice,) = bench.notices()
    assert notice.events[0].code in {EventCode.TERMINAL_COVER_OPENED, EventCode.METER_COVER_OPENED}
    assert all(each.priority for each in bench.sent)
    reply = bench.ask(ReadRequest(1))
    assert reply.records[0].state.status & Status.COVER_OPEN
    assert reply.next_event == notice.first + 1
    events = bench.ask(EventsRequest(2, notice.first))
    assert (events.first, events.events, events.more) == (notice.first, notice.events, False)


def test_event_log_pages_and_overwrites(bench):
    for number in range(300):
        bench.model.meters["M0"].force_cover(number % 2 == 0)
        bench.run()
    first = bench.ask(EventsRequest(1, 0, 110))
    assert (len(first.events), first.more) == (10, True)
    assert first.first == bench.meter._metro.next_event - 256
    assert len(bench.ask(EventsRequest(1, 0)).events) == 119


def test_loopback_and_test_datagrams(bench):
    assert bench.ask_raw(b"anything", RESPONDER_PORT) == b"anything"
    bench.meter.set_attribute("loopback", 0)
    assert bench.ask_raw(b"anything", RESPONDER_PORT) is None
    bench.meter.set_attribute("loopback", 1)
    assert bench.ask_raw(b"", RESPONDER_PORT) == b""
    assert bench.ask_raw(bytes.fromhex("03aabbcc")) == bytes.fromhex("04aabbcc")
    assert bench.ask_raw(bytes.fromhex("04aabbcc")) is None
    assert bench.ask_raw(b"") is bench.ask_raw(b"\xee") is None
    assert bench.meter.rtos.alive(Task.APP)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [("10110005", Reason.VERSION), ("10200005", Reason.OPERATION), ("1022000500", Reason.FORM)],
)
def test_what_is_not_understood_is_refused_with_its_reason(bench, octets, reason):
    assert payload.decode(bench.ask_raw(bytes.fromhex(octets))) == Refusal(5, reason)


def test_replies_are_never_refused(bench):
    for octets in ("101f000501", "101a0005", "10160005", "10"):
        assert bench.ask_raw(bytes.fromhex(octets)) is None


def test_lcd(bench):
    assert bench.meter.lcd() == ("flexmap meter", "")
    latest = bench.meter.metrology.ring.latest()
    pages = []
    for _ in range(6):
        bench.meter.press(1)
        pages.append(bench.meter.lcd())
    assert pages == [
        ("Active energy", f"{latest.energies[0]} Wh"),
        ("Reactive energy", f"{latest.energies[2]} VARh"),
        ("Apparent energy", f"{latest.energies[4]} VAh"),
        ("Active power", f"{latest.measured[2]} W"),
        ("Reactive power", f"{latest.measured[3]} VAR"),
        ("Apparent power", f"{latest.measured[4]} VA"),
    ]
    bench.meter.press(1)
    assert bench.meter.lcd() == pages[0]
    bench.meter.press(-1)
    assert bench.meter.lcd() == pages[5]
    before = bench.meter.lcd()
    bench.run(30)
    assert bench.meter.lcd() != before  # refreshed


def test_lcd_of_the_three_phase_meter_shows_totals():
    bench = Bench("SUB")
    bench.run(3)
    for _ in range(4):
        bench.meter.press(1)
    assert bench.meter.lcd() == ("Active power", f"{bench.meter.metrology.ring.latest().measured[16]} W")


def upload(bench, binary, image, version=2, digest=None):
    digest = digest or hashlib.sha256(image).digest()
    begin = FwUpRequest(FwUp.BEGIN, 1, binary, version, len(image), digest)
    reply = fwup(bench, begin)
    while reply.result is FwUpResult.DONE and reply.offset < len(image):
        block = image[reply.offset : reply.offset + 1024]
        reply = fwup(bench, FwUpRequest(FwUp.BLOCK, 2, offset=reply.offset, octets=block))
    return reply


def fwup(bench, request):
    octets = bench.ask_raw(firmware.encode_request(request))
    return None if octets is None else firmware.decode_reply(octets)


IMAGE = random.Random(1).randbytes(200_000)


@pytest.mark.parametrize("binary", [Binary.NON_LEGAL, Binary.PLC])
def test_the_legal_part_counts_on_while_a_binary_is_replaced(binary):
    """The meter being upgraded and one left alone agree in every record, to the count of mW·s."""
    bench, plain = Bench(depth=500), Bench(depth=500)
    for each in (bench, plain):
        each.run(20)
    assert upload(bench, binary, IMAGE).offset == len(IMAGE)
    assert fwup(bench, FwUpRequest(FwUp.ACTIVATE, 3)).result is FwUpResult.DONE
    stopped = firmware.TASKS[binary]
    assert bench.meter.firmware.replacing is binary
    assert not any(bench.meter.rtos.alive(task) for task in stopped)
    assert bench.meter.rtos.alive(Task.METRO)
    silent = 0
    discarded = bench.meter.rtos.discarded[stopped[0]]
    while bench.meter.firmware.replacing is not None:
        assert bench.ask(ReadRequest(1)) is None
        silent += 1
        bench.run()
        assert silent < 60
    assert silent == 4  # 200,000 octets at 64 KiB a second
    assert bench.meter.rtos.discarded[stopped[0]] >= discarded + silent
    assert bench.meter.firmware.versions[binary] == 2
    again = fwup(bench, FwUpRequest(FwUp.ACTIVATE, 3))  # as if its answer had been lost
    assert (again.result, again.running) == (FwUpResult.DONE, 2)
    assert bench.meter.firmware.replacing is None
    bench.run(300)
    plain.run(bench.now - plain.now)
    mine, others = bench.meter.metrology, plain.meter.metrology
    assert mine.registers == others.registers
    assert mine.registers[0][0] // UNIT > bench.model.meters["M0"].registers[0][0] // UNIT - 2
    records = bench.ask(ReadRequest(1, Origin.SEQUENCE, 0, 65535))
    assert records.records == tuple(others.ring.since(0))[: len(records.records)]
    assert list(mine.ring.since(0)) == list(others.ring.since(0))
    assert [record.time for record in mine.ring.since(0)] == list(range(START, bench.now))


@pytest.mark.parametrize("binary", [Binary.GENERIC, Binary.LEGAL, 9])
def test_a_legal_binary_is_refused(bench, binary):
    assert upload(bench, binary, IMAGE[:100]).result is FwUpResult.LEGAL
    assert fwup(bench, FwUpRequest(FwUp.ACTIVATE, 3)).result is FwUpResult.ORDER
    assert all(bench.meter.rtos.alive(task) for task in Task)


def test_an_image_that_is_not_what_was_announced_is_not_started(bench):
    upload(bench, Binary.PLC, IMAGE[:3000], digest=bytes(32))
    assert fwup(bench, FwUpRequest(FwUp.ACTIVATE, 3)).result is FwUpResult.DIGEST
    bench.run(5)
    assert bench.meter.firmware.versions[Binary.PLC] == 1
    assert bench.ask(IdentityRequest(1)) is not None


def test_blocks_may_come_twice_but_not_out_of_order(bench):
    image = IMAGE[:3000]
    begin = FwUpRequest(FwUp.BEGIN, 1, Binary.PLC, 5, 3000, hashlib.sha256(image).digest())

    def block(offset, octets):
        reply = fwup(bench, FwUpRequest(FwUp.BLOCK, 2, offset=offset, octets=octets))
        return reply.result, reply.offset

    assert block(0, b"x") == (FwUpResult.ORDER, 0)
    assert fwup(bench, begin).running == 1
    assert block(0, image[:1000]) == (FwUpResult.DONE, 1000)
    assert block(0, image[:1000]) == (FwUpResult.DONE, 1000)
    assert fwup(bench, begin).offset == 1000  # goes on after a break
    assert block(500, image[500:1500]) == (FwUpResult.DONE, 1500)
    assert block(500, b"other") == (FwUpResult.ORDER, 1500)
    assert block(1600, image[1600:]) == (FwUpResult.ORDER, 1500)
    assert block(1500, image[1500:] + b"x") == (FwUpResult.SIZE, 1500)
    assert block(1500, image[1500:]) == (FwUpResult.DONE, 3000)
    assert fwup(bench, FwUpRequest(FwUp.STATUS, 9)).offset == 3000
    too_big = FwUpRequest(FwUp.BEGIN, 1, Binary.PLC, 5, firmware.LARGEST + 1, bytes(32))
    assert fwup(bench, too_big).result is FwUpResult.SIZE


def test_hostile_datagrams_change_nothing_and_stop_nothing(bench):
    generator = random.Random(9)
    seeds = [
        payload.encode(ReadRequest(1, Origin.TIME, START, 99)),
        payload.encode(EventsRequest(1, 0)),
        firmware.encode_request(FwUpRequest(FwUp.BEGIN, 1, 2, 3, 4, bytes(32))),
        firmware.encode_request(FwUpRequest(FwUp.BLOCK, 1, offset=0, octets=b"abc")),
        bytes((3, 1, 2, 3)),
    ]
    for number in range(5000):
        octets = bytearray(seeds[number % len(seeds)])
        for _ in range(generator.randrange(1, 5)):
            octets[generator.randrange(len(octets))] = generator.randrange(256)
        octets = octets[: generator.randrange(len(octets) + 1)] if number % 3 == 0 else octets
        port = generator.choice((DATA_PORT, RESPONDER_PORT, 1))
        bench.meter.receive(Datagram(generator.randrange(65536), 5, port, bytes(octets)))
    bench.sent.clear()
    bench.run()
    assert len(bench.ask(ReadRequest(1, Origin.SEQUENCE, 0, 1000)).records) == 11
    assert bench.meter._metro.metrology.registers[0][0] <= bench.model.meters["M0"].registers[0][0]


def test_fwup_messages_are_strict():
    for octets in (b"", b"\x01", b"\x01\x09\0\0", b"\x01\x03\0\0\0", b"\x02\x03\0\0", b"\x01\x02\0\0\0"):
        with pytest.raises(RemoteError):
            firmware.decode_request(octets)
    for octets in (b"", b"\x02\x01\0\0" + bytes(8), b"\x01\x01\0\0" + bytes(9), b"\x02\x01\0\0\x09" + bytes(8)):
        with pytest.raises(RemoteError):
            firmware.decode_reply(octets)


def test_queues_are_bounded_and_stopped_tasks_discard():
    rtos = Rtos()
    seen = []
    rtos.send(Task.APP, MessageId.X_APP_RX_EVENT)
    assert rtos.discarded[Task.APP] == 1
    rtos.create(Task.APP, seen.append)
    with pytest.raises(LocalError):
        rtos.create(Task.APP, seen.append)
    for number in range(QUEUE + 5):
        rtos.send(Task.APP, MessageId.X_APP_RX_EVENT, number)
    assert rtos.discarded[Task.APP] == 6
    rtos.run()
    assert [message.payload for message in seen] == list(range(QUEUE))
    rtos.send(Task.APP, MessageId.X_APP_RX_EVENT)
    rtos.delete(Task.APP)
    assert rtos.discarded[Task.APP] == 7
    rtos.run()
    assert len(seen) == QUEUE


@pytest.mark.parametrize("loss", [0.1, 0.4])
def test_not_one_second_is_missing_or_doubled_over_a_line_that_loses_and_repeats(loss):
    """An hour in which datagrams get lost both ways, come twice, and nothing comes at all for ten minutes."""
    bench = Bench(depth=900)
    generator = random.Random(int(loss * 100))
    collected, commands = [], 0
    for second in range(3600):
        bench.run()
        if 1200 <= second < 1800 or second % 5:
            continue
        start = collected[-1].sequence + 1 if collected else 0
        octets = payload.encode(ReadRequest(second % 65536, Origin.SEQUENCE, start, 65535, 380))
        if second % 500 == 0:
            octets = payload.encode(BreakerRequest(second, second % 1000 == 0))
            commands += 1
        for _ in range(12):
            if generator.random() < loss:
                continue
            answers = [bench.ask_raw(octets) for _ in range(generator.choice((1, 1, 1, 2)))]
            if generator.random() < loss:
                continue
            message = payload.decode(answers[-1])
            if isinstance(message, payload.Records):
                assert not message.lost
                collected += message.records
            break
    while True:
        reply = bench.ask(ReadRequest(1, Origin.SEQUENCE, collected[-1].sequence + 1, 65535, 380))
        collected += reply.records
        if not reply.more:
            break
    assert [record.sequence for record in collected] == list(range(3600))
    assert [record.time for record in collected] == list(range(START, START + 3600))
    assert 4 <= bench.model.meters["M0"].breaker.operations <= commands
