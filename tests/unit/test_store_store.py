from __future__ import annotations

import os
import random
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from flexmap.mapping.table import load_builtin
from flexmap.model import (
    ConfigurationError,
    Event,
    EventCode,
    EventLog,
    LocalError,
    Meter,
    MeterType,
    Sample,
    Site,
    quality,
)
from flexmap.store import AmrStatus, Store, StoreSettings

TYPE = load_builtin()["single-phase"]
WIDTH = len(TYPE.points)
START = 1_795_392_000  # midnight UTC


def site(*names: str, meter_type: MeterType = TYPE) -> Site:
    meters = tuple(Meter(id=name, type=meter_type.id, ld=name, sap=16) for name in names or ("A",))
    return Site(name="site", ied="IED", meters=meters, types={meter_type.id: meter_type})


def sample(second: int, meter: str = "A", value: int | None = None, mark: int = 0, clock: int = 0) -> Sample:
    values = (second - START if value is None else value, *range(1, 5), *(0.5,) * 7, True, 1, 4, 0, False, 0)
    return Sample(meter, second * 1000, values, (mark,) * WIDTH, clock)


def opened(path: Path, *names: str, meter_type: MeterType = TYPE, **changed) -> Store:
    return Store(path / "store.sqlite", site(*names, meter_type=meter_type), StoreSettings(**changed))


def seconds(store: Store, meter: str = "A", start=None, end=None) -> list[int]:
    return [each.time // 1000 - START for each in store.samples(meter, start, end)]


def crash(store: Store) -> None:
    """What kill -9 leaves: nothing more is written, the lock goes with the process."""
    store._file.close()


def test_samples_read_back_from_memory_and_file_alike(tmp_path):
    store = opened(tmp_path)
    sent = [sample(START + n) for n in range(200)]
    store.append(sent)
    assert list(store.samples("A")) == sent
    store.flush()
    assert list(store.samples("A")) == sent
    assert seconds(store, start=(START + 50) * 1000, end=(START + 130) * 1000) == list(range(50, 131))
    store.close()
    store = opened(tmp_path)
    assert store.clean
    assert list(store.samples("A")) == sent
    assert store.last_samples() == {"A": sent[-1]}
    store.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 400),  # a sample of that second
            st.sampled_from(["flush", "reopen", "crash"]),
        ),
        max_size=80,
    )
)
def test_every_second_exactly_once_whatever_the_order(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    store = opened(folder)
    expected: dict[int, int] = {}
    for number, step in enumerate(steps):
        if step == "flush":
            store.flush()
        elif step == "reopen":
            store.close()
            store = opened(folder)
        elif step == "crash":
            store.flush()
            crash(store)
            store = opened(folder)
        else:
            expected.setdefault(step, number)
            store.append([sample(START + step, value=number)])
    found = [(each.time // 1000 - START, each.values[0]) for each in store.samples("A")]
    assert found == sorted(expected.items())
    newest = store.last_samples().get("A")
    assert (newest is None) == (not expected)
    if newest is not None:
        assert newest.time == (START + max(expected)) * 1000
    store.close()


def test_back_fill_of_an_hour_after_a_gap(tmp_path):
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(1000))
    store.append(sample(START + n) for n in range(4600, 5500))
    store.flush()
    assert [row.time // 1000 - START for row in store.profile_rows("A")] == [0, 900, 1800, 5400]
    store.append(sample(START + n) for n in reversed(range(900, 4700)))
    for _ in range(5):
        store.flush()
    assert seconds(store) == list(range(5500))
    rows = list(store.profile_rows("A"))
    assert [(row.time // 1000 - START, row.values[0], row.status) for row in rows] == [
        (0, 0, AmrStatus.INCOMPLETE),
        *((end, end, 0) for end in range(900, 5401, 900)),
    ]
    store.close()


def test_profile_rows_carry_registers_status_and_clock(tmp_path):
    store = opened(tmp_path, "A", "B")
    assert store.profile_points("A")[0] == "energy-active-import"
    for n in range(1, 2701):
        mark = quality.QUESTIONABLE if n == 901 else 0
        store.append([sample(START + n, mark=mark, clock=0x80 if n > 1800 else 0)])
    store.event(Event("A", (START + 1700) * 1000, EventLog.STANDARD, EventCode.CLOCK_ADJUSTED_NEW))
    store.event(Event("A", (START + 2000) * 1000, EventLog.STANDARD, EventCode.POWER_DOWN))
    rows = list(store.profile_rows("A"))
    assert [row.values for row in rows] == [(900, 1, 2, 3), (1800, 1, 2, 3), (2700, 1, 2, 3)]
    assert [row.status for row in rows] == [
        0,
        AmrStatus.DATA_INVALID | AmrStatus.CLOCK_ADJUSTED,
        AmrStatus.DAYLIGHT_SAVING | AmrStatus.POWER_DOWN,
    ]
    assert rows[2].clock_status == 0x80
    assert store.profile_count("A") == 3
    assert store.profile_count("A", (START + 900) * 1000, (START + 1800) * 1000) == 2
    assert store.profile_count("B") == 0
    store.close()


def test_missing_register_is_missing_in_the_row(tmp_path):
    store = opened(tmp_path, profile_period=60)
    store.append(sample(START + n, mark=quality.NEVER_READ if n == 60 else 0) for n in range(1, 61))
    (row,) = store.profile_rows("A")
    assert row.values == (None,) * 4
    assert row.status == AmrStatus.DATA_INVALID
    store.close()


def test_a_clock_that_jumps_makes_no_second_row(tmp_path):
    store = opened(tmp_path, profile_period=60)
    store.append(sample(START + n) for n in range(1, 200))
    store.flush()
    store.append(sample(START + n, value=7) for n in range(30, 130))  # set back: seconds lived twice
    store.append(sample(START + n) for n in range(4000, 4100))  # set forward
    for _ in range(3):
        store.flush()
    rows = list(store.profile_rows("A"))
    ends = [row.time // 1000 - START for row in rows]
    assert ends == [60, 120, 180, 240, 4020, 4080]
    assert [row.values[0] for row in rows] == [60, 120, 180, 199, 4020, 4080]
    assert [bool(row.status & AmrStatus.INCOMPLETE) for row in rows] == [False, False, False, True, True, False]
    store.close()


def test_rows_by_entry_and_in_pages(tmp_path):
    store = opened(tmp_path, profile_period=1, sample_interval=1)
    store.append(sample(START + n) for n in range(1000))
    assert store.profile_count("A") == 1000
    assert [row.values[0] for row in store.profile_rows("A")] == list(range(1000))
    assert [row.values[0] for row in store.profile_entries("A", 1, 3)] == [0, 1, 2]
    assert [row.values[0] for row in store.profile_entries("A", 300, 900)] == list(range(299, 900))
    assert [row.values[0] for row in store.profile_entries("A", 999, 0)] == [998, 999]
    assert list(store.profile_entries("A", 1001, 0)) == []
    store.close()


def test_iterating_a_long_history_holds_one_page(tmp_path):
    store = opened(tmp_path, profile_period=1)
    for start in range(0, 20_000, 5000):
        store.append(sample(START + n) for n in range(start, start + 5000))
        store.flush()
    tracemalloc.start()
    assert sum(1 for _ in store.profile_rows("A")) == 20_000
    assert sum(1 for _ in store.samples("A")) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
    store.close()


def test_events_by_log_time_and_entry(tmp_path):
    store = opened(tmp_path, "A", "B")
    events = [
        Event("A", (START + n) * 1000, EventLog(n % 3), (EventCode.POWER_UP, EventCode.POWER_DOWN)[n % 2], f"{n}")
        for n in range(600)
    ]
    for event in events:
        store.event(event)
    store.event(events[0])
    store.flush()
    store.event(events[1])
    assert list(store.events("A")) == events
    assert store.event_count("A") == 600
    assert store.event_count("B") == 0
    fraud = [event for event in events if event.log is EventLog.FRAUD]
    assert list(store.events("A", EventLog.FRAUD)) == fraud
    assert list(store.event_entries("A", EventLog.FRAUD, 3, 5)) == fraud[2:5]
    assert list(store.event_entries("A", None, 300, 0)) == events[299:]
    assert list(store.event_entries("A", None, 601, 0)) == []
    assert list(store.events("A", None, (START + 5) * 1000, (START + 7) * 1000)) == events[5:8]
    assert store.event_count("A", EventLog.FRAUD, None, (START + 7) * 1000) == 3
    store.close()


def test_an_unclean_end_is_found_and_said(tmp_path):
    store = opened(tmp_path, "A", "B")
    store.append(sample(START + n) for n in range(190))
    store.flush()
    store.append(sample(START + n) for n in range(190, 200))
    crash(store)
    store = opened(tmp_path, "A", "B")
    assert not store.clean
    kept = seconds(store)
    assert kept == list(range(190))
    assert store.last_samples() == {"A": sample(START + 189)}
    store.append(sample(START + n) for n in range(300, 305))
    (gap,) = store.events("A", EventLog.STANDARD)
    assert gap.code is EventCode.DATA_GAP
    assert gap.time == (START + len(kept)) * 1000
    missing = 300 - len(kept)
    assert gap.text == f"from {gap.time} to {(START + 299) * 1000} ms: {missing} s missing (unclean end)"
    assert list(store.events("B")) == []
    store.close()
    store = opened(tmp_path, "A", "B")
    assert store.clean
    assert store.event_count("A") == 1
    store.close()


def test_no_gap_is_said_of_meters_whose_source_fills_it(tmp_path):
    told = []
    for start in (0, 1000):
        store = Store(tmp_path / "store.sqlite", site("A", "B"), filled=("A",))
        store.append(sample(START + start + n, name) for name in ("A", "B") for n in range(5))
        told += [(name, event.code) for name in ("A", "B") for event in store.events(name)]
        store.close()
    assert told == [("B", EventCode.DATA_GAP)]


def test_the_tail_of_open_blocks_goes_when_they_close(tmp_path):
    store = opened(tmp_path, "A", "B")
    store.append([sample(START, "B")])  # a meter that falls silent: its block stays open
    for n in range(600):
        store.append([sample(START + n)])
        if n % 2:
            store.flush()
    (rows,) = store._database.execute("SELECT count(*) FROM tail").fetchone()
    assert 1 <= rows <= 32
    crash(store)
    store = opened(tmp_path, "A", "B")
    assert seconds(store) == list(range(600))
    assert seconds(store, "B") == [0]
    store.close()
    store = opened(tmp_path, "A", "B")
    assert store._database.execute("SELECT count(*) FROM tail").fetchone() == (0,)
    store.close()


def test_no_gap_is_said_when_none_is_there(tmp_path):
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(100))
    store.close()
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(100, 120))
    assert store.event_count("A") == 0
    assert seconds(store) == list(range(120))
    store.close()


def test_a_period_over_a_clean_restart_is_complete(tmp_path):
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(1, 500))
    store.close()
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(500, 902))
    (row,) = store.profile_rows("A")
    assert (row.status, row.values[0]) == (0, 900)
    store.close()


def test_rows_lost_by_a_crash_are_made_from_the_blocks(tmp_path):
    store = opened(tmp_path, profile_period=60)
    store.append(sample(START + n) for n in range(1, 1000))
    store.flush()
    store._database.execute("DELETE FROM profile WHERE time > ?", ((START + 300) * 1000,))
    crash(store)
    store = opened(tmp_path, profile_period=60)
    store.append(sample(START + n) for n in range(1000, 1100))
    assert 0 < len(store._logs["A"].periods[0].dirty) < 20
    for _ in range(6):
        store.flush()
    log = store._logs["A"]
    assert not any(each.due(log.newest) for each in log.periods)
    rows = list(store.profile_rows("A"))
    assert [row.time // 1000 - START for row in rows][:15] == list(range(60, 901, 60))
    assert [row.values[0] for row in rows][:15] == list(range(60, 901, 60))
    store.close()


def test_retention_by_kind(tmp_path):
    store = opened(tmp_path, samples_days=1, profile_days=2, events_days=0, profile_period=900)
    day = 86_400
    for start in (START, START + day, START + 3 * day):
        store.append(sample(start + n) for n in range(-899, 1))
        store.event(Event("A", start * 1000, EventLog.STANDARD, EventCode.POWER_UP))
    for _ in range(3):
        store.flush()
    while store.prune((START + 3 * day + 10) * 1000):
        pass
    assert {second // day for second in seconds(store)} <= {2, 3}
    assert [row.time // 1000 - START for row in store.profile_rows("A")] == [3 * day]
    assert store.event_count("A") == 3
    # A late sample of long ago does not spoil what is kept, nor bring a row back that says too much.
    store.append([sample(START + 3 * day - 100, value=1)])
    store.flush()
    (row,) = store.profile_rows("A")
    assert row.values[0] == 3 * day
    store.close()


def test_pruning_gives_space_back(tmp_path):
    store = opened(tmp_path, samples_days=1)
    for start in range(START, START + 40_000, 4000):
        store.append(sample(n, value=random.getrandbits(60)) for n in range(start, start + 4000))
        store.flush()
    (before,) = store._database.execute("PRAGMA page_count").fetchone()
    while store.prune((START + 10 * 86_400) * 1000):
        pass
    (after,) = store._database.execute("PRAGMA page_count").fetchone()
    assert after < before / 2
    store.close()


def test_a_type_with_new_points_reads_old_blocks_and_rows(tmp_path):
    store = opened(tmp_path, profile_period=60)
    sent = [sample(START + n) for n in range(1, 100)]
    store.append(sent)
    store.close()
    added = structs.replace(TYPE.points[0], name="energy-new")
    grown = structs.replace(TYPE, points=(added, *TYPE.points[::-1]))
    points = ("energy-new", "energy-active-import")
    store = opened(tmp_path, meter_type=grown, profile_period=60, profile_points=points)
    old = next(store.samples("A"))
    assert old.values == (None, *sent[0].values[::-1])
    assert old.quality == (quality.NEVER_READ, *sent[0].quality)
    (row,) = store.profile_rows("A")
    assert row.values == (None, 60)
    values = (5, *sent[0].values[::-1])
    store.append([Sample("A", (START + 100) * 1000, values, (0,) * len(values))])
    store.close()
    store = opened(tmp_path, meter_type=grown)
    assert seconds(store) == list(range(1, 101))
    assert store.last_samples()["A"].values[0] == 5
    store.close()


def test_counters_survive_and_never_fall(tmp_path):
    store = opened(tmp_path)
    assert store.counters.value("x") == 0
    store.counters.reserve("x", 1000)
    store.counters.reserve("x", 500)
    crash(store)
    store = opened(tmp_path)
    assert store.counters.value("x") == 1000
    assert store._database.execute("PRAGMA synchronous").fetchone() == (1,)
    store.close()


def test_a_damaged_block_is_skipped_and_the_store_goes_on(tmp_path):
    store = opened(tmp_path, profile_period=60)
    store.append(sample(START + n) for n in range(1, 300))
    store.flush()
    (slot,) = store._database.execute("SELECT min(slot) + 1 FROM block").fetchone()
    store._database.execute("UPDATE block SET data = x'00ff' WHERE slot = ?", (slot,))
    kept = seconds(store)
    assert len(kept) == 299 - 60
    store.append([sample(START + n) for n in range(1, 400)])
    store.flush()
    assert store.failing == ""
    assert seconds(store) == list(range(1, 400))
    store.close()


def test_samples_that_do_not_fit_are_refused(tmp_path):
    store = opened(tmp_path)
    with pytest.raises(LocalError, match="'Z'"):
        store.append([sample(START, meter="Z")])
    with pytest.raises(LocalError, match="18 points"):
        store.append([Sample("A", START * 1000, (1,), (0,))])
    store.close()


def test_a_full_disk_loses_nothing(tmp_path):
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(100))
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages}")
    store.append(sample(START + n, value=random.getrandbits(60)) for n in range(100, 3000))
    store.flush()
    assert "full" in store.failing
    assert seconds(store) == list(range(3000))
    store._database.execute("PRAGMA max_page_count=1000000")
    store.flush()
    assert store.failing == ""
    store.close()
    store = opened(tmp_path)
    assert seconds(store) == list(range(3000))
    store.close()


def test_a_second_process_is_kept_out(tmp_path):
    store = opened(tmp_path)
    with pytest.raises(ConfigurationError, match=r"another process.*stop the other"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_newer_foreign_damaged_and_unwritable_files_are_refused_with_a_way_out(tmp_path):
    path = tmp_path / "store.sqlite"
    opened(tmp_path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigurationError, match=r"version 99 .*newer flexmap"):
        opened(tmp_path)
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE other (x)")
    database.close()
    with pytest.raises(ConfigurationError, match=r"not a store of flexmap \(set another"):
        opened(tmp_path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match=r"store.sqlite: is damaged.*move the file away"):
        opened(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match="cannot write"):
        Store(blocked / "store.sqlite", site())
    with pytest.raises(ConfigurationError, match="divide a day"):
        opened(tmp_path / "other", profile_period=7)


def test_damage_inside_the_file_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    store = opened(tmp_path)
    store.append(sample(START + n) for n in range(1000))
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="damaged"):
        opened(tmp_path)


def test_files_are_their_owners_alone(tmp_path):
    before = os.umask(0o022)
    try:
        store = opened(tmp_path)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}, modes


def test_a_meter_that_the_site_no_longer_has_is_pruned_too(tmp_path):
    store = opened(tmp_path, "A", "GONE")
    store.append(sample(START + n, meter) for n in range(1900) for meter in ("A", "GONE"))
    store.event(Event("GONE", START * 1000, EventLog.STANDARD, EventCode.POWER_UP))
    store.close()
    store = opened(tmp_path, "A")
    day = 86_400_000

    def rows():
        tables = ("block", "profile", "event")
        return [store._database.execute(f"SELECT count(*) FROM {t} WHERE meter = 2").fetchone()[0] for t in tables]

    store.prune(START * 1000 + 6 * day)
    assert min(rows()) > 0
    store.prune(START * 1000 + 8 * day)
    assert rows()[0] == 0
    store.prune(START * 1000 + 401 * day)
    assert rows() == [0, 0, 0]
    store.close()
