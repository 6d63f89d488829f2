"""The concentrator's shell over real STCOMET meters: what is typed, and what comes back."""

from __future__ import annotations

import random

import pytest
from stcomet_pan import DELAY, DelayPan
from stcomet_site import START

from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.commands import HANDLERS
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.mnsh import Mark, parse_line
from flexmap.stcomet.shell import Shell


class Terminal:
    """A pan, its concentrator and one session."""

    def __init__(self, count: int = 2, **pan) -> None:
        self.pan = DelayPan(count, **pan)
        self.core = Concentrator(self.pan, self.pan.time, 0xFFFE)
        self.pan.user = self.core
        self.output = bytearray()
        self.shell = Shell(self.core, self.output.extend)
        self.core.begin()
        self.run(20)

    def run(self, seconds: float) -> None:
        self.pan.time.run(self.pan.time.seconds() + seconds)

    def raw(self, octets: bytes, seconds: float = 60) -> str:
        self.output.clear()
        self.shell.feed(octets)
        self.run(seconds)
        return self.output.decode()

    def type(self, line: str, seconds: float = 60) -> list[mnsh.Line]:
        return [parse_line(text) for text in self.raw(line.encode() + b"\r\n", seconds).split("\r\n") if text]

    def reply(self, line: str, seconds: float = 60) -> list[mnsh.Line]:
        return [line for line in self.type(line, seconds) if line.mark is not Mark.UNASKED]

    def error(self, line: str, seconds: float = 60) -> str:
        (end,) = self.reply(line, seconds)
        assert end.words[0] == "ERROR"
        return end.words[1]


@pytest.fixture
def terminal():
    return Terminal()


def test_every_command_has_a_handler_and_no_handler_is_left_over():
    assert set(HANDLERS) == {(command.module, command.name) for command in mnsh.COMMANDS}


def test_meters_are_known_by_the_names_they_tell(terminal):
    *meters, end = terminal.reply("APP METERS")
    assert [line.words[0] for line in meters] == ["SM_ID0", "SM_ID1", "SM_ID2"]
    assert end.fields == {"meters": "3"}


def test_the_seeds_command_reads_the_tail_and_moves_it(terminal):
    *first, end = terminal.reply("APP GET_DATA_STREAM 10 SM_ID1", 2)
    assert [int(line.fields["seq"]) for line in first] == list(range(10))
    assert int(first[0].fields["time"]) == START
    assert end.fields == {"records": "10"}
    *second, _ = terminal.reply("APP GET_DATA_STREAM 3 SM_ID1", 2)
    assert [int(line.fields["seq"]) for line in second] == [10, 11, 12]
    ring = terminal.pan.meters[2].metrology.ring
    record = next(ring.since(12))
    assert int(second[2].fields["wh_in"]) == record.energies[0]
    assert int(second[2].fields["w"]) == record.measured[2]
    assert float(second[2].fields["v"]) == record.measured[1] / 10


def test_more_records_than_one_reply_holds(terminal):
    terminal.run(3000)
    *records, end = terminal.reply("APP GET_DATA_STREAM 2500 SM_ID0", 100)
    assert [int(line.fields["seq"]) for line in records] == list(range(2500))
    assert end.done
    assert {"w", "v1", "v2", "v3", "a3"} <= records[0].fields.keys()


def test_coded_read_is_the_meters_own_reply(terminal):
    octets, end = terminal.reply("APP READ SM_ID1 2 5 4")
    assert end.done
    records = payload.decode(mnsh.octets_of(octets)).records
    assert records == tuple(terminal.pan.meters[2].metrology.ring.since(5))[:4]


def test_a_silent_meter_is_asked_again_then_told_silent(terminal):
    terminal.pan.deaf.add(2)
    assert terminal.error("APP IDENTITY SM_ID1") == "SILENT"
    (status,) = terminal.reply("PLC STATUS SM_ID1")
    assert (status.fields["retries"], status.fields["silent"]) == ("1", "1")


def test_a_clock_setting_is_not_repeated_when_it_is_out_of_date(terminal):
    terminal.pan.deaf.add(2)
    terminal.pan.sent.clear()
    assert terminal.error(f"APP CLOCK SM_ID1 {START + 5000}") == "SILENT"
    assert len(terminal.pan.sent) == 1
    terminal.pan.deaf.clear()
    assert terminal.reply(f"APP CLOCK SM_ID1 {START + 5000}")[0].fields == {"changed": "1"}


def test_a_breaker_acts_once_however_often_it_is_told(terminal):
    terminal.pan.lose_replies = 1  # the event, or the reply: one of them is lost
    lines = terminal.type("APP BREAKER SM_ID1 0 0")
    assert next(line for line in lines if line.mark is Mark.END).fields["changed"] == "1"
    record = terminal.pan.meters[2].metrology.ring.latest()
    assert record.state.breaker_operations == 1
    assert not record.state.status & 1
    (again,) = terminal.reply("APP BREAKER SM_ID1 0 0")
    assert again.fields["changed"] == "0"
    assert terminal.error("APP BREAKER SM_ID1 1 1") == "REFUSED"  # valid until 1970


def test_events_come_unasked_and_are_kept(terminal):
    lines = terminal.type("APP BREAKER SM_ID1 0 0")
    (event,) = [line for line in lines if line.mark is Mark.UNASKED]
    assert (event.words, event.fields["meter"], event.fields["code"]) == (("EVENT",), "SM_ID1", "62")
    *events, _ = terminal.reply("APP EVENTS SM_ID1 0")
    assert "62" in [line.fields["code"] for line in events]


def test_commands_overtake_bulk_reads(terminal):
    terminal.run(3000)
    terminal.pan.sent.clear()
    terminal.output.clear()
    for tag in range(8):
        terminal.shell.feed(f"#{tag} APP READ SM_ID{tag % 3} 1 0 2000\n".encode())
    terminal.shell.feed(b"#99 APP BREAKER SM_ID2 0 0\n")
    terminal.run(2 * DELAY + 0.01)
    done = [parse_line(text) for text in terminal.output.decode().split("\r\n") if text]
    assert 99 in [line.tag for line in done if line.done]
    terminal.run(60)
    done = [parse_line(text) for text in terminal.output.decode().split("\r\n") if text]
    assert {line.tag for line in done if line.done} == {*range(8), 99}


def test_access_list_topology_and_information_base(terminal):
    *_, end = terminal.reply("PLC TOPOLOGY")
    assert end.fields == {"meters": "3"}
    lines = terminal.type("PLC BAN 0000000000000002")
    assert [line.words for line in lines] == [("LEFT",), ("OK",)]
    assert terminal.error("APP IDENTITY SM_ID1") == "METER"
    *_, end = terminal.reply("PLC ACCESS")
    assert end.fields == {"black": "1", "white": "off"}
    terminal.reply("PLC UNBAN 0000000000000002")
    terminal.pan.join(2)
    (identity,) = terminal.reply("APP IDENTITY SM_ID1")
    assert identity.fields["serial"] == "SN2"
    assert terminal.error("PLC BAN 2") == "PARAMETER"
    assert terminal.reply("PIB GET adpMaxHops")[0].fields == {"value": "8"}
    terminal.reply("PIB SET adpMaxHops 0x0A")
    assert terminal.reply("PIB GET adpMaxHops")[0].fields == {"value": "10"}
    assert terminal.error("PIB GET none") == "REFUSED"


def test_lines_without_a_tag_are_answered_in_their_order(terminal):
    lines = terminal.type("APP IDENTITY SM_ID1\nSYS VERSION\nAPP IDENTITY SM_ID2")
    assert [list(line.fields)[-1] for line in lines if line.done] == ["firmware", "payload", "firmware"]
    assert terminal.error("APP NONE") == "COMMAND"
    lines = terminal.type("APP IDENTITY SM_ID1\n" * 40)
    assert sum("BUSY" in line.words for line in lines) == 23
    assert sum(line.done for line in lines) == 17


def test_a_person_types_and_sees(terminal):
    assert terminal.raw(b"SYS ECHO 1\r") == "= OK\r\nMNSH> "
    assert terminal.raw(b"SYS VERX\x7fSION\r") == "SYS VERX\b \bSION\r\n= OK mnsh=1 payload=1\r\nMNSH> "
    assert terminal.raw(b"\r") == "\r\nMNSH> "
    assert "wrong number of parameters: 1, where 2 are due" in terminal.raw(b"APP GET_DATA_STREAM 10\r")
    assert "APP GET_DATA_STREAM <count> <meter>" in terminal.raw(b"help app\r")


def test_noise_on_the_line_does_not_end_the_session(terminal):
    draw = random.Random(3)
    for _ in range(1000):
        words = draw.choice(
            ["APP READ SM_ID1 0 0 1", "HELP", "SYS STATS", "#5 PLC STATUS SM_ID2", "PIB SET adpMaxHops 3"]
        )
        octets = bytearray(words.encode() + b"\n")
        octets[draw.randrange(len(octets))] = draw.randrange(256)
        terminal.shell.feed(bytes(octets))
        terminal.run(0.2)
    terminal.raw(b"\n\n", 100)
    assert terminal.reply("SYS VERSION")[-1].done
