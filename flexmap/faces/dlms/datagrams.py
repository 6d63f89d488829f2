"""A UDP port of the wrapper (IEC 62056-47) on Twisted."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

from twisted.internet import udp
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from flexmap.dlms.server import Server
from flexmap.faces.throttle import Throttle

log = Logger(namespace="flexmap.dlms")


class WrapperDatagrams(DatagramProtocol):
    """A UDP port: one frame in, at most one out."""

    noisy = False

    def __init__(self, server: Server, tell: Throttle) -> None:
        self._tell = tell
        self._datagrams = server.datagrams(self._send)

    def startProtocol(self) -> None:
        """Begin to answer."""
        self._port = cast("udp.Port", self.transport)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer a datagram."""
        reply = self._datagrams.receive(addr, datagram)
        if reply:
            self._send(addr, reply)

    def close(self) -> None:
        """End all associations."""
        self._datagrams.close()

    def _send(self, peer: Hashable, octets: bytes) -> None:
        try:
            self._port.write(octets, cast("tuple[str, int]", peer))
        except OSError as error:
            text = "reply of {size} octets to {peer}: {error}"
            self._tell(log.warn, text, size=len(octets), peer=peer, error=str(error))
