"""Load profile 2 and the daily profile: over daylight-saving changes, clock jumps and gaps; older files."""

import datetime as dt
import sqlite3
from pathlib import Path
from zoneinfo import ZoneInfo

from flexmap.mapping.table import load_builtin
from flexmap.model import Event, EventCode, EventLog, Meter, Sample, Site
from flexmap.store import AmrStatus, LoadProfile, Store, StoreSettings, schema

TYPE = load_builtin()["single-phase"]
SITE = Site(
    name="s",
    ied="S",
    meters=(Meter(id="A", type=TYPE.id, ld="A", sap=17),),
    types={TYPE.id: TYPE},
    time_zone="UTC",
)
SECOND, INCOMPLETE = LoadProfile.SECOND, AmrStatus.INCOMPLETE


def opened(path: Path, **changed) -> Store:
    return Store(path / "s.sqlite", SITE, StoreSettings(**changed))


def sample(second: int, energy: int) -> Sample:
    return Sample("A", second * 1000, (energy, 0, 0, 0, *(0,) * (len(TYPE.points) - 4)), (0,) * len(TYPE.points))


def vienna(*fields: int) -> int:
    return int(dt.datetime(*fields, tzinfo=ZoneInfo("Europe/Vienna")).timestamp())


def test_minutes_and_quarters_from_the_same_samples_over_a_kill(tmp_path):
    start = 1_795_392_000
    store = opened(tmp_path)
    for second in range(1, 1500):
        store.append([sample(start + second, second)])
        if second % 100 == 0:
            store.flush()
    store._file.close()  # kill -9
    store = opened(tmp_path)
    store.append(sample(start + n, n) for n in range(1500, 1802))
    for _ in range(3):
        store.flush()
    minutes = list(store.profile_rows("A", profile=SECOND))
    # Lost with the process: seconds 1401 to 1499.
    expected = [(n, 1400 if n == 1440 else n) for n in range(60, 1801, 60)]
    assert [(row.time // 1000 - start, row.values[0]) for row in minutes] == expected
    assert [row.time // 1000 - start for row in minutes if row.status & INCOMPLETE] == [1440, 1500]
    assert [row.values[0] for row in store.profile_rows("A")] == [900, 1800]
    assert store.profile_count("A", profile=SECOND) == 30
    assert [row.values[0] for row in store.profile_entries("A", 2, 3, SECOND)] == [120, 180]
    store.close()


def test_a_day_has_23_24_or_25_hours(tmp_path):
    store = opened(tmp_path, time_zone="Europe/Vienna", sample_interval=900, profile_2_period=900)
    for day in (vienna(2026, 3, 28), vienna(2026, 10, 24)):
        store.append(sample(day + n * 900, day + n * 900) for n in range(293))
    store.flush()
    daily = store.daily("A")
    found = [(row.time // 1000, row.values[0], row.status) for row in daily.rows()]
    whole = [*((vienna(2026, 3, d), 0) for d in (29, 30, 31)), *((vienna(2026, 10, d), 0) for d in (25, 26, 27))]
    assert [(time, status) for time, _, status in found if not status & INCOMPLETE] == whole
    assert [time for time, _, status in found if status & INCOMPLETE] == [
        vienna(2026, 3, 28),
        vienna(2026, 10, 24),
    ]
    assert all(time == value for time, value, _ in found)
    assert vienna(2026, 3, 30) - vienna(2026, 3, 29) == 23 * 3600
    assert daily.count() == len(found) == 8
    assert daily.count(vienna(2026, 3, 29) * 1000, vienna(2026, 3, 30) * 1000) == 2
    assert [row.time // 1000 for row in daily.rows(vienna(2026, 3, 29) * 1000 + 1, vienna(2026, 4, 1) * 1000)] == [
        vienna(2026, 3, 30),
        vienna(2026, 3, 31),
    ]
    assert [row.time // 1000 for row in daily.entries(2, 3)] == [vienna(2026, 3, 29), vienna(2026, 3, 30)]
    assert [row.time // 1000 for row in daily.entries(8, 0)] == [vienna(2026, 10, 27)]
    store.close()


def test_the_status_of_a_day_is_that_of_all_its_quarters(tmp_path):
    start = 1_795_392_000
    store = opened(tmp_path, sample_interval=900, profile_2_period=900)
    store.append(sample(start + n * 900, n) for n in range(1, 96 * 3 + 1) if n != 150)  # a gap on the second day
    jump = (start + 200 * 900) * 1000  # on the third day
    store.event(Event("A", jump, EventLog.STANDARD, EventCode.CLOCK_ADJUSTED_NEW))
    store.flush()
    statuses = [row.status for row in store.daily("A").rows()]
    assert statuses == [0, INCOMPLETE, AmrStatus.CLOCK_ADJUSTED]
    store.close()


def test_load_profile_2_is_kept_for_its_own_time(tmp_path):
    start = 1_795_392_000
    store = opened(tmp_path, profile_2_days=1, profile_days=3, sample_interval=60)
    store.append(sample(start + n * 60, n) for n in range(2 * 1440 + 1))
    store.flush()
    while store.prune((start + 2 * 86_400) * 1000):
        pass
    assert store.profile_count("A", profile=SECOND) == 1441
    assert store.profile_count("A") == 193
    store.close()


def test_a_file_of_version_1_goes_on(tmp_path):
    database = sqlite3.connect(tmp_path / "s.sqlite")
    pragmas = f"PRAGMA application_id={schema.APPLICATION}; PRAGMA user_version=1;"
    database.executescript(schema._STEPS[0] + pragmas)
    database.execute("INSERT INTO meter VALUES (1, 'A')")
    database.execute("INSERT INTO layout VALUES (1, '[\"energy-active-import\"]')")
    database.execute("INSERT INTO profile VALUES (1, 900000, 0, 0, 1, X'9107')")
    database.commit()
    database.close()
    store = opened(tmp_path)
    assert [row.values for row in store.profile_rows("A")] == [(7, None, None, None)]
    store.append(sample(n, n) for n in range(901, 961))
    store.flush()
    assert [row.values[0] for row in store.profile_rows("A", profile=SECOND)] == [960]
    store.close()


def test_every_read_of_a_profile_is_a_search_in_its_index(tmp_path):
    start = 1_795_392_000
    store = opened(tmp_path, sample_interval=900, profile_2_period=900)
    store.append(sample(start + n * 900, n) for n in range(96 * 2 + 1))
    store.flush()
    statements = []
    store._database.set_trace_callback(statements.append)
    for profile in (LoadProfile.FIRST, SECOND):
        assert sum(1 for _ in store.profile_rows("A", start * 1000, profile=profile)) == 193
        assert store.profile_count("A", start * 1000, profile=profile) == 193
        assert sum(1 for _ in store.profile_entries("A", 2, 3, profile)) == 2
    assert store.profile_before("A", (start + 901) * 1000) == (start + 900) * 1000
    assert store.daily("A").count() == 3
    assert sum(1 for _ in store.daily("A").entries(2, 3)) == 2
    billing = store.billing("A", ("energy-active-import",))
    assert billing.count() == 0
    assert list(billing.rows()) == []
    store._database.set_trace_callback(None)
    reads = {each for each in statements if each.startswith("SELECT") and "layout WHERE" not in each}
    assert len(reads) > 10
    for read in reads:
        steps = [row[3] for row in store._database.execute(f"EXPLAIN QUERY PLAN {read}")]
        assert steps[0].startswith("SEARCH"), (read, steps)
        assert "PRIMARY KEY (meter=?" in steps[0], (read, steps)
        assert not any("ORDER BY" in step for step in steps), (read, steps)
    store.close()
