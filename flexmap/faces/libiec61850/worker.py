"""The worker process: serves one site on MMS for the core at the other end of descriptor 3.

Two threads: this one reads the bus and writes samples into the model, the other one pumps the library. The pump
thread sends the status, and only while this thread is alive too, so that a hang of either is seen by the core.
The worker ends when the bus ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable

import msgspec

from flexmap.bus import frames
from flexmap.bus.framer import Framer, encode
from flexmap.faces.libiec61850 import ctypes_api, model
from flexmap.faces.libiec61850.control import Controls
from flexmap.faces.libiec61850.server import Server
from flexmap.faces.libiec61850.values import Values, stamp_unmapped
from flexmap.model import Command, ConfigurationError, FlexmapError, Sample
from flexmap.scl import served

BUS_FD = 3
_STATUS_PERIOD = 1.0
_HEARTBEAT_LIMIT = 5.0
"""Seconds that the bus thread may be silent before the status stops."""

_STOP_LIMIT = 3.0


class Bus:
    """The worker's end of the bus: a blocking socket that any thread may send on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(1.0)
        self._lock = threading.Lock()
        self._framer: Framer[frames.ToWorker] = Framer(frames.ToWorker)

    def send(self, frame: msgspec.Struct) -> None:
        """Send a frame; an ended bus is seen by the receiving side."""
        data = encode(frame)
        with self._lock:
            try:
                self._connection.sendall(data)
            except OSError:
                # Half a frame may be out: nothing sensible can follow.
                self._connection.close()

    def log(self, level: str, text: str) -> None:
        """Send a line for the core's log."""
        self.send(frames.Log(level, text))

    def receive(self) -> list[frames.ToWorker] | None:
        """Return the frames that came within a second, None when the bus has ended."""
        try:
            data = self._connection.recv(1 << 18)
        except TimeoutError:
            return []
        except OSError:
            return None
        return list(self._framer.feed(data)) if data else None


class Worker:
    """Takes frames from the core and keeps the server."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._server: Server | None = None
        self._values: Values | None = None
        self._controls: Controls | None = None
        self._heartbeat = time.monotonic()
        self._status_due = 0.0

    def run(self) -> None:
        """Serve until the core says stop or is gone."""
        self._bus.send(frames.Hello(frames.VERSION, os.getpid()))
        while (received := self._bus.receive()) is not None:
            self._heartbeat = time.monotonic()
            for frame in received:
                if isinstance(frame, frames.Stop):
                    return self._stop()
                self._dispatch(frame)
        return self._stop()

    def _dispatch(self, frame: frames.ToWorker) -> None:
        match frame:
            case frames.Samples():
                self._apply(frame.samples)
            case frames.Identity() if self._values is not None:
                self._values.identify(frame.meter, frame.point, frame.text)
            case frames.ResultFrame() if self._controls is not None:
                self._controls.resolve(frame.result)
            case frames.Model():
                try:
                    self._serve(frame)
                except ConfigurationError as error:
                    self._bus.send(frames.Failed(error.what, error.where, error.remedy))
                except FlexmapError as error:
                    self._bus.send(frames.Failed(str(error)))

    def _serve(self, frame: frames.Model) -> None:
        library = ctypes_api.load()
        ied = served.parse(frame.scl, frame.site.ied)
        built = model.build(library, ied)
        server = Server(library, built.pointer, ied, self._tick)
        stamp_unmapped(library, server.pointer, built.devices, _wall_clock())
        values = Values(library, server.pointer, frame.site, built)
        self._controls = Controls(library, self._send_command, values.last, self._bus.log, frame.command_timeout)
        self._controls.install(server.pointer, frame.site, built.devices)
        self._server, self._values = server, values
        self._bus.send(frames.Serving(server.start(frame.host, frame.port)))

    def _send_command(self, command: Command) -> None:
        self._bus.send(frames.CommandFrame(command))

    def _apply(self, samples: Iterable[Sample]) -> None:
        if self._values is None:
            return
        now = time.monotonic()
        for sample in samples:
            self._values.apply(sample, now)
        self._heartbeat = time.monotonic()

    def _tick(self) -> None:
        now = time.monotonic()
        values, server, controls = self._values, self._server, self._controls
        if now < self._status_due or values is None or server is None or controls is None:
            return
        self._status_due = now + _STATUS_PERIOD
        values.tick(now, _wall_clock())
        if now - self._heartbeat < _HEARTBEAT_LIMIT:
            self._bus.send(
                frames.Status(server.clients, values.points, values.samples, values.skipped, controls.count)
            )

    def _stop(self) -> None:
        if self._server is not None:
            # A pump thread that hangs must not keep the process.
            guard = threading.Timer(_STOP_LIMIT, os._exit, [1])
            guard.daemon = True
            guard.start()
            self._server.stop()


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """Run the worker on the socket that the core left at descriptor 3."""
    # Ctrl-C in a terminal reaches the whole process group; when to end is the core's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 1
    try:
        Worker(Bus(socket.socket(fileno=BUS_FD))).run()
        code = 0
    except Exception:  # noqa: BLE001 - the core logs it and starts another worker
        traceback.print_exc()
    # The library's threads and the interpreter's end get in each other's way; there is nothing left to save.
    sys.stderr.flush()
    os._exit(code)
