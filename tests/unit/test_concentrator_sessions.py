"""Sessions of a shell on transports: login from the gateway's side, its deadline, users who read nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from stcomet_pan import DelayPan
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from flexmap.g3.kernel import VirtualTime
from flexmap.gateway.concentrator_session import LOGIN_SECONDS, MOST_UNREAD, Full, RealTime, Session, Soon
from flexmap.model import RemoteError
from flexmap.sources.concentrator.link import Link, ShellError
from flexmap.sources.concentrator.port import Port, connect
from flexmap.sources.concentrator.source import Settings
from flexmap.stcomet.commands import HANDLERS
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.login import Guard

PASSWORD = "correct horse battery"


class Network(StringTransport):
    """A TCP transport: what is written comes to the other protocol at once."""

    def __init__(self):
        super().__init__()
        self.other = None
        self.aborted = False
        self.dataBuffer = b""

    def write(self, data):
        super().write(data)
        if self.other is not None:
            self.other.dataReceived(data)

    def abortConnection(self):
        self.aborted = True

    def setTcpKeepAlive(self, on):
        self.keep_alive = on


class Time:
    """Stands for the time of a process whose line is simulated."""

    def catch_up(self):
        pass

    def go_on(self):
        pass


class Bench:
    """A guarded session and a gateway's link to it."""

    def __init__(self, password=PASSWORD):
        self.clock = Clock()
        pan = DelayPan(1)
        core = self.core = pan.user = Concentrator(pan, pan.time, 0)
        guard = Guard(password, self.clock.seconds, random.Random(2).randbytes) if password else None
        self.session = Session(self.clock, core, Time(), guard)
        self.wire, self.back = Network(), Network()
        self.session.makeConnection(self.wire)
        self.link = Link(self.clock, 0, lambda link: None, lambda cause: None, lambda line: None)
        self.link.makeConnection(self.back)
        self.wire.other, self.back.other = self.link, self.session


def test_the_link_logs_in_where_that_is_due():
    bench = Bench()
    replies = []
    bench.link.hello(PASSWORD).addCallback(replies.append)
    assert replies[0].end.fields["login"] == "due"
    bench.link.ask("SYS TIME").addCallback(replies.append)
    assert "time" in replies[1].end.fields
    assert PASSWORD.encode() not in bench.back.value()


def test_the_link_does_without_where_none_is_due():
    bench = Bench(password="")
    replies = []
    bench.link.hello("").addCallback(replies.append)
    assert "login" not in replies[0].end.fields
    assert b"CHALLENGE" not in bench.back.value()


@pytest.mark.parametrize(
    ("password", "text"), [("", "there is no password"), ("another password", "proof is wrong")]
)
def test_the_link_says_why_it_cannot_log_in(password, text):
    bench = Bench()
    failures = []
    bench.link.hello(password).addErrback(failures.append)
    failures[0].trap(ShellError)
    assert failures[0].value.code == "LOGIN"
    assert text in failures[0].getErrorMessage()


def test_who_does_not_log_in_goes_and_who_does_stays():
    idle, logged_in = Bench(), Bench()
    logged_in.link.hello(PASSWORD)
    for bench in (idle, logged_in):
        assert bench.wire.keep_alive
        bench.clock.advance(LOGIN_SECONDS + 1)
    assert (idle.wire.aborted, logged_in.wire.aborted) == (True, False)


def test_a_connection_that_reads_nothing_is_ended():
    bench = Bench()
    bench.wire.dataBuffer = bytes(MOST_UNREAD)
    bench.session.dataReceived(b"SYS VERSION\r\n")
    assert bench.wire.aborted


def test_a_link_that_is_one_too_many_learns_why_it_ended():
    clock, causes, failures = Clock(), [], []
    link = Link(clock, 0, lambda link: None, causes.append, lambda line: None)
    full, wire, back = Full(), Network(), Network()
    link.makeConnection(back)
    link.ask("SYS VERSION").addErrback(failures.append)
    wire.other = link
    full.makeConnection(wire)
    assert wire.disconnecting
    link.connectionLost(None)
    assert causes == ["the line is gone: too many sessions"]
    assert "too many sessions" in failures[0].getErrorMessage()


def test_the_password_is_in_no_log():
    assert PASSWORD not in repr(Settings(Port("tcp"), password=PASSWORD))


def test_a_call_that_fails_does_not_stop_the_time_of_all():
    clock, virtual, made = Clock(), VirtualTime(), []

    def fail():
        raise ZeroDivisionError

    for call in (fail, lambda: made.append(1), fail, lambda: made.append(2)):
        virtual.callLater(0, call)
    real = RealTime(clock, virtual)
    real.go_on()
    assert made == [1, 2]
    assert len(clock.getDelayedCalls()) == 1
    real.stop()


def test_what_is_asked_for_often_is_done_once():
    clock, done = Clock(), []
    soon = Soon(clock, lambda: done.append(1))
    for _ in range(3):
        soon()
    clock.advance(0)
    assert done == [1]
    soon()
    clock.advance(0)
    assert done == [1, 1]


def test_what_is_no_terminal_costs_no_descriptor(tmp_path):
    path = tmp_path / "file"
    path.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(RemoteError, match="no serial line"):
            connect(Clock(), Port("pty", path=str(path)), Session(None, None, None, None))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_fault_in_a_command_leaves_a_terminal_its_shell(monkeypatch):
    bench, terminal = Bench(password=""), StringTransport()
    session = Session(bench.clock, bench.core, Time(), None)
    session.makeConnection(terminal)
    monkeypatch.setitem(HANDLERS, ("SYS", "TIME"), lambda call: 1 // 0)
    session.dataReceived(b"SYS TIME\r\n")
    session.dataReceived(b"SYS VERSION\r\n")
    assert b"= OK mnsh" in terminal.value()
    bench.wire.other = None
    bench.session.dataReceived(b"SYS TIME\r\n")
    assert bench.wire.aborted
