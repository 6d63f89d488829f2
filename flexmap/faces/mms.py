"""What an engine of the MMS face must do (:mod:`flexmap.faces.mms_engines` has them).

An engine is given a site with the SCL document that clients were given, then samples; it hands out commands.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from twisted.internet.defer import Deferred

from flexmap.faces.interface import OnCommand
from flexmap.mms.report_buffer import EntryStore
from flexmap.model import Sample, Site


class MmsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is doing."""

    engine: str
    serving: bool = False
    host: str = ""
    port: int = 0
    clients: int = 0
    max_clients: int = 0
    restarts: int = 0
    samples: int = 0
    """Samples written into the served model since the start (or last restart) of the engine."""
    points: int = 0
    points_per_second: float = 0.0
    skipped: int = 0
    """Samples that fit no meter of the site."""
    commands: int = 0
    error: str = ""
    """The last thing that went wrong, with its way out."""


class MmsLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a listener holds."""

    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    max_connections_per_address: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 250
    idle_timeout: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    """Seconds that an association may be silent; 0: as long as it likes, TCP finds out who is gone."""


class MmsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that clients see."""

    folder: str
    """Theirs are the files in it and in its folders, nothing else."""
    deletable: bool = False
    """Clients may delete them."""


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a port with TLS needs, as files in PEM (engine ``native``)."""

    host: str
    port: int
    certificate: Path
    """The server's, with those between it and its authority behind it."""
    key: Path
    authorities: Path
    """Whose clients may connect."""
    revoked: Path | None = None
    """Revocation lists of all of them."""
    peers: frozenset[str] = frozenset()
    """SHA-256 fingerprints (hexadecimal) of the only clients let in; empty: all that the authorities know."""
    minimum: str = "1.2"
    maximum: str = "1.3"
    session: float = 86_400.0
    """Seconds after which a connection must begin anew, with new keys."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        given = (self.certificate, self.key, self.authorities, self.revoked)
        return tuple(path for path in given if path is not None)


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine may be told beside the site; None: as it comes."""

    limits: MmsLimits | None = None
    files: MmsFiles | None = None
    store: EntryStore | None = None
    """Keeps the entries of buffered reports; without one they end with the process."""
    tls: TlsSettings | None = None
    """A port beside the address that is served, or instead of it (not ``plain``)."""
    plain: bool = True


class MmsEngine(typing.Protocol):
    """An MMS server engine, in the reactor's thread."""

    @property
    def status(self) -> MmsStatus:
        """Return how the engine is doing now."""

    def start(self, site: Site, scl: bytes, address: tuple[str, int], on_command: OnCommand) -> Deferred[int]:
        """Serve a site on (host, port); port 0 lets the system choose.

        Fires with the port once clients can connect; fails with ConfigurationError or LocalError if the site or
        the address cannot be served.
        """

    def update(self, samples: Iterable[Sample]) -> None:
        """Take new samples; may be called at any time after start."""

    def identity(self, meter: str, point: str, text: str) -> None:
        """Show a new value of an identity point of a meter; may be called at any time after start."""

    def stop(self) -> Deferred[None]:
        """Stop serving; fires when everything is released."""
