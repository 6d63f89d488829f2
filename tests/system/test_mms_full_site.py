"""A whole site from the generated CID: every point of every meter is where the table says, with its value."""

import mms_full_site as full
import pytest
from mms_harness import Rust, core

from flexmap.faces.mms_client import MmsClient
from flexmap.mapping import cdc
from flexmap.model import Direction

TIME = 1_750_000_000_123
METERS = 20


@pytest.fixture(scope="module", params=["libiec61850", "native"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    site = full.full_site(METERS)
    file = folder / "full.cid"
    file.write_bytes(full.cid(site))
    with core(folder, engine=request.param, site=site, cid=file) as engine:
        samples, channels = full.samples(site, TIME), full.samples(site, TIME + 4567, channel=True)
        rates = full.samples(site, TIME + 1234, rates=True)
        engine.update(*samples, *rates, *channels)
        engine.wait(lambda status: status["samples"] == len(samples) + len(rates) + len(channels))
        yield site, engine, (samples, rates, channels)


def expected(point, value):
    """The value as MMS has it."""
    if point.reference.cdc == "DPC":
        return cdc.DPC_ON if value else cdc.DPC_OFF
    return value


def test_every_point_of_every_meter_is_served_with_value_quality_and_time(served):
    site, engine, (samples, rates, channels) = served
    wanted = []
    for meter, sample in zip(site.meters * 3, (*samples, *rates, *channels), strict=True):
        points = site.type_of(meter).of_part(sample.part)
        for point, value in zip(points, sample.values, strict=True):
            references = [point.reference_for(meter.direction), *([point.control] if point.control else [])]
            wanted += [(f"{site.ied}{meter.ld}/{r.path}", expected(point, value), sample.time) for r in references]
    with MmsClient.open("127.0.0.1", engine.port) as client:
        got = client.read([reference for reference, *_ in wanted])
    assert [(r.reference, r.value, r.quality, r.time) for r in got] == [
        (reference, value, 0, time) for reference, value, time in wanted
    ]
    assert len(wanted) > 28 * METERS
    assert {meter.direction for meter in site.meters} == set(Direction)


def test_identities_are_served(served):
    site, engine, _ = served
    wanted = {
        f"{site.ied}{meter.ld}/{point.reference.path}": meter.identity[point.name]
        for meter in site.meters
        for point in site.type_of(meter).identity
    }
    with MmsClient.open("127.0.0.1", engine.port) as client:
        got = {reading.reference: reading.value for reading in client.read(wanted)}
    assert got == wanted


def test_every_data_set_and_control_block_is_there_for_an_independent_client(served):
    site, engine, _ = served
    with Rust(engine.port) as client:
        assert len(client.directory()) == METERS + 2
        members, values = client.dataset(ref=f"{site.ied}SM0/LLN0.Meas")
        assert len(members) == len(values)
        measured = [fc for _, fc in members].count("MX")
        assert measured > 10
        block = f"{site.ied}SM0/LLN0.RP.urMeas01"
        client.enable(ref=block)
        engine.update(*full.samples(site, TIME + 1000, turn=1)[:1])
        (report,) = client.poll(milliseconds=600)
        assert sum(1 for reason in report["reasons"] if reason) == measured
        # Three phases are one member: all of them, and their times, are of the new sample.
        phases = report["values"][[ref for ref, _ in members].index(f"{site.ied}SM0/MMXU1.PhV")]
        assert [phase[2] for phase in phases] == ["684ee1811f7ced0a"] * 3
        points = site.type_of(site.meters[0]).index
        new = full.samples(site, TIME + 1000, turn=1)[0].values
        assert [phase[0][0][0] for phase in phases] == [new[points[f"voltage-l{n}"]] for n in (1, 2, 3)]


def test_reports_come_again_after_a_client_broke_off(served):
    site, engine, _ = served
    block = f"{site.ied}SM1/LLN0.RP.urMeas01"
    for second in (3, 4):
        with Rust(engine.port) as client:
            client.enable(ref=block)
            engine.update(full.samples(site, TIME + 1000 * second, turn=second)[1])
            assert len(client.poll(milliseconds=500)) == 1
            client.kill()
        engine.wait(lambda status: status["clients"] == 0)


def test_a_control_block_stays_enabled_through_quiet_seconds(served):
    site, engine, _ = served
    with Rust(engine.port) as client:
        client.enable(ref=f"{site.ied}SM3/LLN0.RP.urMeas01")
        assert client.poll(milliseconds=2500) == []
        engine.update(full.samples(site, TIME + 5000, turn=5)[3])
        assert len(client.poll(milliseconds=500)) == 1


def test_a_control_block_that_is_given_another_data_set_reports_it(served):
    # The last test of this server: from here on it takes every member for awaited.
    site, engine, _ = served
    block, data_set = f"{site.ied}SM2/LLN0.RP.urMeas01", f"{site.ied}SM2/LLN0$Energy"
    with Rust(engine.port) as client:
        client.enable(ref=block, dataset=data_set)
        engine.update(full.samples(site, TIME + 2000, turn=2)[2])
        (report,) = client.poll(milliseconds=600)
        assert report["data_set_name"] == data_set
        new = full.samples(site, TIME + 2000, turn=2)[2].values
        assert report["values"][0][0] == new[site.type_of(site.meters[2]).index["energy-active-import"]]
