"""The end of a billing period: by schedule at local midnight, by script, over restarts; sums to the watt-hour."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from twisted.internet.task import Clock

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.scripts import EXECUTION_TIME, SCRIPT_TABLE, SINGLE_ACTION_SCHEDULE
from flexmap.dlms.selection import EntrySelection
from flexmap.faces.dlms.billing import billing_objects
from flexmap.faces.dlms.billing_definitions import BILLING_LN, SCHEDULE_LN, SCRIPTS_LN
from flexmap.faces.dlms.demand import demand_objects
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import Zone
from flexmap.model import Event, EventCode, EventLog, Meter, Sample, Site
from flexmap.store import Store, StoreSettings
from flexmap.store.files import MeterFiles

TYPE = load_builtin()["single-phase"]
METER = Meter(id="A", type=TYPE.id, ld="A", sap=17)
SITE = Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE}, time_zone="Europe/Vienna")
WIDTH = len(TYPE.points)
MAXIMUM = -2 * 2 * (1 + TYPE.tariff.rates)
"""Where the maximum of the first demand stands in a row: before those of its rates, and of the other demand."""
MANAGER = ClientProfile(sap=1, name="m", role=Role.MANAGEMENT)


def vienna(*fields):
    return int(dt.datetime(*fields, tzinfo=ZoneInfo("Europe/Vienna")).timestamp())


class Gateway:
    def __init__(self, path, now):
        self.path = path
        self.clock = Clock()
        self.clock.rightNow = now
        self.energy = 0
        self.ahead = 0
        """The meter's clock minus ours."""
        self.open()

    def open(self):
        settings = StoreSettings(sample_interval=60, time_zone=SITE.time_zone)
        self.store = Store(self.path / "s.sqlite", SITE, settings)
        objects = MeterObjects(TYPE, settings.profile_points, zone=Zone(SITE.time_zone))
        self.device = MeterDevice(METER, objects, make_buffers(self.store, METER, objects), lambda _: None)
        self.live = [
            *demand_objects(self.store, "A", TYPE, objects.local),
            *billing_objects(
                self.store, METER, objects, self.device, keeper=MeterFiles(self.path), reactor=self.clock
            ),
        ]
        self.device.serve(self.live)
        for each in self.live:
            each.begin()

    def kill(self):
        for each in self.live:
            each.stop()
        self.store.flush()
        self.store._file.close()

    def run(self, until, step=60, energy=1):
        while self.clock.seconds() < until:
            self.energy += energy
            second = int(self.clock.seconds()) + step + self.ahead
            self.store.append([Sample("A", second * 1000, (self.energy, *(0,) * (WIDTH - 1)), (0,) * WIDTH)])
            self.store.flush()
            self.clock.advance(step)

    def rates(self):
        """What each rate of the first energy had counted, row by row."""
        return [axdr.decode(row)[5:9] for row in self.buffer().select(None).rows]

    def buffer(self):
        return self.device.values[self.device.schema.slot(classes.PROFILE_GENERIC, BILLING_LN, 2)]

    def rows(self, selection=None):
        found = [axdr.decode(row) for row in self.buffer().select(selection).rows]
        time = lambda octets: octets and cosem_time.to_epoch_ms(octets) // 1000  # noqa: E731
        return [(time(row[0]), row[1], row[MAXIMUM], time(row[MAXIMUM + 1])) for row in found]

    def execute(self, number=1):
        data = axdr.encode("long-unsigned", number)
        return self.device.on_action(SCRIPT_TABLE, SCRIPTS_LN, 1, data, MANAGER)


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path, vienna(2026, 10, 24, 20))
    yield made
    for each in made.live:
        each.stop()
    made.store.close()


def daily(gateway):
    """Every day at 0:00."""
    times = axdr.array([axdr.structure(axdr.octet_string(bytes(4)), axdr.octet_string(b"\xff" * 5))])
    assert gateway.device.on_set(SINGLE_ACTION_SCHEDULE, SCHEDULE_LN, EXECUTION_TIME, times, MANAGER) == (
        DataAccessResult.SUCCESS
    )


def test_periods_over_daylight_saving_a_clock_jump_and_a_kill_sum_to_the_registers_difference(gateway):
    daily(gateway)
    gateway.run(vienna(2026, 10, 25, 12))
    gateway.kill()
    gateway.open()
    gateway.run(vienna(2026, 10, 26, 6), energy=2)
    old = int(gateway.clock.seconds())
    gateway.ahead = 1200
    for time, code in ((old, EventCode.CLOCK_ADJUSTED_OLD), (old + 1200, EventCode.CLOCK_ADJUSTED_NEW)):
        gateway.store.event(Event("A", time * 1000, EventLog.STANDARD, code))
    gateway.run(vienna(2026, 10, 27, 1))
    rows = gateway.rows()
    assert [row[0] for row in rows] == [
        vienna(2026, 10, 25),
        vienna(2026, 10, 26),
        vienna(2026, 10, 27) + 1200,  # the meter's own time
    ]
    energies = [row[1] for row in rows]
    assert energies[1] - energies[0] == 13 * 60 + 12 * 60 * 2  # a day of 25 hours
    assert energies[2] - energies[1] == 6 * 60 * 2 + 18 * 60
    assert gateway.execute() == ActionResult.SUCCESS
    periods = [b - a for a, b in zip([0, *energies], [*energies, gateway.energy], strict=True)]
    assert gateway.rows()[-1][1] - 0 == sum(periods) == gateway.energy
    assert [row[2] for row in rows] == [60, 120, 120]  # W, the highest of each period alone
    rates = gateway.rates()[:3]
    assert [sum(each) for each in rates] == energies
    split = [[now - then for then, now in zip(*pair, strict=True)] for pair in pairwise(rates)]
    # The rates by the clock: 6:00 to 22:00 is rate 1. One watt-hour a minute up to noon of the 25th, then two, and
    # from 6:00 on, which the clock leaves for 6:20 with nothing counted between, one again.
    assert split[0] == [6 * 60 + 10 * 120, 7 * 60 + 2 * 120, 0, 0]
    assert split[1] == [16 * 60 - 20, 6 * 120 + 2 * 60 + 20, 0, 0]


def test_every_month_unless_written_and_once_after_a_long_rest(gateway):
    slot = gateway.device.schema.slot(SINGLE_ACTION_SCHEDULE, SCHEDULE_LN, EXECUTION_TIME)
    assert axdr.decode(gateway.device.values[slot]()) == [(bytes(4), b"\xff\xff\xff\x01\xff")]
    gateway.run(vienna(2026, 10, 24, 21))
    gateway.kill()
    gateway.clock.rightNow = vienna(2026, 11, 1, 7)
    gateway.open()
    gateway.run(vienna(2026, 11, 1, 9))
    assert len(gateway.rows()) == 1
    gateway.run(vienna(2026, 11, 1, 10))
    assert len(gateway.rows()) == 1


def test_the_script_is_a_row_once_for_each_time_stamp_and_resets_the_maximum(gateway):
    assert gateway.execute() == ActionResult.TEMPORARY_FAILURE  # no sample, no row
    gateway.run(vienna(2026, 10, 24, 21))
    assert gateway.execute() == ActionResult.SUCCESS
    assert gateway.execute() == ActionResult.SUCCESS
    assert gateway.execute(2) == ActionResult.OTHER_REASON
    assert gateway.rows() == [(vienna(2026, 10, 24, 21), 60, 60, vienna(2026, 10, 24, 20, 30))]
    gateway.run(vienna(2026, 10, 24, 22), energy=3)
    gateway.execute()
    assert gateway.rows(EntrySelection(2, 2))[0][1:] == (240, 180, vienna(2026, 10, 24, 21, 15))
