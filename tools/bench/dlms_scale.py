"""The DLMS face alone with thousands of logical devices and associations: start, memory, delays, a profile.

Usage: python tools/bench/dlms_scale.py [--meters N] [--traced N] [--associations N] [--open N] [--reads N]

The face runs in a process of its own, built as the gateway builds it. Memory is what Python allocates, over
how many there are; delays are a client's in Python, next to those of a Twisted echo with as many connections.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dlms_get import ECHO, ENERGY, Wire, connect, processor_seconds, request
from history import START, fill
from twisted.internet import reactor

from flexmap.dlms import wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import AttributeReference, Client, ClientSettings, drive
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, MemoryCounterStore
from flexmap.dlms.selection import RangeSelection
from flexmap.faces.dlms.face import DlmsFace, DlmsSettings
from flexmap.faces.dlms.objects import CLOCK_COLUMN, PROFILE, PROFILE_LN, MeterObjects, profile_columns
from flexmap.faces.dlms.ports import WrapperPort
from flexmap.mapping.table import load_builtin
from flexmap.model import CommandResult, Meter, Site
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.store import Store, StoreSettings

FIRST = 1001
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
CLIENTS = (
    ClientProfile(sap=16, name="public", role=Role.PUBLIC),
    ClientProfile(sap=3, name="plain", role=Role.READER, mechanism=Mechanism.LLS, secret=b"12345678"),
    ClientProfile(
        sap=2,
        name="reader",
        role=Role.READER,
        mechanism=Mechanism.HLS_GMAC,
        keys=KEYS,
        policy=AUTHENTICATED_ENCRYPTED,
    ),
)
ROWS = 1440


def traced() -> int:
    """Return the octets that Python has allocated, 0 where they are not traced."""
    if not tracemalloc.is_tracing():
        return 0
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def site_of(meters: int) -> Site:
    kind = load_builtin()["single-phase"]
    made = tuple(Meter(id=f"M{n}", type=kind.id, ld=f"M{n}", sap=FIRST + n) for n in range(meters))
    return Site(name="bench", ied="BENCH", meters=made, types={kind.id: kind})


def serve(meters: int, folder: Path) -> None:
    """Serve until killed; prints what the start took and where it listens, then a line once there are values."""
    site = site_of(meters)
    if meters == 1:
        Store(folder / "store.sqlite", site).close()
        with sqlite3.connect(folder / "store.sqlite") as raw:
            fill(raw, next(iter(site.types.values())), ROWS)
    before, cpu, wall = traced(), time.process_time(), time.perf_counter()
    store = Store(folder / "store.sqlite", site)
    gc.disable()
    settings = DlmsSettings(
        ports=(WrapperPort(host="127.0.0.1", port=0),), system_title=b"FMXBENCH", clients=CLIENTS
    )
    face = DlmsFace(reactor, site, settings, store=store, on_command=lambda c: CommandResult(id=c.id, done=False))
    gc.freeze()
    gc.enable()
    face.start()
    report = {
        "start_cpu_s": round(time.process_time() - cpu, 2),
        "start_s": round(time.perf_counter() - wall, 2),
        "traced_KiB": round((traced() - before) / meters / 1024, 2),
        "port": int(face.health()[1]["addresses"][0].split()[0].rpartition(":")[2]),
    }
    print(json.dumps(report), flush=True)
    pairs = [(meter, site.type_of(meter)) for meter in site.meters]
    samples = SiteModel(pairs, sample_load(), SimulationSettings()).step(START)
    before = traced()
    face.update(samples)
    print(round((traced() - before) / meters / 1024, 2), flush=True)
    signal.signal(signal.SIGUSR1, lambda *_: print(traced(), flush=True))
    reactor.run()


class Served(NamedTuple):
    process: subprocess.Popen[str]
    start: dict[str, float]
    values: float
    """KiB that the values of a device take."""

    @property
    def port(self) -> int:
        return int(self.start["port"])

    def traced(self) -> int:
        """Return the octets that Python has allocated."""
        assert self.process.stdout
        self.process.send_signal(signal.SIGUSR1)
        return int(self.process.stdout.readline())


def start(meters: int, folder: Path, *, traced: bool = False) -> Served:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(meters), "--folder", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ({"PYTHONTRACEMALLOC": "1"} if traced else {}),
    )
    assert process.stdout
    return Served(process, json.loads(process.stdout.readline()), float(process.stdout.readline()))


class DeviceWire(Wire):
    """The wrapper to one of many logical devices over one connection."""

    def __init__(self, connection: socket.socket, client_sap: int, sap: int) -> None:
        super().__init__(connection, client_sap)
        self.sap = sap

    def frame(self, apdu: bytes) -> bytes:
        return wrapper.encode(self.client_sap, self.sap, apdu)


def associate(wire: Wire, ciphering: Ciphering | None, *, max_pdu: int = 0xFFFF) -> Client:
    plain = Mechanism.LLS if wire.client_sap == 3 else Mechanism.NONE
    settings = ClientSettings(
        client_sap=wire.client_sap,
        server_sap=FIRST,
        mechanism=plain if ciphering is None else Mechanism.HLS_GMAC,
        secret=b"12345678" if wire.client_sap == 3 else b"",
        protection=0 if ciphering is None else AUTHENTICATED_ENCRYPTED,
        max_pdu=max_pdu,
    )
    client = Client(settings, random=os.urandom, ciphering=ciphering)
    drive(client.connect(), wire.transceive)
    return client


def memory(meters: int, count: int) -> dict[str, float]:
    """Return the KiB that Python allocates for a device, its values, an association."""
    with tempfile.TemporaryDirectory() as folder:
        served = start(meters, Path(folder), traced=True)
        figures = {"logical_device": served.start["traced_KiB"], "values_of_a_device": served.values}
        held = []
        for name, client_sap in (("association_plain", 16), ("association_HLS_GMAC", 2)):
            ciphering = Ciphering(KEYS, b"BENCHKIB", MemoryCounterStore()) if client_sap == 2 else None
            connections = [connect(served.port) for _ in range(10)]
            held += connections
            associate(DeviceWire(connections[0], client_sap, FIRST), ciphering)  # what the first one loads
            before = served.traced()
            for number in range(count):
                place, sap = number % len(connections), FIRST + number // len(connections) % meters
                associate(DeviceWire(connections[place], client_sap, sap), ciphering)
            figures[name] = round((served.traced() - before) / count / 1024, 2)
        for connection in held:
            connection.close()
        served.process.kill()
        served.process.wait()
    return figures


def delays(exchanges: list[Callable[[], object]], reads: int) -> list[float]:
    taken = []
    for number in range(reads):
        begun = time.perf_counter()
        exchanges[number % len(exchanges)]()
        taken.append(time.perf_counter() - begun)
    return sorted(taken)


def open_associations(served: Served, count: int, reads: int) -> dict[str, object]:
    """Return the delays of ciphered reads over so many open associations in turn, and of the echo."""
    ciphering = Ciphering(KEYS, b"BENCHP99", MemoryCounterStore())
    exchanges: list[Callable[[], object]] = []
    for number in range(count):
        wire = DeviceWire(connect(served.port), 2, FIRST + number)
        client = associate(wire, ciphering)
        exchanges.append(lambda client=client, wire=wire: drive(client.get(*ENERGY_NAME), wire.transceive))
    echo = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert echo.stdout
    port = int(echo.stdout.readline())
    echoes: list[Callable[[], object]] = []
    for _ in range(count):
        wire = DeviceWire(connect(port), 2, FIRST)
        echoes.append(lambda wire=wire: wire.transceive(request(ENERGY)))
    runs = {"echo": delays(echoes, reads), "suite 0": delays(exchanges, reads)}
    runs["echo again"] = delays(echoes, reads)
    echo.kill()
    echo.wait()
    figures = {
        name: {
            "p50_ms": round(statistics.median(run) * 1e3, 2),
            "p99_ms": round(run[len(run) * 99 // 100] * 1e3, 2),
            "longest_ms": round(run[-1] * 1e3, 1),
        }
        for name, run in runs.items()
    }
    return {"associations": count, **figures}


ENERGY_NAME = (ENERGY.class_id, ENERGY.logical_name, ENERGY.attribute)


def profile(folder: Path, reads: int = 40) -> dict[str, object]:
    """Return the server's processor time for 1440 rows: of four columns, and all six."""
    served = start(1, folder)
    objects = MeterObjects(load_builtin()["single-phase"], StoreSettings().profile_points)
    columns = profile_columns(PROFILE, objects.captured)
    four = RangeSelection(CLOCK_COLUMN, START, START + ROWS * 900, (columns[0], *columns[2:5]))
    figures: dict[str, object] = {"rows": ROWS}
    for max_pdu in (0xFFFF, 1024):
        for name, selection in (("4 columns", four), (f"{len(columns)} columns", None)):
            wire = DeviceWire(connect(served.port), 3, FIRST)
            associate(wire, None, max_pdu=max_pdu)
            reference = AttributeReference(7, PROFILE_LN, 2, selection)
            begun = processor_seconds(served.process.pid)
            for _ in range(reads):
                octets = raw(reference, wire)
            taken = (processor_seconds(served.process.pid) - begun) / reads
            figures[f"{name}, PDU {max_pdu}"] = {"cpu_ms": round(taken * 1e3, 1), "octets": octets}
    served.process.kill()
    served.process.wait()
    return figures


def raw(reference: AttributeReference, wire: Wire) -> int:
    """Read without decoding: the octets of the value's responses."""
    total, reply = 0, wire.transceive(b"\xc0\x01\xc1" + reference.encode())
    while True:
        total += len(reply)
        if reply[1] == 1 or reply[3]:
            return total
        reply = wire.transceive(b"\xc0\x02\xc1" + reply[4:8])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=5000)
    parser.add_argument("--associations", type=int, default=1000)
    parser.add_argument("--traced", type=int, default=500, help="logical devices whose memory is traced")
    parser.add_argument("--open", type=int, default=500)
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return
    with tempfile.TemporaryDirectory() as large, tempfile.TemporaryDirectory() as small:
        served = start(options.meters, Path(large))
        try:
            figures = {
                "logical_devices": options.meters,
                "start_cpu_s": served.start["start_cpu_s"],
                "start_s": served.start["start_s"],
                "delays": open_associations(served, options.open, options.reads),
            }
        finally:
            served.process.kill()
            served.process.wait()
        figures["KiB"] = memory(options.traced, options.associations)
        figures["profile"] = profile(Path(small))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
