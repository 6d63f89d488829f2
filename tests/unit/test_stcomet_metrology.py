"""The ring buffer, and what METRO stores, against the model it is fed from."""

import pytest
from stcomet_site import START, expected, metrologies, site

from flexmap.model import LocalError
from flexmap.stcomet.metrology import Metrology, Reading, RingBuffer
from flexmap.stcomet.record import CURRENT, LAG_L2, PHASE_VALUES, VOLTAGE, Layout, Record, State, Status


def record(number: int, time: int | None = None) -> Record:
    return Record(number, START + number if time is None else time, State(), (0,) * 5, ())


def filled(count: int, depth: int = 5) -> RingBuffer:
    ring = RingBuffer(depth)
    for number in range(count):
        ring.append(record(number))
    return ring


def test_empty():
    ring = RingBuffer(5)
    assert (ring.head, ring.tail, ring.unread) == (0, 0, 0)
    assert ring.read() is ring.latest() is ring.oldest() is ring.at_tail() is ring.find(0) is None
    assert list(ring.since(0)) == []
    with pytest.raises(LocalError):
        RingBuffer(1)


def test_full_buffer_overwrites_the_oldest_and_shifts_the_tail():
    ring = filled(5)
    assert (ring.head, ring.tail, ring.unread, ring.overwritten) == (0, 0, 5, 0)
    ring.append(record(5))  # the seed's figure 29: the newest takes the first element, the tail shifts by one
    assert (ring.head, ring.tail, ring.unread, ring.overwritten) == (1, 1, 5, 1)
    assert ring.at_tail() == ring.oldest() == record(1)


def test_reading_takes_the_tail_and_shifts_it():
    ring = filled(7)
    assert [ring.read().sequence for _ in range(5)] == [2, 3, 4, 5, 6]
    assert ring.read() is None
    assert ring.latest() == record(6)
    assert ring.oldest() == record(2)  # read is not gone
    ring.append(record(7))
    assert ring.read() == record(7)
    assert ring.overwritten == 2


def test_release_and_since():
    ring = filled(9)
    ring.release(6)
    assert (ring.at_tail(), ring.unread) == (record(6), 3)
    ring.release(2)
    assert ring.at_tail() == record(6)
    assert [each.sequence for each in ring.since(0)] == [4, 5, 6, 7, 8]
    assert [each.sequence for each in ring.since(7)] == [7, 8]
    assert list(ring.since(9)) == []
    ring.release(100)
    assert ring.at_tail() is None


@pytest.mark.parametrize(("time", "found"), [(0, 4), (START + 4, 4), (START + 6, 6), (START + 9, None)])
def test_find_by_time(time, found):
    assert filled(9).find(time) == found


def test_a_break_in_the_sequence_begins_the_buffer_anew():
    ring = filled(4)
    ring.append(record(9))
    assert (ring.oldest(), ring.latest(), ring.at_tail(), ring.unread) == (*[record(9)] * 3, 1)
    ring.append(record(10))
    assert [each.sequence for each in ring.since(0)] == [9, 10]


def test_find_after_the_clock_was_set_back():
    ring = RingBuffer(9)
    for number, time in enumerate((100, 101, 102, 50, 51, 52)):
        ring.append(record(number, time))
    assert ring.find(51) == 4
    assert ring.find(101) == 1  # of before, and there is no other
    assert ring.find(60) == 0
    assert ring.find(103) is None


def test_single_phase_records_equal_the_models_samples():
    fed, plain = site(4), site(4)
    meters = metrologies(fed)
    for second in range(START + 12 * 3600, START + 12 * 3600 + 400):
        samples = {sample.meter: sample for sample in plain.step(second)}
        for name, metrology in meters.items():
            stored = metrology.second(second)
            if name != "SUB":
                assert (stored.energies, stored.measured) == expected(samples[name], three_phase=False)
                assert (stored.time, stored.state.status) == (second, Status.BREAKER_CLOSED)
    assert any(metrology.ring.latest().energies[1] for metrology in meters.values())  # photovoltaics at noon


def test_three_phase_meter_reads_two_phases_over_frames():
    fed, plain = site(4), site(4)
    meters = metrologies(fed)
    first = None
    for second in range(START + 19 * 3600, START + 19 * 3600 + 900):
        samples = {sample.meter: sample for sample in plain.step(second)}
        stored = meters["SUB"].second(second)
        energies, values = expected(samples["SUB"], three_phase=True)
        first = first or stored
        assert stored.measured[0:6] == values[0:6]  # L1 is the STCOMET's own
        for place, (mine, models) in enumerate(zip(stored.measured[:LAG_L2], values, strict=True)):
            assert abs(mine - models) <= 1, place
        assert max(abs(mine - models) for mine, models in zip(stored.energies, energies, strict=True)) <= 1
    assert stored.energies[0] > first.energies[0]
    chip = meters["SUB"].chip
    assert chip.refused == 0
    assert stored.measured[VOLTAGE + PHASE_VALUES] > 2000
    assert stored.measured[CURRENT + 2 * PHASE_VALUES] > 0


def test_a_chip_that_does_not_answer_for_a_while_costs_no_energy():
    whole, cut = metrologies(site(2))["SUB"], metrologies(site(2))["SUB"]
    exchange = cut.chip.exchange
    for second in range(START, START + 60):
        cut._reader._exchange = (lambda _: bytes(5)[:4]) if 20 <= second - START < 40 else exchange
        records = [whole.second(second), cut.second(second)]
        assert bool(records[1].measured) is not (20 <= second - START < 40)
    assert records[0].measured == records[1].measured
    for mine, others in zip(cut.registers, whole.registers, strict=True):
        assert all(abs(one - other) <= 3 for one, other in zip(mine, others, strict=True))
    assert cut._reader.errors == 60


def test_load_that_was_not_measured_stops_the_registers():
    class Gap:
        def measure(self, second):
            return Reading(50.0, None)

        def state(self):
            return State()

    metrology = Metrology(Layout.SINGLE_PHASE, Gap(), registers=[[3_600_000] * 5])
    assert metrology.second(START).measured == ()
    assert metrology.second(START + 1).energies == (1,) * 5
    with pytest.raises(LocalError):
        Metrology(Layout.THREE_PHASE, Gap(), registers=[[0] * 5])
