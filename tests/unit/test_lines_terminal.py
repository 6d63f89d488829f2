"""Pseudo-terminals under a path: a link that has outlived its program leads to nobody, not to a stranger."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from twisted.internet.protocol import Protocol

from flexmap.lines.terminal import offer_terminal, open_terminal

OFFER = """
import sys
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from flexmap.lines.terminal import offer_terminal

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

offer_terminal(reactor, sys.argv[1], Echo())
print("offered", flush=True)
reactor.run()
"""


@contextlib.contextmanager
def offered(path):
    program = [sys.executable, "-c", OFFER, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "offered\n"
        try:
            yield process
        finally:
            process.kill()


def echo(path, text=b"hello"):
    descriptor = open_terminal(str(path))
    os.set_blocking(descriptor, True)
    os.write(descriptor, text)
    seen = os.read(descriptor, 100)
    os.close(descriptor)
    return seen


def test_a_link_whose_program_was_killed_is_refused_though_the_terminal_is_somebody_elses_now(tmp_path):
    path = tmp_path / "shell"
    with offered(path) as process:
        assert echo(path) == b"hello"
        named = path.readlink()
        process.send_signal(signal.SIGKILL)
        process.wait()
    strangers = []
    try:
        while not named.exists():  # the system gives the lowest free number
            strangers.append(os.openpty())
            assert len(strangers) < 64
        with pytest.raises(OSError, match="nobody is at the other end"):
            open_terminal(str(path))
    finally:
        for pair in strangers:
            for descriptor in pair:
                os.close(descriptor)
    with offered(path):
        assert echo(path) == b"hello"


def test_links_of_other_programs_pass_also_where_a_killed_one_has_left_its_lock(tmp_path):
    path = tmp_path / "shell"
    with offered(path) as process:
        # Held for as long as the terminal below is asked for, so that it cannot be the same one.
        master, slave = os.openpty()
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        path.unlink()
        path.symlink_to(os.ttyname(slave))
        os.close(open_terminal(str(path)))
    finally:
        os.close(master)
        os.close(slave)


def test_what_is_offered_no_more_leaves_nothing_behind(tmp_path):
    from twisted.internet import reactor  # noqa: PLC0415

    _, stop = offer_terminal(reactor, str(tmp_path / "shell"), Protocol())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shell", "shell.lock"]
    stop()
    assert list(tmp_path.iterdir()) == []
