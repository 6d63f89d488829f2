"""The Clock that head-ends may set: what a time means, and what each method does with it."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from twisted.internet.defer import Deferred, succeed

from flexmap.dlms import axdr, cosem_time
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import Pending
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.faces.dlms.clock import MeterClock
from flexmap.faces.dlms.local_time import LocalTime
from flexmap.mapping.zone import Zone

VIENNA = ZoneInfo("Europe/Vienna")
CLIENT = ClientProfile(sap=1, name="management", role=Role.MANAGEMENT)
AUTUMN = int(dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC).timestamp()) * 1000
"""2:30 in Vienna for the first time on the day of 25 hours."""
SUCCESS, TEMPORARY, MISMATCH, OTHER = 0, 2, 12, 250


class Way:
    """Sets one clock at once."""

    def __init__(self, now):
        self.now = self.own = now
        self.answer = None

    def settable(self, meter):
        return True

    def shown(self, meter):
        return self.now

    def distance(self, time):
        return time - self.own

    def set(self, meter, time, origin):
        if self.answer is None:
            self.now = time
        return self.answer or succeed("")


class Bench:
    def __init__(self, zone="Europe/Vienna", now=AUTUMN):
        self.way = Way(now)
        self.clock = MeterClock("M", LocalTime(Zone(zone)), self.way, 900)

    def write(self, octets, attribute=2):
        return result(self.clock.write(attribute, octets))

    def act(self, method, octets=None):
        return result(self.clock.act(method, octets, CLIENT))

    @property
    def moved(self):
        return self.way.now - self.way.own


def result(answer):
    return int(answer.reply.result if isinstance(answer, Pending) else answer)


def octets(*fields, second=0, hundredths=0, deviation=None, status=None):
    year, month, day, hour, minute = fields
    return cosem_time.encode_fields(
        cosem_time.DateTime(year, month, day, None, hour, minute, second, hundredths, deviation, status)
    )


@pytest.mark.parametrize(
    ("time", "moved"),
    [
        (octets(2026, 10, 25, 2, 30, deviation=-120, status=128), 0),
        (octets(2026, 10, 25, 2, 30, deviation=-60, status=0), 3600),
        (octets(2026, 10, 25, 0, 30, deviation=0), 0),
        (octets(2026, 10, 25, 2, 30, status=128), 0),
        (octets(2026, 10, 25, 2, 30, status=0), 3600),
        (octets(2026, 10, 25, 2, 30), 0),
        (octets(2026, 10, 25, 1, 59, second=None, hundredths=None), -1860),
        (octets(2026, 10, 25, 3, 0, second=7), 5400 + 7),
    ],
    ids=["summer", "winter", "UTC", "bit", "no bit", "open", "no seconds", "afterwards"],
)
@pytest.mark.parametrize("tag", ["octet-string", "date-time"])
def test_a_time_is_an_instant(time, moved, tag):
    bench = Bench()
    assert bench.write(axdr.encode(tag, time)) == SUCCESS
    assert bench.moved == moved * 1000
    shown = axdr.decode(bench.clock.slots()[2]())
    assert cosem_time.to_epoch_ms(shown) == bench.way.now
    assert cosem_time.decode(shown).deviation == -(
        dt.datetime.fromtimestamp(bench.way.now // 1000, VIENNA).utcoffset() // dt.timedelta(minutes=1)
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (axdr.octet_string(cosem_time.NOT_SPECIFIED), MISMATCH),
        (axdr.octet_string(b""), MISMATCH),
        (axdr.octet_string(octets(2026, 2, 30, 1, 0)), MISMATCH),
        (axdr.octet_string(octets(2026, 10, 25, None, 0)), MISMATCH),
        (axdr.encode("double-long-unsigned", 5), MISMATCH),
        (axdr.NULL, MISMATCH),
        (axdr.octet_string(octets(2026, 10, 26, 3, 30)), OTHER),
        (axdr.octet_string(octets(1970, 1, 1, 0, 0)), OTHER),
        (axdr.octet_string(octets(9999, 12, 31, 23, 59)), OTHER),
    ],
)
def test_what_is_no_time_or_too_far_away_moves_nothing(data, expected):
    bench = Bench()
    assert bench.write(data) == expected
    assert bench.moved == 0
    assert bench.write(axdr.octet_string(octets(2026, 10, 25, 2, 30)), attribute=4) == 3


@pytest.mark.parametrize(
    ("method", "off", "moved"),
    [(1, 449, -449), (1, 450, 450), (1, 0, 0), (2, 451, 449), (3, 29, -29), (3, 30, 30), (3, 59, 1)],
)
def test_methods_adjust_to_the_nearest(method, off, moved):
    bench = Bench(now=AUTUMN + off * 1000)
    assert bench.act(method, axdr.encode("integer", 0)) == SUCCESS
    assert bench.moved == moved * 1000


@pytest.mark.parametrize(
    ("value", "expected", "moved"),
    [(900, SUCCESS, 900), (-900, SUCCESS, -900), (0, SUCCESS, 0), (901, OTHER, 0), (-901, OTHER, 0)],
)
def test_shift_time(value, expected, moved):
    bench = Bench()
    assert bench.act(6, axdr.encode("long", value)) == expected
    assert bench.moved == moved * 1000
    assert bench.act(6, axdr.encode("boolean", True)) == MISMATCH
    assert bench.act(6) == MISMATCH


def preset(*times):
    return axdr.structure(*[axdr.octet_string(time) for time in times])


def test_a_preset_time_holds_within_its_interval():
    bench = Bench()
    assert bench.act(4) == OTHER
    summer = {"deviation": -120}
    time, start, end = (octets(2026, 10, 25, 2, minute, **summer) for minute in (40, 35, 45))
    assert bench.act(5, preset(time, start)) == MISMATCH
    assert bench.act(5, preset(time, start, cosem_time.NOT_SPECIFIED)) == MISMATCH
    assert bench.act(5, preset(time, start, end)) == SUCCESS
    assert (bench.moved, bench.act(4), bench.moved) == (0, OTHER, 0)
    bench.way.now += 360_000
    assert bench.act(4) == SUCCESS
    assert bench.moved == 600_000
    bench.way.now += 360_000
    assert bench.act(4) == OTHER


def test_a_meter_that_does_not_answer_is_a_temporary_failure():
    bench = Bench()
    bench.way.answer = succeed("the meter has not answered")
    assert bench.act(3) == TEMPORARY
    bench.way.answer = Deferred()
    waiting = bench.clock.write(2, axdr.octet_string(octets(2026, 10, 25, 2, 31)))
    assert isinstance(waiting, Pending)
    assert waiting.reply is None
    bench.way.answer.callback("")
    assert waiting.reply.result == ActionResult.SUCCESS
    bench.way.now = None
    assert bench.act(3) == TEMPORARY
    assert bench.clock.slots()[2]() == DataAccessResult.TEMPORARY_FAILURE
