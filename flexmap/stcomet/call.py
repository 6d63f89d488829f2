"""A command under way: what it was given, whom it may ask, and the answer it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from flexmap.stcomet import mnsh, payload
from flexmap.stcomet.catalogue import Argument
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.mnsh import ErrorCode, Mark, MnshError
from flexmap.stcomet.pan import Member
from flexmap.stcomet.payload import Refusal
from flexmap.stcomet.requests import Drop, Reply


class Session(Protocol):
    """What commands change of the shell they are typed into."""

    @property
    def trusted(self) -> bool:
        """Whether all commands are open to it."""

    def set_echo(self, on: bool) -> None:
        """Echo, edit and prompt, or not."""

    def challenge(self) -> str:
        """Return the nonce that the next login must answer."""

    def login(self, proof: bytes) -> None:
        """Open all commands, or raise :class:`MnshError`."""

    def drop(self, spared: Answer) -> None:
        """End all answers but one."""

    def open_tags(self) -> list[int]:
        """Return the tags of the answers that are still to come."""


class Answer:
    """The reply to one command: lines of data, then one that ends it."""

    __slots__ = ("_ended", "_held", "_line", "_open", "tag")

    def __init__(self, line: Callable[[str], object], ended: Callable[..., object], tag: int | None) -> None:
        self._line = line
        self._ended = ended
        self.tag = tag
        self._open = True
        self._held: Drop | None = None

    def hold(self, request: Drop) -> None:
        """Take what drops the request to a meter that this answer waits for."""
        self._held = request

    def drop(self) -> None:
        """End it, and the request that it waits for."""
        if self._held is not None:
            self._held()
        self.fail(MnshError(ErrorCode.DROPPED, "its session has asked for no more answers, or has ended"))

    def data(self, *plain: str, **fields: object) -> None:
        """Add a line of data."""
        self._line(mnsh.line(Mark.DATA, *plain, tag=self.tag, **fields))

    def text(self, text: str) -> None:
        """Add a line of data for people: words without quotes, ``=`` or quotation marks, as they stand."""
        self._line(f"{mnsh.line(Mark.DATA, tag=self.tag)} {text}")

    def ok(self, **fields: object) -> None:
        """End it."""
        self._end(mnsh.line(Mark.END, "OK", tag=self.tag, **fields), well=True)

    def fail(self, error: MnshError) -> None:
        """End it with an error."""
        self._end(mnsh.error_line(error, self.tag), well=False)

    def _end(self, line: str, *, well: bool) -> None:
        if self._open:
            self._open = False
            self._line(line)
            self._ended(self, well=well)


class Call(msgspec.Struct):
    """A command under way."""

    concentrator: Concentrator
    session: Session
    arguments: tuple[Argument, ...]
    answer: Answer

    def number(self, place: int) -> int:
        """Return a numeric argument."""
        value = self.arguments[place]
        return value if isinstance(value, int) else 0

    def octets(self, place: int) -> bytes:
        """Return octets."""
        value = self.arguments[place]
        return value if isinstance(value, bytes) else b""

    def name(self, place: int) -> str:
        """Return a name."""
        return str(self.arguments[place])

    def meter(self, place: int = 0) -> Member:
        """Return the meter that an argument names."""
        return self.concentrator.find(self.name(place))

    def check_room(self) -> None:
        """Raise :class:`MnshError` if no more requests are taken."""
        if self.concentrator.requests.full:
            raise MnshError(ErrorCode.BUSY, "too many requests wait for the power line")

    def ask(
        self,
        member: Member,
        build: Callable[[int], payload.Request],
        done: Callable[[Reply], object],
        *,
        priority: bool = False,
        bulk: bool = False,
        repeat: bool = True,
    ) -> None:
        """Ask the meter; end the answer with an error if it stays silent or refuses.

        Without ``priority`` the request is dropped when its session has gone: it would keep others waiting.
        """
        self.check_room()
        name = self.concentrator.name_of(member)

        def taken(reply: Reply | None) -> None:
            if reply is None:
                self.answer.fail(MnshError(ErrorCode.SILENT, f"{name} has not answered"))
            elif isinstance(reply, Refusal):
                self.answer.fail(MnshError(ErrorCode.REFUSED, f"{name}: {reply.reason.name.lower()}"))
            else:
                done(reply)

        requests = self.concentrator.requests
        drop = requests.ask(member.short_address, build, taken, priority=priority, bulk=bulk, repeat=repeat)
        if not priority:
            self.answer.hold(drop)
