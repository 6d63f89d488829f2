"""How long the end of a month keeps clients waiting: all meters' billing periods end at one instant.

Usage: python tools/bench/billing_end.py [--meters N] [--days D]

Load profile 1 of each meter is filled by SQL. The script that ends a period is due for all meters at once; beside
it a clock ticks in the reactor. The longest wait between two ticks is what a client may wait for: printed with the
scripts carried out at once, meter after meter in one turn of the reactor, and each in a turn of its own as flexmap
does, with the ratio of both; in milliseconds of processor time, as other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor

from flexmap.dlms.profile import ClientProfile, Role
from flexmap.faces.dlms.billing import at_closing, billing_objects
from flexmap.faces.dlms.billing_definitions import END_OF_PERIOD
from flexmap.faces.dlms.demand import demand_objects
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.faces.dlms.tariff import execution
from flexmap.faces.dlms.turns import Turns
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import Zone
from flexmap.model import Meter, Sample, Site
from flexmap.store import Store, StoreSettings

PERIOD = 900
END = 1_769_904_000  # 2026-02-01T00:00 UTC
CLIENT = ClientProfile(sap=0, name="bench", role=Role.MANAGEMENT)
TICK = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=200)
    parser.add_argument("--days", type=int, default=31)
    options = parser.parse_args()
    together = measured(options, apart=False)
    apart = measured(options, apart=True)
    ratio = round(together["longest_wait_ms"] / apart["longest_wait_ms"], 1)
    print(json.dumps({"together": together, "apart": apart, "ratio": ratio}, indent=2))


def measured(options: argparse.Namespace, *, apart: bool) -> dict[str, Any]:
    """Return the figures of one way."""
    reactor: Any = global_reactor
    with tempfile.TemporaryDirectory() as folder:
        store, ends = served(options, Path(folder), reactor, apart=apart)
        waits: list[float] = []
        state = SimpleNamespace(last=time.process_time(), left=len(ends))

        def tick() -> None:
            now = time.process_time()
            waits.append(now - state.last)
            state.last = now
            done = all(store.billing(f"M{n}", ()).count() for n in (0, options.meters - 1))
            reactor.callLater(TICK, reactor.crash if done else tick)

        def due() -> None:
            for end in ends:
                end()

        reactor.callLater(0.05, tick)
        reactor.callLater(0.1, due)
        began = time.process_time()
        reactor.run(installSignalHandlers=False)
        rows = sum(store.billing(f"M{n}", ()).count() for n in range(options.meters))
        store.close()
    return {
        "meters": options.meters,
        "rows": rows,
        "longest_wait_ms": round(max(waits) * 1000, 1),
        "p99_wait_ms": round(statistics.quantiles(waits, n=100)[98] * 1000, 1) if len(waits) > 1 else None,
        "a_meter_ms": round((time.process_time() - began) * 1000 / options.meters, 1),
    }


def served(options: argparse.Namespace, folder: Path, reactor: Any, *, apart: bool) -> tuple[Store, list[Any]]:
    """Return a store with a month of all meters, and what ends the period of each."""
    kind = load_builtin()["single-phase"]
    meters = tuple(Meter(id=f"M{n}", type=kind.id, ld=f"M{n}", sap=17 + n) for n in range(options.meters))
    site = Site(name="bench", ied="BENCH", meters=meters, types={kind.id: kind})
    settings = StoreSettings()
    store = Store(folder / "s.sqlite", site, settings)
    width = len(kind.points)
    start = END - options.days * 86_400
    names = json.dumps([name for name in settings.profile_points if name in kind.index], separators=(",", ":"))
    raw = sqlite3.connect(folder / "s.sqlite")
    (layout,) = raw.execute("SELECT id FROM layout WHERE points = ?", (names,)).fetchone()
    for number, meter in enumerate(meters):
        (row,) = raw.execute("SELECT id FROM meter WHERE name = ?", (meter.id,)).fetchone()
        raw.executemany(
            "INSERT INTO profile VALUES (?, ?, 0, 0, ?, ?)",
            (
                (row, end * 1000, layout, msgspec.msgpack.encode(((end - start) // (9 + end % 3), 0, 0, 0)))
                for end in range(start, END + 1, PERIOD)
            ),
        )
        raw.commit()
        for second in (start, END):
            energies = ((second - start) // 9, *(0,) * (width - 1))
            store.append([Sample(meter.id, second * 1000 + number % 2, energies, (0,) * width)])
    raw.close()
    store.flush()
    objects = MeterObjects(kind, settings.profile_points, zone=Zone("UTC"))
    turns = Turns(reactor)
    script = execution((b"\0\0\x0a\0\x01\xff", END_OF_PERIOD))
    ends = []
    for meter in meters:
        device = MeterDevice(meter, objects, make_buffers(store, meter, objects), lambda _: None)  # type: ignore[arg-type, return-value]
        device.serve(demand_objects(store, meter.id, kind, objects.local))
        device.serve(billing_objects(store, meter, objects, device, keeper=None, reactor=reactor))
        spread = at_closing(store, meter.id, turns)
        ends.append(
            (lambda d=device, s=spread: s(lambda: d.perform(script, CLIENT)))
            if apart
            else (lambda d=device: d.perform(script, CLIENT))
        )
    return store, ends


if __name__ == "__main__":
    main()
