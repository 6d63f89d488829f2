"""The server's side of an HDLC line: data link connections to many logical devices, for one or more clients.

::

    line = server.line(HdlcSettings(), deliver=transport.write, clock=reactor.seconds)
    transport.write(line.receive(octets))      # and once more with b"" while line.backlog is true
    line.expire()                              # every second or so
    line.close()                               # when it is lost

Choices the standard leaves open: SNRM to a logical device that does not exist, or with parameters out of range, is
refused by DM; frames for other physical devices, and from or to the no-station address, are ignored; what is sent
to all stations is dropped (no pre-established association takes it).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import msgspec

from flexmap.dlms.hdlc import (
    MAX_INFORMATION,
    MAX_WINDOW,
    POLL,
    Command,
    Frame,
    HdlcError,
    Parameters,
    Splitter,
    Station,
    decode_addresses,
    decode_parameters,
    encode,
)
from flexmap.dlms.hdlc_link import HOLD, Link
from flexmap.dlms.peer import EXTRA_TURNS, Peer, Pool
from flexmap.dlms.profile import Limits

if TYPE_CHECKING:
    from flexmap.dlms.server import Server

NO_STATION, ALL_STATIONS = 0, 0x7F
"""Client addresses that no client has."""
_SETTING = (int(Command.SNRM), int(Command.DISC))
"""What sets a link up or ends it."""


class HdlcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What class 23 (IEC HDLC setup) shows of a channel."""

    device_address: int = 16
    """Lower HDLC address: the physical device, 16 to 125 where clients use two octets, to 16381 with four."""
    max_info: int = MAX_INFORMATION
    """Longest information field, sent and received, that is agreed on."""
    window: int = MAX_WINDOW
    """Longest window, both ways, that is agreed on."""
    inter_octet_timeout: float = 6.0
    """Seconds between two octets of a frame; longer ends the frame."""
    inactivity_timeout: float = 120.0
    """Seconds without a frame after which a data link connection ends."""
    max_links: int = 64
    """Data link connections on one line."""
    max_held: int = 1 << 17
    """Octets that one line keeps: of requests in segments, and of replies that wait to be fetched."""


class Line:
    """One HDLC line: a TCP connection, a serial port."""

    __slots__ = ("_abilities", "_clock", "_deliver", "_limits", "_links", "_peer", "_server", "_settings",
                 "_splitter", "backlog")  # fmt: skip

    def __init__(
        self,
        server: Server,
        settings: HdlcSettings,
        *,
        pool: Pool,
        limits: Limits,
        deliver: Callable[[bytes], None],
        clock: Callable[[], float],
        origin: Hashable = None,
    ) -> None:
        self._server = server
        self._settings = settings
        self._abilities = Parameters(settings.max_info, settings.max_info, settings.window, settings.window)
        self._limits = limits
        self._deliver = deliver
        self._clock = clock
        self._splitter = Splitter(settings.inter_octet_timeout)
        self._links: dict[bytes, Link] = {}
        self._peer = Peer(server, pool, limits, deliver=self._late, announce=self._announce, origin=origin)
        self.backlog = False
        """Frames may be waiting: call ``receive(b"")`` when the replies are written."""

    @property
    def associations(self) -> int:
        """Number of open and half-open associations."""
        return len(self._peer)

    @property
    def links(self) -> int:
        """Number of data link connections."""
        return len(self._links)

    @property
    def unfinished(self) -> bool:
        """A frame has begun and not ended."""
        return self._splitter.unfinished

    @property
    def trusted(self) -> bool:
        """A secret has opened an association."""
        return self._peer.trusted

    def receive(self, octets: bytes) -> bytes:
        """Return what is to be sent in answer to all frames that are complete with these octets."""
        now = self._clock()
        self._splitter.add(octets, now)
        replies: list[bytes] = []
        room, turns = self._limits.max_replies, self._limits.max_requests
        while room > 0 and turns > 0:
            frame = self._splitter.next()
            if frame is None:
                break
            turns -= EXTRA_TURNS.get(frame.information[3:4], 0)
            reply = self._frame(frame, now)
            if reply:
                replies.append(reply)
                room -= len(reply)
            turns -= 1
        self.backlog = room <= 0 or turns <= 0
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def expire(self) -> None:
        """End data link connections that have been silent for too long, and answer polls held for too long."""
        now = self._clock()
        for addresses, link in list(self._links.items()):
            if now - link.heard >= self._settings.inactivity_timeout:
                self._end(addresses)
            elif link.held_since is not None and now - link.held_since >= HOLD:
                self._deliver(link.let_go())

    def close(self) -> None:
        """End all data link connections and associations."""
        self._links.clear()
        self._peer.close()

    def _frame(self, frame: Frame, now: float) -> bytes:
        link = self._links.get(frame.addresses)
        if link is not None and frame.control & ~POLL not in _SETTING:
            link.heard = now
            return link.receive(frame.control, frame.information, segmented=frame.segmented)
        try:
            station, client = decode_addresses(frame.addresses)
        except HdlcError:
            return b""
        if not self._concerns(station, client) or not frame.control & POLL:
            return b""
        back = frame.addresses[-1:] + frame.addresses[:-1]
        match frame.control & ~POLL:
            case Command.SNRM:
                return self._connect(frame, station, client, back, now)
            case Command.DISC if link is not None:
                self._end(frame.addresses)
                return encode(back, Command.UA | POLL)
            case Command.UA | Command.DM | Command.FRMR:
                return b""  # an echo, or another server's
        return encode(back, Command.DM | POLL)

    def _concerns(self, station: Station, client: int) -> bool:
        """Return whether a frame is for this physical device and can be answered."""
        if client in (NO_STATION, ALL_STATIONS) or station.to_all or station.upper == NO_STATION:
            return False
        return station.lower in (None, self._settings.device_address)

    def _connect(self, frame: Frame, station: Station, client: int, back: bytes, now: float) -> bytes:
        addresses, upper = frame.addresses, station.upper
        self._end(addresses)
        try:
            asked = decode_parameters(frame.information)
        except HdlcError:
            return encode(back, Command.DM | POLL)
        if upper not in self._server.devices or len(self._links) >= self._settings.max_links:
            return encode(back, Command.DM | POLL)
        parameters = self._abilities.answer(asked)

        link = Link(
            back,
            parameters,
            handle=lambda apdu: self._peer.answer(addresses, client, upper, apdu),
            waiting=lambda: self._peer.waiting(addresses),
            room=self._room,
        )
        link.heard = now
        self._links[addresses] = link
        return encode(back, Command.UA | POLL, parameters.encode())

    def _room(self, octets: int) -> bool:
        """Return whether so many octets more may be kept, of requests and of replies that wait to be fetched."""
        return octets + sum(link.held for link in self._links.values()) <= self._settings.max_held

    def _end(self, addresses: bytes) -> None:
        self._links.pop(addresses, None)
        self._peer.drop(addresses)

    def _announce(self, addresses: bytes, apdu: bytes) -> bool:
        """Keep a notification until the client polls: a server speaks when it is asked to."""
        link = self._links.get(addresses)
        return link is not None and self._room(len(apdu)) and link.announce(apdu)

    def _late(self, addresses: bytes, reply: bytes) -> None:
        link = self._links.get(addresses)
        if link is not None:
            octets = link.late(reply)
            if octets:
                self._deliver(octets)
