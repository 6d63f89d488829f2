"""The MAC of a node: addresses, security, neighbours, scan, what arrives; what leaves is in `outgoing`.

Implements :class:`flexmap.g3.interface.Mac` above :class:`flexmap.g3.medium.Medium` (ITU-T G.9903 clause 9.3 on
IEEE 802.15.4-2006; confidence letters as in :mod:`flexmap.g3.phy`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache

from flexmap.g3 import command, frame, phy
from flexmap.g3.ccm import Security, SecurityError
from flexmap.g3.command import BEACON_REQUEST, BeaconPayload, ToneMapResponse
from flexmap.g3.frame import CheckSequenceError, Command, Frame, FrameError, FrameKind
from flexmap.g3.information import tone_mask
from flexmap.g3.interface import (
    BROADCAST,
    COORDINATOR,
    Address,
    Beacon,
    Confirm,
    Link,
    MacIndication,
    MacStatus,
    MacUser,
    Random,
    Scheduler,
    SecurityFailure,
    Timer,
)
from flexmap.g3.line import Place
from flexmap.g3.medium import Medium, Transmission
from flexmap.g3.neighbours import Neighbours
from flexmap.g3.outgoing import Job, Outgoing, Tap
from flexmap.g3.phy import Modulation
from flexmap.g3.pib import ATTRIBUTES, COUNTING, IDENTITY, SETTINGS, Counters, MacPib
from flexmap.g3.segments import MAX_MSDU, Reassembly
from flexmap.model.error import LocalError

LATE_REPETITION = 30
"""Seconds for which a neighbour's last secured frame, come again, counts as repeated (an implementation limit)."""
BEACONS_ENOUGH = 3
"""Who has heard so many neighbours answer a scan that are no further from the coordinator stays silent (ours:
else each of the hundreds that join on a crowded line makes all that hear it answer) …"""
BEACON_NEAR = 80
"""… if heard with this link quality: what they reach it reaches, more or less (ours)."""
_BEACONS: Hashable = "beacons"

_decode = lru_cache(maxsize=4)(frame.decode)
"""Receivers of a broadcast are, in a simulation, one process: they read the same octets once."""


class Mac:
    """One node's MAC."""

    __slots__ = (
        "_band",
        "_beacon_timer",
        "_done",
        "_eui64",
        "_medium",
        "_neighbours",
        "_outgoing",
        "_overheard",
        "_pan_id",
        "_random",
        "_reassembly",
        "_scan_timer",
        "_scanned",
        "_scheduler",
        "_short",
        "coordinator",
        "counters",
        "fastest",
        "pib",
        "port",
        "security",
        "user",
    )

    def __init__(
        self,
        medium: Medium,
        eui64: bytes,
        random: Random,
        user: MacUser | None = None,
        *,
        place: Place | None = None,
        noise_db: float = 0.0,
        frame_counter: int = 0,
        name: str = "",
    ) -> None:
        """Connect a node to the line; ``user`` may be set later, before time moves on.

        ``frame_counter`` is where its frame counter goes on: above every one sent under a key still in use.
        """
        if len(eui64) != 8:
            raise LocalError(f"An EUI-64 has eight octets, not {len(eui64)}")
        self._eui64 = bytes(eui64)
        self.user = user
        self.pib = MacPib()
        self.counters = Counters()
        self.security = Security(frame_counter)
        self.coordinator = False
        self.fastest = Modulation.D8PSK
        """The fastest modulation this node asks its neighbours for."""
        self._medium = medium
        self._scheduler: Scheduler = medium.scheduler
        self._band = medium.band
        self._random = random
        self._pan_id = self._short = 0xFFFF
        self._neighbours = Neighbours(medium.band, self.pib)
        self._reassembly = Reassembly()
        self._beacon_timer: Timer | None = None
        self._scan_timer: Timer | None = None
        self._scanned: list[Beacon] = []
        self._overheard: list[int] = []
        """Route costs in beacons of neighbours, while a beacon of its own is due."""
        self._done: Callable[[list[Beacon]], object] | None = None
        self.port = medium.attach(name or eui64.hex(), self, place, noise_db)
        self._outgoing = Outgoing(
            medium,
            self.port,
            random,
            pib=self.pib,
            counters=self.counters,
            security=self.security,
            neighbours=self._neighbours,
        )
        self._listen()

    # What the layer above calls

    @property
    def eui64(self) -> bytes:
        """Return the extended address."""
        return self._eui64

    @property
    def pan_id(self) -> int:
        """Return the PAN id, 0xFFFF while there is none."""
        return self._pan_id

    @pan_id.setter
    def pan_id(self, value: int) -> None:
        self._pan_id = value
        self._listen()

    @property
    def short_address(self) -> int:
        """Return the short address, 0xFFFF while there is none."""
        return self._short

    @short_address.setter
    def short_address(self, value: int) -> None:
        self._short = value
        self._listen()

    @property
    def frame_counter(self) -> int:
        """Return the counter of the next secured frame: to be kept over a restart."""
        return self.security.counter

    @property
    def queued(self) -> int:
        """Return how many MSDUs and commands are on their way out."""
        return self._outgoing.queued()

    def data(
        self, destination: Address, msdu: bytes, confirm: Confirm, *, priority: bool = False, secured: bool = True
    ) -> None:
        """MCPS-DATA.request: send an MSDU of at most 400 octets, acknowledged unless broadcast."""
        status = self._refusal(destination, msdu, secured=secured)
        if status is not None:
            self._scheduler.callLater(0, confirm, status)
            return
        head = self._head(FrameKind.DATA, destination, ack=destination != BROADCAST)
        self._outgoing.submit(Job(head, msdu, self._key(destination), confirm, priority=priority, secured=secured))

    def scan(self, seconds: float, done: Callable[[list[Beacon]], object]) -> None:
        """MLME-SCAN.request (active): send a beacon request, collect beacons; a scan under way is ended."""
        if self._scan_timer is not None:
            self._scan_timer.cancel()
            self._scan_end()
        self._scanned, self._done = [], done
        self._scan_timer = self._scheduler.callLater(seconds, self._scan_end)
        self._listen()
        head = Frame(
            kind=FrameKind.COMMAND, sequence=0, payload=b"", destination=BROADCAST, destination_pan=BROADCAST
        )
        self._outgoing.submit(Job(head, BEACON_REQUEST, None, None, priority=False, secured=False))

    def start(self, pan_id: int) -> None:
        """MLME-START.request: become the coordinator of a PAN, with short address 0."""
        self.coordinator = True
        self._pan_id, self._short = pan_id, COORDINATOR
        self._listen()

    def reset(self) -> None:
        """MLME-RESET.request: forget address, keys, neighbours and what waits to be sent, unconfirmed."""
        for timer in (self._beacon_timer, self._scan_timer):
            if timer is not None:
                timer.cancel()
        self._beacon_timer = self._scan_timer = self._done = None
        self._outgoing.clear()
        self._pan_id = self._short = 0xFFFF
        self.coordinator = False
        self.security.clear()
        self._neighbours.clear()
        self._reassembly.clear()
        self._listen()

    def set_key(self, index: int, key: bytes) -> None:
        """Install a group master key (16 octets) at index 0 or 1; its own frame counter goes on, never back."""
        self.security.set_key(index, key)

    def remove_key(self, index: int) -> None:
        """Remove a group master key."""
        self.security.remove_key(index)

    def activate_key(self, index: int) -> None:
        """Secure what is sent with this key from now on; frames under the other are still taken."""
        self.security.activate(index)

    def link(self, neighbour: int) -> Link | None:
        """Return what the neighbour table knows of a short address."""
        return self._neighbours.link(neighbour, self._scheduler.seconds())

    def get(self, name: str) -> object:
        """Return an attribute of the information base by name (see :mod:`flexmap.g3.pib`).

        A number, ``0b…`` of macToneMask, or the rows of macNeighbourTable and macPOSTable. Raises
        :class:`LocalError` for a name that does not exist.
        """
        attribute = ATTRIBUTES.get(name)
        now = self._scheduler.seconds()
        if attribute is None:
            raise LocalError(f"The MAC has no attribute {name!r}")
        if name == "macNeighbourTable":
            return self._neighbours.neighbour_table(now)
        if name == "macPOSTable":
            return self._neighbours.pos_table(now)
        if name == "macToneMask":
            return tone_mask(self._band)
        holder = self.pib if attribute in SETTINGS else self.counters if attribute in COUNTING else self
        return getattr(holder, attribute.field)

    def set(self, name: str, value: int) -> None:
        """Set an attribute of the information base; a counter can be set to 0 only.

        Raises :class:`LocalError` for a name that does not exist or cannot be set, or a value out of range.
        """
        attribute = ATTRIBUTES.get(name)
        if attribute is None:
            raise LocalError(f"The MAC has no attribute {name!r}")
        if attribute in SETTINGS:
            setattr(self.pib, attribute.field, attribute.check(value))
        elif attribute in COUNTING:
            setattr(self.counters, attribute.field, attribute.check(value))
        elif attribute in IDENTITY:
            setattr(self, attribute.field, attribute.check(value))
        else:
            raise LocalError(f"{name} cannot be set")

    def watch_traffic(self, tap: Tap) -> None:
        """Tell of each transmission of this node."""
        self._outgoing.tap = tap

    def learn_link(self, neighbour: int, snr: float, back: float) -> None:
        """Know a neighbour and its tone map, as after an exchange: SNR in dB here, and of what is sent at it."""
        now = self._scheduler.seconds()
        self._neighbours.heard(neighbour, snr, now)
        self._neighbours.tone_map(neighbour, self._tone_map(back), now)

    # Sending

    def _refusal(self, destination: Address, msdu: bytes, *, secured: bool) -> MacStatus | None:
        if not msdu or (isinstance(destination, bytes) and len(destination) != 8):
            return MacStatus.INVALID_PARAMETER
        if isinstance(destination, int) and not 0 <= destination <= 0xFFFF:
            return MacStatus.INVALID_PARAMETER
        if len(msdu) > MAX_MSDU:
            return MacStatus.FRAME_TOO_LONG
        if secured and self._short == 0xFFFF:
            return MacStatus.NO_SHORT_ADDRESS
        if secured and not self.security.ready():
            return MacStatus.UNAVAILABLE_KEY
        return MacStatus.DENIED if self._outgoing.full() else None

    def _head(self, kind: FrameKind, destination: Address | None, *, ack: bool) -> Frame:
        return Frame(
            kind=kind,
            sequence=0,
            payload=b"",
            destination=destination,
            destination_pan=BROADCAST if destination is None else self._pan_id,
            source=self._eui64 if self._short == 0xFFFF else self._short,
            source_pan=self._pan_id,
            ack_request=ack,
        )

    def _key(self, destination: Address) -> Hashable:
        """Return what the destination listens to; ``None`` for everyone."""
        if isinstance(destination, int):
            return None if destination == BROADCAST else self._pan_id << 16 | destination
        return destination

    def _listen(self) -> None:
        keys: list[Hashable] = [self._eui64]
        if self._short != 0xFFFF:
            keys.append(self._pan_id << 16 | self._short)
        if self._done is not None or self._beacon_timer is not None:
            keys.append(_BEACONS)
        self._medium.listen(self.port, *keys)

    # Receiving

    def phy_ack(self, fcs: int, *, taken: bool) -> None:
        """Take an ACK (``taken``) or NACK of the frame with this FCS."""
        self._outgoing.acknowledged(fcs, taken=taken)

    def phy_data(self, psdu: bytes, snr: float, transmission: Transmission) -> None:
        """Take a PSDU, damaged or not: acknowledge, leave out repetitions, open, deliver."""
        try:
            arrived = _decode(psdu)
        except CheckSequenceError:
            self.counters.bad_crc += 1
            if transmission.wanted:
                self._medium.acknowledge(self.port, transmission, frame.fcs_of(psdu), taken=False)
            return
        except FrameError:
            self.counters.malformed += 1
            return
        if not self._concerns(arrived):
            return
        fcs = frame.fcs_of(psdu)
        if arrived.ack_request and arrived.destination != BROADCAST:
            self._medium.acknowledge(self.port, transmission, fcs, taken=True)
        now = self._scheduler.seconds()
        if isinstance(arrived.source, int):
            self._neighbours.heard(arrived.source, snr, now)
        ttl = self.pib.duplicate_ttl
        if arrived.counter is not None:
            # Its counter refuses it in any case; on a crowded line a repetition can come late without any attack.
            ttl = max(ttl, LATE_REPETITION)
        if self._reassembly.repeated(arrived, fcs, now, ttl):
            self.counters.duplicates += 1
            return
        try:
            payload = arrived.payload if arrived.counter is None else self.security.unprotect(arrived)
        except SecurityError as error:
            self._insecure(arrived, error)
            return
        self._take(arrived, payload, snr)

    def _concerns(self, arrived: Frame) -> bool:
        """Return whether a frame is for this node."""
        destination, source = arrived.destination, arrived.source
        if source == self._eui64 or (source == self._short != 0xFFFF and arrived.source_pan == self._pan_id):
            return False
        if destination is None:
            return arrived.kind is FrameKind.BEACON
        if arrived.destination_pan not in (self._pan_id, BROADCAST) and self._pan_id != BROADCAST:
            return False
        return destination in (BROADCAST, self._eui64) or destination == self._short

    def _insecure(self, arrived: Frame, error: SecurityError) -> None:
        counters = self.counters
        counters.security += 1
        counters.unknown_key += error.failure is SecurityFailure.UNKNOWN_KEY
        counters.wrong_mic += error.failure is SecurityFailure.WRONG_MIC
        counters.old_counter += error.failure is SecurityFailure.OLD_COUNTER
        if self.user is not None and arrived.source is not None:
            self.user.mac_security_failure(arrived.source, error.failure)

    def _take(self, arrived: Frame, payload: bytes, snr: float) -> None:
        try:
            if arrived.kind is FrameKind.DATA:
                self._take_data(arrived, payload, snr)
            elif arrived.kind is FrameKind.BEACON:
                self._take_beacon(arrived, payload, snr)
            else:
                self._take_command(arrived, payload)
        except (FrameError, LookupError, OverflowError):
            self.counters.malformed += 1

    def _take_data(self, arrived: Frame, payload: bytes, snr: float) -> None:
        secured = arrived.counter is not None
        # With keys installed, an unprotected request may be anybody's.
        if arrived.tone_map_request and isinstance(arrived.source, int) and secured == self.security.has_keys():
            self._answer_tone_map(arrived.source, snr, secured=secured)
        msdu = self._reassembly.add(arrived, payload)
        if msdu is None or arrived.source is None or arrived.destination is None or self.user is None:
            return
        if arrived.destination == BROADCAST:
            self.counters.rx_broadcast += 1
        else:
            self.counters.rx_data += 1
        self.user.mac_data(
            MacIndication(
                source=arrived.source,
                destination=arrived.destination,
                pan_id=arrived.source_pan,
                msdu=msdu,
                lqi=phy.lqi(snr),
                secured=secured,
                key_index=arrived.key_index,
                priority=arrived.high_priority,
            )
        )

    def _take_command(self, arrived: Frame, payload: bytes) -> None:
        if payload == BEACON_REQUEST:
            self.counters.rx_command += 1
            self._answer_scan()
        elif payload[:1] == bytes((Command.TONE_MAP_RESPONSE,)) and isinstance(arrived.source, int):
            response = command.decode_tone_map_response(payload, self._band)
            # With keys installed, an unprotected answer may be anybody's.
            if arrived.counter is not None or not self.security.has_keys():
                self.counters.rx_command += 1
                self._neighbours.tone_map(arrived.source, response, self._scheduler.seconds())
        else:
            self.counters.malformed += 1

    def _answer_tone_map(self, source: int, snr: float, *, secured: bool) -> None:
        """Tell a sender which modulation its frames should come in."""
        if self._outgoing.full() or (secured and not self.security.ready()):
            return
        response = self._tone_map(snr)
        head = self._head(FrameKind.COMMAND, source, ack=False)
        octets = command.encode_tone_map_response(response, self._band)
        self._outgoing.submit(Job(head, octets, self._key(source), None, priority=False, secured=secured))

    def _tone_map(self, snr: float) -> ToneMapResponse:
        """Return the tone map for frames that arrive with this SNR in dB."""
        modulation = min(phy.best_modulation(snr), self.fastest)
        return ToneMapResponse(modulation, phy.all_tones(self._band), phy.lqi(snr))

    # Scan and beacons

    def _answer_scan(self) -> None:
        if self._beacon_timer is not None or self._pan_id == 0xFFFF or self._short == 0xFFFF or self.user is None:
            return
        delay = self._random.random() * self.pib.beacon_window
        self._beacon_timer = self._scheduler.callLater(delay, self._send_beacon)
        self._overheard.clear()
        self._listen()

    def _send_beacon(self) -> None:
        self._beacon_timer = None
        self._listen()
        rc_coord = None if self.user is None else self.user.mac_beacon_request()
        if rc_coord is not None and sum(other <= rc_coord for other in self._overheard) >= BEACONS_ENOUGH:
            return
        if rc_coord is None or self._short == 0xFFFF or self._outgoing.full():
            return
        payload = command.encode_beacon(BeaconPayload(coordinator=self.coordinator, rc_coord=rc_coord))
        head = self._head(FrameKind.BEACON, None, ack=False)
        self._outgoing.submit(Job(head, payload, _BEACONS, None, priority=False, secured=False))

    def _take_beacon(self, arrived: Frame, payload: bytes, snr: float) -> None:
        beacon = command.decode_beacon(payload)
        near = arrived.source_pan == self._pan_id and phy.lqi(snr) >= BEACON_NEAR
        if self._beacon_timer is not None and near:
            self._overheard.append(beacon.rc_coord)
        if self._done is not None and arrived.source is not None:
            self._scanned.append(
                Beacon(
                    source=arrived.source, pan_id=arrived.source_pan, lqi=phy.lqi(snr), rc_coord=beacon.rc_coord
                )
            )

    def _scan_end(self) -> None:
        done, found = self._done, self._scanned
        self._done = self._scan_timer = None
        self._scanned = []
        self._listen()
        if done is not None:
            done(found)
