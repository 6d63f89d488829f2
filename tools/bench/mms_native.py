"""The native MMS engine against libiec61850, in the same interleaved run, on the same generated CID.

    python tools/bench/mms_native.py reads [--meters 9] [--rounds 6] [--seconds 1.0]
    python tools/bench/mms_native.py many [--meters 999] [--clients 100]
    python tools/bench/mms_native.py start [--meters 99 999 4999]

``reads``: 1 and 5 clients that ask again when they are answered (mms_load.c), turns from the one and the other.
``many``: the native engine with many clients; libiec61850 holds 5, its total with 5 is what ours is held against.
``start``: seconds from the process's start to the first client and their parts, a full browse (names of every
device, the type of every logical node), resident memory, processor time when idle.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "clients"))

import msgspec
from mms_raw import INITIATE, Raw, attributes, name_list, read, read_list, variable

from flexmap.mapping.table import load_builtin
from flexmap.mms import ber, presentation, session
from flexmap.model import Meter, Site
from flexmap.scl.abilities import NATIVE
from flexmap.scl.generate import FileKind, generate

DEVICE = "BENCHSM1"
ENGINES = ("libiec61850", "native")
REQUESTS = {
    "data object": read(variable(DEVICE, "MMXN1$MX$Watt")),
    "data set": read_list(DEVICE, "LLN0$Meas"),
    "logical node": read(variable(DEVICE, "MMXN1")),
    "100 variables": read(*[variable(DEVICE, "MMXN1$MX$Watt$mag$f")] * 100),
}


def site(meters):
    return Site(
        name="bench",
        ied="BENCH",
        meters=tuple(
            Meter(id=f"SM_{n}", type="single-phase" if n else "three-phase", ld=f"SM{n}", sap=17 + n)
            for n in range(meters)
        ),
        types=load_builtin(),
    )


def serve_native(meters, scl):
    """Serve with flexmap's engine; says its port and how long the parts took."""
    begun = time.perf_counter()
    from twisted.internet import reactor  # noqa: PLC0415 - only this process has a reactor

    from flexmap.faces.native.engine import NativeEngine  # noqa: PLC0415

    served = site(meters)
    imported = time.perf_counter()
    engine = NativeEngine()

    def say(port):
        print(port, f"{imported - begun:.2f}", f"{time.perf_counter() - imported:.2f}", flush=True)

    def fail(failure):
        failure.printTraceback()
        reactor.stop()

    engine.start(served, Path(scl).read_bytes(), ("127.0.0.1", 0), lambda _: None).addCallbacks(say, fail)
    reactor.run()


def serve_libiec61850(_meters, scl):
    """Serve with the library alone, in its own thread, nothing of Python in its way; says its port."""
    import socket  # noqa: PLC0415
    from ctypes import c_int, c_void_p  # noqa: PLC0415

    from flexmap.faces.libiec61850 import ctypes_api, model, server  # noqa: PLC0415
    from flexmap.scl import served  # noqa: PLC0415

    begun = time.perf_counter()
    library = ctypes_api.load()
    library.IedServer_start.argtypes = (c_void_p, c_int)
    library.IedServer_start.restype = None
    ied = served.parse(Path(scl).read_bytes(), "BENCH")
    bare = server.Server(library, model.build(library, ied).pointer, ied, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    library.IedServer_setLocalIpAddress(bare.pointer, b"127.0.0.1")
    library.IedServer_start(bare.pointer, port)
    print(port, "0", f"{time.perf_counter() - begun:.2f}", flush=True)
    sys.stdin.read()


class Served:
    """One engine in a process of its own."""

    def __init__(self, kind, meters, scl):
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", "--kind", kind, "--meters", str(meters), "--scl", str(scl)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        port, self.imports, self.building = self.process.stdout.readline().split()
        self.port = int(port)
        with Raw(self.port) as client:
            client.ask(b"\x82\x00")
        self.started = time.perf_counter() - begun

    def memory(self):
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def processor(self):
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.kill()
        self.process.wait()


class Load:
    """The pollers."""

    def __init__(self, folder):
        self.program = folder / "mms_load"
        self.frame = folder / "frame"
        subprocess.run(["cc", "-O2", "-o", self.program, Path(__file__).with_name("mms_load.c")], check=True)

    def run(self, clients, request, seconds):
        """Requests per second, median and 99th percentile of their times in microseconds."""
        pdu = ber.tlv(0xA0, b"\x02\x02\x01\x00", request)
        unit = session.DATA + presentation.encode_data(3, pdu)
        frame = b"\x03\x00" + (len(unit) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + unit
        self.frame.write_bytes(frame)
        offset = frame.index(b"\x02\x02\x01\x00") + 2
        descriptors = [client.socket.fileno() for client in clients]
        for client in clients:
            if client.ask(request)[:2] != b"\xa1\xa4":
                sys.exit("the request is not answered")
            client.socket.settimeout(None)
        done = subprocess.run(
            [self.program, str(seconds), self.frame, str(offset), *map(str, descriptors)],
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            check=True,
        )
        return [float(word) for word in done.stdout.split()]


def compare(load, served, counts, options):
    """Print each engine's median of all rounds, the ratio's median and range."""
    for name, request in REQUESTS.items():
        for clients in counts:
            most = {"native": clients, "libiec61850": min(clients, 5)}
            connections = {
                kind: [Raw(each.port, initiate=INITIATE) for _ in range(most[kind])]
                for kind, each in served.items()
            }
            rounds = [
                {kind: load.run(connections[kind], request, options.seconds) for kind in served}
                for _ in range(options.rounds)
            ]
            for each in connections.values():
                for client in each:
                    client.close()
            time.sleep(0.2)
            ratios = sorted(figures["native"][0] / figures["libiec61850"][0] for figures in rounds)
            shown = "   ".join(
                f"{kind} {statistics.median(f[kind][0] for f in rounds):7.0f}/s "
                f"(p50 {statistics.median(f[kind][1] for f in rounds):5.0f}, "
                f"p99 {statistics.median(f[kind][2] for f in rounds):6.0f} µs)"
                for kind in served
            )
            print(
                f"{name:14} {clients:3} clients   {shown}   "
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f})",
                flush=True,
            )


def reads(options, folder, counts):
    meters = options.meters[0]
    scl = folder / "bench.cid"
    one_instance = msgspec.structs.replace(NATIVE, max_instances=1)  # each one costs libiec61850 dearly
    scl.write_bytes(generate(site(meters), FileKind.CID, abilities=one_instance))
    load = Load(folder)
    served = {}
    try:
        for kind in ENGINES:
            served[kind] = Served(kind, meters, scl)
        print(f"{meters + 1} logical devices, {options.rounds} rounds of {options.seconds:g} s each, in turns")
        compare(load, served, counts, options)
    finally:
        for each in served.values():
            each.close()


def browse(port):
    """Names of every device and the type of every logical node; return seconds, devices, nodes."""
    begun = time.perf_counter()
    nodes = 0
    with Raw(port) as client:
        devices = list(names(client, 9))
        for device in devices:
            for item in names(client, 0, device):
                if "$" not in item:
                    nodes += 1
                    client.ask(attributes(device, item))
    return time.perf_counter() - begun, len(devices), nodes


def names(client, object_class, domain=None):
    after = None
    while True:
        answer = client.ask(name_list(object_class, domain, after))
        _, begin, end = ber.element(answer, 1, len(answer))
        _, first, last = ber.element(answer, begin, end)
        found = [answer[a:b].decode() for _, a, b in ber.elements(answer, first, last)]
        yield from found
        if answer[last:end] == b"\x81\x01\x00" or not found:
            return
        after = found[-1]


def start(options, folder):
    for meters in options.meters:
        scl = folder / f"{meters}.cid"
        scl.write_bytes(generate(site(meters), FileKind.CID, abilities=NATIVE))
        served = Served("native", meters, scl)
        try:
            resident = served.memory()
            seconds, devices, nodes = browse(served.port)
            before = served.processor()
            time.sleep(5)
            idle = (served.processor() - before) / 5
            size = scl.stat().st_size / 2**20
            print(
                f"{devices:5} logical devices ({size:.1f} MiB of SCL): first client after {served.started:.2f} s "
                f"(imports {served.imports}, SCL and variables {served.building}), {resident:.0f} MiB; "
                f"full browse {seconds:.2f} s ({nodes} nodes); idle {idle:.1%}",
                flush=True,
            )
        finally:
            served.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reads", "many", "start", "serve"])
    parser.add_argument("--meters", type=int, nargs="+")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--scl", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "serve":
        {"native": serve_native, "libiec61850": serve_libiec61850}[options.kind](options.meters[0], options.scl)
        return
    defaults = {"reads": [9], "many": [999], "start": [99, 999, 4999]}
    options.meters = options.meters or defaults[options.what]
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "start":
            start(options, Path(folder))
        else:
            reads(options, Path(folder), (1, 5) if options.what == "reads" else (5, options.clients))


main()
