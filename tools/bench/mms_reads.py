"""MMS reads/s of flexmap's engine under 1 Hz updates against a bare libiec61850 server with static values.

Both serve the same generated CID; one client (libiec61850's own) reads one data object, then a data set, in turns
of a second from the one and the other. Prints reads/s and the ratio of each round's pair, median and range.

    python tools/bench/mms_reads.py [--meters 20] [--rounds 8] [--seconds 1.0]
"""

import argparse
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from ctypes import byref, c_bool, c_char_p, c_int, c_void_p

from flexmap.faces.libiec61850 import ctypes_api
from flexmap.mapping.table import load_builtin
from flexmap.model import Kind, Meter, Sample, Site
from flexmap.scl.generate import FileKind, generate

DEVICE = "BENCHSM1"
ITEMS = {"data object": "MMXN1$MX$Watt", "data set": "LLN0$Meas"}
TYPES = load_builtin()


def site(meters):
    return Site(
        name="bench",
        ied="BENCH",
        meters=tuple(
            Meter(id=f"SM_{n}", type="single-phase" if n else "three-phase", ld=f"SM{n}", sap=17 + n)
            for n in range(meters)
        ),
        types=TYPES,
    )


def sample(served, meter, second):
    """Every instantaneous value and every energy is another one each second."""
    values = []
    for position, point in enumerate(served.type_of(meter).points):
        if point.kind is Kind.INSTANTANEOUS:
            values.append(100.0 + position + math.sin(second + position))
        else:
            values.append(False if point.kind is Kind.STATUS else 1000 + second)
    return Sample(meter.id, 1_750_000_000_000 + 1000 * second, tuple(values), (0,) * len(values))


def serve_engine(meters):
    """Run the engine with 1 Hz updates; says its port."""
    from twisted.internet import reactor, task  # noqa: PLC0415 - only this process has a reactor

    from flexmap.faces.libiec61850.engine import LibIec61850Engine  # noqa: PLC0415

    served = site(meters)
    engine = LibIec61850Engine()
    seconds = iter(range(1 << 30))

    def update():
        second = next(seconds)
        engine.update(sample(served, meter, second) for meter in served.meters)

    started = engine.start(served, generate(served, FileKind.CID), ("127.0.0.1", 0), lambda _: None)
    started.addCallback(lambda port: (print(port, flush=True), task.LoopingCall(update).start(1.0)))
    reactor.run()


def serve_bare(meters):
    """Run a server of the library alone, in its own thread, nothing of Python in its way; says its port."""
    from flexmap.faces.libiec61850 import model, server  # noqa: PLC0415
    from flexmap.scl import served  # noqa: PLC0415

    built_site = site(meters)
    library = ctypes_api.load()
    library.IedServer_start.argtypes = (c_void_p, c_int)
    library.IedServer_start.restype = None
    ied = served.parse(generate(built_site, FileKind.CID), built_site.ied)
    bare = server.Server(library, model.build(library, ied).pointer, ied, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    library.IedServer_setLocalIpAddress(bare.pointer, b"127.0.0.1")
    library.IedServer_start(bare.pointer, port)
    print(port, flush=True)
    sys.stdin.read()


class Client:
    """One connection, reading as fast as it is answered."""

    def __init__(self, library, port):
        self.library = library
        for _ in range(5):
            connection = library.IedConnection_create()
            error = c_int(0)
            library.IedConnection_connect(connection, byref(error), b"127.0.0.1", port)
            self.mms = library.IedConnection_getMmsConnection(connection)
            if not error.value and self.read(ITEMS["data object"]):
                return
            time.sleep(0.2)
        sys.exit(f"no connection to port {port}")

    def read(self, item):
        """Read a variable, or a data set; False if it failed."""
        error = c_int(0)
        arguments = (self.mms, byref(error), DEVICE.encode(), item.encode())
        if item.count("$") == 1:
            value = self.library.MmsConnection_readNamedVariableListValues(*arguments, True)
        else:
            value = self.library.MmsConnection_readVariable(*arguments)
        if value is None or error.value:
            return False
        self.library.MmsValue_delete(value)
        return True

    def rate(self, item, seconds):
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            for _ in range(50):
                if not self.read(item):
                    sys.exit(f"read of {item} failed")
            count += 50
        return count / passed


def start(kind, meters):
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--meters", str(meters)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return process, int(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meters", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--serve", choices=["engine", "bare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        {"engine": serve_engine, "bare": serve_bare}[options.serve](options.meters)
        return
    library = ctypes_api.load()
    library.MmsConnection_readNamedVariableListValues.restype = c_void_p
    library.MmsConnection_readNamedVariableListValues.argtypes = (c_void_p, c_void_p, c_char_p, c_char_p, c_bool)
    servers = {kind: start(kind, options.meters) for kind in ("engine", "bare")}
    try:
        clients = {kind: Client(library, port) for kind, (_, port) in servers.items()}
        print(f"{options.meters} meters, 1 client, {options.rounds} rounds of {options.seconds:g} s each")
        for name, item in ITEMS.items():
            rounds = [
                {kind: clients[kind].rate(item, options.seconds) for kind in ("engine", "bare")}
                for _ in range(options.rounds)
            ]
            ratios = sorted(rates["engine"] / rates["bare"] for rates in rounds)
            engine, bare = (statistics.median(rates[kind] for rates in rounds) for kind in ("engine", "bare"))
            print(
                f"{name:12} engine at 1 Hz {engine:7.0f}/s   bare, static {bare:7.0f}/s   "
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f})"
            )
    finally:
        for process, _ in servers.values():
            process.kill()
            process.wait()
    # The library's threads outlive a clean exit of the interpreter.
    sys.stdout.flush()
    os._exit(0)


main()
