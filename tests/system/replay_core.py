"""A gateway whose one meter lives a day of February 2007 as fast as it can: CONFIG START.

Serves the first second, prints "first"; once the file `go` stands beside the configuration it replays the day
up to and with the next midnight and prints "done".
"""

import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.run import Service
from flexmap.model import CommandResult
from flexmap.sources.load import DAY, sample_load
from flexmap.sources.simulation.settings import Connection, SimulationSettings
from flexmap.sources.simulation.site import SiteModel

BATCH = 300
"""Seconds handed over at once."""


class Replay:
    """A source in virtual time: plain replay, share 1, no class error."""

    name = "simulation"

    def __init__(self, meters, start):
        settings = SimulationSettings(connections={meter.id: Connection() for meter, _ in meters})
        self.model = SiteModel(meters, sample_load(), settings)
        self.second, self.end = start, start + DAY
        self.sink = None

    def start(self, sink):
        self.sink = sink
        self.sink.accept(self.model.step(self.second))
        self.second += 1
        print("first", flush=True)
        self.wait()

    def wait(self):
        if (Path(sys.argv[1]).parent / "go").exists():
            self.turn()
        else:
            reactor.callLater(0.05, self.wait)

    def turn(self):
        samples = []
        for second in range(self.second, min(self.second + BATCH, self.end + 1)):
            samples += self.model.step(second)
        self.second += BATCH
        self.sink.accept(samples)
        if self.second > self.end:
            print("done", flush=True)
        else:
            reactor.callLater(0, self.turn)

    def stop(self):
        return succeed(None)

    def command(self, command):
        return succeed(CommandResult(command.id, False, "a replay takes no commands"))


class ReplayService(Service):
    def _simulation(self, _section, meters, _last):
        return Replay(meters, int(sys.argv[2]))


def main():
    config = configuration.load(Path(sys.argv[1]))
    service = ReplayService(reactor, config, secrets.load(config))

    def failed(failure):
        failure.printTraceback()
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(service.start()).addErrback(failed))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(service.stop()))
    reactor.run()


main()
