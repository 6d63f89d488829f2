"""An MMS client over a blocking socket, for the command line: flexmap.mms.client with a socket under it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from flexmap.faces.mms_client import DataNode, MmsData
from flexmap.faces.native.client_data import access_error, node_of, plain
from flexmap.mms import client as services
from flexmap.mms.client import Client, Report, Settings
from flexmap.mms.pdu import Name, ServiceError
from flexmap.model import RemoteError

T = TypeVar("T")

_CONNECT_TIMEOUT = 5.0
_ANSWER_TIMEOUT = 15.0
_VARIABLES, _LISTS, _JOURNALS, _DOMAINS = 0, 2, 8, 9
"""Object classes of getNameList."""
_MOST_NAMES = 1_000_000


class NativeAssociation:
    """One association with an MMS server. Use as a context manager, or call :meth:`close`."""

    def __init__(self, host: str, port: int, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        """Connect; raises RemoteError if the server cannot be reached or refuses."""
        where = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), _CONNECT_TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket)
        except ssl.SSLError as error:
            self._socket.close()
            raise RemoteError(f"no TLS with {where}: {_tls_cause(error)}") from None
        except OSError as error:
            raise RemoteError(f"no MMS association with {where}: {error.strerror or error}") from None
        self._client = Client(settings)
        try:
            self._until(lambda: self._client.negotiated is not None, _ANSWER_TIMEOUT)
            self.domains = self.names(_DOMAINS, None)
        except RemoteError as error:
            self._socket.close()
            raise RemoteError(f"no MMS association with {where}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the association."""
        try:
            self._client.conclude()
            self._until(lambda: self._client.ended, 1.0)
        except RemoteError:
            pass  # it has ended all the same
        finally:
            self._socket.close()

    # --- services

    def names(self, object_class: int, domain: str | None) -> list[str]:
        """Return all names of a class; raises RemoteError."""
        names: list[str] = []
        more = True
        while more:
            part, more = services.names_of(self.ask(services.name_list(object_class, domain, *names[-1:])))
            if more and (not part or len(names) > _MOST_NAMES):
                raise RemoteError("a list of names that does not end")
            names += part
        return names

    def variables(self, domain: str) -> list[str]:
        """Return the names of a domain's variables, ``LN$FC$DO…``."""
        return self.names(_VARIABLES, domain)

    def nodes(self, domain: str) -> list[str]:
        """Return the names of a logical device's nodes."""
        return [name for name in self.variables(domain) if "$" not in name]

    def data_sets(self, domain: str) -> list[str]:
        """Return the names of a domain's data sets, ``LN$name``."""
        return self.names(_LISTS, domain)

    def journals(self, domain: str) -> list[str]:
        """Return the names of a domain's logs, ``LN$name``."""
        return self.names(_JOURNALS, domain)

    def members(self, domain: str, item: str) -> list[Name]:
        """Return the members of a data set."""
        return services.members_of(self.ask(services.list_attributes((domain, item))))

    def specification(self, domain: str, item: str) -> DataNode:
        """Return the type of a variable as a tree."""
        description = services.description_of(self.ask(services.access_attributes((domain, item))))
        return node_of(item.rpartition("$")[2], description)

    def read(self, domain: str, item: str) -> MmsData:
        """Return the value of a variable; raises RemoteError with the data access error if the server refuses."""
        (result,) = services.results_of(self.ask(services.read([(domain, item)])))
        try:
            return plain(result)
        except RemoteError as error:
            raise RemoteError(f"{error}: {domain}/{item}") from None

    def write(self, domain: str, item: str, value: bytes) -> None:
        """Write an encoded value; raises RemoteError with the data access error if the server refuses."""
        (error,) = services.written(self.ask(services.write([(domain, item)], [value])))
        if error is not None:
            raise RemoteError(f"{access_error(error)}: {domain}/{item}")

    def ask(self, service: bytes) -> bytes:
        """Return a response's element; raises RemoteError."""
        number = self._client.ask(service)
        self._until(lambda: number in self._client.responses, _ANSWER_TIMEOUT)
        answer = self._client.responses.pop(number)
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    def report(self, seconds: float) -> Report | None:
        """Return the next thing that the server tells unasked, None if none comes in so many seconds."""
        reports = self._client.reports
        end = time.monotonic() + seconds
        while not reports and (left := end - time.monotonic()) > 0:
            self._receive(left)
        return reports.popleft() if reports else None

    def retry(self, request: Callable[[], T]) -> T:
        """Return the request's result: an association that broke stays broken."""
        return request()

    # --- the socket

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                raise RemoteError(f"no answer within {seconds:.0f} s")
            self._receive(left)

    def _receive(self, seconds: float) -> None:
        try:
            self._socket.settimeout(_ANSWER_TIMEOUT)
            self._socket.sendall(self._client.take())
            self._socket.settimeout(seconds)
            octets = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except ssl.SSLError as error:
            raise RemoteError(f"TLS: {_tls_cause(error)}") from None
        except OSError as error:
            raise RemoteError(error.strerror or str(error)) from None
        if not octets:
            raise RemoteError("the server has closed the connection")
        self._client.receive(octets)
        out = self._client.take()
        if out:
            self._socket.sendall(out)


def _tls_cause(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")


def split(reference: str, domains: Sequence[str]) -> tuple[str, str]:
    """Return logical device and the rest of ``LD/rest``; raises RemoteError if there is no such device."""
    domain, _, rest = reference.partition("/")
    if domain not in domains:
        raise RemoteError(f"no logical device {domain}; there are {', '.join(domains[:5]) or 'none'}")
    return domain, rest
