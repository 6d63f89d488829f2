"""What model and store cost: N meters at 1 Hz, in virtual time, each part's processor share of one core.

Usage: python tools/bench/ingest_store.py [--meters N] [--seconds S]

Virtual seconds run as fast as they can; a part's share is its processor time over the virtual time. A flush is
made every two virtual seconds, as the gateway does; its latency is wall time, and holds up the reactor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from flexmap.mapping.table import load_builtin
from flexmap.model import Meter, Site
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.store import Store

START = 1_795_392_000


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=1900)
    options = parser.parse_args()
    types = load_builtin()
    meters = [Meter(id="SUB", type="three-phase", ld="SUB", sap=16)]
    meters += [Meter(id=f"M{n}", type="single-phase", ld=f"M{n}", sap=17 + n) for n in range(options.meters)]
    site = Site(name="bench", ied="BENCH", meters=tuple(meters), types=types)
    pairs = [(meter, types[meter.type]) for meter in meters]
    model = SiteModel(pairs, sample_load(), SimulationSettings(substation="SUB"))
    model_cpu = append_cpu = flush_cpu = 0.0
    steps, appends, flushes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        store = Store(path, site)
        for second in range(START, START + options.seconds):
            cpu, wall = time.process_time(), time.perf_counter()
            samples = model.step(second)
            cpu, wall, model_cpu = _lap(cpu, wall, model_cpu, steps)
            store.append(samples)
            cpu, wall, append_cpu = _lap(cpu, wall, append_cpu, appends)
            if second % 2:
                store.flush()
                _, _, flush_cpu = _lap(cpu, wall, flush_cpu, flushes)
        began = time.perf_counter()
        rows = sum(store.profile_count(meter.id) for meter in meters)
        kept = sum(1 for meter in meters[:5] for _ in store.samples(meter.id))
        reading = time.perf_counter() - began
        store.close()
        size = path.stat().st_size
    count = options.seconds * len(meters)
    print(
        json.dumps(
            {
                "meters": options.meters,
                "virtual_seconds": options.seconds,
                "model_percent": round(100 * model_cpu / options.seconds, 3),
                "store_append_percent": round(100 * append_cpu / options.seconds, 3),
                "store_flush_percent": round(100 * flush_cpu / options.seconds, 3),
                "model_step_ms": _spread(steps),
                "append_ms": _spread(appends),
                "flush_ms": _spread(flushes),
                "bytes_per_sample": round(size / count, 2),
                "profile_rows": rows,
                "samples_of_five_meters": kept,
                "read_seconds": round(reading, 3),
            },
            indent=2,
        )
    )


def _lap(cpu: float, wall: float, total: float, walls: list[float]) -> tuple[float, float, float]:
    cpu_now, wall_now = time.process_time(), time.perf_counter()
    walls.append(wall_now - wall)
    return cpu_now, wall_now, total + cpu_now - cpu


def _spread(walls: list[float]) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(quantile(walls, share) * 1000, 3) for name, share in shares.items()}


if __name__ == "__main__":
    main()
