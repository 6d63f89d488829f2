"""The shared power line: who hears whom, what collides, what noise destroys.

A transmission touches the node it is for, or for a broadcast the nodes that can hear it, and nobody else; carrier
sense is asked for, not told. Loss is drawn from one seeded source in the order of events: a run repeats exactly.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from flexmap.g3 import phy
from flexmap.g3.interface import Random, Scheduler
from flexmap.g3.line import Line, Place, Tap
from flexmap.g3.phy import Band, Modulation

DETECTION_DB = -4.0
"""SNR above which a preamble is detected, and a transmission disturbs others (C)."""
DETECTION_SYMBOLS = 1.0
"""Symbols after its start until a transmission is noticed: who decides earlier collides (C)."""
CAPTURE_DB = 10.0
"""What a frame needs above everything else when the receiver was listening to an earlier one (C)."""
RECENT = 0.05
"""Seconds for which what has been on the air is remembered: more than a contention window's opening takes."""
LONGEST_FRAME = 0.5
"""Seconds above the longest airtime of any band and modulation."""
DAMAGE_OCTETS = 4
"""Octets that differ in a PSDU which arrives damaged."""


class PhyUser(Protocol):
    """What the medium calls in a node's MAC."""

    def phy_data(self, psdu: bytes, snr: float, transmission: Transmission) -> None:
        """Take a PSDU, damaged or not (its FCS tells)."""

    def phy_ack(self, fcs: int, *, taken: bool) -> None:
        """Take an ACK (``taken``) or NACK of the frame with this FCS."""


class Statistics(msgspec.Struct, gc=False):
    """What has happened on the line."""

    frames: int = 0
    acknowledgements: int = 0
    octets: int = 0
    """Octets of PSDUs sent."""
    airtime: float = 0.0
    """Seconds on the air, all transmissions added: nodes that do not hear each other send at the same time."""
    received: int = 0
    """Receptions that arrived whole, at those they were for."""
    collisions: int = 0
    """Receptions lost while another transmission was heard at the receiver."""
    losses: int = 0
    """Receptions lost to noise alone."""

    def share(self, seconds: float) -> float:
        """Return the airtime as a share of a time that has passed."""
        return self.airtime / seconds if seconds > 0 else 0.0


class Transmission:
    """A frame, or an acknowledgement, on the air."""

    __slots__ = (
        "answers",
        "end",
        "fcs",
        "key",
        "modulation",
        "others",
        "psdu",
        "reserved",
        "sender",
        "start",
        "taken",
        "wanted",
    )

    def __init__(self, sender: Port, psdu: bytes, modulation: Modulation, start: float, end: float) -> None:
        self.sender = sender
        self.psdu = psdu
        """Empty for an acknowledgement."""
        self.modulation = modulation
        self.start = start
        self.end = end
        self.reserved = end
        """End of what its header announces: with the acknowledgement, when one is wanted."""
        self.wanted = False
        """An acknowledgement is wanted (DT)."""
        self.key: Hashable = None
        self.answers: Port | None = None
        """Whom an acknowledgement is for."""
        self.fcs = 0
        self.taken = True
        self.others: list[Transmission] = []
        """What overlaps it in time."""


class Port:
    """A node's connection to the line."""

    __slots__ = (
        "airtime",
        "capture",
        "extra_db",
        "heard",
        "keys",
        "live",
        "name",
        "noise_db",
        "number",
        "on",
        "place",
        "tap",
        "user",
    )

    def __init__(self, name: str, number: int, place: Place, tap: Tap, user: PhyUser, *, noise_db: float) -> None:
        self.name = name
        self.number = number
        self.place = place
        self.tap = tap
        self.user = user
        self.noise_db = noise_db
        """Noise at this node above the line's floor, in dB."""
        self.on = True
        """Switched on (see :meth:`Medium.switch`)."""
        self.live = True
        """Switched on and supplied: a node behind an open circuit neither sends nor hears."""
        self.airtime = 0.0
        """Seconds this node has sent."""
        self.extra_db: dict[int, float] = {}
        """Loss to other ports set by hand, by their numbers, instead of the line's."""
        self.capture: Callable[[float, bytes], object] | None = None
        """Called with time (start of frame) and PSDU of every frame this node sends or takes."""
        self.heard: dict[Port, float] | None = None
        """Who hears it, with the SNR there; ``None`` until the medium has worked it out."""
        self.keys: tuple[Hashable, ...] = ()
        """What it listens to."""


class Burst(msgspec.Struct, frozen=True):
    """Noise on a feeder (or everywhere) for a while."""

    start: float
    end: float
    level_db: float
    feeder: str | None


class Medium:
    """One line with its nodes."""

    def __init__(self, scheduler: Scheduler, random: Random, band: Band, line: Line | None = None) -> None:
        self.scheduler = scheduler
        self.band = band
        self.line = line or Line()
        self.statistics = Statistics()
        self.frame_loss = 0.0
        """Probability that any frame is lost besides everything else (tests of repair)."""
        self.capture: Callable[[float, Port, bytes], object] | None = None
        """Called with time (start of frame), sender and PSDU of every frame on the line."""
        self.ports: list[Port] = []
        self._random = random
        self._active: list[Transmission] = []
        self._filters: dict[Hashable, list[Port]] = {}
        self._bursts: list[Burst] = []
        self._sorted: dict[str, tuple[list[float], list[Port]]] | None = None
        self._detection = DETECTION_SYMBOLS * band.symbol

    def attach(self, name: str, user: PhyUser, place: Place | None = None, noise_db: float = 0.0) -> Port:
        """Connect a node; raises :class:`LocalError` for a place that is not on any line."""
        place = place or Place()
        port = Port(name, len(self.ports), place, self.line.connect(place), user, noise_db=noise_db)
        self.ports.append(port)
        self._changed()
        return port

    def listen(self, port: Port, *keys: Hashable) -> None:
        """Let a node take frames sent to these keys (its addresses) from now on, and no others but broadcasts."""
        for key in port.keys:
            self._filters[key].remove(port)
        port.keys = keys
        for key in keys:
            self._filters.setdefault(key, []).append(port)

    def set_loss(self, one: Port, other: Port, loss_db: float) -> None:
        """Set the loss between two nodes by hand, both ways."""
        one.extra_db[other.number] = other.extra_db[one.number] = loss_db
        self._changed()

    def cut(self, feeder: str, metres: float) -> None:
        """Open the circuit of a feeder: everything behind falls silent."""
        self.line.cut(feeder, metres)
        self._relight()

    def mend(self, feeder: str) -> None:
        """Close the circuit of a feeder again."""
        self.line.mend(feeder)
        self._relight()

    def switch(self, port: Port, *, on: bool) -> None:
        """Switch a node off or on again: off, it neither sends nor hears, whatever its layers above believe."""
        port.on = on
        self._relight()

    def burst(self, seconds: float, level_db: float, feeder: str | None = None) -> None:
        """Raise the noise on a feeder (everywhere, for ``None``) by so many dB for so many seconds from now."""
        now = self.scheduler.seconds()
        burst = Burst(start=now, end=now + seconds, level_db=level_db, feeder=feeder)
        self._bursts.append(burst)
        # A frame that it has disturbed is judged when it ends.
        self.scheduler.callLater(seconds + LONGEST_FRAME, self._bursts.remove, burst)

    def snr(self, sender: Port, receiver: Port) -> float | None:
        """Return the SNR in dB at a receiver without bursts and others, ``None`` when it hears nothing."""
        return self._neighbours(sender).get(receiver) if sender.live and receiver.live else None

    def neighbours(self, port: Port) -> dict[Port, float]:
        """Return who can hear a node now, with the SNR in dB there."""
        if not port.live:
            return {}
        return {other: snr for other, snr in self._neighbours(port).items() if other.live}

    def free_from(self, port: Port) -> float:
        """Return from when the line is free as far as a node can tell: carrier sense, physical and virtual.

        What began less than :data:`DETECTION_SYMBOLS` ago is not noticed yet. A time in the past: when it fell
        free.
        """
        now = self.scheduler.seconds()
        noticed = now - self._detection
        free = -math.inf
        for transmission in self._active:
            if transmission.reserved <= free:
                continue
            sender = transmission.sender
            if sender is port or (transmission.start <= noticed and port in self._neighbours(sender)):
                free = transmission.reserved
        return free

    def transmit(
        self,
        port: Port,
        psdu: bytes,
        key: Hashable,
        modulation: Modulation = Modulation.ROBO,
        *,
        tones: int | None = None,
        ack: bool = False,
    ) -> float:
        """Send a PSDU now to those who listen to ``key`` (``None``: to everyone); return when it ends.

        ``ack`` announces that an acknowledgement is wanted. Raises :class:`LocalError` for a PSDU that does not
        fit.
        """
        start = self.scheduler.seconds()
        end = start + phy.airtime(self.band, modulation, len(psdu), tones)
        transmission = Transmission(port, psdu, modulation, start, end)
        transmission.key = key
        transmission.wanted = ack
        if ack:
            transmission.reserved = end + self.band.ifs + self.band.fch_time
        if port.live:
            self.statistics.frames += 1
            self.statistics.octets += len(psdu)
            if self.capture is not None:
                self.capture(start, port, psdu)
            if port.capture is not None:
                port.capture(start, psdu)
            self._start(transmission)
        return end

    def acknowledge(self, port: Port, answered: Transmission, fcs: int, *, taken: bool) -> None:
        """Answer a frame that has just arrived with ACK or NACK, one interframe space after its end."""
        start = answered.end + self.band.ifs
        transmission = Transmission(port, b"", Modulation.ROBO, start, start + self.band.fch_time)
        transmission.answers = answered.sender
        transmission.fcs = fcs
        transmission.taken = taken
        if port.live:
            self.statistics.acknowledgements += 1
            self._start(transmission)

    def _start(self, transmission: Transmission) -> None:
        now = self.scheduler.seconds()
        self._active = [other for other in self._active if other.reserved + RECENT > now]
        for other in self._active:
            if other.end > transmission.start and other.start < transmission.end:
                other.others.append(transmission)
                transmission.others.append(other)
        self._active.append(transmission)
        seconds = transmission.end - transmission.start
        self.statistics.airtime += seconds
        transmission.sender.airtime += seconds
        self.scheduler.callLater(max(0.0, transmission.end - now), self._end, transmission)

    def _end(self, transmission: Transmission) -> None:
        sender = transmission.sender
        if not sender.live:
            return
        heard = self._neighbours(sender)
        key = transmission.key
        asker = transmission.answers
        if asker is not None:
            snr = heard.get(asker)
            if snr is not None and asker.live and self._arrives(transmission, asker, snr) is not None:
                asker.user.phy_ack(transmission.fcs, taken=transmission.taken)
        elif key is None:
            for port, snr in list(heard.items()):
                if port.live:
                    self._deliver(transmission, port, snr)
        else:
            for port in tuple(self._filters.get(key, ())):
                snr = heard.get(port)
                if snr is not None and port.live:
                    self._deliver(transmission, port, snr)

    def _deliver(self, transmission: Transmission, port: Port, snr: float) -> None:
        effective = self._arrives(transmission, port, snr)
        if effective is None:
            return
        psdu = transmission.psdu
        chance = phy.loss(transmission.modulation, effective, len(psdu))
        if self.frame_loss:
            chance += (1 - chance) * self.frame_loss
        if chance and self._random.random() < chance:
            self._lost(transmission, port)
            psdu = self._damaged(psdu)
        else:
            self.statistics.received += 1
            if port.capture is not None:
                port.capture(transmission.start, psdu)
        port.user.phy_data(psdu, effective, transmission)

    def _arrives(self, transmission: Transmission, port: Port, snr: float) -> float | None:
        """Return the SNR with everything that disturbs it, ``None`` when not even the header is heard."""
        effective = snr
        if transmission.others or self._bursts:
            disturbed = self._disturbed(transmission, port, snr)
            if disturbed is None:
                self.statistics.collisions += 1
                return None
            effective = disturbed
        chance = phy.fch_loss(effective)
        if self.frame_loss and not transmission.psdu:
            chance += (1 - chance) * self.frame_loss
        if chance and self._random.random() < chance:
            self._lost(transmission, port)
            return None
        return effective

    def _disturbed(self, transmission: Transmission, port: Port, snr: float) -> float | None:
        """Return the SNR in dB with bursts and others, ``None`` while sending or listening to another."""
        noise = 1.0
        captured = False
        for other in transmission.others:
            if other.sender is port:
                return None
            level = self._neighbours(other.sender).get(port)
            if level is not None:
                noise += 10 ** (level / 10)
                captured = captured or other.start < transmission.start
        for burst in self._bursts:
            concerns = burst.feeder is None or burst.feeder == port.place.feeder
            if concerns and burst.start < transmission.end and burst.end > transmission.start:
                noise += 10 ** (burst.level_db / 10)
        effective = snr - 10 * math.log10(noise)
        return None if captured and effective < CAPTURE_DB else effective

    def _lost(self, transmission: Transmission, port: Port) -> None:
        if any(port in self._neighbours(other.sender) for other in transmission.others):
            self.statistics.collisions += 1
        else:
            self.statistics.losses += 1

    def _damaged(self, psdu: bytes) -> bytes:
        octets = bytearray(psdu)
        for _ in range(DAMAGE_OCTETS):
            octets[self._random.randrange(len(octets))] ^= 1 + self._random.randrange(255)
        return bytes(octets)

    def _changed(self) -> None:
        self._sorted = None
        for port in self.ports:
            port.heard = None

    def _relight(self) -> None:
        for port in self.ports:
            port.live = port.on and not self.line.dark(port.tap)

    def _neighbours(self, port: Port) -> dict[Port, float]:
        """Return who can hear a node, live or not; worked out once, until nodes or losses change."""
        heard = port.heard
        if heard is None:
            heard = port.heard = self._hearing(port)
        return heard

    def _hearing(self, port: Port) -> dict[Port, float]:
        """Work out who hears a node, looking only as far along the feeders as anything can arrive."""
        if self._sorted is None:
            self._sorted = self._by_distance()
        line, budget, hand = self.line, self.line.model.budget_db, port.extra_db
        tap = port.tap
        candidates = [self.ports[number] for number in hand]
        for feeder, (low, high) in line.within(tap, budget - DETECTION_DB).items():
            metres, ports = self._sorted.get(feeder, ([], []))
            candidates += ports[bisect_left(metres, low) : bisect_right(metres, high)]
        candidates.sort(key=_number)
        heard = {}
        for other in candidates:
            loss = hand.get(other.number) if hand else None
            if loss is None:
                loss = line.attenuation(tap, other.tap)
            snr = budget - loss - other.noise_db
            if snr >= DETECTION_DB and other is not port:
                heard[other] = snr
        return heard

    def _by_distance(self) -> dict[str, tuple[list[float], list[Port]]]:
        feeders: dict[str, list[Port]] = {}
        for port in self.ports:
            feeders.setdefault(port.place.feeder, []).append(port)
        for ports in feeders.values():
            ports.sort(key=lambda p: (p.place.metres, p.number))
        return {name: ([p.place.metres for p in ports], ports) for name, ports in feeders.items()}


def _number(port: Port) -> int:
    return port.number
