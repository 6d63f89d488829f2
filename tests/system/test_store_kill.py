"""kill -9 in the middle of writing: what was flushed stays, also of open blocks, and the store names the gap."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flexmap.mapping.table import load_builtin
from flexmap.model import EventCode, EventLog, Meter, Sample, Site
from flexmap.store import AmrStatus, Store

START = 1_795_392_000
METERS = ("A", "B", "C")
TYPE = load_builtin()["single-phase"]
WIDTH = len(TYPE.points)

# One process that lives 1 Hz seconds as fast as it can, flushes every two of them, and says after each flush how
# far it is; counters are reserved on the way.
WRITER = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from test_store_kill import METERS, open_store, sample
    from flexmap.model import Event, EventCode, EventLog
    from pathlib import Path
    store = open_store(Path(sys.argv[1]))
    second = int(sys.argv[3])
    while True:
        store.append(sample(meter, second) for meter in METERS)
        if second % 2:
            store.flush()
            if second % 50 == 1:
                store.counters.reserve("invocation", second)
            if second % 100 == 1:
                store.event(Event("A", second * 1000, EventLog.FRAUD, EventCode.METER_COVER_OPENED))
                store.flush()
            print(second, flush=True)
            time.sleep(0.0005)
        second += 1
""")


def open_store(folder: Path) -> Store:
    meters = tuple(Meter(id=name, type=TYPE.id, ld=name, sap=16) for name in METERS)
    return Store(folder / "store.sqlite", Site(name="s", ied="I", meters=meters, types={TYPE.id: TYPE}))


def sample(meter: str, second: int) -> Sample:
    values = (second - START, 1, 2, 3, 4, *(second % 97 / 10,) * 7, True, 1, 4, 0, False, 0)
    return Sample(meter, second * 1000, values, (0,) * WIDTH)


def run_and_kill(folder: Path, first: int, after: float) -> int:
    """Return the last second that the writer had flushed when it was killed."""
    command = [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the writer did not start"
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split()
        finally:
            process.kill()
        assert process.wait(10) == -signal.SIGKILL
    # The last line may be cut short.
    return int(lines[-2])


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_loses_nothing_that_was_flushed_and_says_what_is_missing(tmp_path, seed):
    delays = random.Random(seed)
    first = START
    lost: dict[str, list[tuple[int, int]]] = {meter: [] for meter in METERS}
    present: dict[str, set[int]] = {meter: set() for meter in METERS}
    for _ in range(3):
        flushed = run_and_kill(tmp_path, first, delays.uniform(0.3, 1.2))
        assert flushed > first + 200
        store = open_store(tmp_path)
        assert not store.clean
        assert store.counters.value("invocation") >= flushed - 50
        resumed = flushed + 1000
        for meter in METERS:
            run = list(store.samples(meter, first * 1000))
            seconds = [each.time // 1000 for each in run]
            # Every second once, without a hole, up to the last flush.
            assert seconds == list(range(first, seconds[-1] + 1))
            assert seconds[-1] >= flushed
            assert run == [sample(meter, second) for second in seconds]
            present[meter].update(seconds)
            rates = store.rates(meter)
            assert rates is not None
            counted = rates.sample(run[-1]).values[: TYPE.tariff.rates]
            assert sum(counted) == run[-1].values[0]  # whatever rates were in force
            lost[meter].append((seconds[-1] + 1, resumed - 1))
            store.append([sample(meter, resumed)])
            present[meter].add(resumed)
        covers = [event.time // 1000 for event in store.events("A", EventLog.FRAUD, first * 1000)]
        assert (
            covers[: flushed // 100 - first // 100]
            == list(range(first + 1 + -first % 100, flushed + 1, 100))[: flushed // 100 - first // 100]
        )
        store.close()
        first = resumed + 1
    store = open_store(tmp_path)
    for meter in METERS:
        gaps = [event for event in store.events(meter, EventLog.STANDARD) if event.code is EventCode.DATA_GAP]
        assert [event.time // 1000 for event in gaps] == [start for start, _ in lost[meter]]
        for gap, (start, stop) in zip(gaps, lost[meter], strict=True):
            assert gap.text.startswith(f"from {start}000 to {stop}000 ms: {stop - start + 1} s missing")
        # Back-fill: every second of the whole time is there once, and the profile has no hole any more.
        store.append(sample(meter, second) for start, stop in lost[meter] for second in range(start, stop + 1))
        seconds = [each.time // 1000 for each in store.samples(meter)]
        assert seconds == list(range(START, first))
    for _ in range(200):
        store.flush()
    rows = list(store.profile_rows("B"))
    ends = list(range(START, first, 900))
    assert [row.time // 1000 for row in rows] == ends
    assert [row.status for row in rows] == [AmrStatus.INCOMPLETE] + [0] * (len(ends) - 1)
    assert [row.values[0] for row in rows] == [end - START for end in ends]
    store.close()
