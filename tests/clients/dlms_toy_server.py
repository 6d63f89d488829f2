"""The toy device on real sockets: prints its TCP and UDP port, serves until killed.

Its breaker answers 200 ms after the request, as a meter behind a power line would.
"""

from __future__ import annotations

import sys

from dlms_toy import ToyDevice, toy_server
from twisted.internet import protocol, reactor

from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.classes import REMOTE_RECONNECT
from flexmap.dlms.objects import Pending
from flexmap.dlms.server import Server
from flexmap.dlms.wrapper import WrapperError


class Stream(protocol.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def connectionMade(self) -> None:
        self.connection = self.server.connection(self.transport.write)

    def dataReceived(self, data: bytes) -> None:
        try:
            self.transport.write(self.connection.receive(data))
            while self.connection.backlog:
                self.transport.write(self.connection.receive(b""))
        except WrapperError:
            self.transport.loseConnection()

    def connectionLost(self, reason=None) -> None:
        self.connection.close()


class Datagram(protocol.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self.port = server.datagrams(lambda peer, octets: self.transport.write(octets, peer))

    def datagramReceived(self, datagram: bytes, addr) -> None:
        reply = self.port.receive(addr, datagram)
        if reply:
            self.transport.write(reply, addr)


class SlowBreaker(ToyDevice):
    def on_action(self, class_id, logical_name, method, data, client) -> Pending:
        pending = Pending()

        def answer() -> None:
            self.breaker(closed=method == REMOTE_RECONNECT)
            pending.answer(ActionResult.SUCCESS)

        reactor.callLater(0.2, answer)
        return pending


def main() -> None:
    server, toy = toy_server(on_event=lambda event: print(event, file=sys.stderr))
    server.devices[toy.sap] = SlowBreaker(toy.sap, toy.schema)
    factory = protocol.Factory.forProtocol(lambda: Stream(server))
    tcp = reactor.listenTCP(0, factory, interface="127.0.0.1")
    udp = reactor.listenUDP(0, Datagram(server), interface="127.0.0.1", maxPacketSize=65536)
    print(tcp.getHost().port, udp.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
