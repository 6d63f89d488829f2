"""Simulated STCOMET meters on a simulated power line: what stands behind a concentrator that has no real line.

Meters go on measuring whatever becomes of this process: what they are (registers, ring buffer, membership of the
PAN) is kept every few seconds, and the seconds that were missed are measured at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from flexmap.g3.bootstrap import Membership
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.topology import network
from flexmap.model import Meter, MeterType, Sample, quality
from flexmap.model.breaker import Trigger
from flexmap.model.sample import CONTROL_MODE
from flexmap.sources.load import LoadProfile
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.stcomet.app import DATA_PORT, RESPONDER_PORT, Datagram
from flexmap.stcomet.clock import Clock, ClockState
from flexmap.stcomet.firmware import Binary
from flexmap.stcomet.meter import Meter as StcometMeter
from flexmap.stcomet.metro import EventLogState, MeterIdentity
from flexmap.stcomet.metrology import DEPTH, Metrology
from flexmap.stcomet.record import Layout, Record

OUI = bytes.fromhex("02464d")
"""First octets of a simulated device's EUI-64: locally administered."""
COUNTER_MARGIN = 100_000
"""Frames that a node has at most sent since its counter was kept."""
CRYSTAL = 20.0
"""Millionths that a meter's crystal is off at most (a common tolerance; C)."""
CLOCK_ERROR = 300.0
"""Milliseconds that the clock of a new meter is off at most."""


class Kept(msgspec.Struct, frozen=True):
    """What a meter is, apart from its ring buffer."""

    registers: tuple[tuple[int, ...], ...]
    sequence: int
    breaker_state: int
    breaker_operations: int
    cover_openings: int
    frame_counter: int
    membership: Membership | None = None
    clock: ClockState | None = None
    log: EventLogState | None = None
    """The event log, where it has grown since the frame before, and once in each of the ring buffer's depths."""
    versions: dict[int, int] = {}
    """Versions in operation of its binaries."""
    control_mode: int | None = None


class Frame(msgspec.Struct, frozen=True):
    """All meters at the end of a second, and the records since the frame before."""

    second: int
    meters: dict[str, Kept]
    records: dict[str, tuple[Record, ...]]


class Street:
    """The meters of a site, each with its node on the medium."""

    def __init__(
        self,
        meters: Sequence[tuple[Meter, MeterType]],
        medium: Medium,
        time: VirtualTime,
        psk: bytes,
        *,
        load: LoadProfile,
        settings: SimulationSettings,
        kept: Sequence[Frame] = (),
    ) -> None:
        """Set up, from the frames that were kept, if any; time begins behind the last of them."""
        self._time = time
        self.changed: Callable[[], object] = lambda: None
        """Called when a meter has done what it was told to (breaker, clock): a frame should be kept now."""
        last = kept[-1] if kept else None
        self._kept_up_to = last.second if last else None
        samples = {} if last is None else {m.id: _sample(m, t, last) for m, t in meters if m.id in last.meters}
        feed = SiteFeed(SiteModel(meters, load, settings, samples))
        self._model = feed.model
        spots = network(len(meters), generator(settings.seed, "spots"))
        self.nodes: dict[str, Node] = {}
        self.meters: dict[str, StcometMeter] = {}
        self._taken: dict[str, int] = {}
        self._logged: dict[str, tuple[int, int]] = {}
        """What of each event log was kept last: the number of the event to come, and when."""
        for number, ((meter, _type), spot) in enumerate(zip(meters, spots, strict=True), start=1):
            own = None if last is None else last.meters.get(meter.id)
            eui64 = OUI + number.to_bytes(5, "big")
            counter = own.frame_counter + COUNTER_MARGIN if own else 0
            draw = generator(settings.seed, meter.id, "node", counter)
            connection = Connection(spot.place, frame_counter=counter)
            node = self.nodes[meter.id] = Node.device(medium, eui64, draw, psk, at=connection)
            logs = [frame.meters[meter.id].log for frame in kept if meter.id in frame.meters]
            log = next((log for log in reversed(logs) if log is not None), None)
            self._meter(meter, feed, node, own, log=log, seed=settings.seed)
            for frame in kept:
                for record in frame.records.get(meter.id, ()):
                    self.meters[meter.id].metrology.ring.append(record)
            self._taken[meter.id] = self.meters[meter.id].metrology.next_sequence

    def _meter(
        self,
        meter: Meter,
        feed: SiteFeed,
        node: Node,
        kept: Kept | None,
        *,
        log: EventLogState | None,
        seed: int,
    ) -> None:
        own = feed.meter(meter.id)
        layout = Layout.THREE_PHASE if feed.model.meters[meter.id].three_phase else Layout.SINGLE_PHASE
        registers = kept.registers if kept else own.registers()
        metrology = Metrology(layout, own, registers=registers, sequence=kept.sequence if kept else 0)

        def transmit(datagram: Datagram) -> None:
            node.udp.send(
                datagram.peer, datagram.peer_port, datagram.port, datagram.octets, priority=datagram.priority
            )

        identity = MeterIdentity(
            meter.identity.get("serial-number", meter.id), meter.id, meter.identity.get("firmware", "")
        )
        draw = generator(seed, meter.id, "crystal")
        clock = Clock(
            kept.clock if kept else None,
            drift=draw.uniform(-CRYSTAL, CRYSTAL),
            error=draw.uniform(-CLOCK_ERROR, CLOCK_ERROR),
            time=lambda: self._time.seconds() * 1000,
        )
        made = self.meters[meter.id] = StcometMeter(metrology, own, identity, transmit, clock=clock, log=log)
        if kept:
            made.firmware.versions.update({Binary(number): version for number, version in kept.versions.items()})
        for port in (DATA_PORT, RESPONDER_PORT):
            node.udp.bind(port, partial(self._receive, made, port))

    def _receive(self, meter: StcometMeter, port: int, peer: int, peer_port: int, octets: bytes) -> None:
        before = meter.next_event
        meter.receive(Datagram(peer, peer_port, port, octets))
        if meter.next_event != before:
            self.changed()

    def press(self, meter: str, *, close: bool) -> None:
        """Press the breaker's button at a meter; raises LocalError with the cause if that does nothing."""
        if self.meters[meter].operate(Trigger.MANUAL_RECONNECT if close else Trigger.MANUAL_DISCONNECT):
            self.changed()

    def cover(self, meter: str, *, opened: bool) -> None:
        """Open or close a meter's cover; it shows with the next second."""
        self._model.meters[meter].force_cover(opened)

    def begin(self, kept: Mapping[str, Kept]) -> None:
        """Measure what was missed, join the PAN (or be in it still), and go on second by second."""
        now = int(self._time.seconds())
        if self._kept_up_to is not None:
            for second in range(max(self._kept_up_to + 1, now - DEPTH), now + 1):
                self._measure(second)
        for name, node in self.nodes.items():
            membership = kept[name].membership if name in kept else None
            if membership is not None:
                node.boot.resume(membership)
            else:
                node.boot.start()
        self._time.callLater(now + 1 - self._time.seconds(), self._second, now + 1)

    def _second(self, second: int) -> None:
        self._measure(second)
        self._time.callLater(max(second + 1 - self._time.seconds(), 0.0), self._second, second + 1)

    def _measure(self, second: int) -> None:
        for meter in self.meters.values():
            meter.tick(second)
        self._kept_up_to = second

    def frame(self) -> Frame | None:
        """Return what to keep since the last call; None before the first second."""
        if self._kept_up_to is None:
            return None
        records = {}
        for name, meter in self.meters.items():
            records[name] = tuple(meter.metrology.ring.since(self._taken[name]))
            self._taken[name] = meter.metrology.next_sequence
        return Frame(self._kept_up_to, {name: self._keep(name) for name in self.meters}, records)

    def _keep(self, name: str) -> Kept:
        meter, node, model = self.meters[name], self.nodes[name], self._model.meters[name]
        metrology = meter.metrology
        logged = meter.next_event, (self._kept_up_to or 0) // DEPTH
        log = meter.event_log if self._logged.get(name) != logged else None
        self._logged[name] = logged
        return Kept(
            tuple(map(tuple, metrology.registers)),
            metrology.next_sequence,
            int(model.breaker.state),
            model.breaker.operations,
            model.cover_openings,
            node.frame_counter,
            node.boot.membership(),
            meter.time.state(),
            log,
            {int(binary): version for binary, version in meter.firmware.versions.items()},
            model.breaker.mode,
        )


def _sample(meter: Meter, meter_type: MeterType, frame: Frame) -> Sample:
    """Return what the model of the site goes on from: breaker and cover."""
    kept = frame.meters[meter.id]
    shown: dict[str, Any] = {
        "breaker-control-state": kept.breaker_state,
        "breaker-operations": kept.breaker_operations,
        "tamper-count": kept.cover_openings,
        CONTROL_MODE: kept.control_mode,
    }
    values = tuple(shown.get(point.name) for point in meter_type.points)
    return Sample(meter.id, frame.second * 1000, values, (quality.GOOD,) * len(values))
