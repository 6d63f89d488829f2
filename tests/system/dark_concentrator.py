"""`flexmap concentrator` whose line is cut on SIGUSR1 and mended on SIGUSR2: all meters fall silent.

Arguments are those of `flexmap concentrator`.
"""

import signal

from flexmap.cli.concentrator import concentrator
from flexmap.g3.medium import Medium
from flexmap.g3.topology import network
from flexmap.gateway import concentrator as module
from flexmap.sources.simulation.noise import generator

FEEDERS = sorted({spot.place.feeder for spot in network(4, generator(1, "spots"))})


class DarkMedium(Medium):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        signal.signal(signal.SIGUSR1, lambda *_: [self.cut(feeder, 0.0) for feeder in FEEDERS])
        signal.signal(signal.SIGUSR2, lambda *_: [self.mend(feeder) for feeder in FEEDERS])


module.Medium = DarkMedium
concentrator()
