"""Wrapper framing for TCP and UDP (IEC 62056-47 clause 6).

Eight octets stand before each APDU, all big-endian: version 1, source wPort, destination wPort, length.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flexmap.model.error import RemoteError

HEADER = struct.Struct(">HHHH")
VERSION = 1
MAX_APDU = 0xFFFF
"""Octets that a wrapper's length can announce."""


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


class Splitter:
    """Cuts a TCP stream into frames; holds at most one unfinished frame of ``max_apdu`` octets."""

    __slots__ = ("_max_apdu", "_rest")

    def __init__(self, max_apdu: int = MAX_APDU) -> None:
        self._max_apdu = max_apdu
        self._rest = b""

    def feed(self, octets: bytes) -> list[Frame]:
        """Return the frames that are complete now.

        Raises WrapperError for a wrong version or a longer APDU than allowed. Close the stream then.
        """
        if self._rest:
            octets = self._rest + octets
        frames: list[Frame] = []
        at, size = 0, len(octets)
        while size - at >= HEADER.size:
            version, source, destination, length = HEADER.unpack_from(octets, at)
            if version != VERSION or length > self._max_apdu:
                self._rest = b""
                raise WrapperError(f"version {version}, length {length} (at most {self._max_apdu})")
            end = at + HEADER.size + length
            if end > size:
                break
            frames.append(Frame(source, destination, octets[at + HEADER.size : end]))
            at = end
        self._rest = octets[at:]
        return frames
