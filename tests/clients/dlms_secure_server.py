"""The toy device for clients of every mechanism and suite, on a real socket: prints its port, then serves."""

from __future__ import annotations

import sys
import time

from dlms_secure import all_clients, identity
from dlms_toy import toy_server
from dlms_toy_server import Stream
from twisted.internet import protocol, reactor


def main() -> None:
    server, _ = toy_server(on_event=lambda event: print(event, file=sys.stderr), now=time.time)
    server.clients.clear()
    server.clients.update(all_clients())
    server.setups.identity = identity()
    factory = protocol.Factory.forProtocol(lambda: Stream(server))
    print(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
