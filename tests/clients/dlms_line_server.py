"""The toy device behind every kind of port; prints them as JSON, serves until killed.

Usage: dlms_line_server.py FOLDER [SERIAL-DEVICE]. In the folder two pseudo-terminals are made: ``direct`` (HDLC at
once) and ``optical`` (mode E first); a serial device given is an optical port too. The breaker answers after
200 ms, as a meter behind a power line would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dlms_toy import toy_server
from dlms_toy_server import SlowBreaker
from twisted.internet import reactor

from flexmap.faces.dlms.ports import HdlcPort, Ports, SerialPort, WrapperPort
from flexmap.faces.throttle import Throttle

LOOPBACK = {"host": "127.0.0.1", "port": 0}


def main() -> None:
    folder, *device = sys.argv[1:]
    server, toy = toy_server(on_event=lambda event: print(event, file=sys.stderr))
    slow = SlowBreaker(toy.sap, toy.schema)
    server.devices[toy.sap] = slow
    settings = [
        HdlcPort(**LOOPBACK),
        WrapperPort(**LOOPBACK),
        WrapperPort(**LOOPBACK, tcp=False),
        SerialPort(path=str(Path(folder) / "direct"), made=True),
        SerialPort(path=str(Path(folder) / "optical"), made=True, mode_e=True, maker="FLX"),
        *(SerialPort(path=path, mode_e=True, maker="FLX", speed=4800) for path in device),
    ]
    ports = Ports(reactor, settings, idle_timeout=60, max_connections=50, max_connections_per_address=40)
    ports.open(server, Throttle(reactor))
    numbers = [int(address.split()[0].rpartition(":")[2]) for address in ports.addresses[:3]]
    print(json.dumps(numbers), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
