"""Breaker commands on their way to meters, each of which is answered once."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from flexmap.model import Command, CommandResult, RemoteError
from flexmap.model.sample import BREAKER, CONTROL_MODE
from flexmap.sources.concentrator.link import Link, Reply, ShellError
from flexmap.sources.interface import Clock
from flexmap.stcomet.mnsh import ErrorCode

COMMAND_SECONDS = 6
"""How long a command is valid: whoever gave it has no answer two seconds later, and must not be surprised then."""
NOT_ANSWERED = "time-limit-over"
"""Cause of a command that the concentrator has given up; the AddCause of that name on MMS."""
LOOK_AFTER = 1.0
"""Seconds after a command's answer: by then there is a record that shows what it has done."""


class Commands:
    """Commands that are under way; ``look`` is called with a meter when a command may have changed it."""

    def __init__(self, clock: Clock, look: Callable[[str], object]) -> None:
        self._clock = clock
        self._look = look
        self._under_way: dict[int, Deferred[CommandResult]] = {}

    def stop(self) -> None:
        """Refuse those that are under way."""
        under_way, self._under_way = self._under_way, {}
        for number, answer in under_way.items():
            answer.callback(CommandResult(number, False, "the source stops"))

    def give(
        self, command: Command, link: Link | None, name: str | None, ahead: float = 0.0
    ) -> Deferred[CommandResult]:
        """Pass a command to the meter that the concentrator knows by a name; fires when the meter has answered.

        Its clock is ``ahead`` seconds ahead of this one.
        """
        cause = ""
        if link is None:
            cause = "there is no line to the concentrator"
        elif name is None:
            cause = f"meter '{command.meter}' is not in the PAN"
        elif command.point not in (BREAKER, CONTROL_MODE):
            cause = f"meter '{command.meter}' takes no commands for '{command.point}'"
        if cause or link is None or name is None:
            return succeed(CommandResult(command.id, False, cause))
        answer: Deferred[CommandResult] = Deferred()
        self._under_way[command.id] = answer
        until = int(self._clock.seconds() + ahead) + COMMAND_SECONDS
        if command.point == CONTROL_MODE:
            asked = link.ask("APP CONTROL_MODE", name, int(command.value), until)
        else:
            asked = link.ask("APP BREAKER", name, command.value + 2 * command.local, until)
        asked.addCallbacks(_no_cause, _cause).addCallback(self._answered, command)
        return answer

    def _answered(self, cause: str, command: Command) -> None:
        answer = self._under_way.pop(command.id, None)
        if answer is not None:
            answer.callback(CommandResult(command.id, not cause, cause))
        self._clock.callLater(LOOK_AFTER, self._look, command.meter)


def _no_cause(_reply: Reply) -> str:
    return ""


def _cause(failure: Failure) -> str:
    failure.trap(RemoteError)
    error = failure.value
    if isinstance(error, ShellError) and error.code == ErrorCode.SILENT:
        return NOT_ANSWERED
    return str(error)
