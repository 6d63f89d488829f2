"""Report control blocks of the native engine, PDU by PDU: options, segments, buffers, reservations, errors."""

import pytest
from mms_harness import core, until
from mms_raw import INITIATE, define, delete, domain_name, variable
from mms_reports import (
    ALL,
    DATA_SET,
    ENTRY,
    OVERFLOW,
    REASON,
    REFERENCE,
    REVISION,
    SEGMENTS,
    SEQUENCE,
    TIME,
    Reporter,
)
from mms_site import CID, T0, sample

from flexmap.mms import data

URCB, BRCB = "FMTESTM1/LLN0$RP$urAll01", "FMTESTM1/LLN0$BR$brAll01"
DENIED, UNAVAILABLE, INVALID, INCONSISTENT = 3, 2, 11, 8
TRUE, FALSE = data.TRUE, data.FALSE
POWER = 1
SMALL = INITIATE.replace(bytes.fromhex("8003 00fde8"), bytes.fromhex("8003 000200"))
"""An initiate request that proposes PDUs of 512 octets."""


@pytest.fixture
def engine(tmp_path):
    # DatSet may be set here, so that dynamic data sets can be reported.
    cid = tmp_path / "dynamic.cid"
    mini = CID.read_bytes()
    cid.write_bytes(mini.replace(b'datSet="Fix" rptID', b'datSet="Dyn" rptID'))
    with core(tmp_path, engine="native", cid=cid) as running:
        running.update(sample("SM_1"), sample("SM_2"))
        running.wait(lambda status: status["samples"] == 2)
        yield running


@pytest.fixture
def client(engine):
    with Reporter(engine.port) as reporter:
        yield reporter


def power(engine, watts, second):
    engine.update(sample("SM_1", time=T0 + 1000 * second, power=watts))


def options(bits):
    return data.bit_string(bits, 10)


def watts(report):
    return data.to_float(data.parts(data.parts(report["values"][POWER])[0])[0])


@pytest.mark.parametrize("bits", [0, SEQUENCE, TIME, REASON, DATA_SET, REFERENCE, OVERFLOW, ENTRY, REVISION, ALL])
@pytest.mark.parametrize("block", [URCB, BRCB])
def test_each_option_brings_its_field(engine, client, block, bits):
    assert client.set(block, OptFlds=options(bits), BufTm=data.unsigned(0), RptEna=TRUE) == [None] * 3
    client.reports.clear()
    power(engine, 7.0, 1)
    report = client.report()
    of_buffered = 0 if block == BRCB else OVERFLOW | ENTRY
    assert report["options"] == bits & ~of_buffered
    assert watts(report) == 7.0
    assert report["id"] == ("M1_brAll" if block == BRCB else f"FMTESTM1/{URCB.partition('/')[2]}")
    expected = {"sequence": 0, "data_set": "FMTESTM1/LLN0$All", "overflow": False, "revision": 1}
    assert {key: report[key] for key in expected if key in report}.items() <= expected.items()
    if bits & REFERENCE:
        assert report["names"] == {POWER: "FMTESTM1/MMXN1$MX$Watt"}


def test_the_sequence_number_counts_reports_and_begins_anew(engine, client):
    for turn in range(2):
        client.set(URCB, BufTm=data.unsigned(0), RptEna=TRUE)
        for expected in range(3):
            power(engine, 10.0 * turn + expected, expected)
            assert client.report()["sequence"] == expected
        assert client.set(URCB, RptEna=FALSE) is None


def test_a_report_too_long_for_the_pdu_comes_in_segments(engine):
    with Reporter(engine.port, initiate=SMALL) as client:
        block = "FMTESTGW/LLN0$RP$urSite"
        assert client.set(block, OptFlds=options(ALL), RptEna=TRUE, GI=TRUE) == [None] * 3
        parts = [client.report()]
        while parts[-1]["more"]:
            parts.append(client.report())
        assert [part["segment"] for part in parts] == list(range(len(parts)))
        assert len(parts) > 1
        assert {part["sequence"] for part in parts} == {0}
        assert [index for part in parts for index in part["values"]] == list(range(12))
        assert all(part["options"] & SEGMENTS and part["width"] == 12 for part in parts)


def test_a_second_change_within_the_buffer_time_is_not_lost(engine, client):
    assert client.set(URCB, BufTm=data.unsigned(5000), RptEna=TRUE) == [None, None]
    power(engine, 1.0, 1)
    power(engine, 2.0, 2)
    assert watts(client.report()) == 1.0
    assert watts(client.report()) == 2.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RptID", data.visible_string("x")),
        ("OptFlds", options(0)),
        ("BufTm", data.unsigned(1)),
        ("TrgOps", data.bit_string(0, 6)),
        ("IntgPd", data.unsigned(1)),
        ("DatSet", data.visible_string("")),
        ("RptEna", TRUE),
    ],
)
@pytest.mark.parametrize("block", [URCB, BRCB])
def test_an_enabled_block_is_not_changed(client, block, name, value):
    assert client.set(block, RptEna=TRUE) is None
    assert client.set(block, **{name: value}) == UNAVAILABLE
    assert client.set(block, RptEna=FALSE) is None


@pytest.mark.parametrize("name", ["ConfRev", "SqNum"])
def test_what_the_server_counts_is_not_written(client, name):
    assert client.set(URCB, **{name: data.unsigned(3)}) == DENIED


def test_an_interrogation_needs_an_enabled_block(client):
    assert client.set(URCB, GI=TRUE) == UNAVAILABLE


def test_settings_are_read_back(client):
    settings = {"RptID": data.visible_string("mine"), "BufTm": data.unsigned(250), "IntgPd": data.unsigned(9000)}
    assert client.set(URCB, **settings) == [None] * 3
    assert {name: client.get(URCB, name) for name in settings} == settings


def test_a_reserved_block_stays_for_its_client_for_a_time(engine, client):
    with Reporter(engine.port) as other:
        assert client.set(BRCB, ResvTms=data.integer(1)) is None
        assert client.get(BRCB, "Owner") == data.octet_string(bytes((127, 0, 0, 1)))
        assert other.set(BRCB, BufTm=data.unsigned(7)) == UNAVAILABLE
        assert client.set(BRCB, ResvTms=data.integer(0)) is None
        assert client.get(BRCB, "Owner") == data.octet_string(b"")
        assert other.set(BRCB, ResvTms=data.integer(1)) is None
    until(lambda: client.get(BRCB, "Owner") == data.octet_string(b""), 15)


def test_a_reserved_unbuffered_block_is_free_again_when_its_client_has_gone(engine, client):
    with Reporter(engine.port) as other:
        assert other.set(URCB, Resv=TRUE) is None
        assert client.set(URCB, RptEna=TRUE) == UNAVAILABLE
    until(lambda: client.set(URCB, RptEna=TRUE) is None, 15)


def test_purging_empties_the_buffer(engine, client):
    client.set(BRCB, BufTm=data.unsigned(0), RptEna=TRUE)
    power(engine, 1.0, 1)
    entry = client.report()["entry"]
    assert client.set(BRCB, RptEna=FALSE, PurgeBuf=TRUE) == [None, None]
    assert client.get(BRCB, "EntryID") == data.octet_string(bytes(8))
    assert client.set(BRCB, RptEna=TRUE) is None
    assert client.quiet()
    power(engine, 2.0, 2)
    report = client.report()
    assert watts(report) == 2.0
    assert report["entry"] > entry


def test_without_an_entry_id_the_whole_buffer_comes(engine, client):
    client.set(BRCB, BufTm=data.unsigned(0), RptEna=TRUE)
    for second in (1, 2, 3):
        power(engine, float(second), second)
        assert watts(client.report()) == float(second)
    assert client.set(BRCB, RptEna=FALSE) is None
    assert client.set(BRCB, RptEna=TRUE) is None
    assert [watts(client.report()) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_a_full_buffer_tells_that_entries_are_lost(engine, client):
    client.set(BRCB, BufTm=data.unsigned(0), OptFlds=options(ALL), RptEna=TRUE)
    power(engine, 0.5, 1)
    entry = client.report()["entry"]
    client.set(BRCB, RptEna=FALSE)
    count = 6000
    for second in range(2, count):
        power(engine, float(second), second)
    engine.wait(lambda status: status["samples"] > count, 60)
    assert client.set(BRCB, EntryID=data.octet_string(entry)) == INVALID
    assert client.set(BRCB, RptEna=TRUE) is None
    first, second = client.report(30), client.report(30)
    assert (first["overflow"], second["overflow"]) == (True, False)
    assert watts(second) == watts(first) + 1
    assert watts(first) > 100


@pytest.mark.parametrize("place", ["FMTESTM1", "@"])
def test_clients_define_what_is_reported(engine, client, place):
    item = "LLN0$mine" if place != "@" else "mine"
    name = f"{place}/{item}" if place != "@" else "@mine"
    members = variable("FMTESTM2", "MMXN1$MX$Watt"), variable("FMTESTM1", "MMXN1$MX$Watt")
    assert client.ask(define(place, item, *members)).endswith(b"\x8b\x00")
    assert client.set(URCB, DatSet=data.visible_string(name), BufTm=data.unsigned(0), RptEna=TRUE) == [None] * 3
    assert client.get(URCB, "ConfRev") == data.unsigned(2)
    power(engine, 4.0, 1)
    assert watts(client.report()) == 4.0
    in_use = client.ask(delete(domain_name(place, item)))
    assert in_use.endswith(b"\x80\x01\x01\x81\x01\x00")
    assert client.set(URCB, RptEna=FALSE) is None
    assert client.ask(delete(domain_name(place, item))).endswith(b"\x80\x01\x01\x81\x01\x01")
    assert client.set(URCB, RptEna=TRUE) == INCONSISTENT


def test_a_data_set_that_is_not_there_is_refused(client):
    assert client.set(URCB, DatSet=data.visible_string("FMTESTM1/LLN0$No")) == INVALID
    assert client.set(BRCB, DatSet=data.visible_string("@mine")) == INVALID
    assert client.get(URCB, "DatSet") == data.visible_string("FMTESTM1/LLN0$All")


def test_only_chosen_triggers_report(engine, client):
    quality_alone = data.bit_string(0b001000, 6)
    assert client.set(URCB, TrgOps=quality_alone, BufTm=data.unsigned(0), RptEna=TRUE) == [None] * 3
    power(engine, 9.0, 1)
    assert client.quiet()
    engine.update(sample("SM_1", time=T0 + 2000, power=9.0, quality=(0, 0, 3, 0, 0, 0, 0)))
    assert client.report()["reasons"] == {POWER: 0b001000}
    assert client.set(URCB, GI=TRUE) is None
    assert client.quiet()
