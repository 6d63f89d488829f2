"""A site in virtual time: the concentrator's process class, and the core's store, gateway and source.

Either can be killed at any moment, as by ``kill -9``: nothing of it runs any more, what it has on disk stays.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

from twisted.internet.defer import fail, succeed
from twisted.internet.task import LoopingCall

from flexmap.g3.kernel import VirtualTime
from flexmap.gateway import concentrator as concentrator_module
from flexmap.gateway import concentrator_session
from flexmap.gateway import config as configuration
from flexmap.gateway.concentrator import Options, Process
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.gateway.history import StoreHistory
from flexmap.gateway.metrics import Metrics
from flexmap.gateway.service import Gateway
from flexmap.model import RemoteError
from flexmap.sources.concentrator.port import Port
from flexmap.sources.concentrator.source import ConcentratorSource, Settings
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.mnsh import parse_line
from flexmap.stcomet.record import Status
from flexmap.stcomet.shell import Shell
from flexmap.store import Store

START = 1_795_392_000
PORT = Port("pty", path="/none")
FLUSH_SECONDS = 2.0
"""As the gateway's own."""


class Mortal:
    """A reactor in virtual time that can die, and with it every call still to come."""

    def __init__(self, time):
        self._time = time
        self.seconds = time.seconds
        self.alive = True

    def callLater(self, delay, call, *args):
        return self._time.callLater(delay, self._call, call, args)

    def _call(self, call, args):
        if self.alive:
            call(*args)


class Wire:
    """A line between the core's link and a session of the concentrator's shell: both ends' transport."""

    def __init__(self, site, link, session):
        self.site, self.link, self.session = site, link, session
        self.up = True
        self.dataBuffer = b""
        session.makeConnection(SimpleNamespace(write=self.to_core, loseConnection=self.drop, dataBuffer=b""))
        link.makeConnection(SimpleNamespace(write=self.to_shell, abortConnection=self.drop))

    def to_core(self, octets):
        self.site.time.callLater(0, self._deliver, self.link, octets)

    def to_shell(self, octets):
        self.site.time.callLater(0, self._deliver, self.session, octets)

    def _deliver(self, end, octets):
        if self.up:
            end.dataReceived(octets)

    def drop(self):
        if self.up:
            self.up = False
            self.site.time.callLater(0, self._dropped)

    def _dropped(self):
        for end, alive in ((self.session, self.site.concentrator), (self.link, self.site.core)):
            if alive is not None:
                end.connectionLost(None)


class Core:
    """Store, gateway and the source that reads the concentrator."""

    def __init__(self, site, folder):
        self.reactor = Mortal(site.time)
        self.folder = folder
        self.store = Store(folder / "flexmap.sqlite", site.site)
        self.gateway = Gateway(self.reactor, site.site, self.store, Metrics())
        self.gateway.resume(list(self.store.last_samples().values()))
        pairs = [(meter, site.site.type_of(meter)) for meter in site.site.meters]
        history = StoreHistory(self.store)
        self.source = ConcentratorSource("c", pairs, Settings(PORT), self.reactor, history, connector=site.connect)
        self.gateway.add_source(site.site.meters[0].source, self.source, 60.0)
        self.gateway.start()
        self.source.start(self.gateway)
        flush = LoopingCall(self.store.flush)
        flush.clock = self.reactor
        flush.start(FLUSH_SECONDS, now=False)


class Site:
    """The demo's meters, a concentrator, a core; ``loss`` is the share of frames that the line loses.

    ``far``: the meters have what meters behind a concentrator have.
    """

    def __init__(self, folder: Path, monkeypatch, *, meters=20, loss=0.0, settle=0.0, seed=1, far=False):
        self.time = VirtualTime(START)
        self.folder = folder
        self.loss = loss
        self.settle = settle
        demo = DemoOptions(meters=meters, port="pty:none" if far else "")
        self.site = configuration.parse(write_config(demo), Path("demo.toml")).site
        self.names = [meter.id for meter in self.site.meters]
        self.concentrator = self.core = self._session = self._wire = None
        self._draw = random.Random(seed)
        self._generation = 0
        self._recorded = {}
        self._changed = {}
        monkeypatch.setattr(concentrator_session, "time", SimpleNamespace(monotonic=self.time.seconds))
        monkeypatch.setattr(concentrator_module, "offer", self._offer)
        monkeypatch.setattr(concentrator_module, "SystemRandom", lambda: random.Random(self._draw.random()))

    def _offer(self, _reactor, _port, session, *_rest):
        self._session = session
        return "virtual", lambda: None

    # The concentrator

    def start_concentrator(self):
        pairs = [(meter, self.site.type_of(meter)) for meter in self.site.meters]
        options = Options(
            ports=(PORT,),
            state=self.folder / "pan",
            settings=SimulationSettings(seed=1, substation="SUB1"),
            settle=self.settle,
        )
        self._reactor = Mortal(self.time)
        self.concentrator = Process(self._reactor, pairs, sample_load(), options)
        self.medium.frame_loss = self.loss
        self.concentrator.start()

    @property
    def medium(self):
        return self.concentrator._node._mac._medium

    def kill_concentrator(self):
        """Kill it, and the meters' simulation with it; what they have recorded is noted before."""
        self._note()
        self._reactor.alive = False
        self.concentrator = None
        if self._wire is not None:
            self._wire.drop()

    # The core

    def connect(self, _reactor, _port, link):
        if self.concentrator is None:
            return fail(RemoteError("there is no concentrator"))
        self._wire = Wire(self, link, self._session())
        return succeed(None)

    def start_core(self):
        self._generation += 1
        folder = self.folder / f"core{self._generation}"
        if self.core is not None:
            raise AssertionError("it runs")
        before = self.folder / f"core{self._generation - 1}"
        if before.exists():
            # What a killed process leaves: its files as they are, without a last flush.
            shutil.copytree(before, folder, ignore=shutil.ignore_patterns("*.lock"))
        else:
            folder.mkdir()
        self.core = Core(self, folder)

    def kill_core(self):
        self.core.reactor.alive = False
        self.core = None
        if self._wire is not None:
            self._wire.drop()

    # What has come of it

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)

    def behind(self):
        """Seconds that are known to be missing, of all meters."""
        return self.core.source._planner.behind()

    def until_read(self, second, most=3600):
        """Run until nothing is missing up to a second; return how long that has taken."""
        began = self.time.seconds()
        while self.behind() or min(self.newest().values()) < second:
            self.run(5)
            assert self.time.seconds() < began + most, (self.behind(), self.newest())
        return self.time.seconds() - began

    def newest(self):
        """Second of the newest stored record of each meter, 0 if there is none."""
        newest = self.core.store.last_samples()
        return {name: newest[name].time // 1000 if name in newest else 0 for name in self.names}

    def ages(self):
        """Seconds since the newest stored record of each meter."""
        return {name: self.time.seconds() - second for name, second in self.newest().items()}

    def _note(self):
        for name, meter in self.concentrator.street.meters.items():
            records = list(meter.metrology.ring.since(0))
            self._recorded.setdefault(name, set()).update(record.time for record in records)
            marked = (record.time for record in records if record.state.status & Status.CLOCK_CHANGED)
            self._changed.setdefault(name, set()).update(marked)

    def recorded(self, name, start, stop):
        """Seconds from ``start`` to before ``stop`` that a meter itself has recorded."""
        self._note()
        return {second for second in self._recorded[name] if start <= second < stop}

    def stepped(self, name):
        """Seconds of a meter before which its clock was stepped, by its own marks."""
        self._note()
        return sorted(self._changed[name])

    def noted(self, code):
        """Meters that have an event of this code in the store."""
        return {name for name in self.names if any(event.code is code for event in self.core.store.events(name))}

    def seconds(self, name, start, stop):
        """Stored seconds of a meter from ``start`` to before ``stop``, as often as they are stored."""
        samples = self.core.store.samples(name, start * 1000, stop * 1000 - 1)
        return [sample.time // 1000 for sample in samples]


class Person:
    """Somebody at the concentrator's shell."""

    def __init__(self, site):
        self.site = site
        self.lines = []
        self.shell = Shell(site.concentrator.core, lambda octets: self.lines.append(octets.decode()))

    def ask(self, text, wait=1.0):
        self.lines.clear()
        self.shell.feed(text.encode() + b"\r")
        self.site.run(wait)
        return [parse_line(line) for line in "".join(self.lines).splitlines()]

    def stats(self):
        (pan,) = (line for line in self.ask("SYS STATS") if line.words == ("pan",))
        return {name: int(value) for name, value in pan.fields.items()}

    def pib(self, name):
        return int(self.ask(f"PIB GET {name}")[-1].fields["value"])
