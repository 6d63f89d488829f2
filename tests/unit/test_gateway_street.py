"""Simulated meters go on over a restart of the concentrator: registers, records, events, clocks."""

from random import Random

from stcomet_site import START, meter

from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line
from flexmap.g3.medium import Medium
from flexmap.g3.phy import BANDS
from flexmap.g3.topology import CABLES
from flexmap.gateway.street import Frame, Street
from flexmap.model import EventCode
from flexmap.model.breaker import Trigger
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.app import DATA_PORT
from flexmap.stcomet.metrology import DEPTH
from flexmap.stcomet.payload import BreakerRequest, IdentityRequest, encode
from flexmap.stcomet.record import Status

METERS = [meter("SUB", "three-phase"), meter("M1"), meter("M2")]


class Run:
    """One run of the process, from a time on."""

    def __init__(self, start: float, kept: list[Frame]):
        self.time = VirtualTime(start)
        medium = Medium(self.time, Random(1), BANDS["CENELEC-A"], Line(CABLES["CENELEC-A"]))
        settings = SimulationSettings(substation="SUB")
        self.street = Street(
            METERS, medium, self.time, bytes(16), load=sample_load(), settings=settings, kept=kept
        )
        self.street.begin(kept[-1].meters if kept else {})
        self.frames = list(kept)

    def run(self, seconds: float, every: float = 5.0):
        end = self.time.seconds() + seconds
        while self.time.seconds() < end:
            self.time.run(min(self.time.seconds() + every, end))
            frame = self.street.frame()
            if frame is not None:
                self.frames.append(frame)

    def log(self, name):
        return self.street.meters[name].event_log


def test_events_and_clocks_outlive_a_restart():
    first = Run(START, [])
    first.run(20)
    one = first.street.meters["M1"]
    one.adjust_clock(0, 5000)
    one.adjust_clock(1, 400)  # being slewed when the process ends
    one.operate(Trigger.REMOTE_DISCONNECT)
    first.run(10)
    log, clock = first.log("M1"), one.time
    assert [event.code for event in log.events][-1] == EventCode.REMOTE_DISCONNECTION
    assert clock.pending
    second = Run(START + 90, first.frames)
    again = second.street.meters["M1"]
    assert second.log("M1") == log
    assert again.next_event == one.next_event
    assert (again.time.adjustments, again.time.doubtful) == (2, False)
    second.run(60)
    assert second.log("M1").events[: len(log.events)] == log.events
    # The old clock, left alone, would now show the same.
    expected = clock.tick(second.time.seconds() * 1000)
    assert abs(again.time.now() - expected) < 1
    times = [record.time for record in again.metrology.ring.since(0)]
    assert times[20:] == list(range(times[20], times[20] + 130))
    assert len(times) == len(set(times))
    again.operate(Trigger.REMOTE_RECONNECT)
    assert second.log("M1").events[len(log.events) :][-1].code == EventCode.REMOTE_CONNECTION


def test_what_was_not_kept_happens_again_under_the_same_numbers():
    """The process is killed: seconds since the last frame are measured again, events come at the same times."""
    first = Run(START, [])
    first.run(10)
    kept = list(first.frames)
    first.street._model.meters["M2"].force_cover(True)
    first.run(3)
    lost = first.log("M2")
    second = Run(START + 13, kept)
    assert second.log("M2").events == lost.events[: len(second.log("M2").events)]
    second = Run(START + 10, kept)
    second.street._model.meters["M2"].force_cover(True)
    second.run(3)
    assert second.log("M2") == lost


def test_what_a_meter_was_told_to_do_is_kept_at_once():
    first = Run(START, [])
    first.run(10)
    first.street.changed = lambda: first.frames.append(first.street.frame())
    one = first.street.meters["M1"]
    for number, request in enumerate((IdentityRequest(1), BreakerRequest(2, False))):
        octets = encode(request)
        first.street._receive(one, DATA_PORT, 0, DATA_PORT, octets)
        assert [frame.second for frame in first.frames].count(START + 10) == 1 + number
    second = Run(START + 30, first.frames)  # killed at once
    second.run(5)
    again = second.street.meters["M1"].metrology.ring.latest()
    assert not again.state.status & Status.BREAKER_CLOSED
    assert again.state.breaker_operations == one.metrology.ring.latest().state.breaker_operations + 1
    codes = [event.code for event in second.log("M1").events]
    assert codes.count(EventCode.REMOTE_DISCONNECTION) == 1


def test_a_log_is_kept_when_it_grows_and_once_a_depth():
    run = Run(START + DEPTH - START % DEPTH - 12, [])
    run.run(30)
    logs = [frame.meters["M1"].log for frame in run.frames]
    assert logs[0] is not None  # the meter's start
    assert logs[1] is None
    whole = [frame.second // DEPTH for frame, log in zip(run.frames, logs, strict=True) if log is not None]
    assert whole == [whole[0], whole[0] + 1]  # files of the depth before are removed one day
    run.street.meters["M1"].operate(Trigger.REMOTE_DISCONNECT)
    run.run(5)
    assert run.frames[-1].meters["M1"].log.events[-1].code == EventCode.REMOTE_DISCONNECTION
