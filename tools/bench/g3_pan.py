"""Cost of simulating a PAN while it is read: speed against real time, events and memory, by number of meters.

    python tools/bench/g3_pan.py [--duration 1200] [--parallel 1] [100 300 1000 3000]

Every size runs in a process of its own; the PAN is formed already, so what is measured is polling. Speed and cost
are of processor time (one core); "to the first" is the cost of a frame against that of the first size.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time

from flexmap.g3 import phy
from flexmap.g3.simulate import Settings, Simulation


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(meters, duration, parallel):
    before = peak_kib()
    simulation = Simulation(
        Settings(meters, phy.CENELEC_A, duration, formed=True, parallel=parallel), random.Random(1)
    )
    simulation.begin()
    simulation.poll()
    began, cpu = time.perf_counter(), time.process_time()
    simulation.time.run(duration)
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    memory = (peak_kib() - before) / meters
    report = simulation.report()
    return {
        "meters": meters,
        "times real time": round(duration / cpu),
        "elapsed s": round(seconds, 1),
        "us per frame": round(cpu / report.frames * 1e6, 1),
        "frames": report.frames,
        "events": simulation.time.events,
        "reads": report.reads,
        "answered": report.answered,
        "KiB per node": round(memory, 1),
        "hops": max(report.hops),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meters", nargs="*", type=int, default=[100, 300, 1000, 3000])
    parser.add_argument("--duration", type=float, default=1200.0)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.meters[0], options.duration, options.parallel)))
        return
    first = None
    for meters in options.meters:
        command = [sys.executable, __file__, "--one", str(meters)]
        command += ["--duration", str(options.duration), "--parallel", str(options.parallel)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        figures = json.loads(done.stdout)
        first = first or figures["us per frame"]
        figures["to the first"] = round(figures["us per frame"] / first, 2)
        print("  ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
