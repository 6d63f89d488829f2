"""Clocks, profile rows and selections in local time, through the objects that clients read."""

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec
import pytest

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.selection import EntrySelection, RangeSelection
from flexmap.faces.dlms.device import MeterDevice, management_device
from flexmap.faces.dlms.objects import CLOCK_COLUMN, DAILY, PROFILE, PROFILE_2, MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import UTC, Zone
from flexmap.model import Event, EventCode, EventLog, Meter, Sample, Site
from flexmap.store import AmrStatus, Store, StoreSettings

TYPE = load_builtin()["single-phase"]
METER = Meter(id="A", type=TYPE.id, ld="A", sap=17)
WIDTH = len(TYPE.points)
VIENNA = Zone("Europe/Vienna")
AUTUMN = int(dt.datetime(2026, 10, 25, tzinfo=ZoneInfo("Europe/Vienna")).timestamp())
"""Midnight before the day of 25 hours."""


def sample(second, energy=0, status=0):
    return Sample("A", second * 1000, (energy, *(0,) * (WIDTH - 1)), (0,) * WIDTH, status)


@pytest.fixture
def site(tmp_path):
    made = Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE}, time_zone=VIENNA.name)
    settings = StoreSettings(sample_interval=60, time_zone=VIENNA.name)
    store = Store(tmp_path / "s.sqlite", made, settings)
    objects = MeterObjects(TYPE, settings.profile_points, zone=VIENNA)
    buffers = make_buffers(store, METER, objects)
    yield store, buffers, MeterDevice(METER, objects, buffers, lambda _: None)
    store.close()


def read(device, class_id, name, index):
    value = device.values[device.schema.slot(class_id, name, index)]
    value = value() if callable(value) else value
    return value if isinstance(value, DataAccessResult) else axdr.decode(value)


def rows(buffer, selection=None):
    selected = buffer.select(selection)
    found = [axdr.decode(row) for row in selected.rows]
    assert len(found) == selected.total
    return found


def local_end(*fields, status=None):
    """A date-time without deviation."""
    year, month, day, hour, minute = fields
    return cosem_time.encode_fields(
        cosem_time.DateTime(year, month, day, None, hour, minute, 0, 0, deviation=None, status=status)
    )


def test_the_clock_of_a_meter(site):
    _, _, device = site
    clock = lambda index: read(device, classes.CLOCK, classes.CLOCK_LN, index)  # noqa: E731
    assert clock(3) == DataAccessResult.TEMPORARY_FAILURE  # nothing is known of a year
    device.update(sample(AUTUMN + 2 * 3600 + 1800, status=0x02))
    shown = cosem_time.decode(clock(2))
    assert (shown.hour, shown.minute, shown.deviation, shown.status) == (2, 30, -120, 0x82)
    assert clock(4) == 0x82
    device.update(sample(AUTUMN + 3 * 3600 + 1800, status=0x82))
    shown = cosem_time.decode(clock(2))
    assert (shown.hour, shown.minute, shown.deviation, shown.status) == (2, 30, -60, 0x02)
    assert shown.epoch_ms() == (AUTUMN + 3 * 3600 + 1800) * 1000
    assert (clock(3), clock(7), clock(8)) == (-60, 60, True)
    begin, end = (cosem_time.decode(clock(index)) for index in (5, 6))
    assert (begin.month, begin.day, begin.day_of_week, begin.hour, begin.deviation) == (3, 29, 7, 2, -60)
    assert (end.month, end.day, end.day_of_week, end.hour, end.deviation) == (10, 25, 7, 3, -120)
    energy = bytes((1, 0, 1, 8, 0, 255))
    assert cosem_time.decode(read(device, classes.EXTENDED_REGISTER, energy, 5)).deviation == -60


def test_the_gateways_own_clock():
    site = Site(name="s", ied="S", meters=(), types={}, time_zone=VIENNA.name)
    device = management_device(site, bytes(8), lambda: AUTUMN * 1000)
    shown = cosem_time.decode(read(device, classes.CLOCK, classes.CLOCK_LN, 2))
    assert (shown.hour, shown.deviation, shown.status) == (0, -120, 0x80)
    assert read(device, classes.CLOCK, classes.CLOCK_LN, 8) is True
    device = management_device(msgspec.structs.replace(site, time_zone="UTC"), bytes(8), lambda: AUTUMN * 1000)
    assert cosem_time.decode(read(device, classes.CLOCK, classes.CLOCK_LN, 2)).deviation == 0


def test_rows_of_the_hour_that_comes_twice(site):
    store, buffers, device = site
    store.append(sample(AUTUMN + n * 60, n) for n in range(1, 25 * 60 + 1))
    store.flush()
    found = rows(buffers[PROFILE.logical_name])
    assert len(found) == 100
    instants = [cosem_time.to_epoch_ms(row[0]) for row in found]
    assert instants == [(AUTUMN + n * 900) * 1000 for n in range(1, 101)]
    saving = [bool(row[1] & AmrStatus.DAYLIGHT_SAVING) for row in found]
    assert saving == [n < 12 for n in range(1, 101)]
    assert [bool(cosem_time.decode(row[0]).status & 0x80) for row in found] == saving
    twice = [row for row in found if cosem_time.decode(row[0]).hour == 2]
    assert len(twice) == 8
    # Selected by local time without deviation: both hours, or the one that the status names.
    both, summer, winter = (
        rows(
            buffers[PROFILE.logical_name],
            RangeSelection(
                CLOCK_COLUMN,
                local_end(2026, 10, 25, 2, 0, status=status),
                local_end(2026, 10, 25, 2, 45, status=status),
            ),
        )
        for status in (None, 0x80, 0)
    )
    assert (both, summer, winter) == (twice, twice[:4], twice[4:])
    assert read(device, classes.DATA, PROFILE.status_name, 2) == 0


def test_minutes_and_days(site):
    store, buffers, _ = site
    store.append(sample(AUTUMN + n * 60, 30 + n) for n in range(-30, 25 * 60 + 1))
    store.event(Event("A", (AUTUMN + 100) * 1000, EventLog.STANDARD, EventCode.CLOCK_ADJUSTED_NEW))
    store.flush()
    minutes = rows(buffers[PROFILE_2.logical_name])
    assert [row[2] for row in minutes] == list(range(25 * 60 + 31))
    selected = rows(buffers[PROFILE_2.logical_name], EntrySelection(31, 33, 3, 3))
    assert selected == [(30,), (31,), (32,)]
    days = rows(buffers[DAILY.logical_name])
    assert [(cosem_time.decode(row[0]).day, cosem_time.decode(row[0]).hour, row[2]) for row in days] == [
        (25, 0, 30),
        (26, 0, 30 + 25 * 60),
    ]
    assert [row[1] for row in days] == [
        AmrStatus.DAYLIGHT_SAVING | AmrStatus.INCOMPLETE,
        AmrStatus.CLOCK_ADJUSTED,
    ]
    assert buffers[DAILY.logical_name].select(None).total == 2


def test_a_register_that_does_not_fit_is_missing_in_its_row(site):
    store, buffers, _ = site
    store.append(sample(AUTUMN + n * 60, (5, 2**40)[n > 15]) for n in range(1, 31))
    store.flush()
    assert [row[2] for row in rows(buffers[PROFILE.logical_name])] == [5, None]


def test_in_utc_the_meters_own_daylight_saving_is_shown(tmp_path):
    store = Store(
        tmp_path / "s.sqlite",
        Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE}),
        StoreSettings(sample_interval=60),
    )
    objects = MeterObjects(TYPE, store.settings.profile_points, zone=UTC)
    store.append(sample(AUTUMN + n * 60, n, 0x80) for n in range(1, 61))
    store.flush()
    (row, *_) = rows(make_buffers(store, METER, objects)[PROFILE.logical_name])
    assert row[1] & AmrStatus.DAYLIGHT_SAVING
    assert cosem_time.decode(row[0]).deviation == 0
    store.close()
