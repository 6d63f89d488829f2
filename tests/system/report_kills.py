"""Events through a buffered report control block while the server is killed again and again, by seed."""

import random
import time

from mms_harness import core
from mms_raw import RawError
from mms_reports import Reporter
from mms_site import T0, sample

from flexmap.mms import data

BLOCK = "FMTESTM1/LLN0$BR$brAll01"
POWER = 1
UNKNOWN = 11


class Subscriber:
    """A client that resynchronises by EntryID whenever its connection ends, and keeps what it is told."""

    def __init__(self):
        self.client = None
        self.entry = None
        self.events = []
        self.numbers = []

    def connect(self, port):
        """Connect and resynchronise."""
        self.close()
        self.client = client = Reporter(port)
        if self.entry is None:
            assert client.set(BLOCK, BufTm=data.unsigned(0), PurgeBuf=data.TRUE) == [None, None]
        else:
            error = client.set(BLOCK, EntryID=data.octet_string(self.entry))
            assert error is None, f"entry {self.entry.hex()} is not known: {error}"
        assert client.set(BLOCK, RptEna=data.TRUE) is None

    def listen(self, seconds):
        """Take what comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.client.hear(left)
            except (TimeoutError, RawError, OSError):
                break
        self.take()

    def take(self):
        for report in self.client.reports:
            self.entry = report["entry"]
            self.numbers.append(self.entry)
            if POWER in report["values"]:
                self.events.append(data.to_float(data.parts(data.parts(report["values"][POWER])[0])[0]))
        self.client.reports.clear()

    def close(self):
        if self.client is not None:
            self.take()
            self.client.close()
            self.client = None


def run(folder, events, seed, *, burst=20, kill=0.3):
    """Send events in bursts, kill the server after some of them; return the subscriber when all is over.

    A source delivers again what the server had not acknowledged, as a meter's ring buffer does.
    """
    chance = random.Random(seed)
    subscriber = Subscriber()
    done, kills = 0, 0
    while done < events:
        with core(folder, engine="native", store=folder / "store.sqlite") as server:
            subscriber.connect(server.port)
            while done < events:
                upto = min(events, done + chance.randint(1, burst))
                for number in range(done + 1, upto + 1):
                    server.update(sample("SM_1", time=T0 + 1000 * number, power=float(number)))
                if chance.random() < kill:
                    # Anywhere between two events: some are written, some sent, some neither.
                    time.sleep(chance.random() * 0.02)
                    server.process.kill()
                    server.process.wait()
                    kills += 1
                    subscriber.listen(0.2)
                    done = max(0, done)
                    break
                server.status()
                done = upto
                if chance.random() < 0.2:
                    subscriber.listen(0.02)
            else:
                while len(subscriber.events) < events and not _idle(subscriber):
                    pass
    return subscriber, kills


def _idle(subscriber):
    before = len(subscriber.numbers)
    subscriber.listen(1.0)
    return len(subscriber.numbers) == before
