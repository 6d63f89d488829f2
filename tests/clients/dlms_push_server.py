"""The toy device with a push setup, on real sockets: prints its TCP port, serves until killed.

Arguments: folder of its state, class 40's version, transport (0 TCP, 1 UDP, 5 HDLC), the head-end's port, whether
notifications are ciphered, seconds between two pushes (0: on request).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dlms_toy import CLIENT_TITLE, ENERGY, KEYS, MISSING, SAP, SERIAL, TITLE, ToyDevice, toy_clients, toy_schema
from dlms_toy_server import Stream
from twisted.internet import protocol, reactor

from flexmap.dlms import classes
from flexmap.dlms.objects import Schema
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.push_setup import PUSH_SETUP, PUSH_SETUP_LN, Destination, PushSetup, push_setup
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, MemoryCounterStore
from flexmap.dlms.selection import CaptureObject
from flexmap.dlms.server import Server
from flexmap.faces.dlms.push import Post
from flexmap.faces.dlms.pushing import PushObject, PushSettings, Way
from flexmap.faces.throttle import Throttle

HEAD_END = 5
OBJECTS = (
    CaptureObject(PUSH_SETUP, PUSH_SETUP_LN, 1),
    CaptureObject(1, SERIAL, 2),
    CaptureObject(8, classes.CLOCK_LN, 2),
    CaptureObject(3, ENERGY, 2),
    CaptureObject(3, MISSING, 2),
)


class Keeper:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, meter: str, name: str) -> bytes | None:
        path = self.folder / f"{meter}.{name}"
        return path.read_bytes() if path.exists() else None

    def keep(self, meter: str, name: str, octets: bytes) -> None:
        (self.folder / f"{meter}.{name}").write_bytes(octets)


class PushingToy(ToyDevice):
    __slots__ = ("push",)

    def on_set(self, class_id, logical_name, attribute, data, client):
        if class_id == PUSH_SETUP:
            return self.push.write(attribute, data)
        return super().on_set(class_id, logical_name, attribute, data, client)

    def on_action(self, class_id, logical_name, method, data, client):
        if class_id == PUSH_SETUP:
            return self.push.act(method, data, client)
        return super().on_action(class_id, logical_name, method, data, client)


def make(reactor, folder, *, version, transport, port, ciphered, interval, **changes):
    """Return server, device and push setup."""
    setup = PushSetup(
        objects=OBJECTS, destination=Destination(transport, "127.0.0.1", port), retries=100, delay=1, **changes
    )
    settings = PushSettings(setup=setup, client=HEAD_END, version=version, interval=interval)
    device = PushingToy(SAP, Schema([*toy_schema().objects, push_setup(version, HEAD_END)]))
    policy = AUTHENTICATED_ENCRYPTED if ciphered else 0
    head_end = ClientProfile(
        sap=HEAD_END, name="head-end", role=Role.READER, keys=KEYS, policy=policy, system_title=CLIENT_TITLE
    )
    clients = {**toy_clients(), HEAD_END: head_end}
    server = Server({SAP: device}, clients, title=TITLE, counters=MemoryCounterStore(), random=os.urandom)
    post = Post(reactor, Throttle(reactor))
    device.push = PushObject("M1", device, settings, Way(reactor, server, post, Keeper(folder)))
    for attribute, value in device.push.slots().items():
        device.put(PUSH_SETUP, PUSH_SETUP_LN, attribute, value)
    return server, device, post


def main(*arguments: str) -> None:
    folder, version, transport, port, ciphered, interval = arguments
    server, device, _ = make(
        reactor,
        Path(folder),
        version=int(version),
        transport=int(transport),
        port=int(port),
        ciphered=ciphered == "1",
        interval=float(interval),
    )
    factory = protocol.Factory()
    factory.buildProtocol = lambda _: Stream(server)
    tcp = reactor.listenTCP(0, factory, interface="127.0.0.1")
    reactor.callWhenRunning(device.push.begin)
    print(tcp.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
