"""Head-ends at a core in virtual time: Gurux's client on a real socket, the DLMS face as the gateway has it."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

from remote import Remote

from flexmap.dlms.acse import Mechanism
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.security import Keys
from flexmap.faces.dlms.face import DlmsFace, DlmsSettings
from flexmap.faces.dlms.updates import Updates
from flexmap.gateway.firmware import FirmwareDesk
from flexmap.store.files import MeterFiles

GUEK, GAK = bytes(range(16)), bytes(range(0xD0, 0xE0))
CLIENTS = tuple(
    ClientProfile(sap=sap, name=role.name.lower(), role=role, mechanism=Mechanism.HLS_GMAC, keys=Keys(GUEK, GAK))
    for sap, role in ((1, Role.MANAGEMENT), (2, Role.READER))
)
_titles = (b"HES" + number.to_bytes(5, "big") for number in count(1))


class Front:
    """The DLMS face of a core. While a client's call runs, the socket is served; virtual time stands still."""

    def __init__(self, core, site):
        files = MeterFiles(core.folder / "meters")
        self.desk = FirmwareDesk(core.gateway, site, files)
        settings = DlmsSettings(ports=(), system_title=b"FMX00001", clients=CLIENTS)
        self.face = DlmsFace(
            core.reactor,
            site,
            settings,
            store=core.store,
            on_command=core.gateway.command,
            updates=Updates(self.desk, files),
        )
        core.gateway.add_face(self.face)
        self.face.start()
        self.desk.resume()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._pool = ThreadPoolExecutor(1)

    def connect(self, script, meter, client=1):
        """Associate with a meter; returns what calls the session's methods."""
        port = self._listening.getsockname()[1]
        settings = {"client_sap": client, "server_sap": meter.sap, "keys": (GUEK, GAK), "title": next(_titles)}
        made = self._pool.submit(Remote, script, "127.0.0.1", port, **settings)
        self._stream, _ = self._listening.accept()
        self._stream.settimeout(0.002)
        self._connection = self.face.server.connection(deliver=self._stream.sendall)
        return Caller(self, self._serve(made))

    def call(self, method, *args):
        return self._serve(self._pool.submit(method, *args))

    def _serve(self, future):
        while not future.done():
            try:
                octets = self._stream.recv(65536)
            except TimeoutError:
                continue
            if octets:
                self._stream.sendall(self._connection.receive(octets))
        return future.result()

    def close(self):
        self._listening.close()
        self._pool.shutdown()


class Caller:
    """A session of a client library."""

    def __init__(self, front, remote):
        self._front, self.remote = front, remote

    def __getattr__(self, name):
        return lambda *args, **named: self._front.call(partial(getattr(self.remote, name), *args, **named))

    def end(self):
        self.remote.end()
