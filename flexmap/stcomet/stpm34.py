"""An STPM34 on the bench: a model of the chip that answers frames, and the reader that a meter's main core runs.

The chip measures two phases (channel 1 and 2). Energies are 32-bit registers that roll over every 403 Wh on the
reference board; read once a second, no turn is missed below 1.4 MW. Its ZCR pin shows the zero crossings of one
voltage, which the main core's timer captures on the clock that both share: V1's for half a second, then V2's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from flexmap.model import RemoteError
from flexmap.stcomet.phasors import crossing
from flexmap.stcomet.stpm3x import (
    APPARENT,
    CONTROL_HIGH,
    CONTROL_LOW,
    LATCH,
    NOTHING,
    PERIOD_STEP,
    REACTIVE,
    SAG_TIME,
    ZCR_ENABLE,
    ZCR_VOLTAGE,
    Address,
    Board,
    FrameError,
    Port,
    Request,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)

_WORD = 0xFFFF_FFFF
_POWER_BITS = 29
_MILLI = 3_600_000
"""mW·s in one Wh."""
RETRIES = 3


class PhaseInput(Protocol):
    """What flows through one phase in a second."""

    @property
    def active(self) -> int:
        """Active power in mW, export negative."""

    @property
    def reactive(self) -> int:
        """Reactive power in mvar."""

    @property
    def apparent(self) -> int:
        """Apparent power in mVA."""

    @property
    def voltage(self) -> float:
        """RMS voltage in V."""

    @property
    def current(self) -> float:
        """RMS current in A."""

    @property
    def angle(self) -> float:
        """Angle of the voltage in rad."""


class Measured(NamedTuple):
    """One phase as a meter has measured it: a second's powers (mW, mvar, mVA), voltage, current, and energies."""

    active: int
    reactive: int
    apparent: int
    voltage: float
    current: float
    work: tuple[int, int, int]
    """Active, reactive, apparent energy since the last reading, in mW·s."""
    crossing: float | None = None
    """When the voltage crosses zero upwards, in s from the beginning of a period on; None if it never does."""


class Chip:
    """The chip's registers, fed second by second; ``exchange`` is its serial port."""

    def __init__(self, port: Port = Port.UART, board: Board | None = None) -> None:
        self.port = port
        self.board = board or Board()
        self.refused = 0
        """Frames with a wrong CRC: nothing of them is taken."""
        self._live: dict[int, int] = {}
        self._latched: dict[int, int] = {}
        self._asked = NOTHING
        self._work = [[0, 0, 0], [0, 0, 0]]
        self._crossings: tuple[float | None, ...] = (None, None)
        self._control = 0

    def advance(self, channels: Sequence[PhaseInput], frequency: float) -> None:
        """Measure for a second: channel 1, then channel 2."""
        board, live = self.board, self._live
        period = round(1 / (frequency * PERIOD_STEP)) & 0xFFF if frequency else 0
        live[Address.PERIOD] = period | period << 16
        self._crossings = tuple(
            crossing(phase.angle, frequency) if frequency and phase.voltage else None for phase in channels
        )
        places = (
            (Address.RMS_1, Address.POWER_1, Address.ENERGY_1),
            (Address.RMS_2, Address.POWER_2, Address.ENERGY_2),
        )
        for phase, (rms, power, energy), work in zip(channels, places, self._work, strict=True):
            voltage = min(round(phase.voltage / board.volt), 0x7FFF)
            live[rms] = voltage | min(round(phase.current / board.ampere), 0x1FFFF) << 15
            values = (phase.active, phase.reactive, phase.apparent)
            for place, (step, value) in enumerate(zip((0, REACTIVE, APPARENT), values, strict=True)):
                work[place] += value
                live[power + step] = round(value / 1000 / board.watt) & ((1 << _POWER_BITS) - 1)
                live[energy + step] = int(work[place] // (board.watt_hour * _MILLI)) & _WORD

    def exchange(self, frame: bytes) -> bytes:
        """Take a frame; return what was sent meanwhile: the register that the frame before asked for."""
        reply = encode_reply(self._latched.get(self._asked, 0), self.port)
        try:
            request = decode_request(frame, self.port)
        except FrameError:
            self.refused += 1
            self._asked = NOTHING
            return reply
        if request.write == CONTROL_LOW:
            self._control = self._control & ~0xFFFF | request.data
        elif request.write == CONTROL_HIGH:
            self._control = self._control & 0xFFFF | request.data << 16
            if request.data & LATCH == LATCH:
                self._latched = dict(self._live)
        # A read without an address goes on with the next register (data sheet, "reading procedure").
        self._asked = request.read if request.read != NOTHING else self._asked + 2 & 0xFF
        return reply

    def zcr(self) -> float | None:
        """Return when the ZCR pin rises, in s from the beginning of a period on; None if it stands still."""
        if not self._control >> 16 & ZCR_ENABLE:
            return None
        shown = {low >> 14: channel for channel, low in enumerate(ZCR_VOLTAGE)}
        channel = shown.get(self._control >> 14 & 3)
        return None if channel is None else self._crossings[channel]


class Reader:
    """Reads two phases of a chip over its port, once a second."""

    def __init__(
        self,
        exchange: Callable[[bytes], bytes],
        port: Port = Port.UART,
        board: Board | None = None,
        *,
        zcr: Callable[[], float | None] = lambda: None,
    ) -> None:
        """``zcr`` gives what the main core's timer has captured at the chip's ZCR pin, see :meth:`Chip.zcr`."""
        self._exchange = exchange
        self._zcr = zcr
        self._port = port
        self._board = board or Board()
        self._energies: list[int] | None = None
        self._steps = [0] * 6
        self.errors = 0
        """Frames that were read again because their CRC was wrong."""

    def read(self) -> tuple[Measured, Measured]:
        """Latch and read both channels; raises RemoteError if the chip's answers stay damaged."""
        for _ in range(RETRIES):
            try:
                return self._read()
            except FrameError:
                self.errors += 1
        raise RemoteError(f"STPM34: {RETRIES} damaged answers in a row")

    def frequency(self) -> float:
        """Return the mains frequency in Hz, 0 without voltage, as latched by the last :meth:`read`."""
        period = self._registers((Address.PERIOD,))[0] & 0xFFF
        return 1 / (period * PERIOD_STEP) if period else 0.0

    def _read(self) -> tuple[Measured, Measured]:
        self._send(Request(NOTHING, CONTROL_HIGH, LATCH | ZCR_ENABLE))
        crossings = []
        for chosen in ZCR_VOLTAGE:
            self._send(Request(NOTHING, CONTROL_LOW, SAG_TIME | chosen))
            crossings.append(self._zcr())
        bases = (
            (Address.RMS_1, Address.POWER_1, Address.ENERGY_1),
            (Address.RMS_2, Address.POWER_2, Address.ENERGY_2),
        )
        steps = (0, REACTIVE, APPARENT)
        addresses = [
            address
            for rms, power, energy in bases
            for address in (rms, *(power + step for step in steps), *(energy + step for step in steps))
        ]
        values = self._registers(addresses)
        work = self._work(values[4:7] + values[11:14])
        first = self._measured(values[:4], work[:3], crossings[0])
        return first, self._measured(values[7:11], work[3:], crossings[1])

    def _registers(self, addresses: Sequence[int]) -> list[int]:
        """Ask for one register after the other: each answer belongs to the frame before."""
        self._send(Request(addresses[0]))
        return [self._send(Request(address)) for address in (*addresses[1:], NOTHING)]

    def _send(self, request: Request) -> int:
        return decode_reply(self._exchange(encode_request(request, self._port)), self._port)

    def _work(self, energies: list[int]) -> list[int]:
        """Return the energies since the last reading in mW·s; what is less than one waits for the next reading."""
        old, self._energies = self._energies or energies, energies
        step = self._board.watt_hour * _MILLI
        work = []
        for place, (before, after) in enumerate(zip(old, energies, strict=True)):
            moved = (after - before + 0x8000_0000 & _WORD) - 0x8000_0000
            counted = round(self._steps[place] * step)
            self._steps[place] += moved
            work.append(round(self._steps[place] * step) - counted)
        return work

    def _measured(self, values: Sequence[int], work: Sequence[int], zcr: float | None) -> Measured:
        board = self._board
        powers = [((value ^ 1 << 28) - (1 << 28)) * board.watt * 1000 for value in values[1:]]
        active, reactive, apparent = (round(power) for power in powers)
        voltage, current = (values[0] & 0x7FFF) * board.volt, (values[0] >> 15) * board.ampere
        return Measured(active, reactive, apparent, voltage, current, (work[0], work[1], work[2]), zcr)
