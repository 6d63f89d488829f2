"""The dlms-cosem client over HDLC, behind a pipe: on a TCP connection or a terminal."""

from __future__ import annotations

from typing import Any

from cosem_session import Session, authentication_of
from dlms_cosem.client import DlmsClient
from dlms_cosem.io import BlockingTcpIO, HdlcTransport, SerialIO
from remote import serve


class HdlcSession(Session):
    """One association over HDLC; ``where``: TCP port, or path of a terminal."""

    def __init__(
        self,
        where: int | str,
        *,
        client_sap: int,
        server_sap: int,
        lower: int | None = 16,
        extended: bool = False,
        secret: bytes | None = None,
        keys: tuple[bytes, bytes] | None = None,
        title: bytes = b"COH\0\0\0\0\1",
        counter: int = 1,
        max_pdu: int = 0xFFFF,
        mechanism: int | None = None,
        suite: int = 0,
    ) -> None:
        """Associate; settings as of cosem_session.Session."""
        authentication = authentication_of(mechanism, secret, keys)
        guek, gak = keys or (None, None)
        io: Any = BlockingTcpIO("127.0.0.1", where) if isinstance(where, int) else SerialIO(where)
        self.client = DlmsClient(
            transport=HdlcTransport(
                client_logical_address=client_sap,
                server_logical_address=server_sap,
                server_physical_address=lower,
                extended_addressing=extended,
                io=io,
            ),
            authentication=authentication,
            encryption_key=guek,
            authentication_key=gak,
            client_system_title=title if keys else None,
            client_initial_invocation_counter=counter,
            security_suite=suite,
            block_transfer=True,
            max_pdu_size=max_pdu,
        )
        self.client.connect()
        self.client.associate()

    def anew(self, where: int | str, **settings: Any) -> None:
        """Associate on another line, as the constructor does, without a process for it."""
        HdlcSession.__init__(self, where, **settings)


if __name__ == "__main__":
    serve(HdlcSession)
