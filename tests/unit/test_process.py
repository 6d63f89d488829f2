"""Restarts of a child process, and what becomes of its output."""

from twisted.internet.task import Clock
from twisted.logger import Logger

from flexmap.bus.process import DELAYS, STEADY, Child, Restarts


def test_restarts_come_at_once_then_later_and_later():
    clock, spawned = Clock(), []
    restarts = Restarts(clock, lambda: spawned.append(clock.seconds()))
    delays = []
    for _ in range(len(DELAYS) + 2):
        delays.append(restarts.again(0.0))
        clock.advance(delays[-1])
    assert delays == [*DELAYS, DELAYS[-1], DELAYS[-1]]
    assert delays[0] == 0
    assert len(spawned) == restarts.count == len(delays)


def test_a_process_that_served_for_long_is_restarted_at_once():
    clock = Clock()
    restarts = Restarts(clock, lambda: None)
    assert [restarts.again(0.0) for _ in range(3)] == list(DELAYS[:3])
    assert restarts.again(STEADY) == DELAYS[3]
    assert restarts.again(STEADY + 1) == DELAYS[0]
    assert restarts.count == 5


def test_nothing_is_restarted_after_the_end():
    clock, spawned = Clock(), []
    restarts = Restarts(clock, lambda: spawned.append(1))
    restarts.again(0.0)
    restarts.stop()
    clock.advance(60)
    assert not spawned


def test_lines_come_whole_however_they_are_cut():
    said, complained = [], []
    child = Child(Clock(), "worker", Logger())
    child.said, child.complained = said.append, complained.append
    for descriptor, data in ((1, b"one\ntw"), (2, b"bad"), (1, b"o\n\nthree"), (2, b" luck\n")):
        child.childDataReceived(descriptor, data)
    assert (said, complained) == (["one", "two"], ["bad luck"])
