"""The concentrator's shell over real STCOMET meters: what is typed, and what comes back."""

from __future__ import annotations

import binascii
import hashlib
import random
import re

import pytest
from stcomet_pan import DELAY, DelayPan
from stcomet_site import START

from flexmap.stcomet import catalogue, mnsh, payload
from flexmap.stcomet.catalogue import Kind
from flexmap.stcomet.commands import HANDLERS
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.login import MOST_PEERS, Guard, proof
from flexmap.stcomet.mnsh import Mark, MnshError, parse_line
from flexmap.stcomet.record import Status
from flexmap.stcomet.shell import MOST_OPEN, Shell


@pytest.mark.parametrize("command", ["APP EVENTS SM_ID1 0", "APP CLOCK SM_ID1 1 0 0", "APP READ SM_ID1 0 0 1"])
def test_a_flood_of_urgent_requests_is_refused_and_passes(command):
    terminal = Terminal()
    others = [bytearray(), bytearray()]
    shells = [terminal.shell, *(Shell(terminal.core, output.extend) for output in others)]
    for shell in shells:
        for tag in range(1000):
            shell.feed(f"#{tag} {command}\r\n".encode())
    assert [len(shell.open_tags()) for shell in shells] == [MOST_OPEN, MOST_OPEN, 0]
    terminal.run(60)
    assert [len(shell.open_tags()) for shell in shells] == [0, 0, 0]
    answers = [output.count(b"= OK") + output.count(b"= ERROR") for output in (terminal.output, *others)]
    assert answers == [1000, 1000, 1000]
    assert terminal.reply(command)[-1].done


def test_lines_that_wait_may_be_dropped_when_their_turn_has_come():
    terminal = Terminal()
    terminal.shell.feed(b"APP READ SM_ID1 1 0 1\r\nSYS VERSION\r\n")
    terminal.core.requests.forget(2)  # its meter leaves the PAN
    terminal.shell.feed(b"#1 SYS DROP\r\n")
    terminal.run(1)
    assert terminal.reply("SYS VERSION")[-1].done


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
    assert set(HANDLERS) == {(command.module, command.name) for command in catalogue.COMMANDS}


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
    assert terminal.error(f"APP CLOCK SM_ID1 {START + 5000} 0 0") == "SILENT"
    assert len({octets for _, _, octets, _ in terminal.pan.sent}) == len(terminal.pan.sent) == 4  # none repeated
    terminal.pan.deaf.clear()
    (told,) = terminal.reply(f"APP CLOCK SM_ID1 {START + 5000} 0 0")
    assert int(told.fields["adjusted_ms"]) == -int(told.fields["offset_ms"]) > 4_900_000
    (told,) = terminal.reply("PLC STATUS SM_ID1")
    assert int(told.fields["clock_offset_ms"]) < -4_900_000
    # However long the line waits, the time is that of then.
    before = int(terminal.reply("SYS TIME")[0].fields["time_ms"])
    terminal.run(40)
    (told,) = terminal.reply(f"APP CLOCK SM_ID1 {START + 9000} 0 {before % 2**32}")
    clock = terminal.pan.meters[2].time
    expected = (START + 9000) * 1000 + terminal.pan.time.seconds() * 1000 - before
    assert abs(clock.now() + clock.pending - expected) < 100


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


def test_the_path_to_a_meter(terminal):
    there, back, end = terminal.reply("PLC PATH SM_ID1")
    assert (there.words, there.fields) == (("there",), {"node": "SM_ID1", "short": "0x0002", "cost": "14"})
    assert (back.words, back.fields) == (("back",), {"node": "coordinator", "short": "0x0000", "cost": "12"})
    assert end.fields == {"there": "1", "back": "1", "reached": "1"}
    terminal.pan.deaf.add(2)
    assert terminal.error("PLC PATH SM_ID1") == "SILENT"


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
    assert (
        terminal.raw(b"SYS VERX\x7fSION\r")
        == f"SYS VERX\b \bSION\r\n= OK mnsh=1 payload={payload.VERSION}\r\nMNSH> "
    )
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


def test_a_meter_is_removed_without_a_word_and_may_come_again(terminal):
    terminal.pan.sent.clear()
    lines = terminal.type("PLC REMOVE SM_ID1", 1)
    assert [line.words for line in lines] == [("LEFT",), ("OK",)]
    assert lines[0].fields == {"meter": "SM_ID1", "reason": "removed"}
    assert not terminal.pan.sent
    assert terminal.error("PLC REMOVE SM_ID1") == "METER"


def test_a_rekeying_is_begun_once_and_says_how_it_ended(terminal):
    assert terminal.reply("PLC REKEY_STATUS")[-1].fields == {"state": "none"}
    terminal.pan.deaf.add(3)
    assert terminal.reply("PLC REKEY", 1)[-1].fields == {"meters": "3"}
    assert terminal.error("PLC REKEY", 1) == "REFUSED"
    assert terminal.reply("PLC REKEY_STATUS", 1)[-1].fields["state"] == "running"
    (told,) = terminal.type("", 60)
    assert (told.words, told.fields) == (("REKEYED",), {"rekeyed": "2", "lost": "1"})
    lost, end = terminal.reply("PLC REKEY_STATUS", 1)
    assert lost.fields["meter"] == "SM_ID2"
    assert end.fields["state"] == "done"


def test_help_tells_each_parameter_of_a_command(terminal):
    *lines, end = terminal.reply("HELP app read")
    assert end.done
    assert lines[0].words == ("APP", "READ", "<meter>", "<origin>", "<start>", "<count>")
    assert len(lines) == 2 + 4
    assert ": \r\n" not in terminal.raw(b"HELP\r\n")
    assert "(number, 0 to 3)" in terminal.raw(b"HELP APP READ\r\n")
    for module in catalogue.MODULES:
        for command in catalogue.COMMANDS:
            if command.module == module:
                assert terminal.reply(f"#9 HELP {module} {command.name}", 0.01)[-1].done
    assert terminal.error("HELP APP NONE") == "COMMAND"
    assert terminal.error("HELP A B C") == "COUNT"
    assert terminal.error("HELP NONE") == "MODULE"


def test_what_nobody_asked_for_does_not_spoil_a_line_that_is_typed(terminal):
    terminal.raw(b"SYS ECHO 1\r")
    terminal.raw(b"SYS VER")
    terminal.output.clear()
    terminal.core.tell("EVENT", meter="SM_ID1")
    assert terminal.output == b"\r\n! EVENT meter=SM_ID1\r\nMNSH> SYS VER"
    assert terminal.raw(b"SION\r").startswith("SION\r\n= OK mnsh=1")
    lines = terminal.raw(b"APP BREAKER SM_ID1 0 0\r").split("\r\n")
    assert [line.split(" ")[0] for line in lines if line[:1] in {"!", "="}] in (["!", "="], ["=", "!"])
    assert "name=REMOTE_DISCONNECTION" in "".join(lines)


def test_keys_of_a_terminal(terminal):
    terminal.raw(b"SYS ECHO 1\r")
    version = f"= OK mnsh=1 payload={payload.VERSION}\r\nMNSH> "
    # Arrow keys, function keys and escape leave no traces; CR LF is one end of a line.
    typed = b"SYS\x1b[A\x1b[1;5C\x1bOP VERSION\r\n"
    assert terminal.raw(typed) == f"SYS VERSION\r\n{version}"
    # Ctrl-U forgets the line; further control characters ring the bell.
    assert terminal.raw(b"NO\x15SYS VERSION\x07\r") == f"NO\b \b\b \bSYS VERSION\a\r\n{version}"
    # A backspace too many does nothing; CR and LF apart end a line each.
    assert terminal.raw(b"\x7f\x08\r") == "\r\nMNSH> "
    assert terminal.raw(b" \n") == " \r\nMNSH> "
    assert terminal.raw(b"x" * 300 + b"\r").startswith("x" * 256 + "\a" * 44 + "\r\n= ERROR MODULE")


class Login:
    """Sessions of one port that wants a login."""

    PASSWORD = "correct horse battery"

    def __init__(self, terminal):
        self.terminal = terminal
        self.guard = Guard(self.PASSWORD, terminal.pan.time.seconds, random.Random(1).randbytes)

    def session(self, peer="192.0.2.1"):
        shell = Shell(self.terminal.core, self.terminal.output.extend, self.guard, peer)
        self.terminal.shell = shell
        return shell

    def challenge(self):
        return self.terminal.reply("SYS CHALLENGE", 0.01)[-1].fields["nonce"]

    def login(self, password=PASSWORD, nonce=None):
        answer = proof(password, nonce or self.challenge()).hex()
        return self.terminal.reply(f"SYS LOGIN {answer}", 0.01)[-1]


def test_without_a_login_a_session_does_and_hears_nothing(terminal):
    terminal.shell.close()
    shell = Login(terminal).session()
    allowed = []
    for command in catalogue.COMMANDS:
        words = [command.module, command.name]
        words += [
            {Kind.NUMBER: "0", Kind.NAME: "x"}.get(p.kind, "00" * max(p.least, 1)) for p in command.parameters
        ]
        terminal.output.clear()
        end = terminal.reply(" ".join(words), 1)[-1]
        if end.words[:2] != ("ERROR", "LOGIN") or command.name == "LOGIN":
            allowed.append(command.name)
    assert allowed == ["VERSION", "ECHO", "CHALLENGE", "LOGIN", "DROP", "OPEN"]
    assert terminal.reply("HELP")[-1].done
    assert terminal.reply("SYS VERSION")[-1].fields["login"] == "due"
    terminal.core.tell("EVENT", meter="SM_ID1")
    terminal.pan.kick(f"{2:016x}")
    assert not terminal.output or b"LEFT" not in terminal.output
    shell.close()


def test_a_login_opens_the_session_and_a_proof_is_good_once(terminal):
    login = Login(terminal)
    login.session()
    nonce = login.challenge()
    assert login.login(nonce=nonce).done
    assert terminal.reply("APP METERS")[-1].fields == {"meters": "3"}
    assert "login" not in terminal.reply("SYS VERSION")[-1].fields
    terminal.output.clear()
    terminal.core.tell("EVENT", meter="SM_ID1")
    assert b"! EVENT" in terminal.output
    # What was overheard opens no other session, nor an answer without a challenge.
    login.session("192.0.2.2")
    assert login.login(nonce=nonce).words == ("ERROR", "LOGIN")
    login.session("192.0.2.3")
    login.challenge()
    assert login.login(nonce=nonce).words == ("ERROR", "LOGIN")


def test_who_guesses_waits_longer_and_longer_and_nobody_else_does(terminal):
    login = Login(terminal)
    waits = []
    for _ in range(8):
        login.session("192.0.2.9")  # a new session does not help
        assert login.login("wrong password 1234").words == ("ERROR", "LOGIN")
        waited = 0
        while login.login("wrong password 1234").words == ("ERROR", "BUSY"):
            terminal.run(0.99)
            waited += 1
            if waited > 70:
                break
        # The loop's last try was a failure of its own.
        waits.append(waited)
        terminal.run(200)
    assert waits[0] <= 2
    assert waits == sorted(waits)
    assert waits[-1] >= 55
    login.session("192.0.2.9")
    login.login("wrong password 1234")
    assert login.login().words == ("ERROR", "BUSY")
    login.session("192.0.2.1")
    assert login.login().done


def test_a_guards_memory_is_bounded_and_it_does_not_show_its_password(terminal):
    guard = Guard(Login.PASSWORD, terminal.pan.time.seconds, random.Random(1).randbytes)
    for number in range(3 * MOST_PEERS):
        with pytest.raises(MnshError):
            guard.check(f"peer{number}", guard.nonce(), b"x" * 32)
    assert len(guard._failures) == MOST_PEERS
    assert Login.PASSWORD not in repr(guard)


def test_fuzz_twenty_thousand_lines_and_uploads_leave_the_shell_alive():
    terminal = Terminal(1)
    draw = random.Random(11)
    image = draw.randbytes(96 * 40)
    digest = hashlib.sha256(image).hexdigest()
    blocks = [
        f"FW BLOCK a {at} {binascii.crc_hqx(image[at : at + 96], 0xFFFF)} {image[at : at + 96].hex()}"
        for at in range(0, len(image), 96)
    ]
    plain = [command.usage.replace("<meter>", "SM_ID1") for command in catalogue.COMMANDS]
    announced = f"FW IMAGE a 2 2 {len(image)} {digest}"
    answers = 0
    for number in range(20_000):
        line = draw.choice([blocks[number % len(blocks)], draw.choice(plain), announced, "FW SEND a SM_ID1"])
        line = re.sub("<[a-z_0-9]+>", lambda _: str(draw.choice([0, 1, 7, "x", "0xffffffff", "SM_ID0"])), line)
        if draw.random() < 0.3:
            line = f"#{draw.randrange(70_000)} {line}"
        octets = bytearray(line.encode() + b"\n")
        for _ in range(draw.choice([0, 0, 1, 1, 2, 8])):
            place = draw.randrange(len(octets))
            match draw.randrange(3):
                case 0:
                    octets[place] = draw.randrange(256)
                case 1:
                    octets[place:place] = draw.randbytes(draw.randrange(40))
                case _:
                    del octets[place : place + draw.randrange(1, 40)]
                    octets = octets or bytearray(b"\n")
        terminal.output.clear()
        terminal.shell.feed(bytes(octets))
        answers += terminal.output.count(b"= ")
        if not number % 50:
            terminal.run(1)
    terminal.raw(b"\x15\nSYS ECHO 0\nSYS VERSION\n", 2000)
    assert terminal.reply("SYS VERSION")[-1].done
    assert answers > 15_000
    terminal.reply(announced)
    for line in blocks:
        terminal.reply(line, 0.01)
    assert terminal.reply("FW SEND a SM_ID0")[-1].done


def reads_sent(terminal, short):
    return [
        at for at, to, octets, _ in terminal.pan.sent if to == short and octets[1] & 0xF == payload.Operation.READ
    ]


@pytest.mark.parametrize("dropped", ["closed", "SYS DROP"])
def test_what_a_session_leaves_behind_keeps_no_meter_from_others(terminal, dropped):
    terminal.pan.deaf.add(2)
    terminal.shell.feed(b"#1 APP READ SM_ID1 2 0 900\r#2 APP READ SM_ID1 2 0 900\rAPP READ SM_ID1 2 0 900\r")
    terminal.run(1)
    assert [line.words for line in terminal.reply("#3 SYS OPEN", 0)] == [("tags", "1", "2"), ("OK",)]
    assert len(reads_sent(terminal, 2)) == 1
    terminal.pan.deaf.clear()
    if dropped == "closed":
        terminal.shell.close()
    else:
        lines = terminal.reply("#4 SYS DROP", 0)
        assert sorted((line.tag or 0, line.words) for line in lines) == [
            (0, ("ERROR", "DROPPED")),
            (1, ("ERROR", "DROPPED")),
            (2, ("ERROR", "DROPPED")),
            (4, ("OK",)),
        ]
    output = bytearray()
    Shell(terminal.core, output.extend).feed(b"APP READ SM_ID1 2 0 900\r")
    terminal.run(1)
    assert b"= OK" in output
    terminal.run(100)
    assert len(reads_sent(terminal, 2)) == 2


def test_a_breaker_command_is_carried_out_though_its_session_has_gone(terminal):
    terminal.shell.feed(b"#1 APP BREAKER SM_ID1 0 0\r")
    terminal.shell.close()
    terminal.run(2)
    assert not terminal.pan.meters[2].metrology.ring.latest().state.status & Status.BREAKER_CLOSED


def test_fragments_put_off_the_end_of_a_read_but_not_for_ever(terminal):
    terminal.pan.deaf.add(2)
    terminal.pan.sent.clear()
    settings, began = terminal.core.requests.settings, terminal.pan.time.seconds()
    terminal.shell.feed(b"APP READ SM_ID1 2 0 900\r")
    for _ in range(int(settings.longest) + 5):
        terminal.run(1)
        terminal.core.fragment(2)
        assert (b"= ERROR SILENT" in terminal.output) == (terminal.pan.time.seconds() >= began + settings.longest)
    assert len(reads_sent(terminal, 2)) == 1


def test_a_line_that_does_not_fit_its_check_is_not_obeyed(terminal):
    line = mnsh.request_line("APP BREAKER", "SM_ID1", 0, 0, tag=7)
    assert line == "#7 APP BREAKER SM_ID1 0 0 *" + f"{binascii.crc_hqx(b'#7 APP BREAKER SM_ID1 0 0', 0xFFFF):04x}"
    for damaged in (line.replace("SM_ID1", "SM_ID2"), line.replace("#7", "#5"), line[:-1] + "g"):
        (end,) = terminal.reply(damaged)
        assert (end.words[0], end.tag if end.words[1] == "SYNTAX" else None) == ("ERROR", None)
    assert not any(octets[1] & 0xF == payload.Operation.BREAKER for _, _, octets, _ in terminal.pan.sent)
    (end,) = terminal.reply(line)
    assert (end.tag, end.done) == (7, True)
