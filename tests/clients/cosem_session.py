"""The dlms-cosem client behind a pipe: the process that cosem_client.connect starts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dlms_cosem import cosem, dlms_data, enumerations, utils
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.io import BlockingTcpIO, TcpTransport
from dlms_cosem.security import (
    HighLevelSecurityCommonAuthentication,
    HighLevelSecurityGmacAuthentication,
    LowLevelSecurityAuthentication,
    NoSecurityAuthentication,
)
from remote import serve

HLS_MANUFACTURER, HLS_GMAC = 2, 5


def authentication_of(mechanism: int | None, secret: bytes | None, keys: tuple[bytes, bytes] | None) -> Any:
    """Return what the client proves itself with; without a mechanism what fits the secret or the keys."""
    if mechanism == HLS_MANUFACTURER:
        return HighLevelSecurityCommonAuthentication(secret=secret)
    if mechanism == HLS_GMAC or (mechanism is None and keys and not secret):
        return HighLevelSecurityGmacAuthentication()
    if secret is not None:
        return LowLevelSecurityAuthentication(secret=secret)
    return NoSecurityAuthentication()


class Session:
    """One association over TCP."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_sap: int,
        server_sap: int,
        secret: bytes | None = None,
        keys: tuple[bytes, bytes] | None = None,
        title: bytes = b"COS\0\0\0\0\1",
        counter: int = 1,
        max_pdu: int = 0xFFFF,
        mechanism: int | None = None,
        suite: int = 0,
        whole: bool = False,
    ) -> None:
        """Associate; ``whole``: propose attribute 0 with GET."""
        authentication = authentication_of(mechanism, secret, keys)
        guek, gak = keys or (None, None)
        self.client = DlmsClient(
            transport=TcpTransport(client_sap, server_sap, BlockingTcpIO(host, port)),
            authentication=authentication,
            encryption_key=guek,
            authentication_key=gak,
            client_system_title=title if keys else None,
            client_initial_invocation_counter=counter,
            security_suite=suite,
            block_transfer=True,
            max_pdu_size=max_pdu,
        )
        if whole:
            self.client.dlms_connection.conformance.attribute_0_supported_with_get = True
        self.client.connect()
        self.client.associate()

    def again(self, host: str, port: int, **settings: Any) -> None:
        """Associate anew, as the constructor does, without a process for it."""
        Session.__init__(self, host, port, **settings)

    def get(self, class_id: int, name: str, attribute: int) -> Any:
        """Read one attribute, as plain values."""
        return self._value(self.client.get(_attribute(class_id, name, attribute)))

    def get_list(self, references: list[tuple[int, str, int]]) -> list[Any]:
        """Read attributes in one request (GET with-list)."""
        wanted = [
            cosem.CosemAttributeWithSelection(attribute=_attribute(*reference), access_selection=None)
            for reference in references
        ]
        response = self.client.get_many(wanted)
        return [getattr(item, "value", item) for item in response.result]

    def rows_by_range(self, name: str, start_s: int, end_s: int) -> Any:
        """Read rows of a profile by time, both ends included."""
        start, end = (dt.datetime.fromtimestamp(seconds, dt.UTC) for seconds in (start_s, end_s))
        selection = RangeDescriptor(
            restricting_object=CaptureObject(_attribute(8, "0.0.1.0.0.255", 2)), from_value=start, to_value=end
        )
        return self._value(self.client.get(_attribute(7, name, 2), selection))

    def set(self, class_id: int, name: str, attribute: int, octets: bytes) -> int:
        """Write an octet-string; return the data-access-result."""
        data = dlms_data.OctetStringData(octets).to_bytes()
        return int(self.client.set(_attribute(class_id, name, attribute), data).result)

    def action(self, class_id: int, name: str, method: int) -> None:
        """Call a method with integer 0."""
        interface = enumerations.CosemInterface(class_id)
        self.client.action(cosem.CosemMethod(interface, _obis(name), method), b"\x0f\x00")

    def close(self) -> None:
        """Release the association and close the socket."""
        self.client.release_association()
        self.client.disconnect()

    def _value(self, octets: bytes) -> Any:
        return utils.parse_as_dlms_data(octets)


def _obis(name: str) -> Any:
    return cosem.Obis(*(int(part) for part in name.split(".")))


def _attribute(class_id: int, name: str, attribute: int) -> Any:
    return cosem.CosemAttribute(enumerations.CosemInterface(class_id), _obis(name), attribute)


if __name__ == "__main__":
    serve(Session)
