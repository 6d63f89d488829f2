"""Executes scripts when they are due, and once what was due while flexmap stood still."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

from flexmap.dlms.scripts import ScriptName
from flexmap.faces.dlms.pushing import Keeper
from flexmap.model import LocalError

log = Logger(namespace="flexmap.dlms")

_LONGEST_WAIT = 3600
"""Seconds until the clock is looked at again: it may be set meanwhile."""
_LOOK_BACK = 40 * 86_400
"""Seconds for which what was missed is made up for."""

Due = tuple[int, ScriptName]
"""Second since 1970, script."""


class Runner:
    """Follows ``executions``: what is due with after < second ≤ upto; ``clock`` is a reactor."""

    def __init__(
        self,
        meter: str,
        name: str,
        executions: Callable[[int, int], Iterable[Due]],
        execute: Callable[[ScriptName], object],
        *,
        keeper: Keeper,
        clock: Any,
    ) -> None:
        self._meter, self._name = meter, f"{name}-since"
        self._executions, self._execute = executions, execute
        self._keeper, self._clock = keeper, clock
        self._since = 0
        self._call: Any = None

    def begin(self) -> None:
        """Follow from what has been executed last on; raises LocalError."""
        octets = self._keeper.read(self._meter, self._name)
        now = int(self._clock.seconds())
        self._since = now if octets is None else max(int.from_bytes(octets, "big"), now - _LOOK_BACK)
        self._look()

    def stop(self) -> None:
        """Follow no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def restart(self) -> None:
        """Follow from now on: what is due has been changed."""
        if self._call is not None:
            self.stop()
            self._keep(int(self._clock.seconds()))
            self._wait()

    def _look(self) -> None:
        now = int(self._clock.seconds())
        due = {script: at for at, script in self._executions(self._since, now)} if now > self._since else {}
        if not due:
            self._since = max(self._since, now)
        elif self._keep(now):
            for table, script in due:
                log.info("{meter}: script {script} is due", meter=self._meter, script=script)
                self._execute((table, script))
        self._wait()

    def _wait(self) -> None:
        now = int(self._clock.seconds())
        first = next(iter(self._executions(now, now + _LONGEST_WAIT)), None)
        at = now + _LONGEST_WAIT if first is None else first[0]
        self._call = self._clock.callLater(max(at - self._clock.seconds(), 0), self._look)

    def _keep(self, now: int) -> bool:
        try:
            self._keeper.keep(self._meter, self._name, now.to_bytes(8, "big"))
        except LocalError as error:
            log.warn("{error}", error=str(error))
            return False
        self._since = now
        return True
