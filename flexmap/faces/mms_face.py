"""The MMS face as the gateway sees it: an engine, the site and SCL it serves, its address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from flexmap.faces.interface import OnCommand
from flexmap.faces.mms import MmsEngine
from flexmap.model import Event, Sample, SamplePart, Site
from flexmap.model.firmware import FirmwareReport
from flexmap.model.plc import Coordinator


class MmsFace:
    """Serves every meter of a site through an MMS engine."""

    def __init__(
        self,
        engine: MmsEngine,
        site: Site,
        scl: bytes,
        address: tuple[str, int],
        on_command: OnCommand,
        *,
        picks: Mapping[tuple[str, SamplePart], tuple[int, ...]] | None = None,
    ) -> None:
        """Serve a site; ``picks`` are the positions of the values to serve, by meter and part, if not all are."""
        self._engine = engine
        self._site = site
        self._scl = scl
        self._address = address
        self._on_command = on_command
        self._picks = picks

    def start(self) -> Deferred[None]:
        """Serve; fires when clients can connect."""
        started = self._engine.start(self._site, self._scl, self._address, self._on_command)
        return started.addCallback(lambda _: None)

    def update(self, samples: Sequence[Sample]) -> None:
        """Serve these samples from now on."""
        self._engine.update(samples if self._picks is None else [self._picked(sample) for sample in samples])

    def _picked(self, sample: Sample) -> Sample:
        positions = (self._picks or {}).get((sample.meter, sample.part), ())
        return msgspec.structs.replace(
            sample,
            values=tuple(sample.values[position] for position in positions),
            quality=tuple(sample.quality[position] for position in positions),
        )

    def event(self, event: Event) -> None:
        """Do nothing: on MMS an event shows in the points that it changes."""

    def coordinator(self, told: Coordinator) -> None:
        """Do nothing: on MMS the coordinator shows in the points of the channels to its meters."""

    def firmware(self, report: FirmwareReport) -> None:
        """Do nothing: on MMS a new version shows as the meter's identity."""

    def identity(self, meter: str, name: str, text: str) -> None:
        """Show a new value of an identity point of a meter."""
        self._engine.identity(meter, name, text)

    def stop(self) -> Deferred[None]:
        """Serve no more."""
        return self._engine.stop()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether clients are served, and the engine's figures."""
        status = self._engine.status
        return status.serving, msgspec.to_builtins(status)
