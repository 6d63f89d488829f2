"""Local time: deviation, daylight saving, midnights; checked against Python's zoneinfo and the known EU dates."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.mapping.zone import UTC, Zone
from flexmap.model import ConfigurationError

VIENNA = Zone("Europe/Vienna")
ZONES = (
    "Europe/Vienna",
    "Europe/Dublin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Lagos",
)


def at(*fields, zone="UTC", fold=0):
    return int(dt.datetime(*fields, tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def test_signs_and_seasons():
    winter, summer = at(2026, 1, 15, 12), at(2026, 7, 15, 12)
    assert (VIENNA.deviation(winter), VIENNA.deviation(summer)) == (-60, -120)
    assert (VIENNA.normal(winter), VIENNA.normal(summer)) == (-60, -60)
    assert (VIENNA.daylight(winter), VIENNA.daylight(summer)) == (False, True)
    assert (VIENNA.clock_status(winter, 0x82), VIENNA.clock_status(summer, 0x02)) == (0x02, 0x82)
    assert UTC.clock_status(summer, 0x82) == 0x82
    assert Zone("Europe/Dublin").daylight(summer)
    assert not Zone("Europe/Dublin").daylight(winter)


def test_the_changes_of_2026():
    begin, end = VIENNA.changes(at(2026, 6, 1))
    assert (begin.second, begin.local.hour, begin.deviation) == (at(2026, 3, 29, 1), 2, -60)
    assert (end.second, end.local.hour, end.deviation) == (at(2026, 10, 25, 1), 3, -120)
    assert VIENNA.changes(at(2026, 12, 31)) == (begin, end)
    assert Zone("Asia/Kolkata").changes(at(2026, 6, 1)) is None
    assert UTC.changes(0) is None
    begin, end = Zone("America/Santiago").changes(at(2026, 6, 1))
    assert begin.second > end.second


def test_the_hour_that_comes_twice_and_the_one_that_is_left_out():
    shown = at(2026, 10, 25, 2, 30)  # as if UTC
    first, second = (at(2026, 10, 25, 2, 30, zone="Europe/Vienna", fold=fold) for fold in (0, 1))
    assert second - first == 3600
    assert VIENNA.of_local(shown, last=False) == first
    assert VIENNA.of_local(shown, last=True) == second
    assert VIENNA.of_local(shown, last=False, daylight=False) == second
    assert VIENNA.of_local(shown, last=True, daylight=True) == first
    assert VIENNA.of_local(at(2026, 3, 29, 2, 30), last=False) == at(2026, 3, 29, 1, 30)


@given(st.integers(at(2000, 1, 1), at(2035, 1, 1)), st.sampled_from(ZONES))
def test_like_zoneinfo(second, name):
    zone = Zone(name)
    local = dt.datetime.fromtimestamp(second, ZoneInfo(name))
    assert zone.deviation(second) == -local.utcoffset().total_seconds() / 60
    assert zone.date(second) == local.date()
    shown = int(local.replace(tzinfo=dt.UTC).timestamp())
    assert second in {zone.of_local(shown, last=last) for last in (False, True)}
    midnight, following = zone.midnight(second), zone.next_midnight(second)
    assert midnight <= second < following
    assert following - midnight in {23 * 3600, 84_600, 86_400, 88_200, 25 * 3600}
    assert zone.date(midnight) == local.date()
    assert zone.date(midnight - 1) < local.date()
    assert zone.midnight(following) == following


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../../etc/passwd", "/etc/passwd"])
def test_no_such_zone(name):
    with pytest.raises(ConfigurationError, match="is not a time zone"):
        Zone(name)


def test_the_ends_of_the_calendar_have_local_time_too():
    zone = Zone("Europe/Vienna")
    last = int(dt.datetime(9999, 12, 31, 23, 59, tzinfo=dt.UTC).timestamp())
    first = int(dt.datetime(1, 1, 1, tzinfo=dt.UTC).timestamp())
    for local in (first, last):
        assert abs(zone.of_local(local, last=True) - local) <= 3900
        assert not zone.daylight(local)
        assert zone.changes(local) is None or zone.changes(local)[0].second
