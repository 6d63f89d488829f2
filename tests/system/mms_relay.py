"""A TCP relay that records what passes, and writes it as a capture file: no privileges needed."""

import contextlib
import socket
import struct
import threading
import time

CLIENT, SERVER = ("127.0.0.2", 40000), ("127.0.0.3", 102)


class Relay:
    """Relays connections to a port of this host; ``chunks`` are (connection, to_server, time, octets)."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.chunks = []
        self._connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                number, self._connections = self._connections, self._connections + 1
                for source, sink, to_server in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, number, to_server), daemon=True
                    ).start()

    def _pump(self, source, sink, number, to_server):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.chunks.append((number, to_server, time.time(), data))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.close()

    def write_pcap(self, path):
        """Write the recording as raw IPv4 packets (link type 101), one TCP stream for each connection."""
        sequence = {}
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101))
            for number, to_server, at, data in list(self.chunks):
                for start in range(0, len(data), 1400):
                    piece = data[start : start + 1400]
                    packet = _packet(number, to_server, sequence, piece)
                    seconds, fraction = divmod(at, 1)
                    file.write(struct.pack("<IIII", int(seconds), int(fraction * 1e6), len(packet), len(packet)))
                    file.write(packet)


def _packet(number, to_server, sequence, piece):
    key, back = (number, to_server), (number, not to_server)
    here, there = sequence.get(key, 1), sequence.get(back, 1)
    sequence[key] = here + len(piece)
    client, server = (CLIENT[0], CLIENT[1] + number), SERVER
    source, sink = (client, server) if to_server else (server, client)
    tcp = struct.pack(">HHIIBBHHH", source[1], sink[1], here, there, 5 << 4, 0x18, 0xFFFF, 0, 0)
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        40 + len(piece),
        0,
        0,
        64,
        6,
        0,
        socket.inet_aton(source[0]),
        socket.inet_aton(sink[0]),
    )
    return ip + tcp + piece
