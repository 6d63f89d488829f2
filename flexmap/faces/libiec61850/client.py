"""The box's MMS client as a process: ``python -m flexmap.faces.libiec61850.client HOST PORT``.

Requests come as frames on standard input, answers go as frames to standard output (structs of
flexmap.faces.mms_client). It reads whole ``LN$FC`` structures: one request for all values of a logical node.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from ctypes import byref, c_int
from typing import TypeVar

import msgspec

from flexmap.bus.framer import Framer, encode
from flexmap.faces.libiec61850 import ctypes_api
from flexmap.faces.libiec61850.client_data import DATA_ERRORS, data, node_of
from flexmap.faces.libiec61850.ctypes_api import Pointer
from flexmap.faces.mms_client import (
    Answer,
    Browse,
    Connected,
    DataNode,
    Failure,
    MmsData,
    Readings,
    Request,
)
from flexmap.faces.mms_reader import Reader
from flexmap.model import ConfigurationError, FlexmapError, RemoteError

T = TypeVar("T")

_CONNECTION_LOST = 2
_TRIES = 5
_CONNECT_TIMEOUT_MS = 5000
_REQUEST_TIMEOUT_MS = 10000
_PATIENCE = 8.0
"""Seconds after which connecting is not tried again: a peer without MMS lets every try run into its limit."""


class _LostError(RemoteError):
    """The association broke."""


class Association:
    """A connection of the library, re-established when it breaks.

    The library's client (1.6.1) now and then connects and then answers every request with "connection lost";
    a new connection is the way out.
    """

    def __init__(self, host: str, port: int) -> None:
        self._library = ctypes_api.load()
        self._host, self._port = host, port
        self._connection: Pointer | None = None
        self._mms: Pointer = 0
        self.domains: list[str] = []
        self._reconnect()

    def _reconnect(self) -> None:
        library = self._library
        reason = ""
        end = time.monotonic() + _PATIENCE
        for attempt in range(_TRIES):
            if time.monotonic() > end:
                break
            self.close()
            time.sleep(0.1 * attempt)
            self._connection = library.IedConnection_create()
            library.IedConnection_setConnectTimeout(self._connection, _CONNECT_TIMEOUT_MS)
            library.IedConnection_setRequestTimeout(self._connection, _REQUEST_TIMEOUT_MS)
            error = c_int(0)
            library.IedConnection_connect(self._connection, byref(error), self._host.encode(), self._port)
            if error.value:
                reason = self._why(error.value)
                continue
            self._mms = library.IedConnection_getMmsConnection(self._connection)
            try:
                self.domains = self._names(library.MmsConnection_getDomainNames)
            except _LostError as lost:
                reason = str(lost)
                continue
            return
        raise RemoteError(f"no MMS association with {self._host}:{self._port}: {reason}")

    def _why(self, code: int) -> str:
        """Return why there is no association: the system's reason if there is no TCP connection either."""
        try:
            socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT_MS / 1000).close()
        except OSError as error:
            return error.strerror or str(error)
        return f"it answers on TCP, but speaks no MMS or has clients enough (IedClientError {code})"

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._library.IedConnection_close(self._connection)
            self._library.IedConnection_destroy(self._connection)
            self._connection = None

    def retry(self, request: Callable[[], T]) -> T:
        """Return the request's result, on a new connection if this one broke."""
        try:
            return request()
        except _LostError:
            self._reconnect()
            return request()

    def nodes(self, domain: str) -> list[str]:
        """Return the names of a logical device's nodes."""
        items = self._names(self._library.MmsConnection_getDomainVariableNames, domain.encode())
        return [item for item in items if "$" not in item]

    def specification(self, domain: str, item: str) -> DataNode:
        """Return the type of a variable as a tree."""
        pointer = self._call(
            self._library.MmsConnection_getVariableAccessAttributes, domain.encode(), item.encode()
        )
        try:
            return node_of(self._library, pointer)
        finally:
            self._library.MmsVariableSpecification_destroy(pointer)

    def read(self, domain: str, item: str) -> MmsData:
        """Return the value of a variable.

        Raises RemoteError with the data access error if the server refuses.
        """
        pointer = self._call(self._library.MmsConnection_readVariable, domain.encode(), item.encode())
        try:
            if self._library.MmsValue_getType(pointer) == ctypes_api.MMS_DATA_ACCESS_ERROR:
                code = self._library.MmsValue_getDataAccessError(pointer)
                raise RemoteError(f"{DATA_ERRORS.get(code, f'data access error {code}')}: {domain}/{item}")
            return data(self._library, pointer)
        finally:
            self._library.MmsValue_delete(pointer)

    def _names(self, function: Callable[..., Pointer | None], *arguments: bytes) -> list[str]:
        names = []
        head = self._call(function, *arguments)
        element = self._library.LinkedList_getNext(head)
        while element:
            names.append(ctypes.string_at(self._library.LinkedList_getData(element)).decode())
            element = self._library.LinkedList_getNext(element)
        self._library.LinkedList_destroy(head)
        return names

    def _call(self, function: Callable[..., Pointer | None], *arguments: bytes) -> Pointer:
        error = c_int(0)
        result = function(self._mms, byref(error), *arguments)
        if error.value == _CONNECTION_LOST:
            raise _LostError("connection lost")
        if error.value or result is None:
            raise RemoteError(f"MMS error {error.value} at {b'/'.join(arguments).decode()}")
        return result


def answer(reader: Reader, request: Request) -> Answer:
    """Carry out a request."""
    return reader.browse() if isinstance(request, Browse) else Readings(tuple(reader.read(request.references)))


def _send(output: int, answer: msgspec.Struct) -> None:
    octets = memoryview(encode(answer))
    while octets:
        octets = octets[os.write(output, octets) :]


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever the library prints must not land among the frames.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        reader = Reader(Association(sys.argv[1], int(sys.argv[2])))
        _send(output, Connected())
        framer: Framer[Request] = Framer(Request)
        while octets := os.read(0, 1 << 16):
            for request in framer.feed(octets):
                _send(output, answer(reader, request))
    except FlexmapError as error:
        _send(output, Failure(str(error), local=isinstance(error, ConfigurationError)))
    except BrokenPipeError:
        pass
    # The library's threads outlive a clean exit of the interpreter.
    os._exit(0)


if __name__ == "__main__":
    main()
