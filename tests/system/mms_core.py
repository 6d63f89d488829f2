"""A core with nothing but the MMS engine, driven by JSON lines; a process of its own.

In:  {"samples": [...]}, {"result": [id, done, cause]}, {"status": true}, {"stop": true}
Out: {"port": n}, {"failed": text}, {"command": [...]}, {"status": {...}}, {"stopped": true}
"""

import os
import sys
from pathlib import Path

import msgspec
from twisted.internet import reactor, stdio
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver

from flexmap.faces.libiec61850.engine import LibIec61850Engine
from flexmap.faces.mms import EngineSettings, MmsFiles
from flexmap.faces.native.engine import NativeEngine
from flexmap.model import CommandResult, Sample, Site
from flexmap.store import Store

decode_samples = msgspec.json.Decoder(dict[str, list[Sample]]).decode


class Driver(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self, engine):
        self.engine = engine
        self.open = {}

    def say(self, **message):
        self.sendLine(msgspec.json.encode(message))

    def on_command(self, command):
        self.open[command.id] = Deferred()
        self.say(command=command)
        return self.open[command.id]

    def lineReceived(self, line):
        if line.startswith(b'{"samples"'):
            self.engine.update(decode_samples(line)["samples"])
            return
        message = msgspec.json.decode(line)
        if "result" in message:
            number, done, cause = message["result"]
            self.open.pop(number).callback(CommandResult(number, done, cause))
        elif "status" in message:
            self.say(
                status=msgspec.structs.asdict(self.engine.status) | {"pid": getattr(self.engine, "pid", None)}
            )
        elif "stop" in message:
            self.engine.stop().addCallback(self.stopped)

    def stopped(self, _):
        self.say(stopped=True)
        reactor.callLater(0.05, reactor.stop)

    def connectionLost(self, reason=None):
        if reactor.running:
            reactor.stop()


def main(name, site_file, cid, port, *limits):
    """``limits``: command timeout, silence; last the file of a store, if any."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    timeout, silence, *store_file = limits
    site = msgspec.json.decode(Path(site_file).read_bytes(), type=Site)
    if name == "native":
        store = Store(Path(store_file[0]), site).reports if store_file else None
        folder = os.environ.get("MMS_FILES")
        files = MmsFiles(folder=folder, deletable=True) if folder else None
        settings = EngineSettings(store=store, files=files)
        engine = NativeEngine(settings=settings, command_timeout=float(timeout))
    else:
        engine = LibIec61850Engine(command_timeout=float(timeout))
        engine.SILENCE_LIMIT = float(silence)
    driver = Driver(engine)
    stdio.StandardIO(driver)
    started = engine.start(site, Path(cid).read_bytes(), ("127.0.0.1", int(port)), driver.on_command)
    started.addCallbacks(lambda port: driver.say(port=port), lambda f: driver.say(failed=str(f.value)))
    reactor.run()


main(*sys.argv[1:])
