"""The line to a concentrator's shell: tagged requests out, replies and unasked lines in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from flexmap.model import RemoteError
from flexmap.sources.interface import Clock, DelayedCall
from flexmap.stcomet import mnsh
from flexmap.stcomet.login import proof
from flexmap.stcomet.mnsh import ErrorCode, Line, LineSplitter, Mark, MnshError

REPLY_TIMEOUT = 180.0
"""Seconds after which the line counts as dead: the concentrator itself gives a meter up much earlier."""
LOOK_SECONDS = 5.0
"""Between two looks whether the concentrator still knows what is waited for: lines may have been damaged."""
HELLO_TIMEOUT = 15.0
"""Seconds for what it answers by itself."""
MOST_WAITING = 1024
"""Requests under way; as many is what a concentrator that answers none brings about."""
LONGEST_REPLY = 1 << 22
"""Octets of one reply's lines; those of a table with a row for each of 10,000 meters are less."""


class Reply(msgspec.Struct, frozen=True):
    """A reply that brings what was asked for."""

    data: tuple[Line, ...]
    end: Line

    def number(self, name: str) -> int:
        """Return a number of its last line; raises RemoteError if there is none, or none that can be one."""
        text = self.end.fields.get(name, "")
        if not re.fullmatch(r"-?[0-9]{1,15}", text):
            raise RemoteError(f"the concentrator's reply has no number {name}")
        return int(text)


class ShellError(RemoteError):
    """The concentrator answers with an error; ``code`` as in flexmap.stcomet.mnsh.ErrorCode."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class LinkLost(RemoteError):  # noqa: N818 (it says what has happened)
    """The line to the concentrator is gone."""


class LineDamaged(RemoteError):  # noqa: N818 (it says what has happened)
    """A request or its reply got lost between here and the concentrator."""


class _Waiting:
    __slots__ = ("answer", "data", "octets", "timer")

    def __init__(self, answer: Deferred[Reply], timer: DelayedCall) -> None:
        self.answer = answer
        self.data: list[Line] = []
        self.octets = 0
        self.timer = timer

    def stop(self) -> None:
        """Wait no more."""
        if self.timer.active():
            self.timer.cancel()


class Link(Protocol):
    """One connection; ``made`` is called when it begins, ``lost`` with the cause when it ends.

    ``unasked`` takes the lines that nobody asked for.
    """

    def __init__(
        self,
        clock: Clock,
        first_tag: int,
        made: Callable[[Link], object],
        lost: Callable[[str], object],
        unasked: Callable[[Line], object],
    ) -> None:
        self._clock = clock
        self._tag = first_tag % (mnsh.LAST_TAG + 1)
        self._made = made
        self._lost = lost
        self._unasked = unasked
        self._splitter = LineSplitter(mnsh.MAX_REPLY)
        self._waiting: dict[int, _Waiting] = {}
        self._open = False
        self._look_call: DelayedCall | None = None
        self._complaint = ""
        """What the shell has said last to nobody's request, such as that there are too many sessions."""
        self.noise = 0
        """Lines that were none of a reply."""

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's name)
        """Begin, behind whatever a person has left half typed, and without the echo they may have wanted."""
        self._open = True
        self._write("")
        self._write("SYS ECHO 0")
        self._made(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 (Twisted's name)
        """Take octets."""
        for text in self._splitter.feed(data):
            try:
                if isinstance(text, MnshError):
                    raise text
                self._line(mnsh.parse_line(text), len(text))
            except MnshError:
                self.noise += 1

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002, N802 (Twisted's)
        """End: whoever waits learns it."""
        if not self._open:
            return
        self._open = False
        if self._look_call is not None:
            self._look_call.cancel()
        waiting, self._waiting = list(self._waiting.values()), {}
        for one in waiting:
            one.stop()  # not that of the request whose time-out has closed the line
        cause = f": {self._complaint}" if self._complaint else ""
        self._lost(f"the line is gone{cause}")
        for one in waiting:
            one.answer.errback(LinkLost(f"the line to the concentrator is gone{cause}"))

    def ask(self, command: str, *arguments: int | str, timeout: float = REPLY_TIMEOUT) -> Deferred[Reply]:
        """Ask; fires with the reply, fails with :class:`ShellError`, :class:`LineDamaged` or :class:`LinkLost`."""
        answer: Deferred[Reply] = Deferred()
        if not self._open:
            answer.errback(LinkLost("there is no line to the concentrator"))
            return answer
        if len(self._waiting) >= MOST_WAITING:
            answer.errback(RemoteError(f"the concentrator owes {MOST_WAITING} answers"))
            return answer
        while self._tag in self._waiting:
            self._tag = (self._tag + 1) & mnsh.LAST_TAG
        tag, self._tag = self._tag, (self._tag + 1) & mnsh.LAST_TAG
        timer = self._clock.callLater(timeout, self.close)  # a concentrator that does not answer is not there
        self._waiting[tag] = _Waiting(answer, timer)
        self._write(mnsh.request_line(command, *arguments, tag=tag))
        return answer

    def hello(self, password: str) -> Deferred[Reply]:
        """Ask for the shell's version, and log in where that is due; fires with the version's reply.

        What somebody before us has asked on this line is dropped: it would keep meters busy.
        """

        def version(_dropped: Reply) -> Deferred[Reply]:
            return self.ask("SYS VERSION", timeout=HELLO_TIMEOUT)

        def begin_looking(version: Reply) -> Reply:
            self._look()
            return version

        greeted = self.ask("SYS DROP", timeout=HELLO_TIMEOUT)
        greeted.addCallback(version)
        greeted.addCallback(self._log_in, password)
        greeted.addCallback(begin_looking)
        return greeted

    def _look(self) -> None:
        """Ask which replies are still to come, if any is waited for, and give up the others.

        A reply that comes meanwhile comes before the answer to this: lines keep their order.
        """
        if not self._open:
            return
        asked = set(self._waiting)

        def give_up(reply: Reply) -> None:
            known = {int(word) for line in reply.data for word in line.words[1:]}
            for tag in asked - known if reply.end.fields["open"] == str(len(known)) else ():
                if tag in self._waiting:
                    self._take(tag).answer.errback(LineDamaged("a line to or from the concentrator was damaged"))

        if asked:
            self.ask("SYS OPEN").addCallback(give_up).addErrback(lambda _: None)
        self._look_call = self._clock.callLater(LOOK_SECONDS, self._look)

    def _take(self, tag: int) -> _Waiting:
        waiting = self._waiting.pop(tag)
        waiting.stop()
        return waiting

    def _log_in(self, version: Reply, password: str) -> Reply | Deferred[Reply]:
        if version.end.fields.get("login") != "due":
            return version
        if not password:
            raise ShellError(ErrorCode.LOGIN, "the shell wants a login, and there is no password for it")

        def answer(challenge: Reply) -> Deferred[Reply]:
            nonce = challenge.end.fields.get("nonce", "")
            return self.ask("SYS LOGIN", proof(password, nonce).hex(), timeout=HELLO_TIMEOUT)

        challenge = self.ask("SYS CHALLENGE", timeout=HELLO_TIMEOUT)
        return challenge.addCallback(answer).addCallback(lambda _: version)

    def close(self) -> None:
        """Let go of the line, at once: whoever does not answer may not read what is still to be written either."""
        transport: Any = self.transport
        if self._open and transport is not None:
            transport.abortConnection()

    def _write(self, line: str) -> None:
        transport: Any = self.transport
        transport.write(line.encode("ascii") + b"\r\n")

    def _line(self, line: Line, octets: int) -> None:
        if line.mark is Mark.UNASKED:
            self._unasked(line)
            return
        waiting = self._waiting.get(-1 if line.tag is None else line.tag)
        if waiting is None:
            self.noise += 1  # the end of a reply to somebody before us
            if line.mark is Mark.END:
                self._complaint = line.fields.get("text", "")
        elif line.mark is Mark.DATA:
            waiting.data.append(line)
            waiting.octets += octets
            if waiting.octets > LONGEST_REPLY:
                self.close()
        else:
            self._take(line.tag or 0)
            if line.done:
                waiting.answer.callback(Reply(tuple(waiting.data), line))
            else:
                code = line.words[1] if len(line.words) > 1 else ""
                waiting.answer.errback(ShellError(code, line.fields.get("text", "")))
