"""The physical layer as airtime and error model: bands, modulations, frame control header, tone maps.

Source: ITU-T G.9901 and G.9903, physical layer. Confidence letters: A read in two independent stacks or checked
against an independent decoder, B one source, C engineering memory of the recommendation, a parameter.
"""

from __future__ import annotations

import enum
import math
from functools import lru_cache

import msgspec

from flexmap.model.error import LocalError, RemoteError


class Modulation(enum.IntEnum):
    """How a PSDU is sent; the first four values are those of the neighbour table and the MOD field (A)."""

    ROBO = 0
    DBPSK = 1
    DQPSK = 2
    D8PSK = 3
    SUPER_ROBO = 4


BITS = {
    Modulation.ROBO: 1,
    Modulation.SUPER_ROBO: 1,
    Modulation.DBPSK: 1,
    Modulation.DQPSK: 2,
    Modulation.D8PSK: 3,
}
"""Coded bits per carrier and symbol (A)."""

REPETITIONS = {
    Modulation.ROBO: 4,
    Modulation.SUPER_ROBO: 6,
    Modulation.DBPSK: 1,
    Modulation.DQPSK: 1,
    Modulation.D8PSK: 1,
}
"""How often each coded bit is repeated (A)."""

PARITY = {
    Modulation.ROBO: 8,
    Modulation.SUPER_ROBO: 8,
    Modulation.DBPSK: 16,
    Modulation.DQPSK: 16,
    Modulation.D8PSK: 16,
}
"""Reed-Solomon parity octets per block (A; super-ROBO C)."""

RS_BLOCK = 255
"""Octets of a Reed-Solomon block, parity included (A)."""

CONVOLUTIONAL_TAIL = 6
"""Bits that empty the convolutional coder, rate 1/2 and constraint length 7 (A)."""

PREAMBLE_SYMBOLS = 9.5
"""Eight SYNCP and one and a half SYNCM (A)."""


class Band(msgspec.Struct, frozen=True, gc=False):
    """What of the physical layer depends on the band plan."""

    name: str
    carriers: int
    first_khz: float
    last_khz: float
    symbol: float
    """Seconds of a data symbol, cyclic prefix and overlap accounted for."""
    preamble_symbol: float
    """Seconds of a preamble symbol (no cyclic prefix)."""
    fch_symbols: int
    round_to: int
    """The number of data symbols is rounded up to a multiple of this (4 in CENELEC: the FCH counts in fours)."""
    rs_blocks: int
    """Most Reed-Solomon blocks in one frame."""
    tone_groups: int
    """Groups of carriers that a tone map switches."""
    ifs_symbols: int
    """RIFS and CIFS, in symbols (A)."""
    max_psdu: tuple[int, int, int, int, int]
    """Most octets of a PSDU, by :class:`Modulation`."""

    @property
    def ifs(self) -> float:
        """Return seconds of an interframe space, response (RIFS) and contention (CIFS) alike."""
        return self.ifs_symbols * self.symbol

    @property
    def slot(self) -> float:
        """Return seconds of a contention slot: aSlotTime, two symbols (A)."""
        return 2 * self.symbol

    @property
    def fch_time(self) -> float:
        """Return seconds of preamble and frame control header: a whole ACK or NACK."""
        return PREAMBLE_SYMBOLS * self.preamble_symbol + self.fch_symbols * self.symbol


CENELEC_A = Band(
    name="CENELEC-A",
    carriers=36,
    first_khz=35.9375,
    last_khz=90.625,
    symbol=695e-6,
    preamble_symbol=640e-6,
    fch_symbols=13,
    round_to=4,
    rs_blocks=1,
    tone_groups=6,
    ifs_symbols=8,
    # 133 octets in ROBO and 239 in the others are A; 82 in super-ROBO keeps FL within its six bits (C).
    max_psdu=(133, 239, 239, 239, 82),
)
FCC = Band(
    name="FCC",
    carriers=72,
    first_khz=154.6875,
    last_khz=487.5,
    symbol=231.7e-6,
    preamble_symbol=213.3e-6,
    fch_symbols=12,
    round_to=1,
    rs_blocks=2,
    tone_groups=24,
    ifs_symbols=10,
    # Two Reed-Solomon blocks (B: the peaks of the facts' table follow from them); super-ROBO C.
    max_psdu=(494, 478, 478, 478, 323),
)
BANDS = {band.name: band for band in (CENELEC_A, FCC)}


def symbols(band: Band, modulation: Modulation, octets: int, carriers: int | None = None) -> int:
    """Return the number of data symbols of a PSDU (B; reproduces the recommendation's table).

    ``carriers`` is how many carriers the tone map leaves active; robust modes use all of them (C).
    Raises :class:`LocalError` for a PSDU that is empty or too long, or no carriers.
    """
    if not 0 < octets <= band.max_psdu[modulation]:
        raise LocalError(f"{octets} octets do not fit a {modulation.name} frame of {band.name}")
    robust = modulation in (Modulation.ROBO, Modulation.SUPER_ROBO)
    used = band.carriers if robust or carriers is None else carriers
    if not 0 < used <= band.carriers:
        raise LocalError(f"{used} carriers of {band.carriers} in {band.name}")
    parity = PARITY[modulation]
    blocks = math.ceil(octets / (RS_BLOCK - parity))
    bits = 2 * REPETITIONS[modulation] * (8 * (octets + blocks * parity) + CONVOLUTIONAL_TAIL)
    count = -(-bits // (used * BITS[modulation]))
    return -(-count // band.round_to) * band.round_to


@lru_cache(maxsize=8192)
def airtime(band: Band, modulation: Modulation, psdu_octets: int, tones: int | None = None) -> float:
    """Return seconds on the air of a frame: preamble, frame control header and PSDU.

    ``tones`` is the number of active carriers, ``None`` for all. Raises as :func:`symbols`.
    """
    return band.fch_time + symbols(band, modulation, psdu_octets, tones) * band.symbol


class Delimiter(enum.IntEnum):
    """Delimiter type, the DT field of the frame control header (A)."""

    DATA = 0
    DATA_ACK = 1
    """A data frame that wants an acknowledgement."""
    ACK = 2
    NACK = 3


class FchError(RemoteError):
    """A frame control header that does not check."""


class Fch(msgspec.Struct, frozen=True, gc=False):
    """Frame control header of CENELEC-A, 33 bits: ``PDC 8 | MOD 2, FL 6 | TM 8 | PMS 1, DT 3, CRC 5`` (C)."""

    delimiter: Delimiter
    modulation: int = 0
    """0 to 3; super-ROBO has no value of its own here."""
    length: int = 0
    """FL: data symbols divided by four."""
    tone_map: int = 0
    phase: int = 0
    """PDC: phase detection counter, in 1/256 of a mains half-wave pair."""
    coherent: bool = False
    """PMS: payload modulation scheme."""


FCH_BITS = 33


def crc5(value: int, bits: int, start: int = 0) -> int:
    """Return the CRC-5 of the ``bits`` lowest bits, first bit highest: x⁵ + x² + 1, start value 0 (C)."""
    register = start
    for position in range(bits - 1, -1, -1):
        feedback = (register >> 4 & 1) ^ (value >> position & 1)
        register = register << 1 & 0x1F
        if feedback:
            register ^= 0x05
    return register


def encode_fch(fch: Fch) -> int:
    """Return the header as an integer of 33 bits, the first on the air highest.

    Raises :class:`LocalError` for a field that does not fit.
    """
    value = 0
    for name, field, width in (
        ("PDC", fch.phase, 8),
        ("MOD", fch.modulation, 2),
        ("FL", fch.length, 6),
        ("TM", fch.tone_map, 8),
        ("PMS", int(fch.coherent), 1),
        ("DT", int(fch.delimiter), 3),
    ):
        if not 0 <= field < 1 << width:
            raise LocalError(f"{name} of a frame control header has {width} bits: {field} does not fit")
        value = value << width | field
    return value << 5 | crc5(value, FCH_BITS - 5)


def decode_fch(value: int) -> Fch:
    """Return the header of 33 bits.

    Raises :class:`FchError` for too many bits, a wrong CRC or a delimiter type that is reserved.
    """
    if not 0 <= value < 1 << FCH_BITS:
        raise FchError(f"A frame control header has {FCH_BITS} bits")
    body, crc = value >> 5, value & 0x1F
    if crc5(body, FCH_BITS - 5) != crc:
        raise FchError(f"CRC-5 of a frame control header is {crc:#04x}, not {crc5(body, FCH_BITS - 5):#04x}")
    delimiter = body & 7
    if delimiter > Delimiter.NACK:
        raise FchError(f"Delimiter type {delimiter} is reserved")
    return Fch(
        delimiter=Delimiter(delimiter),
        coherent=bool(body >> 3 & 1),
        tone_map=body >> 4 & 0xFF,
        length=body >> 12 & 0x3F,
        modulation=body >> 18 & 3,
        phase=body >> 20,
    )


def acknowledgement(fcs: int, *, taken: bool) -> Fch:
    """Return the ACK (or NACK) of the frame with this FCS: PDC and TM repeat the FCS, low octet first (C)."""
    return Fch(
        delimiter=Delimiter.ACK if taken else Delimiter.NACK,
        phase=fcs & 0xFF,
        tone_map=fcs >> 8,
    )


def all_tones(band: Band) -> int:
    """Return the tone map with every group of carriers active."""
    return (1 << band.tone_groups) - 1


def active_tones(band: Band, tone_map: int) -> int:
    """Return how many carriers a tone map leaves active."""
    return tone_map.bit_count() * (band.carriers // band.tone_groups)


THRESHOLD_DB = (-1.0, 4.0, 7.5, 12.5, -3.0)
"""SNR in dB at which half of the frames of :data:`REFERENCE_OCTETS` are lost, by :class:`Modulation` (C).

Rate 1/2 convolutional code with soft decisions, differential demodulation; four repetitions gain 5 dB.
A link at LQI 52, which the ADP calls weak, has an SNR of 3 dB: ROBO carries it, DBPSK no longer does.
"""
SLOPE_DB = 0.35
"""dB over which the loss falls by a factor e: a coded link goes from all to nothing within 3 dB (C)."""
REFERENCE_OCTETS = 133
FCH_THRESHOLD_DB = -4.0
"""The frame control header is coded six-fold: it is heard below ROBO's threshold (C)."""
MARGIN_DB = 3.0
"""What the receiver keeps in hand above 1 % loss when it asks for a modulation (C)."""


def loss(modulation: Modulation, snr: float, octets: int) -> float:
    """Return the probability that a frame of ``octets`` is lost at an SNR in dB.

    The model: a logistic curve at the reference length; the loss of other lengths from independent octets.
    """
    return _loss(THRESHOLD_DB[modulation], snr, octets / REFERENCE_OCTETS)


def fch_loss(snr: float) -> float:
    """Return the probability that a frame control header alone (ACK, NACK) is lost at an SNR in dB."""
    return _loss(FCH_THRESHOLD_DB, snr, 1.0)


def _loss(threshold: float, snr: float, length: float) -> float:
    distance = (snr - threshold) / SLOPE_DB
    if distance > 20:
        return 0.0
    if distance < -20:
        return 1.0
    lost = 1 / (1 + math.exp(distance))
    return float(1 - (1 - lost) ** length)


def best_modulation(snr: float) -> Modulation:
    """Return the fastest modulation that an SNR in dB carries with a margin: what a tone map response asks for."""
    for modulation in (Modulation.D8PSK, Modulation.DQPSK, Modulation.DBPSK):
        if snr >= THRESHOLD_DB[modulation] + MARGIN_DB:
            return modulation
    return Modulation.ROBO


def lqi(snr: float) -> int:
    """Return the link quality indicator of an SNR in dB: 4 · (SNR + 10), 0 to 255 (A)."""
    return max(0, min(255, int(4 * (snr + 10))))


def snr_of(link_quality: int) -> float:
    """Return the SNR in dB of a link quality indicator."""
    return link_quality / 4 - 10
