"""Demand registers out of the real store: conservation over daylight saving, clock jumps, kills; reset; gaps."""

import datetime as dt
import random
from zoneinfo import ZoneInfo

import pytest

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.faces.dlms.demand import demand_objects
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.objects import MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load, load_builtin
from flexmap.mapping.zone import Zone
from flexmap.model import ConfigurationError, Event, EventCode, EventLog, Meter, Sample, Site
from flexmap.store import DemandOf, Store, StoreSettings

TYPE = load_builtin()["single-phase"]
METER = Meter(id="A", type=TYPE.id, ld="A", sap=17)
SITE = Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE}, time_zone="Europe/Vienna")
WIDTH = len(TYPE.points)
AUTUMN = int(dt.datetime(2026, 10, 25, tzinfo=ZoneInfo("Europe/Vienna")).timestamp())
"""Midnight before the day of 25 hours."""
REGISTER, MAXIMUM = bytes((1, 0, 1, 4, 0, 255)), bytes((1, 0, 1, 6, 0, 255))
MANAGER = ClientProfile(sap=1, name="m", role=Role.MANAGEMENT)
MISSING = DataAccessResult.TEMPORARY_FAILURE


class Gateway:
    """Store and objects of one meter, a sample every ten seconds."""

    def __init__(self, path):
        self.path = path
        self.energy = 0
        self.open()

    def open(self):
        self.store = Store(
            self.path / "s.sqlite", SITE, StoreSettings(sample_interval=10, time_zone=SITE.time_zone)
        )
        objects = MeterObjects(TYPE, self.store.settings.profile_points, zone=Zone(SITE.time_zone))
        self.device = MeterDevice(METER, objects, make_buffers(self.store, METER, objects), lambda _: None)
        self.device.serve(demand_objects(self.store, "A", TYPE, objects.local))

    def kill(self):
        self.store._file.close()
        self.open()

    def sample(self, second, energy=None):
        self.energy = self.energy if energy is None else energy
        self.store.append([Sample("A", second * 1000, (self.energy, *(0,) * (WIDTH - 1)), (0,) * WIDTH)])

    def read(self, name, index, class_id=classes.DEMAND_REGISTER):
        value = self.device.values[self.device.schema.slot(class_id, name, index)]()
        if isinstance(value, DataAccessResult):
            return value
        decoded = axdr.decode(value)
        return cosem_time.to_epoch_ms(decoded) // 1000 if isinstance(decoded, bytes) else decoded

    def maximum(self):
        return tuple(self.read(MAXIMUM, index, classes.EXTENDED_REGISTER) for index in (2, 5))

    def reset(self, class_id, name):
        assert self.device.on_action(class_id, name, 1, axdr.encode("integer", 0), MANAGER) == ActionResult.SUCCESS


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    yield made
    made.store.close()


def test_all_demands_together_are_the_registers_difference(gateway):
    """Over the hour that comes twice, a clock put forward and back over ends of periods, and three kills."""
    randomness = random.Random(7)
    second, stop = AUTUMN, AUTUMN + 25 * 3600
    demands = {}
    gateway.sample(second, 10**6)
    jumps = {AUTUMN + 7 * 3600 + 500: 2400, AUTUMN + 13 * 3600 + 300: -1500}
    kills = {AUTUMN + 3 * 3600, AUTUMN + 9 * 3600 + 400, AUTUMN + 20 * 3600 + 10}
    newest = second
    while second < stop:
        jump = jumps.pop(second, 0)
        if jump:
            for time, code in (
                (second, EventCode.CLOCK_ADJUSTED_OLD),
                (second + jump, EventCode.CLOCK_ADJUSTED_NEW),
            ):
                gateway.store.event(Event("A", time * 1000, EventLog.STANDARD, code))
            second += jump
        second += 10
        gateway.sample(second, gateway.energy + randomness.randrange(5))
        newest = max(newest, second)
        gateway.store.flush()
        if second in kills:
            gateway.kill()
        if second == newest and ((second - AUTUMN) % 900 == 0 or jump):
            value, captured = gateway.read(REGISTER, 3), gateway.read(REGISTER, 6)
            if value is not MISSING:
                assert captured not in demands
                demands[captured] = value
                highest = max(demands.values())
                assert gateway.maximum() == (highest, min(end for end in demands if demands[end] == highest))
    assert all(value * 900 % 3600 == 0 for value in demands.values())
    assert sum(demands.values()) * 900 // 3600 == gateway.energy - 10**6
    assert len(demands) == 25 * 4 - 2  # the ends of two periods were jumped over


def test_the_running_average_and_its_times(gateway):
    for second in range(0, 2700 + 300 + 1, 10):
        gateway.sample(AUTUMN + second, second)  # 3600 W
    assert gateway.read(REGISTER, 3) == 3600
    assert gateway.read(REGISTER, 2) == 300 * 4
    assert gateway.read(REGISTER, 6) == gateway.read(REGISTER, 7) == AUTUMN + 2700
    assert gateway.maximum() == (3600, AUTUMN + 900)
    assert gateway.read(REGISTER, 5) == "0" * 13


def test_reset_of_each_alone_and_over_a_restart(gateway):
    for second in range(0, 1800 + 300 + 1, 10):
        gateway.sample(AUTUMN + second, 2 * second)
    gateway.reset(classes.EXTENDED_REGISTER, MAXIMUM)
    assert gateway.maximum() == (0, AUTUMN + 2100)
    assert gateway.read(REGISTER, 3) == 7200
    gateway.store.flush()
    gateway.kill()
    assert gateway.maximum() == (0, AUTUMN + 2100)
    for second in range(2110, 2701, 10):
        gateway.sample(AUTUMN + second, gateway.energy + 10)
    # Only what was counted since the reset: 600 Wh of the period of 900 s.
    assert gateway.maximum() == (2400, AUTUMN + 2700)
    assert gateway.read(REGISTER, 3) == (600 + 600) * 4
    gateway.reset(classes.DEMAND_REGISTER, REGISTER)
    assert (gateway.read(REGISTER, 2), gateway.read(REGISTER, 3)) == (0, 0)
    assert gateway.maximum() == (2400, AUTUMN + 2700)


def test_after_a_gap_nothing_is_known_of_the_period(gateway):
    assert [gateway.read(REGISTER, index) for index in (2, 3, 5, 6, 7)] == [MISSING] * 5
    assert gateway.maximum() == (MISSING, MISSING)
    for second in range(0, 1801, 10):
        gateway.sample(AUTUMN + second, second)
    for second in range(7210, 9001, 10):
        gateway.sample(AUTUMN + second, 10**6 + second)
    assert gateway.read(REGISTER, 3) == 3600
    assert gateway.maximum()[0] == 3600
    gateway.sample(AUTUMN + 9010, 5)  # another register
    assert gateway.read(REGISTER, 2) is MISSING


def test_a_demand_that_slides(gateway):
    for second in range(0, 3601, 10):
        gateway.sample(AUTUMN + second, second * (1 if second <= 2700 else 2))
    demand = DemandOf(gateway.store, "A", "energy-active-import", "d", periods=2)
    assert demand.last().value == (7200 - 1800) * 2
    assert demand.maximum().value == (7200 - 1800) * 2
    with pytest.raises(ConfigurationError, match="do not divide an hour"):
        DemandOf(gateway.store, "A", "energy-active-import", "d", periods=3)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('energy = "nothing"', "not an energy"),
        ('energy = "active-power"', "not an energy"),
        ('obis = "1-0:1.8.0"', "stands already"),
        ("periods = 0", "periods"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, line, what):
    head = '[meter-type]\nid = "a"\ntitle = "A"\nproduct = "A"\n'
    point = (
        '[[point]]\nname = "{}"\ntitle = "E"\nkind = "{}"\nobis = "{}"\nclass = 4\ntype = "double-long"\n'
        'unit = "{}"\nreference = "{}"\ncdc = "{}"\n'
    )
    table = head + point.format("e", "energy", "1-0:1.8.0", "Wh", "MMTR1.DmdWh", "BCR")
    table += point.format("active-power", "instantaneous", "1-0:16.7.0", "W", "MMXN1.Watt", "MV")
    entry = {"name": '"d"', "title": '"D"', "energy": '"e"', "obis": '"1-0:1.4.0"', "maximum": '"1-0:1.6.0"'}
    key, _, value = line.partition(" = ")
    text = "".join(f"{name} = {each}\n" for name, each in {**entry, key: value}.items())
    (tmp_path / "a.toml").write_text(f"{table}[[demand]]\n{text}")
    with pytest.raises(ConfigurationError, match=what):
        load(tmp_path / "a.toml")
