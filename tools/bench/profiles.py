"""What a profile of 1440 rows costs the server, and 100 head-ends that read one each while 1,000 meters sample.

Usage: python tools/bench/profiles.py [--meters N] [--head-ends N] [--seconds S] [--folder F]

The DLMS face and the store run in a process of their own, with a day of load profile 2 of every meter filled in by
SQL. Alone, one head-end reads clock and three registers of all rows at PDU 65535: processor time of the server for
each read, against a raw read of the same rows by sqlite3. Then samples of all meters come in every second, and the
head-ends read profiles one after the other; one more reads a register all the time. Latency is of a whole answer,
at the client; memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import succeed
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.task import LoopingCall

from flexmap.dlms import wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import AttributeReference, Client, ClientSettings
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.selection import CaptureObject, RangeSelection
from flexmap.faces.dlms.face import DlmsFace, DlmsSettings
from flexmap.faces.dlms.objects import CLOCK_COLUMN, PROFILE_2
from flexmap.faces.dlms.ports import WrapperPort
from flexmap.mapping.table import load_builtin
from flexmap.model import CommandResult, Meter, Sample, Site, obis
from flexmap.store import Store, StoreSettings

KIND = load_builtin()["single-phase"]
ROWS = 1440
SAP, SECRET = 18, b"benchmark"
FIRST_SAP = 1000
FILL = """
WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < ?)
INSERT INTO profile_2 SELECT (SELECT id FROM meter WHERE name = ?), (? + n * 60) * 1000, 0, 0, ?, ? FROM step
"""
RAW = "SELECT time, status, clock_status, layout, data FROM profile_2 WHERE meter = ? ORDER BY time"
REGISTERS = [CaptureObject(4, obis.parse(f"1-0:{c}.8.0"), 2) for c in (1, 2, 3)]


def site_of(meters: int) -> Site:
    made = tuple(Meter(id=f"M{n}", type=KIND.id, ld=f"M{n}", sap=FIRST_SAP + n) for n in range(meters))
    return Site(name="bench", ied="BENCH", meters=made, types={KIND.id: KIND})


def serve(folder: str, meters: str) -> None:
    """Serve; tell the port; take a line on standard input for the beginning of samples."""
    reactor = cast("PosixReactorBase", global_reactor)
    site = site_of(int(meters))
    store = Store(Path(folder) / "store.sqlite", site)
    client = ClientProfile(sap=SAP, name="bench", role=Role.READER, mechanism=Mechanism.LLS, secret=SECRET)
    settings = DlmsSettings(
        ports=(WrapperPort(host="127.0.0.1", port=0, udp=False),), system_title=bytes(8), clients=(client,)
    )
    face = DlmsFace(
        reactor, site, settings, store=store, on_command=lambda each: succeed(CommandResult(each.id, False))
    )
    face.start()
    good, values = (0,) * len(KIND.points), [0] * len(KIND.points)

    def second() -> None:
        now = int(reactor.seconds())
        values[0] = now
        shown = tuple(values)
        samples = [Sample(meter.id, now * 1000, shown, good) for meter in site.meters]
        store.append(samples)
        face.update(samples)

    def begin() -> None:
        LoopingCall(second).start(1.0)
        LoopingCall(store.flush).start(2.0)

    reactor.callInThread(lambda: (sys.stdin.readline(), reactor.callFromThread(begin)))
    print(face.health()[1]["addresses"][0].rpartition(":")[2].split()[0], flush=True)
    reactor.run()


def fill(path: Path, site: Site, begin: int) -> None:
    Store(path, site).close()
    raw = sqlite3.connect(path)
    points = [name for name in StoreSettings().profile_points if name in KIND.index]
    (layout,) = raw.execute(
        "SELECT id FROM layout WHERE points = ?", (msgspec.json.encode(points).decode(),)
    ).fetchone()
    data = msgspec.msgpack.encode((12_345_678, 123_456, 1_234_567, 123_456))
    for meter in site.meters:
        raw.execute(FILL, (ROWS, meter.id, begin, layout, data))
    raw.commit()
    raw.close()


class HeadEnd:
    """One association, one request at a time."""

    def __init__(self, port: int, server_sap: int) -> None:
        self._port = port
        self._sap = server_sap

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        client = Client(
            ClientSettings(client_sap=SAP, server_sap=self._sap, mechanism=Mechanism.LLS, secret=SECRET),
            random=os.urandom,
        )
        steps = client.connect()
        answer: bytes | None = None
        try:
            while True:
                answer = await self.ask(steps.send(cast("Any", answer)))
        except StopIteration:
            return

    async def ask(self, apdu: bytes) -> bytes:
        self._writer.write(wrapper.encode(SAP, self._sap, apdu))
        head = await self._reader.readexactly(8)
        return await self._reader.readexactly(int.from_bytes(head[6:], "big"))


def profile_request(begin: int) -> bytes:
    chosen = RangeSelection(CLOCK_COLUMN, begin, begin + ROWS * 60, (CLOCK_COLUMN, *REGISTERS))
    reference = AttributeReference(7, PROFILE_2.logical_name, 2, chosen)
    return b"\xc0\x01\xc1" + reference.encode()


REGISTER = b"\xc0\x01\xc1" + AttributeReference(4, obis.parse("1-0:1.8.0"), 2).encode()


def processor_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1000


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


async def timed(head_end: HeadEnd, apdu: bytes, until: float, laps: list[float], size: int) -> None:
    while time.monotonic() < until:
        began = time.perf_counter()
        answer = await head_end.ask(apdu)
        laps.append((time.perf_counter() - began) * 1000)
        assert len(answer) > size, answer[:9].hex()


def spread(laps: Sequence[float]) -> dict[str, float]:
    parts = statistics.quantiles(laps, n=100)
    return {"p50": round(parts[49], 1), "p99": round(parts[98], 1), "max": round(max(laps), 1)}


async def measure(process: subprocess.Popen[str], path: Path, options: argparse.Namespace, begin: int) -> None:
    assert process.stdout
    assert process.stdin
    port = int(process.stdout.readline())
    apdu, size = profile_request(begin), ROWS * 31
    alone = HeadEnd(port, FIRST_SAP)
    await alone.open()
    answer = await alone.ask(apdu)
    assert len(answer) > size
    before, count = processor_ms(process.pid), 50
    for _ in range(count):
        await alone.ask(apdu)
    server = (processor_ms(process.pid) - before) / count
    raw = sqlite3.connect(path)
    laps = []
    for _ in range(20):
        began = time.perf_counter()
        assert len(raw.execute(RAW, (1,)).fetchall()) == ROWS
        laps.append((time.perf_counter() - began) * 1000)
    figures: dict[str, object] = {
        "octets": len(answer),
        "server_ms": round(server, 2),
        "raw_ms": round(statistics.median(laps), 2),
        "ratio_to_raw": round(server / statistics.median(laps), 1),
        "idle_MiB": resident(process.pid),
    }
    process.stdin.write("go\n")
    process.stdin.flush()
    head_ends = [HeadEnd(port, FIRST_SAP + n % options.meters) for n in range(options.head_ends)]
    for each in head_ends:
        await each.open()
    await asyncio.sleep(3)
    reads: list[float] = []
    gets: list[float] = []
    quiet: list[float] = []
    await timed(alone, REGISTER, time.monotonic() + 5, quiet, 4)
    before, until = processor_ms(process.pid), time.monotonic() + options.seconds
    await asyncio.gather(
        *(timed(each, apdu, until, reads, size) for each in head_ends), timed(alone, REGISTER, until, gets, 4)
    )
    figures["profiles_of_100"] = {
        "reads": len(reads),
        "reads_per_second": round(len(reads) / options.seconds, 1),
        "ms": spread(reads),
        "register_meanwhile_ms": spread(gets),
        "register_without_them_ms": spread(quiet),
        "processor": round((processor_ms(process.pid) - before) / options.seconds / 1000, 2),
        "MiB": resident(process.pid),
    }
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--head-ends", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--folder", type=Path, help="where the file goes; it is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "store.sqlite"
        begin = int(time.time()) // 60 * 60 - (ROWS + 10) * 60
        fill(path, site_of(options.meters), begin)
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", folder, str(options.meters)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            asyncio.run(measure(process, path, options, begin))
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
