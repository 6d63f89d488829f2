"""Load profiles that head-ends change: capture objects, period, reset, capture; selective access afterwards."""

import pytest

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.selection import CaptureObject, EntrySelection, RangeSelection
from flexmap.faces.dlms.device import MeterDevice
from flexmap.faces.dlms.objects import CLOCK_COLUMN, PROFILE, PROFILE_2, MeterObjects, status_column
from flexmap.faces.dlms.profiles import make_buffers
from flexmap.mapping.table import load_builtin
from flexmap.model import Event, EventCode, EventLog, Meter, Sample, Site, obis
from flexmap.store import DemandOf, LoadProfile, Store

TYPE = load_builtin()["single-phase"]
METER = Meter(id="A", type=TYPE.id, ld="A", sap=17)
SITE = Site(name="s", ied="S", meters=(METER,), types={TYPE.id: TYPE})
START = 1_795_392_000
CLIENT = ClientProfile(sap=1, name="management", role=Role.MANAGEMENT)
VOLTAGE, IMPORT = (CaptureObject(4, obis.parse(name), 2) for name in ("1-0:32.7.0", "1-0:1.8.0"))
STATUS, STATUS_2 = status_column(PROFILE), status_column(PROFILE_2)
OK, DENIED, MISMATCH, OTHER = 0, 3, 12, 250


class Bench:
    def __init__(self, path):
        self.path = path
        self.open()

    def open(self):
        self.store = Store(self.path / "s.sqlite", SITE)
        objects = MeterObjects(TYPE, self.store.settings.profile_points)
        self.device = MeterDevice(METER, objects, make_buffers(self.store, METER, objects), lambda _: None)

    def restart(self, *, clean=True):
        self.store.flush()
        self.store.close() if clean else self.store._file.close()
        self.open()

    def run(self, start, stop):
        place, volt = TYPE.index["energy-active-import"], TYPE.index["voltage"]
        for second in range(start, stop):
            values = [0] * len(TYPE.points)
            values[place], values[volt] = second, float(second % 300)
            self.store.append([Sample("A", (START + second) * 1000, tuple(values), (0,) * len(values))])

    def slot(self, index, name=PROFILE.logical_name, class_id=7):
        value = self.device.values[self.device.schema.slot(class_id, name, index)]
        return value() if callable(value) else value

    def read(self, index, name=PROFILE.logical_name, class_id=7):
        return axdr.decode(self.slot(index, name, class_id))

    def rows(self, selection=None, name=PROFILE.logical_name):
        rows = self.slot(2, name).select(selection)
        found = [axdr.decode(row) for row in rows.rows]
        assert len(found) == rows.total
        return [
            tuple(
                cosem_time.to_epoch_ms(cell) // 1000 - START if isinstance(cell, bytes) else cell for cell in row
            )
            for row in found
        ]

    def set(self, index, data, name=PROFILE.logical_name):
        return int(self.device.on_set(7, name, index, data, CLIENT))

    def capture_objects(self, *columns, name=PROFILE.logical_name):
        return self.set(3, classes.capture_objects(columns), name)

    def period(self, seconds, name=PROFILE.logical_name):
        return self.set(4, axdr.encode("double-long-unsigned", seconds), name)

    def act(self, method, name=PROFILE.logical_name):
        return int(self.device.on_action(7, name, method, None, CLIENT))


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_columns_change_and_the_buffer_begins_anew(bench):
    bench.run(0, 2000)
    assert [row[0] for row in bench.rows()] == [0, 900, 1800]
    assert bench.capture_objects(VOLTAGE, CLOCK_COLUMN, IMPORT) == OK
    assert (bench.rows(), bench.read(7)) == ([], 0)
    assert [tuple(each[:3]) for each in bench.read(3)] == [
        (each.class_id, each.logical_name, each.attribute) for each in (VOLTAGE, CLOCK_COLUMN, IMPORT)
    ]
    bench.run(2000, 4000)
    expected = [(0, 2700, 2700), (0, 3600, 3600)]
    assert [(0, time, energy) for _, time, energy in bench.rows()] == expected
    assert [row[0] for row in bench.rows()] == [0, 0]
    assert bench.read(7) == 2
    assert bench.read(2, PROFILE.status_name, 1) == 0


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
def test_what_was_changed_outlives_a_restart_and_brings_nothing_back(bench, clean):
    bench.run(0, 2000)
    assert bench.capture_objects(CLOCK_COLUMN, IMPORT, STATUS) == OK
    assert bench.period(300) == OK
    bench.run(2000, 2800)
    bench.restart(clean=clean)
    assert bench.read(4) == 300
    assert bench.read(8) == PROFILE.entries * 3
    bench.run(2800, 3700)
    assert [row[0] for row in bench.rows()] == [2100, 2400, 2700, 3000, 3300, 3600]
    assert [row[1] for row in bench.rows()] == [2100, 2400, 2700, 3000, 3300, 3600]
    bench.restart(clean=clean)
    assert [row[2] for row in bench.rows()] == [0] * 6


def test_selective_access_after_a_change(bench):
    assert bench.period(300) == OK
    assert bench.capture_objects(CLOCK_COLUMN, VOLTAGE, IMPORT) == OK
    bench.run(1, 3600)
    assert bench.rows(EntrySelection(2, 3, 2, 3)) == [(0, 600), (0, 900)]
    assert bench.rows(EntrySelection(11, 0, 3, 3)) == [(3300,)]
    between = RangeSelection(CLOCK_COLUMN, START + 600, START + 1200, (IMPORT, CLOCK_COLUMN))
    assert bench.rows(between) == [(600, 600), (900, 900), (1200, 1200)]
    with pytest.raises(Exception, match="not captured"):
        bench.rows(RangeSelection(CLOCK_COLUMN, None, None, (STATUS,)))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ((CLOCK_COLUMN, CaptureObject(4, obis.parse("1-0:99.9.9"), 2)), "unknown"),
        ((CLOCK_COLUMN, CaptureObject(4, VOLTAGE.logical_name, 3)), "scaler"),
        ((CLOCK_COLUMN, CaptureObject(4, VOLTAGE.logical_name, 2, 1)), "part of it"),
        ((CLOCK_COLUMN, CaptureObject(7, obis.parse("1-0:99.1.0"), 2)), "another profile"),
        ((CLOCK_COLUMN, STATUS_2), "another's status"),
        ((VOLTAGE,), "no clock"),
        ((), "nothing"),
        ((CLOCK_COLUMN, VOLTAGE, VOLTAGE), "twice"),
    ],
)
def test_what_cannot_be_captured_is_refused_and_changes_nothing(bench, columns, why):
    bench.run(0, 1000)
    before = bench.rows(), bench.read(3)
    assert bench.capture_objects(*columns) == OTHER, why
    assert (bench.rows(), bench.read(3)) == before
    assert before[0]


@pytest.mark.parametrize("seconds", [30, 59, 61, 700, 7200, 86400, 2**32 - 1])
def test_periods_that_cannot_be(bench, seconds):
    assert bench.period(seconds) == OTHER
    assert bench.read(4) == 900


@pytest.mark.parametrize("data", [axdr.NULL, axdr.octet_string(b""), axdr.array([axdr.NULL]), axdr.structure()])
def test_what_is_no_value_of_these_attributes(bench, data):
    assert bench.set(3, data) == MISMATCH
    assert bench.set(4, data) == MISMATCH


def test_reset_leaves_demands_and_the_other_profile_alone(bench):
    bench.run(0, 4000)
    demand = DemandOf(bench.store, "A", "energy-active-import", "d")
    before = demand.maximum(), demand.last(), bench.rows(name=PROFILE_2.logical_name)
    assert bench.act(1) == OK
    assert bench.rows() == []
    assert (demand.maximum(), demand.last(), bench.rows(name=PROFILE_2.logical_name)) == before
    assert before[0].value == 3600
    bench.run(4000, 4600)
    assert [row[0] for row in bench.rows()] == [4500]
    assert bench.act(1, PROFILE_2.logical_name) == OK
    assert bench.rows(name=PROFILE_2.logical_name) == []


def test_capture_adds_a_row_of_now_and_keeps_all_others(bench):
    assert bench.act(2) == 2
    bench.run(0, 1000)
    assert bench.act(2) == OK
    assert bench.act(2) == OK
    bench.run(1000, 1900)
    assert [row[0] for row in bench.rows()] == [0, 900, 999, 1800]
    assert [row[2] for row in bench.rows()] == [0, 900, 999, 1800]
    assert bench.read(7) == 4
    bench.restart()
    assert [row[0] for row in bench.rows()] == [0, 900, 999, 1800]
    # Demands go by the meter's own rows.
    assert [row.time // 1000 - START for row in bench.store.profile_rows("A")] == [0, 900, 1800]


def test_without_a_period_rows_come_by_method_alone(bench):
    assert bench.period(0) == OK
    bench.run(1, 1000)
    assert bench.rows() == []
    assert bench.act(2) == OK
    assert [row[0] for row in bench.rows()] == [999]


def test_status_and_retention_of_a_changed_profile(bench):
    assert bench.period(300) == OK
    bench.run(1, 250)
    bench.store.event(Event("A", (START + 100) * 1000, EventLog.STANDARD, EventCode.POWER_UP))
    bench.run(260, 700)
    assert [(row[0], row[1]) for row in bench.rows()] == [(300, 128 | 16), (600, 0)]
    bench.store.flush()
    assert not bench.store.prune((START + 86_400 * 401) * 1000)
    assert bench.rows() == []
    assert bench.store.profile_count("A", profile=LoadProfile.CAPTURED) == 0


def test_a_disk_that_is_full_leaves_all_as_it_was(bench):
    bench.run(0, 1000)
    bench.store.flush()
    bench.store._database.execute("PRAGMA query_only=1")
    assert bench.act(1) == 2
    assert bench.capture_objects(CLOCK_COLUMN, VOLTAGE) == 2
    bench.store._database.execute("PRAGMA query_only=0")
    assert [row[0] for row in bench.rows()] == [0, 900]
