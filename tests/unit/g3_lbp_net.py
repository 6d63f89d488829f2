"""A PAN in memory for tests of commissioning: MACs and LBP transport without a PHY, in virtual time."""

import random
from collections import deque

from flexmap.g3.bootstrap import Device, State
from flexmap.g3.coordinator import Coordinator
from flexmap.g3.interface import COORDINATOR, Beacon, MacStatus
from flexmap.g3.kernel import VirtualTime
from flexmap.g3.pan import Psks

PSK = bytes.fromhex("00112233445566778899aabbccddeeff")
PAN = 0x781D
HOP = 0.15


def eui(number):
    return bytes.fromhex("781d00fffe") + number.to_bytes(3, "big")


class FakeMac:
    def __init__(self, net, number):
        self.net = net
        self.number = number
        self.eui64 = eui(number)
        self.keys = {}
        self.clear()

    def clear(self):
        self.pan_id = self.short_address = 0xFFFF
        self.keys.clear()
        self.active = None

    reset = clear

    def start(self, pan_id):
        self.pan_id, self.short_address = pan_id, COORDINATOR

    def set_key(self, index, key):
        self.keys[index] = key

    def remove_key(self, index):
        del self.keys[index]

    def activate_key(self, index):
        assert index in self.keys
        self.active = index

    def scan(self, seconds, done):
        beacons = [
            Beacon(other.mac.short_address, other.mac.pan_id, lqi, 0 if number == 0 else 7 * self.net.hops(number))
            for number, lqi in self.net.links[self.number].items()
            if (other := self.net.nodes[number]).mac.short_address != 0xFFFF
        ]
        self.net.time.callLater(seconds, done, beacons)


class FakeNode:
    """A node: its MAC, its LBP transport, and a device or the coordinator on top."""

    def __init__(self, net, number):
        self.net = net
        self.mac = FakeMac(net, number)
        self.user = None
        self.sent = []

    def send_lbp(self, destination, message, confirm):
        self.sent.append((destination, message))
        self.net.carry(self, destination, message, confirm)


class Net:
    """``links``: number → {neighbour: LQI}; node 0 is the coordinator."""

    def __init__(self, pairs, *, seed=1, loss=0.0, coordinator=None, psks=None, devices=None):
        self.time = VirtualTime()
        self.random = random.Random(seed)
        self.loss = loss
        numbers = {0} | {n for pair in pairs for n in pair[:2]}
        self.links = {n: {} for n in numbers}
        for a, b, lqi in pairs:
            self.links[a][b] = self.links[b][a] = lqi
        self.nodes = {n: FakeNode(self, n) for n in sorted(numbers)}
        self.coordinator = self.new_coordinator(psks or Psks(PSK), settings=coordinator)
        self.devices = {}
        for number in sorted(numbers - {0}):
            node = self.nodes[number]
            node.user = Device(node.mac, node, self.time, self.random, PSK, devices)
            self.devices[number] = node.user

    def new_coordinator(self, psks, access=None, settings=None):
        node = self.nodes[0]
        node.user = Coordinator(node.mac, node, self.time, self.random, psks, access, settings)
        return node.user

    def hops(self, number):
        """Hops from the coordinator over nodes that have joined."""
        seen, queue = {0: 0}, deque([0])
        while queue:
            at = queue.popleft()
            for neighbour in self.links[at]:
                if neighbour not in seen and self.nodes[neighbour].mac.short_address != 0xFFFF:
                    seen[neighbour] = seen[at] + 1
                    queue.append(neighbour)
        return seen.get(number)

    def carry(self, node, destination, message, confirm):
        me = node.mac
        joined = me.short_address != 0xFFFF
        routed = joined and isinstance(destination, int)
        target = self.find(me.number, destination, routed)
        hops = (
            1
            if target is None or not routed
            else max(self.hops(target.mac.number) or 1, self.hops(me.number) or 1)
        )
        lost = target is None or self.random.random() < self.loss
        if routed and target is not None and target.mac.keys.get(me.active) != me.keys.get(me.active):
            lost = True  # the target cannot read what is secured with this key
        status = MacStatus.NO_ACK if lost else MacStatus.SUCCESS
        self.time.callLater(HOP, confirm, status)
        if not lost:
            source = me.short_address if joined else me.eui64
            self.time.callLater(HOP * hops, self.arrive, target, source, message, routed)

    def find(self, number, destination, routed):
        if isinstance(destination, bytes):
            return next(
                (self.nodes[n] for n in self.links[number] if self.nodes[n].mac.eui64 == destination), None
            )
        reachable = self.nodes if routed else self.links[number]
        return next((self.nodes[n] for n in reachable if self.nodes[n].mac.short_address == destination), None)

    def arrive(self, target, source, message, secured):
        target.user.lbp_message(source, message, secured=secured)

    def run(self, seconds):
        self.time.run(self.time.seconds() + seconds)

    def start(self):
        self.coordinator.start(PAN)
        for device in self.devices.values():
            device.start()

    def joined(self):
        return [number for number, device in self.devices.items() if device.state is State.JOINED]
