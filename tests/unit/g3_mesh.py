"""A MAC for tests of the layer above: links with an LQI, a delay, and losses one can order."""

from flexmap.g3.interface import BROADCAST, Link, MacIndication, MacStatus

PAN = 0x781D
DELAY = 0.1
"""Seconds a frame takes."""


class Ether:
    def __init__(self, kernel):
        self.kernel = kernel
        self.macs = {}
        self.links = {}
        self.lose = lambda source, destination, msdu: False
        self.log = []
        """(time, source, destination, msdu, secured, priority) of every frame."""

    def join(self, one, other, lqi=200, back=None):
        self.links[one, other] = lqi
        self.links[other, one] = lqi if back is None else back

    def cut(self, node):
        self.links = {pair: lqi for pair, lqi in self.links.items() if node not in pair}

    def hears(self, source, destination, msdu):
        return (source, destination) in self.links and not self.lose(source, destination, msdu)


class MeshMac:
    def __init__(self, ether, name, short_address=BROADCAST):
        self.ether = ether
        self.name = name
        self.eui64 = bytes(7) + bytes((name,))
        self.pan_id = PAN
        self.short_address = short_address
        self.user = None
        ether.macs[name] = self

    def data(self, destination, msdu, confirm, *, priority=False, secured=True):
        assert len(msdu) <= 400
        ether = self.ether
        ether.log.append((ether.kernel.seconds(), self.name, destination, msdu, secured, priority))
        ether.kernel.callLater(DELAY, self._arrive, destination, msdu, confirm, secured, priority)

    def _arrive(self, destination, msdu, confirm, secured, priority):
        status = MacStatus.SUCCESS if destination == BROADCAST else MacStatus.NO_ACK
        source = self.eui64 if self.short_address == BROADCAST else self.short_address
        for name, mac in self.ether.macs.items():
            if name == self.name or destination not in {BROADCAST, mac.short_address, mac.eui64}:
                continue
            if self.ether.hears(self.name, name, msdu):
                status = MacStatus.SUCCESS
                lqi = self.ether.links[self.name, name]
                indication = MacIndication(source, destination, self.pan_id, msdu, lqi, secured, 0, priority)
                self.ether.kernel.callLater(0, mac.user.mac_data, indication)
        self.ether.kernel.callLater(0, confirm, status)

    def link(self, neighbour):
        for name, mac in self.ether.macs.items():
            if mac.short_address == neighbour and (name, self.name) in self.ether.links:
                reverse = self.ether.links.get((self.name, name))
                return Link(self.ether.links[name, self.name], 0, True, 36, 36, reverse)
        return None
