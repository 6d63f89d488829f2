"""Reports to an independent client: change of value and quality, interrogation, integrity, buffering, resync."""

import itertools
import time

import pytest
from mms_harness import Rust, RustError, core, until
from mms_site import T0, sample

URCB, BRCB, SITE_URCB = "FMTESTM1/LLN0.RP.urAll01", "FMTESTM1/LLN0.BR.brAll01", "FMTESTGW/LLN0.RP.urSite"
DATA_CHANGE, QUALITY_CHANGE, INTEGRITY, INTERROGATION = 1, 2, 8, 16
POWER = 1
"""Position of MMXN1.Watt in the data set."""


@pytest.fixture(params=["libiec61850", "native"])
def engine(tmp_path, request):
    with core(tmp_path, engine=request.param) as running:
        running.update(sample("SM_1"), sample("SM_2"))
        running.wait(lambda status: status["samples"] == 2)
        yield running


def power(engine, watts, second, **changes):
    engine.update(sample("SM_1", time=T0 + 1000 * second, power=watts, **changes))


def stamp(second):
    return f"{0x684EE180 + second:x}1f7ced0a"


def included(report):
    return {index: reason for index, reason in enumerate(report["reasons"]) if reason}


def reports(client):
    """The reports of the next quarter of a second."""
    return client.poll(milliseconds=250)


def test_the_control_block_says_what_the_scl_document_says(engine):
    with Rust(engine.port) as client:
        block = client.rcb(ref=BRCB)
        assert (block["is_buffered"], block["rpt_id"], block["conf_rev"]) == (True, "M1_brAll", 1)
        assert (block["dataset"], block["buf_time_ms"]) == ("FMTESTM1/LLN0$All", 50)
        assert (block["trigger_options"], block["opt_flds"]) == (1 | 2 | 8 | 16, 1 | 2 | 4 | 8 | 32 | 64 | 128)
        assert client.rcb(ref="FMTESTM1/LLN0.BR.brAll02")["rpt_id"] == "M1_brAll"
        assert client.rcb(ref=SITE_URCB)["rpt_id"] == "FMTESTGW/LLN0$RP$urSite"


def test_a_change_of_value_is_one_report_with_value_quality_and_time_of_the_same_instant(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB)
        power(engine, 1600.0, second=1)
        (report,) = reports(client)
        assert included(report) == {POWER: DATA_CHANGE}
        assert report["values"][POWER] == [[1600.0], "0000", stamp(1)]
        power(engine, 1600.0, second=2)
        assert reports(client) == []


def test_a_change_of_quality_is_reported_as_such(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB)
        power(engine, 1500.5, second=1, quality=(0, 0, 3 | 1 << 7, 0, 0, 0, 0))
        (report,) = reports(client)
        assert included(report) == {POWER: QUALITY_CHANGE}
        assert report["values"][POWER] == [[1500.5], "c100", stamp(1)]


def test_a_change_of_value_and_quality_at_once_is_one_report(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB)
        power(engine, 8.5, second=1, quality=(0, 0, 3, 0, 0, 0, 0))
        (report,) = reports(client)
        assert list(included(report)) == [POWER]
        assert included(report)[POWER] & DATA_CHANGE
        assert report["values"][POWER] == [[8.5], "c000", stamp(1)]


def test_changes_of_one_sample_come_in_one_report(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB)
        power(engine, 7.0, second=1, voltage=231.0, tamper=True, **{"energy-import": 2**53 + 2})
        (report,) = reports(client)
        assert included(report) == {0: DATA_CHANGE, 1: DATA_CHANGE, 2: DATA_CHANGE, 5: DATA_CHANGE}
        assert report["values"][0][0] == 2**53 + 2


def test_a_general_interrogation_brings_everything(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB)
        client.gi(ref=URCB)
        (report,) = reports(client)
        assert included(report) == dict.fromkeys(range(6), INTERROGATION)


def test_integrity_reports_come_in_their_period(engine):
    with Rust(engine.port) as client:
        client.enable(ref=URCB, integrity_period=200)
        got = client.poll(milliseconds=1100)
        assert 4 <= len(got) <= 6
        assert all(included(report) == dict.fromkeys(range(6), INTEGRITY) for report in got)


def test_the_site_wide_report_tells_of_every_meter(engine):
    with Rust(engine.port) as client:
        client.enable(ref=SITE_URCB)
        engine.update(sample("SM_2", time=T0 + 1000, power=5.0))
        (report,) = reports(client)
        assert included(report) == {6 + POWER: DATA_CHANGE}


def test_a_block_in_use_is_not_given_to_a_second_client(engine):
    with Rust(engine.port) as first, Rust(engine.port) as second:
        first.enable(ref=URCB)
        with pytest.raises(RustError, match="TemporarilyUnavailable"):
            second.enable(ref=URCB)
        second.enable(ref="FMTESTM1/LLN0.RP.urAll02")


def test_a_buffered_report_resumes_behind_the_entry_id_without_a_gap(engine):
    with Rust(engine.port) as client:
        client.enable(ref=BRCB, purge_buf=True)
        for second, watts in ((1, 101.0), (2, 102.0)):
            power(engine, watts, second)
            assert [entry["values"][POWER][0] for entry in reports(client)] == [[watts]]
        power(engine, 103.0, second=3)
        (last,) = reports(client)
        client.kill()
    for second, watts in ((4, 104.0), (5, 105.0), (6, 106.0)):
        power(engine, watts, second)
        time.sleep(0.15)
    with Rust(engine.port) as again:
        until(lambda: not again.rcb(ref=BRCB)["rpt_ena"])
        again.enable(ref=BRCB, entry_id=last["entry_id"])
        missed = again.poll(milliseconds=600)
        assert [entry["values"][POWER] for entry in missed] == [
            [[104.0], "0000", stamp(4)],
            [[105.0], "0000", stamp(5)],
            [[106.0], "0000", stamp(6)],
        ]
        identifiers = [last["entry_id"], *(entry["entry_id"] for entry in missed)]
        assert all(earlier < later for earlier, later in itertools.pairwise(identifiers))
        power(engine, 107.0, second=7)
        assert [entry["values"][POWER][0] for entry in reports(again)] == [[107.0]]


def test_an_unknown_entry_id_is_refused(engine):
    with Rust(engine.port) as client, pytest.raises(RustError, match="ObjectValueInvalid"):
        client.enable(ref=BRCB, entry_id="0102030405060708")
