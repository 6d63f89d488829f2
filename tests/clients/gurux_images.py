"""Gurux's image transfer behind a pipe, in a process of its own (GPL-2.0-only library); see gurux_session.py."""

from __future__ import annotations

from typing import Any

from gurux_dlms import GXByteBuffer
from gurux_dlms.enums import DataType
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.objects import GXDLMSImageTransfer
from gurux_session import Session, plain
from remote import serve


class Images(Session):
    """One association, and the Image transfer object of its meter."""

    def __init__(self, host: str, port: int, **settings: Any) -> None:
        """Associate, and read the block size."""
        super().__init__(host, port, **settings)
        self.image = GXDLMSImageTransfer()
        self.read(2)

    def read(self, attribute: int) -> Any:
        """Read an attribute as Gurux's class understands it."""
        value = self._exchange(self.client.read(self.image, attribute)).value
        self.client.updateValue(self.image, attribute, value)
        found = self.image.getValues()[attribute - 1]
        if attribute == 7:
            return [(each.size, bytes(each.identification), bytes(each.signature)) for each in found]
        return plain(found)

    def initiate(self, identifier: bytes, size: int) -> int:
        """Return the result of image_transfer_initiate."""
        return self._result(self.image.imageTransferInitiate(self.client, identifier.decode(), size))

    def block(self, number: int, octets: bytes) -> int:
        """Return the result of image_block_transfer of one block, in any order."""
        data = GXByteBuffer()
        data.setUInt8(DataType.STRUCTURE)
        data.setUInt8(2)
        _GXCommon.setData(None, data, DataType.UINT32, number)
        _GXCommon.setData(None, data, DataType.OCTET_STRING, octets)
        return self._result(self.client.method(self.image, 2, data, DataType.ARRAY))

    def blocks(self, octets: bytes) -> int:
        """Send all blocks of an image as Gurux makes them; return how many."""
        count = [0]
        for message in self.image.imageBlockTransfer(self.client, octets, count):
            self._exchange(message)
        return count[0]

    def verify(self) -> int:
        """Return the result of image_verify."""
        return self._result(self.image.imageVerify(self.client))

    def activate(self) -> int:
        """Return the result of image_activate."""
        return self._result(self.image.imageActivate(self.client))

    def execute(self, name: str, script: int) -> int:
        """Return the result of a script table's execute."""
        return self._result(self.client.method(self._object(9, name), 1, script, DataType.UINT16))

    def schedule(self, name: str, time: bytes, date: bytes) -> int:
        """Return the result of a write of one execution time."""
        data = GXByteBuffer()
        data.setUInt8(DataType.ARRAY)
        data.setUInt8(1)
        data.setUInt8(DataType.STRUCTURE)
        data.setUInt8(2)
        _GXCommon.setData(None, data, DataType.OCTET_STRING, time)
        _GXCommon.setData(None, data, DataType.OCTET_STRING, date)
        octets = self.client._GXDLMSClient__write(name, data, DataType.ARRAY, 22, 4)
        return self._result(octets)

    def enable(self, enabled: bool) -> int:
        """Return the result of a write of image_transfer_enabled."""
        octets = self.client._GXDLMSClient__write("0.0.44.0.0.255", enabled, DataType.BOOLEAN, 18, 5)
        return self._result(octets)


if __name__ == "__main__":
    serve(Images)
