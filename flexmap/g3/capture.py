"""Captures of the line as pcapng, for Wireshark: link type 230, IEEE 802.15.4 without FCS.

The segment control field, which Wireshark does not know, is left out with the FCS; of a segment that is not alone,
a comment says which one it is. Times are those of the scheduler, counted from 1970.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import BinaryIO

import msgspec

from flexmap.g3.ccm import SecurityError, unseal
from flexmap.g3.frame import FCS_OCTETS, SEGMENT_CONTROL, FrameError, decode, encode
from flexmap.g3.medium import Medium, Port

LINKTYPE_IEEE802_15_4_NOFCS = 230
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_ENHANCED_PACKET = 6
_BYTE_ORDER = 0x1A2B3C4D
_NAME, _COMMENT = 2, 1
_SNAP = 0xFFFF


class Capture:
    """A pcapng file being written to a stream; one interface for each node.

    With ``keys`` (group master keys by index; read anew for each frame) secured frames are written opened, without
    their security header: Wireshark takes G3-PLC's frame version 0 for the older security of 802.15.4-2003.
    """

    def __init__(self, stream: BinaryIO, keys: Mapping[int, bytes] | None = None) -> None:
        self._stream = stream
        self._keys: Mapping[int, bytes] = {} if keys is None else keys
        self._interfaces: dict[str, int] = {}
        self.packets = 0
        self._block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1))

    def line(self, medium: Medium) -> None:
        """Write every frame on a line from now on, under the name of the node that sends it."""

        def sent(time: float, port: Port, psdu: bytes) -> None:
            self.packet(port.name, time, psdu)

        medium.capture = sent

    def node(self, port: Port) -> None:
        """Write what one node sends and takes from now on."""
        port.capture = self._writer(port.name)

    def packet(self, name: str, time: float, psdu: bytes) -> None:
        """Write a PSDU at a time in seconds, under an interface's name."""
        interface = self._interfaces.get(name)
        if interface is None:
            interface = self._interfaces[name] = len(self._interfaces)
            body = struct.pack("<HHI", LINKTYPE_IEEE802_15_4_NOFCS, 0, _SNAP)
            self._block(_INTERFACE, body + _option(_NAME, name.encode()) + _option(0, b""))
        octets = self._opened(psdu)[SEGMENT_CONTROL:-FCS_OCTETS]
        micros = round(time * 1e6)
        body = struct.pack("<IIIII", interface, micros >> 32, micros & 0xFFFFFFFF, len(octets), len(octets))
        self.packets += 1
        self._block(_ENHANCED_PACKET, body + _padded(octets) + _segment_comment(psdu))

    def _opened(self, psdu: bytes) -> bytes:
        if not self._keys:
            return psdu
        try:
            frame = decode(psdu)
            key = self._keys.get(frame.key_index)
            if frame.counter is None or key is None:
                return psdu
            clear = msgspec.structs.replace(frame, payload=unseal(frame, key), counter=None, mic=b"")
        except (FrameError, SecurityError):
            return psdu
        return encode(clear)

    def _writer(self, name: str) -> Callable[[float, bytes], object]:
        def write(time: float, psdu: bytes) -> None:
            self.packet(name, time, psdu)

        return write

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._stream.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def _segment_comment(psdu: bytes) -> bytes:
    count, last = psdu[1] >> 2, psdu[0] & 1
    if last and count == 0:
        return b""
    text = f"segment {count}{', the last' if last else ''}"
    return _option(_COMMENT, text.encode()) + _option(0, b"")


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
