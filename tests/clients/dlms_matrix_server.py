"""The toy device for clients of every mechanism and suite behind every kind of port.

Usage: dlms_matrix_server.py FOLDER. Prints the ports as JSON: of HDLC, of the wrapper over TCP, over UDP. In the
folder are the pseudo-terminals ``direct`` (HDLC at once) and ``optical`` (mode E first).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from dlms_line_server import LOOPBACK
from dlms_secure import all_clients, identity
from dlms_toy import toy_server
from twisted.internet import reactor

from flexmap.faces.dlms.ports import HdlcPort, Ports, SerialPort, WrapperPort
from flexmap.faces.throttle import Throttle


def main() -> None:
    folder = Path(sys.argv[1])
    server, _ = toy_server(on_event=lambda event: print(event, file=sys.stderr), now=time.time)
    server.clients.clear()
    server.clients.update(all_clients())
    server.setups.identity = identity()
    settings = [
        HdlcPort(**LOOPBACK),
        WrapperPort(**LOOPBACK, udp=False),
        WrapperPort(**LOOPBACK, tcp=False),
        SerialPort(path=str(folder / "direct"), made=True),
        SerialPort(path=str(folder / "optical"), made=True, mode_e=True, maker="FLX"),
    ]
    ports = Ports(reactor, settings, idle_timeout=600, max_connections=5000, max_connections_per_address=5000)
    ports.open(server, Throttle(reactor))
    numbers = [int(address.split()[0].rpartition(":")[2]) for address in ports.addresses[:3]]
    print(json.dumps(numbers), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
