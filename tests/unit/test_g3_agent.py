"""How many JOININGs an agent passes on, and when it answers scans."""

import random

import pytest

from flexmap.g3 import agent
from flexmap.g3.agent import Agent
from flexmap.g3.interface import COORDINATOR
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.lbp import Kind, Message


def eui(number):
    return number.to_bytes(8, "big")


class Bench:
    def __init__(self):
        self.time = VirtualTime()
        self.sent = []
        self.agent = Agent(self, self.time, random.Random(1))

    def send_lbp(self, destination, message, confirm):
        self.sent.append((destination, message))

    def joining(self, number, data=b""):
        message = Message(Kind.JOINING, eui(number), data)
        return self.agent.relay(eui(number), message, message.encode(), secured=False)

    def answer(self, number, kind, *, secured=True, source=COORDINATOR):
        message = Message(kind, eui(number), b"x")
        return self.agent.relay(source, message, message.encode(), secured=secured)

    def up(self):
        return [int.from_bytes(message[2:10], "big") for to, message in self.sent if to == COORDINATOR]

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)


def test_the_next_is_passed_on_when_the_coordinator_has_dealt_with_the_first():
    bench = Bench()
    for number in (1, 2, 3):
        assert bench.joining(number)
    assert bench.up() == [1]
    assert not bench.agent.open()
    bench.answer(1, Kind.CHALLENGE)
    bench.joining(1, b"message 2")
    bench.run(1)
    assert bench.up() == [1, 1], "what belongs to an exchange passes, others wait"
    bench.answer(1, Kind.ACCEPTED)
    bench.run(0)
    assert bench.up() == [1, 1, 2]
    assert [to for to, _ in bench.sent if to != COORDINATOR] == [eui(1), eui(1)]


def test_a_crowded_coordinator_is_asked_ever_more_rarely_and_scans_are_not_answered():
    bench = Bench()
    for _ in range(7200):
        bench.joining(1)
        bench.run(1)
    asked = len(bench.up())
    assert 8 <= asked <= 20
    assert not bench.agent.open()
    bench.answer(1, Kind.CHALLENGE)
    bench.run(agent.EXCHANGE)
    assert bench.agent.open()
    bench.joining(2)
    bench.run(1.5 * agent.HOLD)
    assert bench.agent.open(), "the waits begin anew"


def test_waiting_is_bounded_in_number_and_time():
    bench = Bench()
    for number in range(1, 12):
        bench.joining(number)
    bench.answer(1, Kind.DECLINE)
    for number in range(2, 12):
        bench.run(0)
        bench.answer(number, Kind.DECLINE)
    assert bench.up() == [1, 2, 3, 4, 5]
    bench.run(1)
    bench.joining(20)
    bench.joining(21)
    bench.answer(20, Kind.CHALLENGE)
    bench.agent._crowded = 0
    for _ in range(4):
        bench.run(agent.EXCHANGE - 1)
        bench.answer(20, Kind.CHALLENGE)
    bench.run(agent.EXCHANGE)
    assert bench.up()[5:] == [20], "21 has given up by now"


@pytest.mark.parametrize(
    ("source", "kind", "secured"),
    [
        (COORDINATOR, Kind.CHALLENGE, False),
        (COORDINATOR, Kind.KICK, True),
        (COORDINATOR, Kind.JOINING, True),
        (7, Kind.CHALLENGE, True),
        (eui(2), Kind.JOINING, False),
    ],
)
def test_what_no_agent_passes_on(source, kind, secured):
    bench = Bench()
    assert not bench.answer(9, kind, source=source, secured=secured)
    assert bench.sent == []
