"""Buffered reports of the native MMS engine: every meter at 1 Hz, a BRCB for each, shared among the clients.

The server is a process of its own with a store on disk. The clients take every report and measure from
the sample's entry into the engine to the report's arrival (one clock, one machine). Prints the server's processor
time as a share of one core, reports per second and the latency's median and 99th percentile. The buffer time is 0.

    python tools/bench/mms_reports.py [--meters 1000] [--clients 10] [--seconds 20]
"""

import argparse
import asyncio
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flexmap.mapping.table import load_builtin
from flexmap.mms import acse, ber, data, presentation, session
from flexmap.model import Kind, Meter, Sample, Site
from flexmap.scl.abilities import NATIVE
from flexmap.scl.generate import FileKind, generate

TYPES = load_builtin()
SLICES = 20
"""Parts of the meters that are read one after the other within a second."""
MEMBERS = 14
INITIATE = bytes.fromhex(
    "a826 8003 00fde8 8101 05 8201 05 8301 0a a416 8001 01 8103 05f100 820c 03ee1c00000408000079ef18"
)


def site(meters):
    return Site(
        name="bench",
        ied="BENCH",
        meters=tuple(Meter(id=f"SM_{n}", type="single-phase", ld=f"SM{n}", sap=17 + n) for n in range(meters)),
        types=TYPES,
    )


def sample(served, meter, now):
    """Every value is another one each second; the time is that of the entry into the engine."""
    values = []
    for position, point in enumerate(served.type_of(meter).points):
        if point.kind is Kind.STATUS:
            values.append(False)
        elif point.kind is Kind.INSTANTANEOUS:
            values.append(100.0 + position + math.sin(now / 1000 + position))
        else:
            values.append(now // 1000)
    return Sample(meter.id, now, tuple(values), (0,) * len(values))


def serve(meters, seconds, folder):
    """Run the engine; says its port, then its processor time for the seconds in which clients were there."""
    from twisted.internet import reactor, task  # noqa: PLC0415 - only this process has a reactor

    from flexmap.faces.mms import EngineSettings  # noqa: PLC0415
    from flexmap.faces.native.engine import NativeEngine  # noqa: PLC0415
    from flexmap.store import Store  # noqa: PLC0415

    served = site(meters)
    store = Store(Path(folder) / "bench.sqlite", served)
    engine = NativeEngine(settings=EngineSettings(store=store.reports))
    slices = [served.meters[number::SLICES] for number in range(SLICES)]
    turn = 0

    def feed():
        nonlocal turn
        now = time.time_ns() // 1_000_000
        engine.update([sample(served, meter, now) for meter in slices[turn % SLICES]])
        turn += 1

    def used():
        return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])

    def begin():
        before, samples, start = used(), engine.status.samples, time.monotonic()
        reactor.callLater(seconds, end, before, samples, start)

    def end(before, samples, start):
        took = time.monotonic() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        rate = (engine.status.samples - samples) / took
        print(json.dumps({"cpu": (used() - before) / took, "samples": rate, "memory": memory}), flush=True)
        reactor.stop()

    def serving(port):
        task.LoopingCall(feed).start(1 / SLICES)
        print(json.dumps({"port": port}), flush=True)
        reactor.callInThread(wait)

    def wait():
        sys.stdin.readline()
        reactor.callFromThread(begin)

    scl = generate(served, FileKind.CID, abilities=NATIVE)
    engine.start(served, scl, ("127.0.0.1", 0), lambda _: None).addCallback(serving)
    reactor.run()


class Client(asyncio.Protocol):
    """Defines a data set of every value for each of its meters, enables a BRCB on it, takes the reports."""

    def __init__(self):
        self.buffer = b""
        self.answers = asyncio.Queue()
        self.latencies = []
        self.reports = self.members = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, octets):
        self.buffer += octets
        while len(self.buffer) >= 4 and len(self.buffer) >= (size := int.from_bytes(self.buffer[2:4], "big")):
            frame, self.buffer = self.buffer[:size], self.buffer[size:]
            at = frame.find(b"\xa3", 7, 40)
            if at > 0 and b"RPT" in frame[at : at + 20]:
                self.report(frame)
            else:
                self.answers.put_nowait(frame)

    def report(self, frame):
        arrived = time.time_ns() // 1_000_000
        at = frame.rfind(b"\x91\x08")
        seconds, fraction = (
            int.from_bytes(frame[at + 2 : at + 6], "big"),
            int.from_bytes(frame[at + 6 : at + 9], "big"),
        )
        self.reports += 1
        self.members += frame.count(b"\x91\x08")
        self.latencies.append(arrived - seconds * 1000 - (fraction * 1000 >> 24))

    async def send(self, unit):
        self.transport.write(b"\x03\x00" + (len(unit) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + unit)
        return await self.answers.get()

    async def ask(self, service):
        pdu = ber.tlv(0xA0, b"\x02\x01\x01", service)
        return await self.send(session.DATA + presentation.encode_data(3, pdu))

    async def subscribe(self, meters, names):
        request = bytes.fromhex("e0 0000 0001 00 c0 01 0d c1 02 0000 c2 02 0001")
        self.transport.write(b"\x03\x00\x00" + bytes((len(request) + 5, len(request))) + request)
        await self.answers.get()
        user = acse.request(3, INITIATE, None)
        selectors = {"calling": b"\0\0\0\1", "called": b"\0\0\0\1"}
        connect = presentation.connect(user, acse_context=1, mms_context=3, **selectors)
        await self.send(session.connect(connect, b"\0\1", b"\0\1"))
        for ld in meters:
            domain = f"BENCH{ld}"
            members = [ber.tlv(0x30, ber.tlv(0xA0, _name(domain, item))) for item in names]
            await self.ask(ber.tlv(0xAB, _name(domain, "LLN0$bench"), ber.tlv(0xA0, *members)))
            for attribute, value in (
                ("DatSet", data.visible_string(f"{domain}/LLN0$bench")),
                ("BufTm", data.unsigned(0)),
                ("TrgOps", data.bit_string(0b010000, 6)),
                ("RptEna", data.TRUE),
            ):
                variable = ber.tlv(0x30, ber.tlv(0xA0, _name(domain, f"LLN0$BR$brState01${attribute}")))
                answer = await self.ask(ber.tlv(0xA5, ber.tlv(0xA0, variable), ber.tlv(0xA0, value)))
                assert answer.endswith(b"\x81\x00"), (attribute, answer.hex())


def _name(domain, item):
    return ber.tlv(0xA1, ber.tlv(0x1A, domain.encode()), ber.tlv(0x1A, item.encode()))


def members_of(served):
    """The first 14 data objects that carry values of a meter."""
    from flexmap.mapping import cdc  # noqa: PLC0415

    meter = served.meters[0]
    names = {}
    for point in served.type_of(meter).points:
        reference = point.reference_for(meter.direction)
        names[f"{reference.ln}${cdc.place(reference).fc}${reference.do.partition('.')[0]}"] = None
    return list(names)[:MEMBERS]


async def watch(port, options, go):
    served = site(options.meters)
    names = members_of(served)
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(options.clients):
        _, client = await loop.create_connection(Client, "127.0.0.1", port)
        await client.subscribe([meter.ld for meter in served.meters[number :: options.clients]], names)
        clients.append(client)
    await asyncio.sleep(2)
    for client in clients:
        client.latencies, client.reports, client.members = [], 0, 0
    go()
    await asyncio.sleep(options.seconds)
    latencies = sorted(value for client in clients for value in client.latencies)
    reports = sum(client.reports for client in clients)
    members = sum(client.members for client in clients)
    return len(names), reports / options.seconds, members / max(reports, 1), latencies


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.meters, options.seconds, options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--meters", str(options.meters), "--seconds", str(options.seconds), "--serve", folder]
        server = subprocess.Popen(
            [sys.executable, __file__, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        def go():
            server.stdin.write("go\n")
            server.stdin.flush()

        port = json.loads(server.stdout.readline())["port"]
        width, rate, members, latencies = asyncio.run(watch(port, options, go))
        figures = json.loads(server.stdout.readline())
        server.wait()
    p99 = latencies[len(latencies) * 99 // 100]
    load = os.getloadavg()[0]
    print(f"{options.meters} meters at 1 Hz, {width} members, {options.clients} clients; load {load:.1f}")
    print(f"server: {figures['cpu']:.1%} of one core, {figures['memory']} MiB, {figures['samples']:.0f} samples/s")
    print(f"reports: {rate:.0f}/s of {members:.1f} members; sample to report: median "
          f"{statistics.median(latencies):.0f} ms, p99 {p99:.0f} ms, most {latencies[-1]:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
