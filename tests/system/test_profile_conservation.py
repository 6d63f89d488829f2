"""Two head-ends read the minutes of 99 meters in blocks: samples arrive, connections drop, the gateway is killed.

Every row comes exactly once and complete, and what was read bit by bit is what stands there in the end.
"""

import contextlib
import random
import socket
import sqlite3
import threading
import time

import gurux_client
import msgspec
from gateway_harness import free_ports, gateway
from remote import RemoteFailure

from flexmap.dlms import cosem_time

PROFILE_2 = "1.0.99.2.0.255"
HISTORY = 240
"""Rows of each meter that are there from before."""
FIRST_SAP, METERS = 1000, 99
INCOMPLETE = 16
READER = {"client_sap": 18, "secret": b"flexmap-demo", "max_pdu": 512}
FILL = """
WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < ?)
INSERT OR REPLACE INTO profile_2 SELECT ?, (? + n * 60) * 1000, 0, 0, ?, ? FROM step
"""


class Relay:
    """Passes connections on to a port, and cuts many of them after some octets, in both directions at once."""

    def __init__(self, port, seed):
        self._target = port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = 0
        self.cutting = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                most = self._random.randrange(2000, 60_000) if self.cutting else 1 << 40
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    client.close()
                    continue
                pair = (client, server)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self._pump, args=(source, sink, most), daemon=True).start()

    def _pump(self, source, sink, most):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                sink.sendall(data[:most])
                most -= len(data)
                if most <= 0:
                    self.cut += 1
                    break
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()


class HeadEnd(threading.Thread):
    """Reads what is new of its meters, one after the other; what did not come whole is asked for again."""

    def __init__(self, relay, saps, begin):
        super().__init__(daemon=True)
        self.rows = {sap: [] for sap in saps}
        self.failures = self.rounds = 0
        self.error = None
        self.done = threading.Event()
        self._relay = relay
        self._begin = begin
        self._client = None

    def run(self):
        try:
            while not self.done.is_set():
                for sap, rows in self.rows.items():
                    rows.extend(self.read(sap, rows[-1][0] + 60 if rows else self._begin))
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            self.error = error

    def read(self, sap, start):
        """Rows from a second on, as (time, status, energies …)."""
        while True:
            try:
                if self._client is None:
                    self._client = gurux_client.connect("127.0.0.1", self._relay.port, server_sap=sap, **READER)
                else:
                    self._client.again("127.0.0.1", self._relay.port, server_sap=sap, **READER)
                found = self._client.rows_by_range(PROFILE_2, start, int(time.time()))
                return [(cosem_time.to_epoch_ms(row[0]) // 1000, *row[1:]) for row in found or ()]
            except RemoteFailure:
                self.failures += 1
                time.sleep(0.2)

    def end(self):
        if self._client is not None:
            self._client.end()


def fill(path, begin):
    """Put rows of hours before into load profile 2 of all meters."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        meters = [row for (row,) in raw.execute("SELECT id FROM meter WHERE name != ''")]
        assert len(meters) == METERS
        for layout, points in raw.execute("SELECT id, points FROM layout").fetchall():
            if len(msgspec.json.decode(points)) == 4:
                data = msgspec.msgpack.encode((1, 2, 3, 4))
                for meter in meters:
                    raw.execute(FILL, (HISTORY, meter, begin, layout, data))
        raw.commit()


def test_every_row_exactly_once(tmp_path):
    ports = free_ports(3)
    with gateway(tmp_path, meters=METERS - 1, ports=ports) as first:
        first.wait_read(120)
        began = time.time() // 60
        first.stop()
    begin = int(time.time()) // 60 * 60 - (HISTORY + 5) * 60
    fill(tmp_path / "flexmap.sqlite", begin)
    relay = Relay(ports[1], 7)
    saps = range(FIRST_SAP, FIRST_SAP + METERS)
    head_ends = [HeadEnd(relay, saps[part::2], begin) for part in (0, 1)]
    try:
        with gateway(tmp_path, meters=METERS - 1, ports=ports) as running:
            for each in head_ends:
                each.start()
            wait_for(lambda: sum(len(rows) for each in head_ends for rows in each.rows.values()) > 20 * HISTORY)
            running.kill()
        with gateway(tmp_path, meters=METERS - 1, ports=ports) as running:
            rounds = [each.rounds for each in head_ends]
            wait_for(lambda: all(each.rounds > before for each, before in zip(head_ends, rounds, strict=True)))
            # In the middle of a minute, so that its row is of samples from before and after, and of a whole one.
            wait_for(lambda: time.time() // 60 > began and 20 < time.time() % 60 < 40)
            running.kill()
        with gateway(tmp_path, meters=METERS - 1, ports=ports):
            newest = int(time.time()) // 60 * 60 + 60
            wait_for(lambda: time.time() > newest + 10)
            for each in head_ends:
                each.done.set()
                each.join(180)
                assert not each.is_alive()
                assert each.error is None
            relay.cutting = False
            last = HeadEnd(relay, saps, begin)
            for each in head_ends:
                for sap, rows in each.rows.items():
                    rows.extend(each.read(sap, rows[-1][0] + 60))
                    assert rows[: len(rows)] == last.read(sap, begin)[: len(rows)], sap
            last.end()
    finally:
        relay.close()
        for each in head_ends:
            each.done.set()
            each.end()
    assert relay.cut > 5
    assert sum(each.failures for each in head_ends) > 5
    for each in head_ends:
        for sap, rows in each.rows.items():
            times = [row[0] for row in rows]
            assert len(times) == len(set(times)), sap
            assert times[:HISTORY] == list(range(begin + 60, begin + 60 * HISTORY + 1, 60))
            lived = [row for row in rows[HISTORY:] if row[0] > started(rows)]
            assert times[-1] >= newest, sap
            assert [row[0] for row in lived] == list(range(lived[0][0], newest + 60 * len(lived), 60))[
                : len(lived)
            ]
            assert not [row for row in lived if row[1] & INCOMPLETE], sap
            imported = [row[2] for row in lived]
            assert imported == sorted(imported)


def started(rows):
    """Time of the row in which the meter was first read: it may have begun in its middle."""
    return rows[HISTORY][0]


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
