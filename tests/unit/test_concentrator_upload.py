"""The host's side of firmware: an image through a shell that loses lines, to meters, activated."""

from __future__ import annotations

import random

import pytest
from stcomet_pan import DelayPan
from test_sources_concentrator import Reactor
from twisted.internet.defer import Deferred

from flexmap.model import RemoteError
from flexmap.sources.concentrator import firmware as host
from flexmap.sources.concentrator.link import Link, ShellError
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.firmware import Binary
from flexmap.stcomet.shell import Shell
from flexmap.stcomet.updates import State

IMAGE = random.Random(4).randbytes(6000)


class Wire:
    """From the link to the shell and back, each line after a moment; some requests are lost."""

    def __init__(self, pan, core, lose=()):
        self.time = pan.time
        self.lose = set(lose)
        self.lines = 0
        self.shell = Shell(core, lambda octets: self.time.callLater(0.001, self.link.dataReceived, octets))
        self.link = Link(Reactor(pan.time), 0, lambda link: None, lambda cause: None, lambda line: None)
        self.link.makeConnection(self)

    def write(self, octets):
        self.lines += 1
        if self.lines not in self.lose:
            self.time.callLater(0.001, self.shell.feed, octets)


class Bench:
    def __init__(self, lose=()):
        self.pan = DelayPan(2)
        self.core = self.pan.user = Concentrator(self.pan, self.pan.time, 0)
        self.core.begin()
        self.run(20)
        self.wire = Wire(self.pan, self.core, lose)
        self.progress = []

    def run(self, seconds):
        self.pan.time.run(self.pan.time.seconds() + seconds)

    def do(self, work, seconds=300):
        results = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        self.run(seconds)
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def said(self, *words):
        self.progress.append(words)


def update(**changes):
    fields = {"name": "plc", "binary": Binary.PLC, "version": 3, "octets": IMAGE, "meters": ("SM_ID1", "SM_ID2")}
    return host.Update(**fields | changes)


def test_upload_send_and_activate():
    bench = Bench()
    bench.do(host.upload(bench.wire.link, update(), bench.said), 2)
    assert bench.core.shelf.whole("plc").octets == IMAGE
    assert bench.progress[-1] == ("concentrator", 6000, 6000)
    ended = bench.do(host.send(bench.wire.link, Reactor(bench.pan.time), update(activate=True), bench.said))
    assert ended == {"SM_ID1": State.ACTIVE, "SM_ID2": State.ACTIVE}
    assert [bench.pan.meters[short].firmware.versions[Binary.PLC] for short in (1, 2, 3)] == [1, 3, 3]


def test_an_upload_that_was_cut_off_goes_on():
    bench = Bench()
    bench.do(host.upload(bench.wire.link, update(), bench.said), 2)
    lines = bench.wire.lines
    bench.core.shelf.find("plc").octets[4000:] = b""
    bench.do(host.upload(bench.wire.link, update(), bench.said), 2)
    assert bench.wire.lines - lines < lines / 2
    assert bench.core.shelf.whole("plc").octets == IMAGE


def test_a_line_that_got_lost_ends_the_link_and_the_next_run_goes_on():
    bench = Bench(lose={20})
    bench.wire.abortConnection = lambda: bench.wire.link.connectionLost(None)
    with pytest.raises(Exception, match="line to the concentrator is gone"):
        bench.do(host.upload(bench.wire.link, update(), bench.said), 400)
    assert 0 < len(bench.core.shelf.find("plc").octets) < 6000
    bench.wire = Wire(bench.pan, bench.core)
    bench.do(host.upload(bench.wire.link, update(), bench.said), 2)
    assert bench.core.shelf.whole("plc").octets == IMAGE


def test_what_is_refused_is_said():
    bench = Bench()
    with pytest.raises(ShellError, match="legal part"):
        bench.do(host.upload(bench.wire.link, update(binary=Binary.LEGAL), bench.said))
    bench.do(host.upload(bench.wire.link, update(), bench.said), 2)
    bench.core.shelf.block = lambda *_: 96
    bench.core.shelf.find("plc").octets[96:] = b""
    with pytest.raises(RemoteError, match="takes no octets of plc behind 96"):
        bench.do(host.upload(bench.wire.link, update(), bench.said), 5)
