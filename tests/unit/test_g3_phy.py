"""Airtime, frame control header, error model and virtual time of G3-PLC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmap.g3 import phy
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.phy import CENELEC_A, FCC, Modulation
from flexmap.model.error import LocalError

ROBO, DBPSK, DQPSK, D8PSK = Modulation.ROBO, Modulation.DBPSK, Modulation.DQPSK, Modulation.D8PSK


@pytest.mark.parametrize(
    ("modulation", "most", "peak", "forty", "long"),
    [
        (ROBO, 133, 5.6, 76.3, 190.3),
        (DBPSK, 239, 20.2, 34.6, 62.4),
        (DQPSK, 239, 34.8, 26.2, 40.1),
        (D8PSK, 239, 45.0, 23.5, 31.8),
    ],
)
def test_airtime_of_cenelec_a(modulation, most, peak, forty, long):
    assert CENELEC_A.max_psdu[modulation] == most
    assert 1e3 * phy.airtime(CENELEC_A, modulation, 40) == pytest.approx(forty, rel=0.01)
    assert 1e3 * phy.airtime(CENELEC_A, modulation, 133) == pytest.approx(long, rel=0.01)
    assert peak_kbits(CENELEC_A, modulation) == pytest.approx(peak, rel=0.01)


@pytest.mark.parametrize(("modulation", "peak"), [(ROBO, 35.9), (DBPSK, 122.6), (DQPSK, 212.3), (D8PSK, 280.9)])
def test_peaks_of_fcc(modulation, peak):
    assert peak_kbits(FCC, modulation) == pytest.approx(peak, rel=0.01)


def peak_kbits(band, modulation):
    return max(8e-3 * n / phy.airtime(band, modulation, n) for n in range(1, band.max_psdu[modulation] + 1))


def test_acknowledgement_times_and_slots():
    assert 1e3 * CENELEC_A.fch_time == pytest.approx(15.1, rel=0.01)
    assert 1e3 * FCC.fch_time == pytest.approx(4.8, rel=0.01)
    assert CENELEC_A.slot == pytest.approx(1.39e-3)
    assert CENELEC_A.ifs == pytest.approx(8 * 695e-6)
    assert FCC.ifs == pytest.approx(10 * 231.7e-6)


def test_the_longest_frame_fits_the_length_field():
    for modulation in Modulation:
        assert phy.symbols(CENELEC_A, modulation, CENELEC_A.max_psdu[modulation]) // 4 < 64


def test_airtime_refuses_what_cannot_be_sent():
    for octets, tones in ((0, None), (240, None), (10, 0), (10, 37)):
        with pytest.raises(LocalError):
            phy.airtime(CENELEC_A, DQPSK, octets, tones)


def test_fewer_tones_take_longer_but_not_in_robo():
    assert phy.airtime(CENELEC_A, DQPSK, 100, 18) > 1.4 * phy.airtime(CENELEC_A, DQPSK, 100)
    assert phy.airtime(CENELEC_A, ROBO, 100, 18) == phy.airtime(CENELEC_A, ROBO, 100)


@given(
    st.builds(
        phy.Fch,
        delimiter=st.sampled_from(phy.Delimiter),
        modulation=st.integers(0, 3),
        length=st.integers(0, 63),
        tone_map=st.integers(0, 255),
        phase=st.integers(0, 255),
        coherent=st.booleans(),
    ),
    st.integers(0, 32),
    st.integers(0, 32),
)
def test_fch_round_trip_and_one_or_two_flipped_bits(fch, first, second):
    value = phy.encode_fch(fch)
    assert phy.decode_fch(value) == fch
    damaged = value ^ 1 << first
    with pytest.raises(phy.FchError):
        phy.decode_fch(damaged)
    if first != second and abs(first - second) < 31:  # the CRC's period is 31
        with pytest.raises(phy.FchError):
            phy.decode_fch(damaged ^ 1 << second)


@given(st.integers(-1, 1 << 34))
def test_fch_fuzz(value):
    try:
        fch = phy.decode_fch(value)
    except phy.FchError:
        return
    assert phy.encode_fch(fch) == value


@pytest.mark.parametrize(
    ("bits", "expected"),
    [("10010000100", 0b01101), ("00001110010", 0b01110), ("00000000000", 0b01000)],
)
def test_crc5_divides_by_the_polynomial_that_usb_uses(bits, expected):
    """Published examples of USB tokens, start and end inverted there: 9/2 (www.cs.usfca.edu/~cruse), 70/4, 0/0."""
    assert phy.crc5(int(bits, 2), len(bits), start=0x1F) ^ 0x1F == expected


def test_fch_refuses_fields_that_do_not_fit():
    with pytest.raises(LocalError, match="FL"):
        phy.encode_fch(phy.Fch(delimiter=phy.Delimiter.DATA, length=64))


def test_acknowledgement_names_its_frame():
    fch = phy.acknowledgement(0xBEEF, taken=True)
    assert fch.phase | fch.tone_map << 8 == 0xBEEF
    assert phy.decode_fch(phy.encode_fch(fch)).delimiter is phy.Delimiter.ACK


def test_loss_falls_with_snr_and_grows_with_length_and_speed():
    for modulation in Modulation:
        curve = [phy.loss(modulation, snr / 4, 133) for snr in range(-60, 100)]
        assert curve == sorted(curve, reverse=True)
        assert curve[0] == 1
        assert curve[-1] == 0
        assert phy.loss(modulation, phy.THRESHOLD_DB[modulation], 133) == pytest.approx(0.5)
        assert phy.loss(modulation, phy.THRESHOLD_DB[modulation] + 1, 40) < phy.loss(
            modulation, phy.THRESHOLD_DB[modulation] + 1, 133
        )
    at_five = [phy.loss(m, 5.0, 100) for m in (ROBO, DBPSK, DQPSK, D8PSK)]
    assert at_five == sorted(at_five)


def test_a_chosen_modulation_loses_little():
    for quarter in range(-8, 120):
        snr = quarter / 4
        modulation = phy.best_modulation(snr)
        assert modulation is ROBO or phy.loss(modulation, snr, 239) < 0.01


def test_lqi():
    assert phy.lqi(3.0) == 52
    assert phy.lqi(-20) == 0
    assert phy.lqi(100) == 255
    assert phy.snr_of(phy.lqi(7.25)) == 7.25


def test_virtual_time_calls_in_order():
    kernel, calls = VirtualTime(), []
    kernel.callLater(2, calls.append, "b")
    kernel.callLater(1, calls.append, "a")
    kernel.callLater(2, calls.append, "c")
    cancelled = kernel.callLater(1.5, calls.append, "never")
    cancelled.cancel()
    cancelled.cancel()
    assert not cancelled.active()
    assert kernel.pending() == 3
    assert kernel.next_time() == 1
    kernel.run(1.5)
    assert calls == ["a"]
    assert kernel.next_time() == 2
    assert kernel.seconds() == 1.5
    kernel.run(3)
    assert calls == ["a", "b", "c"]
    assert (kernel.seconds(), kernel.events, kernel.pending()) == (3, 3, 0)
    assert kernel.next_time() is None


def test_virtual_time_calls_made_by_calls():
    kernel, times = VirtualTime(), []

    def again():
        times.append(kernel.seconds())
        if len(times) < 5:
            kernel.callLater(0.5, again)

    kernel.callLater(0, again)
    kernel.run_all(100)
    assert times == [0, 0.5, 1, 1.5, 2]
    assert kernel.seconds() == 2


def test_virtual_time_sweeps_cancelled_timers():
    kernel, fired = VirtualTime(), []
    kernel.callLater(5, fired.append, 1)
    for _ in range(50_000):
        kernel.callLater(10, fired.append, 2).cancel()
    assert len(kernel._heap) < 10_000
    assert kernel.pending() == 1
    kernel.run(20)
    assert fired == [1]


def test_virtual_time_refuses_the_past():
    for delay in (-1, float("nan")):
        with pytest.raises(LocalError):
            VirtualTime().callLater(delay, print)
