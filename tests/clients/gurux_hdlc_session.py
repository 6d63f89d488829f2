"""Gurux's DLMS client over HDLC, behind a pipe: on a TCP connection or a terminal, with or without mode E."""

from __future__ import annotations

import socket
import time
from typing import Any

import serial
from gurux_dlms import GXReplyData
from gurux_dlms.enums import InterfaceType
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.secure import GXDLMSSecureClient
from gurux_session import Session, make_client
from remote import serve

SPEEDS = {b"0": 300, b"1": 600, b"2": 1200, b"3": 2400, b"4": 4800, b"5": 9600, b"6": 19200}


class TcpMedium:
    """Octets over TCP."""

    def __init__(self, port: int, timeout: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)

    def write(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def read(self) -> bytes:
        octets = self._socket.recv(65535)
        if not octets:
            raise ConnectionError("closed by the server")
        return octets

    def close(self) -> None:
        self._socket.close()


class TerminalMedium:
    """Octets over a terminal; each write in pieces, as a slow line has them, if ``pieces``."""

    def __init__(self, path: str, timeout: float, *, speed: int = 9600, pieces: bool = False) -> None:
        self.port = serial.Serial(path, speed, timeout=timeout)
        self._pieces = pieces

    def write(self, octets: bytes) -> None:
        for at in range(0, len(octets), 7) if self._pieces else ():
            self.port.write(octets[at : at + 7])
            time.sleep(0.002)
        if not self._pieces:
            self.port.write(octets)

    def read(self) -> bytes:
        octets = self.port.read(1)
        if not octets:
            raise TimeoutError("no answer on the line")
        return octets + self.port.read(self.port.in_waiting)

    def close(self) -> None:
        self.port.close()


def sign_on(port: serial.Serial, *, listen: bool) -> tuple[str, bytes]:
    """Sign on by IEC 62056-21 mode E as a reading device does; the identification, and the confirmation if any.

    A pseudo-terminal has no characters of seven bits: parity is checked and taken off here. With ``listen`` the
    speed changes at once and the confirmation is read; else nothing is read, as Gurux's reader does.
    """
    port.write(_even(b"/?!\r\n"))
    identification = _plain(port.read_until(b"\x0a"))
    code = identification[4:5]
    port.write(_even(b"\x062" + code + b"2\r\n"))
    time.sleep(0.05)
    if not listen:
        time.sleep(1)
    port.baudrate = SPEEDS[code]
    port.timeout = 3
    confirmation = _plain(port.read_until(b"\x0a")) if listen else b""
    port.reset_input_buffer()
    port.timeout = 10
    return identification.decode("ascii"), confirmation


def _even(octets: bytes) -> bytes:
    return bytes(octet | (octet.bit_count() & 1) << 7 for octet in octets)


def _plain(octets: bytes) -> bytes:
    if any(octet.bit_count() & 1 for octet in octets):
        raise OSError(f"parity error in {octets.hex()}")
    return bytes(octet & 0x7F for octet in octets)


class HdlcSession(Session):
    """One association over HDLC. ``lower`` and ``octets`` make the server's address; ``where``: port or path."""

    def __init__(
        self,
        where: int | str,
        *,
        server_sap: int,
        lower: int = 16,
        octets: int = 4,
        max_info: tuple[int, int] | None = None,
        window: int = 1,
        mode_e: str = "",
        pieces: bool = False,
        timeout: float = 10,
        **settings: Any,
    ) -> None:
        """Associate; further settings as of gurux_session.make_client."""
        kind = InterfaceType.HDLC_WITH_MODE_E if mode_e else InterfaceType.HDLC
        address = server_sap if octets == 1 else GXDLMSSecureClient.getServerAddress(server_sap, lower, octets)
        client = make_client(kind, address, **({"title": b"GRH\0\0\0\0\1"} | settings))
        client.serverAddressSize = octets
        client.hdlcSettings.windowSizeRX = window
        if max_info is not None:
            client.hdlcSettings.maxInfoTX, client.hdlcSettings.maxInfoRX = max_info
        self._listed: dict[tuple[int, str], Any] = {}
        self.client = client
        self._rest = b""
        self.signed_on: tuple[str, bytes] = ("", b"")
        self.frames = 0
        """Frames received."""
        if isinstance(where, int):
            self._medium: Any = TcpMedium(where, timeout)
        else:
            self._medium = TerminalMedium(where, timeout, speed=300 if mode_e else 9600, pieces=pieces)
        if mode_e:
            self.signed_on = sign_on(self._medium.port, listen=mode_e == "listen")
        self._associate()

    def _associate(self) -> None:
        client = self.client
        client.parseUAResponse(self._exchange(client.snrmRequest()).data)
        client.parseAareResponse(self._exchange(client.aarqRequest()).data)
        if client.isAuthenticationRequired:
            reply = self._exchange(client.getApplicationAssociationRequest())
            client.parseApplicationAssociationResponse(reply.data)

    def _transceive(self, octets: bytes, reply: Any) -> None:
        self._medium.write(bytes(octets))
        self.client.getData(self._receive_frame(), reply)
        if reply.error:
            raise OSError(f"error {int(reply.error)}")

    def _receive_frame(self) -> bytes:
        """All frames up to the one with the final bit: Gurux's own reassembly takes them all at once."""
        window = b""
        while True:
            frame = self._next_frame()
            window += frame
            self.frames += 1
            at = 3
            for _ in range(2):
                while not frame[at] & 1:
                    at += 1
                at += 1
            if frame[at] & 0x10:
                return window

    def _next_frame(self) -> bytes:
        while True:
            self._rest = self._rest.lstrip(b"~")
            if len(self._rest) >= 2:
                size = (self._rest[0] & 7) << 8 | self._rest[1]
                if len(self._rest) > size:
                    frame, self._rest = b"~" + self._rest[: size + 1], self._rest[size:]
                    return frame
            self._rest += self._medium.read()

    def fetch_notification(self, how: str) -> str:
        """Ask for a notification that waits, by RR (``poll``) or an empty UI frame (``trigger``); as ``told``."""
        settings = self.client.settings
        sender = settings.senderFrame
        control = 0x13 if how == "trigger" else settings.getReceiverReady()
        settings.senderFrame = sender  # it counts what it acknowledges when it sends its next request
        self._medium.write(GXDLMS.getHdlcFrame(settings, control, None))
        return self.told()

    def negotiated(self) -> tuple[int, int, int, int]:
        """Longest information field sent and received, windows sent and received."""
        hdlc = self.client.hdlcSettings
        return hdlc.maxInfoTX, hdlc.maxInfoRX, hdlc.windowSizeTX, hdlc.windowSizeRX

    def sign_on_result(self) -> tuple[str, bytes]:
        """What the sign-on read."""
        return self.signed_on

    def received_frames(self) -> int:
        """How many frames came."""
        return self.frames

    def anew(self, where: int | str, **settings: Any) -> None:
        """Associate on another line, as the constructor does, without a process for it."""
        HdlcSession.__init__(self, where, **settings)

    def again(self) -> None:
        """Set up the link and associate anew, on the same line."""
        self.client.settings.resetFrameSequence()
        self._associate()

    def send_twice(self, class_id: int, name: str, attribute: int) -> Any:
        """Read an attribute with a request that is sent again because the answer to it got lost."""
        (message,) = self.client.read(self._object(class_id, name), attribute)
        self._medium.write(bytes(message))
        self._receive_frame()
        reply = GXReplyData()
        self._transceive(message, reply)
        return reply.value

    def close(self) -> None:
        """Release the association, disconnect the link, and close."""
        self._exchange(self.client.releaseRequest())
        self.disconnect()

    def disconnect(self) -> None:
        """Disconnect the link and close."""
        self._exchange(self.client.disconnectRequest(True))
        self._medium.close()


if __name__ == "__main__":
    serve(HdlcSession)
