"""STCOMET meters behind a line that is no more than a delay: for tests of what stands above the PAN."""

from __future__ import annotations

from stcomet_site import START, site

from flexmap.g3.kernel import VirtualTime
from flexmap.model import LocalError
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.stcomet.app import DATA_PORT, Datagram
from flexmap.stcomet.clock import Clock
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.meter import Meter
from flexmap.stcomet.metro import MeterIdentity
from flexmap.stcomet.metrology import Metrology
from flexmap.stcomet.pan import Access, Hop, Member, Path, Rekeyed, Route
from flexmap.stcomet.record import Layout

DELAY = 0.1


class DelayPan:
    """Meters SM_ID0 (three-phase), SM_ID1 … at short addresses from 1 on; each datagram takes DELAY seconds."""

    def __init__(self, count: int = 2, depth: int = 3600) -> None:
        self.time = VirtualTime(START)
        self.user: Concentrator | None = None
        self.deaf: set[int] = set()
        self.lose_replies = 0
        self.rekeying = False
        self.sent: list[tuple[float, int, bytes, bool]] = []
        self._access = Access((), None)
        self.pib = {"adpMaxHops": 8}
        self._members: dict[int, Member] = {}
        self.meters: dict[int, Meter] = {}
        feed = SiteFeed(site(count))
        for short, name in enumerate(feed.model.meters, start=1):
            own = feed.meter(name)
            layout = Layout.THREE_PHASE if name == "SUB" else Layout.SINGLE_PHASE
            metrology = Metrology(layout, own, registers=own.registers(), depth=depth)
            identity = MeterIdentity(f"SN{short}", f"SM_ID{short - 1}", "1.0.0")
            clock = Clock(time=lambda: self.time.seconds() * 1000)
            self.meters[short] = Meter(metrology, own, identity, self._transmit(short), clock=clock)
            self._members[short] = Member(f"{short:016x}", short, START)
        self.time.callLater(0, self._tick)

    def _transmit(self, short):
        def transmit(datagram: Datagram) -> None:
            if self.lose_replies:
                self.lose_replies -= 1
            elif short in self._members and self.user is not None:
                self.time.callLater(DELAY, self.user.datagram, short, datagram.octets)

        return transmit

    def _tick(self) -> None:
        for meter in self.meters.values():
            meter.tick(int(self.time.seconds()))
        self.time.callLater(1, self._tick)

    def members(self):
        return list(self._members.values())

    def send(self, short_address, octets, confirm, *, priority):
        self.sent.append((self.time.seconds(), short_address, octets, priority))
        confirm(True)
        if short_address not in self.deaf:
            datagram = Datagram(0, DATA_PORT, DATA_PORT, octets)
            self.time.callLater(DELAY, self.meters[short_address].receive, datagram)

    def route(self, short_address):
        return None if short_address in self.deaf else Route(1, short_address, 14, 120)

    def path(self, short_address, done):
        there, back = (Hop(short_address, 14),), (Hop(0, 12),)
        done(None if short_address in self.deaf else Path(there, back, True))

    def kick(self, eui64):
        member = next(m for m in self._members.values() if m.eui64 == eui64)
        del self._members[member.short_address]
        self.user.left(member, "kicked")

    def remove(self, eui64):
        member = next(m for m in self._members.values() if m.eui64 == eui64)
        del self._members[member.short_address]
        self.user.left(member, "removed")

    def rekey(self, done):
        if self.rekeying:
            raise LocalError("a re-keying is under way")
        self.rekeying = True

        def finished():
            self.rekeying = False
            lost = tuple(m.eui64 for m in self.members() if m.short_address in self.deaf)
            done(Rekeyed(tuple(m.eui64 for m in self.members() if m.eui64 not in lost), lost))

        self.time.callLater(60, finished)

    def join(self, short):
        self._members[short] = Member(f"{short:016x}", short, int(self.time.seconds()))
        self.user.joined(self._members[short])

    def access(self):
        return self._access

    def set_access(self, access):
        self._access = access
        for member in self.members():
            if member.eui64 in access.black:
                self.kick(member.eui64)

    def names(self):
        return list(self.pib)

    def get(self, name):
        if name not in self.pib:
            raise LocalError(f"no attribute {name}")
        return self.pib[name]

    def set(self, name, value):
        self.get(name)
        self.pib[name] = value

    def counters(self):
        return {"joined": len(self._members)}
