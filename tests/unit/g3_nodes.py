"""Nodes for tests of G3-PLC: MACs on a line in virtual time, and what they were given."""

import random

from flexmap.g3.interface import MacIndication, MacStatus, SecurityFailure
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line, LineModel
from flexmap.g3.mac import Mac
from flexmap.g3.medium import Medium
from flexmap.g3.phy import CENELEC_A

PAN = 0x781D
KEY = bytes(range(16))


class Node:
    """A MAC and what it told its user."""

    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        mac.user = self
        self.got: list[MacIndication] = []
        self.confirmed: list[MacStatus] = []
        self.insecure: list[SecurityFailure] = []
        self.rc_coord: int | None = 0x7FFF

    def mac_data(self, indication):
        self.got.append(indication)

    def mac_beacon_request(self):
        return self.rc_coord

    def mac_security_failure(self, source, failure):
        self.insecure.append(failure)

    def send(self, destination, msdu, **how):
        self.mac.data(destination, msdu, self.confirmed.append, **how)


def network(places, *, band=CENELEC_A, seed=1, model=None, keys=True):
    """A line with a joined node at each place, short addresses 0, 1, 2 …"""
    source = random.Random(seed)
    medium = Medium(VirtualTime(), source, band, Line(model or LineModel()))
    nodes = []
    for number, place in enumerate(places):
        node = Node(Mac(medium, number.to_bytes(8, "big"), source, place=place))
        if number == 0:
            node.mac.start(PAN)
            node.rc_coord = 0
        else:
            node.mac.pan_id, node.mac.short_address = PAN, number
        if keys:
            node.mac.set_key(0, KEY)
        nodes.append(node)
    return medium, nodes
