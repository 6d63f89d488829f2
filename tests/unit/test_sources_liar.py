"""A coordinator that lies: absurd numbers, what is no number, and a flood of what nobody asked for."""

from __future__ import annotations

import prometheus_client
import pytest
from stcomet_site import START, meter
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from flexmap.gateway.history import StoreHistory
from flexmap.gateway.metrics import Metrics
from flexmap.model import Event, EventCode, Site
from flexmap.sources.concentrator.port import Port
from flexmap.sources.concentrator.source import ConcentratorSource, Settings
from flexmap.stcomet import mnsh, payload
from flexmap.store import Store

HUGE = "9" * 3000
TRUTH = {
    "SYS VERSION": [f"= OK payload={payload.VERSION}"],
    "SYS DROP": ["= OK"],
    "SYS OPEN": [": tags", "= OK open=0"],
    "SYS STATS": ["= OK"],
    "SYS TIME": [f"= OK time_ms={START * 1000}"],
    "APP METERS": [": SM_ID1", "= OK"],
}


class Sink:
    """Keeps events as a gateway does."""

    def __init__(self, store):
        self.store = store

    def accept(self, samples):
        pass

    def event(self, event: Event):
        self.store.event(event)

    def coordinator(self, told):
        pass


class Bench:
    """A source, its store and its metrics at a concentrator that answers as it is told."""

    def __init__(self, folder, **lies):
        self.answers = TRUTH | {name.replace("_", " "): lines for name, lines in lies.items()}
        self.clock = Clock()
        self.clock.advance(START)
        configured = meter("SM_ID1")
        site = Site(name="t", ied="T", meters=(configured[0],), types={configured[1].id: configured[1]})
        self.store = Store(folder / "store", site)
        self.asked, self.links = [], 0
        settings = Settings(Port("pty", path="/none"))
        self.source = ConcentratorSource(
            "c", [configured], settings, self.clock, StoreHistory(self.store), connector=self.connect
        )
        self.metrics = Metrics()
        self.metrics.add_concentrator("c", self.source.figures)
        self.source.start(Sink(self.store))

    def connect(self, _reactor, _port, link):
        self.link, self.wire = link, StringTransport()
        self.wire.abortConnection = lambda: link.connectionLost(None)
        self.links += 1
        link.makeConnection(self.wire)
        return succeed(None)

    def run(self, seconds):
        for _ in range(seconds):
            self.clock.advance(1)
            self.answer()

    def answer(self):
        octets = self.wire.value()
        self.wire.clear()
        for line in octets.decode().split("\r\n"):
            tag, rest = mnsh.split_tag(mnsh.checked(line))
            if tag is not None:
                asked = " ".join(mnsh.words(rest)[:2])
                self.asked.append(asked)
                for text in self.answers.get(asked, ["= ERROR SILENT"]):
                    self.link.dataReceived(f"#{tag} {text}\r\n".encode())

    def scraped(self):
        return prometheus_client.generate_latest(self.metrics.registry).decode()


def test_counters_and_clocks_that_cannot_be_leave_the_metrics_readable(tmp_path):
    stats = [f": pan airtime_ms={HUGE}", ": requests retries=7", "= OK"]
    clock = [f"= OK offset_ms=-{HUGE} round_trip_ms=1"]
    bench = Bench(tmp_path, SYS_STATS=stats, APP_CLOCK=clock)
    bench.run(4000)
    assert "APP CLOCK" in bench.asked
    assert "plc_retries" in bench.scraped()
    bench.store.close()


@pytest.mark.parametrize("time", ["-1", "NaN", str(2**32 * 1000), "9" * 19, "-" + "9" * 30, HUGE])
def test_events_at_a_time_that_no_clock_shows_are_no_events(tmp_path, time):
    bench = Bench(tmp_path)
    bench.run(5)
    bench.link.dataReceived(f"! EVENT meter=SM_ID1 number=0 time_ms={time} log=0 code=2\r\n".encode())
    good = f"! EVENT meter=SM_ID1 number=0 time_ms={START * 1000} log=0 code=2\r\n"
    bench.link.dataReceived(good.encode())
    bench.run(5)
    times = [event.time for event in bench.store.events("SM_ID1") if event.code is EventCode.POWER_UP]
    assert times == [START * 1000]
    assert bench.links == 1
    bench.store.close()


def test_a_flood_of_joins_is_one_question_at_a_time(tmp_path):
    bench = Bench(tmp_path)
    bench.run(5)
    bench.asked.clear()
    for _ in range(1000):
        bench.link.dataReceived(b"! JOINED meter=SM_ID1\r\n")
    bench.answer()
    bench.answer()
    bench.answer()
    assert bench.asked.count("APP METERS") == 2
    bench.store.close()


def test_a_shell_that_does_not_tell_its_meters_is_asked_less_and_less(tmp_path):
    bench = Bench(tmp_path, APP_METERS=["= ERROR BUSY"])
    bench.run(300)
    assert bench.links < 20
    bench.store.close()
