"""The gateway's end of the line to a shell that does not answer, answers without end, or tells nonsense."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from flexmap.model import RemoteError
from flexmap.sources.concentrator.link import HELLO_TIMEOUT, LONGEST_REPLY, MOST_WAITING, Link, LinkLost


class Wire(StringTransport):
    """Loses the connection as soon as it is aborted."""

    def abortConnection(self):
        self.protocol.connectionLost(None)


class Bench:
    """A link, and what it told."""

    def __init__(self):
        self.clock = Clock()
        self.lost = []
        self.link = Link(self.clock, 0xFFF0, lambda link: None, self.lost.append, lambda line: None)
        self.wire = Wire()
        self.wire.protocol = self.link
        self.link.makeConnection(self.wire)

    def ask(self, command, failures):
        self.link.ask(command).addErrback(lambda failure: failures.append(failure.value))


def test_a_shell_that_never_answers_ends_the_line_once_and_whoever_waits_learns_it():
    bench, failures = Bench(), []
    bench.link.hello("").addErrback(lambda failure: failures.append(failure.value))
    bench.ask("APP METERS", failures)
    bench.clock.advance(HELLO_TIMEOUT)
    assert len(bench.lost) == 1
    assert [type(failure) for failure in failures] == [LinkLost, LinkLost]
    assert not bench.clock.getDelayedCalls()


def test_requests_that_are_never_answered_are_so_many_and_no_more():
    bench, failures = Bench(), []
    for _ in range(0x10000 + 1):
        bench.ask("APP METERS", failures)
    assert len(failures) == 0x10000 + 1 - MOST_WAITING
    assert {type(failure) for failure in failures} == {RemoteError}


def test_a_reply_without_an_end_ends_the_line():
    bench, failures = Bench(), []
    bench.ask("APP METERS", failures)
    line = b'#65520 : "' + 4000 * b"a" + b'"\r\n'
    for _ in range(LONGEST_REPLY // 4000 + 1):
        bench.link.dataReceived(line)
    assert len(bench.lost) == 1
    assert isinstance(failures[0], LinkLost)
