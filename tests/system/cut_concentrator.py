"""`flexmap concentrator` with a circuit that can be opened: SIGUSR1 cuts off the last meter, SIGUSR2 mends.

Arguments: configuration file, shell's port, state folder. Requests to meters are given up sooner than usual.
"""

import signal
import sys
from pathlib import Path

from twisted.internet import reactor

from flexmap.gateway import config as configuration
from flexmap.gateway.concentrator import Options, Process
from flexmap.sources.concentrator.port import parse_port
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.stcomet.requests import Settings

REPLY_TIMEOUT = 4.0


def main(config, port, state):
    site = configuration.load(Path(config)).site
    settings = SimulationSettings(seed=1, substation="SUB1")
    options = Options(ports=(parse_port(port, "port"),), state=Path(state), settings=settings, settle=180.0)
    process = Process(reactor, [(meter, site.type_of(meter)) for meter in site.meters], sample_load(), options)
    process.core.requests.settings = Settings(reply_timeout=REPLY_TIMEOUT, bulk_timeout=REPLY_TIMEOUT)
    last = process.street.nodes[site.meters[-1].id]
    feeder, medium = last.line.place.feeder, last._mac._medium

    def on(number, call, *arguments):
        signal.signal(number, lambda *_: reactor.callFromThread(call, *arguments))

    on(signal.SIGUSR1, medium.cut, feeder, last.line.place.metres - 0.1)
    on(signal.SIGUSR2, medium.mend, feeder)
    reactor.callWhenRunning(lambda: print("shell:", *process.start(), flush=True))
    reactor.addSystemEventTrigger("before", "shutdown", process.stop)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
