"""Wrapper framing for TCP and UDP (IEC 62056-47 clause 6).

Eight octets stand before each APDU, all big-endian: version 1, source wPort, destination wPort, length.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flexmap.model.error import RemoteError

HEADER = struct.Struct(">HHHH")
VERSION = 1


class WrapperError(RemoteError):
    """Octets are no wrapper frame; a stream cannot go on behind them."""


class Frame(NamedTuple):
    """One APDU with its addresses."""

    source: int
    destination: int
    apdu: bytes


def encode(source: int, destination: int, apdu: bytes) -> bytes:
    """Return the frame that carries ``apdu`` from one wPort to another."""
    return HEADER.pack(VERSION, source, destination, len(apdu)) + apdu


def decode_datagram(octets: bytes) -> Frame:
    """Return the one frame of a UDP datagram; raises WrapperError if it is not exactly one."""
    if len(octets) < HEADER.size:
        raise WrapperError(f"datagram of {len(octets)} octets")
    version, source, destination, length = HEADER.unpack_from(octets)
    if version != VERSION or length != len(octets) - HEADER.size:
        raise WrapperError(f"version {version}, length {length} in a datagram of {len(octets)} octets")
    return Frame(source, destination, octets[HEADER.size :])
