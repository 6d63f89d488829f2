"""The last row of load profile 1 as compact data: when there is none, what methods leave, what changes nothing."""

import pytest

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.short_names import short_names
from flexmap.faces.dlms.compact import CompactRow
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.objects import CLOCK_COLUMN, COMPACT_LN, PROFILE_LN, MeterObjects
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.mapping.zone import Zone
from flexmap.model import Meter, Sample, Site, quality
from flexmap.store import Store

TYPE = load_builtin()["single-phase"]
METER = Meter(id="A", type=TYPE.id, ld="A", sap=17)
SITE = Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE})
START = 1_795_392_000
CLIENT = ClientProfile(sap=1, name="management", role=Role.MANAGEMENT)
IMPORT = TYPE.index["energy-active-import"]
RESET, CAPTURE = 1, 2
NOTHING = DataAccessResult.TEMPORARY_FAILURE


class Bench:
    def __init__(self, path, zone="UTC"):
        self.store = Store(path / "s.sqlite", SITE)
        objects = MeterObjects(TYPE, self.store.settings.profile_points, zone=Zone(zone))
        self.device = MeterDevice(METER, objects, make_buffers(self.store, METER, objects), lambda _: None)
        self.device.serve([CompactRow(self.store, "A", objects)])

    def run(self, start, stop, *, invalid=False):
        flags = [0] * len(TYPE.points)
        flags[IMPORT] = quality.INVALID if invalid else quality.GOOD
        for second in range(start, stop):
            values = [1] * len(TYPE.points)
            values[IMPORT] = second
            self.store.append([Sample("A", (START + second) * 1000, tuple(values), tuple(flags))])

    def stored(self):
        return self.device.values[self.device.schema.slot(62, COMPACT_LN, 2)]()

    def read(self):
        """Second of the clock and energy of the buffer; None if it is empty."""
        found = self.stored()
        if isinstance(found, DataAccessResult):
            return found
        octets = axdr.decode(found)
        if not octets:
            return None
        assert octets[:2] == b"\x01\x0c"
        assert len(octets) == 1 + 13 + 1 + 4 * 4
        time = cosem_time.to_epoch_ms(octets[2:14]) // 1000 - START
        return time, int.from_bytes(octets[15:19], "big")

    def act(self, method):
        return int(self.device.on_action(62, COMPACT_LN, method, None, CLIENT))


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_it_is_the_last_row(bench):
    assert bench.read() is NOTHING
    bench.run(0, 1000)
    assert bench.read() == (900, 900)
    bench.run(1000, 1900)
    assert bench.read() == (1800, 1800)


def test_a_missing_value_is_not_zero(bench):
    bench.run(0, 890)
    bench.run(890, 901, invalid=True)
    assert bench.read() is NOTHING
    bench.run(901, 1801)
    assert bench.read() == (1800, 1800)


def test_reset_empties_it_until_there_is_a_newer_row(bench):
    assert bench.act(RESET) == 0
    assert bench.read() is None
    bench.run(0, 1000)
    assert bench.read() == (900, 900)
    assert bench.act(RESET) == 0
    assert bench.read() is None
    bench.run(1000, 1801)
    assert bench.read() == (1800, 1800)


def test_capture_takes_the_newest_sample_until_there_is_a_newer_row(bench):
    assert bench.act(CAPTURE) == int(NOTHING)
    bench.run(0, 1000)
    assert bench.act(CAPTURE) == 0
    assert bench.read() == (999, 999)
    bench.run(1000, 1700)
    assert bench.read() == (999, 999)
    bench.run(1700, 1801)
    assert bench.read() == (1800, 1800)
    bench.run(1801, 1810, invalid=True)
    assert bench.act(CAPTURE) == int(NOTHING)
    assert bench.read() == (1800, 1800)


def test_a_changed_load_profile_leaves_it_alone(bench):
    bench.run(0, 1000)
    columns = classes.capture_objects([CLOCK_COLUMN])
    assert bench.device.on_set(7, PROFILE_LN, 3, columns, CLIENT) == 0
    assert bench.read() == (900, 900)
    bench.run(1000, 1801)
    assert bench.read() == (1800, 1800)


def test_its_clock_is_local(tmp_path):
    bench = Bench(tmp_path, "Europe/Zurich")
    bench.run(0, 1000)
    octets = axdr.decode(bench.stored())
    assert octets[11:13] == (-60).to_bytes(2, "big", signed=True)
    assert bench.read() == (900, 900)
    bench.store.close()


def test_nothing_can_be_written(bench):
    assert bench.device.on_set(62, COMPACT_LN, 4, axdr.encode("unsigned", 2), CLIENT) == 3
    assert bench.act(3) == 4


def test_short_names_of_its_methods_follow_its_attributes(bench):
    names = short_names(bench.device.schema)
    base = names.by_key[b"\0\x3e" + COMPACT_LN + b"\1"]
    methods = {name: named.key[-1] for name, named in names.names.items() if named.is_method}
    assert (methods[base + 0x30], methods[base + 0x38]) == (RESET, CAPTURE)
