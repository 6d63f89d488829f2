"""The gateway in virtual time: a real source, a real store, the real DLMS core; only the clock is set by hand."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from flexmap.dlms import cosem_time, wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import AttributeReference, Client, ClientSettings, ResultError, drive
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.faces.dlms.client import share_out
from flexmap.faces.dlms.face import DlmsFace, DlmsSettings
from flexmap.gateway.metrics import Metrics
from flexmap.gateway.service import COMMAND_TIMEOUT, Gateway
from flexmap.mapping.table import load_products
from flexmap.model import CHANNEL_LIVE, Command, Event, EventCode, EventLog, Meter, Sample, Site, obis, quality
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.sources.simulation.source import SimulationSource
from flexmap.store import Store

START = 1_795_392_000
TYPE = load_products()["single-phase-g3-plc"]
METER = Meter(id="M1", type=TYPE.id, ld="M1", sap=1001, source="sim", identity={"serial-number": "S1"})
SITE = Site(name="test", ied="T", meters=(METER,), types={TYPE.id: TYPE})
READER = ClientProfile(sap=2, name="reader", role=Role.READER, mechanism=Mechanism.LLS, secret=b"12345678")
VOLTAGE, ENERGY, BREAKER = (obis.parse(code) for code in ("1-0:32.7.0", "1-0:1.8.0", "0-0:96.3.10"))
LIVE, HOPS = (obis.parse(code) for code in ("0-0:29.128.0", "0-0:29.128.5"))


class Rig:
    """A gateway with one simulated meter and one DLMS association to it."""

    def __init__(self, path):
        self.clock = Clock()
        self.clock.advance(START)
        self.store = Store(path, SITE)
        self.metrics = Metrics()
        self.gateway = Gateway(self.clock, SITE, self.store, self.metrics)
        self.gateway.resume(list(self.store.last_samples().values()))
        model = SiteModel([(METER, SITE.type_of(METER))], sample_load(), SimulationSettings())
        self.source = SimulationSource("sim", model, self.clock)
        self.gateway.add_source("sim", self.source, 5.0)
        settings = DlmsSettings(ports=(), system_title=b"FMX00001", clients=(READER,))
        self.face = DlmsFace(self.clock, SITE, settings, store=self.store, on_command=self.gateway.command)
        self.gateway.add_face(self.face)
        self.gateway.start()
        self.connection = self.face.server.connection(deliver=lambda _: None)
        self.client = Client(
            ClientSettings(client_sap=2, server_sap=1001, mechanism=Mechanism.LLS, secret=b"12345678"),
            random=bytes,
        )
        drive(self.client.connect(), self.transceive)

    def transceive(self, apdu):
        return self.connection.receive(wrapper.encode(2, 1001, apdu))[8:]

    def get(self, class_id, name, attribute):
        return drive(self.client.get(class_id, name, attribute), self.transceive)

    def live(self, seconds):
        self.clock.pump([0.5] * (2 * seconds))

    def status(self, name=VOLTAGE):
        return quality.from_bits(int(self.get(4, name, 4) + "000", 2).to_bytes(2, "big"))

    def channel(self, *, live):
        """What a source says of the channel to the meter now: two hops, and whether it answers."""
        known = {CHANNEL_LIVE: live, "route-hops": 2.0}
        values = tuple(known.get(point.name) for point in TYPE.channel)
        marks = tuple(quality.NEVER_READ if value is None else quality.GOOD for value in values)
        return Sample("M1", int(self.clock.seconds() * 1000), values, marks, channel=True)


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path / "store.sqlite")
    yield made
    made.gateway.stop()
    made.store.close()


def test_a_value_never_read_is_missing_not_zero(rig):
    with pytest.raises(ResultError, match="temporary-failure"):
        rig.get(4, ENERGY, 2)
    assert rig.status() == quality.NEVER_READ
    with pytest.raises(ResultError, match="temporary-failure"):
        rig.get(8, obis.parse("0-0:1.0.0"), 2)


def test_samples_reach_store_and_face_with_their_time(rig):
    rig.source.start(rig.gateway)
    rig.live(3)
    assert 2000 < rig.get(4, VOLTAGE, 2) < 2600
    assert rig.status() == quality.GOOD
    assert rig.gateway.last["M1"].time == (START + 3) * 1000
    assert [sample.time for sample in rig.store.samples("M1")] == [(START + n) * 1000 for n in range(4)]


def test_a_silent_source_makes_values_old_and_the_next_sample_good(rig):
    rig.source.start(rig.gateway)
    rig.live(2)
    newest = rig.gateway.last["M1"]
    rig.source.stop()
    rig.live(4)
    assert rig.status() == quality.GOOD
    seen = []
    globalLogPublisher.addObserver(seen.append)
    rig.live(4)
    globalLogPublisher.removeObserver(seen.append)
    assert rig.status() == quality.QUESTIONABLE | quality.OLD_DATA
    assert "values of M1 are old" in [formatEvent(event) for event in seen]
    assert rig.get(4, VOLTAGE, 2) > 0
    assert rig.gateway.last["M1"].time == newest.time
    fresh = Sample("M1", newest.time + 60_000, newest.values, newest.quality)
    rig.gateway.accept([fresh])
    assert rig.status() == quality.GOOD


def test_a_silent_meter_goes_from_old_to_invalid_and_comes_back(rig):
    rig.source.start(rig.gateway)
    rig.live(2)
    assert rig.status(LIVE) == quality.NEVER_READ
    with pytest.raises(ResultError, match="temporary-failure"):
        rig.get(4, LIVE, 2)
    rig.gateway.accept([rig.channel(live=True)])
    assert (rig.get(4, LIVE, 2), rig.get(4, HOPS, 2), rig.status(LIVE)) == (1, 2, quality.GOOD)
    assert rig.status() == quality.GOOD
    rig.source.stop()
    rig.live(6)
    assert rig.status() == quality.QUESTIONABLE | quality.OLD_DATA
    assert rig.status(LIVE) == quality.GOOD
    rig.live(60)
    assert rig.status(LIVE) == quality.QUESTIONABLE | quality.OLD_DATA
    last = rig.gateway.last["M1"]

    rig.gateway.accept([rig.channel(live=False)])
    assert (rig.get(4, LIVE, 2), rig.status(LIVE)) == (0, quality.GOOD)
    assert cosem_time.to_epoch_ms(rig.get(4, LIVE, 5)) == rig.clock.seconds() * 1000
    assert rig.status() == quality.INVALID | quality.OLD_DATA
    assert cosem_time.to_epoch_ms(rig.get(4, VOLTAGE, 5)) == last.time
    with pytest.raises(ResultError, match="temporary-failure"):
        rig.get(4, VOLTAGE, 2)
    assert len(list(rig.store.samples("M1"))) == 3, "what is known of a channel is no history"

    rig.gateway.accept(
        [Sample("M1", last.time + 1000, last.values, (0,) * len(last.values)), rig.channel(live=True)]
    )
    assert (rig.get(4, LIVE, 2), rig.status()) == (1, quality.GOOD)
    assert rig.get(4, VOLTAGE, 2) > 0


def test_a_channels_sample_of_the_wrong_width_is_dropped(rig):
    right = rig.channel(live=True)
    rig.gateway.accept([Sample("M1", right.time, right.values[:-1], right.quality[:-1], channel=True)])
    assert rig.status(LIVE) == quality.NEVER_READ
    assert rig.metrics.registry.get_sample_value("flexmap_samples_rejected_total") == 1


def test_back_fill_is_stored_and_does_not_replace_the_present_value(rig):
    rig.source.start(rig.gateway)
    rig.live(1)
    newest = rig.gateway.last["M1"]
    earlier = Sample("M1", newest.time - 30_000, newest.values, newest.quality)
    rig.gateway.accept([earlier])
    assert rig.gateway.last["M1"] is newest
    assert earlier.time in [sample.time for sample in rig.store.samples("M1")]


def test_samples_that_fit_no_meter_are_dropped_and_the_others_served(rig):
    rig.source.start(rig.gateway)
    rig.live(1)
    newest = rig.gateway.last["M1"]
    next_one = Sample("M1", newest.time + 1000, newest.values, newest.quality)
    rig.gateway.accept([Sample("M2", 1, (), ()), Sample("M1", newest.time + 2000, (1,), (0,)), next_one])
    assert rig.gateway.last["M1"] is next_one
    assert rig.metrics.registry.get_sample_value("flexmap_samples_rejected_total") == 2


def test_last_stored_samples_are_served_as_old_after_a_restart(tmp_path):
    path = tmp_path / "store.sqlite"
    first = Rig(path)
    first.source.start(first.gateway)
    first.live(3)
    energy = first.get(4, ENERGY, 2)
    first.source.stop()
    first.gateway.stop()
    first.store.close()
    second = Rig(path)
    assert second.get(4, ENERGY, 2) == energy
    assert second.status() == quality.QUESTIONABLE | quality.OLD_DATA
    second.store.close()


def test_a_command_is_answered_when_the_meter_has_moved(rig):
    rig.source.start(rig.gateway)
    rig.live(1)
    results = []
    rig.gateway.command(Command(7, "M1", "breaker", False, "test")).addCallback(results.append)
    assert not results
    rig.live(2)
    assert results[0].done
    assert rig.get(70, BREAKER, 2) is False
    assert rig.get(70, BREAKER, 3) == 0
    (moved,) = rig.store.events("M1", EventLog.DISCONNECT)
    assert moved.code is EventCode.REMOTE_DISCONNECTION


def test_a_command_nobody_answers_is_refused_with_a_cause(rig):
    results = []
    rig.gateway.command(Command(1, "M9", "breaker", False)).addCallback(results.append)
    rig.source.start(rig.gateway)
    rig.live(1)
    # A meter that never answers.
    rig.gateway.sources[0].command = lambda _: __import__(
        "twisted.internet.defer", fromlist=["Deferred"]
    ).Deferred()
    rig.gateway.command(Command(2, "M1", "breaker", False)).addCallback(results.append)
    rig.live(int(COMMAND_TIMEOUT) + 1)
    assert [(result.id, result.done) for result in results] == [(1, False), (2, False)]
    assert "M9" in results[0].cause
    assert results[1].cause == "time-limit-over"


def test_an_event_is_stored_and_its_code_shown(rig):
    rig.gateway.event(Event("M1", START * 1000, EventLog.FRAUD, EventCode.METER_COVER_OPENED))
    assert rig.get(1, obis.parse("0-0:96.11.1"), 2) == EventCode.METER_COVER_OPENED
    rows = rig.get(7, obis.parse("0-0:99.98.1"), 2)
    assert [row[1] for row in rows] == [EventCode.METER_COVER_OPENED]


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), "230", 1e12])
def test_a_value_that_is_no_number_of_the_register_harms_no_other(rig, strange):
    rig.source.start(rig.gateway)
    rig.live(1)
    newest = rig.gateway.last["M1"]
    values = list(newest.values)
    values[TYPE.index["voltage"]] = strange
    rig.gateway.accept([Sample("M1", newest.time + 60_000, tuple(values), newest.quality)])
    with pytest.raises(ResultError, match="other-reason"):
        rig.get(4, VOLTAGE, 2)
    assert rig.get(4, ENERGY, 2) == values[0]
    assert cosem_time.to_epoch_ms(rig.get(4, ENERGY, 5)) == newest.time + 60_000


def test_groups_of_attributes_are_never_split_over_requests():
    """Value, status and time of a point are of one instant only if one request asks for them."""
    name = AttributeReference(4, ENERGY, 2)
    sizes = (1, 3, 3, 3, 3, 3, 3, 9, 1, 16, 1)
    requests = share_out([[name] * size for size in sizes])
    assert [len(group) for request in requests for group in request] == list(sizes)
    assert all(sum(len(group) for group in request) <= 16 for request in requests)
    assert len(requests) == 4
