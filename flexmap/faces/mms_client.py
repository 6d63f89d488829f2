"""A blocking MMS client for the command line: browse a server, read values with quality, time and unit.

The MMS protocol itself is spoken by a process of its own (``python -m flexmap.faces.libiec61850.client``), joined
by pipes; this module only talks to that process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, Self, TypeVar

import msgspec

from flexmap.bus.framer import Framer, encode
from flexmap.model import ConfigurationError, RemoteError

T = TypeVar("T")

MmsData = bool | int | float | str | list[Any] | None
"""A value as it comes: structures and arrays are lists, octet strings hexadecimal text."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said about one reference."""

    reference: str
    """``LD/LN.DO`` with the data object's path, or with the attribute's where that was asked for."""
    fc: str = ""
    attribute: str = ""
    """Path of the value below the data object, for example ``mag.f``."""
    value: MmsData = None
    type: str = ""
    """``FLOAT``, ``INTEGER``, ``BOOLEAN``, ``Dbpos``, ``STRING``, ``STRUCTURE`` …"""
    quality: int | None = None
    """As in flexmap.model.quality; None where the data has none."""
    time: int | None = None
    """Milliseconds since 1970-01-01T00:00:00 UTC."""
    time_quality: int | None = None
    unit: str = ""
    """Symbol of the SIUnit; ``SIUnit n`` for one flexmap has no symbol for."""
    multiplier: int = 0
    """The unit is × 10^multiplier."""
    pulse_quantity: float | None = None
    """pulsQty of a counter: value × pulse_quantity unit."""
    error: str = ""
    """Why there is no value."""


class DataNode(msgspec.Struct, frozen=True):
    """A named component of the server's data."""

    name: str
    type: str
    children: tuple[DataNode, ...] = ()


class NodeDirectory(msgspec.Struct, frozen=True):
    """A logical node with its data by functional constraint."""

    name: str
    data: dict[str, tuple[DataNode, ...]]


class Directory(msgspec.Struct, frozen=True, tag="directory"):
    """What a server has: logical nodes by logical device."""

    devices: dict[str, tuple[NodeDirectory, ...]]


class Browse(msgspec.Struct, frozen=True, tag="browse"):
    """Ask for the directory."""


class Read(msgspec.Struct, frozen=True, tag="read"):
    """Ask for values."""

    references: tuple[str, ...]


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """The association stands."""


class Readings(msgspec.Struct, frozen=True, tag="readings"):
    """The values asked for."""

    readings: tuple[Reading, ...]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The request, or the connection, failed; ``local`` if the way out is on this side."""

    text: str
    local: bool = False


Request = Browse | Read
Answer = Connected | Directory | Readings | Failure


class MmsClient:
    """One association with an MMS server. Use as a context manager, or call :meth:`close`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._framer: Framer[Answer] = Framer(Answer)

    @classmethod
    def open(cls, host: str, port: int) -> Self:
        """Connect.

        Raises RemoteError if the server cannot be reached or refuses, ConfigurationError if the client's
        library is not installed.
        """
        client = cls(
            subprocess.Popen(
                [sys.executable, "-m", "flexmap.faces.libiec61850.client", host, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        try:
            client._answer(Connected)
        except BaseException:
            client.close()
            raise
        return client

    def browse(self) -> Directory:
        """Return everything the server has."""
        return self._ask(Browse(), Directory)

    def read(self, references: Iterable[str]) -> list[Reading]:
        """Read references, in their order.

        A reference is ``LD/LN.DO`` (value, quality, time, unit), ``LD/LN.DO.attribute``, or ``LD/LN`` or ``LD``
        for every value in it. One that the server does not have gives a Reading with ``error``.
        """
        return list(self._ask(Read(tuple(references)), Readings).readings)

    def close(self) -> None:
        """End the association and its process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, request: Request, kind: type[T]) -> T:
        assert self._process.stdin is not None  # noqa: S101 - opened with a pipe
        try:
            self._process.stdin.write(encode(request))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RemoteError("the MMS client process has ended") from None
        return self._answer(kind)

    def _answer(self, kind: type[T]) -> T:
        assert self._process.stdout is not None  # noqa: S101 - opened with a pipe
        while data := os.read(self._process.stdout.fileno(), 1 << 20):
            for answer in self._framer.feed(data):
                if isinstance(answer, Failure):
                    if answer.local:
                        raise ConfigurationError(answer.text)
                    raise RemoteError(answer.text)
                if isinstance(answer, kind):
                    return answer
        raise RemoteError("the MMS client process has ended")
