"""One session of the minishell: octets of a terminal or a gateway in, lines out (docs/concentrator.md)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from flexmap.model import FlexmapError
from flexmap.stcomet import mnsh
from flexmap.stcomet.call import Answer
from flexmap.stcomet.commands import handle
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.editor import Editor
from flexmap.stcomet.login import Guard
from flexmap.stcomet.mnsh import ErrorCode, LineSplitter, MnshError

PROMPT = "MNSH> "
MOST_WAITING = 16
"""Lines without a tag that may wait for the one before them."""
MOST_OPEN = 128
"""Answers of a session that may still be to come."""


class Shell:
    """Reads lines, answers them, passes on what nobody asked for.

    Lines without a tag are answered one after the other; lines with a tag (``#7 APP METERS``) beside each other,
    each line of an answer with the tag of its request. Where there is a guard, a session must log in before it may
    do and hear anything.
    """

    def __init__(
        self,
        concentrator: Concentrator,
        write: Callable[[bytes], object],
        guard: Guard | None = None,
        peer: str = "",
    ) -> None:
        self._concentrator = concentrator
        self._guard = guard
        self._peer = peer
        self._nonce = ""
        self.trusted = guard is None
        """Whether all commands are open to it."""
        self._write = write
        self._splitter = LineSplitter(mnsh.MAX_REQUEST)
        self._waiting: deque[str] = deque()
        self._busy = False
        self._answers: dict[Answer, None] = {}
        """Those that are still to come, the oldest first."""
        self._echo = False
        self._editor = Editor(self._say)
        if self.trusted:
            concentrator.listen(self._unasked)

    def close(self) -> None:
        """Let go: answers still to come go nowhere, and reads that they wait for are not made."""
        if self.trusted:
            self._concentrator.unlisten(self._unasked)
        self._write = _nowhere
        self.drop()

    def feed(self, octets: bytes) -> None:
        """Take octets of the line."""
        if self._echo:
            octets = self._editor.feed(octets)
        for line in self._splitter.feed(octets):
            self._concentrator.counters["lines"] += 1
            self._take(line)

    def set_echo(self, on: bool) -> None:
        """Echo what is typed, edit the line, prompt; or none of it."""
        self._echo = on
        self._editor = Editor(self._say)

    def drop(self, spared: Answer | None = None) -> None:
        """End all answers but one, and the reads that they wait for."""
        self._waiting.clear()
        for answer in reversed(list(self._answers)):  # what has been sent last: its end would let the others begin
            if answer is not spared:
                answer.drop()

    def open_tags(self) -> list[int]:
        """Return the tags of the answers that are still to come."""
        return sorted(answer.tag for answer in self._answers if answer.tag is not None)

    def challenge(self) -> str:
        """Return the nonce that the next login must answer."""
        self._nonce = self._guard.nonce() if self._guard else ""
        return self._nonce

    def login(self, proof: bytes) -> None:
        """Open all commands; raises MnshError if the proof is wrong."""
        nonce, self._nonce = self._nonce, ""
        if self.trusted or self._guard is None:
            return
        self._guard.check(self._peer, nonce, proof)
        self.trusted = True
        self._concentrator.listen(self._unasked)

    def _take(self, line: str | MnshError) -> None:
        try:
            if isinstance(line, MnshError):
                raise line
            tag, text = mnsh.split_tag(mnsh.checked(line))
        except MnshError as error:
            self._fail(error, None)
            return
        if tag is not None and len(self._answers) >= MOST_OPEN:
            self._fail(MnshError(ErrorCode.BUSY, "wait for the answers"), tag)
        elif tag is not None:
            self._run(text, tag)
        elif not text.strip():
            self._prompt()
        elif not self._busy:
            self._busy = True
            self._run(text, None)
        elif len(self._waiting) >= MOST_WAITING:
            self._fail(MnshError(ErrorCode.BUSY, "wait for the answers"), None)
        else:
            self._waiting.append(text)

    def _run(self, text: str, tag: int | None) -> None:
        answer = Answer(self._line, self._ended, tag)
        self._answers[answer] = None
        try:
            handle(self._concentrator, self, text, answer)
        except MnshError as error:
            answer.fail(error)
        except FlexmapError as error:
            answer.fail(MnshError(ErrorCode.REFUSED, str(error)))

    def _ended(self, answer: Answer, *, well: bool) -> None:
        self._answers.pop(answer, None)
        if not well:
            self._concentrator.counters["errors"] += 1
        if answer.tag is not None:
            return
        if self._waiting:
            # Not from here: a long queue of lines that are answered at once would nest.
            self._concentrator.scheduler.callLater(0, self._next)
        else:
            self._busy = False
        self._prompt()

    def _next(self) -> None:
        if self._waiting:
            self._run(self._waiting.popleft(), None)
        else:  # dropped meanwhile
            self._busy = False

    def _fail(self, error: MnshError, tag: int | None) -> None:
        self._concentrator.counters["errors"] += 1
        self._line(mnsh.error_line(error, tag))
        self._prompt()

    def _line(self, line: str) -> None:
        self._write(line.encode("ascii") + b"\r\n")

    def _unasked(self, line: str) -> None:
        """Pass on what nobody asked for; a line that is being typed goes on below it."""
        at_prompt = self._echo and not self._busy
        if at_prompt:
            self._write(b"\r\n")
        self._line(line)
        if at_prompt:
            self._write(PROMPT.encode() + self._editor.typed)

    def _prompt(self) -> None:
        if self._echo:
            self._write(PROMPT.encode())

    def _say(self, octets: bytes) -> None:
        self._write(octets)


def _nowhere(_octets: bytes) -> None:
    pass
