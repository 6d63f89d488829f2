"""The STPM32/33/34 metrology front end: serial frames, register map and the weight of a register's step.

A frame is ``read address | write address | LSB | MSB | CRC-8``; the chip sends in the same time the 32-bit
register that the frame *before* asked for, ``four octets, least significant first | CRC-8``. 0xFF as an address is
no operation. The CRC (polynomial 0x07, from 0) runs over the bits in the order of the line: on SPI an octet's most
significant bit comes first, on UART its least significant one, so there octets and CRC are reversed for the sum
(ST, STPM32/33/34 data sheet, UART interface; the same in several public drivers: confidence A).
"""

from __future__ import annotations

import enum

import msgspec

from flexmap.model import RemoteError

NOTHING = 0xFF
"""Address of no register."""
FRAME = 5
"""Octets of a frame, in both directions."""
POLYNOMIAL = 0x07

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


def _table() -> bytes:
    table = bytearray(256)
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = (value << 1 ^ POLYNOMIAL) & 0xFF if value & 0x80 else value << 1
        table[octet] = value
    return bytes(table)


_CRC = _table()


class FrameError(RemoteError):
    """Octets are no frame of the chip."""


class Port(enum.Enum):
    """The interface that the chip has latched at its start."""

    SPI = "spi"
    UART = "uart"

    def crc(self, octets: bytes) -> int:
        """Return the CRC-8 of a frame's first octets, as it stands on the line."""
        value = 0
        if self is Port.SPI:
            for octet in octets:
                value = _CRC[value ^ octet]
            return value
        for octet in octets:
            value = _CRC[value ^ _REVERSED[octet]]
        return _REVERSED[value]


class Address(enum.IntEnum):
    """Registers that flexmap reads or writes, by the address of their low half (data sheet, register map)."""

    PERIOD = 0x2E
    """Mains period in units of 8 µs: channel 1 in bits 11:0, channel 2 in bits 27:16."""
    RMS_1 = 0x48
    """Voltage in bits 14:0, current in bits 31:15."""
    RMS_2 = 0x4A
    ENERGY_1 = 0x54
    """Active energy; fundamental, reactive and apparent follow at 0x56, 0x58 and 0x5A."""
    POWER_1 = 0x5C
    """Active power, bits 28:0 signed; fundamental, reactive, apparent RMS and vectorial follow."""
    ENERGY_2 = 0x6C
    POWER_2 = 0x74


REACTIVE, APPARENT = 4, 6
"""Steps in address from active energy or power to the others of the same channel."""
CONTROL_LOW, CONTROL_HIGH = 0x04, 0x05
"""Halves of the control register DSP_CR3."""
LATCH = 0x0060
"""SW Latch1 and SW Latch2: bits 21 and 22 of the whole register."""
ZCR_ENABLE = 0x0001
"""ZCR_EN, bit 16: the ZCR/CLK pin shows zero crossings."""
ZCR_VOLTAGE = (0x0000, 0x8000)
"""ZCR_SEL, bits 15:14: of V1 or of V2."""
SAG_TIME = 0x04E0
"""SAG_TIME_THR, bits 13:0, as the chip starts."""


class Request(msgspec.Struct, frozen=True):
    """What the host asks: read one register with the next frame, write one half register now."""

    read: int = NOTHING
    write: int = NOTHING
    data: int = 0xFFFF


def encode_request(request: Request, port: Port) -> bytes:
    """Return the frame of a request."""
    body = bytes((request.read, request.write, request.data & 0xFF, request.data >> 8))
    return body + bytes((port.crc(body),))


def decode_request(frame: bytes, port: Port) -> Request:
    """Return the request of a frame; raises FrameError."""
    _check(frame, port)
    return Request(frame[0], frame[1], frame[2] | frame[3] << 8)


def encode_reply(value: int, port: Port) -> bytes:
    """Return the frame that carries a register's 32 bits."""
    body = value.to_bytes(4, "little")
    return body + bytes((port.crc(body),))


def decode_reply(frame: bytes, port: Port) -> int:
    """Return the register's 32 bits; raises FrameError."""
    _check(frame, port)
    return int.from_bytes(frame[:4], "little")


def _check(frame: bytes, port: Port) -> None:
    if len(frame) != FRAME:
        raise FrameError(f"{len(frame)} octets, where a frame has {FRAME}")
    if port.crc(frame[:4]) != frame[4]:
        raise FrameError(f"CRC 0x{frame[4]:02X}, where the octets give 0x{port.crc(frame[:4]):02X}")


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around the chip: dividers, shunt, gains. Defaults are ST's reference board."""

    reference: float = 1.18
    """Vref in V."""
    divider_high: float = 780_000.0
    """R1 in ohm."""
    divider_low: float = 470.0
    """R2 in ohm."""
    shunt: float = 0.00218
    """ks in ohm."""
    voltage_gain: float = 2.0
    current_gain: float = 2.0
    voltage_calibration: float = 0.875
    current_calibration: float = 0.875
    integrator: float = 1.0
    """kint: 1 for shunts and current transformers."""

    @property
    def volt(self) -> float:
        """V in one step of an RMS voltage."""
        ratio = 1 + self.divider_high / self.divider_low
        return self.reference * ratio / (self.voltage_calibration * self.voltage_gain * 2**15)

    @property
    def ampere(self) -> float:
        """A in one step of an RMS current."""
        gain = self.current_calibration * self.current_gain * self.shunt * self.integrator
        return self.reference / (gain * 2**17)

    @property
    def watt(self) -> float:
        """W (var, VA) in one step of a power."""
        ratio = 1 + self.divider_high / self.divider_low
        gains = self.integrator * self.voltage_gain * self.current_gain * self.shunt
        return self.reference**2 * ratio / (gains * self.voltage_calibration * self.current_calibration * 2**28)

    @property
    def watt_hour(self) -> float:
        """Wh (varh, VAh) in one step of an energy."""
        return self.watt / 13732.91


PERIOD_STEP = 8e-6
"""Seconds in one step of the mains period."""
