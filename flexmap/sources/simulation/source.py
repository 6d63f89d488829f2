"""Runs the model on a reactor: one sample a meter and second, commands answered after the meter's own delay."""

from __future__ import annotations

import math

from msgspec import structs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from flexmap.model import Command, CommandResult, Event, EventCode, EventLog, LocalError
from flexmap.model.breaker import trigger
from flexmap.model.sample import BREAKER, CONTROL_MODE
from flexmap.sources.interface import Clock, DelayedCall, Sink
from flexmap.sources.simulation.noise import generator
from flexmap.sources.simulation.site import SiteModel

_log = Logger()

CATCH_UP = 5
"""Seconds made at most in one turn of the reactor when the model is behind."""
LONGEST_STALL = 3600
"""Up to so many seconds behind, the model makes up for them; behind by more, the clock was set, or the meters
were without power while the program stood still."""


class SimulationSource:
    """A source whose meters are simulated in this process (implements flexmap.sources.interface.Source)."""

    def __init__(self, name: str, model: SiteModel, clock: Clock, *, seed: int = 1) -> None:
        self.name = name
        self._model = model
        self._clock = clock
        self._delays = generator(seed, name, "command delay")
        self._sink: Sink | None = None
        self._next = 0
        self._tick_call: DelayedCall | None = None
        self._moving: dict[str, tuple[Command, Deferred[CommandResult], DelayedCall]] = {}
        self._moved: list[tuple[Command, Deferred[CommandResult]]] = []
        self._ahead: dict[str, int] = {}
        """Milliseconds that head-ends have set clocks ahead of this one."""

    def start(self, sink: Sink) -> None:
        """Deliver the present second at once, then each second on the second.

        Meters go on measuring while nobody reads them: after a short stop of the program the seconds since the
        last samples are delivered first, as back-fill.
        """
        self._sink = sink
        now = math.floor(self._clock.seconds())
        resume = self._model.resume_second
        self._next = resume if resume is not None and 0 <= now - resume <= LONGEST_STALL else now
        self._tick()

    def stop(self) -> Deferred[None]:
        """Stop; commands on their way are refused."""
        self._sink = None
        if self._tick_call is not None:
            self._tick_call.cancel()
            self._tick_call = None
        waiting = [(command, answer) for command, answer, _ in self._moving.values()]
        for _, _, call in self._moving.values():
            call.cancel()
        self._moving.clear()
        waiting += self._moved
        self._moved = []
        for command, answer in waiting:
            answer.callback(_refused(command, "the source stops"))
        return succeed(None)

    def command(self, command: Command) -> Deferred[CommandResult]:
        """Move a breaker. The answer comes after the sample that shows the new position."""
        model = self._model.meters.get(command.meter)
        cause = ""
        if self._sink is None:
            cause = "the source is stopped"
        elif model is None:
            cause = f"meter '{command.meter}' is not simulated here"
        elif command.point not in (BREAKER, CONTROL_MODE) or not model.has_breaker:
            cause = f"meter '{command.meter}' takes no commands for '{command.point}'"
        elif command.meter in self._moving:
            cause = "the meter is still busy with another command"
        if cause:
            return succeed(_refused(command, cause))
        answer: Deferred[CommandResult] = Deferred()
        call = self._clock.callLater(self._delays.uniform(0.15, 0.6), self._move, command)
        self._moving[command.meter] = (command, answer, call)
        return answer

    def keep_clock(self, meter: str, ahead: int) -> None:
        """Keep a meter's clock so many ms ahead of this one; called before ``start``."""
        self._ahead[meter] = ahead
        self._model.clock_was_ahead(meter, self._shift(meter))

    def set_clock(self, meter: str, ahead: int) -> Deferred[str]:
        """Set a meter's clock so many ms ahead of this one: at once, its samples follow by whole seconds."""
        if self._sink is None:
            return succeed("the source is stopped")
        now, before = int(self._clock.seconds() * 1000), self._ahead.get(meter, 0)
        self._ahead[meter] = ahead
        if ahead != before:
            for time, code in (
                (now + before, EventCode.CLOCK_ADJUSTED_OLD),
                (now + ahead, EventCode.CLOCK_ADJUSTED_NEW),
            ):
                self._sink.event(Event(meter, time, EventLog.STANDARD, code))
        return succeed("")

    def _shift(self, meter: str) -> int:
        """Return the whole seconds that a meter's clock is ahead of this one."""
        return round(self._ahead.get(meter, 0) / 1000)

    def _move(self, command: Command) -> None:
        _, answer, _ = self._moving.pop(command.meter)
        now = int(self._clock.seconds() * 1000)
        try:
            if command.point == CONTROL_MODE:
                changed = self._model.meters[command.meter].set_mode(int(command.value), now)
            else:
                what = trigger(close=bool(command.value), local=command.local)
                changed = self._model.operate(command.meter, what, now)
        except LocalError as error:
            answer.callback(_refused(command, str(error)))
            return
        if changed:
            self._moved.append((command, answer))
            self._deliver_events()
        else:
            answer.callback(CommandResult(command.id, True))

    def _tick(self) -> None:
        self._tick_call = None
        now = self._clock.seconds()
        self._follow_clock(math.floor(now))
        for _ in range(CATCH_UP):
            if self._sink is None or self._next > now:
                break
            self._second()
        if self._sink is not None:
            wait = max(self._next - self._clock.seconds(), 0.0)
            self._tick_call = self._clock.callLater(min(wait, 1.0), self._tick)

    def _second(self) -> None:
        samples = self._model.step(self._next)
        if self._ahead:
            samples = [structs.replace(each, time=each.time + 1000 * self._shift(each.meter)) for each in samples]
        self._next += 1
        moved, self._moved = self._moved, []
        try:
            if self._sink is not None:
                self._sink.accept(samples)
            self._deliver_events()
        except Exception:  # noqa: BLE001 - a sink's fault must not stop the meters
            _log.failure("{source}: the sink failed", source=self.name)
        for command, answer in moved:
            answer.callback(CommandResult(command.id, True))

    def _follow_clock(self, now: int) -> None:
        """Leave out what was never lived through.

        If the clock is set back the reactor's own timers wait, so that no second comes twice.
        """
        if now - self._next <= LONGEST_STALL:
            return
        _log.warn("{source}: the clock was set forward by {by} s", source=self.name, by=now - self._next)
        self._model.clock_adjusted((self._next - 1) * 1000, now * 1000)
        self._next = now

    def _deliver_events(self) -> None:
        for event in self._model.take_events():
            if self._sink is not None:
                shifted = event.time + 1000 * self._shift(event.meter)
                self._sink.event(structs.replace(event, time=shifted) if self._ahead else event)


def _refused(command: Command, cause: str) -> CommandResult:
    return CommandResult(command.id, False, cause)
