"""Check and diff of an SCD, by its number of logical devices: time, memory, and how they grow.

    .venv/bin/python tools/bench/scl_scale.py [LOGICAL-DEVICES...]

Each step runs in a process of its own, so that memory is its own. ``cpu`` is that of the process, both threads of
the check together; on a busy machine it tells more than ``wall``. The last columns are ratios to the first row's
cpu and memory for each logical device: 1 is linear growth.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from flexmap.mapping.table import load_products
from flexmap.model import Meter, Site
from flexmap.scl import document
from flexmap.scl.abilities import LIBIEC61850
from flexmap.scl.check import check
from flexmap.scl.diff import diff
from flexmap.scl.generate import FileKind, generate
from flexmap.scl.summary import summarise

ROOMY = msgspec.structs.replace(LIBIEC61850, max_logical_devices=1 << 20, max_report_blocks=1 << 20)


def write(path: Path, devices: int, changed: int) -> None:
    """Write an SCD of single-phase meters; the serial numbers of the last ``changed`` are others."""
    types = {"single-phase": load_products()["single-phase"]}
    meters = tuple(
        Meter(
            id=f"meter-{number}",
            type="single-phase",
            ld=f"MTR{number:05}",
            sap=16 + number,
            identity={"serial-number": f"S{number + (devices if number > devices - changed else 0)}"},
        )
        for number in range(1, devices)
    )
    site = Site(name="Bench", ied="BENCH", meters=meters, types=types)
    path.write_bytes(generate(site, FileKind.SCD, abilities=ROOMY))


def load(paths: list[Path]) -> str:
    """Parse."""
    return f"{sum(1 for _ in document.parse(paths[0]).root.iter())} elements"


def check_one(paths: list[Path]) -> str:
    """Parse and check, the schema included."""
    found = check(paths[0], abilities=ROOMY)
    return f"{len(found)} findings" + ("" if all(f.rule != "schema-absent" for f in found) else " (no schema)")


def check_broken(paths: list[Path]) -> str:
    """Parse and check a file with a finding in every logical device, whose lines have to be looked up."""
    data = paths[0].read_bytes().replace(b'doName="TotVAh"', b'doName="TotVBh"')
    return f"{len(check(data, kind=FileKind.SCD, abilities=ROOMY))} findings"


def diff_two(paths: list[Path]) -> str:
    """Parse and compare two files."""
    found = diff(*(summarise(document.parse(path)) for path in paths))
    return f"{len(found.changes)} changes"


STEPS = {"load": load, "check": check_one, "broken": check_broken, "diff": diff_two}


def step(name: str, paths: list[Path]) -> None:
    """Run one step and print its figures."""
    begun = time.perf_counter()
    result = STEPS[name](paths)
    wall, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    print(f"{wall} {used.ru_utime + used.ru_stime} {peak()} {result}")


def peak() -> int:
    """Return the most memory this process had, in KiB; ``ru_maxrss`` counts its parent's in."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main(counts: list[int]) -> None:
    """Run all steps for each number of logical devices."""
    head = f"{'devices':>8} {'MB':>6} {'step':>7} {'wall s':>8} {'cpu s':>8} {'MiB':>7} {'time':>6} {'memory':>7}"
    print(head, " result")
    first: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            paths = [Path(folder) / "old.scd", Path(folder) / "new.scd"]
            write(paths[0], count, 0)
            write(paths[1], count, count // 10)
            for name in STEPS:
                command = [sys.executable, __file__, "--step", name, *map(str, paths)]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                wall, cpu, memory, result = printed.split(maxsplit=3)
                each = float(cpu) / count, float(memory) / count
                base = first.setdefault(name, each)
                size = paths[0].stat().st_size / 1e6
                print(
                    f"{count:8} {size:6.1f} {name:>7} {float(wall):8.2f} {float(cpu):8.2f} "
                    f"{float(memory) / 1024:7.0f} {each[0] / base[0]:6.2f} {each[1] / base[1]:7.2f} ",
                    result.strip(),
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        step(sys.argv[2], [Path(path) for path in sys.argv[3:]])
    else:
        main([int(count) for count in sys.argv[1:]] or [1250, 2500, 5000])
