"""Child processes of the core: what they print is logged; one that ends is started again, later and later."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the first, second … restart in a row."""
STEADY = 60.0
"""Seconds of serving after which a restart counts as the first one again."""


class Restarts:
    """Starts a process again that has ended: the first time at once, then with a growing delay."""

    def __init__(self, reactor: Any, spawn: Callable[[], object]) -> None:
        self._reactor = reactor
        self._spawn = spawn
        self._call: DelayedCall | None = None
        self.count = 0
        self.in_a_row = 0
        """Restarts since the process last served for long."""

    def again(self, served_for: float) -> float:
        """Start it again; return after how many seconds. ``served_for``: how many seconds it has served."""
        if served_for > STEADY:
            self.in_a_row = 0
        delay = DELAYS[min(self.in_a_row, len(DELAYS) - 1)]
        self.in_a_row += 1
        self.count += 1
        self._call = self._reactor.callLater(delay, self._spawn)
        return delay

    def stop(self) -> None:
        """Start it no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


class Child(ProcessProtocol):
    """One child process, in Python: its standard output and error go to the log, a watchdog kills it."""

    def __init__(self, reactor: Any, name: str, log: Logger) -> None:
        """Set up; ``name`` stands before its pid in the log."""
        self._reactor = reactor
        self._name = name
        self._log = log
        self._reason = ""
        self._rest: dict[int, bytes] = {}
        """What has come of a line whose end has not, by descriptor."""
        self._watchdog: DelayedCall | None = None
        self._serving_since: float | None = None
        self.pid = 0

    def spawn(self, arguments: Sequence[str], descriptors: Mapping[int, int | str], limit: float) -> None:
        """Start ``python arguments``; ``descriptors`` as Twisted's childFDs; it has ``limit`` seconds to serve."""
        program = [sys.executable, *arguments]
        environment = dict(os.environ)
        self._process = self._reactor.spawnProcess(
            self, sys.executable, program, env=environment, childFDs=dict(descriptors)
        )
        self.pid = int(self._process.pid)
        self.watch(limit, "not serving in time")

    @property
    def serving(self) -> bool:
        """Whether it serves."""
        return self._serving_since is not None

    def served(self) -> None:
        """Take note that it serves from now on."""
        self._serving_since = self._reactor.seconds()

    def served_for(self) -> float:
        """Return for how many seconds it has served."""
        return 0.0 if self._serving_since is None else self._reactor.seconds() - self._serving_since

    def watch(self, limit: float, reason: str) -> None:
        """Kill it after ``limit`` seconds, unless told otherwise before."""
        self.unwatch()
        self._watchdog = self._reactor.callLater(limit, self.kill, reason)

    def unwatch(self) -> bool:
        """Let it live; return whether it was watched."""
        watched = self._watchdog is not None and self._watchdog.active()
        if watched and self._watchdog is not None:
            self._watchdog.cancel()
        return watched

    def terminate(self, limit: float) -> None:
        """Ask it to end (SIGTERM), and see that it does."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("TERM")
        self.watch(limit, "did not stop in time")

    def kill(self, reason: str) -> None:
        """End it now."""
        self._reason = reason
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def ended(self, reason: str) -> None:
        """Take note that it has ended, and why."""

    def said(self, line: str) -> None:
        """Take a line of its standard output."""
        self._log.info("{name} {pid}: {line}", name=self._name, pid=self.pid, line=line)

    def complained(self, line: str) -> None:
        """Take a line of its standard error."""
        self._log.warn("{name} {pid}: {line}", name=self._name, pid=self.pid, line=line)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        """Take what it prints (descriptor 1) or complains about (2), line by line."""
        *lines, self._rest[childFD] = (self._rest.get(childFD, b"") + data).split(b"\n")
        for line in lines:
            self._line(childFD, line)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """Tell whoever wants to know."""
        for descriptor, rest in self._rest.items():
            self._line(descriptor, rest)
        self.unwatch()
        how = "exit" if isinstance(reason.value, ProcessDone) else str(reason.value)
        self.ended(f"{self._reason}: {how}" if self._reason else how)

    def _line(self, descriptor: int, line: bytes) -> None:
        if line:
            text = line.decode(errors="replace")
            (self.said if descriptor == 1 else self.complained)(text)
