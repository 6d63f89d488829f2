"""A concentrator as a supervised child process: `flexmap concentrator` beside the core.

It ends with this process, however that ends. One that ends by itself is started again, the first time at once,
then with a growing delay; its shells come back under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from flexmap.bus.process import Child, Restarts
from flexmap.model import LocalError

log = Logger(namespace="flexmap.concentrator")

READY = "shell: "
"""What a concentrator says on standard output once its shell is there."""
START_LIMIT = 300.0
"""Seconds that it may take until then: it simulates what has happened since it last ran."""
STOP_LIMIT = 10.0
_PROGRAM = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the core, which then ends this process
from flexmap.cli.main import main
main()
"""


class AttachedConcentrator:
    """`flexmap concentrator` with shells on pseudo-terminals, kept running until :meth:`stop`."""

    def __init__(self, shells: Sequence[Path], flags: Sequence[str], reactor: Any = global_reactor) -> None:
        """Set up; ``shells`` are the names of the pseudo-terminals, ``flags`` are those of the command line."""
        self._reactor = reactor
        self._shells = shells
        ports = [f"--port=pty:{shell}" for shell in shells]
        self._arguments = ["-c", _PROGRAM, "concentrator", "--attached", *ports, *flags]
        self._child: _Concentrator | None = None
        self._restarts = Restarts(self._reactor, self._spawn)
        self._started: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self.said: list[str] = []
        """What it said at its first start, before its shell was there."""

    def start(self) -> Deferred[None]:
        """Start it; fires when its shells are there, fails with LocalError if it ends before."""
        self._started = Deferred()
        self._spawn()
        return self._started

    def stop(self) -> Deferred[None]:
        """Stop it; fires when its process has ended."""
        self._started = None
        self._restarts.stop()
        if self._child is None:
            return succeed(None)
        self._stopping = Deferred()
        self._child.terminate(STOP_LIMIT)
        return self._stopping

    def _spawn(self) -> None:
        self._child = _Concentrator(self, self._reactor, self._arguments)

    def serving(self, child: _Concentrator) -> None:
        """Take note that the shell is there."""
        started, self._started = self._started, None
        if started is not None:
            self.said = child.lines
            started.callback(None)

    def ended(self, child: _Concentrator, reason: str) -> None:
        """Restart a concentrator that ended without being told to."""
        self._child = None
        for shell in self._shells:
            shell.unlink(missing_ok=True)  # dangling, it would soon lead to somebody else's terminal
        started, self._started = self._started, None
        if self._stopping is not None:
            self._stopping.callback(None)
        elif started is not None:
            started.errback(LocalError(f"the concentrator does not start: {child.error or reason}"))
        else:
            delay = self._restarts.again(child.served_for())
            log.error(
                "concentrator {pid} ended: {reason}; restart in {delay} s",
                pid=child.pid,
                reason=child.error or reason,
                delay=delay,
            )


class _Concentrator(Child):
    """One process."""

    def __init__(self, owner: AttachedConcentrator, reactor: Any, arguments: Sequence[str]) -> None:
        super().__init__(reactor, "concentrator", log)
        self._owner = owner
        self.lines: list[str] = []
        """What it has said before its shell was there."""
        self.error = ""
        """The last thing that it could not do."""
        self.spawn(arguments, {0: "w", 1: "r", 2: "r"}, START_LIMIT)

    def said(self, line: str) -> None:
        """Wait for the line that its shell is there."""
        super().said(line)
        if line.startswith(READY):
            self.unwatch()
            self.served()
            self._owner.serving(self)
        else:
            self.lines.append(line)

    def complained(self, line: str) -> None:
        """Log it; the error that ends it is told by whoever started it."""
        if line.startswith("error: "):
            self.error = line.removeprefix("error: ")
        else:
            super().complained(line)

    def ended(self, reason: str) -> None:
        """Tell the owner."""
        self._owner.ended(self, reason)
