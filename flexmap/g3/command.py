"""Payloads of beacon and command frames: beacon request, beacon, tone map response (ITU-T G.9903 clause 9.3)."""

from __future__ import annotations

import struct

import msgspec

from flexmap.g3.frame import Command, FrameError
from flexmap.g3.phy import Band, Modulation
from flexmap.model.error import LocalError

SUPERFRAME_COORDINATOR = 0xC000
"""Superframe specification of the PAN coordinator: coordinator, association permitted (A)."""
SUPERFRAME_DEVICE = 0x8000
"""Superframe specification of any other node that answers a scan (A)."""

BEACON_REQUEST = bytes((Command.BEACON_REQUEST,))

_BEACON = struct.Struct("<HBBH")


class BeaconPayload(msgspec.Struct, frozen=True):
    """Payload of a beacon: ``superframe 2 | GTS 1 | pending 1 | RC_COORD 2``."""

    coordinator: bool
    rc_coord: int
    """Route cost to the coordinator: 0 itself, 0x7FFF just joined, 0xFFFF not associated."""


def encode_beacon(beacon: BeaconPayload) -> bytes:
    """Return the payload's octets; raises :class:`LocalError` for a route cost out of range."""
    if not 0 <= beacon.rc_coord <= 0xFFFF:
        raise LocalError(f"Route cost {beacon.rc_coord} has more than 16 bits")
    return _BEACON.pack(SUPERFRAME_COORDINATOR if beacon.coordinator else SUPERFRAME_DEVICE, 0, 0, beacon.rc_coord)


def decode_beacon(payload: bytes) -> BeaconPayload:
    """Return the beacon in a payload; raises :class:`FrameError` for anything G3-PLC does not send."""
    if len(payload) != _BEACON.size:
        raise FrameError(f"A beacon's payload has {_BEACON.size} octets, not {len(payload)}")
    superframe, gts, pending, rc_coord = _BEACON.unpack(payload)
    if superframe not in (SUPERFRAME_COORDINATOR, SUPERFRAME_DEVICE) or gts or pending:
        raise FrameError(f"Superframe specification {superframe:#06x} is none of G3-PLC")
    return BeaconPayload(coordinator=superframe == SUPERFRAME_COORDINATOR, rc_coord=rc_coord)


class ToneMapResponse(msgspec.Struct, frozen=True):
    """What a receiver asks a sender to use (layout B, from one stack's public header).

    CENELEC-A: ``0A | TXRES 1 TXGAIN 4 MOD 2 PMS 1 | 0 2 TM 6 | LQI 8 | TXCOEF 24 | 0``;
    FCC: ``0A | TXRES 1 TXGAIN 4 MOD 3 | TM 24 | LQI 8 | TXCOEF 96 | PMS 1 0 7``. TXCOEF's size C.
    """

    modulation: Modulation
    tone_map: int
    """One bit a group of carriers, the lowest group in bit 0."""
    lqi: int
    """Link quality at the receiver of what the sender had sent."""


_CENELEC = struct.Struct("<BBBB3xB")
_FCC = struct.Struct("<BB3sB12xB")


def encode_tone_map_response(response: ToneMapResponse, band: Band) -> bytes:
    """Return the command's octets; raises :class:`LocalError` for fields that do not fit the band."""
    if response.modulation > Modulation.D8PSK or not 0 <= response.tone_map < 1 << band.tone_groups:
        raise LocalError(f"{response} cannot be asked for in {band.name}")
    if not 0 <= response.lqi <= 0xFF:
        raise LocalError(f"A link quality indicator has eight bits: {response.lqi} does not fit")
    code = Command.TONE_MAP_RESPONSE
    if band.tone_groups <= 6:
        return _CENELEC.pack(code, response.modulation << 1, response.tone_map, response.lqi, 0)
    return _FCC.pack(code, response.modulation, response.tone_map.to_bytes(3, "little"), response.lqi, 0)


def decode_tone_map_response(payload: bytes, band: Band) -> ToneMapResponse:
    """Return the tone map response in a command; raises :class:`FrameError`.

    Gains and coherent modulation, which this line does not model, are passed over.
    """
    narrow = band.tone_groups <= 6
    layout = _CENELEC if narrow else _FCC
    if len(payload) != layout.size or payload[0] != Command.TONE_MAP_RESPONSE:
        raise FrameError(f"A tone map response of {band.name} has {layout.size} octets, not {len(payload)}")
    if narrow:
        modulation, tone_map = payload[1] >> 1 & 3, payload[2]
    else:
        modulation, tone_map = payload[1] & 7, int.from_bytes(payload[2:5], "little")
    if modulation > Modulation.D8PSK:
        raise FrameError(f"Modulation {modulation} is not one of the differential ones")
    if not 0 < tone_map < 1 << band.tone_groups:
        raise FrameError(f"Tone map {tone_map:#x} is none of {band.name}")
    return ToneMapResponse(modulation=Modulation(modulation), tone_map=tone_map, lqi=payload[3 if narrow else 5])
