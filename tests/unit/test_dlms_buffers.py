"""Buffers of the load profile out of a real store, with selections of all kinds, and while it is pruned."""

import pytest

from flexmap.dlms import classes, cosem_time
from flexmap.dlms.objects import SelectionError
from flexmap.dlms.selection import CaptureObject, EntrySelection, RangeSelection
from flexmap.faces.dlms.objects import CLOCK_COLUMN, PROFILE_LN, MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.model import Meter, Site, obis
from flexmap.store import Store

TYPE = load_builtin()["single-phase"]
METER = Meter(id="M 1; DROP TABLE meter --é", type=TYPE.id, ld="M1", sap=1001)
START, PERIOD, ROWS = 1_795_392_000, 900, 1000
UNSPECIFIED = cosem_time.NOT_SPECIFIED


def at(number):
    return cosem_time.encode((START + number * PERIOD) * 1000)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "s.sqlite", Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE}))
    log = made._logs[METER.id]
    made._database.executemany(
        "INSERT INTO profile VALUES (?, ?, 0, 0, ?, X'9401020304')",
        ((log.row, (START + number * PERIOD) * 1000, log.periods[0].layout) for number in range(ROWS)),
    )
    yield made
    made.close()


@pytest.fixture
def profile(store):
    objects = MeterObjects(TYPE, store.settings.profile_points)
    return make_buffers(store, METER, objects)[PROFILE_LN]


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        (at(10), at(12), 3),
        (UNSPECIFIED, at(12), 13),
        (at(990), UNSPECIFIED, 10),
        (UNSPECIFIED, UNSPECIFIED, ROWS),
        (None, None, ROWS),
        (at(12), at(10), 0),
        (at(ROWS), UNSPECIFIED, 0),
        (START, START + PERIOD, 2),
        (0, 0xFFFF_FFFF, ROWS),
        (cosem_time.encode(0), at(0), 1),
        (at(1)[:8] + b"\xff" + at(1)[9:], at(1)[:7] + b"\xff\xff\x80\x00\xff", 1),
        (
            cosem_time.encode((START + PERIOD) * 1000, deviation=-60),
            cosem_time.encode((START + PERIOD) * 1000, 120),
            1,
        ),
    ],
)
def test_ranges(profile, start, end, count):
    rows = profile.select(RangeSelection(CLOCK_COLUMN, start, end))
    assert rows.total == count
    assert len(list(rows.rows)) == count


@pytest.mark.parametrize(
    "selection",
    [
        RangeSelection(CaptureObject(1, obis.parse("0-0:42.0.0"), 2), at(1), at(2)),
        RangeSelection(CLOCK_COLUMN, b"\x07\xea\xff\xff\xff\xff\xff\xff\xff\x80\x00\xff", None),
        RangeSelection(CLOCK_COLUMN, at(1)[:-1], None),
        RangeSelection(CLOCK_COLUMN, (1 << 64) - 1, None),
        RangeSelection(CLOCK_COLUMN, None, -1),
        RangeSelection(CLOCK_COLUMN, None, None, (CaptureObject(3, obis.parse("1-0:32.7.0"), 2),)),
    ],
)
def test_selections_that_cannot_be_followed_are_refused(profile, selection):
    with pytest.raises(SelectionError):
        profile.select(selection)


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (EntrySelection(0), ROWS),
        (EntrySelection(ROWS, ROWS), 1),
        (EntrySelection(5, 4), 0),
        (EntrySelection((1 << 64) - 1, (1 << 64) - 1), 0),
        (EntrySelection(1, -1), 0),
        (EntrySelection(1, 2, 9, 9), 2),
    ],
)
def test_entries(profile, selection, count):
    rows = profile.select(selection)
    assert (rows.total, len(list(rows.rows))) == (count, count)


def test_rows_come_short_when_they_are_pruned_meanwhile_and_never_wrong(store, profile):
    rows = profile.select(None)
    first = [next(rows.rows) for _ in range(10)]
    assert first[3] == profile.select(EntrySelection(4, 4)).rows.__next__()
    store.prune((START + 600 * PERIOD) * 1000 + int(store.settings.profile_days * 86_400_000))
    left = len(list(rows.rows))
    assert 10 + left < rows.total == ROWS  # so the transfer is aborted: test_dlms_attacks
    assert profile.select(None).total == 400
    assert profile.select(None).rows.__next__()[4:16] == at(600)


def test_columns_come_in_the_order_asked_for(profile):
    columns = (CaptureObject(classes.DATA, obis.parse("0-0:96.10.1"), 2), CLOCK_COLUMN)
    (row,) = profile.select(RangeSelection(CLOCK_COLUMN, at(7), at(7), columns)).rows
    assert row == b"\x02\x02\x11\x00\x09\x0c" + at(7)
