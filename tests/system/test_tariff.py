"""A head-end's tariff, in virtual time: Gurux's own classes write it, samples follow it, both meter types."""

import datetime as dt
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from remote import RemoteFailure
from twisted.internet.task import Clock
from virtual_head_end import Front

from flexmap.gateway.metrics import Metrics
from flexmap.gateway.service import Gateway
from flexmap.mapping.table import load_products
from flexmap.model import Meter, Sample, Site
from flexmap.store import Store, StoreSettings

TYPES = load_products()
ZONE = ZoneInfo("Europe/Vienna")
CALENDAR, SPECIAL, ACTIVATION, SCHEDULE = "0.0.13.0.0.255", "0.0.11.0.0.255", "0.0.14.0.1.255", "0.0.12.0.0.255"
TARIFF, BILLING_SCRIPTS, BILLING = "0.0.10.0.100.255", "0.0.10.0.1.255", "0.0.98.1.0.255"
IMPORT = "energy-active-import"
RATES = [(4, f"1.0.1.8.{rate}.255", 2) for rate in range(5)]
"""The total and its rates."""
DENIED = 3


def vienna(*fields):
    return int(dt.datetime(*fields, tzinfo=ZONE).timestamp())


class Bench:
    """Gateway, store and DLMS face of one meter, and the clock they go by."""

    def __init__(self, folder, kind, now):
        self.folder = folder
        self.clock = Clock()
        self.clock.rightNow = now
        self.type = TYPES[kind]
        self.meter = Meter(id="A", type=kind, ld="A", sap=17)
        self.site = Site(name="s", ied="S", meters=(self.meter,), types={kind: self.type}, time_zone=ZONE.key)
        self.energy = 1000
        self.open()

    def open(self):
        settings = StoreSettings(sample_interval=10, time_zone=ZONE.key)
        self.store = Store(self.folder / "s.sqlite", self.site, settings, filled={"A"})
        self.gateway = Gateway(self.clock, self.site, self.store, Metrics())
        self.gateway.resume(list(self.store.last_samples().values()))
        core = SimpleNamespace(folder=self.folder, gateway=self.gateway, reactor=self.clock, store=self.store)
        self.front = Front(core, self.site)
        self.sessions = []

    def kill(self):
        self.stop()
        self.store._file.close()
        self.open()

    def stop(self):
        for session in self.sessions:
            session.end()
        for live in self.front.face._live:
            live.stop()
        self.front.close()

    def connect(self, client=1):
        self.sessions.append(self.front.connect("gurux_session.py", self.meter, client))
        return self.sessions[-1]

    def send(self, second, energy):
        values = [0] * len(self.type.points)
        values[self.type.index[IMPORT]] = energy
        self.gateway.accept([Sample("A", second * 1000, tuple(values), (0,) * len(values))])

    def run(self, until, step=10, rise=1):
        while self.clock.seconds() < until:
            self.clock.advance(step)
            self.energy += rise
            self.send(int(self.clock.seconds()), self.energy)
        self.store.flush()


@pytest.fixture(params=["single-phase", "three-phase-g3-plc"])
def bench(request, tmp_path):
    made = Bench(tmp_path, request.param, vienna(2026, 7, 1, 12))
    made.run(vienna(2026, 7, 1, 12, 1))
    yield made
    made.stop()
    made.store.close()


def write_calendar(session):
    session.set_calendar(
        "PLAN",
        [(b"S", (4, 1), b"W1"), (b"W", (10, 1), b"W2")],
        [(b"W1", 1, 1, 1, 1, 1, 2, 2), (b"W2", 2, 2, 2, 2, 2, 2, 2)],
        [(1, [(0, 0, TARIFF, 2), (13, 0, TARIFF, 3), (14, 30, TARIFF, 1)]), (2, [(0, 0, TARIFF, 4)])],
    )


def test_a_calendar_goes_round_and_is_followed_from_its_activation_on(bench):
    session = bench.connect()
    write_calendar(session)
    passive = session.get_object(20, CALENDAR)
    assert passive[6] == "PLAN"
    assert [(bytes(row["name"]), bytes(row["weekName"])) for row in passive[7]] == [(b"S", b"W1"), (b"W", b"W2")]
    assert [row["monday"] for row in passive[8]] == [1, 2]
    assert [row["dayId"] for row in passive[9]] == [1, 2]
    assert passive[2] == "DEFAULT"
    session.set_activation(vienna(2026, 7, 1, 12, 30))
    bench.run(vienna(2026, 7, 1, 12, 40))
    active = session.get_object(20, CALENDAR)
    assert [active[index] for index in (2, 3, 4)] == [passive[index] for index in (6, 7, 8)]
    assert session.get(6, ACTIVATION, 4) == b"RATE2"
    bench.kill()
    session = bench.connect()
    bench.run(vienna(2026, 7, 1, 15))
    total, *rates = session.get_list(RATES)
    # Rate 1 to 12:30, 2 to 13:00, 3 to 14:30, then 1; one watt-hour every ten seconds.
    assert rates == [1000 + 30 * 6 + 30 * 6, 30 * 6, 90 * 6, 0]
    assert sum(rates) == total == bench.energy


def test_the_passive_calendar_is_activated_by_its_method(bench):
    session = bench.connect()
    with pytest.raises(RemoteFailure, match="error 250"):  # there is none yet
        session.action(20, CALENDAR, 1)
    write_calendar(session)
    session.action(20, CALENDAR, 1)
    assert session.get(6, ACTIVATION, 4) == b"RATE2"


def test_special_days_come_and_go(bench):
    session = bench.connect()
    write_calendar(session)
    session.action(20, CALENDAR, 1)
    session.special_day("insert", 7, 7, 1, 2)
    (entry,) = session.get_object(11, SPECIAL)[2]
    assert (entry["index"], entry["dayId"]) == (7, 2)
    assert session.get(6, ACTIVATION, 4) == b"RATE4"
    session.special_day("delete", 7)
    assert session.get_object(11, SPECIAL)[2] == []
    assert session.get(6, ACTIVATION, 4) == b"RATE2"
    with pytest.raises(RemoteFailure, match="error 250"):
        session.special_day("delete", 7)


def test_scripts_and_masks_switch_and_the_calendar_goes_on(bench):
    session = bench.connect()
    session.script(TARIFF, 3)
    assert session.get(6, ACTIVATION, 4) == b"RATE3"
    bench.run(vienna(2026, 7, 1, 12, 11))
    registers = session.get(6, ACTIVATION, 2)
    quantities = len(registers) // 4
    places = [1 + quantity * 4 + (1 if quantity else 3) for quantity in range(quantities)]
    session.mask("addMask", b"MIX", places)
    assert session.get(6, ACTIVATION, 3)[-1] == [b"MIX", places]
    session.mask("activate", b"MIX")
    bench.run(vienna(2026, 7, 1, 12, 21))
    rates = session.get_list(RATES)[1:]
    assert rates == [1006, 0, 60, 60]
    for wrong in (places[:-1], [*places[:-1], 1], [*places[:-1], quantities * 4 + 1]):
        with pytest.raises(RemoteFailure, match="error 250"):
            session.mask("addMask", b"BAD", wrong)
    with pytest.raises(RemoteFailure, match="error 250"):
        session.mask("removeMask", b"MIX")  # it is active
    bench.run(vienna(2026, 7, 1, 22, 10))
    assert session.get(6, ACTIVATION, 4) == b"RATE2"
    session.mask("removeMask", b"MIX")
    assert len(session.get(6, ACTIVATION, 3)) == 4
    assert sum(session.get_list(RATES)[1:]) == bench.energy


def test_a_schedule_executes_scripts_and_makes_up_for_what_a_kill_kept_it_from(bench):
    session = bench.connect()
    session.schedule("insert", 1, table=TARIFF, script=4, hour=13)
    session.schedule("insert", 2, table=BILLING_SCRIPTS, script=1, hour=14)
    assert [entry["scriptSelector"] for entry in session.get_object(10, SCHEDULE)[2]] == [4, 1]
    bench.run(vienna(2026, 7, 1, 13, 10))
    assert session.get(6, ACTIVATION, 4) == b"RATE4"
    bench.kill()
    bench.clock.rightNow = vienna(2026, 7, 1, 14, 5)
    bench.stop()
    bench.store._file.close()
    bench.open()
    bench.run(vienna(2026, 7, 1, 14, 6))
    session = bench.connect()
    assert len(session.rows_by_entry(BILLING, 1, 10)) == 1
    session.schedule("delete", 2)
    assert [entry["index"] for entry in session.get_object(10, SCHEDULE)[2]] == [1]
    with pytest.raises(RemoteFailure, match="error 250"):
        session.schedule("insert", 3, table="0.0.10.0.106.255", script=1, hour=14)


def test_a_billing_period_is_ended_by_the_calendar_with_rates_and_their_maxima(bench):
    session = bench.connect()
    session.set_calendar(
        "BILL",
        [(b"S", None, b"W")],
        [(b"W", 1, 1, 1, 1, 1, 1, 1)],
        [(1, [(0, 0, TARIFF, 1), (12, 30, TARIFF, 2), (13, 30, BILLING_SCRIPTS, 1)])],
    )
    session.action(20, CALENDAR, 1)
    bench.run(vienna(2026, 7, 1, 12, 30))
    bench.run(vienna(2026, 7, 1, 14), rise=3)
    (row,) = session.rows_by_entry(BILLING, 1, 10)
    columns = [(bytes(each[1])[2:5], each[2]) for each in session.get(7, BILLING, 3)]
    found = dict(zip(columns, row, strict=True))
    total = found[bytes((1, 8, 0)), 2]
    rates = [found[bytes((1, 8, rate)), 2] for rate in range(1, 5)]
    assert sum(rates) == total
    assert rates[2:] == [0, 0]
    assert rates[1] in range(360 * 3 - 6, 360 * 3 + 1)
    maxima = [found[bytes((1, 6, rate)), 2] for rate in range(5)]
    assert maxima[:3] == [1080, 360, 1080]  # one, three watt-hours in ten seconds
    assert [session.get(4, f"1.0.1.6.{rate}.255", 2) for rate in range(5)][1] == 0  # a new period has begun


def test_who_may_not_is_refused(bench):
    reader = bench.connect(client=2)
    assert reader.get(6, ACTIVATION, 4) == b"RATE1"
    for call in (
        lambda: reader.mask("activate", b"RATE2"),
        lambda: reader.script(TARIFF, 2),
        lambda: reader.action(20, CALENDAR, 1),
        lambda: reader.special_day("insert", 1),
        lambda: reader.mask("removeMask", b"RATE1"),
        lambda: reader.schedule("delete", 1),
        lambda: write_calendar(reader),
    ):
        with pytest.raises(RemoteFailure, match=f"error {DENIED}"):
            call()
    assert reader.get(6, ACTIVATION, 4) == b"RATE1"
