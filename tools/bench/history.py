"""What a year of 15-minute rows of many meters costs to read, against a raw read by sqlite3 in the same run.

Usage: python tools/bench/history.py [--meters N] [--days D] [--folder F]

The file is filled by SQL, in the store's own tables. Each figure is the median over 9 meters; each of them is read
by the raw query, by the store and as encoded rows of the DLMS buffer. Memory is the peak that Python allocates.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from flexmap.dlms.objects import RowSource
from flexmap.dlms.selection import RangeSelection
from flexmap.faces.dlms.objects import CLOCK_COLUMN, DAILY, PROFILE_LN, MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import Zone
from flexmap.model import Meter, MeterType, Site
from flexmap.store import Store, StoreSettings

START = 1_767_225_600  # 2026-01-01
ZONE = "Europe/Vienna"
FILL = """
WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < ?)
INSERT INTO profile SELECT ?, (? + n * 900) * 1000, 0, 0, ?, ? FROM step
"""
RAW = """
SELECT time, status, clock_status, layout, data FROM profile WHERE meter = ? AND time BETWEEN ? AND ? ORDER BY time
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--folder", type=Path, help="where the file goes; it is removed")
    options = parser.parse_args()
    kind = load_builtin()["single-phase"]
    meters = tuple(Meter(id=f"M{n}", type=kind.id, ld=f"M{n}", sap=17 + n) for n in range(options.meters))
    site = Site(name="bench", ied="BENCH", meters=meters, types={kind.id: kind}, time_zone=ZONE)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "store.sqlite"
        settings = StoreSettings(time_zone=ZONE)
        Store(path, site, settings).close()
        began = time.perf_counter()
        raw = sqlite3.connect(path)
        fill(raw, kind, options.days * 96)
        filled = time.perf_counter() - began
        store = Store(path, site, settings)
        chosen = meters[:: max(1, len(meters) // 9)][:9]
        figures = {
            "meters": len(meters),
            "rows": len(meters) * options.days * 96,
            "file_MB": round(path.stat().st_size / 1e6),
            "fill_s": round(filled, 1),
            "year": compare(store, raw, chosen, START, START + options.days * 86_400),
            "day": compare(store, raw, chosen, START + 100 * 86_400 + 900, START + 101 * 86_400),
            "daily_profile_ms": daily(store, chosen),
        }
        store.close()
        raw.close()
    print(json.dumps(figures, indent=2))


def fill(raw: sqlite3.Connection, kind: MeterType, rows: int) -> None:
    """Put rows for all meters into load profile 1."""
    layout = msgspec.json.encode([name for name in StoreSettings().profile_points if name in kind.index]).decode()
    (number,) = raw.execute("SELECT id FROM layout WHERE points = ?", (layout,)).fetchone()
    data = msgspec.msgpack.encode((12_345_678, 123_456, 1_234_567, 123_456))
    for (meter,) in raw.execute("SELECT id FROM meter WHERE name != '' ORDER BY id").fetchall():
        raw.execute(FILL, (rows, meter, START, number, data))
    raw.commit()
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def compare(
    store: Store, raw: sqlite3.Connection, meters: Iterable[Meter], start: int, end: int
) -> dict[str, object]:
    """Return rows, times in ms, peaks in KiB and ratios to the raw read of a range, both ends included."""
    times: dict[str, list[float]] = {"raw": [], "store": [], "dlms": []}
    peaks: dict[str, int] = dict.fromkeys(times, 0)
    counts = set()
    for meter in meters:
        for name, way in ways(store, raw, meter, start, end).items():
            began = time.perf_counter()
            counts.add(sum(1 for _ in way()))
            times[name].append((time.perf_counter() - began) * 1000)
            tracemalloc.start()
            for _ in way():
                pass
            peaks[name] = max(peaks[name], tracemalloc.get_traced_memory()[1] // 1024)
            tracemalloc.stop()
    medians = {name: statistics.median(each) for name, each in times.items()}
    (count,) = counts
    return {
        "rows": count,
        "ms": {name: round(each, 2) for name, each in medians.items()},
        "ratio_to_raw": {name: round(each / medians["raw"], 2) for name, each in medians.items()},
        "peak_KiB": peaks,
    }


def ways(
    store: Store, raw: sqlite3.Connection, meter: Meter, start: int, end: int
) -> dict[str, Callable[[], Iterable[object]]]:
    """Return the three ways to read a range of a meter."""
    (row,) = raw.execute("SELECT id FROM meter WHERE name = ?", (meter.id,)).fetchone()
    buffer = buffers(store, meter)[PROFILE_LN]
    chosen = RangeSelection(CLOCK_COLUMN, start, end)
    return {
        "raw": lambda: raw.execute(RAW, (row, start * 1000, end * 1000)),
        "store": lambda: store.profile_rows(meter.id, start * 1000, end * 1000),
        "dlms": lambda: buffer.select(chosen).rows,
    }


def daily(store: Store, meters: Iterable[Meter]) -> float:
    """Return the ms that the daily profile of all days takes as encoded rows."""
    times = []
    for meter in meters:
        buffer = buffers(store, meter)[DAILY.logical_name]
        began = time.perf_counter()
        sum(1 for _ in buffer.select(None).rows)
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 2)


def buffers(store: Store, meter: Meter) -> dict[bytes, RowSource]:
    """Return the buffers of a meter's profiles."""
    objects = MeterObjects(load_builtin()[meter.type], store.settings.profile_points, zone=Zone(ZONE))
    return make_buffers(store, meter, objects)


if __name__ == "__main__":
    main()
