"""Blocking wires of a DLMS client over TCP: the wrapper, and HDLC."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Protocol

from flexmap.dlms.hdlc import Frame, Splitter, encode_station
from flexmap.dlms.hdlc_client import HdlcLink, Operation, T
from flexmap.dlms.wrapper import HEADER, VERSION
from flexmap.model import RemoteError


class Wire(Protocol):
    """Carries a request to a logical device and its answer back."""

    def transceive(self, sap: int, request: bytes) -> bytes:
        """Return the answer; raises RemoteError."""

    def close(self) -> None:
        """Let go of the connection."""


class _Tcp:
    """A TCP connection whose errors say what was spoken."""

    scheme = ""
    spoken = ""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._peer = f"{self.scheme}://{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise RemoteError(f"cannot reach {self._peer}: {error.strerror or error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _send(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, most: int) -> bytes:
        try:
            octets = self._socket.recv(most)
        except TimeoutError:
            what = f"no answer from {self._peer} within {self._socket.gettimeout():g} s"
            raise RemoteError(f"{what}: is it a DLMS {self.spoken} server?") from None
        except OSError as error:
            raise self._lost(error) from None
        if not octets:
            raise RemoteError(f"{self._peer} closed the connection: is it a DLMS {self.spoken} server?")
        return octets

    def _lost(self, error: OSError) -> RemoteError:
        return RemoteError(f"connection to {self._peer} lost: {error.strerror or error}")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class WrapperWire(_Tcp):
    """The wrapper (IEC 62056-47)."""

    scheme = "dlms"
    spoken = "wrapper"

    def __init__(self, host: str, port: int, client_sap: int, timeout: float) -> None:
        super().__init__(host, port, timeout)
        self._client_sap = client_sap

    def transceive(self, sap: int, request: bytes) -> bytes:
        """Return the answer to a request."""
        self._send(HEADER.pack(VERSION, self._client_sap, sap, len(request)) + request)
        version, _, _, length = HEADER.unpack(self._exactly(HEADER.size))
        if version != VERSION:
            raise RemoteError(f"{self._peer} does not speak the DLMS wrapper (version {version})")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            received += self._receive(count - len(received))
        return received


class HdlcWire(_Tcp):
    """HDLC (IEC 62056-46) on a TCP connection: a link to each logical device asked."""

    scheme = "hdlc"
    spoken = "HDLC"

    def __init__(self, host: str, port: int, client_sap: int, timeout: float, *, device_address: int = 16) -> None:
        super().__init__(host, port, timeout)
        self._client_sap = client_sap
        self._device_address = device_address
        self._links: dict[int, HdlcLink] = {}
        self._splitter = Splitter(timeout)

    def transceive(self, sap: int, request: bytes) -> bytes:
        """Return the answer to a request; sets the link up first if need be."""
        link = self._links.get(sap)
        if link is None:
            link = HdlcLink(encode_station(sap, self._device_address), self._client_sap)
            self._run(link, link.connect())
            self._links[sap] = link
        return self._run(link, link.exchange(request))

    def close(self) -> None:
        """End the links and close the connection."""
        with suppress(RemoteError):
            for link in self._links.values():
                self._run(link, link.disconnect())
        super().close()

    def _run(self, link: HdlcLink, operation: Operation[T]) -> T:
        octets = next(operation)
        while True:
            if octets:
                self._send(octets)
            try:
                octets = operation.send(self._next(link))
            except StopIteration as end:
                result: T = end.value
                return result

    def _next(self, link: HdlcLink) -> Frame:
        while True:
            frame = self._splitter.next()
            if frame is None:
                self._splitter.add(self._receive(65536), 0.0)
            elif frame.addresses == link.answers:
                return frame
