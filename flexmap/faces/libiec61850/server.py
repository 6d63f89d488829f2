"""One running server of the library: configuration, the thread that pumps it, start and stop."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flexmap.faces.libiec61850.ctypes_api import EDITION_2, FC, POLICY_DENY, Pointer
from flexmap.model import ConfigurationError
from flexmap.scl.served import Ied

_PERIOD = 0.02
"""Seconds between two periodic tasks: report times, select time-outs, waiting commands."""
_WHERE = "[mms] listen"
_REPORT_SETTINGS = (1, 2, 4, 8, 16, 32)


class Server:
    """An IedServer in threadless mode, pumped by a Python thread.

    ``tick`` is called in that thread about every 20 ms, outside any lock of the library.
    """

    def __init__(self, library: ctypes.CDLL, model: Pointer, ied: Ied, tick: Callable[[], None]) -> None:
        """Create the server, not yet listening.

        Raises ConfigurationError if the library refuses the model.
        """
        self._library = library
        self._tick = tick
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="mms-pump", daemon=True)
        configuration = _configure(library, ied)
        pointer = library.IedServer_createWithConfig(model, None, configuration)
        library.IedServerConfig_destroy(configuration)
        if pointer is None:
            raise ConfigurationError(
                "libiec61850 refuses this model",
                where=f"IED {ied.name}",
                remedy="IED name and logical device name together may have 64 characters",
            )
        self.pointer: Pointer = pointer
        for fc in ("DC", "CF", "SP", "SV", "SE"):
            library.IedServer_setWriteAccessPolicy(pointer, FC[fc], POLICY_DENY)
        library.IedServer_setServerIdentity(pointer, ied.vendor.encode(), ied.type.encode(), ied.revision.encode())

    @property
    def clients(self) -> int:
        """Number of clients connected."""
        return int(self._library.IedServer_getNumberOfOpenConnections(self.pointer))

    def start(self, host: str, port: int) -> int:
        """Listen and serve; return the port, chosen by the system if 0 was asked for.

        Raises ConfigurationError if the address cannot be listened on.
        """
        try:
            address = socket.gethostbyname(host)
        except OSError as error:
            what = f"cannot listen on {host}: {error.strerror}"
            remedy = "write an IPv4 address of this machine: libiec61850 listens on no other"
            raise ConfigurationError(what, where=_WHERE, remedy=remedy) from None
        self._library.IedServer_setLocalIpAddress(self.pointer, address.encode())
        before = _listening()
        self._library.IedServer_startThreadless(self.pointer, port)
        if not self._library.IedServer_isRunning(self.pointer):
            what = f"cannot listen on {host}:{port}: {_why(address, port)}"
            remedy = "stop what listens there or choose another address"
            raise ConfigurationError(what, where=_WHERE, remedy=remedy)
        self._thread.start()
        return port or next(iter(_listening() - before))

    def stop(self) -> None:
        """Stop serving; connections are closed."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)
        self._library.IedServer_stopThreadless(self.pointer)

    def _pump(self) -> None:
        library, server, ended = self._library, self.pointer, self._ending.is_set
        due = 0.0
        while not ended():
            library.IedServer_waitReady(server, 20)
            # Also when nothing came in: this is what sends the reports.
            library.IedServer_processIncomingData(server)
            now = time.monotonic()
            if now >= due:
                due = now + _PERIOD
                library.IedServer_performPeriodicTasks(server)
                self._tick()


def _configure(library: ctypes.CDLL, ied: Ied) -> Pointer:
    configuration: Pointer = library.IedServerConfig_create()
    # As edition 2.1 the library denies RptEna to a client that has not written Resv or ResvTms before, which
    # most clients do not; as edition 2 enabling reserves.
    library.IedServerConfig_setEdition(configuration, EDITION_2)
    # Association-specific data sets and ObtainFile are used after they were freed (libiec61850 1.6.1).
    library.IedServerConfig_enableDynamicDataSetService(configuration, False)
    library.IedServerConfig_enableFileService(configuration, False)
    library.IedServerConfig_enableLogService(configuration, False)
    library.IedServerConfig_enableResvTmsForBRCB(configuration, ied.resv_tms)
    library.IedServerConfig_enableOwnerForRCB(configuration, ied.owner)
    for setting in _REPORT_SETTINGS:
        dynamic = bool(ied.dynamic_report_settings & setting)
        library.IedServerConfig_setReportSetting(configuration, setting, dynamic)
    return configuration


def _listening() -> set[int]:
    """Return the TCP ports this process listens on: the library does not tell the port it was given."""
    ports = set()
    for entry in Path("/proc/self/fd").iterdir():
        # Descriptors that are no sockets, or already gone, are not what is looked for.
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as candidate:
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.add(int(candidate.getsockname()[1]))
    return ports


def _why(address: str, port: int) -> str:
    """Return the system's reason why an address cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return "refused by libiec61850"
