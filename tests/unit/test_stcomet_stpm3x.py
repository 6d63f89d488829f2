"""STPM3x frames, the model of the chip and its reader."""

import math
import random
from typing import NamedTuple

import pytest

from flexmap.model import RemoteError
from flexmap.stcomet import stpm3x
from flexmap.stcomet.stpm3x import Address, Board, FrameError, Port, Request, encode_request
from flexmap.stcomet.stpm34 import Chip, Reader


class Phase(NamedTuple):
    active: int
    reactive: int
    apparent: int
    voltage: float
    current: float
    angle: float


ONE = Phase(2_300_000, 400_000, 2_340_000, 231.4, 10.11, -2.1)
TWO = Phase(-1_500_000, -250_000, 1_530_000, 228.9, 6.68, 2.08)


def bitwise(octets: bytes, msb_first: bool) -> int:
    """CRC-8 bit by bit in the line's order, independent of the tables under test."""
    register = 0
    for octet in octets:
        for place in range(7, -1, -1) if msb_first else range(8):
            feedback = (register >> 7) ^ (octet >> place & 1)
            register = register << 1 & 0xFF
            if feedback:
                register ^= 0x07
    return register if msb_first else int(f"{register:08b}"[::-1], 2)


def test_crc_gives_the_catalogues_check_value():
    # CRC-8/SMBUS (poly 0x07, init 0, not reflected) in the catalogue of parametrised CRC algorithms.
    assert Port.SPI.crc(b"123456789") == 0xF4


@pytest.mark.parametrize("port", Port)
def test_crc_runs_in_the_order_of_the_line(port):
    generator = random.Random(1)
    for length in range(64):
        octets = generator.randbytes(length)
        assert port.crc(octets) == bitwise(octets, port is Port.SPI)


def test_frames_byte_for_byte():
    assert encode_request(Request(), Port.SPI).hex() == "ffffffffde"
    assert encode_request(Request(), Port.UART).hex() == "ffffffff7b"
    assert encode_request(Request(0x48, 0x05, 0x0060), Port.SPI)[:4].hex() == "48056000"


def test_steps_of_the_reference_board():
    board = Board()
    assert board.volt == pytest.approx(34.17e-3, rel=1e-3)
    assert board.ampere == pytest.approx(2.360e-3, rel=1e-3)
    assert board.watt == pytest.approx(1.290e-3, rel=1e-3)
    assert board.watt_hour == pytest.approx(9.395e-8, rel=1e-3)


@pytest.mark.parametrize("port", Port)
def test_answer_belongs_to_the_frame_before(port):
    chip = Chip(port)
    chip.advance((ONE, TWO), 50.0)
    chip.exchange(encode_request(Request(0xFF, stpm3x.CONTROL_HIGH, stpm3x.LATCH), port))
    chip.exchange(encode_request(Request(Address.RMS_1), port))
    first = chip.exchange(encode_request(Request(Address.PERIOD), port))
    second = chip.exchange(encode_request(Request(), port))
    value = stpm3x.decode_reply(first, port)
    assert value & 0x7FFF == round(231.4 / Board().volt)
    assert value >> 15 == round(10.11 / Board().ampere)
    assert first[:4] == value.to_bytes(4, "little")
    assert stpm3x.decode_reply(second, port) == 2500 | 2500 << 16  # 20 ms in units of 8 µs


def test_nothing_moves_between_latches():
    chip = Chip()
    reader = Reader(chip.exchange)
    chip.advance((ONE, TWO), 50.0)
    assert reader.read()[0].voltage == pytest.approx(231.4, abs=0.02)
    frozen = dict(chip._latched)
    chip.advance((TWO, ONE), 50.0)
    assert chip._latched == frozen


@pytest.mark.parametrize("port", Port)
def test_reader_gets_each_value_within_half_a_step(port):
    chip, board = Chip(port), Board()
    reader = Reader(chip.exchange, port)
    reader.read()
    chip.advance((ONE, TWO), 49.98)
    for phase, measured in zip((ONE, TWO), reader.read(), strict=True):
        assert measured.voltage == pytest.approx(phase.voltage, abs=board.volt / 2)
        assert measured.current == pytest.approx(phase.current, abs=board.ampere / 2)
        for given, seen, work in zip(phase[:3], measured[:3], measured.work, strict=True):
            assert seen == pytest.approx(given, abs=board.watt * 500 + 1)
            assert work == pytest.approx(given, abs=2)
    assert reader.frequency() == pytest.approx(49.98, abs=0.02)


def test_the_zcr_pin_shows_one_voltage_at_a_time():
    chip = Chip()
    chip.advance((ONE, TWO), 50.0)

    def write(address, data):
        chip.exchange(encode_request(Request(0xFF, address, data), Port.UART))

    assert chip.zcr() is None  # the pin is a clock output until ZCR_EN is set
    write(stpm3x.CONTROL_HIGH, stpm3x.ZCR_ENABLE)
    assert chip.zcr() == pytest.approx(2.1 / (2 * math.pi) / 50)
    write(stpm3x.CONTROL_LOW, 0x8000)
    assert chip.zcr() == pytest.approx((1 - 2.08 / (2 * math.pi)) / 50)
    for current in (0x4000, 0xC000):
        write(stpm3x.CONTROL_LOW, current)
        assert chip.zcr() is None  # C1 and C2 are not modelled
    chip.advance((ONE._replace(voltage=0.0), TWO), 50.0)
    write(stpm3x.CONTROL_LOW, 0)
    assert chip.zcr() is None
    reader = Reader(chip.exchange, zcr=chip.zcr)
    assert [each.crossing is None for each in reader.read()] == [True, False]


def test_energies_are_whole_over_many_turns_of_the_register():
    chip = Chip()
    reader = Reader(chip.exchange)
    reader.read()
    big = Phase(200_000_000, -90_000_000, 219_400_000, 230.0, 250.0, -2.1)
    sums = [0, 0, 0]
    for _ in range(20_000):  # 1.1 MWh: 2,700 turns
        chip.advance((big, TWO), 50.0)
        one, _two = reader.read()
        sums = [total + work for total, work in zip(sums, one.work, strict=True)]
    for total, given in zip(sums, big[:3], strict=True):
        assert abs(total - given * 20_000) <= 2


def test_damaged_frames_are_refused_and_read_again():
    chip = Chip()
    damage = iter([False] * 3 + [True] + [False] * 100)

    def line(frame: bytes) -> bytes:
        answer = chip.exchange(frame)
        return bytes((answer[0] ^ 4, *answer[1:])) if next(damage) else answer

    reader = Reader(line)
    chip.advance((ONE, TWO), 50.0)
    assert reader.read()[1].active == pytest.approx(TWO.active, abs=2)
    assert reader.errors == 1
    with pytest.raises(RemoteError, match="3 damaged answers"):
        Reader(lambda _: bytes(4)).read()


def test_mutated_frames_never_get_through():
    generator = random.Random(3)
    frame = encode_request(Request(Address.RMS_2, 0x05, 0x0060), Port.UART)
    chip = Chip()
    for _ in range(20_000):
        mutant = bytearray(frame)
        for _ in range(generator.randrange(1, 3)):
            mutant[generator.randrange(5)] ^= 1 << generator.randrange(8)
        if bytes(mutant) == frame:
            continue
        with pytest.raises(FrameError):  # CRC-8 0x07 finds every error of one or two bits in so few octets
            stpm3x.decode_request(bytes(mutant), Port.UART)
        assert len(chip.exchange(bytes(mutant))) == 5
    for _ in range(5000):
        noise = generator.randbytes(generator.randrange(9))
        try:
            request = stpm3x.decode_request(noise, Port.UART)
        except FrameError:
            continue
        assert encode_request(request, Port.UART) == noise
