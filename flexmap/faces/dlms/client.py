"""A blocking DLMS client over TCP for the command line: the sans-io client core on a socket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self, cast

from flexmap.dlms import axdr, classes
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.authentication import Proof
from flexmap.dlms.axdr import Value
from flexmap.dlms.client import AttributeReference, Client, ClientSettings, Exchange, ResultError, T, drive
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.security import Ciphering, CounterStore, Keys, MemoryCounterStore
from flexmap.dlms.selection import Selection
from flexmap.faces.dlms.wires import HdlcWire, Wire, WrapperWire
from flexmap.model import RemoteError

_LIST_SIZE = 16
"""Attributes asked for in one GET-with-list."""


class Credentials(NamedTuple):
    """Who the client is and what it can prove."""

    client_sap: int = 16
    mechanism: Mechanism = Mechanism.NONE
    password: bytes = b""
    keys: Keys | None = None
    protection: int = 0
    title: bytes = b""
    """System title of the client, eight octets; needed with keys."""
    proof: Proof | None = None
    """What proves the client, with mechanisms other than LLS and GMAC."""
    counters: CounterStore = MemoryCounterStore()
    """Where the client's invocation counters are kept; the default forgets them with the process."""

    def __repr__(self) -> str:
        """Never show a password."""
        return f"Credentials({self.client_sap}, {self.mechanism.name})"


class ListedObject(NamedTuple):
    """An element of the object_list."""

    class_id: int
    version: int
    logical_name: bytes
    attributes: tuple[int, ...]
    """Readable attributes."""


class DlmsConnection:
    """One TCP connection; holds one association with each logical device asked for."""

    def __init__(
        self,
        host: str,
        port: int,
        credentials: Credentials,
        timeout: float = 10.0,
        *,
        device_address: int | None = None,
    ) -> None:
        """``device_address``: speak HDLC with this physical device instead of the wrapper."""
        self._credentials = credentials
        self._clients: dict[int, Client] = {}
        self._ciphering: Ciphering | None = None
        if credentials.keys is not None:
            self._ciphering = Ciphering(credentials.keys, credentials.title, credentials.counters)
        sap = credentials.client_sap
        self._wire: Wire = (
            WrapperWire(host, port, sap, timeout)
            if device_address is None
            else HdlcWire(host, port, sap, timeout, device_address=device_address)
        )

    def get(
        self,
        sap: int,
        class_id: int,
        logical_name: bytes,
        attribute: int,
        selection: Selection | None = None,
    ) -> Value:
        """Read one attribute, of a profile's buffer the selected rows; raises ResultError."""
        return self._run(sap, self._client(sap).get(class_id, logical_name, attribute, selection))

    def get_many(
        self, sap: int, groups: Sequence[Sequence[AttributeReference]]
    ) -> list[list[Value | DataAccessResult]]:
        """Read groups of attributes with GET-with-list; a failure stands in its place.

        A group goes in one request, so that its values are of one instant; it has at most 16 attributes.
        """
        client = self._client(sap)
        answers: list[list[Value | DataAccessResult]] = []
        for request in share_out(groups):
            values = iter(self._run(sap, client.get_with_list([each for group in request for each in group])))
            answers += [[next(values) for _ in group] for group in request]
        return answers

    def act(self, sap: int, class_id: int, logical_name: bytes, method: int) -> None:
        """Call a method with the parameter integer(0); raises ResultError."""
        parameter = axdr.encode("integer", 0)
        reply = self._run(sap, self._client(sap).action(class_id, logical_name, method, parameter))
        if reply.result != ActionResult.SUCCESS:
            raise ResultError(reply.result)

    def object_list(self, sap: int) -> list[ListedObject]:
        """Return the objects that this client sees in a logical device."""
        listed = self.get(sap, classes.ASSOCIATION, ASSOCIATION_LN, 2)
        return [_listed(element) for element in cast("list[Value]", listed)]

    def logical_devices(self) -> list[tuple[int, str]]:
        """Return server address and name of every logical device (SAP assignment of the management device)."""
        listed = cast("list[tuple[int, bytes]]", self.get(1, classes.SAP_ASSIGNMENT, classes.SAP_ASSIGNMENT_LN, 2))
        return [(sap, name.decode(errors="replace")) for sap, name in listed]

    def close(self) -> None:
        """Release every association and close the connection."""
        try:
            for sap, client in self._clients.items():
                self._run(sap, client.release())
        except RemoteError:
            pass  # the server is gone, and so are the associations
        finally:
            self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self, sap: int) -> Client:
        client = self._clients.get(sap)
        if client is None:
            credentials = self._credentials
            settings = ClientSettings(
                client_sap=credentials.client_sap,
                server_sap=sap,
                mechanism=credentials.mechanism,
                secret=credentials.password,
                protection=credentials.protection,
                title=credentials.title,
            )
            client = Client(settings, random=os.urandom, ciphering=self._ciphering, proof=credentials.proof)
            self._run(sap, client.connect())
            self._clients[sap] = client
        return client

    def _run(self, sap: int, exchange: Exchange[T]) -> T:
        return drive(exchange, lambda request: self._wire.transceive(sap, request))


def share_out(groups: Sequence[Sequence[AttributeReference]]) -> list[list[Sequence[AttributeReference]]]:
    """Share groups out over requests of at most 16 attributes, none of them split."""
    requests: list[list[Sequence[AttributeReference]]] = []
    room = 0
    for group in groups:
        if len(group) > room:
            requests.append([])
            room = _LIST_SIZE
        requests[-1].append(group)
        room -= len(group)
    return requests


def _listed(element: Value) -> ListedObject:
    match element:
        case (int(class_id), int(version), bytes(name), (list(attributes), _)):
            readable = tuple(int(cast("tuple[int, int]", a)[0]) for a in attributes if cast("list[int]", a)[1] & 1)
            return ListedObject(class_id, version, name, readable)
    raise RemoteError("the server's object_list is malformed")
